"""A producer's process in the simulated world: the SDK itself, without its threads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sealtrail.event import EntityRef
from sealtrail_producer import trail as trails

if TYPE_CHECKING:
    from tests.simulation.world import World

    from sealtrail.event import ParentRef
    from sealtrail_producer import Trail
    from sealtrail_producer.pending import Receipt

# Of the simulated clock, which moves by a millisecond at each look.
CLOSE_S = 0.03


@dataclass
class Service:
    """A producer's process, its lives and what it may count on.

    emitted: receipts of the life that is on; promised: leaf hash and parents of events that were in
    the spool, by their ids: they must reach the store.
    """

    world: World
    producer: str
    instance: str
    trail: Trail | None = None
    emitted: list[tuple[Receipt, tuple[ParentRef, ...]]] = field(default_factory=list)
    promised: dict[bytes, tuple[bytes, tuple[ParentRef, ...]]] = field(default_factory=dict)

    @property
    def core(self) -> Any:
        """Inside of the trail, which is opened if it is not."""
        if self.trail is None:
            self.world.note(f"{self.instance} starts")
            self.trail = self.world.open(self)
            self.emitted = []
        return self.trail._core

    def emit(self) -> None:
        """Some events, caused by others of anybody."""
        tape = self.world.tape
        self.core  # noqa: B018 - it opens the trail
        for _ in range(1 + tape.below(3)):
            known = self.world.known
            causes = [known[tape.below(len(known))] for _ in range(tape.below(3)) if known]
            parents = tuple(dict.fromkeys(causes))
            receipt = self.trail.emit(
                "sim.step",
                event_type="TRANSFORM",
                outputs=[EntityRef("sim", self.instance)],
                parents=parents,
                durable=tape.one_in(6),
            )
            self.emitted.append((receipt, parents))
            self.world.known.append(receipt.reference)
        self.keep()

    def keep(self) -> None:
        """What is in the spool now is promised."""
        if self.trail is not None and self.trail._core is not None:
            placed = self.trail._core.flusher.placed
            for receipt, parents in self.emitted[:placed]:
                leaf = receipt.reference.leaf_hash
                self.promised[receipt.event_id] = (leaf, parents)

    def flush(self) -> None:
        """A turn of the flusher."""
        self.core.flush_step()
        self.keep()

    def send(self) -> None:
        """A turn of the sender."""
        self.core.send_step()

    def crash(self) -> None:
        """The process dies: its memory is gone, its files stay."""
        if self.trail is not None:
            self.world.note(f"{self.instance} is killed")
            self.keep()
            self.trail._forked()
            self.trail._closed = True
            # The process would be gone: this one must not hold it, and its world, to its end.
            trails._trails.discard(self.trail)
            self.trail = None

    def close(self) -> None:
        """The process ends as it should."""
        if self.trail is not None:
            core = self.trail._core
            self.trail.close(CLOSE_S)
            placed = core.flusher.placed
            for receipt, parents in self.emitted[:placed]:
                self.promised[receipt.event_id] = (receipt.reference.leaf_hash, parents)
            self.trail = None

    @property
    def done(self) -> bool:
        """Whether the brokers have everything, what dead processes left behind included."""
        core = self.core
        adopting = core.adoption is None or core.adoption.active
        return bool(core.flusher.idle() and core.spool.empty and not adopting)
