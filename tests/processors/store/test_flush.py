"""A flush that is done again, with these boundaries or others, by this worker or a zombie."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any, cast

import pytest
from tests.processors.store.making import NOW, Make, Maker, event, held

from sealtrail.errors import ConfigurationError
from sealtrail.findings import Code, Disposition
from sealtrail.statement import ZERO, Heartbeat
from sealtrail.validate import Refused
from sealtrail_processor.commands import quarantine as quarantine_cli
from sealtrail_processor.judging.keeping import HOUR_US, Spent, keep, size, spent_on
from sealtrail_processor.judging.model import Finding, Flush, Judged, Log, OneByOne
from sealtrail_processor.quarantine import held as quarantine
from sealtrail_processor.store import rebuild
from sealtrail_processor.store.client import ClickHouseStore
from sealtrail_processor.store.port import StoreUnavailable
from sealtrail_processor.store.sink import ClickHouseSink, one_by_one

VIEWS = (
    "events",
    "edges_by_parent",
    "edges_by_child",
    "entity_events",
    "batches",
    "payloads",
    "dispositions",
    "findings",
    "quarantine",
)


def visible(store: ClickHouseStore, log: Log):
    """Count and content of everything that readers see of a log."""
    return {
        view: store.query(
            f"SELECT count(), sum(cityHash64(*)) FROM committed_{view} WHERE log_id = {{l:String}}",
            {"l": log.log_id},
        )[0]
        for view in VIEWS
    }


def counts(store: ClickHouseStore, log: Log):
    return {view: count for view, (count, _) in visible(store, log).items()}


def mixed(m: Maker):
    """Messages of all kinds: 9 events."""
    judged = m.accept(4, 2)
    judged.append(m.refused(b"rubbish", Refused(Code.MALFORMED, 1, "not framed")))
    judged.append(m.refused(None, Refused(Code.MALFORMED, 1, "no value")))
    waits = Refused(Code.UNKNOWN_KEY, 3, "no record of key")
    judged.append(m.refused(b"later", waits, Disposition.PARKED))
    found = (Finding(Code.AHEAD, "90 s", m.chain_id, 2, None, m.chain_id, 90_000_000, 10**6),)
    judged.append(m.judged(m.batch([event(m.rng).encode() for _ in range(3)]), findings=found))
    first = judged[0]
    judged.append(
        Judged(
            m.message(b"again"), m.arrival, "LOG_APPEND", Disposition.DUPLICATE, batch=first.batch
        )
    )
    beat = Heartbeat((ZERO,), m.chain_id, 2, m.head, NOW)
    judged.append(
        Judged(m.message(b"beat"), m.arrival, "LOG_APPEND", Disposition.HEARTBEAT, heartbeat=beat)
    )
    return judged


def test_all_rows_of_a_flush(store: ClickHouseStore, sink: ClickHouseSink, maker: Make):
    m = maker()
    judged = mixed(m)
    sink.write(m.flush(judged))
    seen = counts(store, m.log)
    assert seen["events"] == 9
    assert seen["dispositions"] == len(judged)
    assert seen["batches"] == seen["payloads"] == 3
    assert seen["quarantine"] == 3
    assert seen["findings"] == 4
    rows = store.query(
        "SELECT first_offset, last_offset, kind, messages, rows FROM commits"
        " WHERE log_id = {l:String}",
        {"l": m.log.log_id},
    )
    assert rows == [(0, len(judged) - 1, "flush", len(judged), 9)]


def test_payloads_and_quarantine_hold_the_very_bytes(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker()
    judged = mixed(m)
    sink.write(m.flush(judged))
    kept = store.query(
        "SELECT offset, hex(key), hex(value), headers.name, arrayMap(x -> hex(x), headers.value)"
        " FROM committed_payloads WHERE log_id = {l:String} ORDER BY offset",
        {"l": m.log.log_id},
    )
    assert kept == [
        (j.message.offset, m.chain_id.hex().upper(), j.message.value.hex().upper(),
         ["shop"], ["78"])
        for j in judged
        if j.disposition is Disposition.ACCEPTED
    ]  # fmt: skip
    kept = store.query(
        "SELECT offset, value, code, step, detail FROM committed_quarantine"
        " WHERE log_id = {l:String} ORDER BY offset",
        {"l": m.log.log_id},
    )
    assert kept == [
        (2, "rubbish", "MALFORMED", 1, "not framed"),
        (3, None, "MALFORMED", 1, "no value"),
        (4, "later", "UNKNOWN_KEY", 3, "no record of key"),
    ]


def test_quarantine_is_found_with_its_bytes_where_they_are_needed(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make, monkeypatch: pytest.MonkeyPatch
):
    m = maker()
    sink.write(m.flush(mixed(m)))
    mine = "log_id = {l:String}"
    found = quarantine.entries(store, mine, {"l": m.log.log_id}, limit=10)
    assert [(e.offset, e.size, e.code) for e in found] == [
        (2, 7, "MALFORMED"),
        (3, 0, "MALFORMED"),
        (4, 5, "UNKNOWN_KEY"),
    ]
    assert [h.value for h in quarantine.find(store, mine, {"l": m.log.log_id})] == [
        b"rubbish",
        None,
        b"later",
    ]
    monkeypatch.setattr(quarantine, "BYTES", 8)
    [first, second] = quarantine.bodies(store, found)
    assert [h.value for h in (*first, *second)] == [b"rubbish", None, b"later"]
    assert first[0].headers[0] == ("shop", b"x")
    assert quarantine_cli._one(store, found[2].name) == found[2]
    # 65,536 more is the same partition once it is squeezed into its column.
    log, topic, number, offset = found[2].coordinates
    for other in (f"{number + 2**16}:{offset}", f"{number}:{offset + 2**64}"):
        with pytest.raises(ConfigurationError):
            quarantine_cli._one(store, f"{log}:{topic}:{other}")


def test_what_is_not_kept_has_its_size_and_digest_and_what_is_kept_is_summed_up(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker()
    junk = Refused(Code.MALFORMED, 1, "not framed")
    waits = Refused(Code.UNKNOWN_KEY, 3, "no record")
    first = [m.refused(bytes(50), junk), m.refused(bytes(70), waits, Disposition.PARKED)]
    assert rebuild.spent(store, m.log, 0) == Spent()
    spent = Spent()
    every: list[Judged] = []
    then = [
        m.refused(bytes(30), junk),
        m.refused(b"12345", junk),
        m.refused(bytes(80), waits, Disposition.PARKED),
    ]
    for part in (first, then):
        judged, spent = keep(part, spent, 200, 250)
        every += judged
        sink.write(m.flush(list(judged)))
        assert rebuild.spent(store, m.log, m.offset) == spent == spent_on(every)
        assert rebuild.spent(store, m.log, every[0].message.offset) == Spent()
    # What is parked has an allowance of its own.
    assert [size(j.message) for j in every] == [109, 129, 89, 64, 139]
    assert [j.kept for j in every] == [True, True, True, False, False]
    m.arrival += HOUR_US - NOW % HOUR_US
    judged, spent = keep([m.refused(b"next hour", junk)], spent, 200, 250)
    every += judged
    sink.write(m.flush(list(judged)))
    assert spent == Spent(every[-1].arrival // HOUR_US, size(every[-1].message))
    assert rebuild.spent(store, m.log, m.offset) == spent == spent_on(every)
    assert rebuild.spent(store, m.log, m.offset - 1) == spent_on(every[:-1])
    mine = "log_id = {l:String}"
    found = quarantine.entries(store, mine, {"l": m.log.log_id}, limit=10)
    assert [(e.size, e.kept) for e in found] == [(len(j.message.value), j.kept) for j in every]
    assert not all(e.kept for e in found)
    shown = store.query(
        "SELECT offset, bytes, digest FROM provenance.quarantined WHERE log_id = {l:String}"
        " ORDER BY offset",
        {"l": m.log.log_id},
    )
    assert [tuple(row) for row in shown] == [
        (j.message.offset, len(j.message.value), sha256(j.message.value).hexdigest()) for j in every
    ]


def test_what_is_gone_stays_open_until_it_is_dismissed(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker()
    waits = Refused(Code.UNKNOWN_KEY, 3, "no record")
    judged = [m.refused(b"waits", waits, Disposition.PARKED) for _ in range(2)]
    sink.write(m.flush(judged))

    def listed(which: str) -> list[tuple[int, str]]:
        condition, mine = f"log_id = {{l:String}} AND {which}", {"l": m.log.log_id}
        return [(e.offset, e.state) for e in quarantine.entries(store, condition, mine, limit=9)]

    (_, entry) = quarantine.entries(store, "log_id = {l:String}", {"l": m.log.log_id}, limit=9)
    quarantine.give_up(store, [entry], NOW)
    assert listed(quarantine.OPEN) == [(0, "parked"), (1, "gone")]
    assert listed(quarantine.UNTOUCHED) == [(0, "parked")]
    quarantine.dismiss(store, [entry], NOW + 1)
    assert listed(quarantine.OPEN) == listed(quarantine.UNTOUCHED) == [(0, "parked")]
    assert listed("1") == [(0, "parked"), (1, "dismissed")]


def test_the_same_flush_twice_is_the_same_rows(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker()
    flush = m.flush(mixed(m))
    sink.write(flush)
    once = visible(store, m.log)
    sink.write(flush)
    assert visible(store, m.log) == once


def test_other_boundaries_give_the_same_rows(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker()
    judged = mixed(m)
    sink.write(m.flush(judged))
    once = visible(store, m.log)
    sink.write(m.flush(judged[:2]))
    sink.write(m.flush(judged[2:6]))
    sink.write(m.flush(judged[6:]))
    assert visible(store, m.log) == once
    assert rebuild.cursor(store, m.log) == len(judged)
    assert [c.next_seq for c in held(store, m.log.topic).by_id.values()] == [9]


def test_a_zombie_that_wakes_up_late_is_harmless(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker()
    judged = mixed(m) + m.accept(2, 2)
    sink.write(m.flush(judged[:4]))
    sink.write(m.flush(judged[4:]))
    once = visible(store, m.log)
    sink.write(m.flush(judged[:9]))
    sink.write(m.flush(judged[2:5]))
    assert visible(store, m.log) == once
    assert rebuild.cursor(store, m.log) == len(judged)


class CrashError(Exception):
    """The worker is gone."""


class Dying:
    """A store that lets some calls through, and then none; the last one may have been done."""

    def __init__(self, store: ClickHouseStore, calls: int, after: bool) -> None:
        self.store, self.calls, self.after = store, calls, after
        self.database = store.database

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def _step(self, call: Callable[[], None]) -> None:
        self.calls -= 1
        if self.calls < 0 and not self.after:
            raise CrashError
        call()
        if self.calls < 0:
            raise CrashError

    def insert(self, *arguments: Any) -> None:
        self._step(lambda: self.store.insert(*arguments))

    def insert_avro(self, *arguments: Any) -> None:
        self._step(lambda: self.store.insert_avro(*arguments))


def test_what_is_written_at_once_finds_dispositions_and_no_commit(
    store: ClickHouseStore, maker: Make
) -> None:
    m = maker()
    flush = m.flush(m.accept(2))
    stand: list[int] = []

    def at_once(inserts: Any) -> None:
        for table in ("events", "dispositions", "batches", "payloads", "commits"):
            where = f"{table} WHERE log_id = {{log:String}}"
            stand.append(
                store.query(f"SELECT count() FROM {where}", {"log": flush.log.log_id})[0][0]
            )
        one_by_one(reversed(inserts))

    ClickHouseSink(store, secrets.randbits, at_once=at_once).write(flush)
    assert stand == [2, 1, 0, 0, 0]
    assert store.query(
        "SELECT count() FROM committed_events WHERE log_id = {log:String}",
        {"log": flush.log.log_id},
    ) == [(2,)]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("calls", range(7))
def test_a_crash_at_any_insert_leaves_nothing_visible_and_a_redo_is_exact(
    store: ClickHouseStore, maker: Make, calls: int, after: bool
):
    m = maker()
    judged = mixed(m)
    # events, dispositions, batches, payloads, findings, quarantine, heartbeats, then the commit
    with pytest.raises(CrashError):
        ClickHouseSink(cast("Any", Dying(store, calls, after)), secrets.randbits).write(
            m.flush(judged)
        )
    assert counts(store, m.log) == dict.fromkeys(VIEWS, 0)
    assert rebuild.cursor(store, m.log) is None
    assert held(store, m.log.topic).by_id == {}
    sink = ClickHouseSink(store, secrets.randbits)
    sink.write(m.flush(judged[:5]))
    sink.write(m.flush(judged[5:]))
    assert counts(store, m.log) == {
        "events": 9,
        "edges_by_parent": 9,
        "edges_by_child": 9,
        "entity_events": 18,
        "batches": 3,
        "payloads": 3,
        "dispositions": len(judged),
        "findings": 4,
        "quarantine": 3,
    }
    assert rebuild.cursor(store, m.log) == len(judged)


def test_only_what_is_committed_is_visible(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker()
    judged = m.accept(2, 2, 2)
    sink.write(m.flush(judged[:1]))
    # The third is written and committed, the second is a hole: a worker never does this.
    sink.write(m.flush(judged[2:]))
    assert counts(store, m.log)["events"] == 2
    assert rebuild.cursor(store, m.log) == 1
    sink.write(m.flush(judged[1:2]))
    assert counts(store, m.log)["events"] == 6
    assert rebuild.cursor(store, m.log) == 3


def test_a_month_that_begins_in_a_flush(store: ClickHouseStore, sink: ClickHouseSink, maker: Make):
    october = 1_790_812_800_000_000
    m = maker(arrival=october - 1500, step_us=1000)
    judged = m.accept(3, 2, 4)
    sink.write(m.flush(judged))
    rows = store.query(
        "SELECT toYYYYMM(arrival) AS month, count() FROM committed_events"
        " WHERE log_id = {l:String} GROUP BY month ORDER BY month",
        {"l": m.log.log_id},
    )
    assert rows == [(202609, 5), (202610, 4)]


def test_a_large_flush_is_split_and_complete(store: ClickHouseStore, maker: Make):
    m = maker()
    sink = ClickHouseSink(store, secrets.randbits, max_rows=50)
    sink.write(m.flush(m.accept(*[7] * 30)))
    assert counts(store, m.log)["events"] == 210


def test_holes_in_the_log_and_lost_offsets(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
):
    m = maker(offset=10)
    sink.write_lost(m.log, 0, 9, NOW)
    judged = m.accept(1)
    m.offset += 5  # control records, compaction
    judged += m.accept(1)
    sink.write(Flush(m.log, 10, tuple(judged)))
    assert rebuild.cursor(store, m.log) == 17
    assert counts(store, m.log)["events"] == 2


def test_a_store_that_is_away_is_unavailable(maker: Make):
    store = ClickHouseStore("http://127.0.0.1:9", "nobody", "secret")
    with pytest.raises(StoreUnavailable) as raised:
        rebuild.cursor(store, maker().log)
    assert "secret" not in str(raised.value)
    assert raised.value.message == "store cannot be reached: [Errno 111] Connection refused"


def test_flushes_of_two_partitions_in_one_insert(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    first = maker()
    second = maker(1)
    second.log = replace(first.log, partition=4)
    flushes = [m.flush(m.accept(2, 3)) for m in (first, second)]
    sink.write_together(flushes)
    sink.write_together(flushes)
    where = f"log_id = '{first.log.log_id}'"
    events = f"SELECT partition, offset, count() FROM committed_events WHERE {where}"
    assert store.query(f"{events} GROUP BY ALL ORDER BY ALL") == [
        (3, 0, 2),
        (3, 1, 3),
        (4, 0, 2),
        (4, 1, 3),
    ]
    commits = f"SELECT partition, first_offset, last_offset, rows FROM commits FINAL WHERE {where}"
    assert store.query(f"{commits} ORDER BY partition") == [(3, 0, 1, 5), (4, 0, 1, 5)]


def test_a_group_with_a_broken_record_is_refused_whole(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    first = maker()
    second = maker(1)
    second.log = replace(first.log, partition=4)
    good = first.flush(first.accept(2))
    two = b"".join(event(second.rng).encode() for _ in range(2))
    bad = second.flush([second.judged(second.batch([two]))])
    with pytest.raises(OneByOne):
        sink.write_together([good, bad])
    where = f"log_id = '{first.log.log_id}'"
    for table in ("events", "dispositions", "batches", "payloads", "commits"):
        assert store.query(f"SELECT count() FROM {table} WHERE {where}") == [(0,)]
