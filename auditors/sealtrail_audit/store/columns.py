"""Which columns are compared, and how they are read so that equal values are equal Python objects.

Times are read as microseconds since 1970, text as bytes, nested columns one list each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Columns = dict[str, list[Any]]


def _micros(name: str) -> str:
    return f"toUnixTimestamp64Micro({name})"


@dataclass(frozen=True)
class Table:
    """A table of the store.

    Args:
        name: of the table.
        key: columns that tell the rows of one message apart; they name a row in a finding.
        plain: columns that are read as they are.
        times: columns of type DateTime64.
        special: column -> expression for all others.
    """

    name: str
    key: tuple[str, ...]
    plain: tuple[str, ...]
    times: tuple[str, ...] = ()
    special: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all compared columns in the order of `query`."""
        return ("offset", *self.plain, *self.times, *self.special)

    def query(self) -> str:
        """Rows of a range of offsets of one partition of a log, by offset and key."""
        parts = [
            "offset",
            *self.plain,
            *(_micros(t) for t in self.times),
            *self.special.values(),
        ]
        order = ", ".join(("offset", *self.key))
        return (
            f"SELECT {', '.join(parts)} FROM {self.name} "  # noqa: S608 - constants of this module
            "WHERE log_id = {log:String} AND topic = {topic:String} "
            "AND partition = {partition:UInt16} AND offset BETWEEN {low:UInt64} AND {high:UInt64} "
            f"ORDER BY {order}"
        )


_ENTITY = ("namespace", "name", "version", "digest", "size_bytes")

EVENTS = Table(
    "events",
    ("seq",),
    (
        "tenant",
        "chain_id",
        "seq",
        "branch",
        "event_id",
        "leaf_hash",
        "batch_seq",
        "time_source",
        "environment",
        "producer",
        "instance",
        "event_type",
        "importance",
        "activity",
        "run_id",
        "actor_id",
        "actor_kind",
        "on_behalf_of",
        "code_repository",
        "code_revision",
        "code_image",
        "trace_id",
        "span_id",
        "policy",
        "backfill",
        "commitments",
        "salt",
    ),
    ("arrival", "signed_at", "occurred_at"),
    {
        **{f"inputs.{name}": f"inputs.{name}" for name in _ENTITY},
        **{f"outputs.{name}": f"outputs.{name}" for name in _ENTITY},
        "attributes.keys": "mapKeys(attributes)",
        "attributes.values": "mapValues(attributes)",
        "protected.subject": "protected.subject",
        "protected.key_id": "protected.key_id",
        "protected.ciphertext": "protected.ciphertext",
        "parents.event_id": "parents.event_id",
        "parents.occurred_at": "arrayMap(t -> toUnixTimestamp64Micro(t), parents.occurred_at)",
        "parents.leaf_hash": "parents.leaf_hash",
    },
)

_EDGE = (
    "tenant",
    "parent_id",
    "parent_leaf",
    "child_chain",
    "child_seq",
    "child_branch",
    "child_id",
    "ordinal",
)
_EDGE_TIMES = ("parent_occurred_at", "child_occurred_at", "arrival")
EDGES_BY_PARENT = Table("edges_by_parent", ("child_seq", "ordinal"), _EDGE, _EDGE_TIMES)
EDGES_BY_CHILD = Table("edges_by_child", ("child_seq", "ordinal"), _EDGE, _EDGE_TIMES)

ENTITY_EVENTS = Table(
    "entity_events",
    ("seq", "direction", "ordinal"),
    (
        "tenant",
        "namespace",
        "name",
        "version",
        "ordinal",
        "digest",
        "size_bytes",
        "event_id",
        "chain_id",
        "seq",
        "branch",
        "event_type",
    ),
    ("occurred_at", "arrival"),
    {"direction": "toInt8(direction)"},
)

BATCHES = Table(
    "batches",
    (),
    (
        "tenant",
        "chain_id",
        "batch_seq",
        "branch",
        "first_seq",
        "count",
        "statement_hash",
        "previous",
        "root",
        "closes",
        "environment",
        "producer",
        "instance",
        "signers",
        "heartbeat_s",
        "continues_chain",
        "continues_batch",
        "continues_head",
        "event_schema",
        "clock_error_us",
        "sampled_out",
        "time_source",
    ),
    ("opened_at", "signed_at", "arrival"),
)

PAYLOADS = Table(
    "payloads",
    (),
    ("key", "value"),
    ("arrival",),
    {"headers.name": "headers.name", "headers.value": "headers.value"},
)

DISPOSITIONS = Table(
    "dispositions",
    (),
    (
        "time_source",
        "disposition",
        "code",
        "step",
        "detail",
        "digest",
        "chain_id",
        "batch_seq",
        "branch",
        "events",
        "from_log_id",
        "from_topic",
        "from_partition",
        "from_offset",
    ),
    ("arrival",),
)

QUARANTINE = Table(
    "quarantine",
    (),
    ("key", "value", "disposition", "code", "step", "detail"),
    ("arrival",),
    {"headers.name": "headers.name", "headers.value": "headers.value"},
)

PER_EVENT = (EVENTS, EDGES_BY_PARENT, EDGES_BY_CHILD, ENTITY_EVENTS)
