"""Realistic signed batches from a seed, made before anything is measured. No I/O.

An event has an actor, a run, a trace, one input, one output, two attributes and one parent in the
mean: of ten events eight name the event before them in their chain, two an event of another chain
(one of these both), one none. What stands behind an event's salt comes from a pool of encoded
events: their text repeats, as that of a service does. Salts, times, parents, leaf hashes, roots,
statements and signatures are each event's and batch's own.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail import avro
from sealtrail.event import Actor, ActorKind, Code, EntityRef, EventType, ProvenanceEvent
from sealtrail.statement import Genesis, Identity
from sealtrail_producer.chain_writer import ChainWriter, partition_of
from sealtrail_producer.envelope import batch_message
from sealtrail_producer.registration import SchemaIds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sealtrail.dsse import Signer
    from sealtrail_producer.ports import Message

POOL = 4096
SCHEMA_IDS = SchemaIds(1, 2)
# Events of a chain lie so far apart by the producer's clock, microseconds.
STEP_US = 37
_TYPES = tuple(t for t in EventType if t is not EventType.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Where:
    """For whom batches are made: what their statements name."""

    environment: str
    tenant: str
    topic: str
    partitions: int
    producer: str


@dataclass(slots=True)
class _Chain:
    writer: ChainWriter
    salts: random.Random
    clock_us: int
    # The latest event's reference as it stands in a child, and that of the batch before: other
    # chains name the latter, so that no child is older than its parent.
    tip: bytes = b""
    shown: bytes = b""


@dataclass(frozen=True, slots=True)
class Made:
    """A message, how many events it holds, and their checksum (see `checksum`)."""

    message: Message
    events: int
    checksum: int


def event(rng: random.Random, now_us: int) -> ProvenanceEvent:
    """One event of an ordinary service, about 400 bytes of Avro with a parent."""
    region, shard = rng.choice(("eu-1", "eu-2", "us-1")), rng.randrange(64)
    return ProvenanceEvent(
        occurred_at=now_us,
        salt=rng.randbytes(16),
        event_type=rng.choice(_TYPES),
        activity=f"orders.{rng.choice(('import', 'enrich', 'join', 'price', 'export'))}",
        actor=Actor(f"svc-orders-{rng.randrange(40)}", ActorKind.SERVICE),
        run_id=rng.randbytes(16),
        inputs=(
            EntityRef(
                "kafka://events.example",
                f"orders.v{rng.randrange(4)}/{rng.randrange(5000)}",
                str(rng.randrange(10**6)),
                rng.randbytes(32),
                rng.randrange(10**5),
            ),
        ),
        outputs=(
            EntityRef(
                "s3://lake.example",
                f"orders/day={rng.randrange(365)}/part-{rng.randrange(5000)}",
                str(rng.randrange(10**6)),
                rng.randbytes(32),
                rng.randrange(10**6),
            ),
        ),
        code=Code("git://example/orders", f"{rng.randrange(20):040x}"),
        trace_id=rng.randbytes(16),
        span_id=rng.randbytes(8),
        policy="retention-7y",
        attributes={"region": region, "shard": str(shard)},
    )


def bodies(seed: int, count: int = POOL) -> list[bytes]:
    """What stands behind the salt of `count` encoded events."""
    rng = random.Random(seed)  # noqa: S311 - reproducible input, no secret
    # occurred_at 0 and no parents take a byte each.
    return [event(rng, 0).encode()[1 + 1 + 16 :] for _ in range(count)]


def long(number: int) -> bytes:
    """A zig-zag varint (Avro specification, "Binary Encoding"), number not negative."""
    number <<= 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Generator:
    """Batches of several chains in turn.

    Args:
        where: for whom.
        signer: signs the statements.
        seed: the same seed and start give the same events; another instance name, another chain.
        chains: how many chains take turns.
        instance: begins the chains' instance names.
        start_us: when the events begin, microseconds since 1970.
    """

    def __init__(  # noqa: PLR0913 - a generator is what it is made of
        self,
        where: Where,
        signer: Signer,
        *,
        seed: int,
        chains: int,
        instance: str,
        start_us: int,
    ) -> None:
        rng = random.Random(seed)  # noqa: S311 - reproducible input, no secret
        self._bodies = bodies(seed)
        self._chains = []
        for number in range(chains):
            name = _instance(where, instance, number)
            identity = Identity(
                where.environment,
                where.tenant,
                where.topic,
                number % where.partitions,
                where.producer,
                name,
            )
            genesis = Genesis(rng.randbytes(32), start_us, 3600)
            writer = ChainWriter(
                identity, genesis, [signer], avro.codec("ProvenanceEvent").fingerprint
            )
            salts = random.Random(rng.randrange(2**63))  # noqa: S311 - see above
            self._chains.append(_Chain(writer, salts, start_us))
        self._turn = 0

    def batches(self, count: int, events: int) -> Iterator[Made]:
        """So many batches of so many events, the chains in turn."""
        for _ in range(count):
            chain = self._chains[self._turn % len(self._chains)]
            other = self._chains[(self._turn + 1) % len(self._chains)]
            self._turn += 1
            yield self._batch(chain, other.shown, events)

    def _batch(self, chain: _Chain, other: bytes, count: int) -> Made:
        salts = chain.salts.randbytes(16 * count)
        pool, tip = self._bodies, chain.tip
        first, template = chain.writer.first_seq, chain.writer.id_template
        clock, at = chain.clock_us, chain.salts.randrange(POOL)
        events, leaves = [], []
        for index in range(count):
            kind, clock = index % 10, clock + STEP_US
            when = long(clock)
            parents = [tip] if kind < 8 and tip else []
            if kind in (7, 8) and other:
                parents.append(other)
            block = long(len(parents)) + b"".join(parents) + b"\x00" if parents else b"\x00"
            data = b"".join(
                (when, block, salts[16 * index : 16 * index + 16], pool[(at + index) % POOL])
            )
            leaf = sha256(b"\x00" + data).digest()
            events.append(data)
            leaves.append(leaf)
            tip = b"".join(((template | first + index).to_bytes(16, "big"), when, leaf))
        chain.shown, chain.tip, chain.clock_us = chain.tip, tip, clock
        sealed = chain.writer.seal(leaves, signed_at=clock, clock_error_us=None, sampled_out=0)
        return Made(batch_message(sealed, events, SCHEMA_IDS), count, checksum(salts))


def checksum(salts: bytes) -> int:
    """Sum of the first halves of salts of 16 bytes, as little-endian numbers, modulo 2^64.

    ClickHouse: sum(reinterpretAsUInt64(substring(salt, 1, 8))). Salts are random and each event's
    own: an event that is missing, doubled or another one changes the sum.
    """
    halves = struct.unpack(f"<{len(salts) // 8}Q", salts)
    return int(sum(halves[::2]) % 2**64)


def _instance(where: Where, instance: str, number: int) -> str:
    """A name that falls on the partition whose turn it is, as a service's would by itself."""
    wanted, attempt = number % where.partitions, 0
    while True:
        name = f"{instance}-{number}-{attempt}"
        if partition_of(where.producer, name, where.partitions) == wanted:
            return name
        attempt += 1
