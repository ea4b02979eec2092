"""Tells the history of a graph: drafts in, signed events out, able to go on after a crash.

Order that survives a crash, per group of commits: emit (the events wait in
memory, the batch limits are wider than a group) -> checkpoint on disk -> flush
to spool and brokers. Whatever the spool holds, the checkpoint knows; `resume`
tells which of what the checkpoint knows the spool never saw.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sealtrail.event import Actor, ActorKind
from sealtrail_producer.importers.events import drafts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sealtrail.event import ParentRef
    from sealtrail_producer.importers.checkpoint import Checkpoint
    from sealtrail_producer.importers.commits import Commit, Graph
    from sealtrail_producer.importers.events import Draft
    from sealtrail_producer.trail import Trail

GROUP_EVENTS = 500
GROUP_BYTES = 600_000
# After so long without the brokers taking a group somebody should hear of it.
PATIENCE_S = 15.0


@dataclass(slots=True)
class Told:
    """What an import did: commits told now, told before, and events by kind."""

    commits: int = 0
    known_before: int = 0
    parts: int = 0
    links: int = 0
    missing_parents: list[str] = field(default_factory=list)

    @property
    def events(self) -> int:
        """Events emitted now."""
        return self.commits + self.parts


class Importer:
    """One run over a graph.

    Args:
        trail: takes the events; its batches must hold GROUP_EVENTS and GROUP_BYTES.
        checkpoint: what was told before, and where this run is remembered.
        name: pseudonym of a person.
        held_up: called each time that a group has waited PATIENCE_S for brokers and workers.
    """

    def __init__(
        self,
        trail: Trail,
        checkpoint: Checkpoint,
        name: Callable[[str], str],
        held_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._trail = trail
        self._checkpoint = checkpoint
        self._name = name
        self._held_up = held_up
        self._group: dict[str, ParentRef] = {}
        self._events = 0
        self._bytes = 0
        self.told = Told()

    def run(self, graph: Graph, advance: Callable[[float], None]) -> Told:
        """Tell all commits that were not told before.

        Args:
            graph: parents before children.
            advance: called with the number of commits dealt with.
        """
        try:
            for commit in graph.commits():
                if commit.id in self._checkpoint:
                    self.told.known_before += 1
                else:
                    self._tell(commit, drafts(commit, graph.repository, self._name))
                advance(1)
        finally:
            # Interrupted, too: closing the trail sends what was emitted.
            self._remember()
        self._deliver()
        return self.told

    def _tell(self, commit: Commit, parts: Sequence[Draft]) -> None:
        size = sum(part.size for part in parts)
        if not self._fits(len(parts), size):
            self._remember()
            self._deliver()
        first = self._emit(parts[0], self._parents(parts[0]))
        self._group[commit.id] = first
        self._events += len(parts)
        self._bytes += size
        self.told.commits += 1
        large = not self._fits(0, 0)
        if large:
            # Its parts may make the trail send on its own: the commit must be remembered before.
            self._remember()
        for part in parts[1:]:
            self._emit(part, [first, *self._parents(part)])
            self.told.parts += 1
        if large:
            self._deliver()

    def _fits(self, events: int, size: int) -> bool:
        return self._events + events <= GROUP_EVENTS and self._bytes + size <= GROUP_BYTES

    def _emit(self, draft: Draft, parents: list[ParentRef]) -> ParentRef:
        self.told.links += len(parents)
        receipt = self._trail.emit(
            draft.activity,
            event_type=draft.event_type,
            occurred_at=draft.occurred_at,
            actor=Actor(draft.author, ActorKind.HUMAN),
            inputs=draft.inputs,
            outputs=draft.outputs,
            parents=parents,
            attributes=draft.attributes,
            backfill=True,
        )
        return receipt.reference

    def _parents(self, draft: Draft) -> list[ParentRef]:
        found = []
        for commit in draft.parents:
            reference = self._group.get(commit)
            if reference is None and commit in self._checkpoint:
                reference = self._checkpoint[commit]
            if reference is None:
                self.told.missing_parents.append(commit)
            else:
                found.append(reference)
        return found

    def _deliver(self) -> None:
        while not self._trail.flush(PATIENCE_S):
            self._held_up()

    def _remember(self) -> None:
        if self._group:
            self._checkpoint.append(self._group.items())
        self._group = {}
        self._events = self._bytes = 0
