"""A message in quarantine taken apart as far as it goes, and what lies around it.

Nothing here is believed: what is read of an envelope or statement is what the message *says*. Pure
but for `around`, which asks the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealtrail import avro
from sealtrail.batch import SignedBatch, unframe
from sealtrail.causal import causal_prefix
from sealtrail.dsse import HEARTBEAT
from sealtrail.errors import ContractError, MalformedError
from sealtrail.statement import read_signers
from sealtrail.validate import Place, Refused, validate
from sealtrail_processor.quarantine.advice import STEPS, next_step

if TYPE_CHECKING:
    from sealtrail.records import Directory
    from sealtrail_processor.quarantine.held import Held
    from sealtrail_processor.store.port import Store

SHOWN_BYTES = 4096
SHOWN_EVENTS = 5
NEIGHBOURS = 3


def dissect(held: Held, directory: Directory | None, place: Place, now: int) -> dict[str, Any]:
    """Everything that can be said of a message by itself.

    Args:
        held: the message.
        directory: keys and schemas as they are known today; None without a trust root.
        place: what this pipeline serves, at the message's partition.
        now: microseconds since 1970.
    """
    step = f"{held.step}: {STEPS.get(held.step, 'unknown')}"
    found: dict[str, Any] = {"failed_step": step, "detail": held.detail}
    found |= {"key": held.key, "headers": [[n, _text(v)] for n, v in held.headers]}
    passes = False
    if directory is not None:
        outcome = validate(held.value, place, held.arrival, directory, known_at=now)
        passes = not isinstance(outcome, Refused)
        found["judged_today"] = (
            f"{outcome.code} at step {outcome.step}: {outcome.detail}"
            if isinstance(outcome, Refused)
            else "steps 1 to 9 hold"
        )
    found |= _layers(held.value, directory)
    found["next"] = next_step(held.code, passes_now=passes, name=held.name)
    return found


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _layers(value: bytes | None, directory: Directory | None) -> dict[str, Any]:
    """From the outside inwards, until something cannot be read."""
    if value is None:
        return {"unreadable": "framing: the message has no value"}
    shown = {"value": value[:SHOWN_BYTES]}
    try:
        schema_id, body = unframe(value)
    except ContractError as error:
        return shown | {"unreadable": f"framing: {error.message}"}
    found: dict[str, Any] = {"framing": {"schema_id": schema_id, "body_bytes": len(body)}}
    try:
        envelope = SignedBatch.decode(body)
    except ContractError as error:
        return found | shown | {"unreadable": f"envelope: {error.message}"}
    found["envelope"] = {
        "payload_type": envelope.payload_type,
        "statement_bytes": len(envelope.statement),
        "signature_bytes": [len(s) for s in envelope.signatures],
        "event_schema_id": envelope.event_schema_id,
        "events": len(envelope.events),
        "event_bytes": sum(map(len, envelope.events)),
        "disclosures": len(envelope.disclosures),
    }
    found |= _statement(envelope)
    found["signers"] = _signers(envelope, directory)
    found["events"] = [_event(event) for event in envelope.events[:SHOWN_EVENTS]]
    return found


def _statement(envelope: SignedBatch) -> dict[str, Any]:
    name = "Heartbeat" if envelope.payload_type == HEARTBEAT else "BatchStatement"
    try:
        return {"statement": avro.codec(name).decode(envelope.statement)}
    except ContractError as error:
        why = f"statement: {error.message}"
        return {"statement_bytes": envelope.statement[:SHOWN_BYTES], "unreadable": why}


def _signers(envelope: SignedBatch, directory: Directory | None) -> list[dict[str, Any]]:
    names = 0 if envelope.payload_type == HEARTBEAT else 6
    try:
        signers = read_signers(envelope.statement, names=names)
    except MalformedError:
        return []
    shown: list[dict[str, Any]] = []
    for fingerprint in signers:
        entry: dict[str, Any] = {"fingerprint": fingerprint}
        record = None if directory is None else directory.key(fingerprint, 2**63 - 1)
        if record is not None:
            end = record.revocation
            entry |= {"producer": record.producer, "environment": record.environment}
            entry["revoked"] = "" if end is None else end.reason
        elif directory is not None:
            entry["producer"] = None
        shown.append(entry)
    return shown


def _event(event: bytes) -> dict[str, Any]:
    """As today's schema reads it, else its causal prefix alone."""
    try:
        value: dict[str, Any] = avro.codec("ProvenanceEvent").decode(event)
    except ContractError:
        try:
            occurred_at, parents = causal_prefix(event)
        except ContractError as error:
            return {"event": event[:SHOWN_BYTES], "unreadable": error.message}
        return {"occurred_at": occurred_at, "parents": [p.event_id for p in parents]}
    names = ("occurred_at", "event_type", "activity", "actor", "inputs", "outputs")
    return {name: value[name] for name in names}


_NEAR = """
    SELECT offset, toUnixTimestamp64Micro(arrival), disposition, code, chain_id, batch_seq, events
    FROM committed_dispositions
    WHERE log_id = {log_id:String} AND topic = {topic:String} AND partition = {partition:UInt16}
      AND offset BETWEEN {low:UInt64} AND {high:UInt64}
    ORDER BY offset
"""
_CHAIN = """
    SELECT batch_seq, branch, offset, toUnixTimestamp64Micro(arrival), producer, instance,
        statement_hash
    FROM committed_batches
    WHERE chain_id = {chain:FixedString(32)}
      AND batch_seq BETWEEN {low:UInt64} AND {high:UInt64}
    ORDER BY batch_seq, branch
"""
_ACTS = """
    SELECT act, toUnixTimestamp64Micro(at), new_offset FROM quarantine_acts FINAL
    WHERE log_id = {log_id:String} AND topic = {topic:String} AND partition = {partition:UInt16}
      AND offset = {offset:UInt64}
    ORDER BY at
"""


def around(store: Store, held: Held, statement: dict[str, Any] | None) -> dict[str, Any]:
    """What lies around a message: in its partition, in the chain that it names, and what was done.

    Args:
        store: where it lies.
        held: the message.
        statement: what it says of itself, if that could be read.
    """
    place: dict[str, object] = {
        "log_id": held.log.log_id,
        "topic": held.log.topic,
        "partition": held.log.partition,
    }
    ends = {"low": max(held.offset - NEIGHBOURS, 0), "high": held.offset + NEIGHBOURS}
    names = ("offset", "arrival", "disposition", "code", "chain_id", "batch_seq", "events")
    near = [
        dict(zip(names, row, strict=True))
        for row in store.query(_NEAR, place | ends)
        if row[0] != held.offset
    ]
    chain: list[dict[str, Any]] = []
    if statement is not None:
        number = int(statement["batch_seq"])
        ends = {"low": max(number - NEIGHBOURS, 0), "high": max(number, 0) + NEIGHBOURS}
        names = ("batch_seq", "branch", "offset", "arrival", "producer", "instance", "statement")
        rows = store.query(_CHAIN, {"chain": statement["chain_id"], **ends})
        chain = [dict(zip(names, row, strict=True)) for row in rows]
    acts = [
        dict(zip(("act", "at", "new_offset"), row, strict=True))
        for row in store.query(_ACTS, place | {"offset": held.offset})
    ]
    return {"neighbours": near, "chain": chain, "acts": acts}
