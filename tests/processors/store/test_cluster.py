"""The same migrations as replicated tables.

No cluster runs here: the engine parses every statement, and what must be in them is looked for.
"""

import re

import pytest

from sealtrail.errors import ConfigurationError
from sealtrail_processor.store import cluster, migrate
from sealtrail_processor.store.client import ClickHouseStore

LAYOUT = migrate.Layout(cluster="trail")


def statements() -> list[str]:
    return [text for migration in migrate.shipped() for text in migration.statements(LAYOUT)]


def test_every_statement_runs_on_the_cluster_and_every_table_is_replicated():
    tables = {}
    for text in statements():
        assert re.match(r"[A-Z ]+ [\w.]+ ON CLUSTER trail\b", text), text[:80]
        found = re.match(r"CREATE TABLE IF NOT EXISTS sealtrail\.(\w+)", text)
        if found:
            tables[found[1]] = text
    assert {"events", "batches", "payloads", "commits", "link_verdicts"} <= set(tables)
    for name, text in tables.items():
        engine = re.search(r"ENGINE = (\w+)(\('([^']+)', '(\{replica\})')?", text)
        if engine[1] == "Null":
            continue
        assert engine[1].startswith("Replicated"), name
        shard = "all" if name in cluster.EVERYWHERE else "{shard}"
        assert engine[3] == f"/clickhouse/tables/{shard}/sealtrail/{name}"
        assert "non_replicated" not in text
        assert "replicated_deduplication_window" in text


def test_one_server_gets_the_files_as_they_are():
    for migration in migrate.shipped():
        assert "ON CLUSTER" not in "".join(migration.statements(migrate.Layout()))


def test_the_engine_parses_all_of_it(store: ClickHouseStore):
    objects = [("sealtrail", "events"), ("sealtrail", "key_records"), ("provenance_local", "links")]
    reading = list(cluster.reading("trail", "sealtrail", "provenance", objects))
    for text in [*statements(), *reading]:
        rows = store.query("SELECT formatQuerySingleLine({q:String})", {"q": text})
        assert "ON CLUSTER trail" in rows[0][0]


def test_reading_goes_over_all_shards_and_writing_never_does():
    objects = [("sealtrail", "events"), ("sealtrail", "key_records"), ("provenance_local", "links")]
    made = list(cluster.reading("trail", "sealtrail", "provenance", objects))
    assert made[0] == "CREATE DATABASE IF NOT EXISTS sealtrail_all ON CLUSTER trail"
    assert "provenance.links ON CLUSTER trail" in made[2]
    assert "Distributed(trail, provenance_local, links)" in made[2]
    assert "Distributed(trail, sealtrail, events)" in made[3]
    # Copied to every server: reading all shards would show each row once a shard.
    assert "VIEW sealtrail_all.key_records" in made[4]
    assert not [text for text in statements() if "Distributed" in text]


@pytest.mark.parametrize("name", ["a b", "x;y", "", "1a"])
def test_a_strange_name_of_a_cluster_is_refused(name: str):
    with pytest.raises(ConfigurationError, match="no name for a cluster"):
        cluster.checked(name)


def test_a_statement_that_is_not_known_is_refused():
    with pytest.raises(ConfigurationError, match="cannot run on a cluster"):
        cluster.replicated("OPTIMIZE TABLE sealtrail.events FINAL", "trail")
