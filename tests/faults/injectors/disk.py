"""Disks without room: the store's, and a service's spool."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.faults.injectors.registry import fault

if TYPE_CHECKING:
    import random

    from tests.faults.field import Field


@fault("store-disk-full")
def store_disk_full(field: Field, rng: random.Random) -> str:
    """Somebody else fills it; the store must stop before nothing is left."""
    seconds = rng.uniform(3, 12)
    how = field.store_disk.fill([field.server_pid("store")], field.store_margin // 2)
    try:
        time.sleep(seconds)
    finally:
        field.store_disk.relieve()
    return f"{how} for {seconds:.1f} s"


@fault("spool-disk-full")
def spool_disk_full(field: Field, rng: random.Random) -> str:
    """What the service emits waits until there is room."""
    seconds = rng.uniform(3, 12)
    how = field.spool_disk.fill([field.services[0].pid])
    try:
        time.sleep(seconds)
    finally:
        field.spool_disk.relieve()
    return f"{how} for {seconds:.1f} s"
