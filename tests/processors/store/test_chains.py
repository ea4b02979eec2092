"""Chains are read from the store one by one, and are as if all had been read."""

from dataclasses import replace
from typing import Any

import pytest
from tests.processors.store.making import NOW, Make, Maker, held

from sealtrail.chain import Chains
from sealtrail.findings import Disposition
from sealtrail.statement import ZERO, Continues
from sealtrail_processor.judging.model import Judged, Log
from sealtrail_processor.judging.ports import Life, Stored
from sealtrail_processor.store import chains
from sealtrail_processor.store.client import ClickHouseStore
from sealtrail_processor.store.sink import ClickHouseSink


def continuing(make: Make, before: Maker, seed: int, batch_seq: int, head: bytes) -> Maker:
    """A chain that continues another."""
    m = make(seed)
    point = Continues(before.chain_id, batch_seq, head)
    m.genesis = replace(m.genesis, continues=point)
    m.chain_id = m.identity.chain_id(m.genesis)
    return m


def writing(sink: ClickHouseSink, before: Maker, *makers: Maker) -> None:
    """Chains of one log, one after the other, three batches each."""
    for maker in makers:
        maker.offset, maker.arrival = before.offset, before.arrival
        sink.write(maker.flush(maker.accept(1, 2, 1)))
        before = maker


def read(store: ClickHouseStore, log: Log, lives: list[Life], *chain_ids: bytes) -> Chains:
    found = chains.history(store, log, lives, chain_ids)
    made = Chains()
    made.recall(found.links, found.continued)
    return made


@pytest.mark.parametrize("rows", [2, 20_000])
def test_each_chain_is_read_as_it_would_be_held(
    store: ClickHouseStore,
    sink: ClickHouseSink,
    maker: Make,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
) -> None:
    monkeypatch.setattr(chains, "ROWS", rows)
    a = maker(1)
    judged = a.accept(1, 1, 1)
    fork = a.judged(judged[1].batch, branch=1)
    sink.write(a.flush([*judged, fork]))
    first = continuing(maker, a, 2, 2, a.head)
    second = continuing(maker, a, 3, 1, a.head)
    before = continuing(maker, maker(5), 4, 0, a.head)
    writing(sink, a, first, second, before)
    # Another life of the log, with a released message of the earlier one's time.
    later = Log(a.log.log_id + "-0", a.log.topic, 3)
    first.log, first.offset = later, 0
    released = replace(
        first.accept(1)[0],
        arrival=NOW - 5,
        disposition=Disposition.RELEASED,
        time_source="ORIGINAL",
        released_from=(a.log.log_id, a.log.topic, 3, 99),
    )
    sink.write(first.flush([released, *first.accept(2)]))

    lives = chains.lives(store, a.log.topic, 3)
    assert [life.log_id for life in lives] == [a.log.log_id, later.log_id]
    assert [life.end for life in lives] == [4 + 9, 2]
    every = held(store, a.log.topic)
    assert every.by_id.keys() == {m.chain_id for m in (a, first, second, before)}
    assert every.by_id[a.chain_id].continued == first.genesis.continues
    assert every.by_id[a.chain_id].branches == 1
    assert every.by_id[first.chain_id].next_batch == 5
    for chain_id, state in every.by_id.items():
        assert read(store, later, lives, chain_id).by_id == {chain_id: state}
    # One that nobody has seen yet may be continued already.
    missing = maker(5).chain_id
    alone = read(store, later, lives, missing)
    assert alone.by_id == {}
    assert alone.known(missing).continued == (before.chain_id, before.genesis.continues)
    assert alone.known(missing) == every_of(store, later, lives, every, missing).known(missing)


def test_hashes_are_those_of_the_lives_that_count(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker()
    judged = m.accept(1, 1, 1)
    sink.write(m.flush(judged[:2]))
    lives = chains.lives(store, m.log.topic, 3)
    sink.write(m.flush(judged[2:]))
    keys = {(m.chain_id, n) for n in range(4)} | {(ZERO, 0)}
    assert chains.hashes(store, m.log, lives, keys) == {
        (m.chain_id, n): [(judged[n].batch.statement_hash, 0)] for n in (0, 1)
    }
    assert chains.hashes(store, m.log, lives, set()) == {}


def every_of(
    store: ClickHouseStore, log: Log, lives: list[Life], every: Chains, chain_id: bytes
) -> Chains:
    found = chains.history(store, log, lives, {chain_id})
    every.recall(found.links, found.continued)
    return every


def test_what_others_commit_afterwards_is_not_seen(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker()
    sink.write(m.flush(m.accept(1, 1)))
    lives = chains.lives(store, m.log.topic, 3)
    sink.write(m.flush(m.accept(1)))
    m.log, m.offset = Log(m.log.log_id + "-1", m.log.topic, 3), 0
    sink.write(m.flush(m.accept(1)))
    assert read(store, m.log, lives, m.chain_id).by_id[m.chain_id].next_batch == 2
    assert held(store, m.log.topic).by_id[m.chain_id].next_batch == 4
    assert read(store, m.log, [], m.chain_id).by_id == {}


def test_rows_without_their_commit_are_not_seen(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = maker()
    sink.write(m.flush(m.accept(1)))
    real = store.insert

    def insert(table: str, *values: Any) -> None:
        if table != "commits":
            real(table, *values)

    monkeypatch.setattr(store, "insert", insert)
    sink.write(m.flush(m.accept(1)))
    lives = chains.lives(store, m.log.topic, 3)
    assert lives == [Life(m.log.log_id, 1)]
    assert read(store, m.log, lives, m.chain_id).by_id[m.chain_id].next_batch == 1


def test_chains_that_share_the_bits_of_event_ids_are_found(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m, other = maker(), maker(1)
    sink.write(m.flush(m.accept(1)))
    writing(sink, m, other)
    lives = chains.lives(store, m.log.topic, 3)
    twin = m.chain_id[:11] + bytes(21)
    near = m.chain_id[:10] + bytes([m.chain_id[10] ^ 0x40]) + bytes(21)
    assert chains.namesakes(store, m.log, lives, {twin, near}) == {m.chain_id}
    assert chains.namesakes(store, m.log, lives, {near}) == set()
    assert chains.namesakes(store, Log(m.log.log_id, m.log.topic, 4), lives, {twin}) == set()


def test_what_time_may_say_of_comes_first_then_what_was_heard_last(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    silent, closed, gap, told, old = (maker(n) for n in range(5))
    new = continuing(maker, old, 5, 0, b"h" * 32)

    def close(m: Maker) -> Judged:
        return m.judged(m.batch([], kind="CLOSE"))

    flushes = []
    place = old
    for m in (old, silent, gap, closed, told, new):
        m.offset, m.arrival = place.offset, place.arrival
        judged = m.accept(1)
        if m is gap:
            m.batch([])
            m.next_seq += 1
        if m in (gap, closed, new):
            judged.append(close(m))
        flushes.append(m.flush(judged))
        place = m
    for flush in flushes:
        sink.write(flush)
    row = {"code": "STALLED_CHAIN", "chain_id": told.chain_id, "batch_seq": 1}
    row |= {"finding_id": b"f" * 16, "topic": told.log.topic, "partition": 3}
    store.insert("findings", list(row), [list(row.values())], "told")

    def asked(most: int) -> list[Stored]:
        return chains.newest(store, told.log.topic, 3, most)

    assert [c.chain_id for c in asked(9)] == [
        m.chain_id for m in (gap, silent, new, told, closed, old)
    ]
    assert [(c.batches, c.watched) for c in asked(3)] == [(2, True), (1, True), (2, False)]


def test_many_chains_are_asked_for_in_a_few_questions(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker()
    sink.write(m.flush(m.accept(1)))
    lives = chains.lives(store, m.log.topic, 3)
    many = [n.to_bytes(32, "big") for n in range(2 * chains.CHAINS)]
    assert read(store, m.log, lives, m.chain_id, *many).by_id.keys() == {m.chain_id}
    some = set(many[: 2 * chains.RANGES])
    assert chains.namesakes(store, m.log, lives, {m.chain_id, *some}) == {m.chain_id}
