"""One partition of the log: from raw messages to a committed flush.

Order, and what a crash leaves behind:
1. the broker is still the one whose log we read, and all key records that it has are known;
2. the mark says what is in hand, for whoever finds it if this process dies (`breaker`);
3. arrivals are settled (LogAppendTime, or receipts that are on disk before anything is judged);
4. messages are examined and judged: from here on everything is a function of recorded things;
5. the sink writes rows, then the commit: done again after a crash, it writes the same rows;
6. only then memory moves on, and the caller may acknowledge.

Blocking; `app` runs it in a thread. Safe against a consumer that hands over messages twice (they
are skipped), or with some missing in between (refused): the cursor in the store decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING

from sealtrail.findings import Code
from sealtrail_processor import released
from sealtrail_processor.breaker import Suspicion
from sealtrail_processor.judge import (
    Arrival,
    Examined,
    Rules,
    Trial,
    condemned,
    examine,
    judge,
    needed,
)
from sealtrail_processor.model import (
    LOG_APPEND,
    ORIGINAL,
    RECEIPT,
    BoundaryBroken,
    Finding,
    Flush,
    Log,
    RawMessage,
    Sink,
)
from sealtrail_processor.ports import Broker, Clock, Ledger, LogChanged, SkippedMessages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sealtrail.records import Directory
    from sealtrail_processor.breaker import Death, Mark


@dataclass(frozen=True, slots=True)
class Ports:
    """What a partition works with.

    Args:
        refresh_keys: reads the keys topic to the end that it has now.
        report: makes a finding durable that belongs to no flush (log, offset, finding).
        committed: told of each flush once it is committed; must not raise.
        mark: says what is in hand.
    """

    ledger: Ledger
    sink: Sink
    broker: Broker
    directory: Directory
    refresh_keys: Callable[[], None]
    report: Callable[[Log, int, Finding], None]
    committed: Callable[[Flush], None]
    now: Clock
    mark: Mark


@dataclass(frozen=True, slots=True)
class Caps:
    """How much one flush may hold."""

    events: int
    bytes: int


class Partition:
    """State of one assigned partition.

    Args:
        log: which log it is.
        ports: the outside.
        rules: what its messages are judged by.
        caps: size of a flush.
    """

    def __init__(self, log: Log, ports: Ports, rules: Rules, caps: Caps) -> None:
        self.log = log
        self.ports = ports
        self.rules = rules
        self.caps = caps
        self.lock = Lock()
        self.closed = False
        ledger = ports.ledger
        low, high = ports.broker.watermarks(log.topic, log.partition)
        cursor = ledger.cursor(log)
        # A log that nobody has read yet begins at 0: what it dropped before was lost to us, too.
        self.next_offset = 0 if cursor is None else cursor
        if self.next_offset > high:
            raise LogChanged(
                f"{log.topic}[{log.partition}] ends at {high}, but {cursor} is committed",
                hint="the log was cut off: records after its end are lost to the broker",
            )
        self.last_arrival = ledger.last_arrival(log)
        self.chains = ledger.chains(log.topic, log.partition)
        self.low = low
        self.suspicion = Suspicion()

    def suspect(self, deaths: Iterable[Death]) -> None:
        """Take in what became of workers that had messages in hand; at assignment.

        Args:
            deaths: in any partition, at any offset.
        """
        ours = (d for d in deaths if d.log == self.log and d.last >= self.next_offset)
        self.suspicion = Suspicion.of(ours)

    def catch_up(self) -> None:
        """Commit as LOST what the broker dropped before it was read; usually nothing."""
        with self.lock:
            if self.low > self.next_offset:
                self._lost(self.low)

    def process(self, messages: Sequence[RawMessage]) -> None:
        """Judge and commit messages in the order of the log; none when it was taken away.

        Raises:
            SealtrailError: not all is committed; call again with the same messages.
            LogChanged, SkippedMessages: do not call again; start anew from the store's cursor.
        """
        with self.lock:
            if self.closed:
                return
            # The messages were fetched before this question: the same answer as at the start means
            # that they are of this log. (Before any is skipped: a new log begins at offset 0.)
            self.check_log()
            fresh = [m for m in messages if m.offset >= self.next_offset]
            if not fresh:
                return
            self._check_holes(fresh)
            self.ports.refresh_keys()
            for group in self.suspicion.groups(fresh):
                with self.ports.mark.working(self.log, group[0].offset, group[-1].offset):
                    self._work(group)

    def _work(self, messages: Sequence[RawMessage]) -> None:
        examined = []
        for message, arrival in zip(messages, self._arrivals(messages), strict=True):
            self.ports.mark.at(message.offset, message.offset)
            examined.append(self._examine(message, arrival))
        for part in _parts(examined, self.caps):
            self.ports.mark.at(part[0].message.offset, part[-1].message.offset)
            self._commit(part)

    def _examine(self, message: RawMessage, arrival: Arrival) -> Examined:
        offset = message.offset
        # What the store took once is no poison, whoever died afterwards.
        if self.suspicion.condemns(offset) and not self.ports.ledger.holds(self.log, offset):
            return condemned(message, arrival)
        return examine(message, arrival, self.rules.place, self.ports.directory)

    def check_log(self) -> None:
        """Hold the broker's log against ours.

        Raises:
            LogChanged: it is another one now.
            UnavailableError: the broker cannot be asked.
        """
        if self.ports.broker.log_id(self.log.topic) != self.log.log_id:
            raise LogChanged(
                f"{self.log.topic} is another log than {self.log.log_id} now",
                hint="the broker started anew; the worker has to as well",
            )

    def close(self) -> None:
        """Take the partition away: what is under way ends first, nothing is processed after."""
        with self.lock:
            self.closed = True

    def _commit(self, examined: Sequence[Examined]) -> None:
        keys = needed(examined, self.chains)
        stored = self.ports.ledger.stored_hashes(keys) if keys else {}
        bad: set[int] = set()
        while True:
            trial = Trial(self.chains)
            try:
                flush = judge(
                    self.log,
                    self.next_offset,
                    examined,
                    trial=trial,
                    rules=self.rules,
                    stored=stored,
                    bad_offsets=bad,
                )
                self.ports.sink.write(flush)
            except BoundaryBroken as broken:
                trial.undo()
                if bad.issuperset(broken.offsets):
                    raise
                bad.update(broken.offsets)
            except BaseException:
                trial.undo()
                raise
            else:
                self.next_offset = flush.last_offset + 1
                self.last_arrival = max(self.last_arrival, examined[-1].arrival.known_at)
                self.ports.committed(flush)
                return

    def _arrivals(self, messages: Sequence[RawMessage]) -> list[Arrival]:
        """Arrivals never go back within a partition."""
        unstamped = [m.offset for m in messages if not m.append_time]
        receipts: Mapping[int, int] = {}
        if unstamped:
            now = max(self.ports.now(), self.last_arrival)
            receipts = self.ports.ledger.receipts(self.log, unstamped, now)
        last, arrivals = self.last_arrival, []
        origins = self._origins(messages)
        for message in messages:
            own = message.timestamp_us if message.append_time else receipts[message.offset]
            last = max(last, own)
            source = LOG_APPEND if message.append_time else RECEIPT
            origin = origins.get(message.offset)
            if origin is None:
                arrivals.append(Arrival(last, source, last))
            else:
                # A release is judged with the keys known now, but it arrived when it arrived first.
                arrivals.append(Arrival(origin[1], ORIGINAL, last, origin[0]))
        return arrivals

    def _origins(
        self, messages: Sequence[RawMessage]
    ) -> dict[int, tuple[tuple[str, str, int, int], int]]:
        """Offset -> (coordinates, arrival) of the refused message that it repeats."""
        claims = {}
        for message in messages:
            origin = released.origin(message.headers)
            if origin is not None and message.value is not None:
                claims[message.offset] = (origin, sha256(message.value).digest())
        if not claims:
            return {}
        # Anybody can write a header: only that the same bytes were refused there bears it out.
        known = self.ports.ledger.refused({origin for origin, _ in claims.values()})
        return {
            offset: (origin, known[origin][0])
            for offset, (origin, digest) in claims.items()
            if origin in known and known[origin][1] == digest
        }

    def _check_holes(self, messages: Sequence[RawMessage]) -> None:
        """Holes are fine where the log has them; what the broker dropped unread is LOST."""
        first = messages[0].offset
        if first == self.next_offset:
            return
        topic, number = self.log.topic, self.log.partition
        low, _ = self.ports.broker.watermarks(topic, number)
        if low > self.next_offset:
            self._lost(min(low, first))
        if first > self.next_offset:
            found = self.ports.broker.first_at(topic, number, self.next_offset)
            if found is not None and found < first:
                raise SkippedMessages(
                    f"{topic}[{number}]: offset {found} is in the log but {first} was handed over",
                    hint="the worker starts anew from what is committed",
                )

    def _lost(self, end: int) -> None:
        """Commit the offsets from the cursor to end (exclusive) as lost, and say so."""
        first = self.next_offset
        arrival = max(self.ports.now(), self.last_arrival)
        detail = f"offsets {first} to {end - 1} were gone before they were read"
        # The finding first: after the commit nobody would look again.
        self.ports.report(self.log, first, Finding(Code.DATA_LOSS_WINDOW, detail))
        self.ports.sink.write_lost(self.log, first, end - 1, arrival)
        self.next_offset, self.last_arrival = end, arrival


def _parts(examined: Sequence[Examined], caps: Caps) -> Iterator[list[Examined]]:
    """Runs of messages that fit one flush each; a message that is larger alone is one by itself."""
    part: list[Examined] = []
    events = size = 0
    for item in examined:
        more, length = item.events, len(item.message.value or b"")
        if part and (events + more > caps.events or size + length > caps.bytes):
            yield part
            part, events, size = [], 0, 0
        part.append(item)
        events += more
        size += length
    if part:
        yield part
