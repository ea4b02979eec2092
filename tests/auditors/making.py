"""A small signed world: operators, a producer with chains, messages judged and stored for real."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealtrail import avro, dsse, ids, merkle
from sealtrail.batch import SignedBatch, frame
from sealtrail.chain import Chains
from sealtrail.event import Actor, Code, EntityRef, EventType, ParentRef, Protected, ProvenanceEvent
from sealtrail.keys import PublicKey
from sealtrail.records import Directory, KeyRecord, SchemaPin, SignedRecord, TrustRoot
from sealtrail.statement import (
    ZERO,
    BatchStatement,
    Genesis,
    Heartbeat,
    Identity,
    statement_hash,
)
from sealtrail.validate import Place, event_subject
from sealtrail_processor.judging import judge as judging
from sealtrail_processor.judging.clock import Tolerances
from sealtrail_processor.judging.model import Flush, Log, RawMessage

NOW = 1_790_000_000_000_000
TOPIC = "provenance.events"
SECOND = 1_000_000


class Signer:
    """An Ed25519 key in memory."""

    def __init__(self, seed: int) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(random.Random(seed).randbytes(32))
        self._public = PublicKey.from_raw(self._key.public_key().public_bytes_raw())

    @property
    def public_key(self) -> PublicKey:
        return self._public

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


OPERATOR = Signer(1)
PRODUCER = Signer(2)
ROOT = TrustRoot(1, (OPERATOR.public_key,))


def key_record(signer: Signer, producer: str) -> KeyRecord:
    """The first record of a key."""
    key = signer.public_key
    return KeyRecord(
        key.fingerprint,
        1,
        ZERO,
        str(key.algorithm),
        key.der,
        producer,
        "default",
        "test",
        (TOPIC,),
        NOW - 10**9,
    )


def key_records() -> list[tuple[str, bytes]]:
    """Record keys and values that make PRODUCER known and the event schema allowed."""
    record = key_record(PRODUCER, "orders")
    codec = avro.codec("ProvenanceEvent")
    text = json.dumps(codec.schema)
    pin = SchemaPin(event_subject(TOPIC), codec.fingerprint, NOW - 10**9, text)
    return [
        (record.fingerprint.hex(), SignedRecord.sign(record, [OPERATOR]).encode()),
        ("schema:" + pin.fingerprint.hex(), SignedRecord.sign(pin, [OPERATOR]).encode()),
    ]


def directory(arrival: int = NOW - SECOND) -> Directory:
    """What the key records say, from their arrival on."""
    known = Directory(ROOT)
    for _, value in key_records():
        known.add(value, arrival)
    return known


@dataclass
class Chain:
    """A producer's chain; keeps the references of its events for children."""

    seed: int
    partition: int = 0
    batch_seq: int = 0
    next_seq: int = 0
    head: bytes = ZERO
    references: list[ParentRef] = field(default_factory=list)
    producer: str = "orders"
    keys: tuple[Signer, ...] = (PRODUCER,)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.identity = Identity(
            "test", "default", TOPIC, self.partition, self.producer, f"i-{self.seed}"
        )
        self.genesis = Genesis(self.rng.randbytes(32), NOW - 10**6, 60)
        self.chain_id = self.identity.chain_id(self.genesis)

    def event(self, at: int, parents: tuple[ParentRef, ...]) -> ProvenanceEvent:
        """An event with something in every field."""
        rng = self.rng
        rich = rng.random() < 0.5
        return ProvenanceEvent(
            occurred_at=at,
            salt=rng.randbytes(16),
            event_type=EventType.TRANSFORM,
            activity="orders.enrich",
            actor=Actor("orders", on_behalf_of="p-17" if rich else None),
            parents=parents,
            run_id=rng.randbytes(16) if rich else None,
            inputs=(EntityRef("kafka://local", "orders", "7", rng.randbytes(32), 10),),
            outputs=(
                EntityRef("s3://lake", f"orders/{rng.randrange(99)}"),
                EntityRef("s3://lake", "gr\u00f6\u00dfe", "1" if rich else None),
            ),
            code=Code("git://x", "abc", "sha256:1" if rich else None) if rich else None,
            trace_id=rng.randbytes(16),
            span_id=rng.randbytes(8),
            policy="p1" if rich else None,
            attributes={"region": "eu", "\u00e4": "x"} if rich else {},
            protected=(Protected(rng.randbytes(16), rng.randbytes(16), rng.randbytes(40)),)
            if rich
            else (),
            commitments=(rng.randbytes(32),) if rich else (),
        )

    def batch(self, count: int, at: int, *, kind: str = "EVENTS") -> bytes:
        """The next batch as a Kafka value; each event has the one before it as its parent."""
        events = []
        for number in range(count):
            parents = tuple(self.references[-1:])
            event = self.event(at - SECOND // 2 + number, parents)
            data = event.encode()
            events.append(data)
            event_id = ids.event_id(self.chain_id, self.next_seq + number)
            reference = ParentRef(event_id, event.occurred_at, merkle.leaf_hash(data))
            self.references.append(reference)
        value, statement = self.sign(tuple(events), at, kind=kind)
        self.head = statement_hash(statement)
        self.batch_seq += 1
        self.next_seq += count
        return value

    def sign(
        self, events: tuple[bytes, ...], at: int, *, kind: str = "EVENTS", **changes: Any
    ) -> tuple[bytes, bytes]:
        """Kafka value and statement of a batch at the chain's head."""
        keys = sorted(self.keys, key=lambda k: k.public_key.fingerprint)
        values: dict[str, Any] = {
            "signers": tuple(key.public_key.fingerprint for key in keys),
            "kind": kind,
            "genesis": None if self.batch_seq else self.genesis,
            "chain_id": self.chain_id,
            "batch_seq": self.batch_seq,
            "first_seq": self.next_seq,
            "count": len(events),
            "root": merkle.root([merkle.leaf_hash(e) for e in events]),
            "previous": self.head,
            "event_schema": avro.codec("ProvenanceEvent").fingerprint,
            "signed_at": at - 1000,
            "clock_error_us": None,
            "sampled_out": 0,
        }
        identity = {n: getattr(self.identity, n) for n in Identity.__dataclass_fields__}
        statement = BatchStatement(**(identity | values | changes)).encode()
        signatures = tuple(dsse.sign(dsse.BATCH, statement, keys))
        envelope = SignedBatch(dsse.BATCH, statement, signatures, 1, events)
        return frame(1, envelope.encode()), statement

    def heartbeat(self, at: int) -> bytes:
        """A heartbeat as a Kafka value."""
        signers = (PRODUCER.public_key.fingerprint,)
        beat = Heartbeat(signers, self.chain_id, self.batch_seq - 1, self.head, at).encode()
        signatures = tuple(dsse.sign(dsse.HEARTBEAT, beat, [PRODUCER]))
        return frame(1, SignedBatch(dsse.HEARTBEAT, beat, signatures, 1, ()).encode())


@dataclass
class Partition:
    """Judges messages in the order of one log and keeps the flushes."""

    log: Log
    known: Directory = field(default_factory=directory)
    chains: Chains = field(default_factory=Chains)
    offset: int = 0
    arrival: int = NOW
    committed: int = -1

    def flush(self, *messages: tuple[bytes, bytes | None]) -> Flush:
        """Judge messages (key, value) as the worker does."""
        examined = []
        for message in messages:
            arrival = judging.Arrival(self.arrival, "LOG_APPEND", self.arrival)
            examined.append(self.examine(message, arrival))
        return self.judge(examined)

    def released(self, message: tuple[bytes, bytes | None], offset: int, arrival: int) -> Flush:
        """Judge a message that was parked at an offset, and comes back now."""
        origin = (self.log.log_id, self.log.topic, self.log.partition, offset)
        back = judging.Arrival(arrival, "ORIGINAL", self.arrival, origin)
        return self.judge([self.examine(message, back)])

    def examine(
        self, message: tuple[bytes, bytes | None], arrival: judging.Arrival
    ) -> judging.Examined:
        """Steps 1 to 9 of the next message of the log."""
        key, value = message
        place = Place("test", ("default",), self.log.topic, self.log.partition)
        headers = (("content-type", dsse.BATCH.encode()), ("ce_specversion", b"1.0"), ("h", b"v"))
        raw = RawMessage(self.offset, key, value, headers, self.arrival, append_time=True)
        self.offset += 1
        self.arrival += SECOND
        return judging.examine(raw, arrival, place, self.known)

    def judge(self, examined: list[judging.Examined]) -> Flush:
        """The flush of some messages."""
        place = Place("test", ("default",), self.log.topic, self.log.partition)
        flush = judging.judge(
            self.log,
            self.committed + 1,
            examined,
            trial=judging.Trial(self.chains),
            rules=judging.Rules(place, Tolerances(), 30 * SECOND),
            stored={},
        )
        self.committed = flush.last_offset
        return flush
