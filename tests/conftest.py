"""Fixtures that several rooms' tests share."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Stack:
    """The embedded stack, running.

    Attributes:
        env: SEALTRAIL_* variables for everything that shall use it.
        state_dir: its folder.
    """

    env: dict[str, str]
    state_dir: Path


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free just now, all different."""
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


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


@contextlib.contextmanager
def running_stack() -> Iterator[Stack]:
    """An embedded stack on free ports, in a folder that is removed at the end."""
    from sealtrail.settings import load
    from sealtrail_local import envfile
    from sealtrail_local import stack as stack_module
    from sealtrail_local.settings import LocalSettings

    # A short path of its own: pytest's would be kept after the run.
    with tempfile.TemporaryDirectory(prefix="sealtrail-stack-") as folder:
        settings = load(LocalSettings, stack_variables(Path(folder)))
        try:
            running = stack_module.up(settings, print)
            env = {"SEALTRAIL_STATE_DIR": folder, **envfile.variables(running)}
            yield Stack(env=env, state_dir=Path(folder))
        finally:
            stack_module.down(settings, print)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The embedded stack, from its first use to the last test."""
    with running_stack() as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's row of the catalogue stands in its report (tests/catalogue.py)."""
    for item in items:
        row = item.get_closest_marker("row")
        if row is not None:
            item.user_properties.append(("row", row.args[0]))


@pytest.fixture
def happened(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says what was seen, for the table of `make catalogue`."""

    def say(text: str) -> None:
        record_property("happened", text)

    return say
