"""A store with the tables of the pipeline, a sink that fills it, and readers of the audit room."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from tests.auditors import making
from tests.conftest import Stack, running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sealtrail_processor.judging.model import Flush

from sealtrail.settings import load
from sealtrail_audit.reader import ClickHouseReader, connect
from sealtrail_audit.settings import AuditSettings
from sealtrail_audit.store.load import Loader
from sealtrail_audit.store.run import Report, StoreAudit
from sealtrail_audit.trust import load_trust
from sealtrail_processor.store.client import ClickHouseStore
from sealtrail_processor.store.migrate import Layout, migrate
from sealtrail_processor.store.sink import ClickHouseSink

TABLES = [
    *("events", "edges_by_parent", "edges_by_child", "entity_events", "batches", "payloads"),
    *("dispositions", "quarantine", "quarantine_acts", "findings", "commits", "receipts"),
    *("heartbeats", "link_verdicts", "key_records", "commit_ends"),
]


@dataclass
class Room:
    """The store, who writes to it, and who reads.

    A world is written once and copied aside: a test that tampers gets the touched tables back.
    """

    store: ClickHouseStore
    sink: ClickHouseSink
    reader: ClickHouseReader
    settings: AuditSettings
    number: int = 0
    kept: str = ""
    touched: set[str] = field(default_factory=set)

    def empty(self, known_from: int = making.NOW - making.SECOND) -> None:
        """Forget everything but the key records, which arrived then."""
        self.kept = ""
        for table in TABLES:
            self.store.command(f"TRUNCATE TABLE sealtrail.{table}")
        rows = [
            (f"keys-{self.number}", "provenance.keys", 0, n, known_from, key, value)
            for n, (key, value) in enumerate(making.key_records())
        ]
        columns = (
            "log_id",
            "topic",
            "partition",
            "offset",
            "arrival",
            "record_key",
            "record_value",
        )
        self.store.insert("key_records", columns, rows, f"keys-{self.number}")
        self.number += 1

    def write(self, flushes: list[Flush]) -> None:
        """Store flushes as the worker does."""
        for flush in flushes:
            self.sink.write(flush)

    def keep(self, name: str) -> None:
        """Copy all tables aside."""
        for table in TABLES:
            self.store.command(f"DROP TABLE IF EXISTS sealtrail.kept_{table}")
            self.store.command(
                f"CREATE TABLE sealtrail.kept_{table} ENGINE = MergeTree ORDER BY tuple()"
                f" AS SELECT * FROM sealtrail.{table}"
            )
        self.kept = name
        self.touched.clear()

    def bring_back(self) -> None:
        """Undo what was tampered with."""
        if "commits" in self.touched:
            # A view behind commits fills it.
            self.store.command("TRUNCATE TABLE sealtrail.commit_ends")
            self.touched.discard("commit_ends")
        for table in self.touched:
            self.store.command(f"TRUNCATE TABLE sealtrail.{table}")
            self.store.command(
                f"INSERT INTO sealtrail.{table} SELECT * FROM sealtrail.kept_{table}"
                " SETTINGS insert_deduplicate = 0"
            )
        self.touched.clear()

    def change(self, sql: str) -> None:
        """Tamper, and wait until it is done."""
        words = sql.split()
        self.touched.add(words[2])
        end = "mutations_sync = 2" if words[0] == "ALTER" else "insert_deduplicate = 0"
        self.store.command(f"{sql} SETTINGS {end}")

    def audit(self, *, chunk_events: int = 20_000, settled: int = making.NOW * 2) -> Report:
        """Audit the store as `sealtrail audit store` does."""
        trust = load_trust(self.reader, making.ROOT)
        audit = StoreAudit(
            Loader(self.reader), trust, "test", chunk_events=chunk_events, settled=settled
        )
        return audit.run(lambda total: lambda steps: None)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A stack of this folder's own: its tests empty the tables."""
    with running_stack() as running:
        yield running


@contextmanager
def opened(stack: Stack) -> Iterator[Room]:
    """A stack's store with its tables, as a room."""
    settings = load(AuditSettings, stack.env)
    store = ClickHouseStore(
        settings.store_url, settings.store_user, settings.store_password.get_secret_value()
    )
    migrate(store, Layout(), making.NOW)
    reader = connect(settings)
    try:
        yield Room(store, ClickHouseSink(store, random.Random(7).getrandbits), reader, settings)
    finally:
        reader.close()
        store.close()


@pytest.fixture(scope="session")
def room(stack: Stack) -> Iterator[Room]:
    """One store for all tests of the room; each test empties it."""
    with opened(stack) as room:
        yield room


@pytest.fixture
def environment(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whoever calls the commands: the stack's variables, and the world's trust root."""
    for name, value in stack.env.items():
        monkeypatch.setenv(name, value)
    root = tmp_path / "root.json"
    root.write_text(making.ROOT.to_json())
    monkeypatch.setenv("SEALTRAIL_TRUST_ROOT", str(root))
    monkeypatch.setenv("SEALTRAIL_ENVIRONMENT", "test")
