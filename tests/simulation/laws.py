"""What must hold at the end of every simulated run: the conservation law, and the promises.

The laws of commits, sums and chains are those of `sealtrail audit conservation`.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tests.simulation.crypto import TOPIC
from tests.simulation.group import PARTITIONS

from sealtrail import ids
from sealtrail.batch import SignedBatch, unframe
from sealtrail.findings import Code, Disposition
from sealtrail.statement import BatchStatement
from sealtrail_audit.conservation import law
from sealtrail_audit.conservation.broker import Side
from sealtrail_audit.conservation.law import Batch, Commit, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.engine import Row
    from tests.simulation.world import World

# What honest producers may be told, whatever the network did.
HONEST = {Code.GAP_FILLED, Code.LATE, Code.BEHIND_OR_DELAYED}
_BATCH = tuple(name for name in Batch.__dataclass_fields__ if name != "here")
TAKEN = (Disposition.ACCEPTED, Disposition.RELEASED)


def violations(world: World) -> list[str]:
    """Everything that does not hold."""
    found = list(world.broken)
    found += [
        f"REWRITTEN: a row of {text} was replaced by another" for text in world.store.rewritten
    ]
    lost = _lost_batches(world)
    for place in _places(world):
        found += _of_log(world, place)
        found += _chains(world, place, lost)
    found += _events(world, lost)
    found += _refused(world)
    found += _findings(world, lost)
    return found


def _places(world: World) -> list[Place]:
    named = {(r["log_id"], r["partition"]) for r in world.store.rows("commits")}
    return [Place(log_id, TOPIC, number) for log_id, number in sorted(named)]


def _bound(place: Place) -> dict[str, Any]:
    return {"log": place.log_id, "topic": place.topic, "partition": place.partition}


def _of_log(world: World, place: Place) -> Iterator[str]:
    """Commits, fates and their sum; the group, and the end of the log."""
    store = world.store
    commits = [
        Commit(r["first_offset"], r["last_offset"], r["kind"] == "lost", r["messages"], r["rows"])
        for r in store.of("commits", _bound(place))
    ]
    covered = law.cover(commits, -1)
    yield from (f"COMMITS {place}: none covers {hole}" for hole in covered.holes)
    rows = [r for r in store.of("dispositions", _bound(place)) if r["offset"] <= covered.end]
    fates = Counter(r["disposition"] for r in rows)
    offsets = Counter(r["offset"] for r in rows)
    gone = {o for first, last in covered.lost for o in range(first, last + 1)}
    must = set(range(covered.end + 1)) - gone
    if set(offsets) != must or max(offsets.values(), default=1) > 1:
        differ = sorted(must ^ set(offsets)) or [o for o, n in offsets.items() if n > 1]
        yield f"ONE_FATE {place}: offsets {differ[:10]} do not have one fate"
    events = sum(r["events"] for r in rows if r["disposition"] in TAKEN)
    yield from map(str, law.sums(place, covered.commits, dict(fates), events))
    for first, last in covered.lost:
        if not any(log.log_id == place.log_id and at == first for log, at in world.reported):
            yield f"LOST {place}: {first} to {last} are lost, and no finding says so"
    if place.log_id == f"cluster-{world.broker.lives}":
        start, end = (
            world.broker.starts.get(place.partition, 0),
            len(world.broker.log(place.partition)),
        )
        side = Side(place, start, end, world.group.offsets.get(place.partition))
        yield from map(str, law.ahead([side], {place: covered.end}, drained=True))
        # Faust does not count a hole behind offset 0: the group stands until the next rebalance.
        if not start and (side.group or 0) < covered.end + 1:
            yield f"BEHIND {place}: the group is at {side.group}, the store at {covered.end}"


def _committed(world: World, table: str, place: Place) -> list[Row]:
    end = world.store.committed_end(place.log_id, place.topic, place.partition)
    return [r for r in world.store.of(table, _bound(place)) if r["offset"] <= end]


def _chains(world: World, place: Place, lost: set[tuple[bytes, int]]) -> Iterator[str]:
    """Chains are whole but for what was lost before anybody read it."""
    batches = [
        Batch(
            **{name: r[name] for name in _BATCH},
            here=r["log_id"] == place.log_id,
        )
        for r in world.store.committed("batches")
        if r["partition"] == place.partition
    ]
    broken, gaps = law.joints(place, batches)
    yield from map(str, broken)
    for gap in gaps:
        if (gap.chain_id, gap.last) not in lost:
            yield f"CHAIN {place}: {gap.after.name} has none before it, and nothing was lost"


def _lost_batches(world: World) -> set[tuple[bytes, int]]:
    """Batches that the broker dropped before they were read, and their numbers."""
    found = set()
    for raw in world.broker.lost:
        if raw.value is None or raw.value in world.broker.bent:
            continue
        envelope = SignedBatch.decode(unframe(raw.value)[1])
        if envelope.events or b"batch" in envelope.payload_type.encode():
            statement = BatchStatement.decode(envelope.statement)
            found.add((statement.chain_id, statement.batch_seq))
    return found


def _events(world: World, lost: set[tuple[bytes, int]]) -> Iterator[str]:
    """Each promised event is visible once, as it was; nothing else is."""
    promised = {i: what for s in world.services for i, what in s.promised.items()}
    seen = Counter(r["event_id"] for r in world.store.committed("events"))
    doubled = sorted(i for i, n in seen.items() if n > 1)
    if doubled:
        yield f"DOUBLED: {len(doubled)} events, first {ids.text(doubled[0])}"
    missing = [i for i in promised if i not in seen]
    if missing and not lost:
        yield f"MISSING: {len(missing)} promised events, first {ids.text(missing[0])}"
    for row in world.store.committed("events"):
        must = promised.get(row["event_id"])
        if must is None:
            yield f"STRANGE: event {ids.text(row['event_id'])} was never promised"
        elif must != (row["leaf_hash"], tuple(row["parents"])):
            yield f"CHANGED: event {ids.text(row['event_id'])} is not as it was emitted"
    stored = {(r["chain_id"], r["batch_seq"]) for r in world.store.committed("batches")}
    for row in world.store.committed("dispositions"):
        at = (row["chain_id"], row["batch_seq"])
        if row["disposition"] == Disposition.DUPLICATE and at not in stored:
            yield f"DUPLICATE: offset {row['offset']} was dropped, and its batch is not there"


def _refused(world: World) -> Iterator[str]:
    """What was bent on the way is refused, and nothing else."""
    bent = {sha256(value).digest() for value in world.broker.bent}
    for number in range(PARTITIONS):
        place = Place(f"cluster-{world.broker.lives}", TOPIC, number)
        for row in _committed(world, "dispositions", place):
            refused = row["disposition"] in (Disposition.QUARANTINED, Disposition.PARKED)
            if refused and row["digest"] not in bent:
                yield f"REFUSED {place}: offset {row['offset']} is honest: {row['detail']}"


def _findings(world: World, lost: set[tuple[bytes, int]]) -> Iterator[str]:
    """No false alarm: nobody forged anything."""
    refusals = {c for c in Code if c not in (Code.FORK, *HONEST)}
    for row in world.store.committed("findings"):
        code = Code(row["code"])
        if code in HONEST or (code in refusals and row["chain_id"] == bytes(32)):
            continue
        yield f"FALSE ALARM: {row['code']} at offset {row['offset']}: {row['detail'][:90]}"
