"""`sealtrail store` as people run it."""

import json
import os
import subprocess
import sys

from tests.conftest import Stack
from tests.processors.store.making import Make

from sealtrail_processor.store.client import ClickHouseStore
from sealtrail_processor.store.sink import ClickHouseSink


def sealtrail(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SEALTRAIL_")} | stack.env
    start = "from sealtrail.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", start, *arguments]
    return subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False, timeout=60
    )


def test_migrate_twice_and_status(
    stack: Stack, store: ClickHouseStore, sink: ClickHouseSink, maker: Make
) -> None:
    m = maker()
    sink.write(m.flush(m.accept(2)))
    done = sealtrail(stack, "store", "migrate", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"applied": []})
    done = sealtrail(stack, "store", "status", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["pending"] == []
    assert shown["applied"][0] == "0001_events"
    assert {t["table"] for t in shown["tables"]} >= {"events", "batches", "commits"}
    logs = {row["log_id"]: row["committed_offset"] for row in shown["committed"]}
    assert logs[m.log.log_id] == 0
    assert "0001_events" in sealtrail(stack, "store", "status").stdout


def test_a_store_that_is_not_there_is_one_clear_line(stack: Stack) -> None:
    away = Stack(stack.env | {"SEALTRAIL_STORE_URL": "http://127.0.0.1:9"}, stack.state_dir)
    done = sealtrail(away, "store", "status")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "cannot be reached" in done.stderr
    assert len(done.stderr.splitlines()) == 1  # the driver's own logging is kept out
