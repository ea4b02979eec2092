"""The catalogue's own bookkeeping: a row cannot pass unseen."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests import catalogue
from tests.attacks.assets import make
from tests.catalogue import Ledger, Result, Row

WAITING = Row("F5", "witnesses that disagree", "told", "witnesses")
REPOSITORY = Path(__file__).resolve().parents[1]
# File -> its rows. Were files scheduled one by one, the two of attacks/ would be torn apart.
SMALL = {
    "attacks/test_a.py": ["A1", "A2", "A3", "A4", "A5"],
    "attacks/test_b.py": ["B1", "B2"],
    "faults/test_c.py": ["E1", "E2", "E3"],
    "faults/test_d.py": ["E4", "E5"],
    "faults/test_e.py": ["E9"],
}
TESTED = Row("A2", "signed by somebody else", "refused")


def report(row: str, outcome: Any = "passed", when: Any = "call", **more: Any) -> Any:
    properties = [("row", row), *more.pop("said", [])]
    values = {"nodeid": "t", "location": ("t", 0, "t"), "keywords": {}, "longrepr": None} | more
    return pytest.TestReport(
        outcome=outcome, when=when, duration=0.5, user_properties=properties, **values
    )


def test_the_assets_are_those_that_their_generator_makes() -> None:
    made = make.files()
    kept = {
        f.name: f.read_bytes() for f in make.HERE.iterdir() if f.suffix in (".avsc", ".txt", ".bin")
    }
    assert kept == made, "run python -m tests.attacks.assets.make"


def test_there_are_84_rows_in_seven_groups() -> None:
    rows = catalogue.rows()
    counted = {group: sum(name[0] == group for name in rows) for group in "ABCDEFG"}
    assert counted == {"A": 15, "B": 10, "C": 15, "D": 6, "E": 21, "F": 8, "G": 9}
    assert sum(bool(row.waits_for) for row in rows.values()) <= catalogue.MAX_WAITING


def test_what_shares_a_pipeline_runs_in_one_process() -> None:
    rows, proofs = "tests/attacks/test_rows.py::test_a", "tests/attacks/test_proofs.py::test_b[@]"
    faults = "tests/faults/test_infrastructure.py::test_c"
    assert catalogue.group(rows) == catalogue.group(proofs) == "played"
    assert catalogue.group(faults) == "tests/faults/test_infrastructure.py"
    ledger = Ledger({})
    for nodeid, process in ((rows, "gw0"), (faults, "gw1"), (faults, "gw1"), (proofs, "gw0")):
        ledger.pytest_runtest_logreport(ran_in(process, nodeid))
    assert ledger.strays == []
    ledger.pytest_runtest_logreport(ran_in("gw1", rows))
    assert ledger.strays == [f"{rows}: its group runs in two processes"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with the catalogue and tests of some rows that say in which process they ran."""
    tests = tmp_path / "tests"
    for name in ("tests/catalogue.py", "tests/catalogue.toml", "tests/conftest.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    for file, rows in SMALL.items():
        (tests / file).parent.mkdir(exist_ok=True)
        marked = [
            f"@pytest.mark.row('{row}')\ndef test_{row}(happened): happened(str(os.getpid()))\n"
            for row in rows
        ]
        about = "# looks at what was played\n" if "attacks" in file else ""
        (tests / file).write_text(f"{about}import os, pytest\n{''.join(marked)}")
    return tmp_path


def test_the_command_in_two_processes(small: Path) -> None:
    rows = [row for names in SMALL.values() for row in names]
    done = subprocess.run(
        [sys.executable, "-m", "tests.catalogue", *rows],
        cwd=small,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    figures = json.loads(last)
    assert (figures["passed"], figures["strays"]) == (len(rows), [])
    processes = [line.split()[-1] for line in lines if "happened:" in line]
    where = dict(zip(rows, processes, strict=True))
    assert len(set(processes)) == 2
    assert len({where[row] for row in ("A1", "A2", "A3", "A4", "A5", "B1", "B2")}) == 1
    for names in SMALL.values():
        assert len({where[row] for row in names}) == 1


def ran_in(process: str, nodeid: str) -> pytest.TestReport:
    made = report("A2", nodeid=nodeid)
    made.node = SimpleNamespace(gateway=SimpleNamespace(id=process))
    return made  # type: ignore[no-any-return] # a report


def test_a_row_passes_when_all_its_tests_do() -> None:
    result = Result(TESTED)
    ledger = Ledger({"A2": result})
    for when in ("setup", "call", "teardown"):
        ledger.pytest_runtest_logreport(report("A2", when=when, said=[("happened", "9 refused")]))
    catalogue.judge([result], [])
    assert (result.verdict, result.happened) == ("passed", ["9 refused"])


@pytest.mark.parametrize(
    ("outcome", "when"), [("failed", "call"), ("failed", "setup"), ("skipped", "setup")]
)
def test_a_test_that_fails_or_is_skipped_fails_its_row(outcome: str, when: str) -> None:
    result = Result(TESTED)
    ledger = Ledger({"A2": result})
    ledger.pytest_runtest_logreport(report("A2"))
    ledger.pytest_runtest_logreport(report("A2", outcome, when, longrepr="E  assert 1 == 2"))
    assert result.verdict == "failed"
    assert "assert 1 == 2" in catalogue.table([result])


def test_a_row_without_a_test_has_failed() -> None:
    result = Result(TESTED)
    catalogue.judge([result], [])
    assert (result.verdict, result.complaints) == ("failed", ["has no test"])


def test_a_row_waits_only_while_its_part_is_missing() -> None:
    for commands, verdict in (([], "waiting"), (["witness"], "failed")):
        result = Result(WAITING)
        catalogue.judge([result], commands)
        assert result.verdict == verdict
    tested = Result(WAITING, tests=1)
    catalogue.judge([tested], [])
    assert tested.verdict == "failed"


def test_tests_of_no_row_are_told() -> None:
    ledger = Ledger({})
    ledger.pytest_runtest_logreport(report("Z9"))
    assert ledger.strays == ["t: no row Z9"]


def test_a_test_that_took_its_process_with_it_is_told() -> None:
    ledger = Ledger({})
    # As xdist makes it: without the test's properties.
    crashed = report("A2", "failed", "???", longrepr="worker 'gw0' crashed while running 't'")
    crashed.user_properties = []
    ledger.pytest_runtest_logreport(crashed)
    assert ledger.strays == ["t: worker 'gw0' crashed while running 't'"]


def test_the_last_line_is_json() -> None:
    results = [Result(TESTED, tests=1), Result(WAITING)]
    figures = catalogue.summary(results, [], 1.2)
    assert json.loads(json.dumps(figures)) == {
        "rows": 2,
        "passed": 1,
        "failed": 0,
        "waiting": 1,
        "failed_rows": [],
        "strays": [],
        "seconds": 1,
    }
