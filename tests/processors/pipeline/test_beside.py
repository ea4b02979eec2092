"""What runs beside the stream: watchdog, probes, alerts and copies."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema
import pytest
from tests.contract import world
from tests.processors.pipeline.scenes import Scene

from sealtrail.findings import SEVERITIES, Code
from sealtrail_processor.judging.model import Finding, Log, finding_id
from sealtrail_processor.memory import MemoryPublisher
from sealtrail_processor.pipeline.steady_clock import SteadyClock
from sealtrail_processor.pipeline.watchdog import Horizon, Watchdog
from sealtrail_processor.reporting import alerts, logs
from sealtrail_processor.reporting.health import LOOP_DEAD_S, HealthServer, health, readiness
from sealtrail_processor.reporting.metrics import Metrics, Status
from sealtrail_processor.reporting.reports import Reports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

VECTORS = Path(__file__).parents[2] / "vectors"
SCHEMA = VECTORS / "ocsf" / "detection_finding-1.8.0.schema.json.gz"
LOG = Log("cluster-1", world.TOPIC, 1)


@pytest.fixture(scope="module")
def ocsf() -> Any:
    schema = json.loads(gzip.decompress(SCHEMA.read_bytes()))
    return jsonschema.validators.validator_for(schema)(schema)


@pytest.mark.parametrize("code", list(Code))
def test_every_finding_is_an_ocsf_detection_finding(code: Code, ocsf: Any) -> None:
    finding = Finding(
        code, "what\nwas \x1b[31m found", world.digest("c"), 3, world.digest("e")[:16]
    )
    made = alerts.record(LOG, 5, finding, tenant="default", time_us=world.NOW)
    ocsf.validate(made)
    assert made["finding_info"]["types"] == [code.value]
    assert (
        made["severity_id"]
        == ["INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"].index(SEVERITIES[code].value) + 1
    )


def test_alerts_are_one_line_of_ascii_keyed_by_chain() -> None:
    finding = Finding(Code.FORK, "é\n\u2028", world.digest("c"))
    [message] = alerts.messages("provenance.alerts", LOG, [(1, finding, "t", world.NOW)])
    assert message.key == world.digest("c").hex().encode()
    assert message.value is not None
    assert message.value.isascii()
    assert b"\n" not in message.value


def test_a_finding_is_the_same_when_more_is_known_of_it() -> None:
    one = Finding(Code.CAUSALITY, "early", world.digest("c"), 3, b"e" * 16)
    more = Finding(Code.CAUSALITY, "early by 3 s", world.digest("c"), 3, b"e" * 16, bytes(32))
    other = Finding(Code.CAUSALITY, "early", world.digest("c"), 4, b"e" * 16)
    assert finding_id(LOG, 1, one) == finding_id(LOG, 1, more) != finding_id(LOG, 1, other)


class TestHorizon:
    def test_moves_once_all_that_was_there_is_committed(self) -> None:
        horizon = Horizon()
        horizon.observe(100, {0: 5, 1: 7}, {0: 5, 1: 3})
        assert horizon.at == 0
        horizon.observe(200, {0: 9, 1: 9}, {0: 9, 1: 6})
        assert horizon.at == 0
        # Steady traffic: more is on its way, but what was there at 100 is committed.
        horizon.observe(300, {0: 12, 1: 9}, {0: 9, 1: 7})
        assert horizon.at == 100
        horizon.observe(400, {0: 13, 1: 9}, {0: 12, 1: 9})
        assert horizon.at == 300

    def test_a_log_that_begins_anew_is_measured_anew(self) -> None:
        horizon = Horizon()
        horizon.observe(100, {0: 50}, {0: 50})
        horizon.observe(200, {0: 50}, {0: 50})
        assert horizon.at == 100
        horizon.observe(300, {0: 3}, {0: 0})
        assert horizon.at == 100
        horizon.observe(400, {0: 4}, {0: 3})
        assert horizon.at == 300


class TestSteadyClock:
    def test_goes_on_when_the_wall_clock_is_set(self, caplog: pytest.LogCaptureFixture) -> None:
        wall, monotonic = [1_790_000_000 * 10**9], [55 * 10**9]
        clock = SteadyClock(lambda: wall[0], lambda: monotonic[0])
        assert clock() == 1_790_000_000 * 10**6
        for jump in (3_600, -3_600):
            monotonic[0] += 10**9
            wall[0] += (1 + jump) * 10**9
            assert clock.jump_us() == clock.jump_us() == (max(0, jump)) * 10**6
        assert clock() == 1_790_000_002 * 10**6
        assert len(caplog.records) == 2


class TestWatchdog:
    """Lag without progress ends the process; nothing else does."""

    def bites(
        self,
        dog: Watchdog,
        looks: Iterable[float],
        ends: Mapping[int, int],
        done: Callable[[float], Mapping[int, int]],
        own: Sequence[int] = (0,),
        **state: bool,
    ) -> float | None:
        """When it bites, if it does."""
        state = {"waiting": False, "working": False} | state
        for at in looks:
            if dog.observe(at, ends, done(at), own=own, **state)[1]:
                return at
        return None

    def test_bites_after_its_patience(self) -> None:
        assert self.bites(Watchdog(30), range(0, 100, 2), {0: 10}, lambda _: {0: 5}) == 32

    def test_no_lag_no_bite(self) -> None:
        assert self.bites(Watchdog(30), range(0, 200, 2), {0: 5}, lambda _: {0: 5}) is None

    def test_progress_calms_it(self) -> None:
        looks = range(0, 200, 2)
        assert self.bites(Watchdog(30), looks, {0: 10_000}, lambda at: {0: int(at)}) is None

    def test_waiting_for_a_server_is_no_fault(self) -> None:
        dog, looks = Watchdog(30), range(0, 200, 2)
        assert self.bites(dog, looks, {0: 10}, lambda _: {0: 5}, waiting=True) is None
        assert self.bites(dog, [201], {0: 10}, lambda _: {0: 5}) is None

    def test_what_could_not_be_observed_is_no_fault(self) -> None:
        dog = Watchdog(30)
        assert self.bites(dog, (0, 2, 300, 302), {0: 10}, lambda _: {0: 5}) is None

    def test_unassigned_partitions_count(self) -> None:
        ends = {0: 5, 1: 9}
        assert Watchdog(30).observe(0, ends, {0: 5}, own=[0], waiting=False, working=False) == (
            9,
            False,
        )
        # Assigned nothing: as if it were to blame. With its own in order: after the one that is.
        for own, at in (((), 32), ((0,), 62)):
            assert self.bites(Watchdog(30), range(0, 100, 2), ends, lambda _: {0: 5}, own) == at

    def test_its_own_partition_stands_while_others_move(self) -> None:
        found = self.bites(
            Watchdog(30),
            range(0, 200, 2),
            {0: 9_000, 1: 10},
            lambda at: {0: int(at), 1: 5},
            own=[1],
        )
        assert found == 32

    def test_rebalances_give_no_new_patience(self) -> None:
        """The group's offset is behind the store's: it shows while nothing is assigned."""

        def done(at: float) -> Mapping[int, int]:
            return {0: 3 if at % 20 < 4 else 5}

        assert self.bites(Watchdog(30), range(0, 100, 2), {0: 10}, done) == 36

    def test_a_slow_flush_is_work(self) -> None:
        looks = range(0, 600, 2)
        slow = self.bites(
            Watchdog(30),
            looks,
            {0: 9_000, 1: 9_000},
            lambda at: {0: int(at // 60), 1: int(at // 60)},
            own=[0, 1],
            working=True,
        )
        assert slow is None

    def test_a_partition_that_many_turns_pass_by(self) -> None:
        found = self.bites(
            Watchdog(30),
            range(0, 200, 2),
            {0: 9_000, 1: 10},
            lambda at: {0: int(at), 1: 5},
            own=[0, 1],
            working=True,
        )
        assert found == 40

    def test_an_assignment_gives_some_seconds_and_no_more(self) -> None:
        dog, ends = Watchdog(30), {0: 10}
        assert self.bites(dog, range(0, 32, 2), ends, lambda _: {0: 5}) is None
        dog.assigned(31)
        assert self.bites(dog, range(32, 100, 2), ends, lambda _: {0: 5}) == 42


class TestHealth:
    """Probes tell the loop's life apart from the worker's readiness."""

    def test_health_is_the_loops_beat(self) -> None:
        status = Status(loop_beat=100.0)
        assert health(status, 101.0)[0] == 200
        assert health(status, 101.0 + LOOP_DEAD_S)[0] == 503

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({}, 200),
            ({"ready": False}, 503),
            ({"waiting": "store"}, 503),
            ({"stopping": True}, 503),
        ],
    )
    def test_ready_means_assigned_and_moving(self, changes: dict[str, Any], code: int) -> None:
        status = Status(ready=True)
        for name, value in changes.items():
            setattr(status, name, value)
        assert readiness(status)[0] == code

    def test_over_http(self) -> None:
        metrics, status = Metrics(), Status(ready=True, loop_beat=time.monotonic())
        metrics.events.inc(7)
        server = HealthServer("127.0.0.1", 0, metrics, status)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
                told = client.get("/metrics").text
                assert "sealtrail_events_total 7.0" in told
                assert {"process_resident_memory_bytes", "process_open_fds"} <= set(told.split())
                codes = [client.get(p).status_code for p in ("/healthz", "/readyz", "/other")]
            assert codes == [200, 200, 404]
        finally:
            server.close()


class Table:
    """The store's insert, remembered."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def insert(self, table: str, columns: Any, rows: Any, token: str) -> None:
        self.rows += [dict(zip(columns, row, strict=True)) for row in rows]


def reports(publisher: MemoryPublisher, table: Table) -> Reports:
    return Reports(
        table,  # type: ignore[arg-type] # what reports use of a store
        publisher,
        Metrics(),
        alerts_topic="alerts",
        quarantine_topic="quarantine",
        now=lambda: world.NOW,
    )


def test_refused_messages_are_copied_with_dead_letter_headers() -> None:
    scene = Scene()
    scene.append(b"junk", headers=(("traceparent", b"00-1"),))
    scene.run()
    publisher = MemoryPublisher()
    reports(publisher, Table()).committed(scene.told[0])
    copied, alert = publisher.sent
    assert (copied.topic, copied.key, copied.value) == ("quarantine", b"key", b"junk")
    headers = dict(copied.headers)
    assert headers["traceparent"] == b"00-1"
    assert headers["__connect.errors.topic"] == world.TOPIC.encode()
    assert headers["__connect.errors.offset"] == b"0"
    assert headers["__connect.errors.exception.class.name"] == b"MALFORMED"
    assert alert.topic == "alerts"


def test_a_full_queue_never_holds_up_ingest() -> None:
    scene = Scene()
    scene.append(b"junk")
    scene.run()
    reports(MemoryPublisher(room=0), Table()).committed(scene.told[0])


def test_a_flood_of_findings_is_no_flood_of_alerts() -> None:
    table, publisher, metrics = Table(), MemoryPublisher(), Metrics()
    now = [world.NOW // 60_000_000 * 60_000_000]
    told = Reports(
        table,  # type: ignore[arg-type] # what reports use of a store
        publisher,
        metrics,
        alerts_topic="alerts",
        quarantine_topic="quarantine",
        now=lambda: now[0],
        alerts_per_minute=3,
    )
    gaps = [(n, Finding(Code.GAP, "missing", world.digest("c"), n), "default") for n in range(10)]
    told.write(LOG, gaps, "timer")
    told.write(LOG, [(0, Finding(Code.FORK, "two", world.digest("c"), 1), "default")], "timer")
    assert (len(table.rows), len(publisher.sent)) == (11, 4)
    held = metrics.registry.get_sample_value("sealtrail_alerts_held_total", {"code": "GAP"})
    assert held == 7
    now[0] += 60_000_000
    told.write(LOG, gaps[:2], "timer")
    assert len(publisher.sent) == 6


def test_findings_of_no_flush_are_rows_at_once() -> None:
    table, publisher = Table(), MemoryPublisher()
    finding = Finding(Code.GAP, "batches 1 to 2 missing", world.digest("c"), 1)
    reports(publisher, table).write(LOG, [(0, finding, "default")], "timer")
    [row] = table.rows
    assert (row["code"], row["origin"], row["severity"]) == ("GAP", "timer", "HIGH")
    assert len(publisher.sent) == 1


def test_metrics_count_what_became_of_messages() -> None:
    scene = Scene()
    producer = world.Producer()
    first = producer.send(3)
    scene.append(first, first, b"junk")
    scene.run()
    metrics = Metrics()
    metrics.count(scene.told[0])
    sample = metrics.registry.get_sample_value
    assert sample("sealtrail_events_total") == 3
    assert sample("sealtrail_messages_total", {"disposition": "duplicate"}) == 1
    assert sample("sealtrail_findings_total", {"code": "MALFORMED"}) == 1


@pytest.mark.parametrize("form", ["json", "console", "auto"])
def test_log_configurations_are_complete(form: str) -> None:
    made = logs.config(form, "INFO")
    assert made["root"] == {"level": "INFO", "handlers": ["stderr"]}
