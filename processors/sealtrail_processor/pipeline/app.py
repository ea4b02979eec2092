"""The Faust application: the only module that imports Faust.

What was measured to lose nothing (docs/worker.md, "Faust"):
- `noack()`, one agent with concurrency 1 that hands messages to lanes by partition; each lane
  acknowledges in the order of the log and only after the commit in the store; no exception leaves
  the agent's loop;
- raw serializers: Faust acknowledges what it cannot decode;
- reading begins at the store's cursor, whatever the group's own offset says: Faust seeks to the
  group's commit after each rebalance, so that very call is overridden;
- messages that were fetched before a rebalance are dropped, and not acknowledged: they will be read
  again;
- nothing is committed to the group while this member joins it;
- the Cython build: the pure Python iterator acknowledges messages that it skips.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import faust
import faust._cython.streams
import faust.transport._cython.conductor
from faust.transport.drivers import aiokafka as driver

from sealtrail import connections
from sealtrail.errors import ConfigurationError, SealtrailError
from sealtrail.identity import WORKER
from sealtrail_processor.judging.model import RawMessage
from sealtrail_processor.judging.ports import LogChanged, SkippedMessages
from sealtrail_processor.kafka import consuming, header_names
from sealtrail_processor.pipeline.lane import Lane
from sealtrail_processor.pipeline.worker import EXIT_FAILED

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    from sealtrail_processor.pipeline.worker import Worker
    from sealtrail_processor.settings import WorkerSettings

log = logging.getLogger(__name__)

# SIGTERM: what is under way may end for so long, then the process leaves; nothing is lost by it.
GRACE_S = 7.0
BACKOFF_S, BACKOFF_MAX_S = 0.1, 5.0
# Of the time that Faust waits for an assignment, for we must be done or gone before.
PATIENCE = 0.7


def build_app(settings: WorkerSettings, worker: Worker) -> faust.App:
    """The application around a worker.

    Args:
        settings: addresses and names.
        worker: does everything but consuming.
    """
    datadir = settings.state_dir / "worker" / settings.worker_id
    datadir.mkdir(parents=True, exist_ok=True)
    tls = connections.kafka_context(settings, WORKER)
    app = _App(
        settings.group,
        broker=[f"kafka://{server.strip()}" for server in settings.kafka_bootstrap.split(",")],
        broker_credentials=_credentials(settings, tls),
        broker_client_id=settings.worker_id,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 4,
        # Feeders that pace themselves by this group's offset wait for it (SEALTRAIL_PACE_BYTES).
        broker_commit_interval=0.2,
        broker_max_poll_interval=600.0,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=5_000,
        # Of each partition; held beside the flushes.
        consumer_max_fetch_size=2 * 2**20,
        processing_guarantee="at_least_once",
        key_serializer="raw",
        value_serializer="raw",
        # Prefetched messages are held in memory beside those of the flush under way.
        stream_buffer_maxsize=16,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        web_tables_enabled=False,
        datadir=str(datadir),
        worker_redirect_stdouts=False,
    )
    app.sealtrail = worker
    app.transport = _transport(app, settings, worker)
    topic = app.topic(
        settings.topic,
        key_serializer="raw",
        value_serializer="raw",
        key_type=bytes,
        value_type=bytes,
        allow_empty=True,
    )

    async def judge(stream: Any) -> None:
        """Take messages in flushes and acknowledge them once they are committed."""
        await _consume(app, settings, worker, stream)

    app.agent(topic, concurrency=1, name="judge")(judge)

    watched = connections.Watched(connections.librdkafka(settings, WORKER))

    async def beat() -> None:
        """Show that the loop turns; take new certificates in for the connections to come."""
        while not app.should_stop:
            worker.status.loop_beat = time.monotonic()
            if tls is not None and watched.changed():
                _reload(tls, settings)
            await asyncio.sleep(1.0)

    async def taken_away(*args: Any, **_kwargs: Any) -> None:
        _, revoked = args  # the application, and what was taken
        worker.revoke(tp.partition for tp in revoked)

    app.task(beat)
    app.on_partitions_revoked.connect(taken_away)
    return app


def _credentials(settings: WorkerSettings, tls: ssl.SSLContext | None) -> Any:
    if tls is None:
        return None
    if settings.kafka_security == "SSL":
        return faust.SSLCredentials(tls)
    return faust.SASLCredentials(
        username=connections.username(settings, WORKER),
        password=connections.password(settings, WORKER),
        ssl_context=tls,
        mechanism=settings.kafka_sasl,
    )


def _reload(tls: ssl.SSLContext, settings: WorkerSettings) -> None:
    try:
        connections.load_files(tls, settings, WORKER)
    except ConfigurationError as error:
        log.warning("%s; going on with the certificates before", error.message)
    else:
        log.info("new certificates are in use for connections from now on")


async def _consume(app: faust.App, settings: WorkerSettings, worker: Worker, stream: Any) -> None:
    lanes = [Lane(settings) for _ in range(settings.flush_lanes)]
    tasks = [asyncio.ensure_future(_drain(app, worker, stream, lane)) for lane in lanes]
    try:
        async for event in stream.noack().events():
            # All messages of a partition go through one lane, in order.
            await lanes[event.message.partition % len(lanes)].put(event)
    finally:
        for task in tasks:
            task.cancel()


async def _drain(app: faust.App, worker: Worker, stream: Any, lane: Lane) -> None:
    try:
        await _commit(app, worker, stream, lane)
    except Exception:
        # Nobody waits for this task: without it the partitions of a lane would stand still.
        log.exception("a lane failed")
        worker.leave(EXIT_FAILED)


async def _commit(app: faust.App, worker: Worker, stream: Any, lane: Lane) -> None:
    while True:
        events = await lane.take()
        generation = app.consumer_generation_id
        commit = partial(_until_committed, app, worker, generation)
        if not await consuming.settle(events, generation, _raw, commit, stream.ack):
            return


async def _until_committed(
    app: faust.App, worker: Worker, generation: int, groups: Mapping[int, Sequence[RawMessage]]
) -> set[int] | None:
    """Process messages until they are committed; None when the application stops before.

    Those of partitions that were taken away are dropped; the others' are committed.
    """
    pause = BACKOFF_S
    while not app.should_stop:
        try:
            committed = await asyncio.wrap_future(worker.in_lane(groups, generation))
        except (LogChanged, SkippedMessages) as error:
            log.error("%s; %s", error.message, error.hint)  # noqa: TRY400 - a known state, no bug
            worker.leave(EXIT_FAILED)
        except SealtrailError as error:
            worker.status.waiting = error.message
            worker.metrics.failures.inc()
            log.warning("partitions %s wait: %s", sorted(groups), error.message)
        except asyncio.CancelledError:
            raise
        except Exception:
            # A fault of ours: going on would skip messages, trying again would hide it.
            log.exception("partitions %s: the worker failed", sorted(groups))
            worker.leave(EXIT_FAILED)
        else:
            worker.status.waiting = ""
            return committed
        await asyncio.sleep(pause)
        pause = min(pause * 2, BACKOFF_MAX_S)
    return None


def _raw(message: Any) -> RawMessage:
    headers = message.headers
    pairs = headers.items() if isinstance(headers, dict) else headers or ()
    # Faust gives seconds as a float: Kafka's milliseconds come back by rounding.
    milliseconds = 0 if message.timestamp is None else round(message.timestamp * 1000)
    return RawMessage(
        message.offset,
        message.key,
        message.value,
        tuple((name, value or b"") for name, value in pairs),
        milliseconds * 1000,
        message.timestamp_type == 1,
    )


class _Thread(driver.AIOKafkaConsumerThread):
    """Faust's own, but silent while this member joins a group.

    On one connection a commit that follows JoinGroup is judged behind it, and by then it is of the
    generation before: ILLEGAL_GENERATION, on which aiokafka joins again. That stops all others, so
    that their commits come too late as well, and so on: partitions stood for 20 to 80 s.
    """

    _joining = False

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


def _transport(app: faust.App, settings: WorkerSettings, worker: Worker) -> Any:
    class Consumer(driver.Consumer):
        """Begins where the store's commits end, and hands nothing over before it was told so.

        Faust's own flows on while a worker that had no partitions gets some, and takes up again
        when a rebalance begins while it still seeks for the one before: messages from before the
        seek would come, be dropped by partitions that are not open yet, and those behind them not.
        """

        logger = logging.getLogger("faust.consumer")
        # Between what was taken away and what is assigned next.
        _rebalancing = True
        # The generation in which it was told where to read.
        _sought = -1

        def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
            return _Thread(self, loop=self.loop, beacon=self.beacon)

        async def on_partitions_revoked(self, revoked: Any) -> None:
            self._rebalancing = True
            self.stop_flow()
            await super().on_partitions_revoked(revoked)

        async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
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


def _give_up(worker: Worker) -> None:
    log.error("partitions could not be taken over in time: leaving, to be started anew")
    worker.leave(EXIT_FAILED)


class _App(faust.App):
    """Ends the process when Faust fails: it would go on without consuming."""

    logger = logging.getLogger("faust.app")
    sealtrail: Worker

    async def crash(self, reason: BaseException) -> None:
        """Leave, unless the failure is that of stopping."""
        if self.sealtrail.status.stopping or self.should_stop:
            await super().crash(reason)
            return
        log.error("faust failed: %r", reason, exc_info=reason)
        self.sealtrail.leave(EXIT_FAILED)


class _Process(faust.Worker):
    """Faust's worker with a bound on how long stopping takes."""

    sealtrail: Worker

    def _on_sigterm(self) -> None:
        self._bound()
        super()._on_sigterm()

    def _on_sigint(self) -> None:
        self._bound()
        super()._on_sigterm()

    def _bound(self) -> None:
        self.sealtrail.status.stopping = True
        timer = threading.Timer(GRACE_S, self.sealtrail.leave, (0,))
        timer.daemon = True
        timer.start()


def run(app: faust.App, worker: Worker, logging_config: Mapping[str, Any], level: str) -> None:
    """Run until SIGTERM or SIGINT; returns once stopped.

    Raises:
        ConfigurationError: Faust's Cython build is not loaded.
        SystemExit: the worker failed.
    """
    if vars(faust.streams)["_CStreamIterator"] is None:
        raise ConfigurationError(
            "Faust runs without its Cython build, which loses messages",
            hint="install the wheel of faust-streaming for this Python",
        )
    header_names.install()
    process = _Process(
        app, loglevel=level, logging_config=dict(logging_config), quiet=True, redirect_stdouts=False
    )
    process.sealtrail = worker
    worker.start()
    try:
        _served(process)
    finally:
        worker.stop()


def _served(process: faust.Worker) -> None:
    try:
        process.execute_from_commandline()
    except SystemExit as ended:
        if ended.code:
            # Faust makes a status of it, and keeps to itself what it was.
            why = ended.__context__
            log.exception("faust failed: %r", why, exc_info=why)
        # Its 1 would read as "ran, and found something".
        raise SystemExit(EXIT_FAILED if ended.code else 0) from None
