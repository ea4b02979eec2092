"""A clean store has no finding, whatever honest things happened to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.auditors.making import Chain, Partition

from sealtrail_processor.model import Log

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
