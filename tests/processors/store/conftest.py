"""The real engine: the embedded stack's, with the shipped migrations."""

import itertools
import secrets
from collections.abc import Callable, Iterator

import pytest
from tests.conftest import Stack, running_stack
from tests.processors.store.making import NOW, Maker

from sealtrail_processor.judging.model import Log
from sealtrail_processor.store import migrate
from sealtrail_processor.store.client import ClickHouseStore
from sealtrail_processor.store.sink import ClickHouseSink

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A stack of this folder's own: its tests count rows by log."""
    with running_stack() as running:
        yield running


@pytest.fixture(scope="session")
def store(stack: Stack) -> Iterator[ClickHouseStore]:
    env = stack.env
    store = ClickHouseStore(
        env["SEALTRAIL_STORE_URL"], env["SEALTRAIL_STORE_USER"], env["SEALTRAIL_STORE_PASSWORD"]
    )
    migrate.migrate(store, migrate.Layout(), NOW)
    yield store
    store.close()


@pytest.fixture
def sink(store: ClickHouseStore) -> ClickHouseSink:
    return ClickHouseSink(store, secrets.randbits)


@pytest.fixture
def maker() -> Callable[..., Maker]:
    """Makes producers on a log of their own: tests share the engine, and nothing else."""
    number = next(_numbers)
    log = Log(f"log-{number}", f"topic-{number}", 3)

    def make(seed: int = 0, **changes: object) -> Maker:
        return Maker(log, seed=number * 1000 + seed, **changes)  # type: ignore[arg-type] # a test's

    return make
