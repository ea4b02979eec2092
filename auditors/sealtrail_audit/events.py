"""`sealtrail event show`: an event, where it stands, what proves it, causes and consequences."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sealtrail import ids
from sealtrail.errors import SealtrailError
from sealtrail_audit.proof import Proof, Stored, prove

if TYPE_CHECKING:
    from sealtrail_audit.reader import Reader
    from sealtrail_audit.trust import Trust

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FOREVER = 2**63 - 1


def micros_text(micros: int) -> str:
    """A time in microseconds since 1970 as ISO 8601 in UTC."""
    try:
        return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds")
    except OverflowError:
        return f"{micros} us"


def find(reader: Reader, event_id: bytes) -> list[Stored]:
    """The rows of an event; more than one when its chain was forked.

    Raises:
        SealtrailError: the store has none.
    """
    sql = """
        SELECT e.chain_id, e.seq, e.branch, e.leaf_hash, e.log_id, e.topic, e.partition, e.offset,
            toUnixTimestamp64Micro(e.arrival), d.from_topic != '', r.at
        FROM committed_events AS e
        LEFT JOIN dispositions AS d FINAL USING (log_id, topic, partition, offset)
        LEFT JOIN (
            SELECT log_id, topic, partition, offset, toUnixTimestamp64Micro(min(arrival)) AS at
            FROM receipts GROUP BY log_id, topic, partition, offset
        ) AS r USING (log_id, topic, partition, offset)
        WHERE e.event_id = toFixedString(unhex({id:String}), 16)
        ORDER BY e.branch
    """
    rows = reader.rows(sql, {"id": event_id.hex()})
    if not rows:
        raise SealtrailError(
            f"the store has no event {ids.text(event_id)}",
            hint="it may be on its way, or refused: see provenance.quarantined",
        )
    found = []
    for row in rows:
        *coordinates, arrival, released, receipt = row
        # A released message is judged by what was known when it was released.
        known_at = (receipt or FOREVER) if released else arrival
        chain_id, seq, branch, leaf_hash, log_id, topic, partition, offset = coordinates
        place = (log_id, topic, partition, offset)
        found.append(Stored(chain_id, seq, branch, leaf_hash, *place, arrival, known_at))
    return found


def payload(reader: Reader, stored: Stored) -> bytes | None:
    """The Kafka value at an event's coordinates."""
    sql = """
        SELECT hex(value) FROM payloads FINAL
        WHERE log_id = {log:String} AND topic = {topic:String}
          AND partition = {partition:UInt16} AND offset = {offset:UInt64}
        LIMIT 1
    """
    parameters = {
        "log": stored.log_id,
        "topic": stored.topic,
        "partition": stored.partition,
        "offset": stored.offset,
    }
    rows = reader.rows(sql, parameters)
    return bytes.fromhex(rows[0][0]) if rows else None


def children(reader: Reader, event_id: bytes) -> int:
    """How many stored events name this one as a parent."""
    sql = """
        SELECT uniqExact(child_chain, child_seq, child_branch) FROM committed_edges_by_parent
        WHERE parent_id = toFixedString(unhex({id:String}), 16)
    """
    return int(reader.rows(sql, {"id": event_id.hex()})[0][0])


def verdicts(reader: Reader, stored: Stored) -> dict[int, str]:
    """What the linker said of each parent, by its place in the list of parents."""
    sql = """
        SELECT ordinal, argMax(verdict, version) FROM link_verdicts
        WHERE child_chain = toFixedString(unhex({chain:String}), 32) AND child_seq = {seq:UInt64}
          AND child_branch = {branch:UInt32}
        GROUP BY ordinal
    """
    parameters = {"chain": stored.chain_id.hex(), "seq": stored.seq, "branch": stored.branch}
    return dict(reader.rows(sql, parameters))


def show(reader: Reader, environment: str, trust: Trust, event_id: bytes) -> list[dict[str, Any]]:
    """All that is known of an event, verified anew from stored bytes; one entry a branch."""
    shown = []
    for stored in find(reader, event_id):
        proof = prove(stored, payload(reader, stored), environment, trust)
        shown.append(
            {
                "id": ids.text(event_id),
                "position": _position(stored),
                "event": None if proof.event is None else plain(proof.event),
                "parents": _parents(proof, verdicts(reader, stored)),
                "children": children(reader, event_id),
                "proof": describe(proof),
            }
        )
    return shown


def _position(stored: Stored) -> dict[str, Any]:
    return {
        "chain_id": stored.chain_id,
        "seq": stored.seq,
        "branch": stored.branch,
        "log_id": stored.log_id,
        "topic": stored.topic,
        "partition": stored.partition,
        "offset": stored.offset,
        "arrival": micros_text(stored.arrival),
    }


def _parents(proof: Proof, by_ordinal: dict[int, str]) -> list[dict[str, Any]]:
    if proof.batch is None or proof.event is None:
        return []
    return [
        {
            "id": ids.text(parent.event_id) if len(parent.event_id) == 16 else parent.event_id,
            "occurred_at": micros_text(parent.occurred_at),
            "verdict": by_ordinal.get(ordinal, "PENDING"),
        }
        for ordinal, parent in enumerate(proof.batch.parents[proof.index])
    ]


def describe(proof: Proof) -> dict[str, Any]:
    """A proof as plain values: verified or the problems, the batch, its signers, the path."""
    value: dict[str, Any] = {"verified": not proof.problems, "problems": list(proof.problems)}
    if proof.batch is not None:
        statement = proof.batch.statement
        value |= {
            "leaf_hash": proof.leaf_hash,
            "index": proof.index,
            "path": list(proof.path),
            "root": statement.root,
            "batch_seq": statement.batch_seq,
            "events_in_batch": statement.count,
            "statement_hash": proof.batch.statement_hash,
            "producer": statement.producer,
            "instance": statement.instance,
            "signed_at": micros_text(statement.signed_at),
            "signers": list(statement.signers),
        }
    return value


def plain(event: dict[str, Any]) -> dict[str, Any]:
    """A decoded event for people: times as text, ids as UUIDs, parents apart."""
    shown = {key: value for key, value in event.items() if key not in ("parents", "salt")}
    shown["occurred_at"] = micros_text(event["occurred_at"])
    return shown
