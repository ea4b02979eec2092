"""Joined records: raw events of many batches as one Avro container. Pure; no event is decoded.

Each event's bytes are followed by fields that are appended to the writer schema, for the store
only:

    _batch      int        index of its batch in the container: the SELECT takes from it what a
        batch's events share _event_id   fixed 16   computed by us _leaf_hash  fixed 32   computed
        by us _canary     fixed 8    secret + row number, big-endian; the secret is random for each
        container

An event that holds two records, swallows its neighbour or ends too early moves the reader off our
    fields: it then meets a canary that is not the row's, and the insert is refused as a whole
    (docs/wire-format.md, "Joined records").
Container layout: Apache Avro specification 1.12, "Object Container Files", one block, no
    compression.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sealtrail import avro, ids
from sealtrail_processor.store.row_binary import leb128

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sealtrail.validate import VerifiedBatch
    from sealtrail_processor.judging.model import Judged

# The engine keeps a block of up to a million rows together; far below, for memory.
MAX_ROWS = 200_000
MAX_BYTES = 128 * 1024 * 1024
# secret + row must stay below 2^64.
SECRET_BITS = 63
# Between blocks a reader looks for it; nothing rests on it here, the block says its length.
_SYNC = bytes(16)
_TAIL = struct.Struct(">QQ32sQ")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted batch of a flush, and the partition where it was read."""

    judged: Judged
    batch: VerifiedBatch
    partition: int = 0

    @property
    def rows(self) -> int:
        """Number of its events."""
        return len(self.batch.envelope.events)

    @property
    def size(self) -> int:
        """Bytes that it takes in a container, about."""
        return sum(map(len, self.batch.envelope.events)) + (_TAIL.size + 5) * self.rows


def month(micros: int) -> int:
    """The year and month (UTC) of a time in microseconds since 1970, as ClickHouse's toYYYYMM."""
    day = _EPOCH + timedelta(microseconds=micros)
    return day.year * 100 + day.month


def plan(
    accepted: Iterable[Accepted], max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES
) -> list[list[Accepted]]:
    """Which batches go into one insert: one writer schema, one month, one block of bounded size."""
    groups: dict[tuple[bytes, int], list[list[Accepted]]] = {}
    filled: dict[tuple[bytes, int], tuple[int, int]] = {}
    for item in accepted:
        if not item.rows:
            # A CLOSE without events is a batch, and no row here.
            continue
        key = (item.batch.statement.event_schema, month(item.judged.arrival))
        rows, size = filled.get(key, (max_rows, max_bytes))
        if rows + item.rows > max_rows or size + item.size > max_bytes:
            groups.setdefault(key, []).append([])
            rows = size = 0
        groups[key][-1].append(item)
        filled[key] = (rows + item.rows, size + item.size)
    return [chunk for chunks in groups.values() for chunk in chunks]


_SCHEMAS: dict[bytes, bytes] = {}


def joined_schema(codec: avro.Codec) -> bytes:
    """JSON of a writer schema with our fields behind its own, remembered (schemas are few)."""
    known = _SCHEMAS.get(codec.fingerprint)
    if known is None:
        schema: dict[str, Any] = avro.without(codec.schema, "doc")
        # A namespace of our own: the writer schema has fixed types of these sizes, under names that
        # are its business.
        extra = [
            {"name": "_batch", "type": "int"},
            _fixed("_event_id", "Id", 16),
            _fixed("_leaf_hash", "Leaf", 32),
            _fixed("_canary", "Canary", 8),
        ]
        schema["fields"] = [*schema["fields"], *extra]
        known = _SCHEMAS[codec.fingerprint] = json.dumps(schema, separators=(",", ":")).encode()
    return known


def _fixed(field: str, name: str, size: int) -> dict[str, Any]:
    kind = {"type": "fixed", "name": name, "namespace": "sealtrail.store", "size": size}
    return {"name": field, "type": kind}


def join(chunk: list[Accepted], secret: int) -> list[bytes]:
    """The container of some batches of one writer schema, in parts to be joined.

    Args:
        chunk: batches in the order of their rows.
        secret: random, 0 to 2^63-1; nobody outside may learn it while it matters.
    """
    parts: list[bytes] = []
    canary = secret
    for index, item in enumerate(chunk):
        parts += _records(item.batch, _long(index), canary)
        canary += item.rows
    rows = sum(item.rows for item in chunk)
    schema = joined_schema(chunk[0].batch.schema)
    header = (
        b"Obj\x01",
        _long(2),
        _bytes(b"avro.schema"),
        _bytes(schema),
        _bytes(b"avro.codec"),
        _bytes(b"null"),
        _long(0),
        _SYNC,
    )
    size = _long(sum(map(len, parts)))
    return [*header, _long(rows), size, *parts, _SYNC]


def _records(batch: VerifiedBatch, index: bytes, canary: int) -> list[bytes]:
    """Events and our fields in turn. Slices instead of a loop: this runs for every event."""
    statement, events = batch.statement, batch.envelope.events
    first = ids.template(statement.chain_id) | statement.first_seq
    high, low = first >> 64, first & 0xFFFF_FFFF_FFFF_FFFF
    count = len(events)
    pack = _TAIL.pack
    parts = [index] * (3 * count)
    parts[::3] = events
    parts[2::3] = [
        pack(high, number, leaf, row)
        for number, leaf, row in zip(
            range(low, low + count), batch.leaf_hashes, range(canary, canary + count), strict=True
        )
    ]
    return parts


def _bytes(data: bytes) -> bytes:
    return _long(len(data)) + data


def _long(number: int) -> bytes:
    """A zig-zag varint (Avro specification, "Binary Encoding"), number not negative."""
    return leb128(number << 1)
