"""What the conservation check asks of the store: counts and exceptions, never whole tables.

Each question is about one range of offsets of one log. The engine compares, and answers with what
differs; only statements' hashes and numbers (one row a batch) come over. Rows that a message has in
several tables share its arrival, which lets the engine skip the months and hours beside it. A range
lies below the end of its commits, so that its own rows are read without asking for that end again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sealtrail.findings import Code, Disposition, Verdict
from sealtrail_audit.conservation.law import MOST_EXAMPLES, Batch, Commit, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sealtrail_audit.reader import Reader

_LOG = "log_id = {log:String} AND topic = {topic:String} AND partition = {partition:UInt16}"
_HERE = f"{_LOG} AND offset BETWEEN {{low:UInt64}} AND {{high:UInt64}}"
_THEN = (
    f"{_HERE} AND arrival BETWEEN fromUnixTimestamp64Micro({{since:Int64}}, 'UTC') "
    "AND fromUnixTimestamp64Micro({until:Int64}, 'UTC')"
)
_TAKEN = f"('{Disposition.ACCEPTED}', '{Disposition.RELEASED}')"
_REFUSED = f"('{Disposition.QUARANTINED}', '{Disposition.PARKED}')"
# Exceptions that one question answers with; the rest is counted.
_MOST = MOST_EXAMPLES

# A message's rows per table, as "offset, what, how many".
_CONTENT = f"""
    SELECT offset, 'said' AS what, toInt64(events) AS n FROM dispositions FINAL
        WHERE {_HERE} AND disposition IN {_TAKEN}
    UNION ALL SELECT offset, 'batch', toInt64(count) FROM batches FINAL WHERE {_HERE}
    UNION ALL SELECT offset, 'first', toInt64(first_seq) FROM batches FINAL
        WHERE {_HERE} AND count > 0
    UNION ALL SELECT offset, tupleElement(x, 1), tupleElement(x, 2) FROM (
        SELECT offset, arrayJoin([
            ('views', toInt64(count())), ('once', toInt64(uniqExact(chain_id, seq, branch))),
            ('from', toInt64(min(seq))), ('span', toInt64(max(seq) - min(seq) + 1)),
            ('parents', toInt64(sum(length(parents)))),
            ('entities', toInt64(sum(length(inputs) + length(outputs))))]) AS x
        FROM provenance.events WHERE {_THEN} GROUP BY offset)
    UNION ALL SELECT offset, 'by_parent', toInt64(count()) FROM edges_by_parent FINAL
        WHERE {_THEN} GROUP BY offset
    UNION ALL SELECT offset, 'by_child', toInt64(count()) FROM edges_by_child FINAL
        WHERE {_THEN} GROUP BY offset
    UNION ALL SELECT offset, 'entity_rows', toInt64(count()) FROM entity_events FINAL
        WHERE {_THEN} GROUP BY offset
"""
# What of a message must be equal: complaint, one side, the other.
CONTENT = (
    ("events that the disposition says, and the batch", "said", "batch"),
    ("events that the batch says, and those in the view", "batch", "views"),
    ("events in the view, and different ones", "views", "once"),
    ("events in the view, and the sequence numbers that they span", "views", "span"),
    ("first sequence number of the batch, and that of its events", "first", "from"),
    ("references of events, and edges by parent", "parents", "by_parent"),
    ("references of events, and edges by child", "parents", "by_child"),
    ("entities of events, and their rows", "entities", "entity_rows"),
)
_PRESENCE = f"""
    SELECT offset, 'taken' AS what FROM dispositions FINAL
        WHERE {_HERE} AND disposition IN {_TAKEN}
    UNION ALL SELECT offset, 'refused' FROM dispositions FINAL
        WHERE {_HERE} AND disposition IN {_REFUSED}
    UNION ALL SELECT offset, 'payloads' FROM payloads FINAL WHERE {_HERE}
    UNION ALL SELECT offset, 'batches' FROM batches FINAL WHERE {_HERE}
    UNION ALL SELECT offset, 'quarantine' FROM quarantine FINAL WHERE {_HERE}
"""
PRESENCE = (("payloads", "taken"), ("batches", "taken"), ("quarantine", "refused"))
_MISSING = re.compile(r"batches (\d+) to (\d+) are missing")


class Questions:
    """Asks one store.

    Args:
        reader: the store.
        topic: of signed batches.
    """

    def __init__(self, reader: Reader, topic: str) -> None:
        self._reader = reader
        self._topic = topic

    def places(self) -> list[Place]:
        """Logs of the topic that have commits."""
        sql = """
            SELECT DISTINCT log_id, partition FROM commits WHERE topic = {topic:String}
            ORDER BY partition, log_id
        """
        rows = self._reader.rows(sql, {"topic": self._topic})
        return [Place(log_id, self._topic, partition) for log_id, partition in rows]

    def ends(self) -> dict[Place, int]:
        """The end that readers are shown, of each log."""
        sql = "SELECT log_id, partition, committed FROM committed WHERE topic = {topic:String}"
        rows = self._reader.rows(sql, {"topic": self._topic})
        return {Place(log_id, self._topic, number): end for log_id, number, end in rows}

    def commits(self, place: Place, after: int) -> list[Commit]:
        """Commits that reach beyond an offset; -1 for all."""
        sql = f"""
            SELECT first_offset, last_offset, kind = 'lost', messages, rows FROM commits FINAL
            WHERE {_LOG} AND toInt64(last_offset) > {{after:Int64}}
        """
        rows = self._reader.rows(sql, _log(place) | {"after": after})
        return [Commit(first, last, bool(lost), *more) for first, last, lost, *more in rows]

    def window(self, place: Place, low: int, high: int) -> Window:
        """Questions about a range of offsets, both ends included."""
        return Window(self._reader, place, low, high)

    def named_losses(self, place: Place) -> set[int]:
        """First offsets of ranges that a finding says were lost."""
        code = f"code = '{Code.DATA_LOSS_WINDOW}'"
        sql = f"SELECT DISTINCT offset FROM findings WHERE {code} AND {_LOG}"
        return {row[0] for row in self._reader.rows(sql, _log(place))}


class Window:
    """A range of offsets of one log."""

    def __init__(self, reader: Reader, place: Place, low: int, high: int) -> None:
        self._reader = reader
        self._bound: dict[str, Any] = _log(place) | {"low": low, "high": high}
        sql = f"""
            SELECT toUnixTimestamp64Micro(min(arrival)), toUnixTimestamp64Micro(max(arrival))
            FROM dispositions FINAL WHERE {_HERE}
        """
        since, until = self._rows(sql)[0]
        self._bound |= {"since": since, "until": until}

    def fates(self) -> tuple[dict[str, int], int]:
        """How many offsets met each fate, and how many events the accepted ones hold."""
        sql = f"""
            SELECT disposition, uniqExact(offset), sum(events) FROM dispositions FINAL
            WHERE {_HERE} GROUP BY disposition
        """
        rows = self._rows(sql)
        taken = (Disposition.ACCEPTED, Disposition.RELEASED)
        events = sum(row[2] for row in rows if row[0] in taken)
        return {row[0]: row[1] for row in rows}, events

    def twice(self) -> list[int]:
        """Offsets with more than one fate."""
        sql = f"""
            SELECT offset FROM dispositions FINAL WHERE {_HERE}
            GROUP BY offset HAVING count() > 1 ORDER BY offset
        """
        return [row[0] for row in self._rows(sql)]

    def holes(self) -> list[tuple[int, int]]:
        """Ranges of offsets without a fate."""
        sql = f"""
            SELECT before + 1, offset - 1 FROM (
                SELECT offset, lagInFrame(offset, 1, toInt64({{low:UInt64}}) - 1) OVER (
                    ORDER BY offset ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before
                FROM (
                    SELECT DISTINCT toInt64(offset) AS offset FROM dispositions FINAL
                    WHERE {_HERE} UNION ALL SELECT toInt64({{high:UInt64}}) + 1
                )
            ) WHERE offset > before + 1 ORDER BY 1
        """
        return [(first, last) for first, last in self._rows(sql)]

    def uneven(self, one: str, other: str) -> tuple[list[int], int]:
        """Offsets at which two counts of `CONTENT` differ: the first of them, and how many."""
        sql = f"""
            SELECT offset, count() OVER () FROM (
                SELECT offset FROM ({_CONTENT}) GROUP BY offset
                HAVING sumIf(n, what = {{one:String}}) != sumIf(n, what = {{other:String}})
            ) ORDER BY offset LIMIT {_MOST}
        """
        rows = self._rows(sql, {"one": one, "other": other})
        return [row[0] for row in rows], rows[0][1] if rows else 0

    def content(self) -> tuple[dict[tuple[str, str], int], int]:
        """How many offsets differ in each pair of `CONTENT`, and how many events readers see."""
        pairs = [(one, other) for _, one, other in CONTENT]
        counts = ", ".join(f"countIf({one} != {other})" for one, other in pairs)
        names = sorted({name for pair in pairs for name in pair})
        values = ", ".join(f"sumIf(n, what = '{name}') AS {name}" for name in names)
        by_offset = f"SELECT offset, {values} FROM ({_CONTENT}) GROUP BY offset"
        sql = f"SELECT sum(views), {counts} FROM ({by_offset})"
        events, *found = self._rows(sql)[0]
        return dict(zip(pairs, found, strict=True)), events

    def presence(self) -> Iterator[tuple[str, list[int], int]]:
        """Tables whose rows do not match the fates: name, first offsets, how many."""
        differ = [f"has(x, '{table}') != has(x, '{fate}')" for table, fate in PRESENCE]
        counts = ", ".join(f"countIf({unlike})" for unlike in differ)
        some = ", ".join(
            f"arraySlice(arraySort(groupArrayIf(offset, {unlike})), 1, {_MOST})"
            for unlike in differ
        )
        by_offset = f"SELECT offset, groupUniqArray(what) AS x FROM ({_PRESENCE}) GROUP BY offset"
        sql = f"SELECT {counts}, {some} FROM ({by_offset})"
        row = self._rows(sql)[0]
        for number, (table, _) in enumerate(PRESENCE):
            yield table, list(row[number + len(PRESENCE)]), row[number]

    def batches(self) -> list[Batch]:
        """Batches of these offsets, and those of their chains right before and after them."""
        here = f"SELECT chain_id, batch_seq FROM committed_batches WHERE {_HERE}"
        # Of the column's own type: what is signed matches none of its values.
        before = "toUInt64(batch_seq - least(batch_seq, 1))"
        sql = f"""
            SELECT chain_id, batch_seq, branch, first_seq, count, statement_hash, previous, closes,
                offset, toUnixTimestamp64Micro(arrival), {_HERE}
            FROM committed_batches
            WHERE (chain_id, batch_seq) IN (
                SELECT chain_id, arrayJoin([{before}, batch_seq, batch_seq + 1]) FROM ({here}))
        """
        return [Batch(*row) for row in self._rows(sql)]

    def main(self) -> dict[bytes, int]:
        """Chains whose genesis stands on another branch than 0, with that branch."""
        sql = f"""
            SELECT chain_id, min(branch) AS main FROM committed_batches
            WHERE batch_seq = 0
                AND chain_id IN (SELECT chain_id FROM committed_batches WHERE {_HERE})
            GROUP BY chain_id HAVING main > 0
        """
        return dict(self._rows(sql))

    def named_gaps(self) -> dict[bytes, list[tuple[int, int]]]:
        """Gaps that findings name, of the chains of these offsets."""
        sql = f"""
            SELECT chain_id, batch_seq, detail FROM committed_findings WHERE code = '{Code.GAP}'
                AND chain_id IN (SELECT chain_id FROM committed_batches WHERE {_HERE})
        """
        found: dict[bytes, list[tuple[int, int]]] = {}
        for chain_id, number, detail in self._rows(sql):
            ends = _MISSING.search(detail)
            named = (int(ends[1]), int(ends[2])) if ends else (number, number)
            found.setdefault(chain_id, []).append(named)
        return found

    def unfounded_duplicates(self) -> list[int]:
        """Offsets whose message was dropped as a duplicate of a batch that is not there."""
        sql = f"""
            SELECT offset FROM dispositions FINAL
            WHERE {_HERE} AND disposition = '{Disposition.DUPLICATE}'
                AND (chain_id, batch_seq) NOT IN (
                    SELECT chain_id, batch_seq FROM committed_batches
                    WHERE (chain_id, batch_seq) IN (
                        SELECT chain_id, batch_seq FROM dispositions FINAL
                        WHERE {_HERE} AND disposition = '{Disposition.DUPLICATE}'))
            ORDER BY offset
        """
        return [row[0] for row in self._rows(sql)]

    def unfounded_releases(self) -> list[int]:
        """Offsets whose message is said to have come out of quarantine, and was not there."""
        origin = "from_log_id, from_topic, from_partition, from_offset"
        chosen = f"{_HERE} AND disposition = '{Disposition.RELEASED}'"
        sql = f"""
            SELECT offset FROM dispositions FINAL WHERE {chosen} AND ({origin}) NOT IN (
                SELECT log_id, topic, partition, offset FROM dispositions FINAL
                WHERE disposition IN ('{Disposition.PARKED}', '{Disposition.QUARANTINED}')
                    AND (log_id, topic, partition, offset) IN (
                        SELECT {origin} FROM dispositions FINAL WHERE {chosen}))
            ORDER BY offset
        """
        return [row[0] for row in self._rows(sql)]

    def links(self) -> tuple[list[str], list[str]]:
        """Links that are VERIFIED and whose parent is not stored so; verdicts on other parents."""
        edges = f"SELECT * FROM edges_by_child FINAL WHERE {_THEN}"
        sql = f"""
            SELECT e.parent_id != v.parent_id, lower(hex(e.child_id)), e.ordinal
            FROM ({edges}) AS e INNER JOIN (
                SELECT * FROM link_verdicts FINAL
                WHERE child_chain IN (SELECT child_chain FROM ({edges}))
            ) AS v ON v.child_chain = e.child_chain AND v.child_seq = e.child_seq
                AND v.child_branch = e.child_branch AND v.ordinal = e.ordinal
            WHERE e.parent_id != v.parent_id OR v.verdict = '{Verdict.VERIFIED}'
                AND (e.parent_id, e.parent_leaf) NOT IN (
                    SELECT event_id, leaf_hash FROM events
                    WHERE event_id IN (SELECT parent_id FROM ({edges})))
            ORDER BY ALL
        """
        found: tuple[list[str], list[str]] = ([], [])
        for other, child, ordinal in self._rows(sql):
            found[bool(other)].append(f"parent {ordinal} of event {child}")
        return found

    def _rows(self, sql: str, more: dict[str, Any] | None = None) -> Sequence[tuple[Any, ...]]:
        return self._reader.rows(sql, self._bound | (more or {}))


def _log(place: Place) -> dict[str, Any]:
    return {"log": place.log_id, "topic": place.topic, "partition": place.partition}
