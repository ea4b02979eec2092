"""SIGSTOP and SIGCONT: processes that are there and do nothing; zombies when they wake."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from tests.faults.injectors.registry import fault

if TYPE_CHECKING:
    import random

    from tests.faults.field import Field


@fault("worker-freeze")
def worker_freeze(field: Field, rng: random.Random) -> str:
    """Past the session timeout: another takes its partitions, then it wakes and believes them its
    own.
    """
    victim, seconds = rng.choice(field.workers), rng.uniform(4, 11)
    victim.send(signal.SIGSTOP)
    time.sleep(seconds)
    victim.send(signal.SIGCONT)
    return f"{victim.name} for {seconds:.1f} s"


@fault("producer-freeze")
def producer_freeze(field: Field, rng: random.Random) -> str:
    """It makes up for what it missed."""
    victim, seconds = rng.choice(field.services), rng.uniform(2, 8)
    victim.send(signal.SIGSTOP)
    time.sleep(seconds)
    victim.send(signal.SIGCONT)
    return f"{victim.name} for {seconds:.1f} s"


def freeze_server(field: Field, name: str, seconds: float) -> str:
    """A server that answers nobody for a while."""
    pid = field.server_pid(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)
    return f"for {seconds:.1f} s"


@fault("broker-freeze")
def broker_freeze(field: Field, rng: random.Random) -> str:
    """Nobody can send, fetch or commit."""
    return freeze_server(field, field.broker, rng.uniform(2, 9))


@fault("store-freeze")
def store_freeze(field: Field, rng: random.Random) -> str:
    """Inserts under way hang."""
    return freeze_server(field, "store", rng.uniform(2, 10))
