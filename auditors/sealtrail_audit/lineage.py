"""Lineage: from an event or an entity up to its causes, or down to what became of it.

- The graph is walked level by level, one question per level, never by recursion in the engine.
- A walk ends at its depth, at its number of events, when its time is up, and on cycles (honest
  events cannot form one, forged ones might): what a limit cut off is said, not hidden.
- It is a graph, not a tree: what was shown once is referred to after that.

I/O is not handled here; `sealtrail_audit.graph` asks the store.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from sealtrail import ids

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Entity:
    """A version of a dataset as events name it."""

    namespace: str
    name: str
    version: str = ""

    def __str__(self) -> str:
        at = f"@{self.version}" if self.version else ""
        return f"{self.namespace}/{self.name}{at}"


@dataclass(frozen=True, slots=True)
class Node:
    """An event of the graph. stored is False for one that is only referred to."""

    event_id: bytes
    event_type: str = ""
    activity: str = ""
    occurred_at: str = ""
    producer: str = ""
    inputs: tuple[Entity, ...] = ()
    outputs: tuple[Entity, ...] = ()
    stored: bool = True


# Which reference of which stored event: chain in hex, sequence number, branch, ordinal.
Reference = tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class Edge:
    """child names parent as its cause; verdict is what the linker said of it."""

    child: bytes
    parent: bytes
    reference: Reference
    verdict: str = "PENDING"


class Source(Protocol):
    """Where events and edges come from."""

    def edges(self, ids: Collection[bytes], *, up: bool) -> Sequence[Edge]:
        """The edges to parents (up) or from children (down) of some events, without verdicts."""

    def verdicts(self, references: Collection[Reference]) -> Mapping[Reference, str]:
        """What the linker said of references; those alone that it said anything of."""

    def nodes(self, ids: Collection[bytes]) -> Mapping[bytes, Node]:
        """The events that are stored, by id."""


@dataclass(slots=True)
class Lineage:
    """What a walk found: events by id in order of discovery, edges by the event they lead from."""

    start: tuple[bytes, ...]
    up: bool
    nodes: dict[bytes, Node] = field(default_factory=dict)
    edges: dict[bytes, list[Edge]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def value(self) -> dict[str, Any]:
        """The graph as plain values, for JSON."""
        return {
            "direction": "up" if self.up else "down",
            "start": [ids.text(i) for i in self.start],
            "events": [_plain(node) for node in self.nodes.values()],
            "edges": [
                {
                    "child": ids.text(edge.child),
                    "parent": ids.text(edge.parent),
                    "verdict": edge.verdict,
                }
                for edges in self.edges.values()
                for edge in edges
            ],
            "notes": self.notes,
        }


def _plain(node: Node) -> dict[str, Any]:
    return {
        "id": ids.text(node.event_id),
        "stored": node.stored,
        "event_type": node.event_type,
        "activity": node.activity,
        "occurred_at": node.occurred_at,
        "producer": node.producer,
        "inputs": [str(e) for e in node.inputs],
        "outputs": [str(e) for e in node.outputs],
    }


def walk(  # noqa: PLR0913 - four limits, all by name
    source: Source,
    start: Sequence[bytes],
    *,
    up: bool,
    depth: int,
    max_nodes: int,
    time_is_up: Callable[[], bool] = lambda: False,
) -> Lineage:
    """Follow edges from some events.

    Args:
        source: where events and edges come from.
        start: ids of the first events.
        up: towards causes; else towards consequences.
        depth: most steps from a first event.
        max_nodes: most events in the answer.
        time_is_up: asked before each step.
    """
    found = Lineage(tuple(start)[:max_nodes], up)
    if len(start) > max_nodes:
        found.notes.append(f"{len(start) - max_nodes} of the first events are left out")
    frontier = list(dict.fromkeys(found.start))
    known = dict.fromkeys(frontier)
    left_out: set[bytes] = set()
    for step in range(depth + 1):
        if frontier and time_is_up():
            found.notes.append(f"time is up at depth {step}: {len(frontier)} events lead further")
            break
        edges = source.edges(frontier, up=up) if frontier else ()
        if step == depth:
            _note_depth(found, edges, known, depth)
            break
        following: list[bytes] = []
        for edge in edges:
            near, far = (edge.child, edge.parent) if up else (edge.parent, edge.child)
            if far not in known and len(known) >= max_nodes:
                left_out.add(far)
                continue
            found.edges.setdefault(near, []).append(edge)
            if far not in known:
                known[far] = None
                following.append(far)
        frontier = following
    # All at once: what an event says, and whether a link is true, is not needed to go on from it.
    _describe(source, found, list(known))
    _judge(source, found)
    if left_out:
        found.notes.append(
            f"limit of {max_nodes} events reached: {len(left_out)} more were seen and left out"
        )
    return found


def _note_depth(
    found: Lineage, edges: Sequence[Edge], known: Collection[bytes], depth: int
) -> None:
    far = {edge.parent if found.up else edge.child for edge in edges}.difference(known)
    if far:
        found.notes.append(f"depth {depth} reached: {len(far)} further events lie beyond it")


def _describe(source: Source, found: Lineage, event_ids: Sequence[bytes]) -> None:
    stored = source.nodes(event_ids) if event_ids else {}
    for event_id in event_ids:
        found.nodes[event_id] = stored.get(event_id) or Node(event_id, stored=False)


def _judge(source: Source, found: Lineage) -> None:
    references = [edge.reference for edges in found.edges.values() for edge in edges]
    verdicts = source.verdicts(references) if references else {}
    for event_id, edges in found.edges.items():
        found.edges[event_id] = [
            replace(edge, verdict=verdicts.get(edge.reference, edge.verdict)) for edge in edges
        ]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a tree. again: the event stands further up already, with what follows from it."""

    prefix: str
    node: Node
    verdict: str
    again: bool


def lines(found: Lineage) -> Iterator[Line]:
    """The graph as lines of a tree, depth first; an event's own branches are drawn once."""
    shown: set[bytes] = set()
    # (event, verdict, prefix of its line, prefix of the lines below it)
    stack = [(event_id, "", "", "") for event_id in reversed(found.start)]
    while stack:
        event_id, verdict, prefix, below = stack.pop()
        again = event_id in shown
        shown.add(event_id)
        yield Line(prefix, found.nodes[event_id], verdict, again)
        if again:
            continue
        edges = found.edges.get(event_id, ())
        for index in range(len(edges) - 1, -1, -1):
            edge = edges[index]
            last = index == len(edges) - 1
            far = edge.parent if found.up else edge.child
            branch, space = ("└── ", "    ") if last else ("├── ", "│   ")
            stack.append((far, edge.verdict, below + branch, below + space))
