"""Makes judged messages without keys and signatures: the store trusts what judging says of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail import avro, ids, merkle
from sealtrail.batch import SignedBatch, frame
from sealtrail.causal import Parents, causal_prefix
from sealtrail.chain import Chains
from sealtrail.dsse import BATCH
from sealtrail.errors import MalformedError
from sealtrail.event import Actor, EntityRef, EventType, ParentRef, ProvenanceEvent
from sealtrail.findings import Disposition
from sealtrail.statement import ZERO, BatchStatement, Genesis, Identity
from sealtrail.validate import Refused, VerifiedBatch
from sealtrail_processor.judging.model import Finding, Flush, Judged, Log, RawMessage
from sealtrail_processor.store import chains

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail_processor.store.port import Store

NOW = 1_790_000_000_000_000


def event(rng: random.Random, **changes: object) -> ProvenanceEvent:
    """An ordinary event of about 300 bytes."""
    values: dict[str, object] = {
        "occurred_at": NOW + rng.randrange(10**9),
        "salt": rng.randbytes(16),
        "event_type": EventType.TRANSFORM,
        "activity": "orders.enrich",
        "actor": Actor("orders-service"),
        "inputs": (
            EntityRef(
                "kafka://local", "orders", str(rng.randrange(10**6)), rng.randbytes(32), 4096
            ),
        ),
        "outputs": (
            EntityRef("s3://lake", f"orders/{rng.randrange(10**4)}", None, rng.randbytes(32), 812),
        ),
        "parents": (
            ParentRef(ids.event_id(rng.randbytes(32), rng.randrange(1000)), NOW, rng.randbytes(32)),
        ),
        "trace_id": rng.randbytes(16),
        "span_id": rng.randbytes(8),
        "attributes": {"region": "eu-1", "shard": str(rng.randrange(64))},
    }
    return ProvenanceEvent(**(values | changes))  # type: ignore[arg-type] # values of a test


@dataclass
class Maker:
    """One producer's chain on one log, and offsets that go on."""

    log: Log
    seed: int = 1
    offset: int = 0
    arrival: int = NOW
    step_us: int = 1000
    batch_seq: int = 0
    next_seq: int = 0
    head: bytes = ZERO
    tenant: str = "default"
    codec: avro.Codec = field(default_factory=lambda: avro.codec("ProvenanceEvent"))

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.identity = Identity(
            "test", self.tenant, self.log.topic, self.log.partition, "orders", f"i-{self.seed}"
        )
        self.genesis = Genesis(self.rng.randbytes(32), NOW - 10**6, 60)
        self.chain_id = self.identity.chain_id(self.genesis)

    def batch(
        self,
        events: list[bytes],
        *,
        signed_at: int | None = None,
        kind: str = "EVENTS",
        head: bytes | None = None,
    ) -> VerifiedBatch:
        """The chain's next batch over given event bytes."""
        leaves = [merkle.leaf_hash(e) for e in events]
        statement = BatchStatement(
            "test",
            self.tenant,
            self.log.topic,
            self.log.partition,
            "orders",
            f"i-{self.seed}",
            (b"\x01" * 32,),
            kind,
            None if self.batch_seq else self.genesis,
            self.chain_id,
            self.batch_seq,
            self.next_seq,
            len(events),
            merkle.root(leaves),
            self.head if head is None else head,
            self.codec.fingerprint,
            self.arrival - 500 if signed_at is None else signed_at,
            None,
            0,
        )
        envelope = SignedBatch(BATCH, statement.encode(), (b"\x02" * 64,), 1, tuple(events))
        times, parents = self._prefixes(events, statement.first_seq, tuple(leaves))
        digest = sha256(envelope.statement).digest()
        self.batch_seq += 1
        self.next_seq += len(events)
        self.head = digest
        return VerifiedBatch(
            envelope,
            statement,
            digest,
            tuple(leaves),
            times,
            parents,
            self.codec,
        )

    def _prefixes(
        self, events: Sequence[bytes], first_seq: int, leaves: tuple[bytes, ...]
    ) -> tuple[tuple[int, ...], Parents]:
        prefixes = []
        for data in events:
            try:
                prefixes.append(causal_prefix(data))
            except MalformedError:  # hostile events of a test need no prefix
                prefixes.append((0, []))
        times = tuple(occurred_at for occurred_at, _ in prefixes)
        others = {index: tuple(causes) for index, (_, causes) in enumerate(prefixes) if causes}
        return times, Parents(ids.template(self.chain_id) + first_seq, times, leaves, (), others)

    def message(self, value: bytes | None) -> RawMessage:
        """The next message of the log."""
        raw = RawMessage(
            self.offset,
            self.chain_id,
            value,
            # One of our own, and one that contradicts what is signed: it is not kept.
            (("shop", b"x"), ("content-type", b"text/plain")),
            self.arrival,
            append_time=True,
        )
        self.offset += 1
        self.arrival += self.step_us
        return raw

    def judged(
        self,
        batch: VerifiedBatch,
        *,
        branch: int = 0,
        findings: tuple[Finding, ...] = (),
        arrival: int | None = None,
    ) -> Judged:
        """An accepted batch."""
        at = self.arrival if arrival is None else arrival
        raw = self.message(frame(1, batch.envelope.encode()))
        return Judged(
            raw,
            at,
            "LOG_APPEND",
            Disposition.ACCEPTED,
            batch=batch,
            branch=branch,
            findings=findings,
        )

    def refused(
        self,
        value: bytes | None,
        refused: Refused,
        disposition: Disposition = Disposition.QUARANTINED,
    ) -> Judged:
        """A refused message."""
        at = self.arrival
        found = (Finding(refused.code, refused.detail),)
        return Judged(
            self.message(value), at, "LOG_APPEND", disposition, refused=refused, findings=found
        )

    def accept(self, *sizes: int) -> list[Judged]:
        """Accepted batches of ordinary events."""
        return [
            self.judged(self.batch([event(self.rng).encode() for _ in range(n)])) for n in sizes
        ]

    def flush(self, judged: list[Judged], first: int | None = None) -> Flush:
        """A flush of messages."""
        return Flush(self.log, judged[0].message.offset if first is None else first, tuple(judged))


Make = Callable[..., Maker]


def held(store: Store, topic: str, partition: int = 3) -> Chains:
    """All chains of a partition as a worker that is assigned it holds them."""
    found = chains.history(
        store,
        Log("", topic, partition),
        chains.lives(store, topic, partition),
        [chain.chain_id for chain in chains.newest(store, topic, partition, 10_000)],
    )
    made = Chains()
    made.recall(found.links, found.continued)
    return made
