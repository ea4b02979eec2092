"""The ports of the pipeline in memory: what the tests run on, and nothing that they could not see.

They keep the promises of the real ones: commits are contiguous, receipts are first come first
served, a flush that was refused leaves nothing behind.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail import ids
from sealtrail.chain import Link
from sealtrail.errors import UnavailableError
from sealtrail.findings import Disposition
from sealtrail_processor.judging import keeping
from sealtrail_processor.judging.model import BoundaryBroken, Flush, Log, OneByOne, RawMessage
from sealtrail_processor.judging.ports import History, Life, Stored, Unreadable
from sealtrail_processor.pipeline.marks import PAGE, Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sealtrail.statement import Continues
    from sealtrail_processor.judging.keeping import Spent
    from sealtrail_processor.judging.keys_reader import StoredRecord
    from sealtrail_processor.judging.model import Judged
    from sealtrail_processor.judging.ports import Coordinates, Outgoing
    from sealtrail_processor.judging.suspicion import Death

_TAKEN = (Disposition.ACCEPTED, Disposition.RELEASED)


@dataclass
class MemoryLedger:
    """Ledger and sink in one.

    Args:
        broken: offsets whose events the engine would read differently.
        failures: so many writes fail before one succeeds.
        silent: so many questions for chains fail before one is answered.
        asked: questions for chains.
    """

    flushes: list[Flush] = field(default_factory=list)
    lost: list[tuple[Log, int, int]] = field(default_factory=list)
    died: list[Death] = field(default_factory=list)
    first_seen: dict[tuple[Log, int], int] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    failures: int = 0
    silent: int = 0
    asked: int = 0

    def write(self, flush: Flush) -> None:
        """Sink.write."""
        if self.failures:
            self.failures -= 1
            raise UnavailableError("the store is away")
        bad = [
            j.message.offset
            for j in flush.judged
            if j.disposition in _TAKEN and j.message.offset in self.broken
        ]
        if bad:
            raise BoundaryBroken(bad)
        self.flushes.append(flush)

    def write_together(self, flushes: Sequence[Flush]) -> None:
        """Sink.write_together."""
        taken = [j for f in flushes for j in f.judged if j.disposition in _TAKEN]
        if len(flushes) > 1 and any(j.message.offset in self.broken for j in taken):
            raise OneByOne("one of them is broken")
        if self.failures:
            self.failures -= 1
            raise UnavailableError("the store is away")
        for flush in flushes:
            self.write(flush)

    def write_lost(self, log: Log, first_offset: int, last_offset: int, arrival: int) -> None:
        """Sink.write_lost."""
        del arrival
        self.lost.append((log, first_offset, last_offset))

    def judged(self, log: Log | None = None) -> list[Judged]:
        """All committed messages, of one log or of all."""
        return [j for f in self.flushes if log in (None, f.log) for j in f.judged]

    def settle(self, partition: int) -> None:
        """Ledger.settle: there is one copy."""

    def cursor(self, log: Log) -> int | None:
        """Ledger.cursor."""
        ends = [f.last_offset + 1 for f in self.flushes if f.log == log]
        ends += [last + 1 for lost, _, last in self.lost if lost == log]
        return max(ends, default=None)

    def last_arrival(self, log: Log) -> int:
        """Ledger.last_arrival."""
        return max((j.arrival for j in self.judged(log)), default=0)

    def spent(self, log: Log, end: int) -> Spent:
        """Ledger.spent."""
        return keeping.spent_on([j for j in self.judged(log) if j.message.offset < end])

    def lives(self, topic: str, partition: int) -> list[Life]:
        """Ledger.lives."""
        logs = dict.fromkeys(f.log for f in self.flushes)
        return [
            Life(log.log_id, self.cursor(log) or 0)
            for log in logs
            if (log.topic, log.partition) == (topic, partition)
        ]

    def chains(self, topic: str, partition: int, most: int) -> list[Stored]:
        """Ledger.chains; none counts as watched, for nothing is told here."""
        links = self._links(topic, partition)
        heard: dict[bytes, int] = {}
        for link in links:
            heard[link.chain_id] = max(heard.get(link.chain_id, 0), link.arrival)
        counts = Counter(link.chain_id for link in links)
        newest = sorted(heard, key=lambda chain_id: (-heard[chain_id], chain_id))
        return [Stored(chain_id, counts[chain_id], watched=False) for chain_id in newest[:most]]

    def history(self, place: Log, lives: Sequence[Life], chain_ids: Collection[bytes]) -> History:
        """Ledger.history."""
        self._answer()
        links = self._links(place.topic, place.partition, lives)
        continued: dict[bytes, tuple[bytes, Continues]] = {}
        for link in links:
            point = link.continues
            if point is not None and point.chain_id in chain_ids:
                continued.setdefault(point.chain_id, (link.chain_id, point))
        return History([link for link in links if link.chain_id in chain_ids], continued)

    def namesakes(
        self, place: Log, lives: Sequence[Life], chain_ids: Collection[bytes]
    ) -> set[bytes]:
        """Ledger.namesakes."""
        self._answer()
        wanted = {ids.chain_prefix(chain_id) for chain_id in chain_ids}
        links = self._links(place.topic, place.partition, lives)
        return {link.chain_id for link in links if ids.chain_prefix(link.chain_id) in wanted}

    def _answer(self) -> None:
        self.asked += 1
        if self.silent:
            self.silent -= 1
            raise UnavailableError("the store is away")

    def _links(self, topic: str, partition: int, lives: Sequence[Life] | None = None) -> list[Link]:
        ends = None if lives is None else {life.log_id: life.end for life in lives}
        return [
            Link.of(j.batch.statement, j.batch.statement_hash, j.arrival, j.branch)
            for f in self.flushes
            if (f.log.topic, f.log.partition) == (topic, partition)
            for j in f.judged
            if j.disposition in _TAKEN and j.batch is not None
            if ends is None or j.message.offset < ends.get(f.log.log_id, 0)
        ]

    def receipts(self, log: Log, offsets: Sequence[int], now: int) -> Mapping[int, int]:
        """Ledger.receipts."""
        return {o: self.first_seen.setdefault((log, o), now) for o in offsets}

    def receipts_of(
        self, offsets: Mapping[Log, Sequence[int]], now: int
    ) -> Mapping[Log, Mapping[int, int]]:
        """Ledger.receipts_of."""
        return {log: self.receipts(log, wanted, now) for log, wanted in offsets.items()}

    def stored_hashes(
        self, place: Log, lives: Sequence[Life], keys: Collection[tuple[bytes, int]]
    ) -> Mapping[tuple[bytes, int], Sequence[tuple[bytes, int]]]:
        """Ledger.stored_hashes."""
        found: dict[tuple[bytes, int], list[tuple[bytes, int]]] = {}
        for link in self._links(place.topic, place.partition, lives):
            key = (link.chain_id, link.batch_seq)
            if key in keys:
                found.setdefault(key, []).append((link.statement_hash, link.branch))
        return found

    def deaths(self, log_id: str, topic: str) -> list[Death]:
        """Ledger.deaths."""
        return [d for d in self.died if (d.log.log_id, d.log.topic) == (log_id, topic)]

    def record_death(self, death: Death) -> None:
        """Ledger.record_death."""
        self.died += [death] if death not in self.died else []

    def holds(self, log: Log, offset: int) -> bool:
        """Ledger.holds."""
        return any(j.message.offset == offset for j in self.judged(log))

    def refused(
        self, coordinates: Collection[Coordinates]
    ) -> Mapping[Coordinates, tuple[int, bytes]]:
        """Ledger.refused."""
        return {
            at: (j.arrival, sha256(j.message.value or b"").digest())
            for f in self.flushes
            for j in f.judged
            if j.disposition in (Disposition.PARKED, Disposition.QUARANTINED)
            and (at := (f.log.log_id, f.log.topic, f.log.partition, j.message.offset))
            in coordinates
        }


@dataclass
class MemoryBroker:
    """One topic of a broker: its messages by partition, without the holes that it may have.

    unreadable: offsets of messages that no client makes sense of; closed: how often it was.
    """

    cluster: str = "cluster-1"
    logs: dict[int, list[RawMessage]] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    group: dict[int, int] = field(default_factory=dict)
    away: bool = False
    unreadable: set[int] = field(default_factory=set)
    closed: int = 0

    def log_id(self, topic: str) -> str:
        """Broker.log_id."""
        self._ask(topic)
        return self.cluster

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        """Broker.watermarks."""
        self._ask(topic)
        held = self.logs.get(partition, [])
        start = self.starts.get(partition, held[0].offset if held else 0)
        return start, held[-1].offset + 1 if held else start

    def partitions(self, topic: str) -> int:
        """KafkaSide.partitions."""
        self._ask(topic)
        return max(self.logs, default=-1) + 1

    def committed(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """KafkaSide.committed."""
        self._ask(topic)
        return {n: self.group[n] for n in partitions if n in self.group}

    def first_at(self, topic: str, partition: int, offset: int) -> int:
        """Broker.first_at."""
        self._ask(topic)
        for message in self.logs.get(partition, []):
            if message.offset >= offset:
                return message.offset
        raise UnavailableError(f"{topic}: no message")

    def messages(
        self, topic: str, partition: int, offsets: Sequence[int], most: int
    ) -> list[RawMessage | None]:
        """KafkaSide.messages."""
        self._ask(topic)
        held = {message.offset: message for message in self.logs.get(partition, [])}
        found: list[RawMessage | None] = []
        size = 0
        for offset in offsets:
            if offset in self.unreadable:
                break
            message = held.get(offset)
            found.append(message)
            size += 0 if message is None else keeping.size(message)
            if size >= most:
                break
        if not found:
            raise Unreadable(f"{topic}: no decoder takes it")
        return found

    def close(self) -> None:
        """KafkaSide.close."""
        self.closed += 1

    def _ask(self, topic: str) -> None:
        if self.away:
            raise UnavailableError(f"{topic}: the broker is away")


@dataclass
class MemoryHeads:
    """The heads topic, and what is on it unread."""

    unread: list[bytes] = field(default_factory=list)
    there: bool = True

    def present(self) -> bool:
        """HeadsTopic.present."""
        return self.there

    def read(self) -> list[bytes]:
        """HeadsTopic.read."""
        found, self.unread = self.unread, []
        return found


@dataclass
class MemoryMarks:
    """The mark of a worker, and deaths of others that wait to be found."""

    dead: list[Death] = field(default_factory=list)
    own: Mark = field(default_factory=lambda: Mark(bytearray(PAGE)))

    def collect(self, record: Callable[[Death], None]) -> int:
        """Marks.collect."""
        found, self.dead = self.dead, []
        for death in found:
            record(death)
        return len(found)


@dataclass
class MemoryPublisher:
    """Keeps what is published; takes `room` messages, then says that its queue is full.

    overdue: messages that were given up, which nobody has noted yet.
    """

    sent: list[Outgoing] = field(default_factory=list)
    room: int = 1_000_000
    away: bool = False
    failed: int = 0
    overdue: int = 0

    def poll(self) -> None:
        """Publisher.poll."""
        self.failed, self.overdue = self.failed + self.overdue, 0

    def offer(self, message: Outgoing) -> bool:
        """Publisher.offer."""
        if len(self.sent) >= self.room:
            return False
        self.sent.append(message)
        return True

    def publish(self, messages: Sequence[Outgoing], timeout_s: float) -> list[int]:
        """Publisher.publish."""
        if self.away:
            raise UnavailableError(f"not published within {timeout_s} s")
        first = len(self.sent)
        self.sent += messages
        return list(range(first, len(self.sent)))

    def close(self, timeout_s: float) -> int:
        """Publisher.close."""
        del timeout_s
        return 0


@dataclass
class MemoryKeys:
    """The keys topic and the table of its records."""

    topic: str = "provenance.keys"
    unread: list[tuple[int, RawMessage]] = field(default_factory=list)
    records: list[StoredRecord] = field(default_factory=list)
    away: bool = False

    def read_to_end(self) -> list[tuple[int, RawMessage]]:
        """Topic.read_to_end."""
        found, self.unread = self.unread, []
        return found

    def load(self) -> list[StoredRecord]:
        """RecordStore.load."""
        return sorted(self.records, key=lambda r: r.arrival)

    def keep(self, records: Sequence[StoredRecord]) -> dict[tuple[Log, int], int]:
        """RecordStore.keep."""
        if self.away:
            raise UnavailableError("the store is away")
        known = {(r.log, r.offset) for r in self.records}
        self.records += [r for r in records if (r.log, r.offset) not in known]
        return {(r.log, r.offset): r.arrival for r in self.records}
