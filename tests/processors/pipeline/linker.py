"""A linker by hand over a store in memory, and batches whose events have parents."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.contract import world
from tests.processors.pipeline.scenes import SECOND, Scene

from sealtrail import ids, merkle
from sealtrail.errors import UnavailableError
from sealtrail.event import ParentRef
from sealtrail.findings import Code, Verdict
from sealtrail_processor.linking.edges import Edge, Stored
from sealtrail_processor.linking.heads import Heads
from sealtrail_processor.linking.link_store import BLOCK, Block, LinkStore, Part, Span
from sealtrail_processor.linking.links import Linker
from sealtrail_processor.linking.pending import FIRST_RETRY_S, Pending
from sealtrail_processor.memory import MemoryHeads, MemoryPublisher
from sealtrail_processor.reporting.metrics import Metrics
from sealtrail_processor.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sealtrail_processor.judging.model import Finding, Log
    from sealtrail_processor.linking.references import Reference, References


@dataclass
class FakeLinkStore(LinkStore):
    """Answers of a store, in memory."""

    stored: dict[bytes, list[Stored]] = field(default_factory=dict)
    edges: dict[bytes, list[bytes]] = field(default_factory=dict)
    open: list[Edge] = field(default_factory=list)
    # Of blocks, how many references have a verdict; these lie among those that have none.
    settled: dict[tuple[bytes, int], int] = field(default_factory=dict)
    verdicts: dict[tuple[bytes, int, int], str] = field(default_factory=dict)
    chains: dict[int, tuple[int, int, bool, int]] = field(default_factory=dict)
    # Chains that were found AHEAD.
    skew: set[bytes] = field(default_factory=set)
    written: list[Mapping[Verdict, Sequence[Reference]]] = field(default_factory=list)
    asked: int = 0
    away: bool = False

    def events(self, event_ids: Collection[bytes]) -> dict[bytes, list[Stored]]:
        self.asked += 1
        if self.away:
            raise UnavailableError("away")
        return {i: self.stored[i] for i in event_ids if i in self.stored}

    def parents(self, tenant: str, event_ids: Collection[bytes]) -> list[tuple[bytes, bytes]]:
        if self.away:
            raise UnavailableError("away")
        return [(i, p) for i in event_ids for p in self.edges.get(i, ())]

    def silent_since(self, prefix: int, tenant: str) -> tuple[int, int, bool, int] | None:
        return self.chains.get(prefix)

    def ahead(self, prefixes: Collection[int]) -> dict[int, bytes]:
        found = {ids.chain_prefix(chain): chain for chain in self.skew}
        return {prefix: found[prefix] for prefix in prefixes if prefix in found}

    def open_blocks(self, part: Part, after: Block | None, limit: int) -> list[Block]:
        blocks = blocks_of(self.open, self.settled)
        return [b for b in blocks if after is None or b[:2] > after[:2]][:limit]

    def unsettled(
        self, part: Part, spans: Sequence[Span], limit: int
    ) -> list[tuple[Edge, Verdict | None]]:
        here = [e for e in self.open if any(a[:2] <= place(e) <= b[:2] for a, b in spans)]
        found = here[:limit]
        self.open = [e for e in self.open if e not in found]
        orphans = {key for key, verdict in self.verdicts.items() if verdict == Verdict.ORPHAN}
        return [
            (
                edge,
                Verdict.ORPHAN
                if (edge.child_chain, edge.child_seq, edge.ordinal) in orphans
                else None,
            )
            for edge in found
        ]

    def write(self, said: Mapping[Verdict, Sequence[References]], at: int) -> None:
        found = {v: [one for group in groups for one in group] for v, groups in said.items()}
        self.written.append(found)
        for verdict, references in found.items():
            for chain, seq, _, ordinal, _ in references:
                self.verdicts[chain, seq, ordinal] = verdict.value


def place(edge: Edge) -> tuple[bytes, int]:
    """The block of a reference."""
    return edge.child_chain, edge.child_seq // BLOCK


def blocks_of(edges: Sequence[Edge], settled: Mapping[tuple[bytes, int], int]) -> list[Block]:
    """The blocks that have open references, in order."""
    blocks: list[Block] = []
    before = 0
    for name in sorted({*map(place, edges), *settled}):
        count = sum(place(e) == name for e in edges)
        references = count + settled.get(name, 0)
        if count:
            blocks.append(Block(*name, references, before))
        before += references
    return blocks


@dataclass
class FakeReports:
    found: list[Finding] = field(default_factory=list)

    def write(self, log: Log, found: Any, origin: str, **_: Any) -> None:
        self.found += [finding for _, finding, _ in found]


class Bench:
    """A linker by hand: no thread, no store, a clock that stands until it is moved."""

    def __init__(self, **settings: Any) -> None:
        self.store = FakeLinkStore()
        self.reports = FakeReports()
        self.now = world.NOW + SECOND
        # Up to when all is committed; None: all that there is.
        self.horizon: int | None = None
        self.scene = Scene()
        self.topic = MemoryHeads()
        self.linker = Linker(
            self.store,
            self.reports,  # type: ignore[arg-type] # what the linker uses of it
            Metrics(),
            WorkerSettings(**settings),
            self.chain_of,
            Heads(self.topic, MemoryPublisher(), "provenance.heads", 1000),
            lambda: self.now,
            lambda: self.now if self.horizon is None else self.horizon,
        )
        self.partition: Any = None
        # Of the clock by which references wait; it goes on beside, for tests that run the thread.
        self.ahead, self.fresh = 0.0, False
        self.linker._pending = Pending(lambda: time.monotonic() + self.ahead)

    def chain_of(self, prefix: int) -> Any:
        return self.partition.chains.by_prefix(prefix) if self.partition else None

    def commit(self, *values: bytes) -> None:
        self.scene.append(*values)
        before = len(self.scene.told)
        self.partition = self.scene.run(self.partition)
        for flush in self.scene.told[before:]:
            self.linker.committed(flush)
        self.fresh = True

    def turn(self) -> None:
        """A round, and after a commit the next one: nothing is asked for at once."""
        self.linker.turn(0.001)
        if self.fresh:
            self.fresh = False
            self.ahead += FIRST_RETRY_S
            self.linker.turn(0.001)

    def later(self, seconds: float) -> None:
        """Time passes: everything that waits is due."""
        self.now += round(seconds * SECOND)
        self.ahead += 86_400.0
        self.turn()

    def codes(self) -> list[Code]:
        return [f.code for f in self.reports.found]


def batch_of(producer: world.Producer, *parents: tuple[ParentRef, ...]) -> bytes:
    events = [world.event(producer.next_seq + i, parents=p).encode() for i, p in enumerate(parents)]
    statement = producer.statement(events)
    value = world.framed(producer.envelope(statement, events))
    producer.advance(statement)
    return value


def first_event(producer: world.Producer) -> ParentRef:
    """How the first event of `send` is named."""
    made = world.event(0)
    return ParentRef(
        ids.event_id(producer.chain_id, 0), made.occurred_at, merkle.leaf_hash(made.encode())
    )


def stored(ref: ParentRef, tenant: str = "default") -> Stored:
    return Stored(tenant, ref.leaf_hash, ref.occurred_at)
