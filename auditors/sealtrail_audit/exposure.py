"""What a key signed, what of it a thief may have signed, and what came of that.

Rules:
- what arrived before the compromise is as good as ever: arrival is not the signer's word;
- exposed is what arrived from then on and was accepted, until the revocation was known: signed by
  this key alone, or with others that are compromised, too. Where another key signed as well, a
  thief of this one could not have made it;
- downstream are the descendants of exposed events, through any chain, that are not exposed
  themselves: honest services built on what may be forged.

Every answer is bounded, and what was left out is counted or said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sealtrail.errors import ConfigurationError
from sealtrail_audit.graph import parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealtrail.records import Directory, KeyRecord
    from sealtrail_audit.graph import StoreSource
    from sealtrail_audit.reader import Reader

FOREVER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Window:
    """From when on a key's signatures are not to be trusted; microseconds since 1970.

    since: begin; why: COMPROMISED, asked, or whole life (when nothing was declared).
    in_force: when the revocation arrived: afterwards the pipeline refused what it covers.
    """

    since: int
    why: str
    in_force: int | None = None


@dataclass(slots=True)
class Limits:
    """How much a report shows and follows."""

    chains: int = 100
    entities: int = 100
    events: int = 10_000


@dataclass(slots=True)
class Exposure:
    """The report.

    totals: per class (before, exposed, cosigned) batches, events, first and last arrival.
    """

    record: KeyRecord
    window: Window
    totals: dict[str, dict[str, int]] = field(default_factory=dict)
    chains: list[dict[str, Any]] = field(default_factory=list)
    chains_left_out: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    downstream: dict[str, int] = field(default_factory=dict)
    downstream_events: list[bytes] = field(default_factory=list)
    downstream_complete: bool = True
    entities: list[tuple[str, str, int]] = field(default_factory=list)
    entities_left_out: int = 0

    @property
    def exposed(self) -> int:
        """How many events may be a thief's."""
        return self.totals["exposed"]["events"]


def window(directory: Directory, fingerprint: bytes, asked: int | None) -> tuple[KeyRecord, Window]:
    """A key's record, and from when on it is not to be trusted.

    Args:
        directory: all records.
        fingerprint: of the key.
        asked: instead of what was declared, microseconds since 1970.

    Raises:
        ConfigurationError: no record of the key is known.
    """
    record = directory.key(fingerprint, FOREVER)
    if record is None:
        raise ConfigurationError(
            f"the store has no record of key {fingerprint.hex()}", hint="see: sealtrail keys list"
        )
    compromised = [
        (arrival, known.revocation.time)
        for arrival, known in directory.history(fingerprint)
        if known.revocation is not None and known.revocation.reason == "COMPROMISED"
    ]
    in_force = min((arrival for arrival, _ in compromised), default=None)
    if asked is not None:
        return record, Window(asked, "asked", in_force)
    if compromised:
        return record, Window(min(time for _, time in compromised), "COMPROMISED", in_force)
    return record, Window(0, "whole life")


_SIGNED = """
    SELECT chain_id, signers, any(tenant), any(producer), any(instance), any(topic), any(partition),
        countIf(arrival < since), sumIf(count, arrival < since),
        countIf(arrival >= since), sumIf(count, arrival >= since),
        toUnixTimestamp64Micro(min(arrival)), toUnixTimestamp64Micro(max(arrival)),
        toUnixTimestamp64Micro(maxIf(arrival, arrival < since)),
        toUnixTimestamp64Micro(minIf(arrival, arrival >= since))
    FROM (
        SELECT *, fromUnixTimestamp64Micro({since:Int64}, 'UTC') AS since FROM committed_batches
        WHERE has(signers, toFixedString(unhex({key:String}), 32))
    )
    GROUP BY chain_id, signers
    ORDER BY min(arrival), chain_id
"""
_REFUSED = """
    SELECT count(), toUnixTimestamp64Micro(min(arrival)), toUnixTimestamp64Micro(max(arrival))
    FROM committed_dispositions
    WHERE code = 'KEY_REVOKED' AND startsWith(detail, {start:String})
"""
# Which batches are exposed, as (chain, batch).
_EXPOSED_BATCHES = """
    SELECT chain_id, batch_seq FROM committed_batches
    WHERE has(signers, toFixedString(unhex({key:String}), 32))
      AND arrival >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')
      AND arrayAll(s -> lower(hex(s)) IN {untrusted:Array(String)}, signers)
"""
_EXPOSED_EVENTS = f"""
    SELECT event_id FROM committed_events WHERE (chain_id, batch_seq) IN ({_EXPOSED_BATCHES})
"""  # noqa: S608 - our own text
_CHILDREN = f"""
    SELECT DISTINCT child_id FROM committed_edges_by_parent
    WHERE parent_id IN ({_EXPOSED_EVENTS}) AND child_id NOT IN ({_EXPOSED_EVENTS})
    LIMIT {{limit:UInt64}}
"""  # noqa: S608 - our own text
_AMONG = f"""
    SELECT event_id FROM committed_events
    WHERE event_id IN (SELECT toFixedString(unhex(arrayJoin({{ids:Array(String)}})), 16))
      AND (chain_id, batch_seq) IN ({_EXPOSED_BATCHES})
"""  # noqa: S608 - our own text
_PRODUCERS = """
    SELECT producer, uniqExact(event_id) FROM committed_events
    WHERE event_id IN (SELECT toFixedString(unhex(arrayJoin({ids:Array(String)})), 16))
    GROUP BY producer
"""
_OUTPUTS = """
    SELECT namespace, name, uniqExact(event_id) FROM committed_entity_events
    WHERE direction = 'output'
      AND event_id IN (SELECT toFixedString(unhex(arrayJoin({ids:Array(String)})), 16))
    GROUP BY namespace, name
"""
_EXPOSED_OUTPUTS = f"""
    SELECT namespace, name, uniqExact(event_id) FROM committed_entity_events
    WHERE direction = 'output' AND event_id IN ({_EXPOSED_EVENTS})
    GROUP BY namespace, name ORDER BY 3 DESC, 1, 2 LIMIT {{limit:UInt64}}
"""  # noqa: S608 - our own text


class Examiner:
    """Asks the store.

    Args:
        reader: the store.
        source: its graph.
        directory: all key records: who else is compromised.
        limits: of what is shown and followed.
    """

    def __init__(
        self, reader: Reader, source: StoreSource, directory: Directory, limits: Limits
    ) -> None:
        self._reader = reader
        self._source = source
        self._directory = directory
        self._limits = limits
        self._parameters: dict[str, Any] = {}

    def report(self, record: KeyRecord, window_: Window) -> Exposure:
        """All that is known of a key."""
        found = Exposure(record, window_)
        untrusted = {record.fingerprint} | {
            known.fingerprint
            for known in self._directory.keys()  # noqa: SIM118 - no dict
            if known.revocation is not None and known.revocation.reason == "COMPROMISED"
        }
        self._parameters = {
            "key": record.fingerprint.hex(),
            "since": window_.since,
            "untrusted": sorted(f.hex() for f in untrusted),
        }
        self._signed(found, untrusted)
        start = f"key {record.fingerprint.hex()[:16]} "
        ((count, first, last),) = self._reader.rows(_REFUSED, {"start": start})
        found.refused = {"messages": count} | (
            {"first_arrival": first, "last_arrival": last} if count else {}
        )
        if found.exposed:
            self._follow(found)
            self._entities(found)
        return found

    def _signed(self, found: Exposure, untrusted: set[bytes]) -> None:
        names = ("before", "exposed", "cosigned")
        totals = {name: {"batches": 0, "events": 0} for name in names}
        for row in self._reader.rows(_SIGNED, self._parameters):
            chain, signers, tenant, producer, instance, topic, partition, *counts = row
            before, before_events, after, after_events, first, last, until, since = counts
            kind = "exposed" if set(signers) <= untrusted else "cosigned"
            _add(totals["before"], before, before_events, first, until)
            if after:
                _add(totals[kind], after, after_events, since, last)
            if len(found.chains) >= self._limits.chains:
                found.chains_left_out += 1
                continue
            found.chains.append(
                {
                    "chain_id": chain,
                    "producer": producer,
                    "instance": instance,
                    "tenant": tenant,
                    "topic": topic,
                    "partition": partition,
                    "before_batches": before,
                    "before_events": before_events,
                    f"{kind}_batches": after,
                    f"{kind}_events": after_events,
                    "first_arrival": first,
                    "last_arrival": last,
                }
            )
        found.totals = totals

    def _follow(self, found: Exposure) -> None:
        """Breadth first, level by level, as far as the limit allows."""
        most = self._limits.events
        rows = self._reader.rows(_CHILDREN, self._parameters | {"limit": most + 1})
        frontier = [bytes(row[0]) for row in rows]
        known: dict[bytes, None] = {}
        while frontier:
            room = most - len(known)
            if len(frontier) > room:
                found.downstream_complete = False
                frontier = frontier[:room]
            known.update(dict.fromkeys(frontier))
            if not found.downstream_complete:
                break
            children = {edge.child for edge in self._source.edges(frontier, up=False)}
            fresh = sorted(children - known.keys())
            exposed = self._exposed(fresh)
            frontier = [child for child in fresh if child not in exposed]
        found.downstream_events = list(known)
        for part in parts(found.downstream_events):
            for producer, count in self._reader.rows(_PRODUCERS, {"ids": part}):
                found.downstream[producer] = found.downstream.get(producer, 0) + count

    def _exposed(self, event_ids: Sequence[bytes]) -> set[bytes]:
        return {
            bytes(row[0])
            for part in parts(event_ids)
            for row in self._reader.rows(_AMONG, self._parameters | {"ids": part})
        }

    def _entities(self, found: Exposure) -> None:
        """What exposed and downstream events wrote, the most written first."""
        counted: dict[tuple[str, str], int] = {}
        most = self._limits.events
        rows = self._reader.rows(_EXPOSED_OUTPUTS, self._parameters | {"limit": most})
        for part in parts(found.downstream_events):
            rows += self._reader.rows(_OUTPUTS, {"ids": part})
        for namespace, name, count in rows:
            counted[namespace, name] = counted.get((namespace, name), 0) + count
        ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
        found.entities = [(*name, count) for name, count in ordered[: self._limits.entities]]
        found.entities_left_out = len(ordered) - len(found.entities)


def _add(total: dict[str, int], batches: int, events: int, first: int, last: int) -> None:
    if not batches:
        return
    total["batches"] += batches
    total["events"] += events
    total["first_arrival"] = min(first, total.get("first_arrival", first))
    total["last_arrival"] = max(last, total.get("last_arrival", last))
