"""A commit as events: one, and child events where one cannot hold it all. Pure.

- CREATE: a root, or only new paths. DELETE: only paths that went. AGGREGATE: a
  merge. TRANSFORM: everything else.
- Each (path, blob) is a version of a dataset: old blobs in, new blobs out.
- `occurred_at` is the commit time: what the machine that made this commit said.
  The author time (when the change was first made, before rebasing) is an
  attribute: it is often older than the parents, rightly.
- What exceeds the caps of an event goes into parts, children of the first
  event; parents of later commits refer to the first alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sealtrail.event import (
    MAX_ENTITIES,
    MAX_EVENT_BYTES,
    MAX_MICROS,
    MAX_PARENTS,
    MIN_MICROS,
    EntityRef,
    EventType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sealtrail_producer.importers.commits import Commit

MICROS = 1_000_000
# Leaves room for parents and attributes below MAX_EVENT_BYTES.
MAX_ENTITY_BYTES = MAX_EVENT_BYTES - 64 * 1024
# Avro's lengths, counts and union branches around the texts of an entity.
ENTITY_OVERHEAD = 24


@dataclass(frozen=True, slots=True)
class Draft:
    """An event before it has an id; `parents` are commits, a part's first parent is event 0."""

    event_type: EventType
    activity: str
    occurred_at: int
    author: str
    parents: tuple[str, ...]
    inputs: tuple[EntityRef, ...]
    outputs: tuple[EntityRef, ...]
    attributes: dict[str, str] = field(default_factory=dict)
    part_of_first: bool = False

    @property
    def size(self) -> int:
        """About how many bytes the event takes; never less than it does."""
        entities = sum(_size(entity) for entity in (*self.inputs, *self.outputs))
        texts = sum(len(k.encode()) + len(v.encode()) + 8 for k, v in self.attributes.items())
        return entities + texts + 64 * (len(self.parents) + 1) + 256


def drafts(commit: Commit, repository: str, name: Callable[[str], str]) -> list[Draft]:
    """The events of a commit: the first one stands for it, the others are its parts.

    Args:
        commit: what to tell.
        repository: namespace of its paths.
        name: pseudonym of a person.
    """
    parts = list(_parts(commit, repository))
    occurred_at, clamped = _micros(commit.commit_time)
    author = name(commit.author)
    base = {"git.commit": commit.id}
    told = base | {"git.author_time": timestamp(commit.author_time)}
    if commit.committer != commit.author:
        told["git.committer"] = name(commit.committer)
    if clamped:
        told["git.commit_time"] = str(commit.commit_time)
    if len(parts) > 1:
        told["git.parts"] = str(len(parts) - 1)
    merge = len(commit.parents) > 1
    made = []
    for index, (parents, inputs, outputs) in enumerate(parts):
        made.append(
            Draft(
                event_type=event_type(commit),
                activity=("git.merge" if merge else "git.commit") + (".part" if index else ""),
                occurred_at=occurred_at,
                author=author,
                parents=parents,
                inputs=inputs,
                outputs=outputs,
                attributes=base | {"git.part": str(index)} if index else told,
                part_of_first=index > 0,
            )
        )
    return made


def event_type(commit: Commit) -> EventType:
    """Which event of the lineage model a commit is."""
    if len(commit.parents) > 1:
        return EventType.AGGREGATE
    if not commit.parents:
        return EventType.CREATE
    if commit.changes and all(change.new is None for change in commit.changes):
        return EventType.DELETE
    if commit.changes and not any(blob for change in commit.changes for blob in change.old):
        return EventType.CREATE
    return EventType.TRANSFORM


def timestamp(seconds: int) -> str:
    """RFC 3339 in UTC, or the number itself where no calendar reaches."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def _micros(seconds: int) -> tuple[int, bool]:
    micros = min(max(seconds * MICROS, MIN_MICROS), MAX_MICROS)
    return micros, micros != seconds * MICROS


Part = tuple[tuple[str, ...], tuple[EntityRef, ...], tuple[EntityRef, ...]]


def _parts(commit: Commit, repository: str) -> Iterator[Part]:
    inputs, outputs = _entities(commit, repository)
    # A part spends one parent on the first event.
    parents = [commit.parents[:MAX_PARENTS]]
    rest = commit.parents[MAX_PARENTS:]
    while rest:
        parents.append(rest[: MAX_PARENTS - 1])
        rest = rest[MAX_PARENTS - 1 :]
    groups = _groups([(entity, True) for entity in inputs] + [(e, False) for e in outputs])
    for index in range(max(len(parents), len(groups))):
        group = groups[index] if index < len(groups) else []
        yield (
            parents[index] if index < len(parents) else (),
            tuple(entity for entity, used in group if used),
            tuple(entity for entity, used in group if not used),
        )


def _entities(commit: Commit, repository: str) -> tuple[list[EntityRef], list[EntityRef]]:
    # Both parents of a merge may have had the same blob: it was used once.
    used = dict.fromkeys(
        (change.path, blob) for change in commit.changes for blob in change.old if blob
    )
    made = [(change.path, change.new) for change in commit.changes if change.new]
    return (
        [EntityRef(repository, path, blob) for path, blob in used],
        [EntityRef(repository, path, blob) for path, blob in made],
    )


def _size(entity: EntityRef) -> int:
    texts = (entity.namespace, entity.name, entity.version or "")
    return sum(len(text.encode()) for text in texts) + ENTITY_OVERHEAD


def _groups(entities: list[tuple[EntityRef, bool]]) -> list[list[tuple[EntityRef, bool]]]:
    groups: list[list[tuple[EntityRef, bool]]] = [[]]
    size = 0
    for entity, used in entities:
        size += (more := _size(entity))
        if len(groups[-1]) == MAX_ENTITIES or size > MAX_ENTITY_BYTES:
            groups.append([])
            size = more
        groups[-1].append((entity, used))
    return groups
