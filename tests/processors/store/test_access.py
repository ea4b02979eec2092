"""Every row of the access matrix, allowed and denied, tried by the engine itself.

What is not run: SQL that makes users (the engine in a library keeps none), so the statements are
only parsed by it and compared with the matrix; and passwords.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.processors.store import engine_user

from sealtrail import resources
from sealtrail.errors import ConfigurationError
from sealtrail_processor.store import access, migrate

NAMES = access.Names()
MATRIX = access.load()
DENIED = ("Code: 497", "Code: 164")
# Nobody but the operator may do any of it, and nobody at all what reaches outside.
FORBIDDEN = (
    "CREATE TABLE sealtrail.mine (x Int8) ENGINE = Memory",
    "DROP TABLE sealtrail.events",
    "TRUNCATE TABLE sealtrail.events",
    "ALTER TABLE sealtrail.events DELETE WHERE 1",
    "ALTER TABLE sealtrail.events MODIFY TTL toDateTime(arrival) + INTERVAL 1 DAY",
    "RENAME TABLE sealtrail.events TO sealtrail.gone",
    "SYSTEM FLUSH LOGS",
    "CREATE USER eve IDENTIFIED BY 'x'",
    "GRANT SELECT ON *.* TO default",
    "SELECT * FROM system.grants",
    "SELECT * FROM system.users",
    "BACKUP DATABASE sealtrail TO File('b')",
)
OUTSIDE = (
    "SELECT * FROM url('http://127.0.0.1:1/', CSV, 'x String')",
    "SELECT * FROM s3('http://127.0.0.1:1/bucket/x', CSV, 'x String')",
    "SELECT * FROM remote('127.0.0.1:1', system.one)",
)


class Server:
    """The engine over one folder, as whoever is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.use(MATRIX)

    def use(self, matrix: access.Matrix) -> None:
        (self.folder / "server.xml").write_text(access.as_xml(matrix, NAMES))

    def run(self, user: str, statements: Iterable[str]) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, engine_user.__file__, self.folder, user],
            input=json.dumps(list(statements)),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        answers: list[dict[str, Any]] = json.loads(done.stdout)
        return answers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """All tables and views of the migrations, with events of two tenants and all labels."""
    server = Server(tmp_path_factory.mktemp("access"))
    statements = ["CREATE DATABASE sealtrail", "CREATE DATABASE provenance"]
    for migration in migrate.shipped():
        # The engine here has one disk.
        texts = migration.statements(migrate.Layout(storage_policy="default"))
        statements += [re.sub(r"(?m)^.* TO VOLUME 'cold',?$", "", text) for text in texts]
    number = 0
    for tenant in ("default", "other"):
        for label in ("", "public", "internal", "confidential", "restricted", "Restricted"):
            number += 1
            attributes = f"map('sensitivity', '{label}')" if label else "map()"
            statements.append(
                "INSERT INTO sealtrail.ingest (tenant, seq, offset, log_id, topic, attributes)"
                f" VALUES ('{tenant}', {number}, {number}, 'log', 'topic', {attributes})"
            )
    statements.append(
        "INSERT INTO sealtrail.commits (log_id, topic, partition, first_offset, last_offset)"
        " VALUES ('log', 'topic', 0, 0, 100)"
    )
    for answer, statement in zip(
        server.run("sealtrail_admin", statements), statements, strict=True
    ):
        assert not answer["error"], f"{statement}: {answer['error']}"
    return server


def tables(server: Server) -> list[tuple[str, str, str]]:
    sql = (
        "SELECT database, name, engine FROM system.tables"
        " WHERE database IN ('sealtrail', 'provenance') ORDER BY ALL"
    )
    return [tuple(row) for row in server.run("sealtrail_admin", [sql])[0]["rows"]]


def allowed(listed: dict[str, Any], database: str, table: str) -> bool:
    key = {"sealtrail": "database", "provenance": "views"}[database]
    names = listed.get(key, [])
    return names == "*" or table in names


@pytest.mark.parametrize("user", MATRIX.users, ids=lambda user: user.name)
def test_every_table_is_selected_and_inserted_by_those_who_may(server: Server, user: access.User):
    raw = yaml.safe_load(resources.path("clickhouse", "access.yaml").read_text())
    role = raw["roles"][user.role]
    asked = []
    for database, table, engine in tables(server):
        # A view's rows come from tables; no rows are wanted, only the right.
        asked.append((f"SELECT * FROM {database}.{table} LIMIT 0", "select", database, table))
        if engine != "View" and "Materialized" not in engine:
            sql = f"INSERT INTO {database}.{table} SELECT * FROM {database}.{table} LIMIT 0"
            asked.append((sql, "insert", database, table))
    answers = server.run(user.name, [sql for sql, *_ in asked])
    assert len(answers) > 40
    for (sql, what, database, table), answer in zip(asked, answers, strict=True):
        may = allowed(role.get(what, {}), database, table)
        if role["purpose"].startswith("migrations"):
            may = True
        if may:
            assert not answer["error"], sql
        else:
            assert answer["error"].startswith(DENIED), f"{user.name}: {sql}: {answer}"


@pytest.mark.parametrize("user", MATRIX.users, ids=lambda user: user.name)
def test_nobody_does_what_no_row_lists(server: Server, user: access.User):
    statements = OUTSIDE if user.name == "sealtrail_admin" else (*FORBIDDEN, *OUTSIDE)
    for statement, answer in zip(statements, server.run(user.name, statements), strict=True):
        assert answer["error"].startswith(DENIED), f"{user.name}: {statement}: {answer}"


def seen(server: Server, user: str, table: str) -> set[tuple[str, str]]:
    sql = f"SELECT tenant, attributes['sensitivity'] FROM {table} ORDER BY ALL"
    answer = server.run(user, [sql])[0]
    assert not answer["error"]
    return {tuple(row) for row in answer["rows"]}


@pytest.mark.parametrize("table", ["sealtrail.events", "provenance.events"])
def test_an_analyst_sees_own_tenants_up_to_the_clearance(server: Server, table: str):
    assert seen(server, "analyst", table) == {
        ("default", ""),
        ("default", "public"),
        ("default", "internal"),
    }


def test_an_auditor_and_the_worker_see_everything(server: Server):
    labels = ("", "public", "internal", "confidential", "restricted", "Restricted")
    everything = {(tenant, label) for tenant in ("default", "other") for label in labels}
    assert seen(server, "auditor", "provenance.events") == everything
    assert seen(server, "sealtrail_writer", "sealtrail.events") == everything


def test_the_same_users_make_a_cluster_and_read_it(server: Server):
    # Of its databases (cluster.py); views stand for what reads other servers.
    statements = [
        "CREATE DATABASE sealtrail_all",
        "CREATE DATABASE provenance_local",
        "CREATE VIEW sealtrail_all.events AS SELECT * FROM sealtrail.events",
        "CREATE VIEW sealtrail_all.payloads AS SELECT * FROM sealtrail.payloads",
        "CREATE VIEW provenance_local.events AS SELECT * FROM sealtrail.committed_events",
    ]
    engine = "Distributed(nowhere, sealtrail, batches)"
    statements.append(f"CREATE TABLE sealtrail_all.batches AS sealtrail.batches ENGINE = {engine}")
    errors = [answer["error"] for answer in server.run("sealtrail_admin", statements)]
    # The last is allowed, and finds no cluster.
    assert errors[:-1] == [""] * (len(statements) - 1)
    assert errors[-1].startswith("Code: 701"), errors[-1]
    for table in ("sealtrail_all.events", "provenance_local.events"):
        assert seen(server, "analyst", table) == seen(server, "analyst", "provenance.events")
        assert seen(server, "auditor", table) == seen(server, "auditor", "provenance.events")
    assert seen(server, "sealtrail_writer", "sealtrail_all.events")
    for user, statement in (
        ("analyst", "SELECT * FROM sealtrail_all.payloads"),
        ("dashboard", "SELECT * FROM provenance_local.events"),
        ("sealtrail_writer", "INSERT INTO sealtrail_all.events SELECT * FROM sealtrail.events"),
    ):
        assert server.run(user, [statement])[0]["error"].startswith(DENIED), (user, statement)


def test_bounds_of_a_profile_hold(server: Server):
    answers = server.run(
        "analyst",
        [
            "SELECT 1 SETTINGS max_execution_time = 3600",
            "SELECT 1 SETTINGS max_memory_usage = 0",
            "SELECT 1 SETTINGS readonly = 0",
            "SELECT 1 SETTINGS max_concurrent_queries_for_user = 100",
            "SELECT 1 SETTINGS max_execution_time = 5",
            "SELECT groupArray(number) FROM numbers(300000000)",
            "SELECT number FROM numbers(20000000)",
        ],
    )
    errors = [answer["error"].split(".")[0] for answer in answers]
    assert errors[:4] == ["Code: 452", "Code: 452", "Code: 164", "Code: 452"]
    assert errors[4] == ""
    assert errors[5:] == ["Code: 241", "Code: 396"]


def test_a_query_that_never_ends_is_ended_and_a_quota_ends_too_many(server: Server):
    raw = yaml.safe_load(resources.path("clickhouse", "access.yaml").read_text())
    raw["profiles"]["person"]["max_execution_time"] = 1
    # The number of queries is the one limit that the engine in a library does not count.
    raw["quotas"]["person"] = {"read_rows": 1000}
    path = server.folder / "strict.yaml"
    path.write_text(yaml.safe_dump(raw))
    server.use(access.load(path))
    try:
        answers = server.run(
            "analyst",
            [
                "SELECT sum(sleepEachRow(0.5)) FROM numbers(6)",
                "SELECT sum(number) FROM numbers(2000)",
            ],
        )
    finally:
        server.use(MATRIX)
    errors = [answer["error"].split(".")[0] for answer in answers]
    assert errors == ["Code: 159", "Code: 201"]


def test_the_shipped_file_is_the_matrix():
    shipped = resources.path("clickhouse", "users.xml").read_text()
    assert shipped == access.as_xml(MATRIX, NAMES), "sealtrail store access --as xml > users.xml"


HASHES = {user.name: "ab" * 32 for user in MATRIX.users}


def test_the_engine_parses_every_statement_of_the_sql(server: Server):
    statements = access.as_sql(MATRIX, NAMES, HASHES)
    quoted = [statement.replace("\\", "\\\\").replace("'", "\\'") for statement in statements]
    answers = server.run(
        "sealtrail_admin", [f"SELECT formatQuerySingleLine('{text}')" for text in quoted]
    )
    assert [answer["error"] for answer in answers] == [""] * len(statements)
    kinds = {" ".join(answer["rows"][0][0].split()[:2]) for answer in answers}
    assert {"CREATE SETTINGS", "CREATE ROLE", "CREATE QUOTA", "CREATE ROW", "CREATE USER"} <= kinds


def test_sql_and_matrix_say_the_same():
    statements = access.as_sql(MATRIX, NAMES, HASHES)
    for role in MATRIX.roles.values():
        told = {s for s in statements if s.endswith(f" TO {role.sql_name}")}
        granted = {s.removeprefix("GRANT ").rpartition(" TO ")[0] for s in told if "GRANT" in s}
        assert granted == set(access.grants(MATRIX, role, NAMES))
    policies = [s for s in statements if s.startswith("CREATE ROW POLICY")]
    for table in MATRIX.tenant_tables:
        own = [s for s in policies if f"sealtrail.{table} AS PERMISSIVE" in s]
        assert len(own) == 2
        everybody = next(s for s in own if "USING 1 TO" in s)
        told = set(everybody.rpartition(" TO ")[2].split(", "))
        assert told == {r.sql_name for r in MATRIX.roles.values() if r.tenants == "all"}
    for label in ("public", "internal"):
        assert any(f"sealtrail_cleared_{label} " in s and "RESTRICTIVE" in s for s in policies)
    assert not [s for s in access.as_sql(MATRIX, NAMES, {}) if "CREATE USER" in s]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"users": [{"name": "x", "role": "nobody"}]}, "has no role"),
        ({"users": [{"name": "a b", "role": "auditor"}]}, "a name that is none"),
        ({"users": [{"name": "x", "role": "analyst"}]}, "tenants are for roles"),
        ({"users": [{"name": "x", "role": "analyst", "tenants": ["a'b"]}]}, "no name"),
        ({"labels": ["public"]}, "strange clearance"),
        ({"quotas": {}}, "profile or quota"),
        ({"roles": 3}, "no access matrix"),
    ],
)
def test_a_wrong_matrix_is_refused(tmp_path: Path, change: dict[str, Any], said: str):
    raw = yaml.safe_load(resources.path("clickhouse", "access.yaml").read_text()) | change
    path = tmp_path / "access.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigurationError, match=said):
        access.load(path)


def test_a_hash_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="SEALTRAIL_ANALYST_SHA256 is no SHA-256"):
        access.as_sql(MATRIX, NAMES, {"analyst": "hunter2' OR 1"})
