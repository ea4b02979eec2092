"""Rebuild what can be derived: the index from the payloads, all of it from the topic.

*Index*: events, edges and entity_events say nothing that the payloads, which are the signed bytes,
do not. They are emptied and written again: each accepted message is verified as at its arrival and
goes through the same insert, with the same boundary check, so the rows are the same.

*Topic*: everything that a worker derives from the log is emptied; workers then find no commits and
read the log from its start. Kept is what the log does not say: when messages were first received
(receipts), key records with their arrivals, and what people did with quarantined messages. The
rows are the same where the broker sets the arrival or a receipt was kept.

Emptying forgets the tokens of earlier inserts too (tested): no row is taken for a repetition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sealtrail import validate as contract
from sealtrail.findings import Disposition
from sealtrail.validate import Place, VerifiedBatch
from sealtrail_processor.judging.model import Flush, Judged, Log, RawMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sealtrail.records import Directory
    from sealtrail_processor.judging.ports import Broker
    from sealtrail_processor.store.port import Row, Store
    from sealtrail_processor.store.sink import ClickHouseSink

INDEX = ("events", "edges_by_parent", "edges_by_child", "entity_events")
# In this order: without commits nothing is visible, so nobody sees half of it.
DERIVED = (
    "commits",
    "commit_ends",
    *INDEX,
    "batches",
    "payloads",
    "dispositions",
    "quarantine",
    "findings",
    "heartbeats",
    "link_verdicts",
    "deaths",
)
# Messages, and bytes of them, that are read and written at a time.
MESSAGES, BYTES = 256, 32 * 2**20
FOREVER = 2**62

_SIZES = """
    SELECT offset, length(value) FROM committed_payloads
    WHERE log_id = {log:String} AND topic = {topic:String} AND partition = {partition:UInt16}
      AND offset >= {first:UInt64}
    ORDER BY offset LIMIT {limit:UInt32}
"""
_PAGE = """
    SELECT d.offset, toUnixTimestamp64Micro(d.arrival), d.time_source, toString(d.disposition),
        d.branch, hex(p.value)
    FROM committed_payloads AS p
    INNER JOIN committed_dispositions AS d
        ON d.log_id = p.log_id AND d.topic = p.topic AND d.partition = p.partition
        AND d.offset = p.offset
    WHERE p.log_id = {log:String} AND p.topic = {topic:String} AND p.partition = {partition:UInt16}
      AND p.offset BETWEEN {first:UInt64} AND {last:UInt64}
      AND d.disposition IN ('accepted', 'released')
    ORDER BY d.offset
"""
_RECEIPTS = """
    SELECT offset, toUnixTimestamp64Micro(min(arrival)) FROM receipts
    WHERE log_id = {log:String} AND topic = {topic:String} AND partition = {partition:UInt16}
      AND offset IN {offsets:Array(UInt64)}
    GROUP BY offset
"""


@dataclass(slots=True)
class Recovered:
    """What was written; payloads that do not verify are named, and left out."""

    messages: int = 0
    events: int = 0
    unverified: list[str] = field(default_factory=list)


def empty(store: Store, tables: Sequence[str]) -> None:
    """Empty tables, in order.

    Raises:
        StoreRefused: the user may not.
    """
    for table in tables:
        store.command(f"TRUNCATE TABLE {store.database}.{table}")


def lacking(store: Store, broker: Broker, topic: str) -> list[str]:
    """What the store has committed and the broker's log of a topic no longer holds.

    Raises:
        UnavailableError: store or broker cannot be asked.
    """
    now = broker.log_id(topic)
    rows = store.query(
        "SELECT log_id, partition, min(first_offset), max(last_offset) FROM commits"
        " WHERE topic = {topic:String} GROUP BY log_id, partition ORDER BY log_id, partition",
        {"topic": topic},
    )
    found = []
    for log_id, partition, first, last in rows:
        if log_id != now:
            found.append(f"log {log_id} of {topic}/{partition}, offsets {first} to {last}")
            continue
        low, high = broker.watermarks(topic, partition)
        if low > first:
            found.append(f"{topic}/{partition}, offsets {first} to {min(low - 1, last)}")
        if high <= last:
            found.append(f"{topic}/{partition}, offsets {max(high, first)} to {last}")
    return found


def logs(store: Store) -> list[Log]:
    """Partitions of logs that have commits."""
    rows = store.query(
        "SELECT DISTINCT log_id, topic, partition FROM committed ORDER BY topic, partition, log_id"
    )
    return [Log(*row) for row in rows]


def index(
    store: Store,
    sink: ClickHouseSink,
    directory: Directory,
    place: Callable[[Log], Place],
    step: Callable[[int], None],
) -> Recovered:
    """Write the index anew from the payloads; the tables must be empty.

    Args:
        store: where payloads are read.
        sink: writes the events.
        directory: key and schema records, with their arrivals.
        place: where the messages of a partition belong.
        step: told how many messages are done.
    """
    done = Recovered()
    for log in logs(store):
        for messages in _pages(store, log):
            judged = [j for j in map(_judge(place(log), directory, log, done), messages) if j]
            if judged:
                sink.write_events(Flush(log, judged[0].message.offset, tuple(judged)))
            done.messages += len(messages)
            done.events += sum(len(j.batch.envelope.events) for j in judged if j.batch)
            step(len(messages))
    return done


@dataclass(frozen=True, slots=True)
class _Payload:
    offset: int
    arrival: int
    time_source: str
    disposition: Disposition
    branch: int
    value: bytes
    known_at: int


def _pages(store: Store, log: Log) -> Iterator[list[_Payload]]:
    """A partition's accepted payloads, some at a time, bounded in number and bytes."""
    names: dict[str, Any] = {"log": log.log_id, "topic": log.topic, "partition": log.partition}
    first = 0
    while True:
        sizes = store.query(_SIZES, names | {"first": first, "limit": MESSAGES})
        if not sizes:
            return
        last, size = sizes[0][0], 0
        for offset, length in sizes:
            size += length
            if size > BYTES and offset != sizes[0][0]:
                break
            last = offset
        rows = store.query(_PAGE, names | {"first": first, "last": last})
        yield _payloads(store, names, rows)
        first = last + 1


def _payloads(store: Store, names: dict[str, Any], rows: list[Row]) -> list[_Payload]:
    """A released message was judged by what was known when it came back."""
    released = [row[0] for row in rows if row[3] == Disposition.RELEASED]
    known: dict[int, int] = (
        dict(store.query(_RECEIPTS, names | {"offsets": released})) if released else {}
    )
    return [
        _Payload(
            offset,
            arrival,
            time_source,
            Disposition(disposition),
            branch,
            bytes.fromhex(value),
            known.get(offset, FOREVER) if disposition == Disposition.RELEASED else arrival,
        )
        for offset, arrival, time_source, disposition, branch, value in rows
    ]


def _judge(
    place: Place, directory: Directory, log: Log, done: Recovered
) -> Callable[[_Payload], Judged | None]:
    def judge(payload: _Payload) -> Judged | None:
        outcome = contract.validate(
            payload.value, place, payload.arrival, directory, known_at=payload.known_at
        )
        if not isinstance(outcome, VerifiedBatch):
            why = getattr(outcome, "detail", "it is no batch")
            name = f"{log.topic}/{log.partition} offset {payload.offset} of log {log.log_id}"
            done.unverified.append(f"{name}: {why}")
            return None
        message = RawMessage(
            payload.offset, None, payload.value, (), payload.arrival, append_time=False
        )
        return Judged(
            message,
            payload.arrival,
            payload.time_source,
            payload.disposition,
            batch=outcome,
            branch=payload.branch,
        )

    return judge
