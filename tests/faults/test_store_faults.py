"""Rows of the catalogue about the store: half inserts, tokens, windows, parts, a store away."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from tests.attacks import edits
from tests.conftest import free_ports
from tests.crash.worker import POINTS
from tests.faults.gateway import Gateway
from tests.scenarios import conservation
from tests.scenarios.chains import event

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.gateway import Insert
    from tests.faults.line import Line

    Say = Callable[[str], None]

REFUSALS = 3


def store_url(line: Line) -> str:
    return conservation.variables(line.pipeline.folder)["SEALTRAIL_STORE_URL"]


@pytest.mark.row("E4")
def test_e4_inserts_that_end_half_way(line: Line, happened: Say) -> None:
    seen: dict[str, int] = {}

    def cut(insert: Insert) -> bool:
        # Each table's second and third insert: the first ones learn the tables' columns.
        seen[insert.table] = seen.get(insert.table, 0) + 1
        return seen[insert.table] in (2, 3)

    with Gateway(store_url(line), cut) as gateway:
        line.start(store_url=gateway.url)
        wanted = {"ingest", "dispositions", "batches", "payloads", "commits"}
        line.send_until(lambda: wanted <= {insert.table for insert in gateway.broken})
        line.drained()
        line.stop()
        tables = {insert.table for insert in gateway.broken}
    happened(f"{len(gateway.broken)} inserts broken off in {sorted(tables)}; {line.law()}")


@pytest.mark.row("E4")
def test_e4_each_insert_stays_within_one_partition(line: Line, happened: Say) -> None:
    """History of 30 years, sent at once: a block across its months would be refused or torn."""
    day = 86_400 * 1_000_000
    chain = line.chain()
    made = chain.make([event(at=n * 30 * day, backfill=True) for n in range(365)])
    line.start()
    line.publish(made.value)
    line.sent += 365
    line.drained()
    line.stop()
    months = line.number("SELECT uniqExact(toYYYYMM(occurred_at)) FROM provenance.events")
    parts = line.number(
        "SELECT uniqExact(partition) FROM system.parts WHERE active AND table = 'events'"
    )
    assert months > 300
    assert parts <= 2
    happened(f"events of {months} months in {parts} partition(s); {line.law()}")


@pytest.mark.row("E5")
def test_e5_too_many_parts(line: Line, happened: Say) -> None:
    (port,) = free_ports(1)
    line.start(health_port=str(port))
    line.send(500)
    line.drained()
    line.sql("SYSTEM STOP MERGES sealtrail.events")
    line.sql("ALTER TABLE events MODIFY SETTING parts_to_throw_insert = 1")
    try:
        before = line.pipeline.committed()
        line.send(500)
        # Refused, told by the engine's own name, and tried again.
        line.wait(lambda: "TOO_MANY_PARTS" in line.waits_for(port))
        line.wait(lambda: line.metric(port, "sealtrail_flush_failures_total") >= REFUSALS)
        assert line.pipeline.committed() == before
        assert line.worker is not None
        assert line.worker.poll() is None
    finally:
        line.sql("ALTER TABLE events RESET SETTING parts_to_throw_insert")
        line.sql("SYSTEM START MERGES sealtrail.events")
    line.drained()
    line.stop()
    happened(f"{REFUSALS} times TOO_MANY_PARTS, told, nothing committed; then {line.law()}")


@pytest.mark.row("E6", "E8")
def test_e6_e8_what_each_insert_says(line: Line, happened: Say) -> None:
    with Gateway(store_url(line)) as gateway:
        line.start(store_url=gateway.url)
        line.send_until(lambda: len(gateway.inserts) > 30)
        line.drained()
        line.stop()
    by_token: dict[tuple[str, str], set[str]] = {}
    for insert in gateway.inserts:
        assert insert.token, insert
        # The driver leaves out what the server lets nobody change.
        assert insert.settings.get("async_insert", "0") == "0", insert
        by_token.setdefault((insert.table, insert.token), set()).add(insert.digest)
    assert [t for t, digests in by_token.items() if len(digests) > 1] == []
    asked = sum("async_insert" in insert.settings for insert in gateway.inserts)
    (fixed,) = line.pipeline.sql(
        "SELECT value, readonly FROM system.settings WHERE name = 'async_insert'"
    )
    assert asked == len(gateway.inserts) or (fixed["value"], fixed["readonly"]) == ("0", 1)
    # The danger is real: the engine drops other rows under a token that it has seen.
    table = "(n UInt8) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window=9"
    line.sql(f"CREATE TABLE sealtrail.danger {table}")
    for number in (1, 2):
        token = "insert_deduplication_token = 'same'"
        line.sql(f"INSERT INTO sealtrail.danger SETTINGS {token} VALUES ({number})")
    dropped = 2 - line.number("SELECT count() FROM sealtrail.danger")
    line.sql("DROP TABLE sealtrail.danger")
    happened(
        f"{len(gateway.inserts)} inserts, {len(by_token)} tokens, none for two contents, all "
        f"synchronous (the engine drops {dropped} of 2 rows under one token); {line.law()}"
    )


@pytest.mark.row("E7")
def test_e7_a_flush_done_again_after_the_window(line: Line, happened: Say) -> None:
    tables = [*edits.TABLES, "commits"]
    for table in tables:
        line.sql(f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 0")
        line.sql(f"SYSTEM STOP MERGES sealtrail.{table}")
    try:
        crashing = line.start("before-commit")
        line.died(crashing)
        line.start()
        line.drained()
        line.stop()
        twice = line.number("SELECT count() - uniqExact(chain_id, seq, branch) FROM events")
    finally:
        for table in tables:
            line.sql(f"ALTER TABLE {table} RESET SETTING non_replicated_deduplication_window")
            line.sql(f"SYSTEM START MERGES sealtrail.{table}")
    assert twice > 0
    happened(f"{twice} rows stood twice below the views; {line.law()}")


@pytest.mark.row("E12")
@pytest.mark.parametrize("point", POINTS)
def test_e12_killed_between_two_steps(line: Line, point: str, happened: Say) -> None:
    crashing = line.start(point)
    line.died(crashing)
    line.start()
    line.drained()
    line.stop()
    happened(f"killed {point}: {line.law()}")


@pytest.mark.row("E17")
def test_e17_asked_to_stop_while_the_store_is_away(line: Line, happened: Say) -> None:
    with Gateway(store_url(line)) as gateway:
        line.start(store_url=gateway.url)
        line.send(300)
        line.drained()
        # What follows the last commit is asked for, too.
        line.wait(lambda: not gateway.unanswered)
        store = line.pid("store")
        os.kill(store, signal.SIGSTOP)
        try:
            feeder = line.feed(300)
            line.wait(lambda: gateway.unanswered > 0)
            seconds = line.stop()
            feeder.communicate(timeout=300)
        finally:
            os.kill(store, signal.SIGCONT)
    assert seconds < 10
    # What stands in the store is what was committed before: nothing is ahead of it.
    law = conservation.check(line.pipeline.folder, drained=False)
    assert law.differences == []
    assert law.events == line.sent - 300
    line.start()
    line.drained()
    line.stop()
    happened(f"ended after {seconds:.1f} s, nothing committed; then {line.law()}")
