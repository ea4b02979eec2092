"""What a partition works with, and what of it is judged and not yet committed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sealtrail_processor.judging.judge import Arrival, Examined, Trial, examine, judge
from sealtrail_processor.judging.keeping import keep

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sealtrail.records import Directory
    from sealtrail.validate import Place
    from sealtrail_processor.judging.judge import Stored
    from sealtrail_processor.judging.model import Finding, Flush, Log, RawMessage, Sink
    from sealtrail_processor.judging.ports import Broker, Clock, Ledger
    from sealtrail_processor.pipeline.holding import Holding
    from sealtrail_processor.pipeline.marks import Mark
    from sealtrail_processor.pipeline.partition import Partition


@dataclass(frozen=True, slots=True)
class Ports:
    """What a partition works with.

    Args:
        refresh_keys: reads the keys topic to the end that it has now.
        report: makes a finding durable that belongs to no flush (log, offset, finding).
        committed: told of each flush once it is committed; must not raise.
        mark: says what is in hand.
        holding: how many chains are held, and what became of the others.
        examine: steps 1 to 9 of one message.
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
    holding: Holding
    examine: Callable[[RawMessage, Arrival, Place, Directory], Examined] = examine


class Step:
    """Messages of a partition that are judged and not yet committed; the partition waits for it.

    Exactly one of `settle` and `undo` ends it, in any thread.
    """

    def __init__(self, partition: Partition, messages: Sequence[RawMessage]) -> None:
        self.partition = partition
        self.messages = messages
        self._trial = Trial(partition.chains)
        self._known_at = 0
        self._spent = partition.spent
        self.flush: Flush

    def judge(self, examined: Sequence[Examined], stored: Stored, bad: Collection[int]) -> None:
        """Fill `flush`; the partition's chains move on until `undo`."""
        partition = self.partition
        self._known_at = examined[-1].arrival.known_at
        flush = judge(
            partition.log,
            partition.next_offset,
            examined,
            trial=self._trial,
            rules=partition.rules,
            stored=stored,
            bad_offsets=bad,
        )
        rules = partition.rules
        judged, self._spent = keep(
            flush.judged, partition.spent, rules.kept_bytes, rules.parked_bytes
        )
        self.flush = replace(flush, judged=judged)

    def settle(self) -> None:
        """It is committed: memory moves on."""
        partition, flush = self.partition, self.flush
        self._trial.settle()
        partition.next_offset = flush.last_offset + 1
        partition.last_arrival = max(partition.last_arrival, self._known_at)
        partition.spent = self._spent
        partition.ports.committed(flush)

    def undo(self) -> None:
        """It is not committed: memory is as before."""
        self._trial.undo()
