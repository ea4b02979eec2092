"""Fixtures that several rooms' tests share."""

import contextlib
import os
import random
import signal
import socket
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from sealtrail_local.processes import ProcessId

# Hypothesis: the same examples each time; `--hypothesis-profile=long` looks further. A busy machine
# is no failure.
settings.register_profile(
    "sealtrail", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "long", deadline=None, max_examples=3000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("sealtrail")

# Below those that the system gives to outgoing connections: what starts, or is killed and comes
# back, shall find its port free.
PORTS = range(20_000, 32_000)


@dataclass(frozen=True)
class Stack:
    """A local stack, running.

    Attributes:
        env: SEALTRAIL_* variables for everything that shall use it.
        state_dir: its folder.
    """

    env: dict[str, str]
    state_dir: Path

    def pid(self, name: str) -> int:
        """Of a process: broker, registry, store; real brokers are broker-1, broker-2, broker-3."""
        return self._process(name).pid

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until the process is gone."""
        process = self._process(name)
        process.signal(signal.SIGKILL)
        assert process.ended(20)

    def stop(self, name: str) -> None:
        """SIGTERM, and wait until the process is gone."""
        assert self._process(name).stop(60)

    def freeze(self, name: str) -> None:
        """SIGSTOP: it holds its connections and answers nobody."""
        assert self._process(name).signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        assert self._process(name).signal(signal.SIGCONT)

    def start(self, name: str) -> None:
        """Start a process that was stopped or killed, and wait until it answers."""
        from sealtrail.settings import load
        from sealtrail_local import stack as stack_module
        from sealtrail_local.settings import LocalSettings

        stack_module.start(load(LocalSettings, self.env), name)

    def _process(self, name: str) -> "ProcessId":
        from sealtrail_local.processes import read_pid_file

        found = read_pid_file(self.state_dir / "run" / f"{name}.json")
        assert found is not None, f"no {name} was started"
        return found


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free just now, all different."""
    found: list[int] = []
    with contextlib.ExitStack() as open_sockets:
        for port in random.sample(PORTS, 200):
            with contextlib.suppress(OSError):
                open_sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise AssertionError("no free ports")


def free_block() -> int:
    """A port from which on real brokers find all that they need."""
    for first in random.sample(PORTS, 100):
        with contextlib.ExitStack() as open_sockets:
            try:
                for port in (first + 10 * broker + k for broker in range(3) for k in range(4)):
                    open_sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no free ports")


def stack_variables(folder: Path) -> dict[str, str]:
    """This process's environment with settings for a stack of its own on free ports."""
    kafka, registry, store = free_ports(3)
    environ = {name: v for name, v in os.environ.items() if not name.startswith("SEALTRAIL_")}
    return environ | {
        "SEALTRAIL_STATE_DIR": str(folder),
        "SEALTRAIL_LOCAL_KAFKA_PORT": str(kafka),
        "SEALTRAIL_LOCAL_REGISTRY_PORT": str(registry),
        "SEALTRAIL_LOCAL_STORE_PORT": str(store),
    }


def real_variables(folder: Path, brokers: int = 1) -> dict[str, str]:
    """As `stack_variables`, for real servers."""
    cache = os.environ.get("SEALTRAIL_CACHE_DIR")
    return (
        stack_variables(folder)
        | {
            "SEALTRAIL_LOCAL_KAFKA_PORT": str(free_block()),
            "SEALTRAIL_LOCAL_SERVERS": "real",
            "SEALTRAIL_LOCAL_BROKERS": str(brokers),
            # Three brokers and a registry start at once, on a machine that has other work to do.
            "SEALTRAIL_LOCAL_START_SECONDS": "300",
        }
        | ({"SEALTRAIL_CACHE_DIR": cache} if cache else {})
    )


@contextlib.contextmanager
def running_stack(*, real: bool = False, brokers: int = 1, secure: bool = False) -> Iterator[Stack]:
    """A stack on free ports, in a folder that is removed at the end.

    Args:
        real: Apache Kafka and Apicurio Registry instead of the embedded servers.
        brokers: how many real brokers.
        secure: real ones with TLS, names and access lists.
    """
    from sealtrail.settings import load
    from sealtrail_local import envfile
    from sealtrail_local import stack as stack_module
    from sealtrail_local.settings import LocalSettings

    # A short path of its own: pytest's would be kept after the run.
    with tempfile.TemporaryDirectory(prefix="sealtrail-stack-") as folder:
        place = Path(folder)
        variables = real_variables(place, brokers) if real else stack_variables(place)
        if secure:
            variables["SEALTRAIL_LOCAL_SECURE"] = "true"
        settings = load(LocalSettings, variables)
        try:
            running = stack_module.up(settings, print)
            env = {"SEALTRAIL_STATE_DIR": folder, **envfile.variables(running)}
            yield Stack(env=env, state_dir=place)
        finally:
            stack_module.down(settings, print)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The embedded stack, from its first use to the last test."""
    with running_stack() as running:
        yield running


@pytest.fixture(scope="session")
def real_stack() -> Iterator[Stack]:
    """A stack of real servers with one broker, from its first use to the last test."""
    with running_stack(real=True) as running:
        yield running


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--servers real` plays the scenarios on Apache Kafka and Apicurio Registry."""
    parser.addoption("--servers", choices=("embedded", "real"), default="embedded")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's rows of the catalogue stand in its report (tests/catalogue.py)."""
    for item in items:
        row = item.get_closest_marker("row")
        if row is not None:
            item.user_properties += [("row", name) for name in row.args]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, Any]:
    """Nothing is skipped: a test that does not run has not passed."""
    report = yield
    if report.skipped:
        report.outcome, report.longrepr = (
            "failed",
            f"{item.nodeid} was skipped: mend it, or remove it",
        )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Nor is a whole file."""
    report = yield
    if report.skipped:
        report.outcome, report.longrepr = "failed", f"{collector.nodeid} was skipped"
    return report


@pytest.fixture
def happened(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says what was seen, for the table of `make catalogue`."""

    def say(text: str) -> None:
        record_property("happened", text)

    return say
