"""References without a lasting verdict, as the real engine finds them."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from tests.processors.store.making import NOW, Make

from sealtrail import ids
from sealtrail.findings import Verdict
from sealtrail_processor.linking import link_store, unread
from sealtrail_processor.linking.link_store import (
    SETTLED,
    Block,
    LinkStore,
    Part,
)
from sealtrail_processor.linking.references import Reference, References
from sealtrail_processor.linking.unread import Unread
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sealtrail_processor.judging.model import Log
    from sealtrail_processor.store.client import ClickHouseStore
    from sealtrail_processor.store.sink import ClickHouseSink

SECOND = 1_000_000


EDGES = (
    *("tenant", "parent_id", "parent_occurred_at", "parent_leaf", "child_chain", "child_seq"),
    *("child_branch", "child_id", "ordinal", "child_occurred_at", "log_id", "topic", "partition"),
    *("offset", "arrival"),
)


def test_open_links_are_found_by_blocks_that_differ(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    makers = [maker(seed) for seed in range(3)]
    for m in makers:
        sink.write(m.flush(m.accept(40, 30)))
    links, logs = LinkStore(store), [m.log for m in makers]
    part = Part(logs[0].topic, sorted({log.partition for log in logs}), 0, 7)
    references = edges_of(store, logs)

    def read(where: Part = part, limit: int = 1000) -> dict[Reference, Verdict | None]:
        blocks = links.open_blocks(where, None, 1000)
        found = links.unsettled(where, [(b, b) for b in blocks], limit) if blocks else []
        together = [(blocks[0], blocks[-1])] if blocks else []
        assert not blocks or links.unsettled(where, together, limit) == found
        assert {e.log for e, _ in found} <= set(logs)
        assert [e.arrival for e, _ in found] == sorted(e.arrival for e, _ in found)
        return {e.reference: verdict for e, verdict in found}

    everything = dict.fromkeys(references)
    assert read() == everything
    assert len(read(limit=2)) == 2
    [one, two, three, *others] = everything
    said = {Verdict.VERIFIED: others, Verdict.ORPHAN: [two], Verdict.PENDING: [three]}
    links.write(singly(said), NOW)
    assert read() == {one: None, two: Verdict.ORPHAN, three: None}
    # Said once more before the engine has merged it.
    links.write(singly({Verdict.VERIFIED: others}), NOW + 1)
    assert read() == {one: None, two: Verdict.ORPHAN, three: None}
    links.write(singly({Verdict.MISMATCH: [one], Verdict.EXTERNAL: [two, three]}), NOW + 2)
    assert read() == {}
    assert links.open_blocks(part, None, 1000) == []
    assert read(part._replace(since=NOW + 10_000_000)) == {}


def test_a_lasting_verdict_that_another_followed_is_none(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker(4)
    sink.write(m.flush(m.accept(10)))
    links, part = LinkStore(store), Part(m.log.topic, [m.log.partition], 0, 7)
    names = edges_of(store, [m.log])
    # Its producer fell silent, and was heard of again; by a clock that is ahead, and one behind it.
    links.write(singly({Verdict.LOST_WITH_PRODUCER: names[:1], Verdict.VERIFIED: names[2:]}), NOW)
    links.write(singly({Verdict.PENDING: names[1:2]}), NOW + 2)
    links.write(singly({Verdict.ORPHAN: names[:1], Verdict.VERIFIED: names[1:2]}), NOW + 1)
    [block] = links.open_blocks(part, None, 10)
    found = links.unsettled(part, [(block, block)], 10)
    assert {e.reference: v for e, v in found} == {names[0]: Verdict.ORPHAN, names[1]: None}


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
    links.write(singly({Verdict.VERIFIED: settled}), NOW)
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


def edges_of(store: ClickHouseStore, logs: list[Log]) -> list[Reference]:
    rows_ = store.query(
        "SELECT child_chain, child_seq, child_branch, ordinal, parent_id FROM edges_by_child "
        "WHERE log_id IN {logs:Array(String)} ORDER BY ALL",
        {"logs": [log.log_id for log in logs]},
    )
    assert len(rows_) > 3
    return [
        Reference(bytes(c), seq, branch, n, bytes(parent)) for c, seq, branch, n, parent in rows_
    ]


def singly(said: Mapping[Verdict, Sequence[Reference]]) -> dict[Verdict, list[References]]:
    return {verdict: list(map(References.of, references)) for verdict, references in said.items()}


@pytest.mark.parametrize("seed", range(12))
def test_what_is_found_is_what_has_no_lasting_verdict(
    store: ClickHouseStore, maker: Make, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "GAP", 3)
    rng = random.Random(seed)
    log, links = maker().log, LinkStore(store)
    chains = [rng.randbytes(32) for _ in range(6)]
    seqs = [0, 1, 1023, 1024, 2047, 2048, 5000, ids.MAX_SEQ]
    made = {
        (rng.choice(chains), rng.choice(seqs), rng.choice([0, 2**32 - 1]), rng.randrange(3))
        for _ in range(60)
    }
    where = {name: (rng.choice([3, 4]), NOW + rng.choice([-SECOND, 0, SECOND])) for name in made}
    for part in range(2):
        rows_ = [
            (
                *("t", bytes(16), NOW, bytes(32), *name[:3], ids.event_id(*name[:2]), name[3], NOW),
                *(log.log_id, log.topic, where[name][0], 0, where[name][1]),
            )
            for name in made
            # Some are written twice: the flush was done again.
            if part == 0 or rng.random() < 0.2
        ]
        store.insert("edges_by_child", EDGES, rows_, f"{log.log_id}/{part}")
    last: dict[tuple[bytes, int, int, int], tuple[int, Verdict]] = {}
    for at in rng.sample(range(NOW, NOW + 20), 6):
        chosen = rng.sample(sorted(made), rng.randrange(len(made)))
        said: dict[Verdict, list[Reference]] = {}
        for name in chosen:
            verdict = Verdict.VERIFIED if rng.random() < 0.6 else rng.choice(list(Verdict))
            said.setdefault(verdict, []).append(Reference(*name, bytes(16)))
            last[name] = max(last.get(name, (0, Verdict.PENDING)), (at, verdict))
        links.write(singly(said), at)
    settings = WorkerSettings(links_pending_max=100)
    now = NOW + round(settings.links_rebuild_s * 1e6)
    for partitions in ([3], [4], [3, 4]):
        expected = {
            name: Verdict.ORPHAN if last.get(name, (0, None))[1] is Verdict.ORPHAN else None
            for name in made
            if where[name][0] in partitions
            and where[name][1] >= NOW
            and last.get(name, (0, Verdict.PENDING))[1] not in SETTLED
        }
        reading = Unread(links, settings, lambda: now)
        for partition in partitions:
            reading.add(replace(log, partition=partition))
        found: dict[tuple[bytes, int, int, int], Verdict | None] = {}
        while reading:
            for edge, verdict in reading.read():
                name = (edge.child_chain, edge.child_seq, edge.child_branch, edge.ordinal)
                assert name not in found
                found[name] = verdict
        assert found == expected


def test_chains_that_are_not_asked_for_are_not_looked_through(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = maker(7)
    sink.write(m.flush(m.accept(10)))
    links, part = LinkStore(store), Part(m.log.topic, [m.log.partition], 0, 7)
    [block] = links.open_blocks(part, None, 10)
    names = [Reference(os.urandom(32), 1, 0, 0, bytes(16)) for _ in range(30_000)]
    links.write(singly({Verdict.VERIFIED: names}), NOW)
    asked: list[tuple[str, Any]] = []
    query = store.query

    def noted(sql: str, parameters: Any = None) -> Any:
        asked.append((sql, parameters))
        return query(sql, parameters)

    monkeypatch.setattr(store, "query", noted)
    everything = (block._replace(chain=bytes(32)), block._replace(chain=b"\xff" * 32))
    assert len(links.unsettled(part, [everything], 100)) == len(edges_of(store, [m.log]))
    sql, parameters = asked[0]
    plan = "\n".join(str(row[0]) for row in query(f"EXPLAIN indexes = 1 {sql}", parameters))
    # A granule of each part at most: of the 30,000 verdicts one of four.
    found = re.search(r"link_verdicts\).*?Granules: (\d+)/(\d+)", plan, re.DOTALL)
    assert found is not None
    assert int(found[2]) - int(found[1]) >= 3
