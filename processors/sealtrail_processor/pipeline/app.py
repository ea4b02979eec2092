"""The Faust application; this module and `member` are the only ones that import Faust.

What was measured to lose nothing (docs/worker.md, "Faust"):
- `noack()`, one agent with concurrency 1 that hands messages to lanes by partition; each lane
  acknowledges in the order of the log and only after the commit in the store; no exception leaves
  the agent's loop;
- raw serializers: Faust acknowledges what it cannot decode;
- reading begins at the store's cursor, whatever the group's own offset says (`member`);
- messages that were fetched before a rebalance are dropped, and not acknowledged: they will be read
  again;
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

from sealtrail import connections
from sealtrail.errors import ConfigurationError, SealtrailError
from sealtrail.identity import WORKER
from sealtrail_processor.judging.model import RawMessage
from sealtrail_processor.judging.ports import LogChanged, SkippedMessages
from sealtrail_processor.kafka import consuming, header_names
from sealtrail_processor.pipeline.lane import Lane
from sealtrail_processor.pipeline.member import BACKOFF_MAX_S, BACKOFF_S, transport
from sealtrail_processor.pipeline.worker import EXIT_FAILED

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    from sealtrail_processor.pipeline.worker import Worker
    from sealtrail_processor.settings import WorkerSettings

log = logging.getLogger(__name__)

# SIGTERM: what is under way may end for so long, then the process leaves; nothing is lost by it.
GRACE_S = 7.0


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
    app.transport = transport(app, settings, worker)
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
