"""Messages that somebody without the producer's key makes of honest ones, from a seed.

Families: bytes bent in transit, envelopes taken apart and put together otherwise, other encodings
of the same values (all from tests/contract/mutations.py); and, structure-aware: single fields of a
statement or an event changed and encoded again, events exchanged between batches, whole batches
signed with keys that must not speak here.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.contract import mutations as m
from tests.contract import world as w

from sealtrail import avro, dsse, merkle
from sealtrail.errors import ContractError
from sealtrail.statement import BatchStatement, Continues, Genesis, Heartbeat

if TYPE_CHECKING:
    from random import Random

    from sealtrail.batch import SignedBatch

# Keys that are not orders', not valid then, or not known: nobody may speak with them here.
WRONG_KEYS = tuple(m.SIGNERS[n] for n in ("billing", "unknown", "elsewhere", "staging", "not yet"))
TEXTS = ("", "x", "prod", "other.events", "orders2", "\x00", "\u202e", "ä" * 300)
NUMBERS = (-(2**63), -1, 0, 1, 2, 7, 255, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1)
EVENT = avro.codec("ProvenanceEvent")


def message(rng: Random) -> bytes | None:
    """A mutated message."""
    return rng.choice(FAMILIES)(rng)


def bent_bytes(rng: Random) -> bytes | None:
    """Bytes bent in transit, at least once."""
    return m.bent_bytes(rng, (1, 1, 1, 2, 3))


def bent_statement(rng: Random) -> bytes:
    """One field of the statement is another; the signature is the one of before."""
    honest = m.honest(rng)
    if honest.payload_type == dsse.HEARTBEAT:
        beat = Heartbeat.decode(honest.statement)
        name = rng.choice(("batch_seq", "time", "chain_id", "head"))
        changed: Any = replace(beat, **{name: _other(getattr(beat, name), rng)})
    else:
        statement = BatchStatement.decode(honest.statement)
        name = rng.choice([f.name for f in fields(BatchStatement)])
        before = getattr(statement, name)
        other: Any = m.ONE.genesis if name == "genesis" else 0
        change: dict[str, Any] = {name: other if before is None else _other(before, rng)}
        changed = replace(statement, **change)
    try:
        body = changed.encode()
    except ContractError:
        # It has no encoding: a bit of the old one then.
        body = _flipped(honest.statement, rng)
    return w.framed(replace(honest, statement=body))


def bent_event(rng: Random) -> bytes:
    """One field of an event is another; statement and signature are those of before."""
    honest = m.honest(rng)
    if not honest.events:
        return w.framed(replace(honest, events=(rng.choice(m.EVENTS),)))
    at = rng.randrange(len(honest.events))
    value = dict(_decoded(honest.events[at]))
    name = rng.choice(list(value))
    value[name] = _other(value[name], rng)
    try:
        data = EVENT.encode(value)
    except ContractError:
        data = _flipped(honest.events[at], rng)
    return w.framed(_with_event(honest, at, data))


def exchanged(rng: Random) -> bytes:
    """A batch with events, statement or signatures of another."""
    one, other = m.honest(rng), m.honest(rng)
    while one is other:
        other = m.honest(rng)
    if one.events and other.events and rng.random() < 0.5:
        at = rng.randrange(len(one.events))
        return w.framed(_with_event(one, at, rng.choice(other.events)))
    name = rng.choice(("statement", "signatures", "events", "payload_type"))
    return w.framed(replace(one, **{name: getattr(other, name)}))


def wrongly_signed(rng: Random) -> bytes:
    """A batch that is honest but for its signer; or one that is bent besides."""
    value = bytearray(_signed_by(rng.choice(WRONG_KEYS), rng.randrange(4)))
    if rng.random() < 0.7:
        at = rng.randrange(len(value))
        value[at] ^= 1 << rng.randrange(8)
    return bytes(value)


FAMILIES = (
    *(bent_bytes, bent_bytes, m.bent_envelope, m.bent_encoding, bent_statement),
    *(bent_event, bent_event, bent_event, exchanged, exchanged, wrongly_signed),
)


@cache
def _signed_by(key: w.TestKey, number: int) -> bytes:
    events = ((m.EVENTS[0],), tuple(m.EVENTS), (m.FULL,), (m.EVENTS[1],))[number]
    statement = replace(
        w.Producer().statement(events),
        signers=(key.public_key.fingerprint,),
        root=merkle.root([merkle.leaf_hash(e) for e in events]),
    )
    return w.framed(w.seal(statement.encode(), events, (key,)))


@cache
def _decoded(event: bytes) -> Any:
    return EVENT.decode(event)


def _with_event(honest: SignedBatch, at: int, data: bytes) -> SignedBatch:
    return replace(honest, events=(*honest.events[:at], data, *honest.events[at + 1 :]))


def _flipped(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _other(value: Any, rng: Random) -> Any:  # noqa: PLR0911 - one line a type
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, value ^ 1 << rng.randrange(40), *NUMBERS))
    if isinstance(value, str):
        return rng.choice((value + "x", value[1:], value.upper(), *TEXTS))
    if isinstance(value, bytes):
        return _flipped(value, rng) if value else b"\x01"
    if isinstance(value, list | tuple):
        shorter = value[1:]
        twice = (*value, *value[:1])
        bent = tuple(_other(item, rng) if rng.random() < 0.5 else item for item in value)
        return type(value)(rng.choice((shorter, twice, bent, value[::-1])))
    if isinstance(value, Genesis | Continues):
        name = rng.choice([f.name for f in fields(value)])
        before = getattr(value, name)
        point = Continues(bytes(32), rng.choice(NUMBERS), bytes(32))
        change: dict[str, Any] = {name: point if before is None else _other(before, rng)}
        return replace(value, **change)
    if isinstance(value, dict):
        key = rng.choice(list(value)) if value else "x"
        return {**value, key: _other(value.get(key, ""), rng)}
    if value is None:
        return rng.choice((0, 1, "x", bytes(16)))
    return None
