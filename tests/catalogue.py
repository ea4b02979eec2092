"""`make catalogue`: every row of tests/catalogue.toml, what must happen, and what happened.

A row's tests are marked with its id (`@pytest.mark.row("A1")`) and say what they saw through the
fixture `happened`. This file is the plugin that picks them (`--rows`) and the command that prints
the table. A row passes when it has a test and all of its tests pass; a row that waits for a part of
the system fails once that part's command exists.

Options: ROW ... (default: all). Ends with one line of JSON; exit status 1 if a row failed.
"""

from __future__ import annotations

import json
import sys
import textwrap
import time
import tomllib
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

HERE = Path(__file__).resolve().parent
FOLDERS = ("tests/attacks", "tests/faults")
MAX_WAITING = 12
WIDTH = 110


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the catalogue; waits_for names the part that is not there yet."""

    id: str
    attack: str
    must: str
    waits_for: str = ""


@dataclass(slots=True)
class Result:
    """What became of a row."""

    row: Row
    tests: int = 0
    complaints: list[str] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)
    seconds: float = 0

    @property
    def verdict(self) -> str:
        """passed, failed or waiting."""
        if self.complaints:
            return "failed"
        return "waiting" if self.row.waits_for else "passed"


def rows() -> dict[str, Row]:
    """The catalogue, in its order."""
    said = tomllib.loads((HERE / "catalogue.toml").read_text())
    found = {name: Row(name, **row) for name, row in said["rows"].items()}
    unknown = {r.waits_for for r in found.values()} - {"", *said["parts"]}
    if unknown:
        raise KeyError(f"catalogue.toml: no such part: {unknown}")
    return found


def parts() -> dict[str, str]:
    """The command by which each missing part of the system will be known."""
    said = tomllib.loads((HERE / "catalogue.toml").read_text())
    return dict(said["parts"])


# -- as a plugin of pytest ----------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option `--rows`."""
    parser.addoption("--rows", default="", help="ids of rows, with commas; default: all of them")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of the rows that are asked for."""
    wanted = {name for name in config.getoption("--rows").split(",") if name}
    kept: list[pytest.Item] = []
    for item in items:
        row = item.get_closest_marker("row")
        if row is None or (wanted and wanted.isdisjoint(row.args)):
            continue
        kept.append(item)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def group(nodeid: str) -> str:
    """Tests of a file share a pipeline; all that look at what was played share what was played."""
    file = nodeid.partition("::")[0]
    return "played" if "played" in (HERE.parent / file).read_text() else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In place of --dist=loadgroup, which with pytest 9.2 groups nothing, and does not say so."""
    # Not above: the command would load it before pytest does, and pytest warns, which is an error.
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped] # has no types

    class Together(LoadScopeScheduling):  # type: ignore[misc] # see its import
        """Gives each group to one process: a pipeline that stands twice starves this machine."""

        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return Together(config, log)


# -- as a command -------------------------------------------------------------------


class Ledger:
    """Takes down what pytest reports of each row."""

    def __init__(self, results: Mapping[str, Result]) -> None:
        self.results = results
        self.known = rows()
        self.strays: list[str] = []
        # Group -> process: should the scheduler stop grouping one day, it is told.
        self._where: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Setup, call and teardown of each test come here."""
        self._together(report)
        said = [(name, str(value)) for name, value in report.user_properties]
        named = [value for name, value in said if name == "row"]
        if report.failed and not named:
            # What xdist says of a test that took its process with it.
            self.strays.append(f"{report.nodeid}: {_last(report)}")
        for row in named:
            if row in self.results:
                self._count(self.results[row], report, said)
            elif row not in self.known:
                self.strays.append(f"{report.nodeid}: no row {row}")

    def _together(self, report: pytest.TestReport) -> None:
        node = getattr(report, "node", None)
        if node is not None:
            name = group(report.nodeid)
            if self._where.setdefault(name, node.gateway.id) != node.gateway.id:
                self.strays.append(f"{report.nodeid}: its group runs in two processes")

    @staticmethod
    def _count(result: Result, report: pytest.TestReport, said: list[tuple[str, str]]) -> None:
        result.seconds += report.duration
        if report.when == "call":
            result.tests += 1
            result.happened += [value for name, value in said if name == "happened"]
        if report.outcome != "passed":
            # Nothing is skipped: a test that did not run has not passed.
            result.complaints.append(f"{report.nodeid} {report.when}: {_last(report)}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported has tests that did not run."""
        if report.failed:
            self.strays.append(f"{report.nodeid}: cannot be collected")


def _last(report: pytest.TestReport) -> str:
    """The last line of what a test that failed has to say."""
    return "".join(str(report.longrepr).strip().splitlines()[-1:])[:300]


def judge(results: Iterable[Result], commands: Iterable[str]) -> None:
    """Rows without tests, and rows that wait for what is there, have failed."""
    there, known = set(commands), parts()
    for result in results:
        part = result.row.waits_for
        if part and (result.tests or known[part] in there):
            result.complaints.append(f"waits for the {part}, which is there")
        elif not part and not result.tests and not result.complaints:
            result.complaints.append("has no test")


def table(results: Sequence[Result]) -> str:
    """The rows for people."""
    lines = []
    for result in results:
        row = result.row
        told = "; ".join(dict.fromkeys(result.happened))
        if result.complaints:
            told = " / ".join(result.complaints)
        elif row.waits_for:
            told = f"waits for the {row.waits_for}"
        lines.append(f"{row.id:4}{result.verdict.upper():8}{row.attack}")
        for label, text in (("must", row.must), ("happened", told)):
            begin = f"{'':12}{label + ':':10}"
            lines += textwrap.wrap(
                text, WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin)
            )
    return "\n".join(lines)


def run(wanted: Sequence[str], options: Sequence[str] = ()) -> tuple[list[Result], list[str]]:
    """Run the tests of rows; their results, and complaints about tests that belong to none."""
    known = rows()
    chosen = {name: Result(known[name]) for name in (wanted or known)}
    ledger = Ledger(chosen)
    folders = [folder for folder in FOLDERS if (HERE.parent / folder).is_dir()]
    arguments = ["-p", "tests.catalogue", "--rows", ",".join(wanted), *folders]
    arguments += ["-q", "--tb=short", "-n", "2", "--dist", "loadscope", *options]
    status = pytest.main(arguments, plugins=[ledger])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        ledger.strays.append(f"pytest ended with {status}")
    results = list(chosen.values())
    judge(results, (e.name for e in entry_points(group="sealtrail.commands")))
    return results, ledger.strays


def summary(results: Sequence[Result], strays: Sequence[str], seconds: float) -> dict[str, Any]:
    """What the last line says."""
    verdicts = [r.verdict for r in results]
    return {
        "rows": len(results),
        "passed": verdicts.count("passed"),
        "failed": verdicts.count("failed"),
        "waiting": verdicts.count("waiting"),
        "failed_rows": [r.row.id for r in results if r.verdict == "failed"],
        "strays": list(strays),
        "seconds": round(seconds),
    }


def main(arguments: Sequence[str]) -> int:
    """Run and print."""
    began = time.monotonic()
    results, strays = run(arguments)
    figures = summary(results, strays, time.monotonic() - began)
    sys.stdout.write(f"\n{table(results)}\n")
    sys.stdout.writelines(f"{stray}\n" for stray in strays)
    sys.stdout.write(json.dumps(figures) + "\n")
    return int(bool(figures["failed"] or strays or figures["waiting"] > MAX_WAITING))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
