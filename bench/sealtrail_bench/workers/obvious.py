"""The obvious design: Faust, one Ed25519 signature a message, rows inserted as they are decoded.

A message is a signature and the Avro bytes of one event. The agent takes what has come within
0.2 s, verifies and decodes each message, and inserts the rows with clickhouse-connect. No batches,
no Merkle tree, no chains, no links: what somebody writes first who wants signed events in
ClickHouse.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import clickhouse_connect
import faust
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealtrail import avro, connections
from sealtrail.settings import load
from sealtrail_processor.reporting import logs
from sealtrail_processor.settings import WorkerSettings
from sealtrail_processor.store.client import INSERT_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLE = "bench_obvious"
COLUMNS = (
    "event_id",
    "occurred_at",
    "event_type",
    "activity",
    "run_id",
    "actor_id",
    "actor_kind",
    "inputs",
    "outputs",
    "code_repository",
    "code_revision",
    "trace_id",
    "span_id",
    "policy",
    "attributes",
    "parents",
    "salt",
    "signature",
    "partition",
    "offset",
)
CREATE = """
CREATE TABLE IF NOT EXISTS sealtrail.bench_obvious
(
    event_id FixedString(16), occurred_at DateTime64(6, 'UTC'), event_type LowCardinality(String),
    activity LowCardinality(String), run_id Nullable(FixedString(16)), actor_id String,
    actor_kind LowCardinality(String), inputs Array(String), outputs Array(String),
    code_repository LowCardinality(Nullable(String)), code_revision Nullable(String),
    trace_id Nullable(FixedString(16)), span_id Nullable(FixedString(8)), policy Nullable(String),
    attributes Map(String, String), parents Array(FixedString(16)), salt FixedString(16),
    signature FixedString(64), partition UInt16, offset UInt64
)
ENGINE = MergeTree ORDER BY (occurred_at, event_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
"""


def row(value: bytes, partition: int, offset: int, key: Ed25519PublicKey) -> tuple[Any, ...]:
    """Verify and decode one message."""
    signature, data = value[:64], value[64:]
    key.verify(signature, data)
    event = avro.codec("ProvenanceEvent").decode_any(data)
    code = event["code"] or {"repository": None, "revision": None}
    return (
        event["salt"],
        event["occurred_at"],
        event["event_type"],
        event["activity"],
        event["run_id"],
        event["actor"]["id"],
        event["actor"]["kind"],
        [f"{e['namespace']}/{e['name']}@{e['version']}" for e in event["inputs"]],
        [f"{e['namespace']}/{e['name']}@{e['version']}" for e in event["outputs"]],
        code["repository"],
        code["revision"],
        event["trace_id"],
        event["span_id"],
        event["policy"],
        event["attributes"],
        [parent["event_id"] for parent in event["parents"]],
        event["salt"],
        signature,
        partition,
        offset,
    )


def build(settings: WorkerSettings, key: Ed25519PublicKey) -> faust.App:
    """The application."""
    store = clickhouse_connect.get_client(
        **connections.store_address(settings.store_url),
        username=settings.store_user,
        password=settings.store_password.get_secret_value(),
        database=settings.store_database,
        autogenerate_session_id=False,
        compress=False,
    )
    # Asked once: left to itself the driver asks for them at each insert.
    found = store.query(f"SELECT name, type FROM system.columns WHERE table = '{TABLE}'")  # noqa: S608 - our own text
    known = {str(name): str(kind) for name, kind in found.result_rows}
    types = [known[name] for name in COLUMNS]
    datadir = settings.state_dir / "obvious"
    datadir.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        settings.group,
        broker=[f"kafka://{server}" for server in settings.kafka_bootstrap.split(",")],
        broker_commit_interval=0.2,
        consumer_auto_offset_reset="earliest",
        # Its topic may be made only when the first message is sent.
        consumer_metadata_max_age_ms=2_000,
        key_serializer="raw",
        value_serializer="raw",
        stream_buffer_maxsize=4096,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=str(datadir),
        worker_redirect_stdouts=False,
    )
    topic = app.topic(settings.topic, key_type=bytes, value_type=bytes, allow_empty=True)

    async def collect(stream: Any) -> None:
        async for events in stream.noack().noack_take(1000, within=0.2):
            _insert(store, types, events, key)
            for event in events:
                await stream.ack(event)

    app.agent(topic, concurrency=1, name="collect")(collect)
    return app


def _insert(store: Any, types: Sequence[str], events: Sequence[Any], key: Ed25519PublicKey) -> None:
    messages = [event.message for event in events]
    rows = [row(m.value, m.partition, m.offset, key) for m in messages]
    places = [(m.partition, m.offset) for m in messages]
    token = f"{TABLE}/{places[0]}/{places[-1]}/{len(places)}"
    store.insert(
        TABLE,
        rows,
        column_names=COLUMNS,
        column_type_names=types,
        settings=INSERT_SETTINGS | {"insert_deduplication_token": token},
    )


def main() -> None:
    """Run; the public key comes as hex."""
    settings = load(WorkerSettings)
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(os.environ["BENCH_PUBLIC_KEY"]))
    app = build(settings, key)
    worker = faust.Worker(
        app,
        loglevel=settings.log_level,
        logging_config=logs.config(settings.log_format, settings.log_level),
        quiet=True,
        redirect_stdouts=False,
    )
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
