"""The store stops writing before its disk is full: nothing acknowledged that is not there."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.conftest import stack_variables

from sealtrail.settings import load
from sealtrail_local import envfile
from sealtrail_local import stack as stack_module
from sealtrail_local.settings import LocalSettings
from sealtrail_local.store.errors import Refused
from sealtrail_local.store.room import Room
from sealtrail_processor.store.client import ClickHouseStore
from sealtrail_processor.store.port import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_ROOM = 243


class Disk:
    def __init__(self) -> None:
        self.left = 100
        self.merges: list[bool] = []
        self.room = Room(Path(), 50, self.merges.append, lambda _: self.left)


def test_inserts_are_refused_below_the_margin() -> None:
    disk = Disk()
    disk.room.require()
    disk.left = 49
    with pytest.raises(Refused, match=r"Code: 243.*NOT_ENOUGH_SPACE"):
        disk.room.require()


def test_merges_end_below_the_margin_and_go_on_well_above() -> None:
    disk = Disk()
    seen = []
    for left in (100, 49, 10, 60, 99, 100, 60, 49):
        disk.left = left
        disk.room.look()
        seen.append(list(disk.merges))
    assert seen[-1] == [False, True, False]
    assert seen[4] == [False]


def test_it_watches_by_itself() -> None:
    disk, ended = Disk(), threading.Event()
    room = Room(Path(), 50, lambda _: ended.set(), lambda _: disk.left)
    disk.left = 0
    room.start()
    assert ended.wait(10)
    room.close()


@contextlib.contextmanager
def store_with_margin(folder: Path, megabytes: int) -> Iterator[ClickHouseStore]:
    variables = stack_variables(folder) | {"SEALTRAIL_LOCAL_STORE_FREE_MB": str(megabytes)}
    settings = load(LocalSettings, variables)
    try:
        told = envfile.variables(stack_module.up(settings, print))
        names = ("SEALTRAIL_STORE_URL", "SEALTRAIL_STORE_USER", "SEALTRAIL_STORE_PASSWORD")
        yield ClickHouseStore(*(told[name] for name in names))
    finally:
        stack_module.down(settings, print)


def test_a_store_without_room_says_so_and_takes_inserts_again() -> None:
    with tempfile.TemporaryDirectory(prefix="sealtrail-room-") as name:
        folder = Path(name)
        # More than the disk has: as if it were full, and nobody else's work is in danger.
        with store_with_margin(folder, 1 << 30) as store:
            store.command("CREATE TABLE sealtrail.room (n UInt64) ENGINE = MergeTree ORDER BY n")
            with pytest.raises(StoreUnavailable) as refused:
                store.insert("room", ["n"], [(1,)], "one")
            assert refused.value.code == NO_ROOM
            assert store.query("SELECT count() FROM room") == [(0,)]
        with store_with_margin(folder, 1) as store:
            store.insert("room", ["n"], [(1,)], "one")
            store.insert("room", ["n"], [(2,)], "two")
            store.command("OPTIMIZE TABLE sealtrail.room FINAL")
            assert store.query("SELECT count() FROM room") == [(2,)]
