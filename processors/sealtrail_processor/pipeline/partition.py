"""One partition of the log: from raw messages to a committed flush.

Order, and what a crash leaves behind:
1. the broker is still the one whose log we read, and all key records that it has are known;
2. the mark says what is in hand, for whoever finds it if this process dies (`marks`);
3. arrivals are settled (LogAppendTime, or receipts that are on disk before anything is judged);
4. messages are examined and judged: from here on everything is a function of recorded things;
5. the sink writes rows, then the commit: done again after a crash, it writes the same rows;
6. only then memory moves on, and the caller may acknowledge.

Blocking; `app` runs it in a thread. Safe against a consumer that hands over messages twice (they
are skipped), or with some missing in between (refused): the cursor in the store decides.
"""

from __future__ import annotations

from copy import copy
from threading import Lock
from typing import TYPE_CHECKING

from sealtrail.chain import Chains
from sealtrail.findings import Code
from sealtrail_processor.judging.judge import (
    Arrival,
    Examined,
    Rules,
    condemned,
    left_out,
    needed,
)
from sealtrail_processor.judging.model import (
    BoundaryBroken,
    Finding,
    Log,
    RawMessage,
)
from sealtrail_processor.judging.ports import (
    Life,
    LogChanged,
    SkippedMessages,
)
from sealtrail_processor.judging.suspicion import Suspicion
from sealtrail_processor.pipeline import arrivals
from sealtrail_processor.pipeline.cutting import Caps, parts, runs
from sealtrail_processor.pipeline.holding import reading, shed, surplus, weight
from sealtrail_processor.pipeline.step import Ports, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from sealtrail.chain import ChainState
    from sealtrail_processor.judging.suspicion import Death


class Partition:
    """State of one assigned partition.

    Args:
        log: which log it is.
        ports: the outside.
        rules: what its messages are judged by.
        caps: size of a flush.
        generation: of the group, in which it was assigned; only what was fetched in it is for it.
    """

    def __init__(
        self, log: Log, ports: Ports, rules: Rules, caps: Caps, generation: int = 0
    ) -> None:
        self.log = log
        self.ports = ports
        self.rules = rules
        self.caps = caps
        self.generation = generation
        self.lock = Lock()
        self.closed = False
        cursor = self._read()
        self.low, high = ports.broker.watermarks(log.topic, log.partition)
        if self.next_offset > high:
            raise LogChanged(
                f"{log.topic}[{log.partition}] ends at {high}, but {cursor} is committed",
                hint="the log was cut off: records after its end are lost to the broker",
            )
        self.suspicion = Suspicion()

    def _read(self) -> int | None:
        """Take cursor and chains from the store; the cursor.

        They are several questions, and one that is replaced may still commit between them. With
        chains that are ahead of the cursor its messages would be judged once more, as duplicates.
        """
        ledger, log = self.ports.ledger, self.log
        cursor = ledger.cursor(log)
        while True:
            # A log that nobody has read yet begins at 0: what it dropped before was lost, too.
            self.next_offset = 0 if cursor is None else cursor
            self.last_arrival = ledger.last_arrival(log)
            self.spent = ledger.spent(log, self.next_offset)
            self._lives = tuple(ledger.lives(log.topic, log.partition))
            self.chains = self._newest()
            before, cursor = cursor, ledger.cursor(log)
            if cursor == before:
                return cursor

    def _newest(self) -> Chains:
        """As many chains as are held, those that time may still find something about first.

        What their gaps and branches cost is known when they are read: with that of twice as many
        chains it is enough.
        """
        log, chains, holding = self.log, Chains(), self.ports.holding
        stored = self.ports.ledger.chains(log.topic, log.partition, 2 * holding.most + 1)
        wanted = [c for n, c in enumerate(stored) if n < holding.most * (1 + c.watched)]
        whole = len(wanted) == len(stored)
        for chain_ids in reading(wanted):
            if weight(chains) > 2 * holding.most:
                whole = False
                break
            found = self.ports.ledger.history(log, self.lives(), chain_ids)
            chains.recall(found.links, found.continued)
            shed(chains, holding)
        if not whole:
            chains.evict(())
        return chains

    def lives(self) -> list[Life]:
        """What of the log counts here: as it was when it was taken over, and what came since.

        Not what one that has replaced this one may have committed: what is judged on top of that
        would be judged otherwise than it was.
        """
        ours = Life(self.log.log_id, self.next_offset)
        known = [life.log_id for life in self._lives]
        if ours.log_id not in known:
            return [*self._lives, ours]
        return [ours if life.log_id == ours.log_id else life for life in self._lives]

    def evict(self, pending: Callable[[ChainState], bool]) -> list[bytes]:
        """Leave chains and hashes to the store if there are too many; chains that were left to it.

        The caller holds `lock`.

        Args:
            pending: whether time may still find something about a chain that was not told.
        """
        evicted = surplus(self.chains, self.ports.holding, pending)
        if evicted:
            self.chains.evict(evicted)
        shed(self.chains, self.ports.holding)
        return evicted

    def _recall(self, examined: Sequence[Examined]) -> None:
        """Bring back what these messages speak of: they are judged as if it had never left."""
        wanted = left_out(examined, self.chains)
        if not wanted:
            return
        ledger, lives = self.ports.ledger, self.lives()
        # Chains that share the bits of event ids would take one another's.
        wanted |= ledger.namesakes(self.log, lives, wanted)
        found = ledger.history(self.log, lives, wanted)
        self.ports.holding.recalled += self.chains.recall(found.links, found.continued)

    def given_back(self, generation: int) -> Partition:
        """The same state, open in a later generation; in the same one, as it is: perhaps closed.

        The caller holds `lock`. This one takes no more messages: some may still be on their way
        to it, behind others that it did not take when it was closed.
        """
        if generation == self.generation:
            return self
        heir = copy(self)
        heir.generation, heir.lock, heir.closed = generation, Lock(), False
        self.closed = True
        return heir

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

    def begin(
        self, messages: Sequence[RawMessage], receipts: Mapping[int, int] | None = None
    ) -> Step | None:
        """Judge messages whose commit shall be written together with those of other partitions.

        The caller holds `lock` until the step has ended, and has held log and keys against the
        broker's after the messages were fetched. None where `process` must do it: nothing is new,
        it is more than one flush, there are holes, or messages are suspected of killing workers.

        Args:
            messages: in the order of the log.
            receipts: arrivals on record, where the broker does not stamp messages; asked for and
                recorded here unless given.

        Raises:
            SealtrailError: as `process`.
        """
        fresh = self._fresh(messages)
        if self.closed or not fresh or fresh[0].offset < self.suspicion.until:
            return None
        if len(runs(fresh)) > 1:
            return None
        self._check_holes(fresh)
        first, last = fresh[0].offset, fresh[-1].offset
        with self.ports.mark.working(self.log, first, last):
            part, *more = parts(self._examined(fresh, receipts), self.caps)
            if more:
                return None
            self.ports.mark.at(first, last)
            return self._judged(fresh, part, ())

    def process(self, messages: Sequence[RawMessage]) -> bool:
        """Judge and commit messages in the order of the log; False when it was taken away.

        Raises:
            SealtrailError: not all is committed; call again with the same messages.
            LogChanged, SkippedMessages: do not call again; start anew from the store's cursor.
        """
        with self.lock:
            if self.closed:
                return False
            # The messages were fetched before this question: the same answer as at the start means
            # that they are of this log. (Before any is skipped: a new log begins at offset 0.)
            self.check_log()
            fresh = self._fresh(messages)
            if not fresh:
                return True
            self.ports.refresh_keys()
            for run in runs(fresh):
                self._check_holes(run)
                for group in self.suspicion.groups(run):
                    with self.ports.mark.working(self.log, group[0].offset, group[-1].offset):
                        self._work(group)
        return True

    def _fresh(self, messages: Sequence[RawMessage]) -> list[RawMessage]:
        """What is not committed, each message once: after a seek some come twice in one take."""
        fresh = {m.offset: m for m in messages if m.offset >= self.next_offset}
        return [fresh[offset] for offset in sorted(fresh)]

    def _work(self, messages: Sequence[RawMessage]) -> None:
        for part in parts(self._examined(messages), self.caps):
            self.ports.mark.at(part[0].message.offset, part[-1].message.offset)
            self._commit(part)

    def _examined(
        self, messages: Sequence[RawMessage], receipts: Mapping[int, int] | None = None
    ) -> list[Examined]:
        examined = []
        for message, arrival in zip(messages, self._arrivals(messages, receipts), strict=True):
            self.ports.mark.at(message.offset, message.offset)
            examined.append(self._examine(message, arrival))
        return examined

    def _arrivals(
        self, messages: Sequence[RawMessage], receipts: Mapping[int, int] | None
    ) -> list[Arrival]:
        if receipts is None:
            receipts = {}
            if unstamped := arrivals.unstamped(messages):
                now = max(self.ports.now(), self.last_arrival)
                receipts = self.ports.ledger.receipts(self.log, unstamped, now)
        return arrivals.settled(messages, receipts, self.last_arrival, self.ports.ledger)

    def _examine(self, message: RawMessage, arrival: Arrival) -> Examined:
        offset = message.offset
        # What the store took once is no poison, whoever died afterwards.
        if self.suspicion.condemns(offset) and not self.ports.ledger.holds(self.log, offset):
            return condemned(message, arrival)
        return self.ports.examine(message, arrival, self.rules.place, self.ports.directory)

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

    def _judged(
        self,
        messages: Sequence[RawMessage],
        examined: Sequence[Examined],
        bad: Collection[int],
    ) -> Step:
        self._recall(examined)
        keys = needed(examined, self.chains)
        ledger = self.ports.ledger
        stored = ledger.stored_hashes(self.log, self.lives(), keys) if keys else {}
        step = Step(self, messages)
        try:
            step.judge(examined, stored, bad)
        except BaseException:
            step.undo()
            raise
        return step

    def _commit(self, examined: Sequence[Examined]) -> None:
        messages = [item.message for item in examined]
        bad: set[int] = set()
        while True:
            step = self._judged(messages, examined, bad)
            try:
                self.ports.sink.write(step.flush)
            except BoundaryBroken as broken:
                step.undo()
                if bad.issuperset(broken.offsets):
                    raise
                bad.update(broken.offsets)
            except BaseException:
                step.undo()
                raise
            else:
                step.settle()
                return

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
            if found < first:
                raise SkippedMessages(
                    f"{topic}[{number}]: offset {found} is in the log but {first} was handed over",
                    hint="the worker starts anew from what is committed",
                )

    def _lost(self, end: int) -> None:
        """Commit the offsets from the cursor to end (exclusive) as lost, and say so.

        Raises:
            SkippedMessages: not lost: another worker has committed them.
        """
        first, topic, number = self.next_offset, self.log.topic, self.log.partition
        # One that was frozen, and replaced by this one, may have ended its flush since we began.
        cursor = self.ports.ledger.cursor(self.log)
        if cursor is not None and cursor > first:
            raise SkippedMessages(
                f"{topic}[{number}]: offsets {first} to {cursor - 1} were committed meanwhile",
                hint="the worker starts anew from what is committed",
            )
        arrival = max(self.ports.now(), self.last_arrival)
        detail = f"offsets {first} to {end - 1} were gone before they were read"
        # The finding first: after the commit nobody would look again.
        self.ports.report(self.log, first, Finding(Code.DATA_LOSS_WINDOW, detail))
        self.ports.sink.write_lost(self.log, first, end - 1, arrival)
        self.next_offset, self.last_arrival = end, arrival
