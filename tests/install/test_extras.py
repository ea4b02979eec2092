"""Each extra alone in a clean environment: what it brings, and that its room needs no more.

Run by `make test-install`; the unit tests leave this folder out, since it
installs from the package index (hashes checked).
"""

import json
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]

ROOMS = {
    "base": "sealtrail",
    "producer": "sealtrail_producer",
    "processor": "sealtrail_processor",
    "auditor": "sealtrail_audit",
    "local": "sealtrail_local",
}
COMMANDS = {
    "base": set[str](),
    "producer": {"emit", "keys", "import", "service"},
    "processor": {"worker", "store", "quarantine"},
    "auditor": {"sql", "event", "lineage", "audit"},
    "local": {"local", "demo"},
}
LIGHT = {"click", "cryptography", "fastavro", "rich"}


@dataclass(frozen=True)
class Environment:
    """A clean environment with one extra, and what the probe found in it."""

    extra: str
    bin: Path
    found: dict[str, Any]

    def sealtrail(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / "sealtrail", *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.bin,
        )


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, PROJECT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module", params=ROOMS)
def environment(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    extra = str(request.param)
    folder: Path = tmp_path_factory.mktemp(extra)
    venv.create(folder, with_pip=False, symlinks=True)
    target: tuple[str | Path, ...] = ("--python", folder / "bin" / "python", "install")
    pip(*target, "--require-hashes", "-r", PROJECT / "requirements" / f"{extra}.txt")
    pip(*target, "--no-deps", "--no-index", wheel)
    # Isolated (-I), so that nothing of the checkout is found.
    packages = list(dict.fromkeys(("sealtrail", ROOMS[extra])))
    done = subprocess.run(
        [folder / "bin" / "python", "-I", HERE / "probe.py", extra, *packages],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    yield Environment(extra, folder / "bin", json.loads(done.stdout))
    shutil.rmtree(folder)  # the engine alone takes half a gigabyte


def test_what_is_declared_is_installed(environment: Environment) -> None:
    versions = environment.found["installed"].items()
    installed = {canonicalize_name(name): version for name, version in versions}
    for text in environment.found["requires"]:
        requirement = Requirement(text)
        wanted = [{"extra": environment.extra}, {"extra": ""}]
        if requirement.marker is None or any(map(requirement.marker.evaluate, wanted)):
            version = installed[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), text


def test_nothing_else_is_installed(environment: Environment) -> None:
    lines = (PROJECT / "requirements" / f"{environment.extra}.txt").read_text()
    locked = {
        canonicalize_name(n) for n in re.findall(r"^([\w.-]+)(?:\[.*?\])?==", lines, re.MULTILINE)
    }
    installed = {canonicalize_name(name) for name in environment.found["installed"]}
    assert installed - locked == {"sealtrail"}
    if environment.extra == "base":
        declared = map(Requirement, environment.found["requires"])
        assert {r.name for r in declared if "extra" not in str(r.marker)} == LIGHT


def test_the_room_imports_and_offers_its_commands(environment: Environment) -> None:
    assert environment.found["failed"] == {}
    assert {ROOMS[environment.extra], "sealtrail.merkle"} <= set(environment.found["imported"])
    for name in sorted(COMMANDS[environment.extra]):
        shown = environment.sealtrail(name, "--help")
        assert shown.returncode == 0, shown.stderr


def test_data_files_come_from_the_installed_package(environment: Environment) -> None:
    assert {"ProvenanceEvent", "SignedBatch", "BatchStatement"} <= set(environment.found["schemas"])
    for place in environment.found["places"].values():
        assert place.startswith(environment.found["prefix"])


def test_help_is_whole_and_other_rooms_say_what_they_lack(environment: Environment) -> None:
    shown = environment.sealtrail("--help")
    assert shown.returncode == 0
    for room, commands in COMMANDS.items():
        for name in commands:
            assert f"  {name} " in shown.stdout
            if room == environment.extra:
                continue
            # Either its help needs no extra, or it says in one line which one is missing.
            other = environment.sealtrail(name, "--help")
            if other.returncode:
                assert other.returncode == 3
                assert f"sealtrail[{room}]" in other.stderr
                assert other.stderr.count("\n") == 1


def test_config_show(environment: Environment) -> None:
    shown = environment.sealtrail("config", "show", "--defaults", "--json")
    if environment.extra == "base":
        assert shown.returncode == 3
        assert 'pip install "sealtrail[auditor]"' in shown.stderr
    else:
        rooms = {room for row in json.loads(shown.stdout) for room in row["rooms"]}
        assert rooms == {"producer", "processor", "auditor", "local"}
