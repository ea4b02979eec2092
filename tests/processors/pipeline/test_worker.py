"""The worker as a process, over the embedded stack and the real SDK."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from tests.conftest import free_ports
from tests.producers.softhsm import ORDERS, Hsm

from sealtrail.event import EntityRef, EventType
from sealtrail_processor.judging.model import Log
from sealtrail_processor.store import rebuild
from sealtrail_processor.store.client import ClickHouseStore
from sealtrail_producer import Trail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.conftest import Stack

SEALTRAIL = str(Path(sys.executable).with_name("sealtrail"))
TOPIC = "provenance.events"
PRODUCER = "pipeline-test"
WORKER = (SEALTRAIL, "worker")
# A worker that is killed when it has sent what was parked, before it has written that down.
KILLED = """
import os, signal, sys
from sealtrail.cli import main
from sealtrail_processor.store.client import ClickHouseStore

whole = ClickHouseStore.insert

def insert(store, table, *row):
    if table == "quarantine_acts":
        os.kill(os.getpid(), signal.SIGKILL)
    whole(store, table, *row)

ClickHouseStore.insert = insert
sys.argv[1:] = ["worker"]
main()
"""


class Bench:
    """Processes around one stack, with a consumer group of their own."""

    def __init__(self, stack: Stack, log: Path) -> None:
        self.log = log
        self.group = f"pipeline-{uuid.uuid4().hex[:8]}"
        [port] = free_ports(1)
        self.health = f"http://127.0.0.1:{port}"
        plain = {k: v for k, v in os.environ.items() if not k.startswith("SEALTRAIL_")}
        self.settings = stack.env | {
            "SEALTRAIL_GROUP": self.group,
            "SEALTRAIL_HEALTH_PORT": str(port),
            "SEALTRAIL_SESSION_TIMEOUT_S": "6",
        }
        self.env = plain | self.settings
        self.kafka = {"bootstrap.servers": stack.env["SEALTRAIL_KAFKA_BOOTSTRAP"]}
        self.store = ClickHouseStore(
            stack.env["SEALTRAIL_STORE_URL"],
            stack.env["SEALTRAIL_STORE_USER"],
            stack.env["SEALTRAIL_STORE_PASSWORD"],
        )

    def run(self, *args: str) -> Any:
        """A command of ours; what it prints as JSON."""
        done = subprocess.run(
            [SEALTRAIL, *args, "--json"], env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    @contextmanager
    def worker(self, command: Sequence[str] = WORKER) -> Iterator[subprocess.Popen[bytes]]:
        """A worker that is ready; it is asked to stop at the end."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
        try:
            self.wait_for(self.ready, process)
            yield process
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=10) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def ready(self) -> bool:
        """Whether the worker says so."""
        try:
            return httpx.get(f"{self.health}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def answers(self) -> bool:
        """Whether its probes answer at all."""
        try:
            return httpx.get(f"{self.health}/readyz", timeout=2).status_code > 0
        except httpx.TransportError:
            return False

    def wait_for(
        self, what: Callable[[], Any], process: subprocess.Popen[bytes], seconds: float = 120
    ) -> None:
        """Wait until something is true, while a worker lives."""
        end = time.monotonic() + seconds
        while not what():
            assert process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.2)

    def number(self, sql: str, **values: Any) -> int:
        """The one number that a question has for an answer."""
        return int(self.store.query(f"SELECT {sql}", values)[0][0])

    def events(self, activity: str) -> int:
        """Events that readers see."""
        return self.number("count() FROM provenance.events WHERE activity = {a:String}", a=activity)

    def disposed(self, name: str) -> int:
        """Offsets of which became this."""
        return self.number("count() FROM dispositions FINAL WHERE disposition = {d:String}", d=name)

    def found(self, code: str) -> int:
        """Findings with this code."""
        return self.number("count() FROM findings FINAL WHERE code = {c:String}", c=code)

    def on_topic(self, topic: str) -> list[tuple[int, Any]]:
        """All messages of a topic as (partition, message with value and headers)."""
        reader = Consumer(self.kafka | {"group.id": "test-reader", "enable.auto.commit": False})
        with closing(reader):
            known = reader.list_topics(topic, timeout=10).topics[topic].partitions
            ends = {n: reader.get_watermark_offsets(TopicPartition(topic, n))[1] for n in known}
            reader.assign([TopicPartition(topic, n, 0) for n, end in ends.items() if end])
            found: list[tuple[int, Any]] = []
            while len(found) < sum(ends.values()):
                message = reader.poll(10)
                assert message is not None, f"{topic}: {len(found)} of {ends}"
                assert message.error() is None
                value, headers = message.value(), tuple(message.headers() or ())
                found.append((message.partition(), SimpleNamespace(value=value, headers=headers)))
        return found

    def produce(self, partition: int, value: bytes | None, **more: Any) -> None:
        """A message by anybody."""
        producer = Producer(self.kafka)
        producer.produce(TOPIC, value, partition=partition, **more)
        assert producer.flush(10) == 0


@pytest.fixture
def bench(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(stack, tmp_path / "worker.log")
    for name, value in made.settings.items():
        monkeypatch.setenv(name, value)
    made.run("store", "migrate")
    made.run("keys", "setup-dev", "--producer", PRODUCER)
    yield made
    made.store.close()


def emit(activity: str, count: int, instance: str = "") -> None:
    """Events of the SDK, each but the first with the one before it as its parent."""
    with Trail.from_env(producer=PRODUCER, instance=instance or uuid.uuid4().hex) as trail:
        before = None
        for number in range(count):
            before = trail.emit(
                activity,
                event_type=EventType.TRANSFORM,
                outputs=[EntityRef("test", f"thing/{number}")],
                parents=[] if before is None else [before.reference],
            )
        trail.flush(timeout=30)


def last_batch(bench: Bench) -> tuple[int, bytes]:
    """The last message that holds events, with its partition."""
    taken = [(n, m.value) for n, m in bench.on_topic(TOPIC) if m.value and len(m.value) > 1000]
    return taken[-1]


def test_from_the_sdk_to_views_links_alerts_and_back_out_of_quarantine(bench: Bench) -> None:
    activity = f"test.{bench.group}"
    late = f"late-{bench.group}"
    with bench.worker() as process:
        emit(activity, 300)
        bench.wait_for(lambda: bench.events(activity) == 300, process)
        verified = (
            "count() FROM provenance.links WHERE verdict = 'VERIFIED' AND child_id IN "
            "(SELECT event_id FROM provenance.events WHERE activity = {a:String})"
        )
        bench.wait_for(lambda: bench.number(verified, a=activity) == 299, process)

        number, value = last_batch(bench)
        duplicates = bench.disposed("duplicate")
        bench.produce(number, value)
        bench.wait_for(lambda: bench.disposed("duplicate") == duplicates + 1, process)

        forged = bench.found("BAD_ROOT")
        bench.produce(number, value[:-20] + bytes([value[-20] ^ 1]) + value[-19:])
        bench.wait_for(lambda: bench.found("BAD_ROOT") == forged + 1, process)
        bench.wait_for(lambda: bench.on_topic("provenance.quarantine"), process)
        copied = bench.on_topic("provenance.quarantine")[-1][1]
        assert dict(copied.headers)["__connect.errors.exception.class.name"] == b"BAD_ROOT"
        alert = json.loads(bench.on_topic("provenance.alerts")[-1][1].value)
        assert alert["finding_info"]["types"] == ["BAD_ROOT"]

        malformed = bench.found("MALFORMED")
        bench.produce(number, None)
        bench.produce(number, value, headers={"Faust-Ag-ReplyTo": b"provenance.events"})
        bench.wait_for(lambda: bench.found("MALFORMED") == malformed + 2, process)

        bench.run("keys", "new", "--producer", late)
        bench.run("emit", late, "--producer", late)
        parked = [q for q in bench.run("quarantine", "list") if q["code"] == "UNKNOWN_KEY"]
        while not parked:
            time.sleep(0.2)
            parked = [q for q in bench.run("quarantine", "list") if q["code"] == "UNKNOWN_KEY"]
        shown = bench.run("quarantine", "show", parked[-1]["id"])
        assert shown["statement"]["producer"] == late
        bench.run("keys", "register", "--producer", late)
        bench.wait_for(lambda: bench.events(late) == 1, process)
        assert bench.disposed("released") >= 1
        metrics = httpx.get(f"{bench.health}/metrics").text
        assert "sealtrail_lag_messages" in metrics


def test_what_was_parked_beyond_its_bytes_comes_back_from_the_topic(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, in order, with its first arrival, although the worker is killed in between."""
    late, count = f"later-{bench.group}", 40
    bench.env["SEALTRAIL_PARKED_BYTES_PER_HOUR"] = "1"
    bench.run("keys", "new", "--producer", late)
    lost = bench.found("DATA_LOSS_WINDOW")

    def parked() -> dict[str, dict[str, Any]]:
        rows = bench.run("quarantine", "list", "--code", "UNKNOWN_KEY", "--limit", "1000")
        return {q["id"]: q for q in rows}

    with bench.worker((sys.executable, "-c", KILLED)) as process:
        known = parked()
        monkeypatch.setenv("SEALTRAIL_BATCH_EVENTS", "1")
        with Trail.from_env(producer=late, instance="a") as trail:
            for _ in range(count):
                trail.emit(late, event_type=EventType.TRANSFORM)
            trail.flush(timeout=30)
        bench.wait_for(lambda: len(parked().keys() - known) >= count, process)
        ours = {name: q for name, q in parked().items() if name not in known}
        assert all(q["detail"].startswith("not kept: ") for q in ours.values())
        shown = bench.run("quarantine", "show", next(iter(ours)))
        assert shown["statement"]["producer"] == late
        duplicates = bench.disposed("duplicate")
        bench.run("keys", "register", "--producer", late)
        assert process.wait(timeout=120) == -signal.SIGKILL
    with bench.worker() as process:
        bench.wait_for(lambda: bench.events(late) >= count, process)
        bench.wait_for(lambda: not parked().keys() & ours, process)
        batches = bench.store.query(
            "SELECT batch_seq, toUnixTimestamp64Micro(arrival) FROM committed_batches "
            "WHERE producer = {p:String} ORDER BY offset",
            {"p": late},
        )
        assert bench.events(late) == count
        # All were sent twice.
        bench.wait_for(lambda: bench.disposed("duplicate") >= duplicates + count, process)
        assert [number for number, _ in batches] == list(range(len(batches)))
        assert {at for _, at in batches} <= {q["arrival"] for q in ours.values()}
        assert bench.found("DATA_LOSS_WINDOW") == lost


def test_acts_on_quarantined_messages_are_signed_events(bench: Bench) -> None:
    """Replayed, dismissed, and told in the control chain; what is not committed is not listed."""

    def control(activity: str) -> list[tuple[Any, ...]]:
        return bench.store.query(
            "SELECT inputs.name, outputs.name, length(parents.event_id), attributes "
            "FROM committed_events WHERE producer = 'sealtrail-control' AND activity = {a:String} "
            "ORDER BY arrival",
            {"a": activity},
        )

    def open_ids() -> list[str]:
        return [q["id"] for q in bench.run("quarantine", "list", "--code", "MALFORMED")]

    bench.env["SEALTRAIL_QUARANTINE_BYTES_PER_HOUR"] = "60"
    with bench.worker() as process:
        known = set(open_ids())
        bench.produce(2, b"no batch at all")
        bench.wait_for(lambda: set(open_ids()) - known, process)
        (name,) = set(open_ids()) - known
        shown = bench.run("quarantine", "show", name)
        assert shown["failed_step"] == "1: size and framing"
        assert shown["unreadable"].startswith("framing")
        assert shown["next"].startswith("Nothing that producers")

        (sent,) = bench.run("quarantine", "replay", name)
        again = f"{name.rpartition(':')[0]}:{sent['new_offset']}"
        bench.wait_for(lambda: again in open_ids(), process)
        bench.wait_for(lambda: control("quarantine.replay.done"), process)
        assert control("quarantine.replay")[-1] == ([name], [], 0, {})
        assert control("quarantine.replay.done")[-1] == ([name], [again], 1, {})
        assert name not in open_ids()
        (first,) = [q for q in bench.run("quarantine", "list", "--all") if q["id"] == name]
        (second,) = [q for q in bench.run("quarantine", "list", "--all") if q["id"] == again]
        assert (first["state"], second["state"]) == ("released", "quarantined")
        assert first["arrival"] == second["arrival"]  # it came when it came first

        # With its headers it was too much for the hour: its bytes are read from the topic.
        assert second["detail"].startswith("not kept: 15 bytes; ")
        assert second["bytes"] == first["bytes"] == 15
        assert bench.run("quarantine", "show", again)["unreadable"].startswith("framing")
        (sent,) = bench.run("quarantine", "replay", again)
        again = f"{name.rpartition(':')[0]}:{sent['new_offset']}"
        bench.wait_for(lambda: again in open_ids(), process)

        (gone,) = bench.run("quarantine", "dismiss", again, "--reason", "junk")
        assert gone == {"id": again, "state": "dismissed"}
        assert again not in open_ids()
        bench.wait_for(lambda: control("quarantine.dismiss.done"), process)
        assert control("quarantine.dismiss")[-1] == ([again], [], 0, {"reason": "junk"})
        acts = bench.run("quarantine", "show", again)["acts"]
        assert [(a["act"], a["new_offset"]) for a in acts] == [("dismissed", 0)]
        # Rows that a flush left behind without its commit are not there for anybody.
        bench.store.command(
            "INSERT INTO sealtrail.quarantine SELECT log_id, topic, partition, "
            "offset + 1000000 AS offset, arrival, key, value, headers, disposition, code, step, "
            "detail FROM sealtrail.quarantine LIMIT 1"
        )
        assert not [q for q in bench.run("quarantine", "list", "--all") if "1000000" in q["id"]]
        bench.store.command(
            "ALTER TABLE sealtrail.quarantine DELETE WHERE offset >= 1000000 "
            "SETTINGS mutations_sync = 2"
        )


def test_what_a_key_in_a_token_signs_is_accepted_and_its_rotation_too(
    bench: Bench, tmp_path: Path
) -> None:
    """The key never leaves the token; the service is told of another one by a file."""
    name = f"in-a-token-{bench.group}"
    hsm = Hsm(tmp_path)
    pointer = tmp_path / "orders.key"
    pointer.write_text(f"{ORDERS}\n")
    pointer.chmod(0o600)
    own = hsm.env | {"SEALTRAIL_PKCS11_PIN": hsm.pin, "SEALTRAIL_KEY_FILE": str(pointer)}
    bench.env |= own
    with bench.worker() as process:
        (record,) = bench.run("keys", "register", "--producer", name)
        bench.run("emit", name, "--producer", name)
        bench.wait_for(lambda: bench.events(name) == 1, process)
        begins, ends = bench.run(
            "keys", "rotate", "--producer", name, "--to", f"{ORDERS}-2", "--overlap", "60"
        )
        assert ends["fingerprint"] == record["fingerprint"] != begins["fingerprint"]
        assert pointer.read_text() == f"{ORDERS}-2\n"
        bench.run("emit", name, "--producer", name)
        bench.wait_for(lambda: bench.events(name) == 2, process)
    rows = bench.store.query(
        "SELECT signers FROM committed_batches WHERE producer = {p:String} ORDER BY arrival",
        {"p": name},
    )
    signers = [bytes(row[0][0]).hex() for row in rows]
    assert signers == [record["fingerprint"], begins["fingerprint"]]
    assert hsm.pin not in bench.log.read_text(errors="replace")


def test_the_stores_cursor_counts_whatever_the_group_says(bench: Bench) -> None:
    """With the group's commit absent, behind, equal and ahead: nothing twice, nothing left out."""
    activity = f"test.cursor.{bench.group}"
    before = bench.number("count() FROM dispositions")

    def judged_once() -> bool:
        offsets = bench.number("uniqExact(log_id, partition, offset) FROM dispositions")
        return offsets == bench.number("count() FROM dispositions")

    with bench.worker() as process:
        assert bench.number("count() FROM dispositions") == before  # absent
        emit(activity, 3, instance=bench.group)
        bench.wait_for(lambda: bench.events(activity) == 3, process)
        emit(activity, 3, instance=bench.group)
        bench.wait_for(lambda: bench.events(activity) == 6, process)
        process.kill()  # before the group's next commit, which stays behind
        process.wait()
    with bench.worker() as process:
        emit(activity, 3, instance=bench.group)
        bench.wait_for(lambda: bench.events(activity) == 9, process)
        time.sleep(2)  # the group commits
    assert judged_once()
    with bench.worker():
        assert judged_once()  # equal
    [where] = bench.store.query(
        "SELECT DISTINCT log_id, topic, partition FROM batches WHERE instance = {i:String}",
        {"i": bench.group},
    )
    end = rebuild.cursor(bench.store, Log(*where))
    # The store forgets its commits: the group's are ahead of it now.
    bench.store.command(
        f"ALTER TABLE sealtrail.commits DELETE WHERE log_id = '{where[0]}' "
        f"AND partition = {where[2]} SETTINGS mutations_sync = 2"
    )
    assert rebuild.cursor(bench.store, Log(*where)) is None
    with bench.worker() as process:
        bench.wait_for(lambda: rebuild.cursor(bench.store, Log(*where)) == end, process)
    assert bench.events(activity) == 9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_it_has_hardly_begun(bench: Bench, number: signal.Signals) -> None:
    with bench.log.open("ab") as log:
        process = subprocess.Popen([SEALTRAIL, "worker"], env=bench.env, stdout=log, stderr=log)
    try:
        # Its probes answer before Faust listens for signals.
        bench.wait_for(bench.answers, process)
        process.send_signal(number)
        assert process.wait(timeout=10) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_it_stops_in_time_while_the_store_is_away(bench: Bench, stack: Stack) -> None:
    with bench.worker() as process:
        status = bench.run("local", "status")
        store = next(s["pid"] for s in status if s["service"] == "store")
        os.kill(store, signal.SIGSTOP)
        try:
            emit(f"test.away.{bench.group}", 1)
            time.sleep(2)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0
            assert time.monotonic() - began < 10
        finally:
            os.kill(store, signal.SIGCONT)
    with bench.worker() as process:
        bench.wait_for(lambda: bench.events(f"test.away.{bench.group}") == 1, process)
