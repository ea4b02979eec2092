"""The scene that all attacks are played in: once for all tests that look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.attacks.played import Played, look, play
from tests.scenarios.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def played(request: pytest.FixtureRequest) -> Iterator[Played]:
    """Everything was played, and the worker has ended."""
    with Scene.begin(real=request.config.getoption("servers") == "real") as scene:
        play(scene)
        yield look(scene)
