"""Events, edges and entities as the store has them, for lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sealtrail import ids
from sealtrail.errors import MalformedError, SealtrailError
from sealtrail_audit.lineage import Edge, Entity, Node

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from sealtrail_audit.lineage import Reference
    from sealtrail_audit.reader import Reader

_Item = TypeVar("_Item")

# Ids are cast to FixedString(16): as a String one that ends in zeros would be cut short.
# Not the views `committed_*`: those read with FINAL, which takes in every granule that overlaps one
# that is wanted (40 events of 10 million: 1,057 granules of 1,230 instead of 402), and find out in
# each question what is committed. Rows do not change: of repeated ones any will do.
# Ids in one question: some 70 kB of text in a parameter.
_CHUNK = 2_000
# Entities of an event that a tree can show.
_SHOWN = 20

# Up to where all is committed, of each partition and life of a log.
_ENDS = """
SELECT concat(log_id, ' ', topic, ' ', toString(partition)), committed + 1 FROM committed
"""

# A log that is not named has position 0, and the end there is 0: nothing of it is committed.
_COMMITTED = """
offset < {ends:Array(UInt64)}[
    indexOf({logs:Array(String)}, concat(log_id, ' ', topic, ' ', toString(partition)))
]
"""

_EDGES = """
SELECT DISTINCT
    lower(hex(child_id)), lower(hex(parent_id)), hex(child_chain) AS chain, child_seq, child_branch,
    ordinal
FROM {table}
PREWHERE {column} IN (SELECT toFixedString(unhex(arrayJoin({{ids:Array(String)}})), 16))
WHERE {committed}
ORDER BY chain, child_seq, child_branch, ordinal
"""

# Chain and sequence number of some events.
_AT = """
    SELECT toFixedString(unhex(at.1), 32), at.2
    FROM (SELECT arrayJoin(arrayZip({chains:Array(String)}, {seqs:Array(UInt64)})) AS at)
"""

_VERDICTS = f"""
SELECT hex(child_chain), child_seq, child_branch, ordinal, argMax(verdict, version)
FROM link_verdicts
WHERE (child_chain, child_seq) IN ({_AT})
GROUP BY child_chain, child_seq, child_branch, ordinal
"""  # noqa: S608 - our own text

_NODES = """
SELECT event_id, event_type, activity, toString(occurred_at), producer,
    arraySlice(inputs.namespace, 1, {n}), arraySlice(inputs.name, 1, {n}),
    arraySlice(arrayMap(v -> ifNull(v, ''), inputs.version), 1, {n}),
    arraySlice(outputs.namespace, 1, {n}), arraySlice(outputs.name, 1, {n}),
    arraySlice(arrayMap(v -> ifNull(v, ''), outputs.version), 1, {n})
FROM events
PREWHERE event_id IN (SELECT toFixedString(unhex(arrayJoin({{ids:Array(String)}})), 16)) {place}
WHERE {committed}
LIMIT 1 BY event_id
"""

# The primary key finds these; an id alone is looked for in a filter of all granules.
_PLACES = f"""
AND (chain_id, seq) IN ({_AT})
"""


class StoreSource:
    """`lineage.Source` over the tables of a store, as committed when it is first asked.

    Args:
        reader: the store.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._ends: dict[str, int] | None = None
        # Chains (in hex) of the edges that were answered, by the bits that their events' ids name.
        self._chains: dict[int, set[str]] = {}

    def edges(self, event_ids: Collection[bytes], *, up: bool) -> Sequence[Edge]:
        """The edges to parents (up) or from children (down) of some events, without verdicts."""
        # Each direction has a table that is sorted for it.
        table, column = ("edges_by_child", "child_id") if up else ("edges_by_parent", "parent_id")
        sql = _EDGES.format(table=table, column=column, committed=_COMMITTED)
        found = [
            Edge(bytes.fromhex(child), bytes.fromhex(parent), tuple(reference))
            for part in parts(event_ids)
            for child, parent, *reference in self._committed(sql, {"ids": part})
        ]
        for chain in {edge.reference[0] for edge in found}:
            self._chains.setdefault(ids.chain_prefix(bytes.fromhex(chain)), set()).add(chain)
        return found

    def verdicts(self, references: Collection[Reference]) -> Mapping[Reference, str]:
        """What the linker said of references; those alone that it said anything of."""
        events = list(dict.fromkeys((chain, seq) for chain, seq, _, _ in references))
        found: dict[Reference, str] = {}
        for part in _chunks(events):
            chains, seqs = zip(*part, strict=True)
            for *reference, verdict in self._reader.rows(
                _VERDICTS, {"chains": list(chains), "seqs": list(seqs)}
            ):
                found[tuple(reference)] = verdict
        return found

    def nodes(self, event_ids: Collection[bytes]) -> Mapping[bytes, Node]:
        """The events that are stored, by id."""
        found = self._described((i for i in event_ids if self._places(i)), _PLACES)
        return found | self._described((i for i in event_ids if i not in found), "")

    def _described(self, event_ids: Iterable[bytes], place: str) -> dict[bytes, Node]:
        sql = _NODES.format(committed=_COMMITTED, place=place, n=_SHOWN)
        found: dict[bytes, Node] = {}
        for part in _chunks(list(event_ids)):
            parameters: dict[str, Any] = {"ids": [event_id.hex() for event_id in part]}
            if place:
                places = [at for event_id in part for at in self._places(event_id)]
                parameters["chains"], parameters["seqs"] = map(list, zip(*places, strict=True))
            found |= {row[0]: _node(row) for row in self._committed(sql, parameters)}
        return found

    def _committed(self, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Rows of what was committed when this source was first asked."""
        if self._ends is None:
            self._ends = dict(self._reader.rows(_ENDS))
        ends = {"logs": list(self._ends), "ends": list(self._ends.values())}
        return self._reader.rows(sql, {**parameters, **ends})

    def _places(self, event_id: bytes) -> list[tuple[str, int]]:
        """(chain, sequence number) of an event, if it is of a chain that edges told of."""
        try:
            prefix, seq = ids.parse(event_id)
        except MalformedError:
            return []
        return [(chain, seq) for chain in self._chains.get(prefix, ())]

    def writers(self, entity: Entity, *, up: bool, limit: int) -> list[bytes]:
        """Newest events that wrote an entity (up) or used it (down); any version if it has none."""
        sql = """
            SELECT event_id FROM committed_entity_events
            WHERE namespace = {ns:String} AND name = {name:String}
              AND direction = {direction:String}
              AND ({version:String} = '' OR version = {version:String})
            GROUP BY event_id ORDER BY max(occurred_at) DESC, event_id LIMIT {limit:UInt32}
        """
        parameters = {
            "ns": entity.namespace,
            "name": entity.name,
            "version": entity.version,
            "direction": "output" if up else "input",
            "limit": limit,
        }
        return [row[0] for row in self._reader.rows(sql, parameters)]

    def resolve(self, text: str) -> Entity:
        """The entity that a person means by namespace/name, namespace/name@version or name.

        Raises:
            SealtrailError: none, or several.
        """
        candidates = list(readings(text))
        sql = """
            SELECT DISTINCT namespace, name FROM committed_entity_events
            WHERE (namespace, name) IN (
                SELECT arrayJoin(arrayZip({ns:Array(String)}, {names:Array(String)}))
            ) OR name IN (SELECT arrayJoin({bare:Array(String)}))
            ORDER BY namespace, name LIMIT 20
        """
        full = [c for c in candidates if c.namespace]
        bare = [c for c in candidates if not c.namespace]
        rows = self._reader.rows(
            sql,
            {
                "ns": [c.namespace for c in full],
                "names": [c.name for c in full],
                "bare": [c.name for c in bare],
            },
        )
        return choose(text, candidates, {(namespace, name) for namespace, name in rows})


def readings(text: str) -> Iterator[Entity]:
    """All ways to read what a person wrote: names and versions may hold '/' and '@' themselves."""
    splits = [(text, "")]
    splits += [(text[:at], text[at + 1 :]) for at, c in enumerate(text) if c == "@" and at]
    for whole, version in splits:
        yield Entity("", whole, version)
        for at, character in enumerate(whole):
            # `sealtrail emit` writes namespace:name.
            if character in "/:" and 0 < at < len(whole) - 1:
                yield Entity(whole[:at], whole[at + 1 :], version)


def choose(text: str, candidates: Sequence[Entity], stored: set[tuple[str, str]]) -> Entity:
    """The one reading that the store knows; a reading without a version goes before one with.

    Raises:
        SealtrailError: the store knows none, or several.
    """
    fitting: list[Entity] = []
    for reading in candidates:
        for namespace, name in sorted(stored):
            if name == reading.name and reading.namespace in ("", namespace):
                fitting.append(Entity(namespace, name, reading.version))
    if not fitting:
        raise SealtrailError(
            f"the store knows no entity {text!r}",
            hint="write namespace/name, namespace/name@version or an event id",
        )
    versions = {entity.version for entity in fitting}
    chosen = [entity for entity in fitting if entity.version == min(versions, key=len)]
    distinct = list(dict.fromkeys(chosen))
    if len(distinct) > 1:
        names = ", ".join(str(entity) for entity in distinct[:5])
        raise SealtrailError(f"{text!r} may be {names}", hint="write its namespace, too")
    return distinct[0]


def event_id_of(text: str) -> bytes | None:
    """The id of an event if the text is one."""
    try:
        return ids.from_text(text)
    except MalformedError:
        return None


def parts(event_ids: Collection[bytes]) -> Iterator[list[str]]:
    """Event ids in hex, as many at a time as fit into one question."""
    return _chunks([event_id.hex() for event_id in event_ids])


def _chunks(items: list[_Item]) -> Iterator[list[_Item]]:
    return (items[at : at + _CHUNK] for at in range(0, len(items), _CHUNK))


def _node(row: tuple[Any, ...]) -> Node:
    event_id, event_type, activity, occurred_at, producer, *entities = row
    return Node(
        event_id,
        event_type,
        activity,
        occurred_at,
        producer,
        tuple(map(Entity, *entities[:3])),
        tuple(map(Entity, *entities[3:])),
    )
