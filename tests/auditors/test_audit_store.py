"""A clean store has no finding, whatever honest things happened to it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
from tests.auditors.making import NOW, SECOND, Chain, Partition, directory

from sealtrail.findings import Code
from sealtrail_processor.judging.model import Finding, Log
from sealtrail_processor.store.rows import FINDINGS, finding_row

if TYPE_CHECKING:
    from tests.auditors.conftest import Room


def test_a_clean_store_has_no_finding(room: Room):
    room.empty()
    a, b = Chain(1), Chain(2)
    part = Partition(Log(f"log-{room.number}", "provenance.events", 0))
    first = a.batch(5, part.arrival)
    room.write(
        [
            part.flush((a.chain_id, first), (b.chain_id, b.batch(3, part.arrival))),
            part.flush((a.chain_id, first), (b"x", b"garbage"), (b"y", None)),
            part.flush((a.chain_id, a.batch(4, part.arrival)), (a.chain_id, a.heartbeat(0))),
            part.flush((a.chain_id, a.batch(0, part.arrival, kind="CLOSE"))),
        ]
    )
    report = room.audit()
    assert report.findings == []
    assert report.notes == []
    assert (report.events, report.batches, report.messages, report.chains) == (12, 4, 8, 2)


def test_a_batch_that_never_arrived_is_a_gap_and_not_tampering(room: Room):
    room.empty()
    chain = Chain(1)
    log = Log(f"log-{room.number}", "provenance.events", 0)
    part = Partition(log)
    first = chain.batch(2, part.arrival)
    chain.batch(2, part.arrival)
    third = chain.batch(2, part.arrival)
    room.write([part.flush((chain.chain_id, first), (chain.chain_id, third))])
    young = room.audit(settled=0)
    assert young.findings == []
    (found,) = room.audit().findings
    assert (str(found.code), found.key["batch_seq"]) == ("BATCH_MISSING", 1)
    finding = Finding(Code.GAP, "batches 1 to 1 are missing", chain.chain_id, 1)
    row = finding_row(log, 1, finding, tenant="default", arrival=part.arrival, origin="timer")
    room.store.insert("findings", FINDINGS, [row], f"gap-{room.number}")
    report = room.audit()
    assert report.findings == []
    assert any(note.startswith("GAP: batches 1 to 1") for note in report.notes)


def test_a_chain_goes_on_in_the_next_log(room: Room):
    """A broker that starts anew begins at offset 0 again; chain state carries over."""
    room.empty()
    chain = Chain(1)
    old = Partition(Log(f"old-{room.number}", "provenance.events", 0))
    values = [chain.batch(2, old.arrival) for _ in range(4)]
    new = Partition(
        Log(f"new-{room.number}", "provenance.events", 0), chains=old.chains, arrival=old.arrival
    )
    key = chain.chain_id
    room.write([old.flush((key, values[0]), (key, values[1]))])
    room.write([new.flush((key, values[1]), (key, values[2]), (key, values[3]))])
    report = room.audit()
    assert report.findings == []
    assert (report.events, report.batches, report.messages) == (8, 4, 5)


def test_a_fork_is_kept_as_a_branch_and_is_no_tampering(room: Room):
    room.empty()
    chain = Chain(1)
    part = Partition(Log(f"log-{room.number}", "provenance.events", 0))
    first = chain.batch(2, part.arrival)
    twin = copy.deepcopy(chain)
    one, other = chain.batch(2, part.arrival), twin.batch(3, part.arrival)
    key = chain.chain_id
    third = chain.batch(1, part.arrival)
    room.write([part.flush((key, first), (key, one), (key, other), (key, third))])
    report = room.audit()
    assert report.findings == []
    assert report.events == 8


def test_small_chunks_come_to_the_same_answer(room: Room):
    room.empty()
    chain = Chain(1)
    part = Partition(Log(f"log-{room.number}", "provenance.events", 0))
    room.write([part.flush((chain.chain_id, chain.batch(4, part.arrival))) for _ in range(4)])
    room.change("ALTER TABLE events UPDATE activity = 'x' WHERE seq = 9")
    counts = {chunk: dict(room.audit(chunk_events=chunk).counts) for chunk in (1, 8, 1000)}
    assert set(map(str, counts.values())) == {"{'ROW_CHANGED': 1}"}


def test_without_the_operators_records_nothing_verifies(room: Room):
    room.empty()
    chain = Chain(1)
    part = Partition(Log(f"log-{room.number}", "provenance.events", 0))
    room.write([part.flush((chain.chain_id, chain.batch(4, part.arrival)))])
    room.change("ALTER TABLE key_records UPDATE record_value = concat(record_value, 'x') WHERE 1")
    report = room.audit()
    assert [str(f.code) for f in report.findings] == ["UNKNOWN_KEY"]
    assert len([n for n in report.notes if "does not count" in n]) == 2
    assert report.unchecked == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [((5, 2), (2, 3, 2)), ((3, 4), (5, 2)), ((7,), (1, 6)), ((1, 6), (7,)), ((2, 5), (2, 5))],
)
def test_flushes_that_two_workers_did_with_other_boundaries(
    room: Room, one: tuple[int, ...], other: tuple[int, ...]
):
    """A worker that was taken for dead wakes up: rows are the same, commits overlap."""
    room.empty()
    chain = Chain(1)
    log = Log(f"log-{room.number}", "provenance.events", 0)
    messages = [(chain.chain_id, chain.batch(2, NOW + n * SECOND)) for n in range(7)]
    for sizes in (one, other):
        part, at = Partition(log), 0
        for size in sizes:
            room.write([part.flush(*messages[at : at + size])])
            at += size
    report = room.audit()
    assert report.findings == []
    assert report.events == 14


@pytest.mark.parametrize("receipt", [True, False])
def test_a_message_that_was_parked_and_released(room: Room, *, receipt: bool):
    """It is judged by what was known when it came back, and keeps its first arrival."""
    known_from = NOW + 5 * SECOND
    room.empty(known_from)
    chain = Chain(1)
    part = Partition(Log(f"log-{room.number}", "provenance.events", 0), known=directory(known_from))
    first = (chain.chain_id, chain.batch(2, NOW))
    room.write([part.flush(first)])
    part.arrival = NOW + 9 * SECOND
    room.write([part.released(first, 0, NOW)])
    room.write([part.flush((chain.chain_id, chain.batch(2, part.arrival)))])
    if receipt:
        columns = ("log_id", "topic", "partition", "offset", "arrival")
        row = (part.log.log_id, part.log.topic, 0, 1, NOW + 9 * SECOND)
        room.store.insert("receipts", columns, [row], f"receipt-{room.number}")
    report = room.audit()
    assert report.findings == []
    assert (report.events, report.batches, report.messages) == (4, 2, 3)
    room.change("ALTER TABLE dispositions UPDATE from_offset = 7 WHERE offset = 1")
    (finding,) = room.audit().findings
    assert str(finding.code) == "ROW_CHANGED"
