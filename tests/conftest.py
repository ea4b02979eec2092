"""Fixtures that several rooms' tests share."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
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
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The embedded stack on free ports, from its first use to the last test."""
    from sealtrail.settings import load
    from sealtrail_local import envfile
    from sealtrail_local import stack as stack_module
    from sealtrail_local.settings import LocalSettings

    kafka, registry, store = free_ports(3)
    # A short path of its own: pytest's would be kept after the run.
    with tempfile.TemporaryDirectory(prefix="sealtrail-stack-") as folder:
        environ = {name: v for name, v in os.environ.items() if not name.startswith("SEALTRAIL_")}
        environ |= {
            "SEALTRAIL_STATE_DIR": folder,
            "SEALTRAIL_LOCAL_KAFKA_PORT": str(kafka),
            "SEALTRAIL_LOCAL_REGISTRY_PORT": str(registry),
            "SEALTRAIL_LOCAL_STORE_PORT": str(store),
        }
        settings = load(LocalSettings, environ)
        try:
            running = stack_module.up(settings, print)
            env = {"SEALTRAIL_STATE_DIR": folder, **envfile.variables(running)}
            yield Stack(env=env, state_dir=Path(folder))
        finally:
            stack_module.down(settings, print)
