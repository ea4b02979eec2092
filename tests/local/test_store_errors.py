"""What goes wrong is reported as a ClickHouse server does, and leaves nothing behind."""

import http.client
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import (
    DatabaseError,
    OperationalError,
    StreamFailureError,
)
from clickhouse_connect.driver.external import ExternalData
from tests.conftest import Stack
from tests.local.conftest import COLUMNS, Connect, row


def code_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    with pytest.raises((DatabaseError, OperationalError)) as caught:
        function(*args, **kwargs)
    return int(caught.value.code or str(caught.value).partition("Code: ")[2].partition(".")[0])


def count(client: Client, table: str) -> int:
    return int(str(client.command(f"SELECT count() FROM {table}")))


@pytest.mark.parametrize(("code", "sql", "settings"), [
    (60, "SELECT * FROM nosuch", {}),
    (62, "SELEC 1 2 3", {}),
    (62, "SELECT 1; SELECT 2", {}),
    (159, "SELECT sleepEachRow(0.3) FROM numbers(20) SETTINGS max_block_size=1",
     {"max_execution_time": 1}),
    (241, "SELECT uniqExact(number) FROM numbers(10000000)", {"max_memory_usage": 10_000_000}),
    (1, "SELECT 1 INTO OUTFILE '/tmp/sealtrail-leak'", {}),
    (344, "INSERT INTO local_x FROM INFILE '/etc/passwd' FORMAT CSV", {}),
    (344, "INSERT INTO FUNCTION file('x.csv', 'CSV', 'a Int8') VALUES (1)", {}),
])  # fmt: skip
def test_codes(writer: Client, code: int, sql: str, settings: dict[str, Any]):
    assert code_of(writer.command, sql, settings=settings) == code


def test_unknown_setting_and_database(writer: Client, connect: Connect):
    assert code_of(writer.query, "SELECT 1", settings={"nosuch_setting": 1}) == 115
    assert code_of(lambda: connect(database="nosuch").query("SELECT 1")) == 81


def test_unknown_table_is_never_taken_for_a_file(writer: Client):
    assert code_of(writer.query, "SELECT * FROM `/etc/hostname`") == 60
    assert code_of(writer.query, "SELECT * FROM default.`/etc/hostname`") in {60, 497}


def test_inserts_are_always_on_disk_before_the_reply(stack: Stack):
    # clickhouse-connect would refuse the setting itself: it has seen that it is read-only.
    status, code, _ = request(stack, "SELECT 1", async_insert="1")
    assert (status, code) == (500, "452")
    assert request(stack, "SELECT 1", async_insert="0")[0] == 200


def test_refused_row_refuses_the_block(writer: Client):
    before = count(writer, "local_t")
    rows = [row(1), row(2_000_000)]
    assert code_of(writer.insert, "local_t", rows, column_names=COLUMNS) == 469
    assert count(writer, "local_t") == before


def test_truncated_and_damaged_bodies(writer: Client):
    before = count(writer, "local_t")
    body = writer.raw_query("SELECT number AS a FROM numbers(1000)", fmt="Native")
    with pytest.raises(DatabaseError):
        writer.raw_insert("local_t", ["a"], body[:-100], fmt="Native")
    assert code_of(writer.raw_insert, "local_t", ["a"], b"1\nx\n", fmt="CSV") == 117
    damaged = code_of(
        writer.raw_insert, "local_t", ["a"], b"no gzip", fmt="CSV", compression="gzip"
    )
    assert damaged == 271
    assert count(writer, "local_t") == before


def test_error_in_the_middle_of_a_stream(writer: Client):
    sql = "SELECT throwIf(number = 3000000, 'boom'), number FROM numbers(5000000)"
    settings = {"max_block_size": 65536, "max_threads": 1}

    def read() -> None:
        with writer.query_row_block_stream(sql, settings=settings) as blocks:
            for _ in blocks:
                pass

    with pytest.raises(StreamFailureError, match="boom"):
        read()


def test_external_data_are_refused(writer: Client):
    data = ExternalData(data=b"1\n", file_name="ext", fmt="CSV", structure=["a Int32"])
    assert code_of(writer.query, "SELECT * FROM ext", external_data=data) == 48


def test_session_is_for_one_request_at_a_time(connect: Connect):
    name = str(uuid.uuid4())
    first, second = connect(session_id=name), connect(session_id=name)
    busy = threading.Thread(target=lambda: first.query("SELECT sleep(1)"))
    busy.start()
    time.sleep(0.3)
    assert code_of(second.query, "SELECT 1") == 373
    busy.join()


def test_wrong_password(connect: Connect, stack: Stack):
    user = stack.env["SEALTRAIL_STORE_USER"]
    assert code_of(connect, username=user, password="bad") == 516
    assert code_of(connect, username=user, password="") == 516
    assert code_of(connect, username="default", password="") == 516
    assert code_of(connect, username="nobody", password="x") == 516


def request(
    stack: Stack,
    sql: str,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    **arguments: str,
) -> tuple[int, str | None, bytes]:
    """One plain HTTP request as the writer: status, exception code, body."""
    user, key = stack.env["SEALTRAIL_STORE_USER"], stack.env["SEALTRAIL_STORE_PASSWORD"]
    query = urlencode({"user": user, "password": key, "query": sql, **arguments})
    connection = http.client.HTTPConnection(urlsplit(stack.env["SEALTRAIL_STORE_URL"]).netloc)
    connection.request(method, f"/?{query}", headers=headers or {})
    answer = connection.getresponse()
    found = answer.status, answer.headers["X-ClickHouse-Exception-Code"], answer.read()
    connection.close()
    return found


def test_get_is_read_only(stack: Stack):
    assert request(stack, "SELECT 1", "GET", default_format="JSONCompact")[2].startswith(b"{")
    assert request(stack, "INSERT INTO local_x VALUES (1)", "GET")[:2] == (403, "164")


def test_web_pages_are_kept_away(stack: Stack):
    assert request(stack, "SELECT 1", headers={"Host": "evil.example:80"})[0] == 403
    assert request(stack, "SELECT 1", headers={"Origin": "https://evil.example"})[0] == 403
    assert request(stack, "SELECT 1", headers={"Origin": "http://localhost:3000"})[0] == 200


def test_bad_arguments(stack: Stack):
    assert request(stack, "SELECT 1", session_id="a", session_timeout="soon")[1] == "36"
    assert request(stack, "SELECT 1", **cast("dict[str, Any]", {"a-b": "1"}))[:2] == (404, "115")
    assert request(stack, "SELECT 1", headers={"Content-Encoding": "br"})[:2] == (501, "48")
    assert request(stack, "SELECT 1", headers={"Authorization": "Basic !"})[1] == "516"


def raw(stack: Stack, head: str, body: str, length: int, hold_s: float) -> None:
    """Send part of a request and go away."""
    url = urlsplit(stack.env["SEALTRAIL_STORE_URL"])
    user, key = stack.env["SEALTRAIL_STORE_USER"], stack.env["SEALTRAIL_STORE_PASSWORD"]
    with socket.create_connection((url.hostname, url.port)) as sock:
        sock.sendall(
            f"POST /?user={user}&password={key}{head} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {length}\r\n\r\n{body}".encode()
        )
        time.sleep(hold_s)


@pytest.mark.parametrize(("head", "sql"), [
    ("&wait_end_of_query=1", "SELECT sleepEachRow(0.2) FROM numbers(99)"),
    ("", "SELECT sum(cityHash64(number)) FROM numbers(1000000000000)"),
])  # fmt: skip
def test_client_that_leaves_ends_its_query(stack: Stack, writer: Client, head: str, sql: str):
    mark = uuid.uuid4().hex
    sql = f"{sql} -- {mark}"
    running = f"SELECT count() FROM system.processes WHERE query LIKE '%{mark}%'"
    running += " AND query NOT LIKE '%system.processes%'"
    raw(stack, head, sql, len(sql), 0.7)
    deadline = time.monotonic() + 10
    while writer.command(running) != 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_truncated_upload_inserts_nothing(stack: Stack, writer: Client):
    before = count(writer, "local_x")
    raw(stack, "&query=INSERT+INTO+local_x+FORMAT+CSV", "1\n2\n3\n", 1000, 0.3)
    time.sleep(0.3)
    assert count(writer, "local_x") == before


@pytest.mark.parametrize("path", ["/etc/hostname", "/etc/passwd", "/proc/self/environ"])
def test_even_the_writer_reaches_no_file(writer: Client, stack: Stack, path: str):
    for name in (path, str(stack.state_dir / "local.env")):
        assert code_of(writer.raw_query, f"SELECT file('{name}')") in {76, 107, 481, 1001}


def test_the_writer_dials_nobody(writer: Client, stack: Stack):
    registry = stack.env["SEALTRAIL_REGISTRY_URL"]
    with pytest.raises((DatabaseError, OperationalError)):
        writer.raw_query(f"SELECT * FROM url('{registry}/subjects', 'LineAsString')")
