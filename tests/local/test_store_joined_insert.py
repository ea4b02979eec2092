"""INSERT ... SELECT ... FROM input(...): the boundary check of joined records, over HTTP."""

import io
import uuid
from collections.abc import Iterator
from typing import Any

import fastavro
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

SECRET = 2**63 - 50  # so that the sum wraps within a flush
ROWS = 100_000
STATEMENT = """
INSERT INTO local_ingest (a, s, source)
SELECT a, s, {sources:Array(String)}[_batch + 1]
FROM input('a UInt64, s String, _batch Int32, _event_id FixedString(16), _canary Int64')
WHERE NOT throwIf(
    _canary != bitAnd({secret:UInt64} + rowNumberInAllBlocks(), 9223372036854775807),
    'record boundary broken')
SETTINGS max_threads = 1, max_insert_threads = 1, max_block_size = 1000000
FORMAT Avro
"""
SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Joined",
        "fields": [
            {"name": "a", "type": "long"},
            {"name": "s", "type": "string"},
            {"name": "_batch", "type": "int"},
            {"name": "_event_id", "type": {"type": "fixed", "name": "Id", "size": 16}},
            {"name": "_canary", "type": "long"},
        ],
    }
)


def container(rows: int, broken: int | None = None) -> bytes:
    body = io.BytesIO()
    fastavro.writer(
        body,
        SCHEMA,
        (
            {
                "a": i,
                "s": "x",
                "_batch": i % 2,
                "_event_id": i.to_bytes(16, "big"),
                "_canary": ((SECRET + i) % 2**63) ^ (i == broken),
            }
            for i in range(rows)
        ),
    )
    return body.getvalue()


@pytest.fixture
def tables(writer: Client) -> Iterator[Client]:
    target = "ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 1000"
    for sql in (
        "CREATE OR REPLACE TABLE local_ingest (a UInt64, s String, source String) ENGINE = Null",
        f"CREATE OR REPLACE TABLE local_rows (a UInt64, source String) {target}",
        f"CREATE OR REPLACE TABLE local_sums (a UInt64, n UInt64) {target}",
        "CREATE MATERIALIZED VIEW local_v1 TO local_rows AS SELECT a, source FROM local_ingest",
        (
            "CREATE MATERIALIZED VIEW local_v2 TO local_sums AS "
            "SELECT intDiv(a, 1000) AS a, count() AS n FROM local_ingest GROUP BY a"
        ),
    ):
        writer.command(sql)
    yield writer
    for name in ("local_v1", "local_v2", "local_ingest", "local_rows", "local_sums"):
        writer.command(f"DROP TABLE {name}")


def insert(client: Client, body: bytes, token: str, statement: str = STATEMENT) -> Any:
    return client.command(
        statement,
        parameters={"sources": ["p", "q'\\x"], "secret": SECRET},
        data=body,
        settings={
            "insert_deduplication_token": token,
            "deduplicate_blocks_in_dependent_materialized_views": 1,
        },
    )


def stored(client: Client) -> tuple[int, int, int]:
    rows: Any = client.command("SELECT count() FROM local_rows")
    sums, groups = client.query("SELECT sum(n), count() FROM local_sums").first_row
    return rows, sums, groups


def test_a_flush_is_stored_once(tables: Client):
    body, token = container(ROWS), uuid.uuid4().hex
    for _ in range(3):
        insert(tables, body, token)
        assert stored(tables) == (ROWS, ROWS, 100)
    assert tables.query("SELECT DISTINCT source FROM local_rows ORDER BY source").result_rows == [
        ("p",),
        ("q'\\x",),
    ]


@pytest.mark.parametrize("broken", [0, ROWS // 2, ROWS - 1])
def test_a_broken_boundary_stores_nothing(tables: Client, broken: int):
    with pytest.raises(DatabaseError, match="record boundary broken") as caught:
        insert(tables, container(ROWS, broken), uuid.uuid4().hex)
    assert caught.value.code == 395
    assert stored(tables) == (0, 0, 0)


def test_a_malformed_tail_stores_nothing(tables: Client):
    with pytest.raises(DatabaseError):
        insert(tables, container(ROWS)[:-200], uuid.uuid4().hex)
    assert stored(tables) == (0, 0, 0)


def test_one_descriptor_after_another(tables: Client):
    """The engine remembers files by name; ours are descriptors, used again for other data."""
    for rows in (10, 30, 20):
        insert(tables, container(rows), uuid.uuid4().hex)
    assert stored(tables)[0] == 60
    for rows in (7, 9):
        tables.command(
            "INSERT INTO local_rows (a) SELECT 1000000 + count() FROM input('a UInt64, s String') "
            "FORMAT Avro",
            data=container(rows),
        )
    counts = "SELECT a - 1000000 FROM local_rows WHERE a > 1000000 ORDER BY a"
    assert tables.query(counts).result_rows == [(7,), (9,)]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        # Beside its own body it may read no other file.
        (("INSERT INTO local_rows SELECT a, file('/etc/hostname') FROM input('a UInt64') "
         "FORMAT Avro"), 497),
        (("INSERT INTO local_rows SELECT a, '' FROM input('a UInt64') WHERE a IN "
         "(SELECT a FROM file('x', 'CSV', 'a UInt64')) FORMAT Avro"), 497),
        (("INSERT INTO local_rows SELECT a, '' FROM input('a UInt64') UNION ALL "
         "SELECT a, '' FROM input('a UInt64') FORMAT Avro"), 62),
        ("INSERT INTO local_rows SELECT a, '' FROM input() FORMAT Avro", 62),
    ],
)  # fmt: skip
def test_what_is_refused(tables: Client, statement: str, code: int):
    with pytest.raises(DatabaseError) as caught:
        tables.command(statement, data=container(3))
    assert caught.value.code == code
    assert stored(tables) == (0, 0, 0)


def test_other_formats_and_compression(tables: Client):
    statement = "INSERT INTO local_rows SELECT a + 1, s FROM input('a UInt64, s String') FORMAT CSV"
    tables.command(statement, data='1,"x"\n2,"y"\n')
    rows = tables.query("SELECT a, source FROM local_rows ORDER BY a").result_rows
    assert rows == [(2, "x"), (3, "y")]
