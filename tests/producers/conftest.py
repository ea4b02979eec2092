"""Fixtures of the SDK's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.conftest import Stack, running_stack
from tests.producers.world import Seen, World, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sealtrail.records import Directory


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A stack of this folder's own: the trust root is its tests'."""
    with running_stack() as running:
        yield running


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.broker.down = False
    for trail in world.trails:
        trail.close(0)


@pytest.fixture
def judged(world: World) -> Callable[[], Seen]:
    """Judge all that the brokers hold now."""
    directory: list[Directory] = []

    def now() -> Seen:
        if not directory:
            directory.append(world.directory())
        return judge(world.broker.messages(), directory[0], world.clock.time_us)

    return now
