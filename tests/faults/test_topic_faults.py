"""Rows of the catalogue about brokers, the registry and files: lost, away, overwritten."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.conftest import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.line import Line

    Say = Callable[[str], None]


@pytest.mark.row("E14")
def test_e14_files_of_the_worker_are_overwritten(line: Line, happened: Say) -> None:
    line.start()
    line.send(300)
    line.drained()
    line.kill()
    files = [f for f in (line.pipeline.folder / "worker").rglob("*") if f.is_file()]
    for number, file in enumerate(files):
        file.write_bytes((b"", b"\xff" * 4096, b'{"a": 1')[number % 3])
    chain = line.chain()
    made = chain.make(3)
    line.start()
    line.publish(made.value)
    line.sent += 3
    line.send(300)
    line.drained()
    before = line.number("SELECT count() FROM dispositions FINAL WHERE disposition = 'duplicate'")
    line.publish(made.value)
    line.wait(
        lambda: (
            line.number("SELECT count() FROM dispositions FINAL WHERE disposition = 'duplicate'")
            == before + 1
        )
    )
    line.stop()
    happened(f"{len(files)} files overwritten, state read from the store; {line.law()}")


@pytest.mark.row("E16")
def test_e16_the_registry_is_away(line: Line, happened: Say) -> None:
    line.start()
    line.send(100)
    line.kill_server("registry")
    # In the middle, and at the start of both sides.
    line.send(200)
    line.drained()
    line.stop()
    line.start()
    line.send(200)
    line.drained()
    line.stop()
    line.pipeline.sealtrail("local", "up")
    happened(f"sent, started and stored without a registry; {line.law()}")


@pytest.mark.row("E20")
def test_e20_nobody_takes_the_alerts(line: Line, happened: Say) -> None:
    (port,) = free_ports(1)
    line.worker = line.pipeline.worker("unheard", health_port=str(port))
    before = line.number("SELECT count() FROM findings FINAL")
    bad = 300
    began = time.monotonic()
    for number in range(bad):
        line.publish(b"no batch %d" % number)
    line.send(500)
    line.drained()
    line.wait(lambda: line.number("SELECT count() FROM findings FINAL") == before + bad)
    seconds = time.monotonic() - began
    # An alert and a copy of each.
    line.wait(lambda: line.metric(port, "sealtrail_undelivered") == 2 * bad)
    line.stop()
    happened(
        f"{bad} findings and 500 events stored in {seconds:.1f} s; {2 * bad} alerts and copies "
        f"counted as undelivered; {line.law()}"
    )


@pytest.mark.row("E21")
def test_e21_two_processes_with_one_identity(line: Line, happened: Say) -> None:
    line.start()
    line.sent += 1_200
    # Slowly, so that both live at the same time on any machine.
    never = line.pipeline.folder / "never"
    for feeder in [line.pipeline.feeder("twin", 600, 60, never) for _ in range(2)]:
        feeder.communicate(timeout=300)
        assert feeder.returncode == 0
    line.drained()
    line.stop()
    rows = line.pipeline.sql(
        "SELECT instance, uniqExact(chain_id) AS chains, count() AS n FROM provenance.events "
        "WHERE startsWith(instance, 'twin') GROUP BY instance ORDER BY instance"
    )
    assert [(r["instance"], r["chains"], r["n"]) for r in rows] == [
        ("twin", 1, 600),
        ("twin.1", 1, 600),
    ]
    assert [f for f in line.findings() if f["code"] in ("FORK", "GAP")] == []
    happened(f"the second is twin.1, with a chain of its own; no FORK; {line.law()}")


@pytest.mark.row("E15")
def test_e15_the_topics_are_lost(line: Line, happened: Say) -> None:
    line.start()
    chain = line.chain()
    old = chain.make(3)
    line.publish(old.value)
    line.sent += 3
    line.drained()
    keys = line.number("SELECT count() FROM key_records")
    query = "SELECT count() FROM dispositions FINAL WHERE disposition = 'duplicate'"
    before = line.number(query)
    line.kill_server("broker")
    line.pipeline.sealtrail("local", "up")
    line.kill()
    line.start()
    line.publish(old.value)
    new = chain.make(3)
    line.publish(new.value)
    line.sent += 3
    line.drained()
    assert line.number(query) == before + 1
    line.stop()
    happened(f"broker and all topics gone, {keys} key records from the store; {line.law()}")
