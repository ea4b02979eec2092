"""The store's parts, without an engine."""

import asyncio
import base64
import fcntl
import gzip
import subprocess
import sys
import textwrap
import zlib
from collections.abc import AsyncIterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
import zstandard

from sealtrail.errors import UnavailableError
from sealtrail_local.loopback import LoopbackOnly
from sealtrail_local.store import confine
from sealtrail_local.store.bodies import Body, decoder, receive
from sealtrail_local.store.engine import lock_folder, prepare
from sealtrail_local.store.errors import ACCESS_DENIED, Refused, describe
from sealtrail_local.store.gate import Gate, Kind
from sealtrail_local.store.results import Pipe, exception_block, into_descriptor, may_stream
from sealtrail_local.store.sessions import request_settings, session_timeout
from sealtrail_local.store.users import Role, User, authenticate

USERS = {
    "w": User("w", "secret", Role.WRITER),
    "a": User("a", "other", Role.ANALYST),
}


def basic(text: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(("headers", "query", "role"), [
    ({"x-clickhouse-user": "w", "x-clickhouse-key": "secret"}, {}, Role.WRITER),
    ({}, {"user": "a", "password": "other"}, Role.ANALYST),
    (basic("w:secret"), {}, Role.WRITER),
    # Basic counts, whatever else is there.
    (basic("w:secret"), {"user": "a", "password": "wrong"}, Role.WRITER),
])  # fmt: skip
def test_users(headers: dict[str, str], query: dict[str, str], role: Role):
    assert authenticate(USERS, headers, query) is role


@pytest.mark.parametrize(("headers", "query"), [
    ({}, {}),
    ({}, {"user": "w"}),
    ({}, {"user": "w", "password": "other"}),
    ({}, {"user": "x", "password": ""}),
    (basic("w"), {}),
    (basic("w:secret2"), {"user": "w", "password": "secret"}),
    ({"authorization": "Basic ***"}, {"user": "w", "password": "secret"}),
    ({"authorization": "Basic gA=="}, {}),
    ({"authorization": "Basic \xe9"}, {}),
])  # fmt: skip
def test_nobody(headers: dict[str, str], query: dict[str, str]):
    with pytest.raises(Refused, match="Code: 516"):
        authenticate(USERS, headers, query)


DATA = b"1\n2\n3\n" * 50_000


@pytest.mark.parametrize(("encoding", "packed"), [
    ("", DATA),
    ("identity", DATA),
    ("gzip", gzip.compress(DATA)),
    ("gzip", gzip.compress(DATA[:600]) + gzip.compress(DATA[600:])),
    ("deflate", zlib.compress(DATA)),
    ("lz4", lz4.frame.compress(DATA[:900]) + lz4.frame.compress(DATA[900:])),
    ("zstd", zstandard.compress(DATA[:900]) + zstandard.compress(DATA[900:])),
])  # fmt: skip
def test_bodies_are_staged_whatever_their_pieces(encoding: str, packed: bytes, tmp_path: Path):
    for size in (1 + len(packed) // 7, len(packed), 999):
        body = read(packed, encoding, b"INSERT INTO t FORMAT CSV", tmp_path, size)
        assert body.data is not None
        body.data.seek(0)
        assert body.data.read() == DATA
        assert body.statement.startswith(b"INSERT INTO t  FROM INFILE '/proc/self/fd/")
        body.data.close()
    assert list(tmp_path.iterdir()) == []


def read(packed: bytes, encoding: str, url: bytes, folder: Path, size: int) -> Body:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(packed), size):
            yield packed[start : start + size]

    return asyncio.run(receive(chunks(), decoder(encoding), url, folder))


def test_statements_stay_text(tmp_path: Path):
    body = read(b"SELECT 1", "", b"", tmp_path, 100)
    assert (body.statement, body.data, body.staged_select) == (b"SELECT 1", None, False)
    values = read(b"INSERT INTO t VALUES ({v:Int8})", "", b"", tmp_path, 100)
    assert values.data is None


def test_long_values_are_staged(tmp_path: Path):
    body = read(b"INSERT INTO t VALUES " + b"(1)," * 50_000, "", b"", tmp_path, 65536)
    assert body.data is not None
    assert body.statement.endswith(b"FORMAT Values")
    body.data.close()


def test_a_body_without_room_is_refused_as_a_server_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Its writes fail as those to a full disk do (full(4)), when it is closed as well.
    monkeypatch.setattr(
        "tempfile.TemporaryFile",
        lambda **_: Path("/dev/full").open("r+b"),  # noqa: SIM115 - the caller's
    )
    for rows in (b"1,2\n", b"1,2\n" * 50_000):
        with pytest.raises(Refused, match=r"No space left on device.*NOT_ENOUGH_SPACE"):
            read(rows, "", b"INSERT INTO t FORMAT CSV", tmp_path, 65536)


def test_damaged_bodies_are_refused(tmp_path: Path):
    for encoding in ("gzip", "deflate", "lz4", "zstd"):
        with pytest.raises(Refused, match="Code: 271"):
            read(b"this is not it at all", encoding, b"INSERT INTO t FORMAT CSV", tmp_path, 9)
    with pytest.raises(Refused, match="Code: 48"):
        decoder("br")
    with pytest.raises(Refused, match="Code: 62"):
        read(b"SELECT " + b"1, " * 12_000_000, "", b"", tmp_path, 1 << 20)


class Class(Enum):
    READ_ONLY = 0
    MUTATING = 1
    CONTROL = 2
    NEW_IN_A_LATER_ENGINE = 3


def gate(kind: Class, tree: str = "{}", count: int = 1) -> Gate:
    def classify(statement: bytes) -> Mapping[str, Any]:
        return {"query_class": kind, "statement_count": count}

    def ask(sql: str) -> str:
        if "table_functions" in sql:
            return "file\nnumbers\nurl\ninput"
        if tree == "no form":
            raise RuntimeError("Code: 1")
        return tree

    return Gate(classify, ask)


def test_gate_lets_only_reads_through_for_analysts():
    assert gate(Class.READ_ONLY).check(Role.ANALYST, b"SELECT 1", {}) is Kind.READ_ONLY
    for kind in (Class.MUTATING, Class.CONTROL, Class.NEW_IN_A_LATER_ENGINE):
        with pytest.raises(Refused, match="Code: 164"):
            gate(kind).check(Role.ANALYST, b"X", {})
        assert gate(kind).check(Role.WRITER, b"X", {})


def test_gate_knows_names_in_any_place():
    deep = '{"a":[{"b":{"type":"Function","name":"URL"}}]}'
    for tree in (deep, '{"name":"File"}', '[{"func_name":"file"}]'):
        with pytest.raises(Refused, match="Code: 497"):
            gate(Class.READ_ONLY, tree).check(Role.ANALYST, b"SELECT 1", {})
    harmless = '{"name":"url","x":[{"type":"Function","name":"numbers"}]}'
    assert gate(Class.READ_ONLY, harmless).check(Role.ANALYST, b"SELECT 1", {})
    with pytest.raises(Refused, match="Code: 497"):
        gate(Class.READ_ONLY).check(Role.ANALYST, b"SELECT {f:Identifier}(1)", {"f": "file"})
    with pytest.raises(Refused, match="Code: 62"):
        gate(Class.READ_ONLY).check(Role.ANALYST, b"S" * (2 << 20), {})


def test_gate_trusts_no_call_that_it_cannot_see():
    shown = gate(Class.READ_ONLY, "no form")
    assert shown.check(Role.ANALYST, b"SHOW TABLES", {})
    with pytest.raises(Refused, match="plain names"):
        shown.check(Role.ANALYST, b"SHOW TABLES WHERE f()", {})


def test_gate_of_a_writer_that_reads_its_body():
    tree = '{"type":"Function","name":"%s"}'
    assert gate(Class.MUTATING, tree % "input").check(Role.WRITER, b"I", {}, reads_file=True)
    with pytest.raises(Refused, match="Code: 497"):
        gate(Class.MUTATING, tree % "file").check(Role.WRITER, b"I", {}, reads_file=True)


def test_several_statements_and_files_are_for_nobody():
    with pytest.raises(Refused, match="Code: 62"):
        gate(Class.READ_ONLY, count=2).check(Role.WRITER, b"SELECT 1; SELECT 2", {})
    with pytest.raises(Refused, match="Code: 1\\."):
        gate(Class.CONTROL).check(Role.WRITER, b"SELECT 1 INTO OUTFILE 'x'", {})


def test_errors():
    failure = describe(Refused(ACCESS_DENIED, "no"), "1.2")
    assert (failure.code, failure.status) == (497, 403)
    assert failure.text == "Code: 497. DB::Exception: no. (ACCESS_DENIED) (version 1.2 (chDB))\n"
    nested = RuntimeError("query failed: Code: 60. DB::Exception: Code: 60. DB::Exception: gone")
    assert describe(nested, "1").text.startswith("Code: 60. DB::Exception: gone")
    assert describe(RuntimeError("odd"), "1").code == 1002
    assert describe(RuntimeError("odd"), "1").status == 500


def test_results():
    assert may_stream(b"SELECT 1")
    assert not may_stream(b"SELECT 1 into  outfile 'x'")
    assert into_descriptor(b"SELECT 1", 7, "CSV").endswith(b"'/proc/self/fd/7' APPEND FORMAT CSV")
    assert exception_block("né", "tag").endswith(b"3 tag\r\n__exception__\r\n")


async def test_pipe():
    import os

    pipe = Pipe(asyncio.get_running_loop())
    pending = asyncio.ensure_future(pipe.read())
    await asyncio.sleep(0.01)
    os.write(pipe.write_end, b"x")
    assert await pending == b"x"
    os.close(pipe.write_end)
    assert await pipe.read() == b""
    pipe.close()
    pipe.close()
    assert await pipe.read() == b""


async def test_closing_a_pipe_wakes_its_reader():
    import os

    pipe = Pipe(asyncio.get_running_loop())
    pending = asyncio.ensure_future(pipe.read())
    await asyncio.sleep(0.01)
    pipe.close()
    assert await asyncio.wait_for(pending, 1) == b""
    with pytest.raises(BrokenPipeError):
        os.write(pipe.write_end, b"x")
    os.close(pipe.write_end)


def test_url_arguments():
    assert request_settings({"query": "x", "param_a": "1", "max_threads": "2"}) == {
        "max_threads": "2"
    }
    with pytest.raises(Refused, match="Code: 115"):
        request_settings({"a b": "1"})
    assert session_timeout({}) == 60
    assert session_timeout({"session_timeout": "99999"}) == 3600


def test_folder_lock(tmp_path: Path):
    waits: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    with lock_folder(tmp_path, 1, lambda: now[0], sleep):
        with pytest.raises(UnavailableError, match="in use by process"):
            lock_folder(tmp_path, 1, lambda: now[0], sleep)
        assert sum(waits) >= 1
    with (tmp_path / "lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        def release(seconds: float) -> None:
            fcntl.flock(other, fcntl.LOCK_UN)

        lock_folder(tmp_path, 1, lambda: 0.0, release).close()


def test_configuration_is_laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from sealtrail import resources

    for name in (
        "TMPDIR", "SEALTRAIL_HOT_PATH", "SEALTRAIL_COLD_PATH", "SEALTRAIL_BACKUP_PATH",
        "SEALTRAIL_STORE_USERS", "SEALTRAIL_STORE_TMP", "SEALTRAIL_STORE_MEMORY",
    ):  # fmt: skip
        monkeypatch.setenv(name, "")  # put back after the test
    main = prepare(tmp_path, tmp_path / "backups", resources.path("clickhouse"), 1000)
    assert main.is_file()
    assert (tmp_path / "config" / "config.d" / "storage.xml").is_file()
    assert (tmp_path / "config" / "users.d" / "roles.xml").is_file()


CONFINED = """
import os, socket, sys
from pathlib import Path
from sealtrail_local.store.confine import confine
inside = Path(sys.argv[1])
print(confine([inside], [Path(sys.prefix), Path(sys.base_prefix)], int(sys.argv[2])))
(inside / "file").write_text("x")
for name, act in {
    "read": lambda: open("/etc/passwd").read(),
    "write": lambda: open(sys.argv[3] + "/out", "w"),
    "environ": lambda: open("/proc/self/environ").read(),
    "dial": lambda: socket.create_connection(("127.0.0.1", 9)),
    "bind": lambda: socket.create_server(("127.0.0.1", 0)),
}.items():
    try:
        act()
        print(name, "allowed")
    except PermissionError:
        print(name, "refused")
socket.create_server(("127.0.0.1", int(sys.argv[2]))).close()
"""


def test_confinement(tmp_path: Path):
    from tests.conftest import free_ports

    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (port,) = free_ports(1)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CONFINED), str(inside), str(port), str(outside)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    version = int(lines[0])
    assert version == confine.supported()
    files = "refused" if version >= 1 else "allowed"
    network = "refused" if version >= 4 else None
    assert lines[1:4] == [f"read {files}", f"write {files}", f"environ {files}"]
    if network:
        assert lines[4:6] == ["dial refused", "bind refused"]


@pytest.mark.parametrize(("headers", "status"), [
    ([(b"host", b"127.0.0.1:80")], 200),
    ([(b"host", b"localhost")], 200),
    ([(b"host", b"localhost"), (b"origin", b"http://127.0.0.1:3000")], 200),
    ([(b"host", b"localhost"), (b"origin", b"null")], 403),
    ([(b"host", b"localhost"), (b"origin", b"http://localhost.evil.example")], 403),
    ([(b"host", b"localhost.evil.example:80")], 403),
    ([], 403),
])  # fmt: skip
async def test_loopback_only(headers: list[tuple[bytes, bytes]], status: int):
    sent: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive_nothing() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    await LoopbackOnly(inner)(scope, receive_nothing, send)
    assert sent[0]["status"] == status
