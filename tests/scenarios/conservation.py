"""The conservation law, looked at from outside: every offset has one fate, every event one row.

`check` asks the store and the broker of an embedded stack (its state folder says where they are)
and returns what does not hold; an empty list of problems is the answer that is wanted. It is meant
for any moment: what the worker has not committed yet is no loss, unless `drained` says that all was
waited for.
"""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, TopicPartition

from sealtrail.findings import Disposition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

# What holds events of its own, and what is kept byte for byte in quarantine.
STORED = (Disposition.ACCEPTED, Disposition.RELEASED)
REFUSED = (Disposition.QUARANTINED, Disposition.PARKED)
TIMEOUT_S = 120
Place = tuple[str, str, int]
# First and last committed offset of each log and partition, and the ranges that were lost.
Ends = dict[Place, tuple[int, int, list[tuple[int, int]]]]


@dataclass(slots=True)
class Conservation:
    """What was counted, and what does not hold.

    dispositions: how many offsets met each fate; overlaps: commits that cover an offset again
    (which only a zombie or a crash makes, and which is no problem).
    """

    dispositions: dict[str, int] = field(default_factory=dict)
    consumed: int = 0
    events: int = 0
    overlaps: int = 0
    problems: list[str] = field(default_factory=list)


def variables(state_dir: Path) -> dict[str, str]:
    """What `local up` wrote for clients."""
    lines = (state_dir / "local.env").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name: value.strip("'\"") for name, value in pairs}


def query(settings: Mapping[str, str], sql: str) -> list[dict[str, Any]]:
    """Rows of the store, asked over HTTP as its writer; the database is the tables'."""
    numbers = "output_format_json_quote_64bit_integers=0"
    url = f"{settings['SEALTRAIL_STORE_URL']}/?database=sealtrail&{numbers}"
    headers = {
        "X-ClickHouse-User": settings["SEALTRAIL_STORE_USER"],
        "X-ClickHouse-Key": settings["SEALTRAIL_STORE_PASSWORD"],
    }
    request = urllib.request.Request(  # noqa: S310 - loopback, from local.env
        url, data=f"{sql} FORMAT JSONEachRow".encode(), headers=headers
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310 - see above
        return [json.loads(line) for line in reply.read().splitlines()]


def check(
    state_dir: Path,
    *,
    topic: str = "provenance.events",
    group: str = "sealtrail",
    drained: bool = True,
) -> Conservation:
    """Count everything.

    Args:
        state_dir: folder of the embedded stack, which runs.
        topic: of signed batches.
        group: the workers' consumer group.
        drained: whether all that is in the log must be committed by now.
    """
    settings = variables(state_dir)
    found = Conservation()
    # The broker first: the store may only be further by the time that it is asked.
    sides = broker(settings, topic, group)
    ends = _commits(settings, topic, found)
    _dispositions(settings, topic, ends, found)
    _events(settings, topic, found)
    found.problems += _ahead(sides, ends, drained=drained)
    return found


def _commits(settings: Mapping[str, str], topic: str, found: Conservation) -> Ends:
    """How far each log is committed."""
    rows = query(
        settings,
        "SELECT log_id, partition, first_offset, last_offset, kind FROM commits FINAL "
        f"WHERE topic = '{topic}' ORDER BY log_id, partition, first_offset, last_offset",
    )
    ends: Ends = {}
    for row in rows:
        place = (row["log_id"], topic, row["partition"])
        first, last = row["first_offset"], row["last_offset"]
        begin, reached, lost = ends.get(place, (first, first - 1, []))
        if first > reached + 1:
            found.problems.append(f"{place}: no commit covers {reached + 1} to {first - 1}")
        found.overlaps += first <= reached
        if row["kind"] == "lost":
            lost.append((first, last))
        ends[place] = (begin, max(reached, last), lost)
    visible = query(
        settings, f"SELECT log_id, partition, committed FROM committed WHERE topic = '{topic}'"
    )
    for row in visible:
        place = (row["log_id"], topic, row["partition"])
        if ends.get(place, (0, -1, []))[1] != row["committed"]:
            found.problems.append(
                f"{place}: readers see up to {row['committed']}, not {ends[place][1]}"
            )
    return ends


def _dispositions(
    settings: Mapping[str, str],
    topic: str,
    ends: Ends,
    found: Conservation,
) -> None:
    """Each committed offset has exactly one fate, and what belongs to that fate is there."""
    rows = query(
        settings,
        "SELECT log_id, partition, groupArray((offset, toString(disposition), n)) AS fates FROM ("
        "SELECT log_id, partition, offset, disposition, count() AS n FROM dispositions FINAL "
        f"WHERE topic = '{topic}' GROUP BY log_id, partition, offset, disposition) "
        "GROUP BY log_id, partition",
    )
    seen: dict[Place, dict[int, str]] = {}
    for row in rows:
        place = (row["log_id"], topic, row["partition"])
        fates = seen.setdefault(place, {})
        for offset, fate, count in row["fates"]:
            if offset in fates or count != 1:
                found.problems.append(f"{place}: offset {offset} has two fates")
            fates[offset] = fate
    for place, (first, last, lost) in ends.items():
        gone = {o for low, high in lost for o in range(low, high + 1)}
        fates = {o: f for o, f in seen.get(place, {}).items() if o <= last}
        wanted = set(range(first, last + 1)) - gone
        kept = {offset for offset, fate in fates.items() if fate != Disposition.LOST}
        _same(found, f"{place}: offsets with a fate", wanted, kept)
        found.consumed += last - first + 1
        for fate in (*(fates[o] for o in kept), *(Disposition.LOST for _ in gone)):
            found.dispositions[str(fate)] = found.dispositions.get(str(fate), 0) + 1
        for table, fates_of in (
            ("payloads", STORED),
            ("batches", STORED),
            ("events", STORED),
            ("quarantine", REFUSED),
        ):
            there = _offsets(settings, table, place, last)
            wanted = {offset for offset, fate in fates.items() if fate in fates_of}
            if table == "events":  # CLOSE may hold none
                wanted -= _empty(settings, place)
            _same(found, f"{place}: {table}", wanted, there)
    if found.consumed != sum(found.dispositions.values()):
        found.problems.append(f"{found.consumed} offsets consumed, fates: {found.dispositions}")


def _same(found: Conservation, what: str, wanted: set[int], there: set[int]) -> None:
    if wanted - there:
        found.problems.append(f"{what}: {len(wanted - there)} missing: {_some(wanted - there)}")
    if there - wanted:
        found.problems.append(f"{what}: {len(there - wanted)} too many: {_some(there - wanted)}")


def _some(offsets: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(offsets)[:10]))


def _where(place: Place) -> str:
    return f"log_id = '{place[0]}' AND topic = '{place[1]}' AND partition = {place[2]}"


def _offsets(settings: Mapping[str, str], table: str, place: Place, last: int) -> set[int]:
    where = f"{_where(place)} AND offset <= {last}"
    rows = query(settings, f"SELECT DISTINCT offset FROM {table} FINAL WHERE {where}")
    return {row["offset"] for row in rows}


def _empty(settings: Mapping[str, str], place: Place) -> set[int]:
    where = f"{_where(place)} AND events = 0"
    rows = query(settings, f"SELECT offset FROM dispositions FINAL WHERE {where}")
    return {row["offset"] for row in rows}


# Name and query of what must answer 0.
_HERE = "WHERE topic = '{topic}'"
_REFERENCES = "toInt64((SELECT sum(length(parents)) FROM committed_events {here}))"
_NONE = {
    "events that stand twice": (
        "SELECT count() - uniqExact(chain_id, seq, branch) AS n FROM committed_events {here}"
    ),
    "batches that stand twice": (
        "SELECT count() - uniqExact(chain_id, batch_seq, branch) AS n FROM committed_batches {here}"
    ),
    "events in the view, less those that batches say": (
        "SELECT toInt64((SELECT count() FROM provenance.events {here})) "
        "- toInt64((SELECT sum(count) FROM committed_batches {here})) AS n"
    ),
    "batches with another number of events than they say": (
        "SELECT count() AS n FROM (SELECT log_id, partition, offset, sum(b) AS said, sum(e) AS got "
        "FROM (SELECT log_id, partition, offset, count AS b, 0 AS e FROM committed_batches {here} "
        "UNION ALL SELECT log_id, partition, offset, 0, 1 FROM committed_events {here}) "
        "GROUP BY log_id, partition, offset HAVING said != got)"
    ),
    "edges by parent, less the references of events": (
        "SELECT toInt64((SELECT count() FROM committed_edges_by_parent {here})) "
        f"- {_REFERENCES} AS n"
    ),
    "edges by child, less the references of events": (
        "SELECT toInt64((SELECT count() FROM committed_edges_by_child {here})) "
        f"- {_REFERENCES} AS n"
    ),
    "entity rows, less the entities of events": (
        "SELECT toInt64((SELECT count() FROM committed_entity_events {here})) - toInt64("
        "(SELECT sum(length(inputs) + length(outputs)) FROM committed_events {here})) AS n"
    ),
    "batches that share sequence numbers with the next of their branch": (
        "SELECT count() AS n FROM (SELECT first_seq + count AS end, batch_seq, "
        "min(first_seq) OVER (PARTITION BY chain_id, branch ORDER BY batch_seq "
        "ROWS BETWEEN 1 FOLLOWING AND 1 FOLLOWING) AS next, "
        "max(batch_seq) OVER (PARTITION BY chain_id, branch) AS last "
        "FROM committed_batches {here}) WHERE batch_seq < last AND next < end"
    ),
}


def _events(settings: Mapping[str, str], topic: str, found: Conservation) -> None:
    here = _HERE.format(topic=topic)
    for complaint, sql in _NONE.items():
        count = query(settings, sql.format(here=here))[0]["n"]
        if count:
            found.problems.append(f"{complaint}: {count}")
    counted = f"SELECT count() AS n FROM provenance.events {here}"
    found.events = query(settings, counted)[0]["n"]


@dataclass(frozen=True, slots=True)
class Broker:
    """What a broker says of a partition: the group's offset, and the end of the log."""

    log_id: str
    partition: int
    group: int
    end: int


def broker(settings: Mapping[str, str], topic: str, group: str) -> list[Broker]:
    """Each partition of the topic, as it is now."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings["SEALTRAIL_KAFKA_BOOTSTRAP"],
            "group.id": group,
            "enable.auto.commit": False,
        }
    )
    try:
        metadata = consumer.list_topics(topic, timeout=30)
        numbers = sorted(metadata.topics[topic].partitions)
        places = [TopicPartition(topic, number) for number in numbers]
        found = []
        for at in consumer.committed(places, timeout=30):
            _, high = consumer.get_watermark_offsets(TopicPartition(topic, at.partition), 30)
            found.append(Broker(metadata.cluster_id, at.partition, at.offset, high))
        return found
    finally:
        consumer.close()


def behind(
    state_dir: Path, *, topic: str = "provenance.events", group: str = "sealtrail"
) -> dict[int, int]:
    """How many messages of each partition are not committed yet; only those that have some."""
    settings = variables(state_dir)
    sides = broker(settings, topic, group)
    ends = _commits(settings, topic, Conservation())
    return {
        side.partition: side.end - _stored(ends, side) - 1
        for side in sides
        if side.end > _stored(ends, side) + 1
    }


def _stored(ends: Ends, side: Broker) -> int:
    """Last committed offset in the log that a broker has now, -1 before the first."""
    for (log_id, _, partition), (_, last, _) in ends.items():
        # The store's name of a log is the cluster's, and the topic's where a broker tells it.
        if (log_id.split("/")[0], partition) == (side.log_id, side.partition):
            return last
    return -1


def _ahead(sides: Sequence[Broker], ends: Ends, *, drained: bool) -> Iterator[str]:
    """The group's offsets never run ahead of the store."""
    for side in sides:
        stored, at = _stored(ends, side), f"partition {side.partition}"
        if side.group > stored + 1:
            yield f"{at}: the group is at {side.group}, the store at {stored}"
        if drained and side.end > stored + 1:
            yield f"{at}: {side.end} messages, committed up to {stored}"
