"""The conservation check: what holds has no difference, and each law names what breaks it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.auditors import making
from tests.auditors.making import NOW, SECOND, TOPIC, Chain, Partition

from sealtrail.cli.main import run as run_command
from sealtrail.errors import ConfigurationError
from sealtrail.findings import Code
from sealtrail.records import Directory, SignedRecord
from sealtrail_audit.conservation import law, progress
from sealtrail_audit.conservation.broker import MemoryBroker, Side
from sealtrail_audit.conservation.law import Commit, Law, Place, Report
from sealtrail_audit.conservation.questions import Questions
from sealtrail_audit.conservation.run import Check, Rules
from sealtrail_processor.judging.model import Finding, Log
from sealtrail_processor.store.rows import FINDINGS, finding_row

if TYPE_CHECKING:
    from pathlib import Path

    from tests.auditors.conftest import Room
    from tests.conftest import Stack

ALL_SETTLED = NOW * 2


def check(
    room: Room,
    broker: MemoryBroker | None = None,
    marks: dict[Place, progress.Mark] | None = None,
    *,
    settled: int = ALL_SETTLED,
    drained: bool = False,
) -> Report:
    rules = Rules(settled, drained)
    done = Check(Questions(room.reader, TOPIC), broker, marks or {}, rules)
    report = done.run(TOPIC)
    if marks is not None:
        marks.update(done.marks)
    return report


def laws(report: Report) -> set[Law]:
    return {found.law for found in report.differences}


@pytest.fixture
def place(room: Room) -> Place:
    """Two chains, all kinds of messages, links, two flushes (offsets 0 to 6); put back after."""
    if room.kept == "conservation":
        room.bring_back()
    else:
        room.empty()
        part = Partition(Log("log-conserved", TOPIC, 0))
        a, b = Chain(1), Chain(2)
        first = a.batch(5, part.arrival)
        room.write(
            [
                part.flush((a.chain_id, first), (b.chain_id, b.batch(3, part.arrival))),
                part.flush(
                    (a.chain_id, first),
                    (b"x", b"garbage"),
                    (a.chain_id, a.batch(4, part.arrival)),
                    (a.chain_id, a.heartbeat(0)),
                    (a.chain_id, a.batch(0, part.arrival, kind="CLOSE")),
                ),
            ]
        )
        columns = (
            *("child_chain", "child_seq", "child_branch", "ordinal", "parent_id", "verdict"),
            *("decided_at", "version"),
        )
        rows = [(a.chain_id, 6, 0, 0, a.references[5].event_id, "VERIFIED", NOW, 1)]
        room.store.insert("link_verdicts", columns, rows, "conserved")
        room.keep("conservation")
    return Place("log-conserved", TOPIC, 0)


def test_what_holds_has_no_difference(room: Room, place: Place):
    broker = MemoryBroker([Side(place, 0, 7, 7)])
    report = check(room, broker, drained=True)
    assert report.differences == []
    assert report.notes == []
    assert (report.consumed, report.events, report.overlaps) == (7, 12, 0)
    assert {fate: n for fate, n in report.dispositions.items() if n} == {
        "accepted": 4, "duplicate": 1, "quarantined": 1, "heartbeat": 1
    }  # fmt: skip
    assert report.tallies[0].behind == 0


def test_chains_go_on_from_one_range_of_offsets_to_the_next(
    room: Room, place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sealtrail_audit.conservation.run.MOST_OFFSETS", 1)
    report = check(room, MemoryBroker([Side(place, 0, 7, 7)]), drained=True)
    assert report.differences == []
    assert (report.consumed, report.events) == (7, 12)


BROKEN = [
    ("ALTER TABLE dispositions DELETE WHERE offset = 4", {Law.ONE_FATE, Law.SUM, Law.ONCE}),
    ("ALTER TABLE dispositions DELETE WHERE offset = 3", {Law.ONE_FATE, Law.SUM, Law.ROWS}),
    ("ALTER TABLE dispositions DELETE WHERE offset = 5", {Law.ONE_FATE, Law.SUM}),
    ("ALTER TABLE payloads DELETE WHERE offset = 0", {Law.ROWS}),
    ("ALTER TABLE quarantine DELETE WHERE offset = 3", {Law.ROWS}),
    ("ALTER TABLE events DELETE WHERE offset = 0 AND seq = 2", {Law.ONCE, Law.LINKS}),
    ("ALTER TABLE edges_by_parent DELETE WHERE offset = 1 AND child_seq = 1", {Law.LINKS}),
    ("ALTER TABLE edges_by_child DELETE WHERE offset = 1 AND child_seq = 2", {Law.LINKS}),
    ("ALTER TABLE entity_events DELETE WHERE offset = 1 AND seq = 0", {Law.ONCE}),
    ("ALTER TABLE link_verdicts UPDATE parent_id = reverse(parent_id) WHERE 1", {Law.LINKS}),
    (
        "INSERT INTO events SELECT * REPLACE (9 AS branch) FROM events WHERE offset + seq = 1",
        {Law.ONCE, Law.LINKS},
    ),
    (
        "INSERT INTO batches SELECT * REPLACE (6 AS offset, 7 AS branch) FROM batches LIMIT 1",
        {Law.ONCE},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "broken"), BROKEN, ids=[sql for sql, _ in BROKEN])
def test_each_break_is_named(room: Room, place: Place, sql: str, broken: set[Law]):
    room.change(sql)
    report = check(room)
    assert laws(report) >= broken, report.differences
    assert all(found.place == place for found in report.differences)


def test_a_batch_that_is_gone_everywhere_is_a_gap_that_nobody_named(room: Room, place: Place):
    for table in ("batches", "payloads", "dispositions", "events"):
        room.change(f"ALTER TABLE {table} DELETE WHERE offset = 4")
    found = [d for d in check(room).differences if d.law is Law.CHAIN]
    assert len(found) == 1
    assert "batch 2 of chain" in found[0].detail
    # The gap is younger than the pipeline needs to name it: not judged, but the sums still tell.
    assert Law.CHAIN not in laws(check(room, settled=0))


def test_a_commit_that_is_gone_is_a_hole(room: Room, place: Place):
    room.change("ALTER TABLE commits DELETE WHERE first_offset = 0")
    report = check(room)
    assert laws(report) == {Law.COMMITS}
    assert report.differences[0].examples == ("0 to 1",)


def test_named_gap_late_fill_and_fork_are_honest(room: Room):
    room.empty()
    chain = Chain(1)
    part = Partition(Log(f"log-{room.number}", TOPIC, 0))
    batches = [(chain.chain_id, chain.batch(2, part.arrival + n)) for n in range(4)]
    room.write([part.flush(batches[0], batches[3])])
    gaps = [d for d in check(room).differences if d.law is Law.CHAIN]
    assert len(gaps) == 1
    marks: dict[Place, progress.Mark] = {}
    young = check(room, marks=marks, settled=0)
    assert young.differences == []
    assert "too young" in young.notes[0]
    assert marks == {}
    finding = Finding(Code.GAP, "batches 1 to 2 are missing for 30 s: a/b", chain.chain_id, 1)
    row = finding_row(part.log, 1, finding, tenant="default", arrival=part.arrival, origin="timer")
    room.store.insert("findings", FINDINGS, [row], f"gap-{room.number}")
    assert check(room, marks=marks).differences == []
    assert [m.checked for m in marks.values()] == [1]
    # Half of the gap fills; a second batch 3 is a fork, on a branch of its own.
    twin = Chain(1)
    twin.batch_seq, twin.next_seq, twin.head = 3, 6, bytes([1]) * 32
    room.write([part.flush(batches[2], (chain.chain_id, twin.batch(1, part.arrival)))])
    report = check(room, marks=marks)
    assert report.differences == []
    assert (report.consumed, report.events) == (4, 7)
    assert check(room).differences == []


def test_incremental_runs_look_at_what_is_new_and_keep_the_sums(
    room: Room, place: Place, tmp_path: Path
):
    marks: dict[Place, progress.Mark] = {}
    assert check(room, marks=marks).holds
    file = tmp_path / "state.json"
    progress.write(file, marks.items())
    assert progress.read(file) == marks
    # What an earlier run checked is not looked at again; what came since is.
    room.change("ALTER TABLE payloads DELETE WHERE offset = 0")
    report = check(room, marks=progress.read(file))
    assert report.holds
    assert (report.consumed, report.events) == (7, 12)
    assert not check(room).holds


def test_a_log_that_vanished_since_an_earlier_run_is_missed(room: Room, place: Place):
    marks: dict[Place, progress.Mark] = {}
    assert check(room, marks=marks).holds
    for table in ("commits", "commit_ends"):
        room.change(f"ALTER TABLE {table} DELETE WHERE log_id = '{place.log_id}'")
    report = check(room, marks=marks)
    assert laws(report) == {Law.COMMITS}
    assert report.differences[0].detail == "readers see up to -1, commits reach 6"


def test_a_run_goes_on_where_the_first_difference_is(room: Room, place: Place):
    marks: dict[Place, progress.Mark] = {}
    room.change("ALTER TABLE payloads DELETE WHERE offset = 0")
    assert not check(room, marks=marks).holds
    assert marks == {}


@pytest.mark.parametrize(
    "text", ["", "{}", '{"version": 9, "partitions": []}', "[1]", "\x00", "[" * 100_000]
)
def test_a_state_file_that_is_none_is_refused(text: str, tmp_path: Path):
    file = tmp_path / "state.json"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        progress.read(file)
    assert "remove it" in refused.value.hint


def test_broker_and_store_are_reconciled(room: Room, place: Place):
    def found(*sides: Side, drained: bool = False) -> list[tuple[Law, int]]:
        report = check(room, MemoryBroker(list(sides)), drained=drained)
        return [(d.law, d.count) for d in report.differences]

    assert found(Side(place, 0, 9, 7)) == []
    assert found(Side(place, 0, 9, 7), drained=True) == [(Law.UNREAD, 2)]
    assert found(Side(place, 0, 9, 9)) == [(Law.AHEAD, 2)]
    assert found(Side(place, 8, 9, 7)) == [(Law.LOST, 1)]
    assert found(Side(place, 0, 5, 5)) == [(Law.UNREAD, 1)]
    nobody = replace(place, partition=1)
    assert found(Side(place, 0, 7, 7), Side(nobody, 0, 0, None), drained=True) == []
    assert found(Side(place, 0, 7, 7), Side(nobody, 0, 3, 3)) == [(Law.AHEAD, 3)]


def test_holes_of_the_log_are_no_loss_and_messages_in_them_are(room: Room):
    room.empty()
    chain = Chain(1)
    part = Partition(Log(f"log-{room.number}", TOPIC, 0))
    first = (chain.chain_id, chain.batch(1, part.arrival))
    one = part.flush(first)
    part.offset += 3
    room.write([one, part.flush((chain.chain_id, chain.batch(1, part.arrival)))])
    at = Place(part.log.log_id, TOPIC, 0)
    side = Side(at, 0, 5, 5)
    clean = check(room, MemoryBroker([side], {at: (0, 4)}))
    assert clean.differences == []
    assert (clean.consumed, clean.tallies[0].skipped) == (2, 3)
    passed_over = check(room, MemoryBroker([side], {at: (0, 2, 4)}))
    assert laws(passed_over) == {Law.ONE_FATE, Law.SUM}
    assert passed_over.differences[0].examples == ("1 to 3",)
    assert laws(check(room)) == {Law.ONE_FATE, Law.SUM}


def test_losses_are_a_fate_once_a_finding_names_them(room: Room):
    room.empty()
    at = Log(f"log-{room.number}", TOPIC, 0)
    room.sink.write_lost(at, 0, 9, NOW)
    report = check(room)
    assert laws(report) == {Law.LOST}
    finding = Finding(Code.DATA_LOSS_WINDOW, "offsets 0 to 9 were gone before they were read")
    row = finding_row(at, 0, finding, tenant="default", arrival=NOW, origin="timer")
    room.store.insert("findings", FINDINGS, [row], f"lost-{room.number}")
    report = check(room)
    assert report.differences == []
    assert (report.consumed, report.dispositions["lost"]) == (10, 10)


def test_what_was_quarantined_may_be_replayed(room: Room):
    room.empty()
    a = Chain(1)
    part = Partition(Log(f"log-{room.number}", TOPIC, 0), known=Directory(making.ROOT))
    wrong = replace(making.key_record(making.PRODUCER, "orders"), topics=("elsewhere",))
    part.known.add(SignedRecord.sign(wrong, [making.OPERATOR]).encode(), NOW - SECOND)
    first = (a.chain_id, a.batch(2, part.arrival))
    refused = part.flush(first)
    assert [j.disposition.value for j in refused.judged] == ["quarantined"]
    part.known = making.directory()
    back = part.released(first, 0, NOW)
    assert [j.disposition.value for j in back.judged] == ["released"]
    room.write([refused, back])
    assert laws(check(room)) == set()


def test_a_duplicate_of_nothing_and_a_release_of_nothing(room: Room):
    room.empty()
    a = Chain(1)
    part = Partition(Log(f"log-{room.number}", TOPIC, 0))
    first = (a.chain_id, a.batch(2, part.arrival))
    room.write([part.flush(first), part.flush(first)])
    parked = part.offset
    released = part.released((a.chain_id, a.batch(2, part.arrival)), parked, NOW - SECOND)
    room.write([released])
    assert laws(check(room)) == {Law.RELEASED}
    for table in ("batches", "payloads", "events"):
        room.change(f"ALTER TABLE {table} DELETE WHERE offset = 0")
    assert Law.DUPLICATE in laws(check(room))


def test_commits_in_a_row_and_in_windows():
    rows = [Commit(n, n + 1, lost=False, messages=2, rows=5) for n in range(0, 20, 2)]
    covered = law.cover(rows, -1)
    assert (covered.end, covered.holes, covered.overlaps) == (19, [], [])
    assert [len(w) for w in law.windows(covered, 0, 8, 1000)] == [4, 4, 2]
    assert [len(w) for w in law.windows(covered, 0, 1000, 10)] == [2] * 5
    assert [w[0].first for w in law.windows(covered, 10, 4, 1000)] == [10, 14, 18]
    torn = law.cover([*rows[:3], *rows[4:]], -1)
    assert (torn.end, torn.holes) == (5, [(6, 7)])
    again = law.cover([*rows, Commit(3, 12, lost=False, messages=10, rows=25)], -1)
    assert (again.end, len(again.overlaps)) == (19, 6)
    # What overlaps stays together, and is not summed up.
    assert len(next(law.windows(again, 0, 1, 1000))) == 1
    assert law.without([(0, 10)], [(2, 3), (9, 20)]) == [(0, 1), (4, 8)]


def test_the_command(
    room: Room,
    stack: Stack,
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    for name, value in stack.env.items():
        monkeypatch.setenv(name, value)
    state = tmp_path / "state.json"
    arguments = ("audit", "conservation", "--store-only", "--state", str(state))
    assert run_command([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["holds"] is True
    assert said["consumed"] == sum(said["dispositions"].values()) == 7
    assert said["partitions"][0]["checked_from"] == 0
    assert run_command([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["partitions"][0]["checked_from"] == 7
    room.change("ALTER TABLE payloads DELETE WHERE offset = 0")
    assert run_command(arguments[:3]) == 1
    out = capsys.readouterr().out
    assert "DOES NOT HOLD" in out
    assert "the rows of payloads" in out
    assert run_command([*arguments, "--drained"]) == 2
    capsys.readouterr()
