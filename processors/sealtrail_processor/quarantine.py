"""Messages in quarantine: found, sent again, dismissed.

- A release publishes the original bytes to their own partition, with headers that name where they
  lay; the ingest judges them like any message, by their first arrival and by the records that are
  known now. What was sent again is written down after it was acknowledged: a crash between the two
  sends it twice, and the second is a duplicate.
- What is not committed is not there: a flush that is done again may still come out otherwise.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail.findings import PARKED_CODES
from sealtrail.validate import Refused, validate
from sealtrail_processor import released
from sealtrail_processor.model import Log
from sealtrail_processor.ports import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sealtrail_processor.judge import Rules
    from sealtrail_processor.keys_reader import KeysReader
    from sealtrail_processor.ports import Clock, Publisher
    from sealtrail_processor.store import Store

log = logging.getLogger(__name__)

PAGE = 200
ACTS = ("log_id", "topic", "partition", "offset", "act", "at", "new_offset")
_COLUMNS = (
    "log_id, topic, partition, offset, toUnixTimestamp64Micro(arrival) AS at, "
    "hex(key), hex(value), "
    "arrayMap(h -> (hex(tupleElement(h, 'name')), hex(tupleElement(h, 'value'))), headers), "
    "isNull(key), isNull(value), disposition, code, step, detail, act"
)
_LAST_ACTS = (
    "SELECT log_id, topic, partition, offset, argMax(act, at) AS act "
    "FROM quarantine_acts GROUP BY log_id, topic, partition, offset"
)


@dataclass(frozen=True, slots=True)
class Held:
    """A message in quarantine; arrival in microseconds since 1970.

    act: what was done about it last (released, dismissed), or empty.
    """

    log: Log
    offset: int
    arrival: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
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
    def coordinates(self) -> tuple[str, str, int, int]:
        """(log_id, topic, partition, offset)."""
        return self.log.log_id, self.log.topic, self.log.partition, self.offset

    @property
    def name(self) -> str:
        """The id by which people name it."""
        return ":".join(map(str, self.coordinates))


def find(
    store: Store, condition: str, parameters: Mapping[str, object], *, limit: int = PAGE
) -> list[Held]:
    """Messages in quarantine in the order of arrival.

    Args:
        store: where they are.
        condition: SQL over the columns of `quarantine`, values as bound parameters.
        parameters: those values.
        limit: at most so many.
    """
    rows = store.query(
        f"SELECT {_COLUMNS} FROM committed_quarantine "  # noqa: S608 - our own text
        f"LEFT JOIN ({_LAST_ACTS}) AS acts USING (log_id, topic, partition, offset) "
        f"WHERE {condition} "
        f"ORDER BY at, log_id, topic, partition, offset LIMIT {limit:d}",
        parameters,
    )
    return [
        Held(
            Log(row[0], row[1], row[2]),
            row[3],
            row[4],
            None if row[8] else bytes.fromhex(row[5]),
            None if row[9] else bytes.fromhex(row[6]),
            tuple((bytes.fromhex(n).decode(), bytes.fromhex(v)) for n, v in row[7]),
            *row[10:],
        )
        for row in rows
    ]


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


def dismiss(store: Store, held: Sequence[Held], now: int) -> None:
    """Put messages away for good: they are kept, and no longer open.

    Raises:
        UnavailableError: the store could not write it down.
    """
    rows = [(*h.coordinates, "dismissed", now, 0) for h in held]
    if rows:
        store.insert("quarantine_acts", ACTS, rows, sha256(repr(rows).encode()).hexdigest())


class Releaser:
    """Releases parked messages once their key or schema is known.

    Looks when key records have come or partitions were assigned, not at every turn.
    """

    def __init__(self, store: Store, publisher: Publisher, now: Clock) -> None:
        self._store = store
        self._publisher = publisher
        self._now = now
        self._seen: tuple[int, frozenset[Log]] = (-1, frozenset())

    def run(self, logs: Sequence[Log], keys: KeysReader, rules: Callable[[Log], Rules]) -> int:
        """Look for parked messages of these partitions that can be judged now; how many went.

        Raises:
            UnavailableError: store or broker; call again.
        """
        state = (keys.generation, frozenset(logs))
        if state == self._seen or not logs:
            return 0
        count = sum(self._partition(at, keys, rules(at)) for at in logs)
        self._seen = state
        return count

    def _partition(self, at: Log, keys: KeysReader, rules: Rules) -> int:
        condition = (
            f"disposition = 'parked' AND topic = {{topic:String}} AND {OPEN} "
            "AND partition = {partition:UInt16} AND (arrival, log_id, offset) > "
            "(fromUnixTimestamp64Micro({after:Int64}, 'UTC'), {log_id:String}, {offset:UInt64})"
        )
        place: dict[str, object] = {"topic": at.topic, "partition": at.partition}
        after: dict[str, object] = {"after": 0, "log_id": "", "offset": 0}
        count = 0
        while page := find(self._store, condition, place | after):
            last = page[-1]
            after = {"after": last.arrival, "log_id": last.log.log_id, "offset": last.offset}
            ready = [h for h in page if self._known(h, keys, rules)]
            if ready:
                release(self._store, self._publisher, ready, self._now())
                log.info("%s[%d]: %d messages released", at.topic, at.partition, len(ready))
                count += len(ready)
        return count

    def _known(self, held: Held, keys: KeysReader, rules: Rules) -> bool:
        outcome = validate(
            held.value, rules.place, held.arrival, keys.directory, known_at=self._now()
        )
        return not (isinstance(outcome, Refused) and outcome.code in PARKED_CODES)
