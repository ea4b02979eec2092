"""Messages in quarantine: found, sent again, dismissed. `releasing` decides what goes by itself.

- A release publishes the original bytes to their own partition, with headers that name where they
  lay; the ingest judges them like any message, by their first arrival and by the records that are
  known now. What was sent again is written down after it was acknowledged: a crash between the two
  sends it twice, and the second is a duplicate.
- Messages may be large and many: they are read so many bytes at a time, and their bytes only where
  they are needed.
- What is not committed is not there: a flush that is done again may still come out otherwise.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from typing import TYPE_CHECKING

from sealtrail.findings import NOT_KEPT
from sealtrail_processor.judging import released
from sealtrail_processor.judging.model import Log
from sealtrail_processor.judging.ports import Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sealtrail_processor.judging.ports import Publisher
    from sealtrail_processor.store.port import Row, Store

# Messages, and bytes of them, that are read at a time.
PAGE, BYTES = 200, 32 << 20
ACTS = ("log_id", "topic", "partition", "offset", "act", "at", "new_offset")
_PLACE = "log_id, topic, partition, offset, toUnixTimestamp64Micro(arrival) AS at"
# Its size also where it was not kept.
_ABOUT = (
    f"if(isNull(value) AND startsWith(detail, '{NOT_KEPT}'), "
    f"toUInt64OrZero(extract(detail, '^{NOT_KEPT}(\\\\d+) bytes')), ifNull(length(value), 0)), "
    "disposition, code, step, detail, act"
)
_BODY = (
    "hex(key), hex(value), "
    "arrayMap(h -> (hex(tupleElement(h, 'name')), hex(tupleElement(h, 'value'))), headers), "
    "isNull(key), isNull(value)"
)
_SIZE = (
    "ifNull(length(key), 0) + ifNull(length(value), 0) + arraySum(h -> "
    "length(tupleElement(h, 'name')) + length(tupleElement(h, 'value')), headers)"
)
_LAST_ACTS = (
    "SELECT log_id, topic, partition, offset, argMax(act, at) AS act "
    "FROM quarantine_acts GROUP BY log_id, topic, partition, offset"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is on record about a message in quarantine; arrival in microseconds since 1970.

    size: of its value, bytes.
    act: what was done about it last (released, gone, dismissed), or empty.
    """

    log: Log
    offset: int
    arrival: int
    size: int
    disposition: str
    code: str
    step: int
    detail: str
    act: str = ""

    @property
    def state(self) -> str:
        """Parked or quarantined, or what was done about it."""
        return self.act or self.disposition

    @property
    def kept(self) -> bool:
        """Whether the store has its bytes."""
        return not self.detail.startswith(NOT_KEPT)

    @property
    def coordinates(self) -> tuple[str, str, int, int]:
        """(log_id, topic, partition, offset)."""
        return self.log.log_id, self.log.topic, self.log.partition, self.offset

    @property
    def name(self) -> str:
        """The id by which people name it."""
        return ":".join(map(str, self.coordinates))


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Entry):
    """A message in quarantine with its bytes; None where it has none."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def _select(columns: str, condition: str, limit: int) -> str:
    return (
        f"SELECT {columns} FROM committed_quarantine "  # noqa: S608 - our own text
        f"LEFT JOIN ({_LAST_ACTS}) AS acts USING (log_id, topic, partition, offset) "
        f"WHERE {condition} "
        f"ORDER BY at, log_id, topic, partition, offset LIMIT {limit:d}"
    )


def entries(
    store: Store, condition: str, parameters: Mapping[str, object], *, limit: int
) -> list[Entry]:
    """Messages in quarantine in the order of arrival, without their bytes.

    Args:
        store: where they are.
        condition: SQL over the columns of `quarantine`, values as bound parameters.
        parameters: those values.
        limit: at most so many.
    """
    rows = store.query(_select(f"{_PLACE}, {_ABOUT}", condition, limit), parameters)
    return [Entry(Log(*row[:3]), *row[3:]) for row in rows]


def find(store: Store, condition: str, parameters: Mapping[str, object]) -> list[Held]:
    """Some messages in quarantine with their bytes, in the order of arrival; none if there is none.

    Args:
        store: where they are.
        condition: see `entries`.
        parameters: see `entries`.
    """
    sizes = store.query(_select(f"{_PLACE}, {_SIZE}", condition, PAGE), parameters)
    few = fitting([row[-1] for row in sizes])
    if not few:
        return []
    rows = store.query(_select(f"{_PLACE}, {_ABOUT}, {_BODY}", condition, few), parameters)
    return [_held(row) for row in rows]


def bodies(store: Store, chosen: Sequence[Entry]) -> Iterator[list[Held]]:
    """The bytes of messages, in their order, so many at a time."""
    left = list(chosen)
    condition = (
        "(log_id, topic, partition, offset) IN "
        "{places:Array(Tuple(String, String, UInt16, UInt64))}"
    )
    while left:
        few = fitting([entry.size for entry in left[:PAGE]])
        places = {"places": [entry.coordinates for entry in left[:few]]}
        rows = store.query(_select(f"{_PLACE}, {_ABOUT}, {_BODY}", condition, few), places)
        yield [_held(row) for row in rows]
        del left[:few]


def fitting(sizes: Sequence[int]) -> int:
    """How many messages are taken together: one in any case."""
    ends = list(accumulate(sizes))
    return max(bisect_right(ends, BYTES), min(len(ends), 1))


def _held(row: Row) -> Held:
    key, value, headers, no_key, no_value = row[-5:]
    return Held(
        Log(*row[:3]),
        *row[3:-5],
        key=None if no_key else bytes.fromhex(key),
        value=None if no_value else bytes.fromhex(value),
        headers=tuple((bytes.fromhex(n).decode(), bytes.fromhex(v)) for n, v in headers),
    )


# Nothing was done about it.
UNTOUCHED = (
    "(log_id, topic, partition, offset) NOT IN "
    "(SELECT log_id, topic, partition, offset FROM quarantine_acts)"
)
# Parked, and nothing was done about it.
WAITING = f"disposition = 'parked' AND {UNTOUCHED}"
# Somebody has to see to it: also where its bytes were gone when its record came.
OPEN = UNTOUCHED.replace("quarantine_acts)", "quarantine_acts WHERE act != 'gone')")


def parked(store: Store, logs: Sequence[Log]) -> set[tuple[str, int]]:
    """Those of these partitions, (topic, partition), with parked messages that wait."""
    found = set()
    for topic in {at.topic for at in logs}:
        partitions = [at.partition for at in logs if at.topic == topic]
        rows = store.query(
            "SELECT DISTINCT partition FROM committed_quarantine "  # noqa: S608 - our own text
            f"WHERE {WAITING} AND topic = {{topic:String}} "
            "AND partition IN {partitions:Array(UInt16)}",
            {"topic": topic, "partitions": partitions},
        )
        found |= {(topic, partition) for (partition,) in rows}
    return found


def release(
    store: Store, publisher: Publisher, held: Sequence[Held], now: int
) -> list[tuple[Held, int]]:
    """Send messages again, in order, each to its own partition; with their new offsets.

    Raises:
        UnavailableError: the broker did not take all, or the store could not write it down.
    """
    outgoing = [
        Outgoing(
            h.log.topic,
            h.key,
            h.value,
            (*released.strip(h.headers), *released.headers(h.coordinates)),
            h.log.partition,
        )
        for h in held
    ]
    offsets = publisher.publish(outgoing, 30.0)
    rows = [
        (*h.coordinates, "released", now, offset) for h, offset in zip(held, offsets, strict=True)
    ]
    if rows:
        store.insert("quarantine_acts", ACTS, rows, sha256(repr(rows).encode()).hexdigest())
    return list(zip(held, offsets, strict=True))


def dismiss(store: Store, held: Sequence[Entry], now: int) -> None:
    """Put messages away for good: they are kept, and no longer open.

    Raises:
        UnavailableError: the store could not write it down.
    """
    _done(store, held, "dismissed", now)


def give_up(store: Store, held: Sequence[Entry], now: int) -> None:
    """Release messages no more, for their bytes are gone; they stay open.

    Raises:
        UnavailableError: the store could not write it down.
    """
    _done(store, held, "gone", now)


def _done(store: Store, held: Sequence[Entry], act: str, now: int) -> None:
    rows = [(*h.coordinates, act, now, 0) for h in held]
    if rows:
        store.insert("quarantine_acts", ACTS, rows, sha256(repr(rows).encode()).hexdigest())
