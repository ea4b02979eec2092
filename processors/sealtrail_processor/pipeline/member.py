"""The worker as a member of its group: Faust's consumer, with what it would lose or hang on mended.

- Reading begins at the store's cursor, whatever the group's own offset says: Faust seeks to the
  group's commit after each rebalance, so that very call is overridden.
- Nothing is committed to the group while this member joins it.
- A question for messages is answered soon: a partition does not wait for those that have none.
- What the group's coordinator refused is taken: aiokafka tries no more before.
- A member that is given a generation again leaves: what it holds would pass for what is to come.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import faust
from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver

from sealtrail.errors import SealtrailError
from sealtrail_processor.judging.ports import LogChanged
from sealtrail_processor.pipeline.worker import EXIT_FAILED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sealtrail_processor.pipeline.worker import Worker
    from sealtrail_processor.settings import WorkerSettings

log = logging.getLogger(__name__)

BACKOFF_S, BACKOFF_MAX_S = 0.1, 5.0
# Of the time that Faust waits for an assignment, for we must be done or gone before.
PATIENCE = 0.7
# How long a broker may hold a question for messages. Faust has 1,500: aiokafka asks a broker one
# thing at a time, so that a partition whose messages were just taken waits until those that have
# none answer (and the embedded broker, once it holds a question, does not look again).
FETCH_WAIT_MS = 100
# How often refusals of the group's coordinator are looked for.
HEED_S = 1.0


class _Thread(driver.AIOKafkaConsumerThread):
    """Faust's own, but silent while this member joins a group.

    On one connection a commit that follows JoinGroup is judged behind it, and by then it is of the
    generation before: ILLEGAL_GENERATION, on which aiokafka joins again. That stops all others, so
    that their commits come too late as well, and so on: partitions stood for 20 to 80 s.
    """

    worker: Worker
    _joining = False

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - Faust has no setting for it
        return consumer

    async def on_partitions_revoked(self, revoked: Any) -> None:
        # What is handed over is committed in there, before JoinGroup is sent.
        await super().on_partitions_revoked(revoked)
        self._joining = True

    async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
        self._joining = False
        await super().on_partitions_assigned(assigned, generation_id)

    async def _commit(self, offsets: Mapping[Any, int]) -> bool:
        # Of what is still ours the position is committed once we were told where to read.
        return not self._joining and await super()._commit(offsets)

    @faust.Service.task
    async def _heed_coordinator(self) -> None:
        while not self.should_stop:
            await self.sleep(HEED_S)
            self.heed(self._ensure_consumer()._coordinator)  # noqa: SLF001 - aiokafka has no name for it

    def heed(self, coordinator: Any) -> None:
        """Take what the group's coordinator refused, so that the member tries again.

        aiokafka joins no group until somebody has taken it (`_push_error_to_user`). Its `getmany`
        does so, and Faust never calls that: a member stood without partitions for good after one
        answer to SyncGroup that aiokafka does not know, such as that of a coordinator that loads.
        """
        try:
            coordinator.check_errors()
        except KafkaError as error:
            log.warning("the group's coordinator refused: %s; trying again", error)
            self.worker.status.waiting = f"a place in the group: {error}"
            if coordinator._coordination_task.done():  # noqa: SLF001 - aiokafka has no name for it
                log.error("aiokafka's coordination has ended: leaving, to be started anew")  # noqa: TRY400 - the error is told above
                self.worker.leave(EXIT_FAILED)


def transport(app: faust.App, settings: WorkerSettings, worker: Worker) -> driver.Transport:
    """Faust's own, with a consumer that begins where the store's commits end."""

    class Consumer(driver.Consumer):
        """Begins where the store's commits end, and hands nothing over before it was told so.

        Faust's own flows on while a worker that had no partitions gets some, and takes up again
        when a rebalance begins while it still seeks for the one before: messages from before the
        seek would come, be dropped by partitions that are not open yet, and those behind them not.
        """

        logger = logging.getLogger("faust.consumer")
        # Between what was taken away and what is assigned next.
        _rebalancing = True
        # The generation that it was given last, and the one in which it was told where to read.
        _given = _sought = -1

        def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
            thread = _Thread(self, loop=self.loop, beacon=self.beacon)
            thread.worker = worker
            return thread

        async def on_partitions_revoked(self, revoked: Any) -> None:
            self._rebalancing = True
            self.stop_flow()
            await super().on_partitions_revoked(revoked)

        async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
            if generation_id <= self._given:
                _leave_group(worker, generation_id)
            self._given = generation_id
            self._rebalancing = False
            self.stop_flow()
            await super().on_partitions_assigned(assigned, generation_id)

        def resume_flow(self) -> None:
            if not self._rebalancing and self._sought == app.consumer_generation_id:
                super().resume_flow()

        async def seek_to_committed(self) -> Mapping[Any, int]:
            """Seek to, and return, the store's cursor of each assigned partition.

            Nothing while a rebalance is under way: it ends with an assignment, which asks again.
            """
            if self._rebalancing:
                return {}
            generation = app.consumer_generation_id
            assigned = self.assignment()
            numbers = [tp.partition for tp in assigned if tp.topic == settings.topic]
            cursors = await _assigned(app, worker, settings.topic, numbers, generation)
            offsets = {tp: cursors[tp.partition] for tp in assigned if tp.partition in cursors}
            await self.seek_wait(offsets)
            self._sought = generation
            # What was committed by one who did not live to acknowledge it: Faust acknowledges with
            # the next message alone, and feeders that pace themselves by the group would wait.
            committed = {tp: offset for tp, offset in offsets.items() if offset}
            if committed:
                await self._commit(committed)
            return offsets

    class Transport(driver.Transport):
        """Faust's own, with that consumer."""

    Transport.Consumer = Consumer
    return Transport(app.conf.broker_consumer, app)


async def _assigned(
    app: faust.App, worker: Worker, topic: str, numbers: Sequence[int], generation: int
) -> dict[int, int]:
    """Take over what was assigned in a generation; nothing once there is a later one."""
    pause = BACKOFF_S
    # Faust waits for so long, then goes on without having been told where to read: with partitions
    # that are not loaded, whose messages would be skipped.
    end = time.monotonic() + app.conf.broker_request_timeout * PATIENCE
    while not app.should_stop:
        if app.consumer_generation_id != generation:
            return {}
        try:
            found: dict[int, int] = await asyncio.wrap_future(
                worker.in_flush_thread(worker.assign, topic, numbers, generation)
            )
        except LogChanged as error:
            log.error("%s; %s", error.message, error.hint)  # noqa: TRY400 - a known state, no bug
            worker.leave(EXIT_FAILED)
        except SealtrailError as error:
            worker.status.waiting = error.message
            log.warning("assignment waits: %s", error.message)
            if time.monotonic() > end:
                _give_up(worker)
        except asyncio.CancelledError:
            # A store that does not answer at all: Faust has stopped waiting.
            if time.monotonic() > end and not app.should_stop:
                _give_up(worker)
            raise
        else:
            worker.status.waiting = ""
            return found
        await asyncio.sleep(pause)
        pause = min(pause * 2, BACKOFF_MAX_S)
    raise asyncio.CancelledError


def _leave_group(worker: Worker, generation: int) -> None:
    """A generation came again, or an earlier one.

    Kafka gives it to a member that joins again and wants what it wanted, and a group that began
    anew counts from 1. Partitions that were taken away open in a later one only, so that they would
    stand still until the watchdog comes.
    """
    log.error("generation %d of the group came again: leaving, to be started anew", generation)
    worker.leave(EXIT_FAILED)


def _give_up(worker: Worker) -> None:
    log.error("partitions could not be taken over in time: leaving, to be started anew")
    worker.leave(EXIT_FAILED)
