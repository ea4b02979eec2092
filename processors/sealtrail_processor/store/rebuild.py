"""What a worker reads back from the store when it is assigned a partition, and while it judges.

- cursor: where the contiguous commits of this log end; reading begins behind it, whatever Kafka's
  group says;
- spent: how much of what was refused was kept in the last hour;
- receipts: when messages were first seen, where the broker does not say: the first writer wins;
- key records, in the order of their arrival;
- deaths of workers that had its messages in hand.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sealtrail_processor.judging.keeping import HOUR_US, Spent
from sealtrail_processor.judging.model import Log
from sealtrail_processor.judging.suspicion import Death
from sealtrail_processor.store.rows import COORDINATES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sealtrail_processor.store.port import Store

COMMIT_ENDS = ("log_id", "topic", "partition", "first_offset", "last_offset", "covered")
DEATHS = ("log_id", "topic", "partition", "first_offset", "last_offset", "phase", "mark")
KEY_RECORDS = (*COORDINATES, "arrival", "record_key", "record_value")

_CURSOR = """
    SELECT
        minOrNullIf(reached, number > 1 AND first_offset > reached + 1),
        minOrNull(first_offset),
        maxOrNull(last_offset)
    FROM (
        SELECT
            first_offset,
            last_offset,
            row_number() OVER (ORDER BY first_offset, last_offset) AS number,
            max(last_offset) OVER (
                ORDER BY first_offset, last_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS reached
        FROM commits
        WHERE log_id = {log:String} AND topic = {topic:String} AND partition = {partition:UInt16}
    )
"""
_END = """
    SELECT maxOrNull(last_offset) FROM commit_ends
    WHERE log_id = {log:String} AND topic = {topic:String} AND partition = {partition:UInt16}
"""
# The hour is that of the latest arrival; what came since the first message in it was kept in it,
# also what was released and refused again, with the arrival of its first try.
_SINCE = """
    SELECT min(offset) FROM dispositions
    WHERE log_id = {log:String} AND topic = {topic:String} AND partition = {partition:UInt16}
        AND offset < {end:UInt64} AND arrival >= fromUnixTimestamp64Micro({at:Int64}, 'UTC')
        AND offset >= (
            SELECT min(first_offset) FROM commits
            WHERE log_id = {log:String} AND topic = {topic:String}
                AND partition = {partition:UInt16} AND kind = 'flush'
                AND arrival >= fromUnixTimestamp64Micro({at:Int64}, 'UTC')
        )
"""
_LATEST = """
    SELECT toUnixTimestamp64Micro(max(arrival)) FROM commits
    WHERE log_id = {log:String} AND topic = {topic:String} AND partition = {partition:UInt16}
        AND kind = 'flush' AND last_offset < {end:UInt64}
"""
_SPENT = """
    SELECT sumIf(size, disposition = 'quarantined'), sumIf(size, disposition = 'parked')
    FROM (
        SELECT disposition, ifNull(length(key), 0) + ifNull(length(value), 0) + arraySum(h ->
            length(tupleElement(h, 'name')) + length(tupleElement(h, 'value')), headers) AS size
        FROM quarantine FINAL
        WHERE log_id = {log:String} AND topic = {topic:String} AND partition = {partition:UInt16}
            AND offset >= {first:UInt64} AND offset < {end:UInt64}
    )
"""
# Another worker may have taken other messages together, so that two inserts stand: the first
# block counts.
_RECEIPTS = """
    SELECT log_id, topic, partition, offset,
        toUnixTimestamp64Micro(argMin(arrival, _block_number))
    FROM receipts
    WHERE {where}
    GROUP BY log_id, topic, partition, offset
"""
_RECEIPTS_OF = """
    log_id = {{log{n}:String}} AND topic = {{topic{n}:String}}
        AND partition = {{partition{n}:UInt16}}
        AND offset BETWEEN {{first{n}:UInt64}} AND {{last{n}:UInt64}}
"""
_DEATHS = """
    SELECT partition, first_offset, last_offset, phase, mark
    FROM deaths FINAL
    WHERE log_id = {log:String} AND topic = {topic:String}
"""
# In the order in which a flush is written: events first, and of a message without any the fate.
_HOLDS = """
    SELECT
        (SELECT count() FROM events WHERE {where}) +
        (SELECT count() FROM dispositions WHERE {where})
""".replace(
    "{where}",
    "log_id = {log:String} AND topic = {topic:String} AND partition = {partition:UInt16} "
    "AND offset = {offset:UInt64}",
)
_KEY_RECORDS = """
    SELECT log_id, topic, partition, offset,
        toUnixTimestamp64Micro(argMin(arrival, _block_number)) AS arrived,
        hex(argMin(record_key, _block_number)), hex(argMin(record_value, _block_number))
    FROM key_records
    GROUP BY log_id, topic, partition, offset
    ORDER BY arrived, log_id, partition, offset
"""


def cursor(store: Store, log: Log) -> int | None:
    """The offset at which to go on reading a log: behind its contiguous commits, None without any.

    Exact: a hole in the commits ends them, whatever stands behind it. Commits may overlap (a flush
    that was done again).
    """
    hole, first, last = store.query(_CURSOR, _names(log))[0]
    if last is None:
        return None
    _repair_end(store, log, first, last)
    return int(last if hole is None else hole) + 1


def _repair_end(store: Store, log: Log, first: int, last: int) -> None:
    """Tell the views of a commit that they have not heard of.

    They read `commit_ends`, which a materialized view fills: a store that was killed between the
    two would hide the last flush until the next one. Covering nothing, the row makes the view
    `committed` look closely at this partition.
    """
    if store.query(_END, _names(log))[0][0] != last:
        row = (log.log_id, log.topic, log.partition, first, last, 0)
        token = "/".join(map(str, ("commit_ends", *row)))
        store.insert("commit_ends", COMMIT_ENDS, [row], token)


def spent(store: Store, log: Log, end: int) -> Spent:
    """See ports.Ledger."""
    names = _names(log) | {"end": end}
    hour = store.query(_LATEST, names)[0][0] // HOUR_US
    if hour <= 0:
        return Spent()
    first = store.query(_SINCE, names | {"at": hour * HOUR_US})[0][0]
    return Spent(hour, *store.query(_SPENT, names | {"first": first})[0])


def receipts(store: Store, log: Log, offsets: Sequence[int], now: int) -> dict[int, int]:
    """When messages were first seen; recorded now where nobody did before.

    Args:
        store: who is asked, and keeps the new ones.
        log: whose messages.
        offsets: which.
        now: microseconds since 1970, for those that are new.

    Returns:
        offset -> arrival, microseconds since 1970. What was once returned is returned for ever,
        also when another worker writes later, whatever its clock says.
    """
    return receipts_of(store, {log: offsets}, now)[log]


def receipts_of(
    store: Store, offsets: Mapping[Log, Sequence[int]], now: int
) -> dict[Log, dict[int, int]]:
    """As `receipts`, for several partitions in one go."""
    known = _receipts(store, offsets)
    missing = {log: [o for o in wanted if o not in known[log]] for log, wanted in offsets.items()}
    places = [
        (log.log_id, log.topic, log.partition, offset)
        for log, wanted in missing.items()
        for offset in wanted
    ]
    if not places:
        return known
    # Of the coordinates alone: of two workers with the same messages in hand, the second one's
    # insert is dropped.
    token = f"receipts/{sha256(repr(places).encode()).hexdigest()}"
    store.insert("receipts", (*COORDINATES, "arrival"), [(*p, now) for p in places], token)
    written = _receipts(store, missing)
    return {log: known[log] | written[log] for log in offsets}


def _receipts(store: Store, offsets: Mapping[Log, Sequence[int]]) -> dict[Log, dict[int, int]]:
    found: dict[Log, dict[int, int]] = {log: {} for log in offsets}
    asked = {log: set(wanted) for log, wanted in offsets.items() if wanted}
    if not asked:
        return found
    parameters: dict[str, Any] = {}
    for n, (log, wanted) in enumerate(asked.items()):
        names = _names(log) | {"first": min(wanted), "last": max(wanted)}
        parameters |= {f"{name}{n}": value for name, value in names.items()}
    where = " OR ".join(f"({_RECEIPTS_OF.format(n=n)})" for n in range(len(asked)))
    for *place, offset, arrival in store.query(_RECEIPTS.format(where=where), parameters):
        log = Log(*place)
        if offset in asked[log]:
            found[log][offset] = arrival
    return found


def add_key_records(
    store: Store, log: Log, records: Sequence[tuple[int, int, bytes, bytes]]
) -> None:
    """Keep messages of the keys topic.

    Args:
        store: where to.
        log: of the keys topic.
        records: (offset, arrival in microseconds since 1970, key, value) each.
    """
    rows = [(log.log_id, log.topic, log.partition, *record) for record in records]
    digest = sha256(repr(rows).encode()).hexdigest()
    store.insert("key_records", KEY_RECORDS, rows, f"key_records/{digest}")


def key_records(store: Store) -> list[tuple[Log, int, int, bytes, bytes]]:
    """Kept messages of the keys topic: (log, offset, arrival, key, value), by arrival."""
    return [
        (Log(*row[:3]), row[3], row[4], bytes.fromhex(row[5]), bytes.fromhex(row[6]))
        for row in store.query(_KEY_RECORDS)
    ]


def deaths(store: Store, log_id: str, topic: str) -> list[Death]:
    """Deaths of workers that had messages of a log in hand; one question for all partitions."""
    rows = store.query(_DEATHS, {"log": log_id, "topic": topic})
    return [Death(Log(log_id, topic, partition), *row) for partition, *row in rows]


def add_death(store: Store, death: Death) -> None:
    """Keep a death; a mark that two workers found is one."""
    log = death.log
    row = (log.log_id, log.topic, log.partition, death.first, death.last, death.phase, death.mark)
    store.insert("deaths", DEATHS, [row], f"deaths/{death.mark}")


def holds(store: Store, log: Log, offset: int) -> bool:
    """Whether anything of a message is stored, committed or not."""
    return bool(store.query(_HOLDS, _names(log) | {"offset": offset})[0][0])


def _names(log: Log) -> dict[str, Any]:
    return {"log": log.log_id, "topic": log.topic, "partition": log.partition}
