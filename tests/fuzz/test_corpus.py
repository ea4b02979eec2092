"""What is kept for the fuzzer, and all that ever crashed, goes through the parsers unharmed."""

from pathlib import Path

import pytest
from tests.fuzz import fuzz, targets

KEPT = [
    (folder.name, file)
    for folder in sorted(fuzz.CORPUS.iterdir())
    for file in sorted(folder.iterdir())
]
CRASHED = sorted(fuzz.CRASHES.glob("*")) if fuzz.CRASHES.is_dir() else []


def test_every_target_has_something_to_begin_with():
    assert set(targets.seeds()) == set(targets.TARGETS)
    assert {name for name, _ in KEPT} <= set(targets.TARGETS)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_good_inputs_are_taken(name: str):
    # All but the two schemas that must be refused are read without any complaint.
    for seed in targets.seeds()[name][:1]:
        targets.TARGETS[name](seed)


@pytest.mark.parametrize(("name", "file"), KEPT, ids=[f"{n}-{f.name}" for n, f in KEPT])
def test_the_corpus_harms_nothing(name: str, file: Path):
    targets.run_one(name, file.read_bytes())


def test_what_crashed_once_does_not_again():
    for file in CRASHED:
        name = file.name.partition("-")[0]
        targets.run_one("message" if name == "validate" else name, file.read_bytes())


def test_a_foreign_exception_is_a_finding(monkeypatch: pytest.MonkeyPatch):
    def broken(data: bytes) -> None:
        raise IndexError(data)

    monkeypatch.setitem(targets.TARGETS, "event", broken)
    with pytest.raises(IndexError):
        targets.run_one("event", b"")
