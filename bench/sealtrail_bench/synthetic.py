"""A store that has grown: rows as the pipeline would have written them, made by the engine itself.

For questions whose answer depends on how much there is (lineage, an insert into full tables).
Chains of 1,000 events; each names the one before it and, one in eight, one of the chain before.
Hashes are made up: an audit of such a store finds every row of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sealtrail_processor.store.port import Store

LOG = "synthetic"
CHAIN = 1000
BLOCK = 500_000

_CHAIN_ID = "SHA256(concat('chain', toString(intDiv({n}, 1000))))"
# The id of the event with that number: 48, 12 and 22 bits of its chain's id around version and
# variant, then 40 bits of sequence number (docs/wire-format.md, "Event id").
_BITS = (
    "bitOr(128, bitShiftRight({b6}, 4))",
    "bitOr(bitShiftLeft(bitAnd({b6}, 15), 4), bitShiftRight({b7}, 4))",
    "bitOr(128, bitOr(bitShiftLeft(bitAnd({b7}, 15), 2), bitShiftRight({b8}, 6)))",
    "bitOr(bitShiftLeft(bitAnd({b8}, 63), 2), bitShiftRight({b9}, 6))",
    "bitOr(bitShiftLeft(bitAnd({b9}, 63), 2), bitShiftRight({b10}, 6))",
)
_SEQ = "substring(reverse(reinterpretAsString(toUInt64(({n}) % 1000 + 72057594037927936))), 4, 5)"


def _id(number: str) -> str:
    chain = _CHAIN_ID.format(n=number)
    at = {f"b{n}": f"reinterpretAsUInt8(substring({chain}, {n + 1}, 1))" for n in range(6, 11)}
    bits = ", ".join(_BITS).format(**at)
    seq = _SEQ.format(n=number)
    return f"toFixedString(concat(substring({chain}, 1, 6), char({bits}), {seq}), 16)"


def _time(number: str) -> str:
    return f"fromUnixTimestamp64Micro(1790000000000000 + toInt64({number}) * 1000, 'UTC')"


def fill(store: Store, first: int, count: int) -> None:
    """Add events with the numbers from first on.

    Args:
        store: of a rig.
        first: a multiple of 1,000.
        count: how many.
    """
    for start in range(first, first + count, BLOCK):
        _block(store, start, min(BLOCK, first + count - start))


def event_id(store: Store, number: int) -> bytes:
    """The id of an event of a given number."""
    return bytes(store.query(f"SELECT {_id(str(number))}")[0][0])


def _block(store: Store, start: int, count: int) -> None:
    where = f"numbers({start}, {count})"
    parents = (
        "arrayFilter(x -> x.1 != toFixedString('', 16), ["
        f"if(number % 1000 = 0, (toFixedString('', 16), {_time('number')}, toFixedString('', 32)),"
        f" ({_id('number - 1')}, {_time('number - 1')}, SHA256(toString(number - 1)))),"
        "if(number % 8 != 5 OR number < 1000,"
        f" (toFixedString('', 16), {_time('number')}, toFixedString('', 32)),"
        f" ({_id('number - 1000')}, {_time('number - 1000')}, SHA256(toString(number - 1000))))])"
    )
    columns = {
        "tenant": "'default'",
        "chain_id": _CHAIN_ID.format(n="number"),
        "seq": "number % 1000",
        "branch": "0",
        "event_id": _id("number"),
        "leaf_hash": "SHA256(toString(number))",
        "batch_seq": "0",
        "log_id": f"'{LOG}'",
        "topic": "'synthetic'",
        "partition": "0",
        "offset": "intDiv(number, 1000)",
        "arrival": _time("number"),
        "time_source": "'LOG_APPEND'",
        "environment": "'local'",
        "producer": "'synthetic'",
        "instance": "'synthetic'",
        "signed_at": _time("number"),
        "occurred_at": _time("number"),
        "event_type": "'TRANSFORM'",
        "importance": "'ESSENTIAL'",
        "activity": "'orders.enrich'",
        "actor_id": "'svc-orders'",
        "actor_kind": "'SERVICE'",
        "inputs": "[('kafka://synthetic', toString(number % 5000), '1', NULL, 1)]",
        "outputs": "[('s3://synthetic', toString(number % 7000), '1', NULL, 1)]",
        "backfill": "false",
        "parents": parents,
        "salt": "MD5(toString(number))",
    }
    store.command(
        f"INSERT INTO {store.database}.ingest ({', '.join(columns)}) "  # noqa: S608 - our own text
        f"SELECT {', '.join(columns.values())} FROM {where} "
        "SETTINGS optimize_on_insert = 0, max_insert_block_size = 500000, max_block_size = 500000, "
        "max_insert_threads = 2, parallel_view_processing = 1"
    )
    last = (start + count - 1) // CHAIN
    store.command(
        f"INSERT INTO {store.database}.commits (log_id, topic, partition, first_offset, "  # noqa: S608 - our own text
        f"last_offset, kind, messages, rows, arrival) VALUES ('{LOG}', 'synthetic', 0, "
        f"{start // CHAIN}, {last}, 'flush', 0, {count}, now64(6))"
    )
