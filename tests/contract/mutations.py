"""Messages that went wrong in every way we can think of, from a seed.

Four families: raw bytes bent in transit, envelopes taken apart and put together otherwise, other
encodings of the same values, and statements that lie but are signed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.contract import world as w

from sealtrail import avro, batch, dsse, merkle
from sealtrail.keys import Algorithm
from sealtrail.records import SPOOL_GRACE_US, Revocation
from sealtrail.statement import ZERO, BatchStatement, Continues, Genesis, Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

LONG, STRING = avro.Codec("long"), avro.Codec("string")
ARRIVAL = w.NOW + w.HOUR
END = w.NOW + 10
OTHER_SCHEMA = {**w.event_schema(), "fields": w.event_schema()["fields"][:-1]}
OTHER_FINGERPRINT = avro.fingerprint(OTHER_SCHEMA)
UNPINNED = w.digest("no schema")

# Name -> what the directory says of a key; each is a reason of its own to refuse or not.
KEYS: dict[str, dict[str, Any]] = {
    "expired": {"valid_until": END},
    "not yet": {"valid_from": ARRIVAL + 1},
    "retired": {"revocation": Revocation(END, "RETIRED")},
    "compromised": {"revocation": Revocation(END, "COMPROMISED")},
    "elsewhere": {"topics": ("other.events",)},
    "staging": {"environment": "staging"},
    "foreign": {"tenant": "other"},
    "unserved": {"tenant": "unserved"},
}
SIGNERS = {name: w.TestKey(name) for name in (*KEYS, "late", "unknown")} | {
    "orders": w.ORDERS,
    "orders, post-quantum": w.ORDERS_PQ,
    "billing": w.BILLING,
}
EVENTS = [w.event(n).encode() for n in range(3)]
ONE = w.Producer()
PARENT = w.parent_ref(ONE.chain_id, 0, EVENTS[0], w.NOW - 1000)
FULL = w.full_event(PARENT).encode()


SECOND_ROOT = w.ROOT.successor(1, [w.OPERATOR_2.public_key])


def record_values() -> list[tuple[int, bytes]]:
    """(arrival, value) of the keys topic, in the order of arrival."""
    early = w.NOW - w.DAY
    values = [
        (early, w.signed(w.key_record(w.ORDERS))),
        (early, w.signed(w.key_record(w.ORDERS_PQ))),
        (early, w.signed(w.key_record(w.BILLING, "billing"))),
        (early, w.signed(w.schema_pin())),
        (early, w.signed(w.schema_pin(OTHER_SCHEMA, subject="other-value"))),
        *((early, w.signed(w.key_record(SIGNERS[n], **c))) for n, c in KEYS.items()),
        # Signed by a stranger: as if it were not there.
        (early, w.signed(w.key_record(SIGNERS["unknown"]), w.STRANGER)),
        # The operators change; what the old ones sign afterwards counts no more.
        (ARRIVAL + 40, w.signed(SECOND_ROOT, w.OPERATOR, w.OPERATOR_2)),
        (ARRIVAL + 45, w.signed(w.key_record(SIGNERS["unknown"]))),
        (ARRIVAL + 50, w.signed(w.key_record(SIGNERS["late"]), w.OPERATOR_2)),
    ]
    return sorted(values, key=lambda v: v[0])


@dataclass(frozen=True)
class Case:
    """A message and when it is judged."""

    value: bytes | None
    arrival: int
    known_at: int


def case(rng: Random) -> Case:
    """A message that may be bent, and a time that may be odd."""
    family = rng.choice(
        (bent_bytes, bent_envelope, bent_encoding, lying_statement, lying_statement)
    )
    value = family(rng)
    arrival = rng.choice(
        (ARRIVAL,) * 8
        + (w.NOW - 2 * w.DAY, END - 1, END, END + SPOOL_GRACE_US, END + SPOOL_GRACE_US + 1)
    )
    return Case(value, arrival, arrival + rng.choice((0, 0, 0, 50, w.DAY, -w.DAY)))


def honest(rng: Random) -> batch.SignedBatch:
    """An honest message: one of several batches, or a heartbeat."""
    keys = rng.choice(((w.ORDERS,), (w.ORDERS,), (w.ORDERS_PQ,), (w.ORDERS, w.ORDERS_PQ)))
    point = rng.choice((None, Continues(w.digest("earlier"), 3, w.digest("head"))))
    advanced = rng.random() < 0.5
    if rng.random() < 0.15:
        return made(keys, point, None, advanced=advanced)
    events = rng.choice(((EVENTS[0],), tuple(EVENTS), (FULL, EVENTS[1]), ()))
    close = not events or rng.random() < 0.1
    return made(keys, point, events, advanced=advanced, close=close)


@cache
def made(
    keys: tuple[w.TestKey, ...],
    point: Continues | None,
    events: tuple[bytes, ...] | None,
    *,
    advanced: bool,
    close: bool = False,
) -> batch.SignedBatch:
    """One of the honest messages, signed once: signing costs more than everything else."""
    producer = w.Producer(keys=keys, continues=point)
    if advanced:
        producer.advance(producer.statement(EVENTS))
    if events is None:
        signers = tuple(k.public_key.fingerprint for k in producer.keys)
        beat = Heartbeat(signers, producer.chain_id, 1, w.digest("head"), w.NOW)
        return w.seal(beat.encode(), (), producer.keys, dsse.HEARTBEAT)
    statement = producer.statement(events, close=close)
    return producer.envelope(statement, events)


@cache
def framed(made_once: batch.SignedBatch) -> bytes:
    """The Kafka value of one of the honest messages."""
    return w.framed(made_once)


@cache
def whole(count: int) -> tuple[BatchStatement, bytes]:
    """The statement over the first events, and its encoding."""
    statement = ONE.statement(EVENTS[:count])
    return statement, statement.encode()


@cache
def sealed(body: bytes, events: tuple[bytes, ...]) -> batch.SignedBatch:
    """Bytes that orders signed, whatever they are."""
    return w.seal(body, events)


def bent_bytes(rng: Random, times: Sequence[int] = (0, 1, 1, 1, 2)) -> bytes | None:
    """What a wire, a disk or a clumsy attacker does."""
    value = bytearray(framed(honest(rng)))
    for _ in range(rng.choice(times)):
        at = rng.randrange(len(value))
        kind = rng.randrange(8)
        if kind < 3:
            value[at] ^= 1 << rng.randrange(8)
        elif kind == 3:
            value[at] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF))
        elif kind == 4:
            del value[at:]
        elif kind == 5:
            del value[at : at + rng.randrange(1, 40)]
        elif kind == 6:
            value[at:at] = rng.randbytes(rng.randrange(1, 4))
        else:
            value[at : at + 8] = value[at // 2 : at // 2 + 8]
        if not value:
            return None
    return bytes(value)


def bent_envelope(rng: Random) -> bytes:
    """The same statement in another envelope."""
    e, other = honest(rng), honest(rng)
    changes: list[Callable[[], dict[str, Any]]] = [
        lambda: {"payload_type": rng.choice(("", "x", *sorted(dsse.PAYLOAD_TYPES)))},
        lambda: {"signatures": e.signatures[1:]},
        lambda: {"signatures": e.signatures[::-1]},
        lambda: {"signatures": (*e.signatures, e.signatures[0])},
        lambda: {"signatures": other.signatures},
        lambda: {"signatures": tuple(s[:-1] for s in e.signatures)},
        lambda: {"statement": e.statement[: rng.randrange(len(e.statement))]},
        lambda: {"statement": e.statement + b"\x00"},
        lambda: {"statement": other.statement},
        lambda: {"statement": b""},
        lambda: {"events": e.events[1:]},
        lambda: {"events": e.events[::-1]},
        lambda: {"events": (*e.events, EVENTS[2])},
        lambda: {"events": other.events},
        lambda: {"events": tuple(v + b"\x00" for v in e.events)},
        lambda: {"event_schema_id": rng.choice((-1, 0, 2**31 - 1))},
        lambda: {"disclosures": (b"opening",)},
        dict,
    ]
    return w.framed(replace(e, **rng.choice(changes)()))


def _overlong(data: bytes, at: int) -> bytes:
    """Some bytes whose varint at a position takes more than it needs."""
    end = at
    while data[end] >= 0x80:
        end += 1
    return data[:end] + bytes([data[end] | 0x80]) + b"\x00" + data[end + 1 :]


def _array(rng: Random, items: list[bytes], *, sloppy: bool) -> bytes:
    """An array of encoded items, as it should be or in some other way that decoders take."""
    body = b"".join(items)
    if not items or not sloppy:
        return (LONG.encode(len(items)) + body if items else b"") + b"\x00"
    kind = rng.randrange(4)
    if kind == 0:
        return b"".join(b"\x02" + item for item in items) + b"\x00"
    if kind == 1:
        return LONG.encode(-len(items)) + LONG.encode(len(body)) + body + b"\x00"
    if kind == 2:
        return LONG.encode(len(items)) + body + b"\x80\x00"
    return _overlong(LONG.encode(len(items)), 0) + body + b"\x00"


def _sized(data: bytes) -> bytes:
    return LONG.encode(len(data)) + data


def bent_encoding(rng: Random) -> bytes:
    """The same values in another encoding; of the statement it is signed, of the envelope not."""
    if rng.random() < 0.5:
        e, what = honest(rng), rng.randrange(4)
        body = b"".join(
            (
                _sized(e.payload_type.encode()),
                _sized(e.statement),
                _array(rng, [_sized(s) for s in e.signatures], sloppy=what == 0),
                LONG.encode(rng.choice((7, 2**31, -(2**31) - 1)) if what == 1 else 7),
                _array(rng, [_sized(v) for v in e.events], sloppy=what == 2),
                b"\x00",
            )
        )
        return batch.frame(1, _overlong(body, 0) if what == 3 else body)
    events = EVENTS[: rng.randrange(1, 4)]
    statement, data = whole(len(events))
    signers = b"\x02" + statement.signers[0] + b"\x00"
    start = data.index(signers)
    tail = start + len(signers)
    bent = [
        data[:start] + _array(rng, [statement.signers[0]], sloppy=True) + data[tail:],
        _overlong(data, 0),
        _overlong(data, start - 1 - len(b"orders-1")),
        _overlong(data, tail),
        _overlong(data, tail + 1),
        data[:tail] + b"\x01" + data[tail + 1 :],  # kind -1
        data[:tail] + b"\x04" + data[tail + 1 :],  # kind 2
        data[: tail + 1] + b"\x01" + data[tail + 2 :],  # genesis branch -1
        data + b"\x00",
        data[:-1],
        _overlong(data, len(data) - 1),
        data.replace(STRING.encode("local"), _sized(b"loc\xffl")),
        data.replace(STRING.encode("orders-1"), _sized(b"\xed\xa0\x80" * 2 + b"xx")),
        data[: start - 9 - 7 - 1] + LONG.encode(2**31) + data[start - 9 - 7 :],  # partition
        b"\x80" * 11 + data,
        LONG.encode(-1) + data[1:],
        LONG.encode(2**40) + data[1:],
    ]
    return w.framed(sealed(rng.choice(bent), tuple(events)))


def _bad_event(rng: Random) -> bytes:
    prefix = FULL[: FULL.index(PARENT.leaf_hash) + 33]
    return rng.choice(
        (
            b"",
            b"\x80",
            _overlong(EVENTS[0], 0),
            FULL[: len(prefix) - rng.randrange(1, 40)],
            prefix[:-1] + b"\x02" + prefix[9:],
            prefix,
            LONG.encode(2**60) + b"\x00",
            LONG.encode(0) + LONG.encode(65) + prefix[9:-1] * 65 + b"\x00",
            FULL.replace(PARENT.event_id, bytes(16)),
            LONG.encode(0) + LONG.encode(-1) + b"\x00",
            EVENTS[0] + bytes(524_288) if rng.random() < 0.05 else b"\x00",
        )
    )


_NUMBERS = (-1, 0, 1, 5, 2**31 - 1, 2**40 - 1, 2**40, 2**63 - 1)
_HASHES = (ZERO, w.digest("a"), UNPINNED)


def _lies(rng: Random) -> dict[str, Any]:
    number, text = (
        rng.choice(_NUMBERS),
        rng.choice(("", "x", "staging", "other", "y" * 2049, "\x00")),
    )
    return rng.choice(
        (
            {},
            {rng.choice(("environment", "tenant", "topic", "producer", "instance")): text},
            {"topic": "other.events"},
            {"partition": number % 2**31 if number >= 0 else number},
            {"kind": rng.choice(("EVENTS", "CLOSE"))},
            {"genesis": rng.choice((None, ONE.genesis))},
            {"genesis": Genesis(ZERO, number, 60)},
            {"genesis": Genesis(ZERO, 0, rng.choice((0, 1, 86_400, 86_401, -1)))},
            {"genesis": Genesis(ZERO, 0, 1, Continues(ZERO, number, ZERO))},
            {rng.choice(("chain_id", "root", "previous", "event_schema")): rng.choice(_HASHES)},
            {"event_schema": OTHER_FINGERPRINT},
            {rng.choice(("batch_seq", "first_seq", "signed_at", "sampled_out")): number},
            {"signed_at": rng.choice((END - 1, END, 253402300799999999, 253402300800000000))},
            {"count": rng.choice((-1, 0, 1, 2, 2**31 - 1))},
            {"clock_error_us": rng.choice((None, number))},
        )
    )


def _consistent(statement: BatchStatement, rng: Random) -> BatchStatement:
    """Mend the chain id of a changed genesis, so that later steps are reached too."""
    if statement.genesis is None or rng.random() < 0.2:
        return statement
    return replace(statement, chain_id=statement.identity.chain_id(statement.genesis))


def lying_statement(rng: Random) -> bytes:
    """Well encoded and well signed, but it should not be believed."""
    events = rng.choice((EVENTS[:1], EVENTS, [FULL, EVENTS[1]]))
    if rng.random() < 0.15:
        events = [EVENTS[0], _bad_event(rng)]
    producer = w.Producer()
    if rng.random() < 0.6:
        producer.advance(producer.statement(EVENTS))
    statement = producer.statement(events)
    for _ in range(rng.choice((0, 1, 1, 2))):
        statement = _consistent(replace(statement, **_lies(rng)), rng)
    names = rng.sample(sorted(SIGNERS), rng.choice((1, 1, 1, 2)))
    names = rng.choice((["orders"], ["orders"], names))
    keys = sorted((SIGNERS[n] for n in names), key=lambda k: k.public_key.fingerprint)
    if rng.random() < 0.05:
        keys = rng.choice(([], keys * 2, keys[::-1], [w.ORDERS] * 5))
    tenant = {"foreign": "other", "unserved": "unserved"}.get(names[0], statement.tenant)
    signers = tuple(k.public_key.fingerprint for k in keys)
    if rng.random() < 0.1:
        beat = Heartbeat(signers, ONE.chain_id, rng.choice(_NUMBERS), ZERO, statement.signed_at)
        return w.framed(w.seal(beat.encode(), (), keys, dsse.HEARTBEAT))
    statement = _consistent(replace(statement, signers=signers, tenant=tenant), rng)
    return w.framed(w.seal(statement.encode(), events, keys))


def roots() -> list[bytes]:
    """The operators' keys that verifiers pin."""
    assert w.OPERATOR.public_key.algorithm is Algorithm.ED25519
    return [w.OPERATOR.public_key.der]


def of_size(count: int) -> bytes:
    """A batch of so many empty events, well signed."""
    events = [b""] * count
    statement = replace(ONE.statement(EVENTS), count=count, root=merkle.root([ZERO] * 2))
    return w.framed(w.seal(statement.encode(), events))
