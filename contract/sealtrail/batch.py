"""The Kafka value: Confluent framing around a SignedBatch.

Framing: magic byte 0, four bytes of big-endian schema id, Avro body (Confluent wire format).
Neither the framing, nor `event_schema_id`, nor `disclosures` is signed: they are hints and extras,
and nothing may follow from them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sealtrail import avro, dsse
from sealtrail.errors import MalformedError

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
MAX_EVENTS = 65_536
_FRAME = struct.Struct(">bI")


@dataclass(frozen=True, slots=True)
class SignedBatch:
    """An envelope: signed statement or heartbeat, signatures and events, all as exact bytes."""

    payload_type: str
    statement: bytes
    signatures: tuple[bytes, ...]
    event_schema_id: int
    events: tuple[bytes, ...]
    disclosures: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Canonical Avro of the envelope, without framing."""
        return avro.codec("SignedBatch").encode(
            {
                "payload_type": self.payload_type,
                "statement": self.statement,
                "signatures": list(self.signatures),
                "event_schema_id": self.event_schema_id,
                "events": list(self.events),
                "disclosures": list(self.disclosures),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> SignedBatch:
        """Read an envelope, without framing; the payload type is not judged here.

        Raises:
            MalformedError: not an envelope.
            NotCanonicalError: another encoding than the canonical one.
        """
        value = avro.codec("SignedBatch").decode(data)
        return cls(
            value["payload_type"],
            value["statement"],
            tuple(value["signatures"]),
            value["event_schema_id"],
            tuple(value["events"]),
            tuple(value["disclosures"]),
        )


def frame(schema_id: int, body: bytes) -> bytes:
    """Confluent framing: schema_id is the registry's id of the SignedBatch schema."""
    return _FRAME.pack(0, schema_id) + body


def unframe(value: bytes) -> tuple[int, bytes]:
    """(schema id, body) of a Kafka value.

    Raises:
        MalformedError: empty, too large, or another magic byte than 0.
    """
    if len(value) > MAX_MESSAGE_BYTES:
        raise MalformedError(f"message has {len(value)} bytes, more than {MAX_MESSAGE_BYTES}")
    if len(value) <= _FRAME.size or value[0] != 0:
        raise MalformedError("message is not in Confluent framing (magic byte 0, schema id, body)")
    return int.from_bytes(value[1:5], "big"), value[5:]


def is_batch(payload_type: str) -> bool:
    """Whether an envelope of this type belongs on the events topic and holds events."""
    return payload_type == dsse.BATCH
