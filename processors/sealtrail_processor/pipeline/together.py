"""Commits messages of several partitions together, while others are being judged.

Judging is Python and runs in the flush thread alone; the store's work is waited for in threads of
its own. So that both go on at the same time, the caller forms *lanes*: partitions of different
lanes do not wait for one another, those of one lane do.

    thread of the lane:  ask for log and receipts | flush thread: judge | write | settle or undo

Why nothing is lost or doubled by it:
- a partition is locked from being judged until that is committed or undone: nothing is ever judged
  on top of something that may still be taken back;
- only when `process` has returned may the caller acknowledge, for the partitions that it names, in
  the order of the log;
- the group's rows are those that each partition would have written alone, with a commit each; where
  the store refuses the group's data, each is judged and written anew by itself.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from sealtrail_processor.judging.model import OneByOne
from sealtrail_processor.pipeline import arrivals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from sealtrail_processor.judging.model import Log, RawMessage, Sink
    from sealtrail_processor.judging.ports import Clock, Ledger
    from sealtrail_processor.pipeline.marks import Mark
    from sealtrail_processor.pipeline.partition import Partition
    from sealtrail_processor.pipeline.step import Step

    Work = list[tuple[Partition, Sequence[RawMessage]]]


class Together:
    """Processes groups of partitions; may be called by several threads with different partitions.

    Args:
        sink: where flushes go.
        ledger: keeps receipts.
        now: microseconds since 1970.
        refresh_keys: reads the keys topic to the end that it has now; called in the flush thread.
        in_flush_thread: runs something in the flush thread.
        mark: says what is in hand.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the worker names them
        self,
        sink: Sink,
        ledger: Ledger,
        now: Clock,
        refresh_keys: Callable[[], None],
        in_flush_thread: Callable[..., Future[None]],
        mark: Mark,
    ) -> None:
        self._sink = sink
        self._ledger = ledger
        self._now = now
        self._refresh_keys = refresh_keys
        self._in_flush_thread = in_flush_thread
        self._mark = mark

    def process(self, work: Work) -> set[int]:
        """Judge and commit messages of some partitions of one topic.

        Returns:
            The partitions whose messages are committed: not those that were taken away.

        Raises:
            SealtrailError: not all is committed; call again with the same messages.
            LogChanged, SkippedMessages: do not call again.
        """
        committed: set[int] = set()
        if not work:
            return committed
        # All partitions are of one topic, and the messages were fetched before this question.
        work[0][0].check_log()
        receipts = self._receipts(work)
        steps: list[Step] = []
        alone: Work = []
        with ExitStack() as locks:
            try:
                begun = self._in_flush_thread(self._begin, work, receipts, steps, alone, locks)
                begun.result()
                if steps:
                    flushes = [step.flush for step in steps]
                    with self._mark.holding(flushes):
                        self._sink.write_together(flushes)
            except OneByOne:
                alone += [(step.partition, step.messages) for step in steps]
                _undo(steps)
            except BaseException:
                _undo(steps)
                raise
            else:
                for step in steps:
                    step.settle()
                    committed.add(step.partition.log.partition)
        if alone:
            self._in_flush_thread(_alone, alone, committed).result()
        return committed

    def _receipts(self, work: Work) -> dict[Log, Mapping[int, int]]:
        asked = {
            partition.log: offsets
            for partition, messages in work
            if (offsets := arrivals.unstamped(messages))
        }
        if not asked:
            return {}
        # A record that was there before a message counts before it arrives: by our clock, too.
        self._in_flush_thread(self._refresh_keys).result()
        return dict(self._ledger.receipts_of(asked, self._now()))

    def _begin(
        self,
        work: Work,
        receipts: Mapping[Log, Mapping[int, int]],
        steps: list[Step],
        alone: Work,
        locks: ExitStack,
    ) -> None:
        self._refresh_keys()
        for partition, messages in work:
            # Locked in this thread: whatever else in it waits for a lock waits for the store alone.
            locks.enter_context(partition.lock)
            step = partition.begin(messages, receipts.get(partition.log, {}))
            if step is None:
                alone.append((partition, messages))
            else:
                steps.append(step)


def _undo(steps: Sequence[Step]) -> None:
    for step in steps:
        step.undo()


def _alone(work: Work, committed: set[int]) -> None:
    for partition, messages in work:
        if partition.process(messages):
            committed.add(partition.log.partition)
