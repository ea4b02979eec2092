"""The INSERT that turns joined records into rows, and checks their boundaries. Pure.

The check stands in the SELECT and not in a view behind the table: it runs before any materialized
view sees the block, so that nothing at all is stored of a container that fails it. It demands of
every row, in the order of the container:

- the canary is the secret plus the row's number: the reader stands exactly behind an event;
- the sequence number in the event id is the one that this row must have;
- the block holds all rows of the container: one block, no row fewer;
- text is UTF-8 and no attribute stands twice: the engine takes both, other readers refuse the one
  and keep only one of the other, and an auditor would not see what stands in the row.

What the engine is laxer about than others and this cannot see: an index of a union beyond its
branches reads as null. Such an event is signed by its producer, and an audit names it.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from sealtrail import ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail_processor.judging.model import Log
    from sealtrail_processor.store.container import Accepted

_ENTITIES = (
    "Array(Tuple(namespace String, name String, version Nullable(String),"
    " digest Nullable(FixedString(32)), size_bytes Nullable(Int64)))"
)
# What the SELECT reads from the container: field -> type.
_INPUT = {
    "occurred_at": "DateTime64(6, 'UTC')",
    "parents": (
        "Array(Tuple(event_id FixedString(16), occurred_at DateTime64(6, 'UTC'),"
        " leaf_hash FixedString(32)))"
    ),
    "salt": "FixedString(16)",
    "event_type": "String",
    "importance": "String",
    "activity": "String",
    "run_id": "Nullable(FixedString(16))",
    "actor": "Tuple(id String, kind String, on_behalf_of Nullable(String))",
    "inputs": _ENTITIES,
    "outputs": _ENTITIES,
    "code": "Nullable(Tuple(repository String, revision String, image_digest Nullable(String)))",
    "trace_id": "Nullable(FixedString(16))",
    "span_id": "Nullable(FixedString(8))",
    "policy": "Nullable(String)",
    "backfill": "Bool",
    "attributes": "Map(String, String)",
    "protected": "Array(Tuple(subject FixedString(16), key_id FixedString(16), ciphertext String))",
    "commitments": "Array(FixedString(32))",
    "_batch": "Int32",
    "_event_id": "FixedString(16)",
    "_leaf_hash": "FixedString(32)",
    "_canary": "FixedString(8)",
}
# Column -> expression, of what stands in the event itself.
_OWN = {
    "event_id": "_event_id",
    "leaf_hash": "_leaf_hash",
    **{
        name: name
        for name in _INPUT
        if not name.startswith("_") and name not in ("actor", "code", "importance")
    },
    # An older version of the schema may lack it: Avro's default.
    "importance": "if(importance = '', 'ESSENTIAL', importance)",
    "actor_id": "tupleElement(actor, 'id')",
    "actor_kind": "tupleElement(actor, 'kind')",
    "on_behalf_of": "tupleElement(actor, 'on_behalf_of')",
    "code_repository": "tupleElement(code, 'repository')",
    "code_revision": "tupleElement(code, 'revision')",
    "code_image": "tupleElement(code, 'image_digest')",
}
_ENTITY_TEXT = "concat(x.1, ',', x.2, ',', ifNull(x.3, ''))"
# Pieces of text with an ASCII character between them are valid together when each one is.
_TEXTS = ", ',', ".join(
    [
        "activity",
        "tupleElement(actor, 'id')",
        "ifNull(tupleElement(actor, 'on_behalf_of'), '')",
        "ifNull(tupleElement(code, 'repository'), '')",
        "ifNull(tupleElement(code, 'revision'), '')",
        "ifNull(tupleElement(code, 'image_digest'), '')",
        "ifNull(policy, '')",
        "arrayStringConcat(mapKeys(attributes), ',')",
        "arrayStringConcat(mapValues(attributes), ',')",
        *(
            f"arrayStringConcat(arrayMap(x -> {_ENTITY_TEXT}, {side}), ',')"
            for side in ("inputs", "outputs")
        ),
    ]
)
_TEXT_CHECK = (
    f"NOT isValidUTF8(concat({_TEXTS}))"
    " OR length(mapKeys(attributes)) != length(arrayDistinct(mapKeys(attributes)))"
)


def insert_sql(database: str, table: str, log: Log, chunk: list[Accepted], secret: int) -> str:
    """The INSERT whose SELECT checks the boundaries of an Avro container.

    Args:
        database: of the tables.
        table: ingest, or ingest_check for a dry run.
        log: where the batches were read; each names its partition itself.
        chunk: the batches in the container, in its order.
        secret: what the canaries count from.
    """
    statements = [item.batch.statement for item in chunk]
    judged = [item.judged for item in chunk]
    # Number of the row in which a batch's first event stands.
    first_rows = [0, *accumulate(item.rows for item in chunk[:-1])]
    shared = {
        "tenant": _texts([s.tenant for s in statements]),
        "chain_id": _fixed([s.chain_id for s in statements]),
        "branch": _numbers([j.branch for j in judged]),
        "batch_seq": _numbers([s.batch_seq for s in statements]),
        "partition": _numbers([item.partition for item in chunk]),
        "offset": _numbers([j.message.offset for j in judged]),
        "arrival": _times([j.arrival for j in judged]),
        "time_source": _texts([j.time_source for j in judged]),
        "environment": _texts([s.environment for s in statements]),
        "producer": _texts([s.producer for s in statements]),
        "instance": _texts([s.instance for s in statements]),
        "signed_at": _times([s.signed_at for s in statements]),
    }
    columns = {
        "seq": "_seq",
        "log_id": f"unhex('{log.log_id.encode().hex()}')",
        "topic": f"unhex('{log.topic.encode().hex()}')",
        **shared,
        **_OWN,
    }
    count = sum(item.rows for item in chunk)
    starts = _pick(
        [s.first_seq - row for s, row in zip(statements, first_rows, strict=True)], "Int64"
    )
    structure = ", ".join(f"{name} {kind}" for name, kind in _INPUT.items()).replace("'", "\\'")
    names = ", ".join(f"`{name}`" for name in columns)
    # Names are ours and numbers are numbers; strings of producers go in as hex (see _texts).
    return (
        f"INSERT INTO {database}.{table} ({names})"  # noqa: S608 - see above
        " WITH rowNumberInAllBlocks() AS _row,"
        f" bitAnd(byteSwap(reinterpretAsUInt64(substring(_event_id, 9, 8))), {ids.MAX_SEQ}) AS _seq"
        f" SELECT {', '.join(columns.values())} FROM input('{structure}')"
        " WHERE NOT throwIf("
        f"byteSwap(reinterpretAsUInt64(_canary)) != {secret} + _row"
        f" OR toInt64(_seq) != {starts} + _row"
        f" OR blockSize() != {count} OR {_TEXT_CHECK},"
        " 'record boundary broken, or text that is none')"
    )


def _texts(values: list[str]) -> str:
    return f"unhex({_pick([v.encode().hex() for v in values])})"


def _fixed(values: list[bytes]) -> str:
    return f"toFixedString(unhex({_pick([v.hex() for v in values])}), 32)"


def _numbers(values: list[int]) -> str:
    return _pick(values, "UInt64")


def _times(values: list[int]) -> str:
    return f"fromUnixTimestamp64Micro({_pick(values, 'Int64')}, 'UTC')"


def _pick(values: Sequence[int | str], kind: str = "String") -> str:
    """The value of a row's batch: of an array, or of one literal where all are equal.

    Literals and few functions: the engine takes longer to analyse this statement than to run it
    for a small flush.
    """
    literals = [f"'{v}'" if isinstance(v, str) else str(v) for v in values]
    if len(set(literals)) == 1:
        return f"CAST({literals[0]}, '{kind}')"
    return f"CAST([{','.join(literals)}], 'Array({kind})')[_batch + 1]"
