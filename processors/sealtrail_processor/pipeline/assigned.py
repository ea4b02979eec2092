"""The partitions that a worker has: taken over, taken away, given back, and worked on.

Without threads and without Faust, so that a simulation drives the same rules. Each partition knows
the generation of the group in which it was taken over; only what was fetched in it is for it.

All are of one life of the log: a broker that began anew counts generations from 1 again, and what
was fetched before would be taken for what the new log holds at the same offsets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealtrail_processor.judging.model import Log
from sealtrail_processor.judging.ports import LogChanged
from sealtrail_processor.pipeline.partition import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sealtrail_processor.judging.judge import Rules
    from sealtrail_processor.judging.model import RawMessage
    from sealtrail_processor.pipeline.cutting import Caps
    from sealtrail_processor.pipeline.step import Ports
    from sealtrail_processor.pipeline.together import Together

    Each = Callable[[Callable[[Log], Partition], Sequence[Log]], Iterator[Partition]]


class Assigned:
    """Partitions of one topic, by number.

    Args:
        ports: what each works with.
        rules: what the messages of a log are judged by.
        caps: size of a flush.
        together: commits those of several.
        loaded: told of each partition that was read from the store.
    """

    def __init__(
        self,
        ports: Ports,
        rules: Callable[[Log], Rules],
        caps: Caps,
        together: Together,
        loaded: Callable[[Partition], None],
    ) -> None:
        self.partitions: dict[int, Partition] = {}
        self._ports = ports
        self._rules = rules
        self._caps = caps
        self._together = together
        self._loaded = loaded
        self._log_id = ""

    def take_over(
        self, topic: str, wanted: Sequence[int], generation: int, each: Each = map
    ) -> dict[int, int]:
        """State as of the last commit; next offset of each.

        Args:
            topic: of the partitions.
            wanted: all that are this worker's now; others are closed.
            generation: of the group. A partition that was taken away stays closed until a later
                one: Faust also asks where to read while a rebalance is under way, and what was
                fetched before may still wait in a lane behind messages that were dropped.
            each: `map`, or one that does several at a time: each is a handful of questions to the
                store, and nobody is served while they are asked.

        Raises:
            SealtrailError: store or broker cannot be asked; call again.
            LogChanged: do not call again; what is under way is of another log.
        """
        log_id = self._ports.broker.log_id(topic)
        if self._log_id not in {"", log_id}:
            raise LogChanged(
                f"{topic} is another log than {self._log_id} now",
                hint="the broker started anew; the worker has to as well",
            )
        self._log_id = log_id
        for number in set(self.partitions) - set(wanted):
            self.partitions.pop(number).close()
        deaths = self._ports.ledger.deaths(log_id, topic)
        logs = [Log(log_id, topic, number) for number in wanted]
        for partition in each(lambda log: self._load(log, generation), logs):
            partition.suspect(deaths)
            self.partitions[partition.log.partition] = partition
        return {number: self.partitions[number].next_offset for number in wanted}

    def _load(self, log: Log, generation: int) -> Partition:
        ledger = self._ports.ledger
        ledger.settle(log.partition)
        before = self.partitions.get(log.partition)
        # Rebalances take partitions away and give them back: what was not moved on is kept.
        if before is not None:
            # A lane may still wait for a commit of it.
            with before.lock:
                # None: nothing of this log is committed yet.
                if (ledger.cursor(log) or 0) == before.next_offset:
                    return before.given_back(generation)
        partition = Partition(log, self._ports, self._rules(log), self._caps, generation)
        partition.catch_up()
        self._loaded(partition)
        return partition

    def revoke(self, numbers: Iterable[int]) -> None:
        """Partitions were taken away: nothing more is begun for them."""
        for number in numbers:
            partition = self.partitions.get(number)
            if partition is not None:
                # Without the lock: a flush under way ends by itself, and is the same done twice.
                partition.closed = True

    def process(self, groups: Mapping[int, Sequence[RawMessage]], generation: int) -> set[int]:
        """Judge and commit messages by partition.

        What was fetched in another generation than that in which the partition was taken over is
        dropped: it is read again.

        Returns:
            The partitions whose messages are committed, and may be acknowledged.

        Raises:
            SealtrailError: call again with the same messages (but see Partition.process).
        """
        work = [
            (partition, messages)
            for number, messages in groups.items()
            if (partition := self.partitions.get(number)) is not None
            and partition.generation == generation
        ]
        return self._together.process(work)
