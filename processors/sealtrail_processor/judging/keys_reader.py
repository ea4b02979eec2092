"""Key and schema records: from the keys topic and the store into the directory.

- A record counts from its arrival on: the broker's LogAppendTime, else the moment when a worker saw
  it first; either is in the store before anything is judged by it.
- `refresh` reads the topic to the end that it has when asked: a batch that follows its key record
  finds it.
- A topic that lost records (a broker that keeps nothing) gets them again from the store.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sealtrail import dsse
from sealtrail.errors import ContractError
from sealtrail.records import Directory, KeyRecord, SignedRecord
from sealtrail.trust import TrustRoot
from sealtrail_processor.judging.model import Log, RawMessage
from sealtrail_processor.judging.ports import Outgoing, Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sealtrail.trust import Roots
    from sealtrail_processor.judging.ports import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A message of the keys topic as the store keeps it; arrival in microseconds since 1970."""

    log: Log
    offset: int
    arrival: int
    key: bytes
    value: bytes


class RecordStore(Protocol):
    """Where key records are kept."""

    def load(self) -> Sequence[StoredRecord]:
        """All of them, by arrival."""

    def keep(self, records: Sequence[StoredRecord]) -> dict[tuple[Log, int], int]:
        """Write new ones; the arrivals on record by (log, offset), whoever wrote first."""


class Topic(Protocol):
    """The keys topic."""

    topic: str

    def read_to_end(self) -> list[tuple[int, RawMessage]]:
        """(partition, message) of all that came since the last call."""


class KeysReader:
    """Keeps the directory up to date.

    Args:
        directory: what is kept up to date.
        topic: where records come from.
        store: where they are kept.
        log_id: identity of the topic's log now.
        now: the time, microseconds since 1970.
    """

    def __init__(
        self,
        directory: Directory,
        topic: Topic,
        store: RecordStore,
        log_id: Callable[[], str],
        now: Clock,
    ) -> None:
        self.directory = directory
        self._topic = topic
        self._store = store
        self._log_id = log_id
        self._now = now
        self._stored: dict[tuple[Log, int], int] = {}
        self._on_topic: set[bytes] = set()
        self._records: list[StoredRecord] = []
        # Counts records that are new; who waits for keys looks again when it has moved.
        self.generation = 0
        # By the clock of whoever set it: all that counts so far arrived by then.
        self.latest = 0
        self.rejected = 0

    def load(self) -> None:
        """Take in what the store holds; once, at start."""
        self._records = list(self._store.load())
        for record in self._records:
            self._stored[record.log, record.offset] = record.arrival
            self._add(record)

    def refresh(self) -> None:
        """Read the topic to the end that it has now.

        Raises:
            UnavailableError: topic or store cannot be reached; nothing is lost, call again.
        """
        found = self._topic.read_to_end()
        self._on_topic.update(m.key for _, m in found if m.key is not None)
        fresh = self._unread + found if self._unread else found
        if not fresh:
            return
        # What was read is not offered again: it is kept until the store has taken it.
        self._unread = fresh
        log_id = self._log_id()
        now = self._now()
        read = [self._record(log_id, n, m, now) for n, m in fresh]
        roots = self.directory.roots.copy()
        records = [r for r in read if self._counts(r, roots)]
        new = [r for r in records if (r.log, r.offset) not in self._stored]
        if new:
            self._stored |= self._store.keep(new)
        for record in records:
            arrival = self._stored[record.log, record.offset]
            self._add(StoredRecord(record.log, record.offset, arrival, record.key, record.value))
        self._unread = []

    _unread: list[tuple[int, RawMessage]] = []  # noqa: RUF012 - replaced, never changed

    def _record(self, log_id: str, number: int, message: RawMessage, now: int) -> StoredRecord:
        log_ = Log(log_id, self._topic.topic, number)
        arrival = message.timestamp_us if message.append_time else now
        return StoredRecord(log_, message.offset, arrival, message.key or b"", message.value or b"")

    def _counts(self, record: StoredRecord, roots: Roots) -> bool:
        """Whether operators signed it; whatever else lies on the topic is not kept.

        Args:
            record: what was read.
            roots: those in force so far; a root that counts is added.
        """
        if not record.value:
            return False  # tombstones change nothing
        try:
            # What counted once is known for good, whoever the operators are now.
            if not self.directory.seen(record.value):
                signed = SignedRecord.decode(record.value)
                if signed.payload_type == dsse.ROOT:
                    return roots.add(signed.body, signed.signatures, record.arrival) is not None
                signed.open(roots.at(record.arrival))
        except ContractError as error:
            self.rejected += 1
            log.warning("a record on %s does not count: %s", self._topic.topic, error)
            return False
        return True

    def _add(self, record: StoredRecord) -> None:
        try:
            added = self.directory.add(record.value, record.arrival)
        except ContractError as error:
            self.rejected += 1
            log.warning("record at %s/%d does not count: %s", record.log, record.offset, error)
            return
        self.latest = max(self.latest, record.arrival)
        if added is not None:
            self.generation += 1
            if isinstance(added, TrustRoot):
                log.warning("trust root %d is in force from %d on", added.version, record.arrival)
                return
            what = added.fingerprint.hex()
            kind = "key" if isinstance(added, KeyRecord) else "schema"
            log.info("%s record %s counts from %d on", kind, what, record.arrival)

    def restore(self, publisher: Publisher) -> int:
        """Publish again what the store holds and the topic has lost; how many records.

        A topic that merely compacts keeps the last record of each key, so that a key of which it
        holds nothing was lost. Call after the first `refresh`.

        Raises:
            UnavailableError: the broker did not take them; call again.
        """
        seen: set[bytes] = set()
        lost = []
        for record in self._records:
            if record.key not in self._on_topic and record.value not in seen:
                seen.add(record.value)
                lost.append(Outgoing(self._topic.topic, record.key, record.value))
        if lost:
            publisher.publish(lost, 10.0)
            self._on_topic.update(m.key for m in lost if m.key is not None)
            log.warning("%d key and schema records were published again", len(lost))
        return len(lost)
