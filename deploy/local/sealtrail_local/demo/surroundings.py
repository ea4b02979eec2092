"""Where a demo lives: a state folder of its own, free ports, an environment for its processes."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from sealtrail import settings as common
from sealtrail.errors import UnavailableError
from sealtrail_local.processes import port_free
from sealtrail_local.settings import LocalSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Setting -> its default.
PORTS = {
    "local_kafka_port": 19092,
    "local_registry_port": 18081,
    "local_store_port": 18123,
    "health_port": 18090,
}
# Below those that the system gives to outgoing connections.
OTHERS = range(20_000, 32_000)
# Tenants, keys and servers of somebody's real installation have no place in a demo.
KEPT = frozenset(common.variable(name) for name in PORTS)


def environment(
    given: Mapping[str, str], state_dir: Path, kafka: Sequence[int] = (0,)
) -> dict[str, str]:
    """The variables of all processes of a demo.

    Args:
        given: those of this process; ports that are set there stay.
        state_dir: of the demo.
        kafka: what the brokers take, as distances from the port of the first.
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
            # Behind a gate the registry itself takes the next port.
            offsets = {"local_kafka_port": kafka, "local_registry_port": (0, 1)}
            port = _free(default, offsets.get(field, (0,)), taken)
            variables[name] = str(port)
    variables[common.variable("state_dir")] = str(state_dir)
    # What arrived a moment ago is settled: the demo waits for it before it audits.
    variables[common.variable("audit_settle_s")] = "0"
    variables["PYTHONUNBUFFERED"] = "1"
    # Tables of the commands go into ours.
    variables["COLUMNS"] = "128"
    variables["NO_COLOR"] = "1"
    return variables


def settings(variables: Mapping[str, str]) -> LocalSettings:
    """The settings of the demo's stack, with the passwords that it has made."""
    return common.load(LocalSettings, dict(variables))


def _free(wanted: int, offsets: Sequence[int], taken: set[int]) -> int:
    """A port that is free, with those behind it that are wanted too."""
    for first in (wanted, *random.sample(OTHERS, 100)):
        ports = {first + offset for offset in offsets}
        if not ports & taken and all(port_free(port) for port in ports):
            taken |= ports
            return first
    raise UnavailableError("there are no free ports on this machine")


def this_process() -> dict[str, str]:
    """Variables of this process."""
    return dict(os.environ)
