"""Messages in quarantine: found, sent again, dismissed.

- A release publishes the original bytes to their own partition, with headers that name where they
  lay; the ingest judges them like any message, by their first arrival and by the records that are
  known now. What was sent again is written down after it was acknowledged: a crash between the two
  sends it twice, and the second is a duplicate.
- Messages may be large and many: they are read so many bytes at a time, and their bytes only where
  they are needed.
- What is not committed is not there: a flush that is done again may still come out otherwise.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import accumulate
from typing import TYPE_CHECKING

from sealtrail.findings import NOT_KEPT, PARKED_CODES, Disposition
from sealtrail.validate import Refused, validate
from sealtrail_processor.judging import released
from sealtrail_processor.judging.model import Log
from sealtrail_processor.judging.ports import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sealtrail_processor.judging.judge import Rules
    from sealtrail_processor.judging.keys_reader import KeysReader
    from sealtrail_processor.judging.model import Flush
    from sealtrail_processor.judging.ports import Clock, Publisher
    from sealtrail_processor.store.client import Row, Store

log = logging.getLogger(__name__)

# Messages, and bytes of them, that are read at a time.
PAGE, BYTES = 200, 32 << 20
# How long parked messages are looked at in one turn.
TURN_US = 2_000_000
# Before all messages.
START: Mapping[str, object] = {"after": 0, "log_id": "", "offset": 0}
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
    act: what was done about it last (released, dismissed), or empty.
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
    few = _fitting([row[-1] for row in sizes])
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
        few = _fitting([entry.size for entry in left[:PAGE]])
        places = {"places": [entry.coordinates for entry in left[:few]]}
        rows = store.query(_select(f"{_PLACE}, {_ABOUT}, {_BODY}", condition, few), places)
        yield [_held(row) for row in rows]
        del left[:few]


def _fitting(sizes: Sequence[int]) -> int:
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


# Left alone once anything was done about it.
OPEN = (
    "(log_id, topic, partition, offset) NOT IN "
    "(SELECT log_id, topic, partition, offset FROM quarantine_acts)"
)


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
    rows = [(*h.coordinates, "dismissed", now, 0) for h in held]
    if rows:
        store.insert("quarantine_acts", ACTS, rows, sha256(repr(rows).encode()).hexdigest())


@dataclass(slots=True)
class _Look:
    """One look at what is parked.

    known_at: records that arrived until then count, so that who came later is not judged by more;
    by the broker's clock, which may be ahead of ours.
    """

    state: tuple[int, int, frozenset[Log]]
    known_at: int
    left: list[Log]
    after: Mapping[str, object] = field(default_factory=lambda: START)


class Releaser:
    """Releases parked messages once their key or schema is known.

    Looks when key records have come, also while a message was judged without them, or partitions
    were assigned, not at every turn. Each look takes some seconds of a turn at most: the thread
    that it runs in has more to do, and whoever may write to the topic can have any number parked.
    """

    def __init__(self, store: Store, publisher: Publisher, now: Clock) -> None:
        self._store = store
        self._publisher = publisher
        self._now = now
        self._seen: tuple[int, int, frozenset[Log]] = (-1, 0, frozenset())
        self._overtaken = 0
        self._look: _Look | None = None

    def committed(self, flush: Flush, keys: KeysReader, rules: Callable[[Log], Rules]) -> None:
        """Look once more if what was parked is known by now; in the thread that committed it.

        A record may come after a message was judged; when a look followed before the commit, it
        did not find the message, and the next record may be a year away. One that was released
        before is no reason: whatever parks it again would have it go round and round.
        """
        for judged in flush.judged:
            if judged.disposition is Disposition.PARKED and judged.released_from is None:
                value, arrival = judged.message.value, judged.arrival
                if _known(value, arrival, keys, rules(flush.log), keys.latest):
                    self._overtaken += 1
                    return

    def run(self, logs: Sequence[Log], keys: KeysReader, rules: Callable[[Log], Rules]) -> int:
        """Look for parked messages of these partitions that can be judged now; how many went.

        Raises:
            UnavailableError: store or broker; call again.
        """
        began, count = self._now(), 0
        if self._look is None:
            state = (keys.generation, self._overtaken, frozenset(logs))
            if state == self._seen or not logs:
                return 0
            self._look = _Look(state, keys.latest, list(logs))
        look = self._look
        while look.left:
            at = look.left[0]
            # A partition may have been taken away since the look began.
            page = self._page(at, look.after) if at in logs else []
            if page:
                count += self._release(page, keys, rules(at), look.known_at)
                last = page[-1]
                look.after = _after(last.arrival, last.log.log_id, last.offset)
            else:
                look.left.pop(0)
                look.after = START
            if self._now() - began >= TURN_US:
                return count
        self._seen, self._look = look.state, None
        return count

    def _page(self, at: Log, after: Mapping[str, object]) -> list[Held]:
        condition = (
            f"disposition = 'parked' AND topic = {{topic:String}} AND {OPEN} "
            "AND partition = {partition:UInt16} AND (arrival, log_id, offset) > "
            "(fromUnixTimestamp64Micro({after:Int64}, 'UTC'), {log_id:String}, {offset:UInt64})"
        )
        return find(self._store, condition, {"topic": at.topic, "partition": at.partition, **after})

    def _release(self, page: Sequence[Held], keys: KeysReader, rules: Rules, known_at: int) -> int:
        ready = [h for h in page if _known(h.value, h.arrival, keys, rules, known_at)]
        if ready:
            release(self._store, self._publisher, ready, self._now())
            at = ready[0].log
            log.info("%s[%d]: %d messages released", at.topic, at.partition, len(ready))
        return len(ready)


def _after(arrival: int, log_id: str, offset: int) -> dict[str, object]:
    return {"after": arrival, "log_id": log_id, "offset": offset}


def _known(
    value: bytes | None, arrival: int, keys: KeysReader, rules: Rules, known_at: int
) -> bool:
    outcome = validate(value, rules.place, arrival, keys.directory, known_at=known_at)
    return not (isinstance(outcome, Refused) and outcome.code in PARKED_CODES)
