"""Seeded edits of stored rows and parts, and whether `sealtrail audit store` names each of them.

All edits are made as somebody would who may write to the store, in one go; then one audit is run.
An edit is located when the audit has a finding of the right code about that table and message; a
finding that belongs to no edit is a false one. At most one edit hits a message, so that none hides
another; a commit whose digest is involved (an edit of `dispositions` or `commits`) bears one edit.
"""

from __future__ import annotations

import json
import random
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.scenarios import conservation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from tests.attacks.parts import Gone

# The byte in the middle with one bit changed.
BENT = "char(bitXor(reinterpretAsUInt8(substring(value, 301, 1)), 1))"
# What an edit writes: table, column, expression over the row.
UPDATES = [
    ("events", "activity", "'forged'"),
    ("events", "salt", "reverse(salt)::FixedString(16)"),
    ("events", "leaf_hash", "reverse(leaf_hash)::FixedString(32)"),
    ("events", "attributes", "map('region', 'us')"),
    ("events", "inputs", "arrayResize(inputs, 0)"),
    ("events", "signed_at", "signed_at + 1"),
    ("edges_by_parent", "parent_leaf", "reverse(parent_leaf)::FixedString(32)"),
    ("edges_by_child", "parent_leaf", "reverse(parent_leaf)::FixedString(32)"),
    ("edges_by_child", "child_occurred_at", "child_occurred_at + 1"),
    ("entity_events", "size_bytes", "7"),
    ("batches", "root", "reverse(root)::FixedString(32)"),
    ("batches", "statement_hash", "reverse(statement_hash)::FixedString(32)"),
    ("batches", "signed_at", "signed_at + 1"),
    ("payloads", "value", f"concat(substring(value, 1, 300), {BENT}, substring(value, 302))"),
    ("payloads", "value", "''"),
    ("payloads", "key", "'x'"),
    ("dispositions", "digest", "reverse(digest)::FixedString(32)"),
    ("dispositions", "disposition", "'quarantined'"),
    ("dispositions", "events", "99999"),
]
PER_EVENT = ("events", "edges_by_parent", "edges_by_child", "entity_events")
TABLES = (*PER_EVENT, "batches", "payloads", "dispositions")
# Of a hundred edits so many are of a kind.
KINDS = {"update": 55, "delete": 20, "add": 15, "replace": 10}
CODES = {
    "update": "ROW_CHANGED",
    "replace": "ROW_CHANGED",
    "delete": "ROW_MISSING",
    "add": "ROW_ADDED",
}


@dataclass(frozen=True, slots=True)
class Message:
    """An accepted message and the commit that it belongs to."""

    log_id: str
    topic: str
    partition: int
    offset: int
    first_seq: int
    count: int
    commit: int


@dataclass(frozen=True, slots=True)
class Edit:
    """What was done to one row of a message: kind, table, column, expression, sequence number."""

    kind: str
    message: Message
    table: str
    column: str = ""
    value: str = ""
    seq: int = -1

    @property
    def named(self) -> tuple[str, str, int, int]:
        """As a finding of the audit names it: code, table, partition, offset."""
        at = self.message
        return CODES[self.kind], self.table, at.partition, at.offset


def command(settings: Mapping[str, str], sql: str) -> None:
    """Run a statement as the store's writer, over HTTP."""
    headers = {
        "X-ClickHouse-User": settings["SEALTRAIL_STORE_USER"],
        "X-ClickHouse-Key": settings["SEALTRAIL_STORE_PASSWORD"],
    }
    url = f"{settings['SEALTRAIL_STORE_URL']}/?database=sealtrail&max_query_size=100000000"
    request = urllib.request.Request(url, data=sql.encode(), headers=headers)  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=600) as reply:  # noqa: S310 - see above
            reply.read()
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{sql[:300]}: {error.read().decode(errors='replace')}") from None


def messages(settings: Mapping[str, str]) -> list[Message]:
    """Accepted messages of whole chains of events that have a parent and an input each."""
    rows = conservation.query(
        settings,
        "SELECT log_id, topic, partition, offset, first_seq, count FROM committed_batches "
        "WHERE batch_seq > 0 AND count > 0 AND producer = 'load' "
        "ORDER BY log_id, partition, offset",
    )
    commits = conservation.query(
        settings,
        "SELECT log_id, partition, first_offset, last_offset FROM commits FINAL "
        "WHERE kind != 'lost' ORDER BY log_id, partition, first_offset",
    )
    of = {
        (c["log_id"], c["partition"], offset): number
        for number, c in enumerate(commits)
        for offset in range(c["first_offset"], c["last_offset"] + 1)
    }
    return [
        Message(**row, commit=of[row["log_id"], row["partition"], row["offset"]]) for row in rows
    ]


def plan(found: Sequence[Message], count: int, seed: int) -> list[Edit]:
    """So many edits, each of another message."""
    rng = random.Random(seed)
    order = rng.sample(found, len(found))
    edits: list[Edit] = []
    single, used = set(), Counter[int]()
    for message in order:
        if len(edits) == count:
            break
        if message.commit in single:
            continue
        (kind,) = rng.choices(list(KINDS), weights=list(KINDS.values()))
        seq = message.first_seq + rng.randrange(message.count)
        if kind in ("update", "replace"):
            table, column, value = rng.choice(UPDATES)
        else:
            table, column, value = rng.choice(TABLES), "", ""
        if kind == "add" and table not in PER_EVENT:
            # A second row of a message with the same key would be a replacement.
            table = rng.choice(PER_EVENT)
        if table == "dispositions":
            if used[message.commit]:
                continue
            single.add(message.commit)
        used[message.commit] += 1
        edits.append(Edit(kind, message, table, column, value, seq))
    return edits


def _where(table: str, edits: Iterable[Edit]) -> str:
    """The rows that edits of one table hit: one of each."""
    seq = "child_seq" if table.startswith("edges") else "seq"
    if table not in PER_EVENT:
        keys = ", ".join(f"({e.message.partition}, {e.message.offset})" for e in edits)
        return f"(partition, offset) IN ({keys})"
    keys = ", ".join(f"({e.message.partition}, {e.message.offset}, {e.seq})" for e in edits)
    one = " AND direction = 'input' AND ordinal = 0" if table == "entity_events" else ""
    one = " AND ordinal = 0" if table.startswith("edges") else one
    return f"(partition, offset, {seq}) IN ({keys}){one}"


def statements(edits: Sequence[Edit]) -> list[str]:
    """SQL that makes the edits: one statement for all of a kind, table and column."""
    groups: dict[tuple[str, str, str, str], list[Edit]] = {}
    for edit in edits:
        groups.setdefault((edit.kind, edit.table, edit.column, edit.value), []).append(edit)
    made = []
    # Rows are copied before they are changed.
    order = {"add": 0, "replace": 0, "update": 1, "delete": 2}
    for (kind, table, column, value), group in sorted(groups.items(), key=lambda g: order[g[0][0]]):
        where = _where(table, group)
        seq = "child_seq" if table.startswith("edges") else "seq"
        if kind == "update":
            sql = f"ALTER TABLE {table} UPDATE {column} = {value} WHERE {where}"
        elif kind == "delete":
            sql = f"ALTER TABLE {table} DELETE WHERE {where}"
        else:
            change = f"{value} AS {column}" if column else f"toUInt64({seq} + 9999999) AS {seq}"
            # Inside, for a WHERE beside REPLACE would mean the replaced columns.
            rows = f"(SELECT * FROM {table} WHERE {where})"
            sql = f"INSERT INTO {table} SELECT * REPLACE({change}) FROM {rows}"
        end = "mutations_sync = 2" if sql.startswith("ALTER") else "insert_deduplicate = 0"
        made.append(f"{sql} SETTINGS {end}")
    return made


def run(
    folder: Path, count: int, seed: int, gone: Sequence[Gone], audit: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Make the edits and audit; figures.

    Args:
        folder: of an embedded stack whose worker has ended, full of events of `load`.
        count: edits of rows.
        seed: chooses them.
        gone: parts that are gone already; their messages are not edited.
        audit: runs `sealtrail audit store --json`.
    """
    settings = conservation.variables(folder)
    places = {place for part in gone for place in part.places}
    left = [m for m in messages(settings) if (m.partition, m.offset) not in places]
    edits = plan(left, count, seed)
    for sql in statements(edits):
        command(settings, sql)
    began = time.monotonic()
    report = audit()
    seconds = time.monotonic() - began
    return judge(edits, gone, report) | {
        "events": report["events"],
        "messages": report["messages"],
        "audit_seconds": round(seconds, 1),
        "seconds_per_million_events": round(seconds / max(report["events"], 1) * 1e6, 1),
    }


def judge(edits: Sequence[Edit], gone: Sequence[Gone], report: Mapping[str, Any]) -> dict[str, Any]:
    """Which edits the findings of an audit name, and which findings name none."""
    found = [
        (f["code"], f["table"], int(f["key"].get("partition", -1)), int(f["key"].get("offset", -1)))
        for f in report["findings"]
    ]
    there = set(found)
    missed = [e for e in edits if e.named not in there]
    lacking = [part for part in gone if not part.named <= there]
    wanted = {e.named for e in edits}.union(*(part.named for part in gone))
    false = [f for f in found if f not in wanted]
    by_kind = Counter(f"{e.kind} {e.table}" for e in edits)
    by_part = Counter(f"part {part.kind}" for part in gone)
    return {
        "edits": len(edits) + len(gone),
        "located": len(edits) - len(missed) + len(gone) - len(lacking),
        "false": len(false) + int(report["findings_left_out"]),
        "rows_edited": len(edits),
        "parts": dict(by_part),
        "parts_missed": dict(Counter(f"part {part.kind}" for part in lacking)),
        "missed": [str(e) for e in missed[:10]] + [f"{p.kind} {p.name}" for p in lacking],
        "not_ours": [json.dumps(f) for f in false[:10]],
        "kinds": dict(sorted((by_kind | by_part).items())),
        "codes": dict(sorted(report["counts"].items())),
    }
