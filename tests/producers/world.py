"""A world in memory for the SDK, and the contract's own judgement of what arrived there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sealtrail import validate
from sealtrail.batch import SignedBatch, unframe
from sealtrail.chain import Chains, Link
from sealtrail.records import Directory, TrustRoot
from sealtrail_producer import CREATE
from sealtrail_producer.authority import Authority
from sealtrail_producer.fakes import FakeBroker, FakeClock, FakeRegistry
from sealtrail_producer.ports import Ports
from sealtrail_producer.settings import ProducerSettings
from sealtrail_producer.signing import KeySigner
from sealtrail_producer.trail import Trail

if TYPE_CHECKING:
    from pathlib import Path

    from sealtrail.dsse import Signer
    from sealtrail_producer.ports import Message


@dataclass
class World:
    """Everything around a trail.

    trails: all that were opened; closed at the end of the test.
    """

    state_dir: Path
    broker: FakeBroker = field(default_factory=FakeBroker)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    clock: FakeClock = field(default_factory=FakeClock)
    signers: list[Signer] = field(default_factory=lambda: [KeySigner.generate()])
    trails: list[Trail] = field(default_factory=list)

    def settings(self, **overrides: Any) -> ProducerSettings:
        return ProducerSettings(state_dir=self.state_dir, instance="host", **overrides)

    def open(self, *, threads: bool = False, **overrides: Any) -> Trail:
        ports = Ports(
            transport=self.broker.connect,
            registry=lambda: self.registry,
            group=lambda: self.broker,
            clock=self.clock,
        )
        trail = Trail("orders", self.settings(**overrides), self.signers, ports, threads=threads)
        self.trails.append(trail)
        return trail

    def crash(self, trail: Trail) -> None:
        """The process dies: its memory is gone, its descriptors are closed."""
        trail._forked()
        trail._closed = True
        self.trails.remove(trail)

    def directory(self) -> Directory:
        authority = Authority(self.settings())
        root = TrustRoot.from_json(authority.init().to_json())
        directory = Directory(root)
        directory.add(authority.pin_schema(self.clock.time_us).encode(), 0)
        for signer in self.signers:
            record = authority.register("orders", signer.public_key, self.clock.time_us)
            directory.add(record.encode(), 0)
        return directory


def emit(trail: Trail, count: int, **fields: Any) -> None:
    """So many events."""
    for n in range(count):
        trail.emit(f"e{n}", event_type=CREATE, **fields)


@dataclass
class Seen:
    """What the contract says of messages."""

    batches: list[validate.VerifiedBatch] = field(default_factory=list)
    heartbeats: list[validate.VerifiedHeartbeat] = field(default_factory=list)
    duplicates: int = 0
    findings: list[Any] = field(default_factory=list)
    chains: dict[int, Chains] = field(default_factory=dict)

    @property
    def events(self) -> list[bytes]:
        return [event for batch in self.batches for event in batch.envelope.events]


def judge(messages: list[Message], directory: Directory, arrival: int) -> Seen:
    """Steps 1 to 10 for messages in the order of their logs; a refused one fails the test."""
    seen = Seen()
    for message in messages:
        place = validate.Place("local", {"default"}, message.topic, message.partition)
        outcome = validate.validate(message.value, place, arrival, directory)
        assert not isinstance(outcome, validate.Refused), outcome
        if isinstance(outcome, validate.VerifiedHeartbeat):
            seen.heartbeats.append(outcome)
            continue
        assert message.key == outcome.statement.chain_id
        chains = seen.chains.setdefault(message.partition, Chains())
        link = Link.of(outcome.statement, outcome.statement_hash, arrival)
        placement = chains.place(link)
        seen.findings += placement.findings
        if placement.duplicate:
            seen.duplicates += 1
            continue
        assert placement.refused is None
        chains.apply(link)
        seen.batches.append(outcome)
    return seen


def envelope_of(message: Message) -> SignedBatch:
    """The envelope of a framed message."""
    return SignedBatch.decode(unframe(message.value)[1])
