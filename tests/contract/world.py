"""A small world for the contract's tests: operators, producers, a directory, honest messages.

Keys are made at run time from the hash of a name, so that runs agree and no key lies in the
repository. They protect nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from sealtrail import avro, batch, dsse, ids, merkle, records, validate
from sealtrail.event import Actor, ActorKind, Code, EntityRef, EventType, ParentRef, ProvenanceEvent
from sealtrail.event import Protected as ProtectedValue
from sealtrail.keys import Algorithm, PublicKey
from sealtrail.statement import ZERO, BatchStatement, Continues, Genesis, Heartbeat, Identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NOW = 1_790_000_000_000_000
HOUR = 3_600_000_000
DAY = 24 * HOUR
TOPIC = "provenance.events"
SUBJECT = "provenance.event-record-value"
PLACE = validate.Place("local", frozenset({"default", "other"}), TOPIC, 1)
IDENTITY = Identity("local", "default", TOPIC, 1, "orders", "orders-1")


def digest(name: str) -> bytes:
    """32 bytes that are always the same for a name."""
    return sha256(f"sealtrail test {name}".encode()).digest()


class TestKey:
    """A signer made from a name."""

    __test__ = False

    def __init__(self, name: str, algorithm: Algorithm = Algorithm.ED25519) -> None:
        self._key: ed25519.Ed25519PrivateKey | mldsa.MLDSA44PrivateKey
        if algorithm is Algorithm.ED25519:
            self._key = ed25519.Ed25519PrivateKey.from_private_bytes(digest(name))
        else:
            self._key = mldsa.MLDSA44PrivateKey.from_seed_bytes(digest(name))
        self.public_key = PublicKey(algorithm, self._key.public_key())

    def sign(self, message: bytes) -> bytes:
        """A signature; that of ML-DSA is another each time."""
        return self._key.sign(message)


OPERATOR = TestKey("operator 1")
OPERATOR_2 = TestKey("operator 2")
OPERATOR_3 = TestKey("operator 3")
ORDERS = TestKey("orders")
ORDERS_PQ = TestKey("orders, post-quantum", Algorithm.ML_DSA_44)
BILLING = TestKey("billing")
STRANGER = TestKey("stranger")
ROOT = records.TrustRoot(1, (OPERATOR.public_key,))


def key_record(key: TestKey, producer: str = "orders", **changes: Any) -> records.KeyRecord:
    """Version 1 of a key's record."""
    public = key.public_key
    record = records.KeyRecord(
        fingerprint=public.fingerprint,
        version=1,
        previous=ZERO,
        algorithm=str(public.algorithm),
        public_key=public.der,
        producer=producer,
        tenant="default",
        environment="local",
        topics=(TOPIC,),
        valid_from=NOW - DAY,
    )
    return replace(record, **changes)


def successor(record: records.KeyRecord, **changes: Any) -> records.KeyRecord:
    """The next version of a key's record."""
    previous = sha256(record.encode()).digest()
    return replace(record, version=record.version + 1, previous=previous, **changes)


def event_schema() -> Any:
    """The event schema of this version as it is pinned."""
    return avro.load_schema("ProvenanceEvent")


def schema_pin(schema: Any = None, subject: str = SUBJECT, valid_from: int = 0) -> Any:
    """A pin of a schema, today's unless given."""
    schema = event_schema() if schema is None else schema
    return records.SchemaPin(subject, avro.fingerprint(schema), valid_from, json.dumps(schema))


def signed(record: Any, *operators: TestKey) -> bytes:
    """A Kafka value of the keys topic."""
    return records.SignedRecord.sign(record, list(operators or (OPERATOR,))).encode()


def directory(*extra: bytes, arrival: int = NOW - DAY) -> records.Directory:
    """Orders may sign with two keys, billing with one; today's schema is pinned."""
    known = records.Directory(ROOT)
    values = (
        signed(key_record(ORDERS)),
        signed(key_record(ORDERS_PQ)),
        signed(key_record(BILLING, "billing")),
        signed(schema_pin()),
    )
    for value in (*values, *extra):
        known.add(value, arrival)
    return known


def event(number: int = 0, parents: Sequence[ParentRef] = (), **changes: Any) -> ProvenanceEvent:
    """An event of few fields."""
    made = ProvenanceEvent(
        occurred_at=NOW - 1000 + number,
        salt=digest(f"salt {number}")[:16],
        event_type=EventType.CREATE,
        activity=f"test.activity-{number}",
        actor=Actor("tester"),
        parents=tuple(parents),
    )
    return replace(made, **changes)


def full_event(parent: ParentRef) -> ProvenanceEvent:
    """An event that has every field."""
    return ProvenanceEvent(
        occurred_at=NOW,
        salt=digest("full")[:16],
        event_type=EventType.TRANSFORM,
        activity="orders.enrich",
        actor=Actor("9b1f", ActorKind.HUMAN, "orders"),
        parents=(parent,),
        run_id=digest("run")[:16],
        inputs=(EntityRef("postgres://shop", "orders", "17", digest("in"), 4096),),
        outputs=(EntityRef("s3://lake", "orders/é"), EntityRef("s3://lake", "rejected", "1")),
        code=Code("https://example.invalid/orders.git", "0f3c", "sha256:ab"),
        trace_id=digest("trace")[:16],
        span_id=digest("span")[:8],
        policy="retention-7y",
        backfill=True,
        attributes={"b": "1", "a": "2", "é": "\x00"},
        protected=(ProtectedValue(digest("subject")[:16], digest("key")[:16], b"\x00\x01"),),
        commitments=(digest("commitment"),),
    )


def parent_ref(chain_id: bytes, seq: int, data: bytes, occurred_at: int) -> ParentRef:
    """How a child names an event."""
    return ParentRef(ids.event_id(chain_id, seq), occurred_at, merkle.leaf_hash(data))


@dataclass
class Producer:
    """Signs an honest chain, batch after batch."""

    keys: tuple[TestKey, ...] = (ORDERS,)
    identity: Identity = IDENTITY
    nonce: bytes = field(default_factory=lambda: digest("nonce"))
    continues: Continues | None = None
    batch_seq: int = 0
    next_seq: int = 0
    head: bytes = ZERO
    now: int = NOW

    def __post_init__(self) -> None:
        self.keys = tuple(sorted(self.keys, key=lambda k: k.public_key.fingerprint))
        self.genesis = Genesis(self.nonce, self.now, 60, self.continues)
        self.chain_id = self.identity.chain_id(self.genesis)

    def statement(self, events: Sequence[bytes], *, close: bool = False) -> BatchStatement:
        """The next statement over events; does not advance."""
        who = self.identity
        return BatchStatement(
            environment=who.environment,
            tenant=who.tenant,
            topic=who.topic,
            partition=who.partition,
            producer=who.producer,
            instance=who.instance,
            signers=tuple(k.public_key.fingerprint for k in self.keys),
            kind="CLOSE" if close else "EVENTS",
            genesis=self.genesis if self.batch_seq == 0 else None,
            chain_id=self.chain_id,
            batch_seq=self.batch_seq,
            first_seq=self.next_seq,
            count=len(events),
            root=merkle.root([merkle.leaf_hash(e) for e in events]),
            previous=self.head,
            event_schema=avro.codec("ProvenanceEvent").fingerprint,
            signed_at=self.now + self.batch_seq,
            clock_error_us=None,
            sampled_out=0,
        )

    def advance(self, statement: BatchStatement) -> None:
        """Take a statement as sent."""
        self.batch_seq += 1
        self.next_seq += statement.count
        self.head = sha256(statement.encode()).digest()

    def envelope(self, statement: BatchStatement, events: Sequence[bytes]) -> batch.SignedBatch:
        """The signed envelope of a statement."""
        return seal(statement.encode(), events, self.keys)

    def send(self, count: int = 3, *, close: bool = False) -> bytes:
        """The next batch as a Kafka value."""
        events = [event(self.next_seq + i).encode() for i in range(count)]
        statement = self.statement(events, close=close)
        value = framed(self.envelope(statement, events))
        self.advance(statement)
        return value

    def heartbeat(self) -> bytes:
        """A heartbeat as a Kafka value."""
        signers = tuple(k.public_key.fingerprint for k in self.keys)
        beat = Heartbeat(signers, self.chain_id, self.batch_seq - 1, self.head, self.now)
        return framed(seal(beat.encode(), (), self.keys, dsse.HEARTBEAT))


def seal(
    body: bytes,
    events: Iterable[bytes],
    keys: Sequence[TestKey] = (ORDERS,),
    kind: str = dsse.BATCH,
) -> batch.SignedBatch:
    """Sign bytes, whatever they are."""
    return batch.SignedBatch(kind, body, tuple(dsse.sign(kind, body, keys)), 7, tuple(events))


def framed(envelope: batch.SignedBatch) -> bytes:
    """An envelope as a Kafka value."""
    return batch.frame(3, envelope.encode())


def judge(value: bytes | None, known: records.Directory | None = None, **kwargs: Any) -> Any:
    """Steps 1 to 9 an hour after it was sent."""
    arrival = kwargs.pop("arrival", NOW + HOUR)
    place = kwargs.pop("place", PLACE)
    return validate.validate(value, place, arrival, known or directory(), **kwargs)
