"""The rows that a verified batch must have, derived with the contract's decoder and nothing else.

This is the independent second reading: the rows in the store were decoded by the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sealtrail import ids
from sealtrail.statement import ZERO

if TYPE_CHECKING:
    from sealtrail.validate import VerifiedBatch
    from sealtrail_audit.store.columns import Columns

_ENTITY_TEXTS = ("namespace", "name")
INPUT, OUTPUT = 1, 2


@dataclass(frozen=True, slots=True)
class Meta:
    """What the bytes of a message do not say: where and when it arrived, and its branch.

    arrival: microseconds since 1970.
    """

    offset: int
    arrival: int
    time_source: bytes
    branch: int


@dataclass(frozen=True, slots=True)
class Expected:
    """Rows by table, column by column; all lists of a table have the same length."""

    tables: dict[str, Columns]


def rows(batch: VerifiedBatch, meta: Meta) -> Expected:
    """All rows of the events of one batch, in the order of their tables' keys."""
    events = [batch.schema.decode_any(event) for event in batch.envelope.events]
    statement = batch.statement
    template = ids.template(statement.chain_id)
    first = statement.first_seq
    event_ids = [(template | seq).to_bytes(16, "big") for seq in range(first, first + len(events))]
    edges = _edges(batch, meta, event_ids)
    return Expected(
        {
            "events": _events(batch, meta, events, event_ids),
            "edges_by_parent": edges,
            "edges_by_child": edges,
            "entity_events": _entities(batch, meta, events, event_ids),
        }
    )


def _text(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _events(
    batch: VerifiedBatch, meta: Meta, events: list[dict[str, Any]], event_ids: list[bytes]
) -> Columns:
    statement = batch.statement
    count = len(events)
    codes = [event.get("code") or {} for event in events]
    actors = [event["actor"] for event in events]
    attributes = [event.get("attributes") or {} for event in events]
    protected = [event.get("protected") or [] for event in events]
    parents = list(batch.parents)
    columns: Columns = {
        "offset": [meta.offset] * count,
        "tenant": [statement.tenant.encode()] * count,
        "chain_id": [statement.chain_id] * count,
        "seq": list(range(statement.first_seq, statement.first_seq + count)),
        "branch": [meta.branch] * count,
        "event_id": event_ids,
        "leaf_hash": list(batch.leaf_hashes),
        "batch_seq": [statement.batch_seq] * count,
        "arrival": [meta.arrival] * count,
        "time_source": [meta.time_source] * count,
        "environment": [statement.environment.encode()] * count,
        "producer": [statement.producer.encode()] * count,
        "instance": [statement.instance.encode()] * count,
        "signed_at": [statement.signed_at] * count,
        "occurred_at": list(batch.occurred_at),
        "event_type": [event["event_type"].encode() for event in events],
        "importance": [event["importance"].encode() for event in events],
        "activity": [event["activity"].encode() for event in events],
        "run_id": [event.get("run_id") for event in events],
        "actor_id": [actor["id"].encode() for actor in actors],
        "actor_kind": [actor["kind"].encode() for actor in actors],
        "on_behalf_of": [_text(actor.get("on_behalf_of")) for actor in actors],
        "code_repository": [_text(code.get("repository")) for code in codes],
        "code_revision": [_text(code.get("revision")) for code in codes],
        "code_image": [_text(code.get("image_digest")) for code in codes],
        "trace_id": [event.get("trace_id") for event in events],
        "span_id": [event.get("span_id") for event in events],
        "policy": [_text(event.get("policy")) for event in events],
        "backfill": [event.get("backfill", False) for event in events],
        "attributes.keys": [[k.encode() for k in a] for a in attributes],
        "attributes.values": [[v.encode() for v in a.values()] for a in attributes],
        "protected.subject": [[p["subject"] for p in item] for item in protected],
        "protected.key_id": [[p["key_id"] for p in item] for item in protected],
        "protected.ciphertext": [[p["ciphertext"] for p in item] for item in protected],
        "commitments": [event.get("commitments", []) for event in events],
        "salt": [event["salt"] for event in events],
        "parents.event_id": [[p.event_id for p in item] for item in parents],
        "parents.occurred_at": [[p.occurred_at for p in item] for item in parents],
        "parents.leaf_hash": [[p.leaf_hash for p in item] for item in parents],
    }
    for side in ("inputs", "outputs"):
        lists = [event[side] for event in events]
        columns |= {
            f"{side}.namespace": [[e["namespace"].encode() for e in item] for item in lists],
            f"{side}.name": [[e["name"].encode() for e in item] for item in lists],
            f"{side}.version": [[_text(e["version"]) for e in item] for item in lists],
            f"{side}.digest": [[e["digest"] for e in item] for item in lists],
            f"{side}.size_bytes": [[e["size_bytes"] for e in item] for item in lists],
        }
    return columns


def _edges(batch: VerifiedBatch, meta: Meta, event_ids: list[bytes]) -> Columns:
    statement = batch.statement
    first = statement.first_seq
    found = [
        (index, ordinal, parent)
        for index, parents in enumerate(batch.parents)
        for ordinal, parent in enumerate(parents)
    ]
    count = len(found)
    return {
        "offset": [meta.offset] * count,
        "tenant": [statement.tenant.encode()] * count,
        "parent_id": [parent.event_id for _, _, parent in found],
        "parent_leaf": [parent.leaf_hash for _, _, parent in found],
        "parent_occurred_at": [parent.occurred_at for _, _, parent in found],
        "child_chain": [statement.chain_id] * count,
        "child_seq": [first + index for index, _, _ in found],
        "child_branch": [meta.branch] * count,
        "child_id": [event_ids[index] for index, _, _ in found],
        "ordinal": [ordinal for _, ordinal, _ in found],
        "child_occurred_at": [batch.occurred_at[index] for index, _, _ in found],
        "arrival": [meta.arrival] * count,
    }


def _entities(
    batch: VerifiedBatch, meta: Meta, events: list[dict[str, Any]], event_ids: list[bytes]
) -> Columns:
    statement = batch.statement
    first = statement.first_seq
    found = [
        (index, direction, ordinal, entity)
        for index, event in enumerate(events)
        for direction, side in ((INPUT, "inputs"), (OUTPUT, "outputs"))
        for ordinal, entity in enumerate(event[side])
    ]
    count = len(found)
    types = [event["event_type"].encode() for event in events]
    return {
        "offset": [meta.offset] * count,
        "tenant": [statement.tenant.encode()] * count,
        "namespace": [e["namespace"].encode() for _, _, _, e in found],
        "name": [e["name"].encode() for _, _, _, e in found],
        # No version and an empty one are the same there: a sorting key holds no nulls.
        "version": [(e["version"] or "").encode() for _, _, _, e in found],
        "direction": [direction for _, direction, _, _ in found],
        "ordinal": [ordinal for _, _, ordinal, _ in found],
        "digest": [e["digest"] for _, _, _, e in found],
        "size_bytes": [e["size_bytes"] for _, _, _, e in found],
        "event_id": [event_ids[index] for index, _, _, _ in found],
        "chain_id": [statement.chain_id] * count,
        "seq": [first + index for index, _, _, _ in found],
        "branch": [meta.branch] * count,
        "event_type": [types[index] for index, _, _, _ in found],
        "occurred_at": [batch.occurred_at[index] for index, _, _, _ in found],
        "arrival": [meta.arrival] * count,
    }


def batch_row(batch: VerifiedBatch, meta: Meta) -> Columns:
    """The row of a batch in `batches`."""
    statement = batch.statement
    genesis = statement.genesis
    continues = None if genesis is None else genesis.continues
    return {
        "offset": [meta.offset],
        "tenant": [statement.tenant.encode()],
        "chain_id": [statement.chain_id],
        "batch_seq": [statement.batch_seq],
        "branch": [meta.branch],
        "first_seq": [statement.first_seq],
        "count": [statement.count],
        "statement_hash": [batch.statement_hash],
        "previous": [statement.previous],
        "root": [statement.root],
        "closes": [statement.closes],
        "environment": [statement.environment.encode()],
        "producer": [statement.producer.encode()],
        "instance": [statement.instance.encode()],
        "signers": [list(statement.signers)],
        "heartbeat_s": [0 if genesis is None else genesis.heartbeat_s],
        "continues_chain": [ZERO if continues is None else continues.chain_id],
        "continues_batch": [-1 if continues is None else continues.batch_seq],
        "continues_head": [ZERO if continues is None else continues.head],
        "event_schema": [statement.event_schema],
        "clock_error_us": [statement.clock_error_us],
        "sampled_out": [statement.sampled_out],
        "time_source": [meta.time_source],
        "opened_at": [0 if genesis is None else genesis.opened_at],
        "signed_at": [statement.signed_at],
        "arrival": [meta.arrival],
    }
