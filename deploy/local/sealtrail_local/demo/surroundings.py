"""Where a demo lives: a state folder of its own, free ports, an environment for its processes."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from sealtrail import settings as common
from sealtrail_local.settings import LocalSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Setting -> its default.
PORTS = {
    "local_kafka_port": 19092,
    "local_registry_port": 18081,
    "local_store_port": 18123,
    "health_port": 18090,
}
# Tenants, keys and servers of somebody's real installation have no place in a demo.
KEPT = frozenset(common.variable(name) for name in PORTS)


def environment(given: Mapping[str, str], state_dir: Path) -> dict[str, str]:
    """The variables of all processes of a demo.

    Args:
        given: those of this process; ports that are set there stay.
        state_dir: of the demo.
    """
    variables = {
        name: value
        for name, value in given.items()
        if not name.startswith(common.PREFIX) or name in KEPT
    }
    taken: set[int] = set()
    for field, default in PORTS.items():
        name = common.variable(field)
        if name not in variables:
            port = _free(default, taken)
            taken.add(port)
            variables[name] = str(port)
    host = "127.0.0.1"
    variables[common.variable("state_dir")] = str(state_dir)
    # What arrived a moment ago is settled: the demo waits for it before it audits.
    variables[common.variable("audit_settle_s")] = "0"
    variables[common.variable("kafka_bootstrap")] = (
        f"{host}:{variables[common.variable('local_kafka_port')]}"
    )
    variables["PYTHONUNBUFFERED"] = "1"
    # Tables of the commands go into ours.
    variables["COLUMNS"] = "128"
    variables["NO_COLOR"] = "1"
    return variables


def settings(variables: Mapping[str, str]) -> LocalSettings:
    """The settings of the demo's stack, with the passwords that it has made."""
    return common.load(LocalSettings, dict(variables))


def _free(wanted: int, taken: set[int]) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found = int(probe.getsockname()[1])
            if found not in taken:
                return found
    return _free(0, taken)


def this_process() -> dict[str, str]:
    """Variables of this process."""
    return dict(os.environ)
