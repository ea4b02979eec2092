"""Bytes an event: on the wire, at rest by table and column, and how much of it is evidence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sealtrail.batch import SignedBatch, unframe

if TYPE_CHECKING:
    from sealtrail_processor.store.port import Store

# What proves an event and is not the event: hashes and salt of each, statements and signatures of
# its batch. (The event's own bytes are in payloads as well, so that all of it can be checked.)
_EVIDENCE = (("events", "leaf_hash"), ("events", "salt"))
# The engine knows sizes of columns of wide parts alone, so that tables are merged before.
_COLUMNS = """
    SELECT table, column, sum(column_data_compressed_bytes) AS at_rest
    FROM system.parts_columns
    WHERE active AND database = {database:String} AND table NOT LIKE 'bench_%'
    GROUP BY table, column
"""
_DISKS = """
    SELECT table, disk_name, sum(bytes_on_disk) FROM system.parts
    WHERE active AND database = {database:String} AND table NOT LIKE 'bench_%'
    GROUP BY table, disk_name
"""
# Of the tables whose parts move to the volume `cold`.
_TTLS = """
    SELECT name, extract(engine_full, ' TTL (.*?) SETTINGS ') AS ttl FROM system.tables
    WHERE database = {database:String} AND ttl != ''
"""
_MESSAGES = "SELECT count(), sum(length(value)) FROM payloads"
_SAMPLE = "SELECT hex(value) FROM payloads ORDER BY cityHash64(log_id, partition, offset) LIMIT 64"


def measure(store: Store, *, merge: bool) -> dict[str, Any]:
    """The figures of what a store holds.

    Args:
        store: of a rig.
        merge: bring each table into as few parts as it will have some day first.
    """
    if merge:
        for table in ("events", "edges_by_parent", "edges_by_child", "entity_events", "payloads"):
            store.command(f"OPTIMIZE TABLE {store.database}.{table} FINAL")
    names = {"database": store.database}
    (events,) = store.query("SELECT sum(rows) FROM commits")[0]
    messages, wire = store.query(_MESSAGES)[0]
    columns = {(table, column): size for table, column, size in store.query(_COLUMNS, names)}
    tables: dict[str, float] = {}
    volumes: dict[str, float] = {}
    for table, disk, size in store.query(_DISKS, names):
        tables[table] = tables.get(table, 0) + size / events
        volumes[disk] = volumes.get(disk, 0) + size / events
    batches = tables.get("batches", 0.0) + tables.get("dispositions", 0.0)
    evidence = sum(columns.get(name, 0) for name in _EVIDENCE) / events
    largest = sorted(columns.items(), key=lambda item: -item[1])[:25]
    return {
        "events": events,
        "wire_bytes": round(wire / events, 1),
        "at_rest_bytes": round(sum(tables.values()), 1),
        "evidence_bytes": round(evidence + batches + _envelope(store) * messages / events, 1),
        "tables": {k: round(v, 1) for k, v in sorted(tables.items(), key=lambda i: -i[1])},
        "volumes": {k: round(v, 1) for k, v in volumes.items()},
        "columns": {f"{t}.{c}": round(size / events, 2) for (t, c), size in largest},
    }


def cold(store: Store) -> dict[str, Any]:
    """Bytes an event when all parts have gone to the volume `cold`; the store is then as before.

    Args:
        store: of a rig.
    """
    names = {"database": store.database}
    tables = store.query(_TTLS, names)
    try:
        for table, ttl in tables:
            due = re.sub(r"toIntervalDay\(\d+\)", "toIntervalDay(0)", ttl)
            store.command(f"ALTER TABLE {store.database}.{table} MODIFY TTL {due}")
            store.command(f"OPTIMIZE TABLE {store.database}.{table} FINAL")
        found = measure(store, merge=False)
    finally:
        for table, ttl in tables:
            store.command(f"ALTER TABLE {store.database}.{table} MODIFY TTL {ttl}")
    return {name: found[name] for name in ("at_rest_bytes", "tables", "volumes", "columns")}


def _envelope(store: Store) -> float:
    """Bytes of a message beside its events: frame, statement, signatures; the mean of a sample."""
    beside = []
    # As text: a String that is no UTF-8 has no bytes that the client would give as they are.
    for (text,) in store.query(_SAMPLE):
        value = bytes.fromhex(text)
        events = SignedBatch.decode(unframe(value)[1]).events
        beside.append(len(value) - sum(map(len, events)))
    # A store that the engine filled by itself holds no messages.
    return sum(beside) / max(len(beside), 1)
