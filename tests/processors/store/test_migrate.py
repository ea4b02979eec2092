"""Migrations are applied once, in order, and never change afterwards."""

import dataclasses
from pathlib import Path

import pytest
from tests.processors.store.making import NOW

from sealtrail.errors import ConfigurationError
from sealtrail_processor.store import migrate
from sealtrail_processor.store.client import ClickHouseStore
from sealtrail_processor.store.migrate import Applied, Layout, Migration, pending
from sealtrail_processor.store.port import StoreRefused

ONE = Migration(1, "one", "CREATE TABLE ${database}.a (x UInt8) ENGINE = Memory;\n")
TWO = Migration(2, "two", "-- why\nSELECT 1; -- a remark\n\nSELECT 2;\n-- the end\n")


def done(*migrations: Migration) -> list[Applied]:
    return [Applied(m.version, m.name, m.checksum, NOW) for m in migrations]


def test_only_what_is_missing_is_pending() -> None:
    assert pending([ONE, TWO], []) == [ONE, TWO]
    assert pending([ONE, TWO], done(ONE)) == [TWO]
    assert pending([ONE, TWO], done(ONE, TWO)) == []


def test_a_changed_file_that_was_applied_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="0001_one was changed"):
        pending([dataclasses.replace(ONE, text="SELECT 3;\n")], done(ONE))


def test_a_store_that_is_newer_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="0002_two"):
        pending([ONE], done(ONE, TWO))


def test_statements_are_split_at_line_ends_and_filled_in() -> None:
    assert ONE.statements(Layout(database="other")) == [
        "CREATE TABLE other.a (x UInt8) ENGINE = Memory"
    ]
    assert TWO.statements(Layout()) == ["-- why\nSELECT 1", "SELECT 2"]
    with pytest.raises(ConfigurationError, match="placeholder"):
        Migration(1, "x", "SELECT '${nonsense}';\n").statements(Layout())


@pytest.mark.parametrize(
    "change",
    [{"database": "a;b"}, {"views": "`x"}, {"storage_policy": "'"}, {"cold_after_days": 0}],
)
def test_names_that_are_none_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Layout(**change)  # type: ignore[arg-type] # wrong on purpose


def test_files_must_be_numbered_without_holes(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("SELECT 1;\n")
    (tmp_path / "0003_b.sql").write_text("SELECT 1;\n")
    with pytest.raises(ConfigurationError, match="numbered"):
        migrate.shipped(tmp_path)
    (tmp_path / "notes.sql").write_text("")
    with pytest.raises(ConfigurationError, match=r"notes\.sql"):
        migrate.shipped(tmp_path)


def test_migrating_again_does_nothing(store: ClickHouseStore) -> None:
    shipped = migrate.shipped()
    assert migrate.migrate(store, Layout(), NOW) == []
    assert [(a.version, a.name, a.checksum) for a in migrate.applied(store, Layout())] == [
        (m.version, m.name, m.checksum) for m in shipped
    ]


def test_a_migration_that_breaks_off_runs_again(store: ClickHouseStore) -> None:
    shipped = migrate.shipped()
    number = len(shipped) + 1
    good = "CREATE TABLE IF NOT EXISTS ${database}.half_way (x UInt8) ENGINE = Memory;\n"
    broken = Migration(number, "half_way", good + "SELECT nonsense;\n")
    with pytest.raises(StoreRefused):
        migrate.migrate(store, Layout(), NOW, [*shipped, broken])
    assert len(migrate.applied(store, Layout())) == len(shipped)
    # What ran may run again: every shipped statement says IF NOT EXISTS or OR REPLACE, or sets what
    # may be set twice.
    for migration in shipped:
        for statement in migration.statements(Layout()):
            store.command(statement)
            text = "\n".join(s for s in statement.splitlines() if not s.startswith("--"))
            again = ("IF NOT EXISTS", "OR REPLACE", "MODIFY SETTING", "MODIFY COLUMN", "MODIFY TTL")
            assert any(words in text for words in again)
    store.command("DROP TABLE sealtrail.half_way")


def test_every_table_keeps_what_was_acknowledged(store: ClickHouseStore) -> None:
    rows = store.query(
        "SELECT name, engine_full FROM system.tables WHERE database = 'sealtrail'"
        " AND engine LIKE '%MergeTree' AND name NOT LIKE '.inner%'"
    )
    assert len(rows) > 10
    for name, engine in rows:
        assert "fsync_after_insert = 1" in engine, name
        assert "non_replicated_deduplication_window = 0" not in engine, name
        assert "non_replicated_deduplication_window = " in engine, name
