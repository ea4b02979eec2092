"""G7: the gate that a change has to pass, and what happens when somebody edits it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sealtrail import avro
from sealtrail.errors import MalformedError
from sealtrail.records import SchemaPin
from sealtrail.validate import event_subject

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.played import Played

    Say = Callable[[str], None]

REPOSITORY = Path(__file__).resolve().parents[2]
# What the gate must run. Targets may be added, never taken away.
TARGETS = (
    *("system", "check", "test-install", "simulate", "test-integration"),
    *("faults-quick", "bench-quick", "test"),
)
# As in the Makefile, which says why it fell once; it may rise.
COVERAGE = 84


def gate(folder: Path, failing: str) -> tuple[int, list[str]]:
    """Run .ci/run with a `make` that fails at one target: status, and targets that were asked."""
    (folder / ".ci").mkdir(exist_ok=True)
    shutil.copy(REPOSITORY / ".ci/run", folder / ".ci/run")
    tools, asked = folder / "tools", folder / "asked"
    tools.mkdir(exist_ok=True)
    asked.write_text("")
    make = tools / "make"
    make.write_text(
        f'#!/bin/sh\necho "$@" >> "{asked}"\n'
        f'for word in "$@"; do [ "$word" = "{failing}" ] && exit 2; done\nexit 0\n'
    )
    make.chmod(0o755)
    for name in ("apt-get", "sudo"):
        (tools / name).write_text("#!/bin/sh\nexit 0\n")
        (tools / name).chmod(0o755)
    env = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(folder / ".ci/run")], env=env, capture_output=True, check=False, timeout=60
    )
    # One line a call; behind the target come variables, which may hold spaces.
    return done.returncode, [line.split()[0] for line in asked.read_text().splitlines()]


@pytest.mark.row("G7")
def test_g7_the_gate_fails_when_one_target_does(tmp_path: Path, happened: Say) -> None:
    status, asked = gate(tmp_path, failing="")
    assert status == 0
    assert set(TARGETS) <= set(asked)
    # A target that fails ends the run: nothing behind it is asked any more.
    for target in asked:
        status, before = gate(tmp_path, failing=target)
        assert status != 0, target
        assert before == asked[: asked.index(target) + 1], (target, before)
    happened(f"fails closed at each of {len(asked)} targets: {', '.join(asked)}")


@pytest.mark.row("G7")
def test_g7_floors_and_rules_stand(happened: Say) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    (floor,) = re.findall(r"^COVERAGE := (\d+)$", makefile, re.MULTILINE)
    assert int(floor) >= COVERAGE
    assert "--cov-fail-under=$(COVERAGE)" in makefile
    assert re.search(r"^test-integration: test-scenarios test-real\b", makefile, re.MULTILINE)
    assert "-euo pipefail" in makefile
    assert makefile.count("--require-hashes") >= 1
    # A recipe that begins with - goes on after a failure; so does || true.
    joined = makefile.replace("\\\n", " ")
    recipes = [line[1:].lstrip("@") for line in joined.splitlines() if line.startswith("\t")]
    assert not [r for r in recipes if r.startswith("-") or "|| true" in r]
    run = (REPOSITORY / ".ci/run").read_text()
    assert "set -euo pipefail" in run
    assert not re.search(r"\|\|\s*(true|:)|set \+e|--ignore|-k |continue-on-error", run)
    project: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    tools = project["tool"]
    pytest_options = tools["pytest"]["ini_options"]
    assert pytest_options["filterwarnings"] == ["error"]
    assert pytest_options["xfail_strict"] is True
    assert {"--strict-config", "--strict-markers"} <= set(pytest_options["addopts"])
    assert tools["ruff"]["lint"]["select"] == ["ALL"]
    assert tools["mypy"]["strict"] is True
    assert "ignore_errors" not in json.dumps(tools["mypy"])
    happened(f"coverage floor {floor} %, warnings are errors, all rules of ruff, mypy strict")


@pytest.mark.row("G7")
def test_g7_nothing_unpinned(happened: Say) -> None:
    seen = 0
    for file in (REPOSITORY / ".github").rglob("*.y*ml"):
        for action in re.findall(r"uses:\s*(\S+)", file.read_text()):
            assert re.search(r"@[0-9a-f]{40}$", action), f"{file}: {action}"
            seen += 1
    for file in (*REPOSITORY.glob("docker-compose*.y*ml"), *REPOSITORY.glob("Dockerfile*")):
        for image in re.findall(r"^\s*(?:image:|FROM)\s+(\S+)", file.read_text(), re.MULTILINE):
            name = image.strip("\"'")
            stage = re.search(rf"\bAS {re.escape(name)}\b", file.read_text(), re.IGNORECASE)
            # Our own is built from the Dockerfile beside it.
            ours = name.startswith("sealtrail:") and "build:" in file.read_text()
            assert ours or stage or re.search(r":[^:/]*\d|@sha256:|\$\{", name), f"{file}: {image}"
            assert not name.endswith(":latest")
            seen += 1
    for file in (REPOSITORY / "requirements").glob("*.txt"):
        if file.name == "debian.txt":
            continue
        names = re.findall(r"^([A-Za-z0-9_.\[\],-]+)(==\S+)?", file.read_text(), re.MULTILINE)
        assert [n for n, version in names if not version] == [], file
        seen += len(names)
    assert seen > 100
    happened(f"{seen} requirements, images and actions, each pinned")


@pytest.mark.row("G7")
@pytest.mark.parametrize(
    "body",
    [
        "import pytest\n@pytest.mark.skip\ndef test_x(): assert False",
        "import pytest\n@pytest.mark.skipif(True, reason='x')\ndef test_x(): assert False",
        "import pytest\ndef test_x(): pytest.skip('not today')",
        "import pytest\npytest.importorskip('no_such_module')\ndef test_x(): assert False",
        "import unittest\nclass TestX(unittest.TestCase):\n def test_x(self): self.skipTest(0)",
    ],
)
def test_g7_a_skipped_test_fails(tmp_path: Path, body: str, happened: Say) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    shutil.copy(REPOSITORY / "tests/conftest.py", tests / "conftest.py")
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path / "pyproject.toml")
    (tests / "test_skipping.py").write_text(f"{body}\n\ndef test_other(): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0, done.stdout
    assert "skipped" in done.stdout
    happened("tests that skip fail the run")


# -- schemas ------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]] = {
    "a field without a default": lambda f: [*f, {"name": "new", "type": "string"}],
    "a field of another type": lambda f: [
        *f[:-1],
        {**f[-1], "type": {"type": "array", "items": "string"}},
    ],
    "a field renamed": lambda f: [*f[:2], {**f[2], "name": "pepper"}, *f[3:]],
    "a field without a default removed": lambda f: [x for x in f if x["name"] != "activity"],
}


@pytest.mark.row("G7")
def test_g7_an_incompatible_schema_is_refused(played: Played, happened: Say) -> None:
    schema = avro.load_schema("ProvenanceEvent")
    subject = event_subject("provenance.events")
    registry = played.scene.stack.env["SEALTRAIL_REGISTRY_URL"]
    url = f"{registry}/subjects/{subject}/versions"
    before = httpx.get(url, timeout=30).json()
    for name, change in CHANGES.items():
        text = json.dumps({**schema, "fields": change(schema["fields"])})
        reply = httpx.post(url, json={"schema": text}, timeout=30)
        assert reply.status_code == 409, (name, reply.text)
    assert httpx.get(url, timeout=30).json() == before
    # Avro's rules ignore order, and what stands first is read without a schema.
    swapped = {
        **schema,
        "fields": [schema["fields"][1], schema["fields"][0], *schema["fields"][2:]],
    }
    pin = SchemaPin(subject, avro.fingerprint(swapped), 0, json.dumps(swapped))
    with pytest.raises(MalformedError, match="causal prefix"):
        SchemaPin.decode(pin.encode())
    # Whatever becomes of a schema file: its golden fingerprint has to be changed beside it.
    table = json.loads((REPOSITORY / "tests/vectors/golden/golden.json").read_text())
    assert avro.codec("ProvenanceEvent").fingerprint.hex() in json.dumps(table)
    happened(f"409 for {', '.join(CHANGES)}; another causal prefix cannot be pinned")
