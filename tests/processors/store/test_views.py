"""What people see."""

import dataclasses
import re
from pathlib import Path

import pytest
from tests.processors.store.making import NOW, Make, Maker, event

from sealtrail import ids
from sealtrail.event import EntityRef, ParentRef
from sealtrail.findings import Code, Disposition
from sealtrail.statement import ZERO, Heartbeat
from sealtrail.validate import Refused
from sealtrail_processor.judging.model import Finding, Judged
from sealtrail_processor.store import rows
from sealtrail_processor.store.client import ClickHouseStore
from sealtrail_processor.store.sink import ClickHouseSink

DOCS = Path(__file__).parents[3] / "docs" / "sql.md"


def columns(store: ClickHouseStore, sql: str, **parameters: object) -> list[dict[str, object]]:
    """Rows as dictionaries; the SELECT names its columns one by one."""
    names = re.search(r"SELECT (.*?) FROM", sql, re.DOTALL)
    assert names is not None
    keys = [n.strip() for n in names[1].split(",")]
    return [dict(zip(keys, row, strict=True)) for row in store.query(sql, parameters)]


def status(store: ClickHouseStore, m: Maker) -> dict[str, object]:
    [row] = columns(
        store,
        "SELECT batches, events, next_batch, next_seq, gaps, missing_batches, forks, closed,"
        " continued, stalled, heartbeat_s, producer"
        " FROM provenance.chain_status WHERE chain_id = {chain:String}",
        chain=m.chain_id.hex(),
    )
    return row


def test_events_are_shown_as_people_write_them(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker()
    judged = m.accept(3)
    sink.write(m.flush(judged))
    text = ids.text(ids.event_id(m.chain_id, 1))
    [row] = columns(
        store,
        "SELECT event_id, chain_id, seq, producer, run_id, leaf_hash, parents, trace_id"
        " FROM provenance.events WHERE event_id = {id:String}",
        id=text,
    )
    batch = judged[0].batch
    assert batch is not None
    assert row["event_id"] == text
    assert row["chain_id"] == m.chain_id.hex()
    assert row["leaf_hash"] == batch.leaf_hashes[1].hex()
    assert row["parents"] == [ids.text(p.event_id) for p in batch.parents[1]]
    assert row["run_id"] is None
    assert len(str(row["trace_id"])) == 32


@pytest.mark.parametrize(
    ("view", "column", "index"),
    [
        ("provenance.events", "event_id", "by_event_text"),
        ("provenance.events", "chain_id", "by_chain_text"),
        ("sealtrail.committed_events", "event_id", "by_event_id"),
        ("provenance.lineage_edges", "parent_id", "by_parent_text"),
        ("provenance.lineage_edges", "child_id", "by_child_text"),
        ("provenance.entity_history", "event_id", "by_event_text"),
    ],
)
def test_a_look_up_reads_by_an_index(
    store: ClickHouseStore, view: str, column: str, index: str
) -> None:
    value = f"'{ids.text(ids.event_id(ZERO, 1))}'"
    if column == "chain_id":
        value = f"'{ZERO.hex()}'"
    if view.startswith("sealtrail"):
        value = f"toFixedString(unhex('{ids.event_id(ZERO, 1).hex()}'), 16)"
    plan = store.query(f"EXPLAIN indexes = 1 SELECT count() FROM {view} WHERE {column} = {value}")
    assert index in "\n".join(line for (line,) in plan)


def test_a_chain_with_gap_fork_heartbeat_and_end(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker()
    first, missing, third = m.accept(2), m.batch([event(m.rng).encode()]), m.accept(4)
    fork = m.judged(m.batch([event(m.rng).encode()]), branch=1)
    beat = Heartbeat((ZERO,), m.chain_id, 2, m.head, NOW)
    heart = Judged(m.message(b""), m.arrival, "LOG_APPEND", Disposition.HEARTBEAT, heartbeat=beat)
    sink.write(m.flush([*first, *third, fork, heart]))
    seen = status(store, m)
    assert seen == {
        "batches": 3,
        "events": 7,
        "next_batch": 1,
        "next_seq": 2,
        "gaps": 1,
        "missing_batches": 1,
        "forks": 1,
        "closed": False,
        "continued": 0,
        "stalled": 1,
        "heartbeat_s": 60,
        "producer": "orders",
    }
    sink.write(m.flush([m.judged(missing)]))
    seen = status(store, m)
    assert (seen["next_batch"], seen["next_seq"], seen["gaps"]) == (3, 7, 0)
    sink.write(m.flush([m.judged(m.batch([], kind="CLOSE"))]))
    # The fork took number 3 on its own branch; the trunk's 3 is missing before the end.
    assert status(store, m)["closed"]


def test_clock_offsets_in_seconds(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker()
    data = event(m.rng).encode()
    judged = [
        m.judged(m.batch([data], signed_at=m.arrival + seconds * 10**6)) for seconds in (90, 91, 95)
    ]
    sink.write(m.flush(judged))
    [row] = columns(
        store,
        "SELECT median_s, min_s, max_s, batches"
        " FROM provenance.clock_offsets WHERE chain_id = {chain:String}",
        chain=m.chain_id.hex(),
    )
    assert row == {"median_s": 91.0, "min_s": 90.0, "max_s": 95.0, "batches": 3}


def test_links_have_the_latest_verdict_or_none_yet(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker()
    parents = tuple(
        ParentRef(ids.event_id(m.rng.randbytes(32), n), NOW, m.rng.randbytes(32)) for n in range(2)
    )
    sink.write(m.flush([m.judged(m.batch([event(m.rng, parents=parents).encode()]))]))
    names = (
        "child_chain",
        "child_seq",
        "child_branch",
        "ordinal",
        "parent_id",
        "verdict",
        "decided_at",
        "version",
    )
    for version, verdict in ((1, "POSITION"), (2, "VERIFIED")):
        row = (m.chain_id, 0, 0, 1, parents[1].event_id, verdict, NOW, version)
        store.insert("link_verdicts", names, [row], f"{m.log.log_id}/{version}")
    child = ids.text(ids.event_id(m.chain_id, 0))
    found = columns(
        store,
        "SELECT ordinal, verdict, parent_id FROM provenance.links WHERE child_id = {id:String}"
        " ORDER BY ordinal",
        id=child,
    )
    assert [(r["ordinal"], r["verdict"]) for r in found] == [(0, "PENDING"), (1, "VERIFIED")]
    edges = store.query(
        "SELECT count() FROM provenance.lineage_edges WHERE child_id = {id:String}", {"id": child}
    )
    assert edges == [(2,)]


def test_the_history_of_an_entity(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker()
    name = f"table-{m.seed}"
    entity = EntityRef("pg://db", name, "v1", m.rng.randbytes(32), 12)
    made = [event(m.rng, outputs=(entity,)).encode(), event(m.rng, inputs=(entity,)).encode()]
    sink.write(m.flush([m.judged(m.batch(made))]))
    found = columns(
        store,
        "SELECT direction, version, size_bytes, seq FROM provenance.entity_history"
        " WHERE name = {name:String} ORDER BY seq",
        name=name,
    )
    assert found == [
        {"direction": "output", "version": "v1", "size_bytes": 12, "seq": 0},
        {"direction": "input", "version": "v1", "size_bytes": 12, "seq": 1},
    ]


def open_codes(store: ClickHouseStore, m: Maker) -> dict[str, int]:
    found = store.query(
        "SELECT code, sum(findings) FROM provenance.open_findings"
        " WHERE chain_id = {chain:String} GROUP BY code",
        {"chain": m.chain_id.hex()},
    )
    return dict(found)


def test_a_gap_is_open_until_it_is_filled(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker()
    first, missing = m.accept(1), [m.batch([event(m.rng).encode()]) for _ in range(2)]
    sink.write(m.flush([*first, *m.accept(1)]))
    gap = Finding(Code.GAP, "batches 1 to 2 are missing", m.chain_id, 1)
    row = rows.finding_row(m.log, 1, gap, tenant="default", arrival=NOW, origin="timer")
    store.insert("findings", rows.FINDINGS, [row], f"{m.log.log_id}/gap")
    assert open_codes(store, m) == {"GAP": 1}
    sink.write(m.flush([m.judged(missing[1])]))
    assert open_codes(store, m) == {"GAP": 1}
    filled = Finding(Code.GAP_FILLED, "", m.chain_id, 1)
    sink.write(m.flush([m.judged(missing[0], findings=(filled,))]))
    assert open_codes(store, m) == {}


def test_quarantine_and_what_became_of_it(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker()
    refused = Refused(Code.BAD_SIGNATURE, 3, "no")
    waits = Refused(Code.UNKNOWN_KEY, 3, "who?")
    judged = [m.refused(b"bad", refused), m.refused(b"park", waits, Disposition.PARKED)]
    judged = [
        dataclasses.replace(
            j, findings=tuple(dataclasses.replace(f, chain_id=m.chain_id) for f in j.findings)
        )
        for j in judged
    ]
    sink.write(m.flush(judged))
    sql = (
        "SELECT offset, state, code, bytes, released_as FROM provenance.quarantined"
        " WHERE log_id = {log:String} ORDER BY offset"
    )
    found = columns(store, sql, log=m.log.log_id)
    assert [(r["offset"], r["state"], r["code"], r["bytes"]) for r in found] == [
        (0, "quarantined", "BAD_SIGNATURE", 3),
        (1, "parked", "UNKNOWN_KEY", 4),
    ]
    assert open_codes(store, m) == {"BAD_SIGNATURE": 1, "UNKNOWN_KEY": 1}
    act = (m.log.log_id, m.log.topic, 3, 1, "released", NOW, 9)
    names = ("log_id", "topic", "partition", "offset", "act", "at", "new_offset")
    store.insert("quarantine_acts", names, [act], f"{m.log.log_id}/act")
    found = columns(store, sql, log=m.log.log_id)
    assert [(r["state"], r["released_as"]) for r in found] == [
        ("quarantined", None),
        ("released", 9),
    ]
    assert open_codes(store, m) == {"BAD_SIGNATURE": 1}


def test_parts_move_to_the_cold_volume(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    # Arrived in 2020: older than the TTL, so that its parts belong on the volume cold.
    m = maker(arrival=1_580_000_000_000_000)
    sink.write(m.flush(m.accept(3)))
    for table in ("events", "edges_by_parent", "edges_by_child", "entity_events", "payloads"):
        disks = store.query(
            "SELECT DISTINCT disk_name FROM system.parts WHERE active AND database = 'sealtrail'"
            " AND table = {table:String} AND partition = '202001'",
            {"table": table},
        )
        assert disks == [("cold",)], table
    small = store.query(
        "SELECT DISTINCT disk_name FROM system.parts WHERE active AND database = 'sealtrail'"
        " AND table = 'batches' AND partition = '202001'"
    )
    assert small == [("hot",)]


def test_payloads_on_cold_are_compressed_anew_and_stay_the_same_bytes(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    old, young = maker(arrival=1_583_100_000_000_000), maker()
    for m in (old, young):
        sink.write(m.flush(m.accept(40)))
    hashes = (
        "SELECT arraySort(groupArray((offset, cityHash64(value)))) FROM payloads"
        " WHERE log_id = {log:String}"
    )
    before = store.query(hashes, {"log": old.log.log_id})
    store.command("OPTIMIZE TABLE sealtrail.payloads FINAL")
    found = store.query(
        "SELECT partition = '202003', disk_name, default_compression_codec,"
        " sum(data_compressed_bytes) FROM system.parts WHERE active AND database = 'sealtrail'"
        " AND table = 'payloads' AND name IN (SELECT DISTINCT _part FROM payloads"
        " WHERE log_id IN ({old:String}, {young:String})) GROUP BY ALL ORDER BY 1",
        {"old": old.log.log_id, "young": young.log.log_id},
    )
    assert [row[:3] for row in found] == [(0, "hot", "ZSTD(1)"), (1, "cold", "ZSTD(6)")]
    assert store.query(hashes, {"log": old.log.log_id}) == before


def test_parts_on_hot_move_when_their_time_comes(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    import time

    # In a month of its own, three seconds before its TTL (90 days) ends.
    due = int(time.time()) - 90 * 86_400 + 3
    m = maker(arrival=due * 10**6)
    sink.write(m.flush(m.accept(2)))
    sql = "SELECT DISTINCT _part FROM events WHERE log_id = {log:String}"
    where = (
        "SELECT disk_name FROM system.parts WHERE active AND database = 'sealtrail'"
        " AND table = 'events' AND name = {part:String}"
    )

    def disk() -> str:
        [(part,)] = store.query(sql, {"log": m.log.log_id})
        found = store.query(where, {"part": part})
        return str(found[0][0]) if found else ""

    assert disk() == "hot"
    deadline = time.monotonic() + 60
    while disk() != "cold":
        assert time.monotonic() < deadline, "the part is still on hot"
        time.sleep(0.5)
    seen = store.query(
        "SELECT count() FROM committed_events WHERE log_id = {log:String}", {"log": m.log.log_id}
    )
    assert seen == [(2,)]


def test_the_examples_of_the_docs_run(store: ClickHouseStore) -> None:
    examples = re.findall(r"```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 8
    parameters = {
        "event": ids.text(ids.event_id(ZERO, 1)),
        "chain": ZERO.hex(),
        "name": "x",
        "namespace": "y",
    }
    for example in examples:
        for statement in filter(str.strip, example.split(";\n")):
            store.query(statement, parameters)


def test_an_orphan_is_open_until_its_parents_have_come(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker()
    sink.write(m.flush([m.judged(m.batch([event(m.rng).encode(), event(m.rng).encode()]))]))
    names = (
        *("child_chain", "child_seq", "child_branch", "ordinal", "parent_id"),
        *("verdict", "decided_at", "version"),
    )
    for seq in (0, 1):
        child = ids.event_id(m.chain_id, seq)
        orphan = Finding(Code.ORPHAN, "parent did not come", m.chain_id, 0, child)
        row = rows.finding_row(m.log, 0, orphan, tenant="default", arrival=NOW, origin="linker")
        store.insert("findings", rows.FINDINGS, [row], f"{m.log.log_id}/orphan-{seq}")

    def decide(seq: int, verdict: str, version: int) -> None:
        row = (m.chain_id, seq, 0, 0, bytes(16), verdict, NOW, version)
        store.insert("link_verdicts", names, [row], f"{m.log.log_id}/{seq}/{version}")

    decide(0, "ORPHAN", 1)
    decide(1, "LOST_WITH_PRODUCER", 1)
    assert open_codes(store, m) == {"ORPHAN": 2}
    decide(1, "VERIFIED", 2)
    assert open_codes(store, m) == {"ORPHAN": 1}
