"""What the linker asks of the real engine."""

from __future__ import annotations

import os
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from tests.processors.store.making import NOW, Make

from sealtrail import ids
from sealtrail.findings import Code, Verdict
from sealtrail_processor.judging.model import Finding
from sealtrail_processor.linking import link_store
from sealtrail_processor.linking.edges import Stored
from sealtrail_processor.linking.link_store import REFERENCE, VERDICTS, Block, LinkStore, Part
from sealtrail_processor.store import rows
from sealtrail_processor.store.port import StoreRefused

if TYPE_CHECKING:
    from sealtrail_processor.judging.model import Log
    from sealtrail_processor.linking.edges import Edge
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


def test_packed_verdicts_are_read_as_they_were_said(store: ClickHouseStore) -> None:
    chain = os.urandom(32)
    rows_ = {
        verdict: (chain, 2**39 - number, 2**32 - 1 - number, 63 - number, os.urandom(16))
        for number, verdict in enumerate(Verdict)
    }
    said = {verdict: [REFERENCE.pack(*row)] for verdict, row in rows_.items()}
    links = LinkStore(store)
    for _ in range(2):
        links.write(said, NOW)
    read = f"SELECT {', '.join(list(VERDICTS)[:6])}, toUnixTimestamp64Micro(decided_at), version "
    found = store.query(read + "FROM link_verdicts WHERE child_chain = {c:String}", {"c": chain})
    assert sorted(found) == sorted((*row, str(verdict), NOW, NOW) for verdict, row in rows_.items())
    links.write({Verdict.ORPHAN: said[Verdict.PENDING]}, NOW + 1)
    final = store.query(
        "SELECT verdict FROM link_verdicts FINAL WHERE child_chain = {c:String} AND ordinal = 63",
        {"c": chain},
    )
    assert final == [("ORPHAN",)]
    links.write({Verdict.VERIFIED: []}, NOW)


def test_packed_rows_that_are_none_are_refused(store: ClickHouseStore) -> None:
    with pytest.raises(StoreRefused):
        store.insert_packed("link_verdicts", VERDICTS, b"half a row", "half")


def test_rows_packed_for_other_types_than_the_table_has_are_refused(store: ClickHouseStore) -> None:
    count = "SELECT count() FROM link_verdicts"
    before = store.query(count)
    # As many bytes: without types the engine would take them for something else.
    packed = REFERENCE.pack(bytes(32), 1, 0, 0, bytes(16)) + b"\x08VERIFIED" + bytes(16)
    others = VERDICTS | {"child_seq": "Int64"}
    with pytest.raises(StoreRefused, match="child_seq"):
        store.insert_packed("link_verdicts", others, packed, "other types")
    assert store.query(count) == before


def test_open_links_are_found_by_blocks_that_differ(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    makers = [maker(seed) for seed in range(3)]
    for m in makers:
        sink.write(m.flush(m.accept(40, 30)))
    links, logs = LinkStore(store), [m.log for m in makers]
    part = Part(logs[0].topic, sorted({log.partition for log in logs}), 0, 7)
    references = edges_of(store, logs)

    def read(where: Part = part, limit: int = 1000) -> dict[bytes, Verdict | None]:
        blocks = links.open_blocks(where, None, 1000)
        found = links.unsettled(where, [(b, b) for b in blocks], limit) if blocks else []
        together = [(blocks[0], blocks[-1])] if blocks else []
        assert not blocks or links.unsettled(where, together, limit) == found
        assert {e.log for e, _ in found} <= set(logs)
        assert [e.arrival for e, _ in found] == sorted(e.arrival for e, _ in found)
        return {packed(e): verdict for e, verdict in found}

    everything = {REFERENCE.pack(*reference): None for reference in references}
    assert read() == everything
    assert len(read(limit=2)) == 2
    [one, two, three, *others] = everything
    links.write({Verdict.VERIFIED: others, Verdict.ORPHAN: [two], Verdict.PENDING: [three]}, NOW)
    assert read() == {one: None, two: Verdict.ORPHAN, three: None}
    # Said once more before the engine has merged it.
    links.write({Verdict.VERIFIED: others}, NOW + 1)
    assert read() == {one: None, two: Verdict.ORPHAN, three: None}
    links.write({Verdict.MISMATCH: [one], Verdict.EXTERNAL: [two, three]}, NOW + 2)
    assert read() == {}
    assert links.open_blocks(part, None, 1000) == []
    assert read(part._replace(since=NOW + 10_000_000)) == {}


def test_a_lasting_verdict_that_another_followed_is_none(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker(4)
    sink.write(m.flush(m.accept(10)))
    links, part = LinkStore(store), Part(m.log.topic, [m.log.partition], 0, 7)
    names = [REFERENCE.pack(*reference) for reference in edges_of(store, [m.log])]
    # Its producer fell silent, and was heard of again; by a clock that is ahead, and one behind it.
    links.write({Verdict.LOST_WITH_PRODUCER: names[:1], Verdict.VERIFIED: names[2:]}, NOW)
    links.write({Verdict.PENDING: names[1:2]}, NOW + 2)
    links.write({Verdict.ORPHAN: names[:1], Verdict.VERIFIED: names[1:2]}, NOW + 1)
    [block] = links.open_blocks(part, None, 10)
    found = links.unsettled(part, [(block, block)], 10)
    assert {packed(e): v for e, v in found} == {names[0]: Verdict.ORPHAN, names[1]: None}


def test_blocks_of_what_is_settled_are_not_named_and_others_page_by_page(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_store, "BLOCK", 8)
    m = maker(5)
    sink.write(m.flush(m.accept(40, 30)))
    links, part = LinkStore(store), Part(m.log.topic, [m.log.partition], 0, 2**63 - 1)
    references = edges_of(store, [m.log])
    paged: list[Block] = []
    while named := links.open_blocks(part, paged[-1] if paged else None, 2):
        paged += named
    assert len(paged) > 4
    count = Counter((reference[0], reference[1] // 8) for reference in references)
    assert [(block[:2], block.references) for block in paged] == sorted(count.items())
    assert [block.before for block in paged] == [
        sum(block.references for block in paged[:n]) for n in range(len(paged))
    ]
    settled = [r for r in references if r[1] // 8 != 2]
    links.write({Verdict.VERIFIED: [REFERENCE.pack(*r) for r in settled]}, NOW)
    assert links.open_blocks(part, None, 10) == [b for b in paged if b.number == 2]
    # Other partitions and topics have nothing.
    assert links.open_blocks(part._replace(partitions=[999]), None, 10) == []
    assert links.open_blocks(part._replace(topic="no such topic"), None, 10) == []


def test_as_many_ranges_as_are_named_fit_into_a_question(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker(6)
    sink.write(m.flush(m.accept(10)))
    links, part = LinkStore(store), Part(m.log.topic, [m.log.partition], 0, 7)
    [block] = links.open_blocks(part, None, 10)
    high = ids.MAX_SEQ // link_store.BLOCK
    far = [Block(os.urandom(32), high, 1, 0) for _ in range(2 * link_store.SPANS)]
    spans = [(a, b) for a, b in pairwise(sorted(far)) if not a.chain <= block.chain <= b.chain]
    found = links.unsettled(part, [*spans[: link_store.SPANS - 1], (block, block)], 100)
    assert len(found) == len(edges_of(store, [m.log]))


def edges_of(store: ClickHouseStore, logs: list[Log]) -> list[tuple[bytes, int, int, int, bytes]]:
    rows_ = store.query(
        "SELECT child_chain, child_seq, child_branch, ordinal, parent_id FROM edges_by_child "
        "WHERE log_id IN {logs:Array(String)} ORDER BY ALL",
        {"logs": [log.log_id for log in logs]},
    )
    assert len(rows_) > 3
    return [(bytes(c), seq, branch, n, bytes(parent)) for c, seq, branch, n, parent in rows_]


def packed(edge: Edge) -> bytes:
    return REFERENCE.pack(
        edge.child_chain, edge.child_seq, edge.child_branch, edge.ordinal, edge.parent_id
    )
