"""From a signed statement to the Kafka message, and from a message to the chain's head. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from sealtrail import dsse
from sealtrail.batch import SignedBatch, frame, unframe
from sealtrail.errors import ContractError
from sealtrail.statement import BatchStatement, Continues, Identity, statement_hash
from sealtrail_producer.ports import Message
from sealtrail_producer.registration import SchemaIds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail_producer.chain_writer import ChainWriter, Sealed
    from sealtrail_producer.spool_record import Record

NO_IDS = SchemaIds(0, 0)


def batch_message(sealed: Sealed, events: Sequence[bytes], ids: SchemaIds | None) -> Message:
    """The message of a batch; without ids its value is the bare envelope, framed later."""
    statement = sealed.statement
    envelope = SignedBatch(
        dsse.BATCH, sealed.body, sealed.signatures, (ids or NO_IDS).event, tuple(events)
    )
    body = envelope.encode()
    name = f"{statement.chain_id.hex()}:{statement.batch_seq}"
    headers = (
        *_headers(statement.identity, dsse.BATCH, name, statement.signed_at),
        ("ce_sequence", str(statement.batch_seq).encode()),
    )
    value = body if ids is None else frame(ids.batch, body)
    return Message(statement.topic, statement.partition, statement.chain_id, headers, value)


def framed(message: Message, ids: SchemaIds) -> Message:
    """A message whose value was a bare envelope, with the ids: always the same bytes."""
    envelope = replace(SignedBatch.decode(message.value), event_schema_id=ids.event)
    return replace(message, value=frame(ids.batch, envelope.encode()))


def heartbeat_message(
    chain: ChainWriter, batch_seq: int, head: bytes, time_us: int, ids: SchemaIds
) -> Message:
    """The message of a heartbeat."""
    body, signatures = chain.heartbeat(batch_seq, head, time_us)
    envelope = SignedBatch(dsse.HEARTBEAT, body, signatures, ids.event, ())
    name = f"{chain.chain_id.hex()}:{batch_seq}:{time_us}"
    headers = _headers(chain.identity, dsse.HEARTBEAT, name, time_us)
    identity = chain.identity
    value = frame(ids.batch, envelope.encode())
    return Message(identity.topic, identity.partition, chain.chain_id, headers, value)


def _headers(
    identity: Identity, payload_type: str, name: str, time_us: int
) -> tuple[tuple[str, bytes], ...]:
    """CloudEvents 1.0, Kafka binding section 3.2; the statement says all of it too."""
    names = (identity.environment, identity.tenant, identity.producer, identity.instance)
    source = "/".join(("", "sealtrail", *(quote(name, safe="") for name in names)))
    seconds, micros = divmod(time_us, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
    kind = payload_type.removeprefix(dsse.PREFIX).removesuffix("+avro")
    return (
        ("content-type", payload_type.encode()),
        ("ce_specversion", b"1.0"),
        ("ce_id", name.encode()),
        ("ce_source", source.encode()),
        ("ce_type", f"sealtrail.{kind}".encode()),
        ("ce_time", moment.isoformat().replace("+00:00", "Z").encode()),
    )


def continuation(record: Record | None, identity: Identity) -> Continues | None:
    """The head that a new chain may continue.

    That is the last one in the spool, if it was on disk before it was sent.

    Args:
        record: the last record of the spool.
        identity: of the new chain; a head of another producer, tenant, environment or topic is not
            continued.
    """
    if record is None or not record.durable:
        return None
    value = record.message.value
    try:
        body = unframe(value)[1] if record.framed else value
        raw = SignedBatch.decode(body).statement
        statement = BatchStatement.decode(raw)
    except ContractError:
        return None
    same = replace(statement.identity, partition=identity.partition) == identity
    if not same:
        return None
    return Continues(statement.chain_id, statement.batch_seq, statement_hash(raw))
