"""A store in memory that keeps ClickHouse's promises and none beyond them.

- One insert is one block: all of it or nothing, and a block with a token that is known is dropped
  in silence, whatever it holds. Only the last tokens are known.
- Which rows are one row is read from the migrations: a ReplacingMergeTree keeps one row for each
  sorting key, a MergeTree keeps all.
- The questions are those of the pipeline, to the letter (`rebuild`, `ledger`), answered here.
- Rows of a key must never change: what replaces a row with another content is remembered.

Everything that it does passes `fault`, which may raise before or after it was done.
"""

from __future__ import annotations

import re
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from sealtrail import ids, resources
from sealtrail_processor.store import chains, rebuild
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

    def insert_avro(self, sql: str, parts: list[bytes], token: str) -> None:
        """Store.insert_avro: the container must hold the events of the chunk that was announced."""
        table = "ingest_check" if ".ingest_check" in sql.split("SELECT", 1)[0] else "events"
        self._fault(f"insert {table}", done=False)
        rows, body = list(self._events()), b"".join(parts)
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
        if not sql.startswith(_IN_PASSING):
            self._fault("query", done=False)
        bound = dict(parameters or {})
        if named := _NAMED.search(sql):
            bound["chains"] = named[1].split(",")
        for question, answer in _ANSWERS.items():
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
        hole, _, end = _cursor(self, bound)[0]
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


def _cursor(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    rows = sorted((r["first_offset"], r["last_offset"]) for r in store.of("commits", bound))
    if not rows:
        return [(None, None, None)]
    hole, reached = None, rows[0][1]
    for first, last in rows[1:]:
        if hole is None and first > reached + 1:
            hole = reached
        reached = max(reached, last)
    return [(hole, rows[0][0], max(last for _, last in rows))]


def _end(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    ends = [r["last_offset"] for r in store.of("commit_ends", bound)]
    return [(max(ends, default=None),)]


def _lives(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    where = (bound["topic"], bound["partition"])
    logs = {r["log_id"] for r in store.rows("commit_ends") if (r["topic"], r["partition"]) == where}
    return [(log_id, store.committed_end(log_id, *where) + 1) for log_id in logs]


def _of_lives(store: SimStore, bound: Mapping[str, Any]) -> list[Row]:
    ends = dict(zip(bound["logs"], bound["ends"], strict=True))
    where = (bound["topic"], bound["partition"])
    return [
        row
        for row in store.rows("batches")
        if (row["topic"], row["partition"]) == where and row["offset"] < ends.get(row["log_id"], 0)
    ]


def _born(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    born: dict[str, int | None] = {}
    for row in _of_lives(store, bound):
        at, before = row["arrival"], born.setdefault(row["log_id"], None)
        if row["time_source"] != "ORIGINAL":
            born[row["log_id"]] = at if before is None else min(before, at)
    return list(born.items())


def _newest(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    """No timers are simulated: nothing is watched."""
    where = (bound["topic"], bound["partition"])
    heard: dict[bytes, list[int]] = {}
    for row in store.rows("batches"):
        if (row["topic"], row["partition"]) == where:
            heard.setdefault(row["chain_id"], []).append(row["arrival"])
    newest = sorted(heard.items(), key=lambda item: (-max(item[1]), item[0]))
    return [(chain_id, len(all_), 0) for chain_id, all_ in newest[: bound["most"]]]


def _links(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    wanted, logs = {bytes.fromhex(c) for c in bound["chains"]}, bound["logs"]
    rows = [r for r in _of_lives(store, bound) if r["chain_id"] in wanted]
    names = (
        *("chain_id", "batch_seq", "branch", "first_seq", "count", "statement_hash", "previous"),
        *("signed_at", "arrival", "closes", "environment", "tenant", "topic", "partition"),
        *("producer", "instance", "heartbeat_s"),
        *("continues_chain", "continues_batch", "continues_head", "life", "offset"),
    )
    placed = [({"life": logs.index(r["log_id"]) + 1} | r) for r in rows]
    placed.sort(key=lambda r: (r["life"], r["offset"]))
    after = (bound["life"], bound["offset"])
    left = [r for r in placed if (r["life"], r["offset"]) > after]
    return [tuple(row[name] for name in names) for row in left[: bound["rows"]]]


def _continued(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    wanted, logs = {bytes.fromhex(c) for c in bound["chains"]}, bound["logs"]
    names = ("continues_chain", "chain_id", "continues_batch", "continues_head")
    found: dict[bytes, Any] = {}
    for row in sorted(
        _of_lives(store, bound), key=lambda r: (logs.index(r["log_id"]), r["offset"])
    ):
        if row["continues_batch"] >= 0 and row["continues_chain"] in wanted:
            found.setdefault(row["continues_chain"], tuple(row[name] for name in names))
    return list(found.values())


def _namesakes(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    ranges = [
        (bytes.fromhex(bound[f"low{n}"]), bytes.fromhex(bound[f"high{n}"]))
        for n in range(sum(name.startswith("low") for name in bound))
    ]
    found = {r["chain_id"] for r in _of_lives(store, bound)}
    return [(c,) for c in sorted(found) if any(low <= c <= high for low, high in ranges)]


def _hashes(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    wanted = {bytes.fromhex(c) for c in bound["chains"]}
    names = ("chain_id", "batch_seq", "statement_hash", "branch")
    return [
        tuple(r[n] for n in names)
        for r in sorted(store.committed("batches"), key=lambda r: r["branch"])
        if r["chain_id"] in wanted and r["batch_seq"] in bound["numbers"]
    ]


def _receipts(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    found: dict[tuple[Any, ...], Row] = {}
    for n in range(sum(name.startswith("log") for name in bound)):
        asked = {name: bound[f"{name}{n}"] for name in ("log", "topic", "partition")}
        for row in store.of("receipts", asked):
            if bound[f"first{n}"] <= row["offset"] <= bound[f"last{n}"]:
                at = tuple(row[name] for name in ("log_id", "topic", "partition", "offset"))
                if row["_block"] < found.setdefault(at, row)["_block"]:
                    found[at] = row
    return [(*at, row["arrival"]) for at, row in found.items()]


def _none(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    del store, bound
    return []


def _holds(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    rows = [*store.of("events", bound), *store.of("dispositions", bound)]
    return [(sum(r["offset"] == bound["offset"] for r in rows),)]


def _last_arrival(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    return [(max((r["arrival"] for r in store.of("commits", bound)), default=0),)]


def _refused(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    return [
        (r["offset"], r["arrival"], r["digest"])
        for r in store.of("dispositions", bound)
        if r["offset"] in bound["offsets"] and r["disposition"] in ("parked", "quarantined")
    ]


_ANSWERS: dict[str, Callable[[SimStore, Mapping[str, Any]], list[Any]]] = {
    rebuild._CURSOR: _cursor,
    rebuild._END: _end,
    chains._LIVES: _lives,
    chains._BORN: _born,
    chains._NEWEST: _newest,
    chains._LINKS.split("$chains")[0]: _links,
    chains._CONTINUED.split("$chains")[0]: _continued,
    chains._NAMESAKES: _namesakes,
    rebuild._HASHES: _hashes,
    rebuild._RECEIPTS.split("{where}")[0]: _receipts,
    rebuild._DEATHS: _none,
    rebuild._HOLDS: _holds,
    "SELECT toUnixTimestamp64Micro(max(arrival)) FROM commits": _last_arrival,
    "SELECT offset, toUnixTimestamp64Micro(arrival), digest": _refused,
}


# What is asked along with another question: that it fails is tried there.
_IN_PASSING = (
    *(chains._LIVES, chains._BORN),
    *(question.split("$chains")[0] for question in (chains._LINKS, chains._CONTINUED)),
)


class SimSink(ClickHouseSink):
    """The product's sink; it only tells the store which batches the container holds."""

    def __init__(self, store: SimStore, randbits: Callable[[int], int]) -> None:
        super().__init__(store, randbits)
        self._sim = store

    def _events(self, log: Log, chunk: list[Accepted], table: str) -> None:
        self._sim.log, self._sim.chunk = log, chunk
        super()._events(log, chunk, table)
