"""What the linker asks of the real engine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.processors.store.making import NOW, Make

from sealtrail import ids
from sealtrail.findings import Code, Verdict
from sealtrail_processor.judging.model import Finding
from sealtrail_processor.linking import link_store, references
from sealtrail_processor.linking.edges import Stored
from sealtrail_processor.linking.link_store import LinkStore
from sealtrail_processor.linking.references import Reference, References
from sealtrail_processor.store import rows
from sealtrail_processor.store.port import StoreRefused

if TYPE_CHECKING:
    from sealtrail_processor.store.client import ClickHouseStore
    from sealtrail_processor.store.sink import ClickHouseSink


def test_chains_found_ahead_are_answered_if_they_were_asked_for(
    store: ClickHouseStore, maker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_store, "IDS", 2)
    ahead, behind = [os.urandom(32) for _ in range(20)], os.urandom(32)
    # Shares the 80 bits that the engine compares with a chain that was never found AHEAD.
    near = ahead[0][:10] + bytes([ahead[0][10] ^ 0x80]) + ahead[0][11:]
    found = [
        rows.finding_row(
            maker().log,
            number,
            Finding(code, "a test's", chain, seq, None, chain, 90_000_000, 1_000_000),
            tenant="default",
            arrival=NOW,
            origin="ingest",
        )
        for number, (code, chain) in enumerate(
            [*((Code.AHEAD, chain) for chain in ahead), (Code.BEHIND_OR_DELAYED, behind)]
        )
        for seq in range(3)
    ]
    store.insert("findings", rows.FINDINGS, found, "found ahead")
    asked = [*ahead[:5], behind, near, os.urandom(32)]
    answers: list[int] = []
    query = store.query

    def counted(sql: str) -> list[tuple[object, ...]]:
        got = query(sql)
        answers.append(len(got))
        return got

    monkeypatch.setattr(store, "query", counted)
    links = LinkStore(store)
    assert links.ahead([ids.chain_prefix(chain) for chain in asked]) == {
        ids.chain_prefix(chain): chain for chain in ahead[:5]
    }
    # One row a chain at most, whatever else was found.
    assert len(answers) == 4
    assert max(answers) <= 2
    assert links.ahead([]) == {}


def test_events_are_found_by_the_ids_that_name_them(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_store, "PLACES", 7)
    monkeypatch.setattr(link_store, "RANGES", 2)
    chains = [maker(seed) for seed in range(3)]
    for m in chains:
        sink.write(m.flush(m.accept(5, 4)))
    rows_ = store.query(
        "SELECT event_id, tenant, leaf_hash, toUnixTimestamp64Micro(occurred_at) FROM events"
        " WHERE log_id IN {logs:Array(String)}",
        {"logs": [m.log.log_id for m in chains]},
    )
    stored = {bytes(i): [Stored(tenant, bytes(leaf), at)] for i, tenant, leaf, at in rows_}
    assert len(stored) == 27
    nobodys = ids.event_id(os.urandom(32), 3)
    # Of a chain that is there, behind its end.
    beyond = ids.event_id(bytes(store.query("SELECT chain_id FROM batches LIMIT 1")[0][0]), 99_999)
    asked = [*stored, nobodys, beyond, os.urandom(8), bytes(16)]
    assert LinkStore(store).events(asked) == stored
    assert LinkStore(store).events([nobodys, b"no id"]) == {}


READ = (
    "SELECT child_chain, child_seq, child_branch, ordinal, parent_id, verdict, "
    "toUnixTimestamp64Micro(decided_at), version FROM link_verdicts "
    "WHERE child_chain = {c:String} ORDER BY ALL"
)


def test_verdicts_are_read_as_they_were_said(store: ClickHouseStore) -> None:
    chain = os.urandom(32)
    rows_ = {
        verdict: Reference(chain, 2**39 - number, 2**32 - 1 - number, 63 - number, os.urandom(16))
        for number, verdict in enumerate(Verdict)
    }
    said = {verdict: [References.of(row)] for verdict, row in rows_.items()}
    links = LinkStore(store)
    for _ in range(2):
        links.write(said, NOW)
    found = store.query(READ, {"c": chain})
    assert found == sorted((*row, str(verdict), NOW, NOW) for verdict, row in rows_.items())
    links.write({Verdict.ORPHAN: said[Verdict.PENDING]}, NOW + 1)
    final = store.query(
        "SELECT verdict FROM link_verdicts FINAL WHERE child_chain = {c:String} AND ordinal = 63",
        {"c": chain},
    )
    assert final == [("ORPHAN",)]
    links.write({Verdict.VERIFIED: []}, NOW)


@pytest.mark.parametrize("first_seq", [0, 255, 2**16 - 2, 2**39, ids.MAX_SEQ - 65_535])
def test_the_engine_makes_a_row_of_each_reference_of_a_batch(
    store: ClickHouseStore, first_seq: int
) -> None:
    # Bits of all values in front of the sequence number: an id is a number of 128 bits, signed or
    # not, in either order of bytes.
    chain = b"\xff\x80\x7f\x00" * 2 + os.urandom(24)
    events = (1, 2, 254, 255, 256, 257, 1000, 65_534, 65_535)
    names = os.urandom(16 * 3)
    groups = [
        References(chain, 0, first_seq, events),
        References(chain, 2**32 - 1, first_seq, (0, 7, 7), bytes([5, 0, 63]), names),
        References(chain, 1, first_seq, ()),
    ]
    LinkStore(store).write({Verdict.VERIFIED: groups}, NOW)
    assert [len(group) for group in groups] == [9, 3, 0]
    expected = [(*one, "VERIFIED", NOW, NOW) for group in groups for one in group]
    assert store.query(READ, {"c": chain}) == sorted(expected)
    assert expected[0][:5] == (chain, first_seq + 1, 0, 0, ids.event_id(chain, first_seq))
    assert expected[10][:5] == (chain, first_seq + 7, 2**32 - 1, 0, names[16:32])


def test_packed_rows_that_are_none_are_refused(store: ClickHouseStore) -> None:
    with pytest.raises(StoreRefused):
        store.insert_packed(references.INSERT, references.PACKED, b"half a row", "half")


def test_rows_packed_for_other_types_are_refused(store: ClickHouseStore) -> None:
    count = "SELECT count() FROM link_verdicts"
    before = store.query(count)
    one = References.of(Reference(bytes(32), 1, 0, 0, bytes(16)))
    packed = references.pack({Verdict.VERIFIED: [one]}, NOW)
    # As many bytes: without types the engine would take them for something else.
    others = references.PACKED | {"first_seq": "Int64"}
    with pytest.raises(StoreRefused, match="first_seq"):
        store.insert_packed(references.INSERT, others, packed, "other types")
    assert store.query(count) == before
