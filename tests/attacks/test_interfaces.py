"""Rows of the catalogue about commands, the store's interface and what is written where."""

from __future__ import annotations

import ast
import http.client
import os
import re
import stat
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.attacks.assets import make
from tests.scenarios import conservation
from tests.scenarios.stage import SEALTRAIL

from sealtrail import ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.attacks.played import Played
    from tests.scenarios.scene import Scene

    Say = Callable[[str], None]

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("contract", "producers", "processors", "auditors", "deploy/local")
TEXTS = make.texts()
INJECTIONS = (
    *(TEXTS[name] for name in ("sql", "line-ends", "ansi", "tabs", "noncharacter")),
    "x' OR 1=1 --",
    'x"; DROP TABLE sealtrail.events; --',
    "x') UNION ALL SELECT value FROM sealtrail.payloads --",
    "{x:String}",
    "$$x$$",
    "`sealtrail`.`events`",
    "\\'; SELECT 1 --",
    "0) SETTINGS readonly = 0 --",
)


@pytest.fixture
def scene(played: Played) -> Iterator[Scene]:
    """The stack after the play; nothing that is asked may change what is stored."""
    before = fingerprint(played.scene)
    yield played.scene
    assert fingerprint(played.scene) == before
    assert conservation.check(played.scene.folder).differences == []


def fingerprint(scene: Scene) -> dict[str, int]:
    """Rows of each table, copies that merges will drop apart."""
    settings = conservation.variables(scene.folder)
    tables = conservation.query(
        settings,
        "SELECT name, if(engine LIKE '%Replacing%', ' FINAL', '') AS final FROM system.tables "
        "WHERE database = 'sealtrail' AND engine LIKE '%MergeTree'",
    )
    count = "SELECT count() AS n FROM"
    return {
        table["name"]: conservation.query(settings, f"{count} {table['name']}{table['final']}")[0][
            "n"
        ]
        for table in tables
    }


def ask(scene: Scene, sql: str, **parameters: str) -> tuple[int, str]:
    """Ask the store over HTTP as the analyst: status and body."""
    settings = conservation.variables(scene.folder)
    headers = {
        "X-ClickHouse-User": settings["SEALTRAIL_ANALYST_USER"],
        "X-ClickHouse-Key": settings["SEALTRAIL_ANALYST_PASSWORD"],
    }
    url = f"{settings['SEALTRAIL_STORE_URL']}/?{urllib.parse.urlencode(parameters)}"
    request = urllib.request.Request(url, data=sql.encode(), headers=headers)  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:  # noqa: S310 - see above
            return reply.status, reply.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except http.client.IncompleteRead as error:
        # A limit was reached in the middle of an answer: the server ends the connection.
        return 500, f"broke off after {len(error.partial)} bytes"


# -- G1, G2: the store's interface -----------------------------------------------------


@pytest.mark.row("G1")
def test_g1_arguments_of_commands_are_values(scene: Scene, happened: Say) -> None:
    for text in INJECTIONS:
        rows = scene.ask("sql", "SELECT {x:String} AS x", "--param", f"x={text}")
        assert rows == [{"x": text}]
        done = scene.call("lineage", text)
        assert done.returncode in (0, 2, 3), done
        assert "Traceback" not in done.stderr
        assert "DB::Exception" not in done.stderr
    for arguments in (
        ("event", "show", INJECTIONS[0]),
        ("quarantine", "show", INJECTIONS[0]),
        ("sql", "SELECT 1", "--limit", "1 SETTINGS readonly = 0"),
        ("sql", "SELECT {x:Identifier} FROM sealtrail.events", "--param", "x=file('/etc/passwd')"),
    ):
        done = scene.call(*arguments)
        assert done.returncode in (2, 3), done
        assert "Traceback" not in done.stderr
    happened(f"{len(INJECTIONS)} texts: bound as values, or refused as names of nothing")


@pytest.mark.row("G1")
def test_g1_the_analyst_only_reads(scene: Scene, happened: Say) -> None:
    attempts = [
        "INSERT INTO sealtrail.findings SELECT * FROM sealtrail.findings",
        "ALTER TABLE sealtrail.events DELETE WHERE 1",
        "DROP TABLE sealtrail.events",
        "TRUNCATE TABLE sealtrail.events",
        "CREATE TABLE sealtrail.x (n UInt8) ENGINE = Memory",
        "SET readonly = 0",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1; DROP TABLE sealtrail.events",
        "SELECT * FROM file('/etc/passwd')",
        "SELECT file('/etc/passwd')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'x String')",
        "SELECT * FROM remote('127.0.0.1:1', system.one)",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "SYSTEM SHUTDOWN",
        "GRANT ALL ON *.* TO analyst",
        "/* */ insert into sealtrail.findings select * from sealtrail.findings",
    ]
    for sql in attempts:
        status, body = ask(scene, sql)
        assert status >= 400, (sql, body)
    status, _ = ask(scene, "INSERT INTO sealtrail.findings SELECT 1", readonly="0")
    assert status >= 400
    status, _ = ask(scene, "SELECT {t:Identifier} FROM sealtrail.events", param_t="file('/etc/x')")
    assert status >= 400
    happened(f"{len(attempts) + 2} statements of the analyst refused, no row changed")


@pytest.mark.row("G2")
def test_g2_queries_that_would_never_end(scene: Scene, happened: Say) -> None:
    four = ", ".join(f"sealtrail.events AS {name}" for name in "abcd")
    queries = [
        f"SELECT count() FROM {four}",
        "SELECT groupArray(number) FROM numbers(100000000000)",
        "SELECT * FROM numbers(100000000000)",
        "SELECT arrayJoin(range(100000000)) AS x ORDER BY sipHash64(x) DESC",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
        f"SELECT 1 WHERE 1 IN ({', '.join(map(str, range(300_000)))})",
        "SELECT repeat('x', 1000000000000)",
    ]
    slowest = 0.0
    for sql in queries:
        began = time.monotonic()
        status, body = ask(scene, sql)
        slowest = max(slowest, time.monotonic() - began)
        assert status >= 400 or "Code:" in body[-3000:], (sql[:80], body[:300])
        assert ask(scene, "SELECT 1") == (200, "1\n")
    happened(f"{len(queries)} queries ended, the longest after {slowest:.0f} s; the store lives")


# -- G4: secrets ------------------------------------------------------------------------

SECRETS = {
    name: f"canary-{number}-{os.urandom(9).hex()}"
    for number, name in enumerate((
        "SEALTRAIL_KEY_PASSPHRASE",
        "SEALTRAIL_OPERATOR_PASSPHRASE",
        "SEALTRAIL_STORE_PASSWORD",
        "SEALTRAIL_ANALYST_PASSWORD",
        "SEALTRAIL_KAFKA_PASSWORD",
        "SEALTRAIL_KAFKA_KEY_PASSPHRASE",
        "SEALTRAIL_REGISTRY_PASSWORD",
    ))
}  # fmt: skip


@pytest.mark.row("G4")
def test_g4_secrets_appear_in_no_output(scene: Scene, played: Played, happened: Say) -> None:
    outputs: list[str] = []
    commands = [
        ("config", "show"),
        ("sql", "SELECT 1"),
        ("audit", "store"),
        ("event", "show", ids.text(played.scene.kept["mismatch"].event_id(2))),
        ("emit", "canary.step", "--producer", "orders", "--timeout", "1"),
        ("keys", "list"),
        ("keys", "register", "--producer", "orders"),
        ("store", "migrate"),
        ("quarantine", "list"),
    ]
    broken = SECRETS | {
        "SEALTRAIL_REGISTRY_URL": f"http://user:{SECRETS['SEALTRAIL_REGISTRY_PASSWORD']}@127.0.0.1:1"
    }
    for env, flags in ((SECRETS, ()), (broken, ("--debug",))):
        for command in commands:
            done = scene.call(*flags, *command, env=env)
            outputs += [done.stdout, done.stderr]
    # And what really opened this stack, in what its processes wrote and in what readers see.
    real = conservation.variables(scene.folder)
    kept = [v for n, v in real.items() if "PASSWORD" in n and v]
    kept += [f.read_text().strip() for f in scene.folder.rglob("*.pass")]
    assert len(kept) >= 4
    for log in scene.folder.rglob("*.log"):
        outputs.append(log.read_text(errors="replace"))
    outputs.append(str(played.quarantine))
    outputs.append(str(played.found))
    text = "\n".join(outputs)
    for secret in [*SECRETS.values(), *kept]:
        assert secret not in text
    happened(
        f"{len(SECRETS) + len(kept)} secrets, {len(text)} characters of {len(outputs)} outputs"
    )


# -- G8: bytes that would run -------------------------------------------------------------

BANNED_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "code"}
BANNED_CALLS = {"eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system"}


def dangers(source: str) -> list[str]:
    """What of a module's text would run bytes from outside."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in BANNED_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            module = node.module or ""
            found += [module] if module.split(".")[0] in BANNED_MODULES else []
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            shell = any(k.arg == "shell" for k in node.keywords)
            found += [name] if name in BANNED_CALLS or shell else []
    return found


@pytest.mark.row("G8")
def test_g8_no_bytes_are_run(played: Played, happened: Say) -> None:
    assert dangers("import pickle\neval('1')\nyaml.load(x)\nrun('x', shell=True)") != []
    files = [f for room in ROOMS for f in (REPOSITORY / room).rglob("*.py")]
    assert len(files) > 100
    found = {str(f): dangers(f.read_text()) for f in files}
    assert {f: names for f, names in found.items() if names} == {}
    # One address, the probes': neither Faust's web server nor anything else.
    assert played.listening == ["127.0.0.1"]
    happened(f"nothing of the kind in {len(files)} files; the worker listens once, on loopback")


# -- G9: private keys -----------------------------------------------------------------------


@pytest.mark.row("G9")
def test_g9_a_key_that_others_may_read_is_refused(scene: Scene, happened: Say) -> None:
    (key,) = (scene.folder / "keys").glob("orders.pem")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    for mode in (0o640, 0o604, 0o660, 0o644, 0o666):
        key.chmod(mode)
        try:
            done = scene.call("emit", "step", "--producer", "orders", "--timeout", "1")
        finally:
            key.chmod(0o600)
        assert done.returncode == 3
        assert "chmod 600" in done.stderr or "others" in done.stderr, done.stderr
    happened("modes 640, 604, 660, 644 and 666 refused")


@pytest.mark.row("G9")
def test_g9_no_core_and_no_key_in_the_repository(scene: Scene, happened: Say) -> None:
    process = subprocess.Popen(
        [*SEALTRAIL, "service", "orders"],
        env=scene.stack.env | {"SEALTRAIL_KAFKA_BOOTSTRAP": "127.0.0.1:1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        limits = Path(f"/proc/{process.pid}/limits")
        deadline = time.monotonic() + 60
        line = ""
        while time.monotonic() < deadline:
            (line,) = [x for x in limits.read_text().splitlines() if x.startswith("Max core file")]
            if line.split()[4] == "0":
                break
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert line.split()[4] == "0", line
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=False
    ).stdout.split(b"\0")
    names = [REPOSITORY / n.decode() for n in tracked if n] or list(REPOSITORY.glob("[!.]*/**/*"))
    private = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=\s]{40}")
    found = [str(f) for f in names if f.is_file() and private.search(f.read_bytes())]
    assert found == []
    happened(f"core files are forbidden; no private key in {len(names)} files")
