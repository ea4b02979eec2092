"""What the linker asks of the store and writes to it. Ids go in as hex: they are a producer's."""

from __future__ import annotations

from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING, TypeVar

from sealtrail import ids
from sealtrail.findings import Verdict
from sealtrail_processor.judging.model import Log
from sealtrail_processor.linking.edges import Edge, Stored, place

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sealtrail_processor.store.port import Store

Name = TypeVar("Name", bytes, int, tuple[int, int])

# A query with so many ids stays below ClickHouse's 256 KiB of SQL.
IDS = 5_000
# Likewise of chains and sequence numbers, 80 bytes each, and of ranges of chains, 180 bytes each.
PLACES, RANGES = 3_000, 100
# What a row of `link_verdicts` is packed for.
VERDICTS = {
    "child_chain": "FixedString(32)",
    "child_seq": "UInt64",
    "child_branch": "UInt32",
    "ordinal": "UInt8",
    "parent_id": "FixedString(16)",
    "verdict": "LowCardinality(String)",
    "decided_at": "DateTime64(6, 'UTC')",
    "version": "UInt64",
}
# A row up to its verdict, and what follows it, in ClickHouse's format RowBinary: columns one behind
# the other, little-endian, the text of the verdict with its length before it.
REFERENCE, _MOMENTS = Struct("<32sQIB16s"), Struct("<qQ")
# Not ORPHAN: the parent may still come, after the worker that waited for it.
SETTLED = (Verdict.VERIFIED, Verdict.MISMATCH, Verdict.EXTERNAL, Verdict.LOST_WITH_PRODUCER)


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

    def unsettled(
        self, topic: str, partition: int, since: int, limit: int
    ) -> list[tuple[Edge, Verdict | None]]:
        """References of a partition that arrived since a time and have no lasting verdict yet.

        Each with ORPHAN where that was said already, so that it is not said again.
        """
        here = (
            "FROM edges_by_child WHERE topic = {topic:String} AND partition = {partition:UInt16} "
            "AND arrival >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')"
        )
        settled = ", ".join(f"'{v}'" for v in SETTLED)
        orphan = f"'{Verdict.ORPHAN}'"

        def said(how: str, verdicts: str) -> str:
            return (
                f"(child_chain, child_seq, child_branch, ordinal) {how} ("  # noqa: S608 - our own text
                "SELECT child_chain, child_seq, child_branch, ordinal FROM link_verdicts FINAL "
                f"WHERE verdict IN ({verdicts}) "
                "AND decided_at >= fromUnixTimestamp64Micro({since:Int64}, 'UTC') "
                # By the primary key, of this partition alone: each partition asks for itself.
                f"AND child_chain IN (SELECT child_chain {here}))"
            )

        rows = self._store.query(
            "SELECT log_id, offset, toUnixTimestamp64Micro(arrival) AS at, tenant, child_chain, "
            "child_seq, child_branch, child_id, ordinal, parent_id, "
            f"toUnixTimestamp64Micro(parent_occurred_at), parent_leaf, {said('IN', orphan)} "
            f"{here} AND {said('NOT IN', settled)} "
            "ORDER BY at LIMIT 1 BY child_chain, child_seq, child_branch, ordinal "
            # It is asked while the stream begins, which needs the other cores.
            f"LIMIT {limit:d} SETTINGS max_threads = 1",
            {"topic": topic, "partition": partition, "since": max(since, 0)},
        )
        return [
            (
                Edge(
                    Log(row[0], topic, partition),
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
                Verdict.ORPHAN if row[12] else None,
            )
            for row in rows
        ]

    def write(self, said: Mapping[Verdict, Sequence[bytes]], at: int) -> None:
        """Write what is known of references from now on, in one insert.

        Args:
            said: references as `REFERENCE` packs them, each once, by their verdicts.
            at: when it was decided, microseconds since 1970; the latest counts.
        """
        rows: list[bytes] = []
        for verdict, references in said.items():
            name = verdict.value.encode()
            end = bytes([len(name)]) + name + _MOMENTS.pack(at, at)
            for reference in references:
                rows += (reference, end)
        packed = b"".join(rows)
        token = f"link_verdicts/{sha256(packed).hexdigest()}"
        self._store.insert_packed("link_verdicts", VERDICTS, packed, token)


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
