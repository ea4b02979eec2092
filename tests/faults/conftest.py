"""The pipeline that tests of one file share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.crash.harness import Pipeline
from tests.faults.line import SETTINGS, Line

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def shared() -> Iterator[Line]:
    """One pipeline for a file's tests."""
    with Pipeline(SETTINGS) as pipeline:
        yield Line(pipeline)


@pytest.fixture
def line(shared: Line) -> Iterator[Line]:
    """The pipeline without a worker; the test's own worker ends with it."""
    yield shared
    if shared.worker is not None:
        shared.kill()
