"""clickhouse-connect talks to the embedded store as it does to a ClickHouse server."""

import asyncio
import datetime as dt
import decimal
import gzip
import io
import json
import threading
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import fastavro
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clickhouse_connect import dbapi
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.tools import insert_file
from tests.conftest import Stack
from tests.local.conftest import COLUMNS, Connect, row


def count(client: Client, where: str, table: str = "local_t") -> int:
    return int(str(client.command(f"SELECT count() FROM {table} WHERE {where}")))


def test_handshake(writer: Client):
    assert writer.server_version.startswith("26.")
    assert writer.ping()
    assert len(writer.server_settings) > 1000


def test_commands(writer: Client):
    assert writer.command("SELECT 1+1") == 2
    assert writer.command("SELECT 'a', 'b'") == ["a", "b"]
    writer.command("CREATE TABLE IF NOT EXISTS local_x (a Int8) ENGINE=Memory")


def test_query_rows(writer: Client):
    result = writer.query("SELECT number, toString(number) FROM numbers(5)")
    assert result.result_rows[4] == (4, "4")
    assert writer.query("SELECT number FROM numbers(0)").result_rows == []
    assert writer.query("SELECT a, s FROM local_t LIMIT 0").column_names == ("a", "s")


def test_query_types(writer: Client):
    found = writer.query(
        "SELECT toFixedString('abc',4), toDateTime64('2026-01-02 03:04:05.678901',6,'UTC'), "
        "['a','b'], toLowCardinality('x'), map('k',1), (1,'a'), toDecimal64(1.25,2), NULL, "
        "toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0'), CAST('a','Enum8(\\'a\\'=1)')"
    ).first_row
    assert found[2:10] == (
        ["a", "b"],
        "x",
        {"k": 1},
        (1, "a"),
        decimal.Decimal("1.25"),
        None,
        uuid.UUID("61f0c404-5cb3-11e7-907b-a6006ad3dba0"),
        "a",
    )


def test_insert_rows(writer: Client):
    summary = writer.insert("local_t", [row(i) for i in range(1000)], column_names=COLUMNS)
    assert summary.written_rows == 1000
    assert count(writer, "a < 1000") == 1000


@pytest.mark.parametrize(("first", "compress"), [
    (20_000, "lz4"), (21_000, "zstd"), (22_000, "gzip"), (23_000, False),
])  # fmt: skip
def test_insert_compressed(writer: Client, connect: Connect, first: int, compress: str | bool):
    client = connect(compress=compress)
    rows = [row(i) for i in range(first, first + 500)]
    client.insert("local_t", rows, column_names=COLUMNS)
    client.close()
    assert count(writer, f"a >= {first} AND a < {first + 500}") == 500


def test_insert_of_many_blocks(writer: Client, connect: Connect):
    writer.command("CREATE OR REPLACE TABLE local_many (a Int8) ENGINE = Memory")
    client = connect(compress="lz4")
    client.insert("local_many", [[i % 100] for i in range(300_000)], column_names=["a"])
    client.close()
    assert count(writer, "1", "local_many") == 300_000
    writer.command("DROP TABLE local_many")


def test_insert_frames(writer: Client):
    writer.insert_df(
        "local_t",
        pd.DataFrame(
            {
                "a": np.arange(3000, 3010, dtype="uint64"),
                "s": ["frame"] * 10,
                "h": [b"abcd"] * 10,
                "ts": pd.Timestamp("2026-01-01", tz="UTC"),
                "arr": [["z"]] * 10,
                "n": [1] * 10,
            }
        ),
    )
    assert count(writer, "s = 'frame'") == 10
    before = count(writer, "1", "local_x")
    writer.insert_arrow("local_x", pa.table({"a": pa.array([1, 2, 3], pa.int8())}))
    assert count(writer, "1", "local_x") == before + 3


def test_raw_insert_avro(writer: Client):
    schema = fastavro.parse_schema(
        {
            "type": "record",
            "name": "r",
            "fields": [
                {"name": "a", "type": "long"},
                {"name": "s", "type": "string"},
                {"name": "h", "type": {"type": "fixed", "name": "f", "size": 4}},
            ],
        }
    )
    body = io.BytesIO()
    fastavro.writer(body, schema, [{"a": 4000 + i, "s": "avro", "h": b"wxyz"} for i in range(10)])
    writer.raw_insert("local_t", ["a", "s", "h"], body.getvalue(), fmt="Avro")
    assert count(writer, "s = 'avro' AND h = 'wxyz'") == 10


def test_raw_insert_parquet(writer: Client):
    body = io.BytesIO()
    pq.write_table(pa.table({"a": pa.array([5000, 5001], pa.uint64()), "s": ["pq", "pq"]}), body)
    writer.raw_insert("local_t", ["a", "s"], body.getvalue(), fmt="Parquet")
    assert count(writer, "s = 'pq'") == 2


def test_raw_insert_native(writer: Client):
    body = writer.raw_query("SELECT toInt8(number) AS a FROM numbers(10)", fmt="Native")
    assert writer.raw_insert("local_x", ["a"], body, fmt="Native").written_rows == 10


def test_raw_insert_in_pieces_and_compressed(writer: Client):
    pieces = (b"1\n2\n" for _ in range(50_000))
    assert writer.raw_insert("local_x", ["a"], pieces, fmt="CSV").written_rows == 100_000
    packed = gzip.compress(b"1\n2\n3\n")
    summary = writer.raw_insert("local_x", ["a"], packed, fmt="CSV", compression="gzip")
    assert summary.written_rows == 3


def test_insert_file(writer: Client, tmp_path: Path):
    file = tmp_path / "x.csv"
    file.write_text("a\n1\n2\n")
    assert insert_file(writer, "local_x", str(file), fmt="CSVWithNames").written_rows == 2


def test_insert_statements(writer: Client):
    before = count(writer, "1", "local_x")
    writer.command("INSERT INTO local_x VALUES (1),(2)")
    writer.command("INSERT INTO local_x VALUES ({v:Int8})", parameters={"v": 5})
    writer.command("INSERT INTO local_x FORMAT CSV", data="1\n2\n")
    writer.command("INSERT INTO local_x SELECT number FROM numbers(3)")
    assert count(writer, "1", "local_x") == before + 8


def test_insert_of_ten_megabytes_of_values(writer: Client):
    before = count(writer, "1", "local_x")
    writer.command("INSERT INTO local_x VALUES " + ",".join(["(1)"] * 2_500_000))
    assert count(writer, "1", "local_x") == before + 2_500_000


def test_frames_and_arrow(writer: Client):
    frame = writer.query_df("SELECT number a, toString(number) b FROM numbers(1000)")
    assert (list(frame.columns), len(frame)) == (["a", "b"], 1000)
    assert writer.query_np("SELECT number FROM numbers(10)").sum() == 45
    assert writer.query_arrow("SELECT number a FROM numbers(100000)").num_rows == 100_000


def test_streams(writer: Client):
    with writer.query_row_block_stream("SELECT number FROM numbers(1000000)") as blocks:
        assert sum(len(block) for block in blocks) == 1_000_000
    with writer.query_column_block_stream("SELECT number FROM numbers(300000)") as blocks:
        assert sum(len(block[0]) for block in blocks) == 300_000
    with writer.query_df_stream("SELECT number FROM numbers(300000)") as frames:
        assert sum(len(frame) for frame in frames) == 300_000
    with writer.query_arrow_stream("SELECT number a FROM numbers(1000000)") as tables:
        assert sum(table.num_rows for table in tables) == 1_000_000


def test_raw_results(writer: Client):
    stream: Any = writer.raw_stream("SELECT number FROM numbers(100000)", fmt="Parquet")
    parquet = stream.read()
    assert pq.read_table(io.BytesIO(parquet)).num_rows == 100_000
    assert json.loads(writer.raw_query("SELECT 1 x", fmt="JSON"))["rows"] == 1


def test_parameters(writer: Client):
    hard = "o'x\\ \n\t é"
    found = writer.query(
        "SELECT {s:String}, {i:Int32}, {a:Array(String)}, {d:DateTime}, {n:Nullable(Int8)}",
        parameters={
            "s": hard,
            "i": -5,
            "a": ["a'b", "c"],
            "d": dt.datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - the column has no zone
            "n": None,
        },
    ).first_row
    assert (found[0], found[1], list(found[2]), found[4]) == (hard, -5, ["a'b", "c"], None)
    assert writer.query("SELECT %(x)s", parameters={"x": "a'b"}).first_row[0] == "a'b"


def test_long_parameters_come_as_a_form(writer: Client):
    found = writer.query("SELECT {s:String}", parameters={"s": "x" * 200_000}).first_row
    assert len(found[0]) == 200_000


def test_settings_do_not_outlive_their_query(writer: Client, connect: Connect):
    before = writer.command("SELECT getSetting('max_threads')")
    asked = writer.query("SELECT getSetting('max_threads')", settings={"max_threads": 1})
    assert asked.first_row[0] == 1
    assert writer.command("SELECT getSetting('max_threads')") == before
    client = connect(settings={"max_block_size": 777})
    assert client.command("SELECT getSetting('max_block_size')") == 777
    client.close()


def test_deduplication_token(writer: Client):
    rows = [row(i) for i in range(10_000, 10_010)]
    settings = {"insert_deduplication_token": str(uuid.uuid4()), "async_insert": 0}
    for _ in range(2):
        writer.insert("local_t", rows, column_names=COLUMNS, settings=settings)
    assert count(writer, "a >= 10000 AND a < 10010") == 10


def test_summary_and_query_id(writer: Client):
    found = writer.query("SELECT count() FROM numbers(1000) WHERE NOT ignore(number)")
    assert int(found.summary["read_rows"]) > 0
    query_id = str(uuid.uuid4())
    assert writer.query("SELECT 1", settings={"query_id": query_id}).query_id == query_id


def test_session_keeps_temporary_tables_and_settings(writer: Client, connect: Connect):
    client = connect(session_id=str(uuid.uuid4()))
    client.command("CREATE TEMPORARY TABLE tt (x Int32)")
    client.insert("tt", [[1], [2]], column_names=["x"], column_type_names=["Int32"])
    assert client.command("SELECT sum(x) FROM tt") == 3
    client.command("SET max_block_size=4321")
    assert client.command("SELECT getSetting('max_block_size')") == 4321
    assert writer.command("SELECT getSetting('max_block_size')") != 4321
    client.close()


def test_database_parameter(connect: Connect):
    client = connect(database="system")
    assert client.command("SELECT currentDatabase()") == "system"
    client.close()


def test_dbapi(stack: Stack):
    url = urlsplit(stack.env["SEALTRAIL_STORE_URL"])
    connection = dbapi.connect(
        host=url.hostname,
        port=url.port,
        username=stack.env["SEALTRAIL_STORE_USER"],
        password=stack.env["SEALTRAIL_STORE_PASSWORD"],
    )
    cursor = connection.cursor()
    cursor.execute("SELECT 1, 'x'")
    assert cursor.fetchall() == [(1, "x")]
    connection.close()


def test_async_client(stack: Stack, writer: Client):
    url = urlsplit(stack.env["SEALTRAIL_STORE_URL"])

    async def use() -> int:
        client = await clickhouse_connect.get_async_client(
            host=url.hostname,
            port=url.port,
            username=stack.env["SEALTRAIL_STORE_USER"],
            password=stack.env["SEALTRAIL_STORE_PASSWORD"],
        )
        found = await client.query("SELECT 42")
        await client.insert("local_x", [[1]], column_names=["a"], database="sealtrail")
        await client.close()
        return int(found.first_row[0])

    assert asyncio.run(use()) == 42


def test_many_threads(writer: Client):
    found: list[int] = []

    def ask(i: int) -> None:
        found.append(writer.query(f"SELECT {i}, sum(number) FROM numbers(1000000)").first_row[0])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(16))


def test_move_partition_to_the_cold_volume(writer: Client):
    writer.insert("local_t", [row(900_000)], column_names=COLUMNS)
    writer.command("ALTER TABLE local_t MOVE PARTITION 9 TO VOLUME 'cold'")
    disks = writer.query(
        "SELECT DISTINCT disk_name FROM system.parts "
        "WHERE database = 'sealtrail' AND table = 'local_t' AND active AND partition = '9'"
    )
    assert disks.result_rows == [("cold",)]
