"""Event ids: UUID version 8 (RFC 9562 section 5.8) that carry their chain and position.

Bits from the most significant: 48 of the chain id, version 8 (4 bits), 12 of the chain id, variant
10 (2 bits), 22 of the chain id, 40 of sequence number. 82 bits of a chain id in all.
"""

from __future__ import annotations

from uuid import UUID

from sealtrail.errors import MalformedError

MAX_SEQ = 2**40 - 1
CHAIN_BITS = 82


def chain_prefix(chain_id: bytes) -> int:
    """The first 82 bits of a chain id (32 bytes) as a number."""
    return int.from_bytes(chain_id[:11], "big") >> 6


def chain_range(prefix: int) -> tuple[bytes, bytes]:
    """The first and the last chain id (32 bytes) that begin with 82 bits."""
    rest = 256 - CHAIN_BITS
    low = prefix << rest
    return low.to_bytes(32, "big"), (low + (1 << rest) - 1).to_bytes(32, "big")


def template(chain_id: bytes) -> int:
    """The event id of sequence number 0 as a number: add a sequence number to get another's."""
    bits = chain_prefix(chain_id)
    return (
        (bits >> 34) << 80
        | 8 << 76
        | (bits >> 22 & 0xFFF) << 64
        | 2 << 62
        | (bits & 0x3FFFFF) << 40
    )


def event_id(chain_id: bytes, seq: int) -> bytes:
    """The id of an event, 16 bytes.

    Raises:
        MalformedError: seq is not in 0..2^40-1.
    """
    if not 0 <= seq <= MAX_SEQ:
        raise MalformedError(f"sequence number {seq} is not in 0..2^40-1")
    return (template(chain_id) | seq).to_bytes(16, "big")


def is_event_id(value: bytes) -> bool:
    """Whether 16 bytes are a UUID of version 8 (RFC 9562 section 5.8)."""
    return len(value) == 16 and value[6] >> 4 == 8 and value[8] >> 6 == 2


def parse(event_id: bytes) -> tuple[int, int]:
    """(first 82 bits of the chain id, sequence number) of an event id.

    Raises:
        MalformedError: not a UUID of version 8.
    """
    if not is_event_id(event_id):
        raise MalformedError("event id is not a UUID of version 8")
    number = int.from_bytes(event_id, "big")
    bits = (number >> 80) << 34 | (number >> 64 & 0xFFF) << 22 | number >> 40 & 0x3FFFFF
    return bits, number & MAX_SEQ


def text(event_id: bytes) -> str:
    """An event id as people write it (RFC 9562 section 4)."""
    return str(UUID(bytes=event_id))


def from_text(value: str) -> bytes:
    """The 16 bytes of an event id that a person wrote.

    Raises:
        MalformedError: not a UUID of version 8.
    """
    try:
        raw = UUID(value).bytes
    except ValueError:
        raise MalformedError(
            f"{value!r} is not a UUID", hint="write it as xxxxxxxx-xxxx-8xxx-xxxx-xxxxxxxxxxxx"
        ) from None
    parse(raw)
    return raw
