"""What the linker asks of the store and writes to it. Ids go in as hex: they are a producer's."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from sealtrail import ids
from sealtrail.findings import Verdict
from sealtrail_processor.judging.model import Log
from sealtrail_processor.linking import references
from sealtrail_processor.linking.edges import Edge, Stored, place

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sealtrail_processor.linking.references import References
    from sealtrail_processor.store.port import Store

Name = TypeVar("Name", bytes, int, tuple[int, int])

# A query with so many ids stays below ClickHouse's 256 KiB of SQL.
IDS = 5_000
# Likewise of chains and sequence numbers, 80 bytes each, and of ranges of chains, 180 bytes each.
PLACES, RANGES = 3_000, 100
# Not ORPHAN: the parent may still come, after the worker that waited for it.
SETTLED = (Verdict.VERIFIED, Verdict.MISMATCH, Verdict.EXTERNAL, Verdict.LOST_WITH_PRODUCER)
_SETTLED = ", ".join(f"'{verdict}'" for verdict in SETTLED)

# Open links are looked for by blocks of so many sequence numbers, and read of so many ranges of
# blocks in one query: 1,200 bytes of SQL each at most.
BLOCK, SPANS = 1024, 100
_HERE = (
    "FROM edges_by_child WHERE topic = {topic:String} AND partition IN {partitions:Array(UInt16)} "
    "AND arrival >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')"
)
# By a worker's clock, which may be behind the broker's.
_DECIDED = "decided_at >= fromUnixTimestamp64Micro({since:Int64}, 'UTC') - INTERVAL 1 HOUR"
# It is asked while the stream begins, which needs the other cores.
_BESIDE = "SETTINGS max_threads = 1"


class Part(NamedTuple):
    """References of a topic's partitions that arrived since a time, microseconds since 1970.

    salt: of the hashes by which they are compared, 0 to 2^63 - 1; another for each look.
    """

    topic: str
    partitions: Sequence[int]
    since: int
    salt: int


class Block(NamedTuple):
    """The sequence numbers of a chain from `BLOCK` times a number on, `BLOCK` of them.

    references: those of its events.
    before: those of all blocks in front of it, open or not.
    """

    chain: bytes
    number: int
    references: int
    before: int


Span = tuple[Block, Block]


class LinkStore:
    """The linker's questions over a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def events(self, event_ids: Collection[bytes]) -> dict[bytes, list[Stored]]:
        """Events of all branches and tenants that bear these ids."""
        found: dict[bytes, list[Stored]] = {}
        places = {at for event_id in event_ids if (at := place(event_id)) is not None}
        for part in _batches(places, PLACES):
            chains = self._chains({prefix for prefix, _ in part})
            names = ",".join(
                f"{chain.hex()}{seq}" for prefix, seq in part for chain in chains.get(prefix, ())
            )
            if not names:
                continue
            # By the primary key: an id alone is looked for in a filter of each granule, and a
            # thousand ids are found in nearly all of them. One text: as values of their own they
            # cost the engine more than the rows that they name.
            rows = self._store.query(
                "SELECT event_id, tenant, leaf_hash, toUnixTimestamp64Micro(occurred_at) "  # noqa: S608 - hex and numbers only
                "FROM events WHERE (chain_id, seq) IN (SELECT "
                "toFixedString(unhex(substring(name, 1, 64)), 32), toUInt64(substring(name, 65)) "
                f"FROM (SELECT arrayJoin(splitByChar(',', '{names}')) AS name))"
            )
            for event_id, tenant, leaf, at in rows:
                found.setdefault(bytes(event_id), []).append(Stored(tenant, bytes(leaf), at))
        return found

    def _chains(self, prefixes: Collection[int]) -> dict[int, list[bytes]]:
        """The chains that have batches, by the 82 bits of their ids; rarely several."""
        found: dict[int, list[bytes]] = {}
        for part in _batches(prefixes, RANGES):
            rows = self._store.query(
                "SELECT DISTINCT chain_id FROM batches "  # noqa: S608 - hex only
                f"WHERE {' OR '.join(map(_of_chain, part))}"
            )
            for (chain,) in rows:
                found.setdefault(ids.chain_prefix(bytes(chain)), []).append(bytes(chain))
        return found

    def parents(self, tenant: str, event_ids: Collection[bytes]) -> list[tuple[bytes, bytes]]:
        """(child, parent) of all references that these events make."""
        found = []
        for part in _batches({i for i in event_ids if len(i) == 16}, IDS):
            rows = self._store.query(
                "SELECT DISTINCT child_id, parent_id FROM edges_by_child "  # noqa: S608 - hex only
                f"WHERE tenant = {{tenant:String}} AND child_id IN ({_ids(part)})",
                {"tenant": tenant},
            )
            found += [(bytes(child), bytes(parent)) for child, parent in rows]
        return found

    def silent_since(self, prefix: int, tenant: str) -> tuple[int, int, bool, int] | None:
        """(last sign of life, next sequence number, closed, heartbeat in s) of a chain by its bits.

        None when no batch of it is stored for the tenant.
        """
        between = _of_chain(prefix)
        rows = self._store.query(
            "SELECT toUnixTimestamp64Micro(max(arrival)), max(first_seq + count), max(closes), "  # noqa: S608 - hex only
            "max(heartbeat_s), count() FROM batches "
            f"WHERE {between} AND tenant = {{tenant:String}}",
            {"tenant": tenant},
        )
        arrival, next_seq, closed, heartbeat_s, count = rows[0]
        if not count:
            return None
        beats = self._store.query(
            f"SELECT toUnixTimestamp64Micro(max(arrival)) FROM heartbeats WHERE {between}"  # noqa: S608 - hex only
        )
        return max(arrival, beats[0][0]), next_seq, bool(closed), heartbeat_s

    def ahead(self, prefixes: Collection[int]) -> dict[int, bytes]:
        """Those of these chains that were found AHEAD, by their bits; no others are answered."""
        found: dict[int, bytes] = {}
        for part in _batches(prefixes, IDS):
            # Whole bytes of the 82 bits; what shares these and not the rest is sorted out below.
            names = ",".join({ids.chain_range(prefix)[0][:10].hex() for prefix in part})
            rows = self._store.query(
                "SELECT DISTINCT chain_id FROM findings "  # noqa: S608 - hex only
                "WHERE code = 'AHEAD' AND substring(chain_id, 1, 10) IN "
                f"(SELECT unhex(arrayJoin(splitByChar(',', '{names}'))))"
            )
            found |= {ids.chain_prefix(bytes(chain)): bytes(chain) for (chain,) in rows}
        return {prefix: found[prefix] for prefix in prefixes if prefix in found}

    def open_blocks(self, part: Part, after: Block | None, limit: int) -> list[Block]:
        """Blocks with references that have no lasting verdict yet, in order; now and then others.

        Sums of hashes are compared, of references and of those with a verdict, and no reference is
        held: a day's are more than fit into the engine's memory, and nearly all are settled. The
        salt keeps anybody from choosing references whose sum is 0.

        Args:
            part: of the store.
            after: blocks behind this one; None for all.
            limit: at most so many.
        """
        block = f"child_chain, intDiv(child_seq, {BLOCK}) AS block"
        total = "sum(toInt64(cityHash64({salt:UInt64}, child_seq, child_branch, ordinal)))"
        behind = (
            f"AND (child_chain, block) > (unhex('{after.chain.hex()}'), {after.number:d})"
            if after
            else ""
        )
        rows = self._store.query(
            "SELECT child_chain, block, references, before FROM ("  # noqa: S608 - hex and numbers only
            "SELECT child_chain, block, sum(total) AS open, sum(count) AS references, "
            "sum(references) OVER (ORDER BY child_chain, block) - references AS before FROM ("
            f"SELECT {block}, {total} AS total, count() AS count {_HERE} "
            "GROUP BY child_chain, block UNION ALL "
            # FINAL: the last verdict counts, and ORPHAN may follow LOST_WITH_PRODUCER.
            f"SELECT {block}, -{total}, 0 FROM link_verdicts FINAL "
            f"WHERE verdict IN ({_SETTLED}) AND {_DECIDED} "
            # By the primary key.
            f"AND child_chain IN (SELECT child_chain {_HERE}) GROUP BY child_chain, block"
            ") GROUP BY child_chain, block HAVING references > 0"
            f") WHERE open != 0 {behind} ORDER BY child_chain, block LIMIT {limit:d} {_BESIDE}",
            part._asdict(),
        )
        return [Block(bytes(chain), *numbers) for chain, *numbers in rows]

    def unsettled(
        self, part: Part, spans: Sequence[Span], limit: int
    ) -> list[tuple[Edge, Verdict | None]]:
        """References without a lasting verdict, the first to arrive first.

        Each with ORPHAN where that was said already, so that it is not said again.

        Args:
            part: of the store.
            spans: where to look, each from its first block to its last, `SPANS` at most.
            limit: at most so many.
        """
        children, places = (" OR ".join(map(of, spans)) for of in (_children, _places))
        verdicts = (
            "SELECT child_chain, child_seq, child_branch, ordinal FROM link_verdicts FINAL "  # noqa: S608 - hex and numbers only
            f"WHERE ({places}) AND {_DECIDED} "
            # A span may have chains of other partitions, and of other years.
            f"AND child_chain IN (SELECT child_chain {_HERE} AND ({children})) AND verdict IN"
        )
        reference = "(child_chain, child_seq, child_branch, ordinal)"
        rows = self._store.query(
            "SELECT log_id, offset, toUnixTimestamp64Micro(arrival) AS at, tenant, child_chain, "
            "child_seq, child_branch, child_id, ordinal, parent_id, "
            "toUnixTimestamp64Micro(parent_occurred_at), parent_leaf, partition, "
            f"{reference} IN ({verdicts} ('{Verdict.ORPHAN}')) "
            f"{_HERE} AND ({children}) AND {reference} NOT IN ({verdicts} ({_SETTLED})) "
            "ORDER BY at LIMIT 1 BY child_chain, child_seq, child_branch, ordinal "
            f"LIMIT {limit:d} {_BESIDE}",
            part._asdict(),
        )
        return [
            (
                Edge(
                    Log(row[0], part.topic, row[12]),
                    row[1],
                    row[2],
                    row[3],
                    bytes(row[4]),
                    row[5],
                    row[6],
                    bytes(row[7]),
                    row[8],
                    bytes(row[9]),
                    row[10],
                    bytes(row[11]),
                ),
                Verdict.ORPHAN if row[13] else None,
            )
            for row in rows
        ]

    def write(self, said: Mapping[Verdict, Sequence[References]], at: int) -> None:
        """Write what is known of references from now on, in one insert.

        Args:
            said: references, each once, by their verdicts.
            at: when it was decided, microseconds since 1970; the latest counts.
        """
        packed = references.pack(said, at)
        token = f"link_verdicts/{sha256(packed).hexdigest()}"
        self._store.insert_packed(references.INSERT, references.PACKED, packed, token)


def _batches(names: Collection[Name], most: int) -> Iterable[list[Name]]:
    wanted = sorted(names)
    return (wanted[i : i + most] for i in range(0, len(wanted), most))


def _of_chain(prefix: int) -> str:
    """The condition that a chain begins with these 82 bits."""
    low, high = ids.chain_range(prefix)
    return f"chain_id BETWEEN unhex('{low.hex()}') AND unhex('{high.hex()}')"


def _ids(event_ids: Sequence[bytes]) -> str:
    text = ",".join(i.hex() for i in event_ids)
    return f"SELECT toFixedString(unhex(arrayJoin(splitByChar(',', '{text}'))), 16)"


def _children(span: Span) -> str:
    """The condition that a child is an event of a span, by its id: edges are sorted by it."""
    first, last = (ids.template(block.chain) + block.number * BLOCK for block in span)
    return f"child_id BETWEEN unhex('{first:032x}') AND unhex('{last + BLOCK - 1:032x}')"


def _places(span: Span) -> str:
    """The same by chain and sequence number: verdicts are sorted by these."""
    (first, low, *_), (last, high, *_) = span
    lower = f"child_seq >= {low * BLOCK:d}"
    upper = f"child_seq < {(high + 1) * BLOCK:d}"
    if first == last:
        return f"(child_chain = {_chain(first)} AND {lower} AND {upper})"
    return (
        f"(child_chain = {_chain(first)} AND {lower} OR child_chain = {_chain(last)} AND {upper} "
        f"OR child_chain > {_chain(first)} AND child_chain < {_chain(last)})"
    )


def _chain(chain: bytes) -> str:
    return f"toFixedString(unhex('{chain.hex()}'), 32)"
