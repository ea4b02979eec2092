"""The servers and processes of a measurement, driven from outside as an operator would.

A folder, an embedded stack on free ports (or servers that are given by the environment), tables, a
producer's key; processes that end with it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sealtrail import connections
from sealtrail.cli import FINDINGS, OK
from sealtrail.errors import UnavailableError
from sealtrail.settings import CommonSettings, load
from sealtrail_bench.generator import Generator, Where
from sealtrail_local import addresses
from sealtrail_local.demo import surroundings
from sealtrail_processor.settings import WorkerSettings
from sealtrail_processor.store.opening import open_store
from sealtrail_producer import keyring
from sealtrail_producer.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sealtrail.dsse import Signer
    from sealtrail_processor.store.port import Store

PRODUCER = "bench"
S = TypeVar("S", bound=CommonSettings)
STOP_S = 20.0
MADE_S = 10.0
ASSIGNED_S = 120.0
# Between two merges there is a moment without one.
SETTLED_S, QUIET_LOOKS = 240.0, 5


class Rig:
    """Everything that a measurement runs on.

    Args:
        changes: further SEALTRAIL_* variables.
        topics: further topics that the embedded broker makes; a real one makes them when asked.
        real: Apache Kafka and Apicurio Registry instead of the embedded broker and registry.
    """

    def __init__(
        self,
        changes: Mapping[str, str] | None = None,
        *,
        topics: Sequence[str] = (),
        real: bool = False,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sealtrail-bench-"))
        # What the stack calls the one that it has.
        self.broker = "broker-1" if real else "broker"
        self._up = ("local", "up", "--real", "--brokers", "1") if real else ("local", "up")
        kafka = addresses.ports(0, 1) if real else (0,)
        self.env = surroundings.environment(os.environ, self.folder / "state", kafka)
        # Nothing of a measurement may be taken for a fault of the producers.
        self.env |= {"SEALTRAIL_HEALTH_PORT": "0", "SEALTRAIL_PARTITIONS": "16"}
        self.env |= {"SEALTRAIL_LOCAL_TOPICS": json.dumps(list(topics)), **(changes or {})}
        (self.folder / "state").mkdir()
        self._log = (self.folder / "commands.log").open("ab")
        self._running: list[subprocess.Popen[bytes]] = []
        self._store: Any = None

    def __enter__(self) -> Self:
        try:
            self.command(*self._up)
            self.command("store", "migrate")
            self.command("keys", "setup-dev", "--producer", PRODUCER)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for process in reversed(self._running):
            self.stop(process)
        if self._store is not None:
            self._store.close()
        with suppress(UnavailableError):
            self.command("local", "down")
        self._log.close()
        if exc and exc[0] is not None:
            for file in sorted(self.folder.glob("*.log"), key=lambda f: f.stat().st_mtime)[-3:]:
                sys.stderr.write(f"{file.name}: {file.read_text(errors='replace')[-1500:]}\n")
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what it is -------------------------------------------------------------------------------

    def load(self, kind: type[S]) -> S:
        """The settings of a room as the processes here have them."""
        return load(kind, self.env)

    @property
    def worker_settings(self) -> WorkerSettings:
        """The settings that a worker here has."""
        return self.load(WorkerSettings)

    @property
    def store(self) -> Store:
        """The store, as its writer."""
        if self._store is None:
            self._store = open_store(self.worker_settings)
        found: Store = self._store
        return found

    def topic(self, name: str) -> int:
        """Make a topic; how many partitions it has.

        Raises:
            UnavailableError: there is none.
        """
        from confluent_kafka import Consumer
        from confluent_kafka.admin import AdminClient, NewTopic

        from sealtrail_processor.pipeline.wiring import kafka_config

        settings = self.worker_settings
        config: dict[str, Any] = {**kafka_config(settings)}
        # Held: what it is asked for ends with it.
        admin = AdminClient(config)
        made = admin.create_topics([NewTopic(name, settings.partitions, 1)], request_timeout=10)
        # Not raised: its traceback would hold the client, and that one would complain of a broker
        # that is stopped by now.
        refused = made[name].exception()
        # The embedded broker knows no such request: it has made the topics that it was told of.
        client = Consumer(config | {"group.id": "bench"})
        try:
            found = client.list_topics(name, timeout=10).topics[name]
            end = time.monotonic() + MADE_S
            # A real broker has made it before all that it answers with know of it.
            while not found.partitions and time.monotonic() < end:
                time.sleep(0.1)
                found = client.list_topics(name, timeout=10).topics[name]
        finally:
            client.close()
        if not found.partitions:
            raise UnavailableError(f"topic {name} was not made: {refused or found.error}")
        return len(found.partitions)

    def authorise(self, topic: str) -> None:
        """Let the producer's key speak on a topic from now on, and allow the event schema there.

        Raises:
            UnavailableError: the records are not published.
        """
        on = {"SEALTRAIL_TOPIC": topic}
        self.command("keys", "setup-dev", "--producer", PRODUCER, changes=on)

    def group(self, name: str, topic: str) -> str:
        """A consumer group that has consumed what is there, so that feeders know how far it is.

        A group without a commit would look as if it still had the whole log to read. (Where
        reading begins is another question: the pipeline begins where the store's commits end.)
        """
        from confluent_kafka import Consumer, TopicPartition

        from sealtrail_processor.pipeline.wiring import kafka_config

        group = f"bench-{name}-{time.time_ns()}"
        config: dict[str, Any] = {**kafka_config(self.worker_settings), "group.id": group}
        client = Consumer(config)
        try:
            numbers = client.list_topics(topic, timeout=10).topics[topic].partitions
            ends = [
                TopicPartition(topic, n, client.get_watermark_offsets(TopicPartition(topic, n))[1])
                for n in numbers
            ]
            client.commit(offsets=ends, asynchronous=False)
        finally:
            client.close()
        return group

    def signer(self) -> Signer:
        """The producer's key."""
        settings = self.load(ProducerSettings)
        (signer,) = keyring.open_all(keyring.references(settings, PRODUCER), settings)
        return signer

    def generator(
        self, seed: int, chains: int, instance: str, span_us: int, *, topic: str = ""
    ) -> Generator:
        """Batches for this place, signed with the producer's key.

        Args:
            seed: of the events.
            chains: how many.
            instance: begins the chains' names.
            span_us: how far their clocks will have come at the end; they end about now.
            topic: another than the settings'.
        """
        settings = self.load(ProducerSettings)
        where = Where(
            settings.environment,
            settings.tenant,
            topic or settings.topic,
            settings.partitions,
            PRODUCER,
        )
        signer = self.signer()
        start = time.time_ns() // 1000 - span_us - 1_000_000
        return Generator(where, signer, seed=seed, chains=chains, instance=instance, start_us=start)

    def post(self, body: bytes) -> bytes:
        """One statement, with its data, to the store's HTTP interface as it is; the answer.

        Raises:
            UnavailableError: the store refuses it.
        """
        import httpx

        settings = self.worker_settings
        headers = {
            "X-ClickHouse-User": settings.store_user,
            "X-ClickHouse-Key": settings.store_password.get_secret_value(),
        }
        answer = httpx.post(
            settings.store_url,
            content=body,
            headers=headers,
            timeout=300,
            trust_env=False,
            verify=connections.store_context(settings),
        )
        if answer.status_code != httpx.codes.OK:
            raise UnavailableError(f"the store refuses: {answer.text[:300]}")
        return answer.content

    # -- processes --------------------------------------------------------------------------------

    def command(self, *arguments: str, changes: Mapping[str, str] | None = None) -> str:
        """Run a `sealtrail` command; what it printed. An audit that finds something is no failure.

        Raises:
            UnavailableError: it failed.
        """
        done = subprocess.run(
            [sys.executable, "-c", "from sealtrail.cli import main; main()", *arguments],
            env=self.env | dict(changes or {}),
            stdout=subprocess.PIPE,
            stderr=self._log,
            check=False,
        )
        if done.returncode not in (OK, FINDINGS):
            log = (self.folder / "commands.log").read_text(errors="replace").strip()
            raise UnavailableError(
                f"`sealtrail {' '.join(arguments)}` ended with {done.returncode}", hint=log[-300:]
            )
        return done.stdout.decode()

    def start(
        self,
        module: str,
        *arguments: str,
        pipe: bool = False,
        changes: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a module as a process that stays.

        Args:
            module: of this room.
            arguments: of its command line.
            pipe: whether its standard output can be read.
            changes: of its environment.
        """
        fresh = self.folder / "started.log"
        with fresh.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"sealtrail_bench.{module}", *arguments],
                env=self.env | dict(changes or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else log,
                stderr=log,
            )
        fresh.rename(self.folder / f"{process.pid}.log")
        self._running.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End a process of this rig."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            if process.poll() is None:
                process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        if process in self._running:
            self._running.remove(process)

    def answer(self, process: subprocess.Popen[bytes], timeout_s: float) -> Any:
        """What a process that was started with a pipe prints: one value as JSON.

        Raises:
            UnavailableError: it fails, or does not end in time.
        """
        try:
            out, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"a process does not end within {timeout_s:.0f} s") from None
        if process.returncode:
            log = (self.folder / f"{process.pid}.log").read_text(errors="replace").strip()
            raise UnavailableError(f"a process ended with {process.returncode}", hint=log[-300:])
        return json.loads(out)

    def assigned(self, worker: subprocess.Popen[bytes]) -> None:
        """Wait until a worker has taken over all partitions: it says so in its log.

        Raises:
            UnavailableError: it does not.
        """
        log, end = self.folder / f"{worker.pid}.log", time.monotonic() + ASSIGNED_S
        while (
            log.read_text(errors="replace").count("from offset") < self.worker_settings.partitions
        ):
            if worker.poll() is not None or time.monotonic() > end:
                raise UnavailableError("the worker takes no partitions over")
            time.sleep(0.05)

    def settle(self) -> bool:
        """Wait for merges that what was stored before has left behind; whether they ended."""
        quiet, end = 0, time.monotonic() + SETTLED_S
        while quiet < QUIET_LOOKS and time.monotonic() < end:
            running = self.store.query("SELECT count() FROM system.merges")[0][0]
            quiet = 0 if running else quiet + 1
            time.sleep(0.2)
        return quiet == QUIET_LOOKS

    def pid(self, service: str) -> int:
        """Process of a server of the stack."""
        file = self.folder / "state" / "run" / f"{service}.json"
        return int(json.loads(file.read_text())["pid"])
