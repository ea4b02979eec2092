"""Seven known mistakes, put back into the product for a test: the simulation must find each.

Each patches the product's own code (or its migrations as the simulated engine reads them) for as
long as the `with` block lasts.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from tests.simulation import engine, world

from sealtrail.chain_state import ChainState
from sealtrail_processor.kafka import consuming
from sealtrail_processor.pipeline.partition import Partition
from sealtrail_processor.store.sink import ClickHouseSink
from sealtrail_producer.spool import Spool
from sealtrail_producer.spool_record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from sealtrail.chain_state import Link


@contextmanager
def acknowledge_before_insert() -> Iterator[None]:
    """Messages are acknowledged when they are taken, not when they are committed."""

    async def settle(events: Any, generation: int, raw: Any, commit: Any, acknowledge: Any) -> bool:
        for event in events:
            await acknowledge(event)

        async def done(event: Any) -> None:
            del event

        return await kept(events, generation, raw, commit, done)

    kept = consuming.settle
    with patch.object(consuming, "settle", settle):
        yield


@contextmanager
def mark_over_a_gap() -> Iterator[None]:
    """The high-water mark of a chain is the highest number seen, whatever is missing below."""

    def extend(self: ChainState, link: Link) -> None:
        kept(self, link)
        while self.beyond:
            run = self.beyond.pop(0)
            self.next_batch, self.next_seq = run.last_batch + 1, run.next_seq
            self.head, self.closed, self.last_signed_at = run.head, run.closes, run.signed_at

    kept = ChainState.extend
    with patch.object(ChainState, "extend", extend):
        yield


@contextmanager
def dedupe_by_block() -> Iterator[None]:
    """Only whole blocks are known again: tables keep every row (MergeTree, no sorting key)."""

    def keys() -> dict[str, tuple[str, ...] | None]:
        return dict.fromkeys(engine.keys_of_tables())

    with patch.object(world, "keys_of_tables", keys):
        yield


@contextmanager
def wrong_token() -> Iterator[None]:
    """Insert tokens name where a block begins, and not what it holds."""

    def insert(self: Any, table: Any, token: str) -> None:
        del token
        names = ("log_id", "topic", "partition")
        place = [table.rows[0][table.columns.index(name)] for name in names]
        at = table.columns.index("first_offset" if table.name == "commits" else "offset")
        self._store.insert(table.name, table.columns, table.rows, f"{place}/{table.rows[0][at]}")

    with patch.object(ClickHouseSink, "_insert", insert):
        yield


@contextmanager
def head_persisted_late() -> Iterator[None]:
    """A batch is sent from memory, and comes to the disk with the one after it."""
    kept = {name: getattr(Spool, name) for name in ("append", "get", "has", "close")}
    held: dict[int, tuple[Record, dict[str, Any]]] = {}

    def bring(self: Spool) -> None:
        late = held.pop(id(self), None)
        if late is not None:
            self.next_index -= 1
            kept["append"](self, late[0].message, **late[1])

    def append(self: Spool, message: Any, **how: Any) -> Record:
        bring(self)
        record = Record(self.next_index, message, how.get("framed", True), durable=True)
        held[id(self)] = (record, how)
        self.next_index += 1
        return record

    def get(self: Spool, index: int) -> Record | None:
        found: Record | None = kept["get"](self, index)
        late = held.get(id(self))
        return late[0] if found is None and late and index <= late[0].index else found

    def has(self: Spool, index: int) -> bool:
        late = held.get(id(self))
        return bool(kept["has"](self, index) or (late and index <= late[0].index))

    def close(self: Spool) -> None:
        bring(self)
        kept["close"](self)

    def abandon(self: Spool) -> None:
        held.pop(id(self), None)
        left(self)

    left = Spool.abandon
    with ExitStack() as patches:
        for name, changed in (
            *(("append", append), ("get", get), ("has", has), ("close", close)),
            ("abandon", abandon),
        ):
            patches.enter_context(patch.object(Spool, name, changed))
        yield


@contextmanager
def evicted_is_new() -> Iterator[None]:
    """A chain that is not held is taken for a new one, whatever the store has of it."""
    with patch.object(Partition, "_recall", lambda self, examined: None):
        yield


@contextmanager
def acknowledge_dropped() -> Iterator[None]:
    """What a rebalance took away before it was committed is acknowledged with the rest."""

    async def settle(events: Any, generation: int, raw: Any, commit: Any, acknowledge: Any) -> bool:
        async def done(event: Any) -> None:
            del event

        if not await kept(events, generation, raw, commit, done):
            return False
        for event in events:
            await acknowledge(event)
        return True

    kept = consuming.settle
    with patch.object(consuming, "settle", settle):
        yield


PLANTED: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "acknowledge before insert": acknowledge_before_insert,
    "high-water mark advanced over a gap": mark_over_a_gap,
    "dedupe by block": dedupe_by_block,
    "wrong token": wrong_token,
    "chain head persisted late": head_persisted_late,
    "evicted chain taken for a new one": evicted_is_new,
    "acknowledge what was dropped": acknowledge_dropped,
}
