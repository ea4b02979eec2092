"""What a worker finds when it comes back."""

import dataclasses

from tests.processors.store.making import NOW, Make, event, held

from sealtrail.chain import Link
from sealtrail.findings import Disposition
from sealtrail_processor.judging.model import Log
from sealtrail_processor.judging.suspicion import Death
from sealtrail_processor.store import chains, rebuild
from sealtrail_processor.store.client import ClickHouseStore
from sealtrail_processor.store.sink import ClickHouseSink


def test_a_log_without_commits_has_no_cursor(store: ClickHouseStore, maker: Make):
    assert rebuild.cursor(store, maker().log) is None


def test_cursors_with_overlapping_commits(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker()
    judged = m.accept(*[1] * 8)
    for first, last in ((0, 3), (0, 5), (2, 4), (4, 6)):
        sink.write(m.flush(judged[first:last]))
    assert rebuild.cursor(store, m.log) == 6


def test_a_commit_that_the_views_have_not_heard_of(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    # The store was killed between the table and the view behind it.
    m = maker()
    judged = m.accept(2, 1)
    sink.write(m.flush(judged[:1]))
    sink.write(m.flush(judged[1:]))
    store.command(
        "ALTER TABLE sealtrail.commit_ends DELETE WHERE log_id = "
        f"'{m.log.log_id}' SETTINGS mutations_sync = 1"
    )
    seen = "SELECT count() FROM committed_events WHERE log_id = {log:String}"
    assert store.query(seen, {"log": m.log.log_id}) == [(0,)]
    assert rebuild.cursor(store, m.log) == 2
    assert store.query(seen, {"log": m.log.log_id}) == [(3,)]


def test_links_are_those_that_were_applied(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker()
    judged = m.accept(2, 3)
    fork = m.judged(judged[1].batch, branch=1)
    closing = m.judged(m.batch([], kind="CLOSE"))
    sink.write(m.flush([*judged, fork, closing]))
    lives = chains.lives(store, m.log.topic, 3)
    found = list(chains.history(store, m.log, lives, {m.chain_id}).links)
    wanted = [
        Link.of(j.batch.statement, j.batch.statement_hash, j.arrival, j.branch)
        for j in (*judged, fork, closing)
    ]
    assert found == wanted
    state = held(store, m.log.topic).by_id[m.chain_id]
    assert (state.next_batch, state.next_seq, state.head) == (3, 5, m.head)
    assert state.closed


def test_chains_go_on_over_the_lives_of_a_log(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker()
    sink.write(m.flush(m.accept(2, 1)))
    # A broker that starts anew: another log, offsets from 0.
    m.log, m.offset = Log(m.log.log_id + "-b", m.log.topic, 3), 0
    sink.write(m.flush(m.accept(3)))
    state = held(store, m.log.topic).by_id[m.chain_id]
    assert (state.next_batch, state.next_seq) == (3, 6)


def test_a_released_message_stands_where_it_was_accepted(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker()
    judged = m.accept(1, 1)
    late = m.judged(m.batch([event(m.rng).encode()]), arrival=NOW - 10**9)
    late = dataclasses.replace(
        late,
        disposition=Disposition.RELEASED,
        time_source="ORIGINAL",
        released_from=("other", m.log.topic, 3, 7),
    )
    sink.write(m.flush([*judged, late]))
    lives = chains.lives(store, m.log.topic, 3)
    found = chains.history(store, m.log, lives, {m.chain_id})
    numbers = [link.batch_seq for link in found.links]
    assert numbers == [0, 1, 2]
    rows = store.query(
        "SELECT from_log_id, from_offset FROM committed_dispositions"
        " WHERE log_id = {l:String} AND disposition = 'released'",
        {"l": m.log.log_id},
    )
    assert rows == [("other", 7)]


def test_the_first_receipt_counts_whatever_a_later_writers_clock_says(
    store: ClickHouseStore, maker: Make
):
    log = maker().log
    assert rebuild.receipts(store, log, [0, 1, 2], NOW) == dict.fromkeys([0, 1, 2], NOW)
    assert rebuild.receipts(store, log, [1, 2, 3], NOW - 50) == {1: NOW, 2: NOW, 3: NOW - 50}
    # A zombie that asked before anyone had written, and writes afterwards.
    rows = [(log.log_id, log.topic, log.partition, n, NOW - 10**9) for n in (0, 1, 2, 3, 4)]
    columns = ("log_id", "topic", "partition", "offset", "arrival")
    store.insert("receipts", columns, rows, "zombie")
    store.command("OPTIMIZE TABLE sealtrail.receipts FINAL")
    found = rebuild.receipts(store, log, [0, 1, 2, 3], NOW + 99)
    assert found == {0: NOW, 1: NOW, 2: NOW, 3: NOW - 50}


def test_deaths_come_back_once(store: ClickHouseStore, maker: Make):
    log = maker().log
    deaths = [
        Death(log, 0, 4, "WORK", "w-1"),
        Death(log, 5, 9, "WAIT", "w-2"),
        Death(log, 7, 7, "FAULT", "w-3"),
    ]
    for death in [*deaths, deaths[1]]:
        rebuild.add_death(store, death)
    found = rebuild.deaths(store, log.log_id, log.topic)
    assert sorted(found, key=lambda d: d.mark) == deaths
    assert rebuild.deaths(store, "another life", log.topic) == []


def test_it_is_known_whether_anything_of_a_message_is_stored(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker()
    judged = m.accept(1, 1)
    sink.write(m.flush(judged[:1]))
    at = [j.message.offset for j in judged]
    assert [rebuild.holds(store, m.log, offset) for offset in at] == [True, False]


def test_key_records_come_back_in_order_of_arrival(store: ClickHouseStore, maker: Make):
    log = Log(maker().log.log_id, "keys", 0)
    blob = bytes(range(256))
    rebuild.add_key_records(store, log, [(1, NOW + 5, b"k1", blob), (0, NOW, b"k0", b"\xff")])
    found = [r for r in rebuild.key_records(store) if r[0] == log]
    assert found == [(log, 0, NOW, b"k0", b"\xff"), (log, 1, NOW + 5, b"k1", blob)]
