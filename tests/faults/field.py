"""A whole pipeline in which everything can be harmed: servers, workers, services, disks, networks.

Workers reach the store through a proxy that may misbehave; the store and one service's spool lie on
disks that may run out of room; one worker and one service have a clock that may be set. Whatever is
started here is looked after by a supervisor, as it would be in production.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import httpx
from tests.conftest import Stack, free_block, free_ports
from tests.crash.harness import PRODUCER, Failed, Pipeline
from tests.faults import ledger
from tests.faults.disks import Disk
from tests.faults.forger import Forger
from tests.faults.proxy import Proxy
from tests.faults.supervisor import Charge, Supervisor
from tests.scenarios import conservation, scene
from tests.scenarios.clocks import Clock

from sealtrail.settings import load
from sealtrail_local.processes import read_pid_file
from sealtrail_local.settings import LocalSettings
from sealtrail_producer.chain_writer import partition_of

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
PYTHONPATH = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
WORKER = [sys.executable, str(ROOT / "tests" / "crash" / "worker.py")]
PARTITIONS = 4
# The service whose clock is set; and how many events a second it emits.
WRONG, WRONG_RATE = "clock", 40
BEGIN_S = 120.0
STORE_BYTES, SPOOL_BYTES = 8 << 30, 256 << 20
SETTINGS = {
    "SEALTRAIL_PARTITIONS": str(PARTITIONS),
    "SEALTRAIL_SESSION_TIMEOUT_S": "6",
    # Fewer, larger parts: several cores' worth of other work shares the machine.
    "SEALTRAIL_FLUSH_WAIT_S": "1",
    "SEALTRAIL_ORPHAN_WINDOW_S": "90",
    "SEALTRAIL_HEARTBEAT_S": "20",
    # Audits of millions of events on a machine that has other work to do.
    "SEALTRAIL_LOCAL_ANALYST_SECONDS": "1800",
    "SEALTRAIL_LOCAL_ANALYST_QUERIES": "2",
    "SEALTRAIL_LOCAL_ANALYST_MEMORY_MB": "2000",
    "SEALTRAIL_QUERY_TIMEOUT_S": "1800",
}
SILENT = "nobody answers"
LOADED = f"SELECT count() FROM provenance.events WHERE producer = '{PRODUCER}'"
# What the embedded broker needs: it drops what is unread beyond 5 MB of a partition. Faults that
# send megabytes do so when few messages wait.
LITTLE = 60
PACED = {"SEALTRAIL_PACE_BYTES": "1500000"}


class Field(Pipeline):
    """The pipeline with its load running.

    Args:
        rate: events a second that the honest services emit together.
        services: how many honest services; the one with the wrong clock comes on top.
        workers: how many.
        forge_s: seconds between two attacks on average.
        seed: of the attacks.
        real: Apache Kafka and Apicurio Registry instead of the embedded servers; Kafka's clients
            then reach it through a proxy as well.
        settings: further SEALTRAIL_* variables.
    """

    def __init__(
        self,
        rate: float = 1_040,
        services: int = 4,
        workers: int = 2,
        forge_s: float = 5,
        seed: int = 0,
        real: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(SETTINGS | ({} if real else PACED) | dict(settings or {}))
        self.kafka_proxy: Proxy | None = None
        self.broker = "broker-1" if real else "broker"
        if real:
            kafka, advertised = free_block(), free_ports(1)[0]
            self.env |= {
                "SEALTRAIL_LOCAL_SERVERS": "real",
                "SEALTRAIL_LOCAL_KAFKA_PORT": str(kafka),
                "SEALTRAIL_LOCAL_KAFKA_ADVERTISED_PORT": str(advertised),
                "SEALTRAIL_LOCAL_START_SECONDS": "180",
            }
            self.kafka_proxy = Proxy(kafka, advertised)
        self.rate, self.forge_s, self.seed = rate, forge_s, seed
        self.servers = "Apache Kafka" if real else "embedded"
        self.names = _names(services)
        self.workers_wanted = workers
        self.supervisor = Supervisor()
        self.workers: list[Charge] = []
        self.services: list[Charge] = []
        # (chain, seconds) of each time that the service's clock was set wrong and right again.
        self.clock_jumps: list[tuple[str, float]] = []
        self.health: dict[str, int] = {}
        self._starting: subprocess.Popen[bytes] | None = None
        self.store_margin = load(LocalSettings, self.env).local_store_free_mb << 20
        self.began = 0.0
        self._open = ExitStack()

    # -- life -----------------------------------------------------------------

    def __enter__(self) -> Self:
        for name in ("ledger", "references", "clocks"):
            (self.folder / name).mkdir()
        self.store_disk = Disk(self.folder / "store", STORE_BYTES)
        self.spool_disk = Disk(self.folder / "small-spool", SPOOL_BYTES)
        self.supervisor.start()
        if self.kafka_proxy is not None:
            self._open.enter_context(self.kafka_proxy)
        super().__enter__()
        try:
            words = [w for name in scene.PRODUCERS for w in ("--producer", name)]
            self.sealtrail("keys", "setup-dev", *words)
            self.sealtrail("keys", "setup-dev", "--producer", scene.VAULT, "--post-quantum")
            self.addresses = conservation.variables(self.folder)
            self.forger = Forger(
                Stack(self.env | self.addresses, self.folder), self.seed, self.forge_s
            )
            store = urlsplit(self.addresses["SEALTRAIL_STORE_URL"]).port or 0
            self.store_proxy = self._open.enter_context(Proxy(store))
            for number in range(self.workers_wanted):
                self.workers.append(self.add_worker(f"w{number}"))
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.supervisor.close()
        if exc and exc[0] is not None:
            for worker in self.workers:
                said = self.worker_log(worker.name).read_text(errors="replace")
                sys.stderr.write(f"{worker.name}:\n{said[-3000:]}\n")
        super().__exit__(*exc)

    def remove(self) -> None:
        """Close proxies, unmount disks, remove the folder."""
        self._open.close()
        for disk in (self.store_disk, self.spool_disk):
            disk.close()
        super().remove()

    def add_worker(self, name: str, *args: str) -> Charge:
        """Start one more worker under the supervisor; args as tests/crash/worker.py takes them."""
        env, log = self.worker_env(name), self.worker_log(name)

        def start() -> subprocess.Popen[bytes]:
            with log.open("ab") as file:
                return self.spawn([*WORKER, *args], file, env=env, stderr=file)

        return self.supervisor.add(name, start, log)

    def worker_log(self, name: str) -> Path:
        """What workers of a name write."""
        return self.folder / f"worker-{name}.log"

    def worker_env(self, name: str) -> dict[str, str]:
        """Variables of a worker: the store through the proxy, for one a clock of its own."""
        env = {
            "SEALTRAIL_STORE_URL": f"http://127.0.0.1:{self.store_proxy.port}",
            "SEALTRAIL_WORKER_ID": name,
            "SEALTRAIL_HEALTH_PORT": str(self.health.setdefault(name, free_ports(1)[0])),
        }
        if name == "w1":
            env |= self.clock(name)
        return env

    def answers(self, name: str, timeout_s: float) -> None:
        """Wait until a worker has begun.

        Raises:
            Failed: it has not.
        """
        end = time.monotonic() + timeout_s
        while self.waits_for(name).startswith(SILENT):
            if time.monotonic() > end:
                raise Failed(f"worker {name} has not begun after {timeout_s:g} s")
            time.sleep(0.2)

    def ask(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run the command, whatever status it ends with."""
        return subprocess.run(
            self._command(*args), env=self.env, capture_output=True, text=True, check=False
        )

    def waits_for(self, name: str) -> str:
        """What a worker says that it waits for; empty when it is well."""
        try:
            return str(self._readiness(name)["waiting_for"])
        except httpx.HTTPError as error:
            return f"{SILENT}: {error}"

    def works(self, name: str) -> bool:
        """Whether a worker has partitions and waits for nothing."""
        try:
            said = self._readiness(name)
        except httpx.HTTPError:
            return False
        return bool(said["assigned"]) and not said["waiting_for"]

    def metrics(self, name: str) -> str:
        """Of a worker, as Prometheus reads them."""
        return httpx.get(f"http://127.0.0.1:{self.health[name]}/metrics", timeout=60).text

    def _readiness(self, name: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.health[name]}/readyz"
        said: dict[str, Any] = httpx.get(url, timeout=10).json()
        return said

    def begin(self) -> None:
        """Start the load."""
        self.began = time.monotonic()
        each = self.rate / len(self.names)
        for number, name in enumerate(self.names):
            env = {"SEALTRAIL_SPOOL_DIR": str(self.spool_disk.folder)} if number == 0 else {}
            self.services.append(self._service(name, each, env))
        self.wrong = self._service(WRONG, WRONG_RATE, self.clock(WRONG), "alone")
        deadline = time.monotonic() + BEGIN_S
        while len(ledger.runs(self.folder / "ledger")) <= len(self.names):
            if time.monotonic() > deadline:
                raise Failed(f"not all services emit after {BEGIN_S:g} s")
            time.sleep(0.1)

    def _service(self, name: str, rate: float, env: Mapping[str, str], *more: str) -> Charge:
        command = [sys.executable, "-m", "tests.faults.service", name, str(self.folder)]
        command += [str(rate), str(self.began), *more]
        env = {"SEALTRAIL_CLOSE_S": "600", "PYTHONPATH": PYTHONPATH, **env}
        return self.supervisor.add(name, lambda: self.spawn(command, self.log, env=env))

    def end_load(self, timeout_s: float = 900) -> None:
        """Services close their chains; on return the brokers have everything.

        Raises:
            Failed: one could not hand over all that it had.
        """
        ending = [*self.services, self.wrong]
        self.start_servers_done()
        for charge in ending:
            charge.wanted = False
            charge.send(signal.SIGTERM)
        for charge in ending:
            status = self.supervisor.dismiss(charge, None, timeout_s)
            if status:
                raise Failed(f"service {charge.name} ended with {status}")

    # -- clocks -----------------------------------------------------------------

    def clock(self, name: str) -> dict[str, str]:
        """Variables of a process whose clock `set_clock` sets."""
        return self._clock(name).variables()

    def set_clock(self, name: str, seconds: float) -> None:
        """Put a clock so far ahead of the machine's (behind it, when negative)."""
        self._clock(name).set(seconds)

    def _clock(self, name: str) -> Clock:
        return Clock(self.folder / "clocks" / name)

    # -- servers ------------------------------------------------------------------

    def server_pid(self, name: str) -> int:
        """Pid of `self.broker`, registry or store.

        Raises:
            Failed: it does not run.
        """
        process = read_pid_file(self.folder / "run" / f"{name}.json")
        if process is None or not process.alive():
            raise Failed(f"the {name} does not run")
        return process.pid

    def kill_server(self, name: str) -> None:
        """SIGKILL, and no second one in its place yet."""
        self.start_servers_done()
        pid = self.server_pid(name)
        os.kill(pid, signal.SIGKILL)
        while _runs(pid):
            time.sleep(0.02)

    def start_servers(self, *, wait: bool = True) -> None:
        """Start what does not run; with wait, on return it answers."""
        self.start_servers_done()
        command = self._command("local", "up")
        self._starting = self.spawn(command, self.log)
        if wait:
            self.start_servers_done()

    def start_servers_done(self) -> None:
        """Wait until what is being started answers.

        Raises:
            Failed: it does not.
        """
        starting, self._starting = self._starting, None
        if starting is not None and starting.wait() != 0:
            raise Failed("servers could not be started anew: see the log of processes")

    # -- what is known ----------------------------------------------------------------

    def emitted(self) -> int:
        """Events that services have handed to the SDK."""
        return sum(run.emitted for run in ledger.runs(self.folder / "ledger"))

    def chain_of(self, name: str) -> str:
        """The chain that a service writes now."""
        newest = max(
            (self.folder / "ledger").glob(f"{name}-*"), key=lambda path: path.stat().st_mtime_ns
        )
        return newest.read_bytes()[:32].hex()

    def promised(self) -> int:
        """Events that the SDK has said to be on disk."""
        return sum(run.promised for run in ledger.runs(self.folder / "ledger"))

    def caught_up(self, timeout_s: float) -> float:
        """Wait until readers see as many events as are promised now; seconds that it took.

        Raises:
            Failed: they do not.
        """
        began, wanted = time.monotonic(), self.promised()
        while (seen := self.number(LOADED)) < wanted:
            if time.monotonic() - began > timeout_s:
                raise Failed(f"{seen} of {wanted} promised events after {timeout_s} s")
            time.sleep(1)
        return time.monotonic() - began

    def lag(self) -> dict[int, int]:
        """Messages that are not committed yet, by partition."""
        return conservation.behind(self.folder)

    def little_waits(self, timeout_s: float) -> bool:
        """Wait until few messages of each partition wait; whether they do."""
        end = time.monotonic() + timeout_s
        while max(self.lag().values(), default=0) > LITTLE:
            if time.monotonic() > end:
                return False
            time.sleep(0.5)
        return True

    def drain(self, timeout_s: float) -> float:
        """Wait until everything is committed; seconds that it took.

        Raises:
            Failed: it is not.
        """
        began = time.monotonic()
        while lag := self.lag():
            if time.monotonic() - began > timeout_s:
                raise Failed(f"after {timeout_s} s messages still wait: {lag}")
            time.sleep(1)
        return time.monotonic() - began


def _names(count: int) -> list[str]:
    """Names of services that take turns with the partitions."""
    found: list[str] = []
    for number in itertools.count():
        name = f"s{number}"
        if partition_of(PRODUCER, name, PARTITIONS) == len(found) % PARTITIONS:
            found.append(name)
            if len(found) == count:
                return found
    raise AssertionError


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


__all__ = ["Failed", "Field"]
