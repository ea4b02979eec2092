"""A store in memory that keeps ClickHouse's promises and none beyond them.

- One insert is one block: all of it or nothing, and a block with a token that is known is dropped
  in silence, whatever it holds. Only the last tokens are known.
- Which rows are one row is read from the migrations: a ReplacingMergeTree keeps one row for each
  sorting key, a MergeTree keeps all.
- The questions are those of the pipeline (`questions`).
- Rows of a key must never change: what replaces a row with another content is remembered.

Everything that it does passes `fault`, which may raise before or after it was done.
"""

from __future__ import annotations

import re
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from tests.simulation.questions import ANSWERS, IN_PASSING, cursor

from sealtrail import ids, resources
from sealtrail_processor.store.sink import ClickHouseSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sealtrail_processor.judging.model import Log
    from sealtrail_processor.store.container import Accepted

Row = dict[str, Any]
# So many blocks a table are known by their token; in production 10,000.
WINDOW = 12
# Written anew with other values, and rightly so: the latest counts.
LATEST_COUNTS = {"heartbeats", "findings", "commit_ends", "receipts", "link_verdicts"}
# Chains that a question names.
_NAMED = re.compile(r"',', '([0-9a-f,]+)'")
_TABLE = re.compile(
    r"CREATE TABLE IF NOT EXISTS \$\{database\}\.(\w+)\s*\(.*?\)\s*ENGINE = (\w+).*?"
    r"ORDER BY \(?([^\n]*?)\)?\n",
    re.DOTALL,
)


@cache
def keys_of_tables() -> dict[str, tuple[str, ...] | None]:
    """Table -> sorting key where rows replace one another, None where all are kept."""
    found: dict[str, tuple[str, ...] | None] = {}
    for file in sorted(resources.path("clickhouse").glob("migrations/*.sql")):
        text = re.sub(r"--[^\n]*", "", file.read_text())
        for statement in text.split(";"):
            match = _TABLE.search(statement)
            if match is not None:
                name, engine, columns = match.groups()
                replaces = "Replacing" in engine
                key = tuple(c.strip() for c in columns.split(",")) if replaces else None
                found[name] = key
    return found


class Fault(Protocol):
    """May raise before or after what is done."""

    def __call__(self, what: str, *, done: bool) -> None:
        """Called with what it is, and whether it is done already."""


class SimStore:
    """The store.

    Args:
        fault: called with what is about to be done and whether it is done already.
        keys: as `keys_of_tables` gives them.
    """

    database = "sealtrail"

    def __init__(
        self,
        fault: Fault,
        keys: Mapping[str, tuple[str, ...] | None],
    ) -> None:
        self._fault = fault
        self._keys = keys
        self._tokens: dict[str, deque[str]] = {}
        self._rows: dict[str, dict[Any, Row]] = {}
        self._blocks = 0
        self.rewritten: list[str] = []
        # What the next insert_avro holds: the sink says it, the container is counted.
        self.chunk: list[Accepted] = []
        self.log: Log | None = None

    def rows(self, table: str) -> Iterable[Row]:
        """All rows of a table as readers get them (FINAL)."""
        return self._rows.get(table, {}).values()

    # -- writing --------------------------------------------------------------

    def insert(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], token: str
    ) -> None:
        """Store.insert."""
        self._fault(f"insert {table}", done=False)
        self._block(table, [dict(zip(columns, row, strict=True)) for row in rows], token)
        if table == "commits":
            # The materialized view behind it: a store that is killed here has the one without it.
            self._fault("view of commits", done=False)
            self._ends(rows, columns)
        self._fault(f"insert {table}", done=True)

    def _ends(self, rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> None:
        for row in rows:
            value = dict(zip(columns, row, strict=True))
            value["covered"] = value["last_offset"] - value["first_offset"] + 1
            self._blocks += 1
            self._rows.setdefault("commit_ends", {})[self._blocks] = value

    def insert_packed(self, sql: str, columns: Mapping[str, str], rows: bytes, token: str) -> None:
        """Store.insert_packed: the linker's, and nothing is linked here."""
        raise AssertionError(f"{len(rows)} bytes for {sql} {columns}: {token}")

    def insert_avro(self, sql: str, parts: list[bytes], token: str) -> None:
        """Store.insert_avro: the container must hold the events of the chunk that was announced."""
        table = "ingest_check" if ".ingest_check" in sql.split("SELECT", 1)[0] else "events"
        # Before anything may happen meanwhile: others announce theirs.
        rows, body = list(self._events()), b"".join(parts)
        self._fault(f"insert {table}", done=False)
        if not all(row["event_id"] in body and row["leaf_hash"] in body for row in rows):
            raise AssertionError("the container holds other events than the flush")
        if table == "events":
            self._block("events", rows, token)
        self._fault(f"insert {table}", done=True)

    def _events(self) -> Iterable[Row]:
        log = self.log
        if log is None:
            raise AssertionError("events of no log")
        for item in self.chunk:
            statement, batch = item.batch.statement, item.batch
            for index in range(statement.count):
                seq = statement.first_seq + index
                yield {
                    "tenant": statement.tenant,
                    "chain_id": statement.chain_id,
                    "seq": seq,
                    "branch": item.judged.branch,
                    "event_id": ids.event_id(statement.chain_id, seq),
                    "leaf_hash": batch.leaf_hashes[index],
                    "parents": batch.parents[index],
                    "log_id": log.log_id,
                    "topic": log.topic,
                    "partition": item.partition,
                    "offset": item.judged.message.offset,
                    "arrival": item.judged.arrival,
                    "toStartOfHour(arrival)": item.judged.arrival // 3_600_000_000,
                }

    def _block(self, table: str, rows: list[Row], token: str) -> None:
        known = self._tokens.setdefault(table, deque(maxlen=WINDOW))
        if token in known:
            return
        known.append(token)
        self._blocks += 1
        held = self._rows.setdefault(table, {})
        key = self._keys[table]
        for number, row in enumerate(rows):
            row["_block"] = self._blocks
            at = (self._blocks, number) if key is None else tuple(row[c] for c in key)
            before = held.get(at)
            if before is not None and table not in LATEST_COUNTS and _other(before, row):
                self.rewritten.append(f"{table} {at[-3:]}")
            held[at] = row

    def command(self, sql: str) -> None:
        """Store.command: the pipeline has none."""
        raise NotImplementedError(sql)

    # -- reading --------------------------------------------------------------

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Any]:
        """Store.query, for the questions of the pipeline."""
        if not sql.startswith(IN_PASSING):
            self._fault("query", done=False)
        bound = dict(parameters or {})
        if named := _NAMED.search(sql):
            bound["chains"] = named[1].split(",")
        for question, answer in ANSWERS.items():
            if sql.startswith(question):
                return answer(self, bound)
        raise NotImplementedError(sql)

    def of(self, table: str, bound: Mapping[str, Any]) -> list[Row]:
        """Rows of one partition of a log."""
        log_id = bound.get("log", bound.get("log_id"))
        where = (log_id, bound["topic"], bound["partition"])
        return [r for r in self.rows(table) if (r["log_id"], r["topic"], r["partition"]) == where]

    def committed_end(self, log_id: str, topic: str, partition: int) -> int:
        """The view `committed`: exact where rows are missing, else the last end."""
        bound = {"log": log_id, "topic": topic, "partition": partition}
        ends = self.of("commit_ends", bound)
        if not ends:
            return -1
        first, last = min(r["first_offset"] for r in ends), max(r["last_offset"] for r in ends)
        if sum(r["covered"] for r in ends) >= last - first + 1:
            return int(last)
        hole, _, end = cursor(self, bound)[0]
        return int(end if hole is None else hole)

    def committed(self, table: str) -> list[Row]:
        """Rows that readers see."""
        ends: dict[tuple[str, str, int], int] = {}
        found = []
        for row in self.rows(table):
            place = (row["log_id"], row["topic"], row["partition"])
            if place not in ends:
                ends[place] = self.committed_end(*place)
            if row["offset"] <= ends[place]:
                found.append(row)
        return found


def _other(before: Row, row: Row) -> bool:
    return any(before.get(name) != value for name, value in row.items() if name != "_block")


class SimSink(ClickHouseSink):
    """The product's sink; it only tells the store which batches the container holds."""

    def __init__(self, store: SimStore, randbits: Callable[[int], int]) -> None:
        super().__init__(store, randbits)
        self._sim = store

    def _events(self, log: Log, chunk: list[Accepted], table: str) -> None:
        self._sim.log, self._sim.chunk = log, chunk
        super()._events(log, chunk, table)
