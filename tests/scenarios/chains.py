"""Producers with a key of their own that sign what they please: honest ones, and others.

A chain knows the wire format alone (the contract), not the SDK: what it makes is what any holder of
a registered key could put on the topic.
"""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sealtrail import avro, batch, dsse, ids, merkle
from sealtrail.event import Actor, EntityRef, EventType, ParentRef, ProvenanceEvent
from sealtrail.statement import ZERO, BatchStatement, Continues, Genesis, Heartbeat, Identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail.dsse import Signer

TOPIC = "provenance.events"
SECOND = 1_000_000
_numbers = itertools.count()


def now_us() -> int:
    """The machine's clock, microseconds since 1970."""
    return time.time_ns() // 1000


def event(parents: Sequence[ParentRef] = (), at: int | None = None, **changes: Any) -> bytes:
    """The bytes of an event of a few fields, each another."""
    number = next(_numbers)
    made = ProvenanceEvent(
        occurred_at=now_us() if at is None else at,
        salt=os.urandom(16),
        event_type=EventType.TRANSFORM,
        activity="scenario.step",
        actor=Actor("scenario"),
        parents=tuple(parents),
        inputs=(EntityRef("scenario", f"table-{number % 7}", str(number)),),
        outputs=(EntityRef("scenario", f"table-{number % 7}", str(number + 1)),),
        attributes={"number": str(number)},
    )
    return replace(made, **changes).encode()


def bare_event() -> bytes:
    """The bytes of an event of nothing but what every event has."""
    return event(inputs=(), outputs=(), attributes={})


@dataclass(frozen=True, slots=True)
class Made:
    """A message: its Kafka value and what went into it."""

    value: bytes
    statement: BatchStatement
    events: tuple[bytes, ...]
    occurred_at: tuple[int, ...]

    @property
    def chain_id(self) -> bytes:
        """Of its chain, 32 bytes."""
        return self.statement.chain_id

    @property
    def envelope(self) -> batch.SignedBatch:
        """The envelope inside the framing."""
        return batch.SignedBatch.decode(batch.unframe(self.value)[1])

    def with_envelope(self, **changes: Any) -> bytes:
        """The value with other fields of the envelope, signed by nobody."""
        return framed(replace(self.envelope, **changes))

    def event_id(self, index: int = 0) -> bytes:
        """Of one of its events, 16 bytes."""
        return ids.event_id(self.chain_id, self.statement.first_seq + index)

    def reference(self, index: int = 0) -> ParentRef:
        """How a child names one of its events."""
        leaf = merkle.leaf_hash(self.events[index])
        return ParentRef(self.event_id(index), self.occurred_at[index], leaf)


def framed(envelope: batch.SignedBatch) -> bytes:
    """An envelope as a Kafka value."""
    return batch.frame(1, envelope.encode())


def seal(
    body: bytes, events: Sequence[bytes], signers: Sequence[Signer], kind: str = dsse.BATCH
) -> bytes:
    """Bytes, whatever they are, signed."""
    signatures = tuple(dsse.sign(kind, body, signers))
    return framed(batch.SignedBatch(kind, body, signatures, 1, tuple(events)))


class Chain:
    """Signs batch after batch.

    Args:
        signers: keys that all sign.
        producer, partition: who and where.
        skew_us: how far its clock is ahead, microseconds.
        heartbeat_s: that it promises; an hour, so that a quiet chain is not a stalled one.
        identity: other parts of its identity by name.
    """

    def __init__(
        self,
        signers: Sequence[Signer],
        producer: str,
        partition: int,
        *,
        skew_us: int = 0,
        heartbeat_s: int = 3600,
        continues: Continues | None = None,
        **identity: str,
    ) -> None:
        self.signers: Sequence[Signer] = sorted(signers, key=lambda s: s.public_key.fingerprint)
        names = {"environment": "local", "tenant": "default", "topic": TOPIC} | identity
        instance = names.pop("instance", f"scenario-{next(_numbers)}")
        self.identity = Identity(partition=partition, producer=producer, instance=instance, **names)
        self.skew_us = skew_us
        self.genesis = Genesis(os.urandom(32), self.clock(), heartbeat_s, continues)
        self.chain_id = self.identity.chain_id(self.genesis)
        self.batch_seq = self.next_seq = 0
        self.head = ZERO

    @property
    def partition(self) -> int:
        """Where its messages belong."""
        return self.identity.partition

    def clock(self) -> int:
        """The producer's clock."""
        return now_us() + self.skew_us

    def statement(self, events: Sequence[bytes], **changes: Any) -> BatchStatement:
        """The next statement over events, some fields of it changed."""
        who = self.identity
        honest = BatchStatement(
            who.environment,
            who.tenant,
            who.topic,
            who.partition,
            who.producer,
            who.instance,
            signers=tuple(s.public_key.fingerprint for s in self.signers),
            kind="EVENTS",
            genesis=self.genesis if self.batch_seq == 0 else None,
            chain_id=self.chain_id,
            batch_seq=self.batch_seq,
            first_seq=self.next_seq,
            count=len(events),
            root=merkle.root([merkle.leaf_hash(e) for e in events]),
            previous=self.head,
            event_schema=avro.codec("ProvenanceEvent").fingerprint,
            signed_at=self.clock(),
            clock_error_us=1_000,
            sampled_out=0,
        )
        return replace(honest, **changes)

    def draft(self, events: Sequence[bytes] | int = 3, **changes: Any) -> Made:
        """The next batch; the chain stays where it is, as if it had never been made."""
        if isinstance(events, int):
            events = [event(at=self.clock()) for _ in range(events)]
        statement = self.statement(events, **changes)
        value = seal(statement.encode(), events, self.signers)
        return Made(value, statement, tuple(events), tuple(_time(e) for e in events))

    def make(self, events: Sequence[bytes] | int = 3, **changes: Any) -> Made:
        """The next batch, and the chain goes on from it."""
        made = self.draft(events, **changes)
        self.take(made)
        return made

    def take(self, made: Made) -> None:
        """Go on from a batch."""
        statement = made.statement
        self.batch_seq = statement.batch_seq + 1
        self.next_seq = statement.first_seq + statement.count
        self.head = sha256(statement.encode()).digest()

    def close(self) -> Made:
        """The end of the chain, without events."""
        return self.make([], kind="CLOSE")

    def heartbeat(self, signers: Sequence[Signer] = (), **changes: Any) -> bytes:
        """A heartbeat as a Kafka value."""
        keys = list(signers) or self.signers
        fingerprints = tuple(s.public_key.fingerprint for s in keys)
        beat = Heartbeat(fingerprints, self.chain_id, self.batch_seq - 1, self.head, self.clock())
        return seal(replace(beat, **changes).encode(), (), keys, dsse.HEARTBEAT)


def _time(data: bytes) -> int:
    """When an event occurred by its own word; 0 of what is no event."""
    from sealtrail.causal import causal_prefix
    from sealtrail.errors import MalformedError

    try:
        return causal_prefix(data)[0]
    except MalformedError:
        return 0
