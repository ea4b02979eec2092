"""Composition root of the worker: the real ports for a set of settings."""

from __future__ import annotations

import gc
import logging.config
import os
import secrets
import signal
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from sealtrail import allocator, connections
from sealtrail.errors import ConfigurationError, ContractError, UnavailableError
from sealtrail.identity import WORKER
from sealtrail.records import Directory, TrustRoot
from sealtrail.serving import ServerCertificate
from sealtrail.settings import load
from sealtrail_processor.judging.keys_reader import KeysReader
from sealtrail_processor.kafka.beside import KafkaSide
from sealtrail_processor.kafka.heads import HEADS_QUEUE, HEADS_TIMEOUT_S, KafkaHeads
from sealtrail_processor.kafka.keys_topic import KeysTopic
from sealtrail_processor.kafka.publisher import KafkaPublisher
from sealtrail_processor.pipeline.marks import Marks, WaitingStore, at_once
from sealtrail_processor.pipeline.steady_clock import SteadyClock
from sealtrail_processor.pipeline.worker import Outside, Worker
from sealtrail_processor.reporting import logs
from sealtrail_processor.reporting.health import HealthServer
from sealtrail_processor.settings import WorkerSettings
from sealtrail_processor.store import cluster
from sealtrail_processor.store.ledger import StoredKeys, StoreLedger
from sealtrail_processor.store.opening import layout, open_store, ready
from sealtrail_processor.store.shards import ShardedLedger, ShardedSink, ShardedStore
from sealtrail_processor.store.sink import ClickHouseSink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sealtrail_processor.store.port import Store

log = logging.getLogger(__name__)


def now_us() -> int:
    """The time, microseconds since 1970."""
    return time.time_ns() // 1000


def trust_root(path: Path | None) -> TrustRoot:
    """The pinned operator keys.

    Raises:
        ConfigurationError: there is no such file, or it is not one.
    """
    hint = "make one with: sealtrail keys init-root"
    if path is None:
        raise ConfigurationError("no trust root is set", hint=hint)
    try:
        return TrustRoot.from_json(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"trust root cannot be read: {error}", hint=hint) from None


def stored_directory(settings: WorkerSettings, store: Store) -> Directory:
    """Keys and schemas as the store knows them.

    Raises:
        ConfigurationError: the trust root cannot be read.
        StoreUnavailable: the store cannot be asked.
    """
    directory = Directory(trust_root(settings.trust_root))
    for record in StoredKeys(store).load():
        # What does not count the worker said when it came.
        with suppress(ContractError):
            directory.add(record.value, record.arrival)
    return directory


def kafka_config(settings: WorkerSettings, identity: str = WORKER) -> dict[str, str]:
    """What librdkafka needs to reach the brokers under a name."""
    return {
        **connections.librdkafka(settings, identity),
        "client.id": settings.worker_id,
        "reconnect.backoff.ms": "1000",
    }


def connect(settings: WorkerSettings) -> Outside:
    """Wire a worker; nothing is asked of any server yet, but its mark is made.

    Args:
        settings: addresses and names.

    Raises:
        ConfigurationError: the trust root cannot be read, or the state folder not written.
    """
    shards = [open_store(settings, url) for url in settings.store_shards or (settings.store_url,)]
    store: Store = shards[0]
    if settings.store_cluster:
        reading = open_store(settings, database=settings.store_database + cluster.ALL)
        store = ShardedStore(shards, reading)
    config = kafka_config(settings)
    broker = KafkaSide(config, settings.group)
    clock = SteadyClock(time.time_ns, time.monotonic_ns)
    keys = KeysReader(
        Directory(trust_root(settings.trust_root)),
        KeysTopic(config, settings.keys_topic),
        StoredKeys(store),
        lambda: broker.log_id(settings.keys_topic),
        clock,
    )
    marks = Marks(settings.state_dir / "worker" / "marks", settings.worker_id)
    # What the flush thread asks while it has messages in hand.
    marked = [WaitingStore(shard, marks.own) for shard in shards]
    together = at_once(marks.own)
    replicated = bool(settings.store_cluster)
    return Outside(
        store,
        ShardedLedger([StoreLedger(shard, replicated=replicated) for shard in marked]),
        ShardedSink([ClickHouseSink(s, secrets.randbits, at_once=together) for s in marked]),
        broker,
        keys,
        KafkaPublisher(config),
        KafkaHeads(config, settings.heads_topic),
        KafkaPublisher(config, queue=HEADS_QUEUE, timeout_s=HEADS_TIMEOUT_S),
        marks,
        lambda: check_tables(settings, store),
        clock,
        lambda: KafkaSide(config, settings.group),
        clock.jump_us,
    )


def check_tables(settings: WorkerSettings, store: Store) -> None:
    """Hold the store's tables against this version.

    Raises:
        ConfigurationError: they are of another one.
        UnavailableError: the store cannot be asked.
    """
    if not ready(store, layout(settings)):
        raise ConfigurationError(
            "the tables of the store are not those of this version",
            hint="run: sealtrail store migrate",
        )


def preflight(settings: WorkerSettings, outside: Outside) -> None:
    """What no waiting would mend is said before anything starts.

    Raises:
        ConfigurationError: the store's tables are not of this version, or there is no topic.
    """
    try:
        outside.tables()
        # Before the group hands out partitions, so that whoever gets ours knows.
        outside.marks.collect(outside.ledger.record_death)
        if not outside.broker.partitions(settings.topic):
            # A consumer of a missing topic is assigned nothing and says nothing.
            raise ConfigurationError(
                f"topic {settings.topic} does not exist",
                hint="make it with: sealtrail topics apply",
            )
    except UnavailableError as error:
        log.warning("%s; going on, for it may come", error.message)


def tune() -> None:
    """How this process handles memory: a worker's is made of large buffers and of many tuples."""
    # The buffers of a flush go back when they are freed. By itself glibc raises its bound for
    # mapped blocks to what was freed last, up to 32 MB, and keeps what lies below in heaps of each
    # thread: 60 MB of a worker under load, which nobody used.
    allocator.tune(mmap_threshold=1 << 20, arenas=2)
    # A flush has a hundred thousand tuples of parents, which live until they are linked. By itself
    # Python looks for cycles in all of the process whenever these are a quarter more: a fifth of
    # what a worker computes. Young objects are looked at as ever (ADR 0141).
    gc.set_threshold(700, 10, 1000)


def run(change: Callable[[Outside], Outside] | None = None) -> None:
    """Run a worker with the settings of the environment until it is stopped.

    Args:
        change: puts other ports in place of the real ones; fault tests do.

    Raises:
        SealtrailError: it could not start.
        SystemExit: it ended.
    """
    settings = load(WorkerSettings)
    run_with(settings, change)


def _leave(*_: object) -> None:
    """Asked to stop before Faust listens: nothing is under way that could be lost."""
    os._exit(0)


def run_with(settings: WorkerSettings, change: Callable[[Outside], Outside] | None = None) -> None:
    """As `run`, with settings at hand."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    tune()
    config = logs.config(settings.log_format, settings.log_level)
    logging.config.dictConfig(config)
    outside = connect(settings)
    with closing(outside.marks):
        preflight(settings, outside)
        _serve(settings, outside if change is None else change(outside), config)


def _shown(settings: WorkerSettings) -> ServerCertificate | None:
    if settings.health_cert_file is None:
        return None
    return ServerCertificate(
        "the health endpoint",
        settings.health_cert_file,
        settings.health_key_file,
        "check SEALTRAIL_HEALTH_CERT_FILE and SEALTRAIL_HEALTH_KEY_FILE",
    )


def _serve(settings: WorkerSettings, outside: Outside, config: dict[str, Any]) -> None:
    # Faust is heavy: whoever only lists the quarantine need not wait for it.
    from sealtrail_processor.pipeline import app as faust_app

    certificate = _shown(settings)
    worker = Worker(settings, outside, os._exit)
    try:
        health = HealthServer(
            settings.health_host,
            settings.health_port,
            worker.metrics,
            worker.status,
            certificate,
        )
    except OSError as error:
        raise ConfigurationError(
            f"port {settings.health_port} of {settings.health_host} is taken: {error}",
            hint="set SEALTRAIL_HEALTH_PORT to another one, or 0 for any",
        ) from None
    scheme = "http" if certificate is None else "https"
    log.info("health at %s://%s:%d", scheme, settings.health_host, health.port)
    with closing(health):
        faust_app.run(faust_app.build_app(settings, worker), worker, config, settings.log_level)
