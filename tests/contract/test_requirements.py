"""The locked requirements agree with one another and with what pyproject.toml declares."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]
EXTRAS = ("base", "producer", "processor", "auditor", "local", "signers", "all")
# And what the Dockerfile builds with.
FILES = (*EXTRAS, "build")


def locked(extra: str) -> list[tuple[Requirement, int]]:
    """The requirements of a file, each with its number of hashes."""
    text = (PROJECT / "requirements" / f"{extra}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [(Requirement(line.split("--hash")[0]), line.count("--hash=sha256:")) for line in lines]


def declared(extra: str) -> list[Requirement]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts = project["dependencies"] + ([] if extra == "base" else extras[extra])
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("extra", FILES)
def test_every_requirement_is_one_version_with_hashes(extra: str) -> None:
    for requirement, hashes in locked(extra):
        assert hashes > 0, requirement
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement


@pytest.mark.parametrize("extra", FILES)
def test_no_file_names_an_index_or_a_place(extra: str) -> None:
    text = (PROJECT / "requirements" / f"{extra}.txt").read_text()
    assert not re.search(r"://|^-(?!-hash)|--(?!hash)| @ |file:", text, re.MULTILINE)


@pytest.mark.parametrize("extra", FILES)
def test_an_extra_has_the_versions_of_the_whole(extra: str) -> None:
    whole = {(r.name, str(r.specifier)) for r, _ in locked("all")}
    assert {(r.name, str(r.specifier)) for r, _ in locked(extra)} <= whole


@pytest.mark.parametrize("extra", EXTRAS[:-1])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_what_is_declared_is_locked_on_every_python(extra: str, python: str) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    versions: dict[str, str] = {}
    for requirement, _ in locked(extra):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in versions, f"{name} is locked twice on {python}"
            versions[name] = str(requirement.specifier).removeprefix("==")
    for requirement in declared(extra):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])
