"""The mill of `make mutations` in small: what it counts, and that it would notice."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract import mutations as m
from tests.contract import world as w
from tests.fuzz import mutations

from sealtrail import dsse


@pytest.fixture(scope="module")
def mill() -> mutations.Mill:
    mutations.honest()
    return mutations.Mill()


def test_nothing_is_accepted_and_nothing_raises(mill: mutations.Mill):
    mill.block(11, 0, 3_000)
    tally = mill.tally
    assert tally.counted == sum(tally.codes.values()) == 3_000
    assert tally.accepted == []
    assert tally.crashes == []
    assert len(tally.codes) >= 8


def test_hints_are_told_apart(mill: mutations.Mill):
    honest = w.Producer()
    envelope = m.sealed(m.whole(3)[1], tuple(m.EVENTS))
    value = w.framed(replace(envelope, event_schema_id=9, disclosures=(b"x",)))
    outcome = w.judge(value, mill.known)
    assert mutations.same(value, outcome)
    # Signed by the producer, and none of the honest messages: that would be counted.
    events = [w.event(77).encode()]
    other = w.framed(honest.envelope(honest.statement(events), events))
    assert not mutations.same(other, w.judge(other, mill.known))


def test_an_acceptance_and_a_crash_are_noticed(
    mill: mutations.Mill, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(mutations, "CRASHES", tmp_path / "crashes")
    # Without signatures, what a mutation changed of the statement is accepted, and counted as that.
    monkeypatch.setattr(dsse, "verify", lambda *args: None)
    before = len(mill.tally.accepted)
    mill.block(12, 0, 2_000)
    assert len(mill.tally.accepted) > before

    def broken(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(dsse, "verify", broken)
    mill.block(13, 0, 100)
    assert mill.tally.crashes
    assert len(list((tmp_path / "crashes").iterdir())) == len(mill.tally.crashes)
