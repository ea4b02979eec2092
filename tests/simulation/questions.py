"""The questions that the pipeline asks of its store, to the letter, and answers from rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealtrail_processor.store import chains, rebuild

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.simulation.engine import Row, SimStore


def cursor(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
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
        for r in sorted(_of_lives(store, bound), key=lambda r: r["branch"])
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


def _latest(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    flushes = [r for r in store.of("commits", bound) if r["kind"] == "flush"]
    return [(max((r["arrival"] for r in flushes if r["last_offset"] < bound["end"]), default=0),)]


def _since(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    rows = [r for r in store.of("dispositions", bound) if r["offset"] < bound["end"]]
    return [(min(r["offset"] for r in rows if r["arrival"] >= bound["at"]),)]


def _spent(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    return [
        (
            sum(
                len(r["key"] or b"")
                + len(r["value"] or b"")
                + sum(len(name.encode()) + len(value) for name, value in r["headers"])
                for r in store.of("quarantine", bound)
                if bound["first"] <= r["offset"] < bound["end"]
                and r["disposition"] == "quarantined"
            ),
        )
    ]


def _refused(store: SimStore, bound: Mapping[str, Any]) -> list[Any]:
    return [
        (r["offset"], r["arrival"], r["digest"])
        for r in store.of("dispositions", bound)
        if r["offset"] in bound["offsets"] and r["disposition"] in ("parked", "quarantined")
    ]


ANSWERS: dict[str, Callable[[SimStore, Mapping[str, Any]], list[Any]]] = {
    rebuild._CURSOR: cursor,
    rebuild._END: _end,
    chains._LIVES: _lives,
    chains._BORN: _born,
    chains._NEWEST: _newest,
    chains._LINKS.split("$chains")[0]: _links,
    chains._CONTINUED.split("$chains")[0]: _continued,
    chains._NAMESAKES: _namesakes,
    chains._HASHES: _hashes,
    rebuild._LATEST: _latest,
    rebuild._SINCE: _since,
    rebuild._SPENT: _spent,
    rebuild._RECEIPTS.split("{where}")[0]: _receipts,
    rebuild._DEATHS: _none,
    rebuild._HOLDS: _holds,
    "SELECT toUnixTimestamp64Micro(max(arrival)) FROM commits": _last_arrival,
    "SELECT offset, toUnixTimestamp64Micro(arrival), digest": _refused,
}


# What is asked along with another question: that it fails is tried there.
IN_PASSING = (
    *(chains._LIVES, chains._BORN, rebuild._LATEST, rebuild._SINCE, rebuild._SPENT),
    *(question.split("$chains")[0] for question in (chains._LINKS, chains._CONTINUED)),
)
