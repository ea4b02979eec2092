"""What an attacker would send: messages made from an honest one. Pure, on the contract alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sealtrail import dsse, merkle
from sealtrail.batch import SignedBatch, frame, unframe
from sealtrail.event import Actor, EntityRef, EventType, ProvenanceEvent
from sealtrail.statement import BatchStatement, statement_hash

if TYPE_CHECKING:
    from sealtrail.dsse import Signer


def altered(value: bytes) -> bytes:
    """The message with one bit of its last event flipped; all signatures as they were."""
    schema_id, body = unframe(value)
    batch = SignedBatch.decode(body)
    *before, last = batch.events
    flipped = last[:-1] + bytes([last[-1] ^ 1])
    return frame(schema_id, replace(batch, events=(*before, flipped)).encode())


def impostor(value: bytes, signer: Signer, *, salt: bytes, signed_at: int) -> bytes:
    """The next batch of the message's chain, right in everything but the key that signed it.

    Args:
        value: the last message of a chain.
        signer: a key of the attacker's.
        salt: of the invented event, 16 bytes.
        signed_at: microseconds since 1970.
    """
    schema_id, body = unframe(value)
    batch = SignedBatch.decode(body)
    honest = BatchStatement.decode(batch.statement)
    event = ProvenanceEvent(
        occurred_at=signed_at,
        salt=salt,
        event_type=EventType.CREATE,
        activity="billing.refund",
        actor=Actor(honest.producer),
        outputs=(EntityRef("shop/refunds", "F-00001", "1"),),
    ).encode()
    statement = replace(
        honest,
        kind="EVENTS",
        genesis=None,
        batch_seq=honest.batch_seq + 1,
        first_seq=honest.first_seq + honest.count,
        count=1,
        root=merkle.root([merkle.leaf_hash(event)]),
        previous=statement_hash(batch.statement),
        signed_at=signed_at,
    ).encode()
    signatures = tuple(dsse.sign(dsse.BATCH, statement, [signer]))
    forged = replace(batch, statement=statement, signatures=signatures, events=(event,))
    return frame(schema_id, forged.encode())
