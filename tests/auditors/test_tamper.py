"""Rows edited, deleted, added; batches removed and rewritten: found, named, nothing else.

The world: two chains in one partition, seven flushes (commits), with a duplicate, a refused message
and a heartbeat among them. Offsets:

    0 a0  1 b0 | 2 a1  3 (a1 again)  4 garbage | 5 a2 | 6 b1  7 heartbeat | 8 a3 | 9 a4 | 10 a5
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from tests.auditors.making import TOPIC, Chain, Partition

from sealtrail import merkle
from sealtrail.batch import SignedBatch, frame, unframe
from sealtrail.statement import BatchStatement, statement_hash
from sealtrail_processor.judging.keeping import Spent, keep
from sealtrail_processor.judging.model import Log
from sealtrail_processor.store import rows as stored_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.auditors.conftest import Room

    from sealtrail_audit.store.compare import Finding
    from sealtrail_processor.judging.model import Flush

EVERYWHERE = (
    *("events", "edges_by_parent", "edges_by_child", "entity_events"),
    *("batches", "payloads", "dispositions"),
)


@dataclass
class World:
    """What was written, to be tampered with."""

    room: Room
    log: Log
    a: Chain
    b: Chain
    values: dict[int, bytes]
    flushes: list[Flush]

    def change(self, *statements: str) -> None:
        """Tamper."""
        for sql in statements:
            self.room.change(sql)

    def findings(self) -> list[tuple[str, str, int | None, str]]:
        """(code, table, offset, column) of all that the audit finds."""
        found = self.room.audit(chunk_events=14).findings
        return sorted(_brief(f) for f in found)


def _brief(finding: Finding) -> tuple[str, str, int, str]:
    key = finding.key
    offset = key.get("offset", key.get("first_offset", -1))
    return str(finding.code), finding.table, int(offset), finding.column


@pytest.fixture(scope="module")
def written(room: Room) -> World:
    """The world, written once."""
    room.empty()
    log = Log(f"log-{room.number}", TOPIC, 0)
    part, a, b = Partition(log), Chain(1), Chain(2)
    values: dict[int, bytes] = {}

    def batch(chain: Chain, offset: int, count: int = 3) -> tuple[bytes, bytes]:
        values[offset] = chain.batch(count, part.arrival)
        return chain.chain_id, values[offset]

    flushes = [part.flush(batch(a, 0), batch(b, 1))]
    again = batch(a, 2)
    flushes += [
        part.flush(again, again, (b"x", b"garbage")),
        part.flush(batch(a, 5)),
        part.flush(batch(b, 6), (b.chain_id, b.heartbeat(part.arrival))),
        part.flush(batch(a, 8)),
        part.flush(batch(a, 9)),
        part.flush(batch(a, 10)),
    ]
    room.write(flushes)
    room.keep("tamper")
    return World(room, log, a, b, values, flushes)


@pytest.fixture
def world(written: World) -> Iterator[World]:
    """A store that is clean, and will be again."""
    assert written.room.kept == "tamper"
    yield written
    written.room.bring_back()


def test_the_world_is_clean(world: World):
    assert world.findings() == []


# Table, column to edit, what it becomes (key columns cannot be edited in place).
EDITS = [
    ("events", "activity", "'forged'"),
    ("events", "salt", "unhex('00112233445566778899aabbccddeeff')"),
    ("events", "leaf_hash", "reverse(leaf_hash)::FixedString(32)"),
    ("events", "attributes", "map('region', 'us')"),
    ("events", "inputs", "arrayResize(inputs, 0)"),
    ("events", "time_source", "'RECEIPT'"),
    ("edges_by_parent", "parent_leaf", "reverse(parent_leaf)::FixedString(32)"),
    ("edges_by_child", "parent_leaf", "reverse(parent_leaf)::FixedString(32)"),
    ("edges_by_child", "child_occurred_at", "child_occurred_at + 1"),
    ("entity_events", "size_bytes", "7"),
    ("batches", "root", "reverse(root)::FixedString(32)"),
    ("batches", "statement_hash", "reverse(statement_hash)::FixedString(32)"),
    ("batches", "previous", "reverse(previous)::FixedString(32)"),
    ("batches", "signed_at", "signed_at + 1"),
    ("payloads", "value", "concat(substring(value, 1, 300), 'x', substring(value, 302))"),
    ("payloads", "value", "''"),
    ("payloads", "key", "'x'"),
    ("payloads", "headers.content-type", "arrayMap(h -> (h.1, 'x'), headers)"),
    ("dispositions", "digest", "reverse(digest)::FixedString(32)"),
    ("dispositions", "chain_id", "reverse(chain_id)::FixedString(32)"),
    ("dispositions", "disposition", "'duplicate'"),
    ("dispositions", "disposition", "'quarantined'"),
    ("dispositions", "events", "99"),
    ("dispositions", "detail", "'x'"),
]


# Offset 2 shares its commit with a duplicate and a refused message; 10 is the end of everything.
@pytest.mark.parametrize(
    ("table", "column", "value", "offset"),
    [(*edit, 2) for edit in EDITS] + [(*edit, 10) for edit in EDITS[::5]],
)
def test_an_edited_row(world: World, table: str, column: str, value: str, offset: int):
    one = "AND seq % 3 = 1" if table in ("events", "entity_events") else ""
    one = "AND child_seq % 3 = 1" if table.startswith("edges") else one
    one += " AND direction = 'input'" if table == "entity_events" else ""
    edited = column.partition(".")[0]
    world.change(f"ALTER TABLE {table} UPDATE {edited} = {value} WHERE offset = {offset} {one}")
    named = "inputs.namespace" if column == "inputs" else column
    named = "attributes.keys" if column == "attributes" else named
    found = world.findings()
    assert [f[:3] for f in found] == [("ROW_CHANGED", table, offset)]
    if column != "attributes":
        assert found[0][3] == named


@pytest.mark.parametrize("table", [t for t in EVERYWHERE if t != "commits"])
@pytest.mark.parametrize("offset", [2, 10])
def test_a_deleted_row(world: World, table: str, offset: int):
    one = "AND seq % 3 = 1" if table == "events" else ""
    one = "AND seq % 3 = 1 AND direction = 'input'" if table == "entity_events" else one
    one = "AND child_seq % 3 = 1" if table.startswith("edges") else one
    world.change(f"ALTER TABLE {table} DELETE WHERE offset = {offset} {one}")
    assert [f[:3] for f in world.findings()] == [("ROW_MISSING", table, offset)]


@pytest.mark.parametrize("table", EVERYWHERE)
def test_an_added_row_where_nothing_was_accepted(world: World, table: str):
    # Offset 7 is a heartbeat's: the copied rows stand where no batch was accepted.
    if table == "dispositions":
        change = "* REPLACE(20 + offset AS offset)"
        world.change(
            f"INSERT INTO {table} SELECT {change} FROM (SELECT * FROM {table} WHERE offset = 0)",
            # It is seen once offsets beyond it are committed.
            "INSERT INTO commits SELECT * REPLACE(11 AS first_offset, 30 AS last_offset,"
            " 0 AS messages, 0 AS rows, unhex('"
            f"{sha256().hexdigest()}') AS digest, 'lost' AS kind)"
            " FROM (SELECT * FROM commits WHERE last_offset = 10)",
        )
        assert [f[:3] for f in world.findings()] == [("ROW_ADDED", table, 20)]
        return
    world.change(
        f"INSERT INTO {table} SELECT * REPLACE(toUInt64(7) AS offset)"
        f" FROM (SELECT * FROM {table} WHERE offset = 0 LIMIT 1)"
    )
    assert [f[:3] for f in world.findings()] == [("ROW_ADDED", table, 7)]


@pytest.mark.parametrize("table", ["events", "edges_by_parent", "edges_by_child", "entity_events"])
def test_an_added_row_in_an_accepted_batch(world: World, table: str):
    seq = "child_seq" if table.startswith("edges") else "seq"
    world.change(
        f"INSERT INTO {table} SELECT * REPLACE(toUInt64(77) AS {seq}) FROM {table}"
        " WHERE offset = 5 LIMIT 1"
    )
    assert [f[:3] for f in world.findings()] == [("ROW_ADDED", table, 5)]


ROWS_THAT_REPLACE = [
    ("events", "activity", "'forged'"),
    ("edges_by_parent", "parent_leaf", "parent_id || parent_id"),
    ("entity_events", "size_bytes", "7"),
    ("batches", "root", "previous"),
    ("payloads", "value", "'x'"),
    ("dispositions", "digest", "reverse(digest)::FixedString(32)"),
]


@pytest.mark.parametrize(("table", "column", "value"), ROWS_THAT_REPLACE)
def test_an_added_row_that_will_replace_another(world: World, table: str, column: str, value: str):
    world.change(
        f"INSERT INTO {table} SELECT * REPLACE({value} AS {column}) FROM {table}"
        " WHERE offset = 5 LIMIT 1"
    )
    assert world.findings() == [("ROW_CHANGED", table, 5, column)]


COMMIT_EDITS = [
    ("digest", "reverse(digest)::FixedString(32)"),
    ("rows", "rows + 1"),
    ("rows", "0"),
    ("messages", "messages + 1"),
    ("messages", "0"),
    ("arrival", "arrival + 1"),
    ("kind", "'lost'"),
]


@pytest.mark.parametrize(("column", "value"), COMMIT_EDITS)
@pytest.mark.parametrize("first", [2, 10])
def test_an_edited_commit(world: World, column: str, value: str, first: int):
    world.change(f"ALTER TABLE commits UPDATE {column} = {value} WHERE first_offset = {first}")
    assert world.findings() == [("ROW_CHANGED", "commits", first, column)]


RANGES = [
    # (first_offset, last_offset) of a commit, and what they become.
    (2, 4, 2, 3),
    (2, 4, 3, 4),
    (2, 4, 2, 6),
    (2, 4, 1, 4),
    (10, 10, 10, 14),
    (0, 1, 0, 0),
]


@pytest.mark.parametrize(("first", "last", "new_first", "new_last"), RANGES)
def test_a_commit_with_other_ends(
    world: World, first: int, last: int, new_first: int, new_last: int
):
    # Ends are key columns: the row is taken away and another put in its place.
    world.change(
        "INSERT INTO commits SELECT * REPLACE("
        f"toUInt64({new_first}) AS first_offset, toUInt64({new_last}) AS last_offset)"
        f" FROM (SELECT * FROM commits WHERE first_offset = {first})",
        f"ALTER TABLE commits DELETE WHERE first_offset = {first} AND last_offset = {last}",
    )
    column = "first_offset" if new_first != first else "last_offset"
    assert world.findings() == [("ROW_CHANGED", "commits", new_first, column)]


@pytest.mark.parametrize("first", [0, 2, 5, 6, 9])
def test_a_deleted_commit(world: World, first: int):
    world.change(f"ALTER TABLE commits DELETE WHERE first_offset = {first}")
    assert [f[:3] for f in world.findings()] == [("ROW_MISSING", "commits", first)]


def test_the_last_commit_deleted(world: World):
    world.change("ALTER TABLE commits DELETE WHERE first_offset = 10")
    assert [f[:3] for f in world.findings()] == [("ROW_MISSING", "commits", 10)]


@pytest.mark.parametrize(("first", "last"), [(0, 20), (3, 4), (5, 6), (11, 20)])
def test_an_added_commit(world: World, first: int, last: int):
    world.change(
        f"INSERT INTO commits SELECT * REPLACE(toUInt64({first}) AS first_offset,"
        f" toUInt64({last}) AS last_offset) FROM (SELECT * FROM commits WHERE first_offset = 5)"
    )
    found = world.findings()
    assert [f[:2] for f in found] == [("ROW_ADDED", "commits")]


@pytest.mark.parametrize("offset", [0, 2, 5, 9])
def test_a_batch_removed_everywhere(world: World, offset: int):
    world.change(*(f"ALTER TABLE {t} DELETE WHERE offset = {offset}" for t in EVERYWHERE))
    (finding,) = world.room.audit(chunk_events=14).findings
    numbers = {0: 0, 2: 1, 5: 2, 9: 4}
    assert str(finding.code) == "BATCH_MISSING"
    assert finding.key["chain_id"] == world.a.chain_id
    assert finding.key["batch_seq"] == numbers[offset]
    assert finding.key["offset"] == offset


def test_the_last_batch_of_a_chain_removed_is_seen_by_its_commit(world: World):
    world.change(*(f"ALTER TABLE {t} DELETE WHERE offset = 10" for t in EVERYWHERE))
    assert world.findings() == [("BATCH_MISSING", "payloads", 10, "")]


def test_a_batch_removed_with_its_commit_made_to_fit(world: World):
    world.change(
        *(f"ALTER TABLE {t} DELETE WHERE offset = 5" for t in EVERYWHERE),
        "ALTER TABLE commits UPDATE kind = 'lost', messages = 0, rows = 0, digest = unhex('"
        f"{sha256().hexdigest()}') WHERE first_offset = 5",
    )
    (finding,) = world.room.audit().findings
    assert str(finding.code) == "BATCH_MISSING"
    assert finding.key == {"chain_id": world.a.chain_id, "batch_seq": 2}


def test_duplicates_and_heartbeats_in_dispositions(world: World):
    world.change("ALTER TABLE dispositions DELETE WHERE offset = 3")
    assert world.findings() == [("ROW_MISSING", "dispositions", 3, "")]


def test_a_duplicate_that_names_another_digest(world: World):
    world.change(
        "ALTER TABLE dispositions UPDATE digest = reverse(digest)::FixedString(32) WHERE offset = 3"
    )
    assert world.findings() == [("ROW_CHANGED", "dispositions", 3, "digest")]


def test_quarantined_bytes_changed(world: World):
    world.change("ALTER TABLE quarantine UPDATE value = 'other' WHERE offset = 4")
    assert world.findings() == [("ROW_CHANGED", "quarantine", 4, "value")]


UNKEPT = "detail = concat('not kept: 7 bytes; ', detail)"
GONE = "value = NULL, key = NULL"


def test_bytes_that_were_taken_away_are_missed_whatever_the_row_says(world: World):
    world.change(f"ALTER TABLE quarantine UPDATE {GONE}, {UNKEPT} WHERE offset = 4")
    assert world.findings() == [("ROW_CHANGED", "quarantine", 4, "value")]


def test_and_if_the_disposition_says_so_too_its_commit_does_not(world: World):
    world.change(
        f"ALTER TABLE quarantine UPDATE {GONE}, {UNKEPT} WHERE offset = 4",
        f"ALTER TABLE dispositions UPDATE {UNKEPT} WHERE offset = 4",
    )
    found = world.findings()
    assert found
    assert {name for _, name, _, _ in found} <= {"commits", "dispositions", "quarantine"}


def test_a_message_whose_bytes_were_not_kept_is_whole_and_stays_watched(world: World):
    room, log = world.room, Log("unkept", TOPIC, 5)
    partition = Partition(log)
    flush = partition.flush((b"k", b"rubbish"), (b"k", b"more"))
    judged, _ = keep(flush.judged, Spent(), 100, 0)
    assert [j.kept for j in judged] == [True, False]
    room.touched |= {"dispositions", "findings", "quarantine", "commits", "commit_ends"}
    room.sink.write(replace(flush, judged=judged))
    assert room.audit().findings == []
    here = "log_id = 'unkept' AND offset = "
    world.change(f"ALTER TABLE quarantine UPDATE value = 'more' WHERE {here}1")
    assert room.audit().findings == []
    world.change(f"ALTER TABLE quarantine UPDATE value = 'less' WHERE {here}1")
    assert world.findings() == [("ROW_CHANGED", "quarantine", 1, "value")]
    world.change(f"ALTER TABLE quarantine UPDATE value = NULL WHERE {here}1")
    world.change(f"ALTER TABLE quarantine UPDATE value = NULL WHERE {here}0")
    assert world.findings() == [("ROW_CHANGED", "quarantine", 0, "value")]


def test_a_quarantined_message_deleted(world: World):
    world.change("ALTER TABLE quarantine DELETE WHERE offset = 4")
    assert world.findings() == [("ROW_MISSING", "quarantine", 4, "")]


def _rewritten(value: bytes, signer: Any = None) -> bytes:
    """A batch whose second event says something else, with a statement that fits it."""
    envelope = SignedBatch.decode(unframe(value)[1])
    events = list(envelope.events)
    events[1] = events[1].replace(b"orders.enrich", b"orders.forged")
    statement = BatchStatement.decode(envelope.statement)
    root = merkle.root([merkle.leaf_hash(e) for e in events])
    names = BatchStatement.__dataclass_fields__
    values = {name: getattr(statement, name) for name in names} | {"root": root}
    again = BatchStatement(**values).encode()
    signatures = envelope.signatures if signer is None else signer(again)
    body = SignedBatch(envelope.payload_type, again, signatures, 1, tuple(events)).encode()
    return frame(1, body)


def _replace_consistently(world: World, offset: int, value: bytes) -> None:
    """Rewrite a batch in all tables, and its commit, as who may write to the store would."""
    envelope = SignedBatch.decode(unframe(value)[1])
    statement = BatchStatement.decode(envelope.statement)
    leaf = merkle.leaf_hash(envelope.events[1]).hex()
    index = statement.first_seq + 1
    flush = next(f for f in world.flushes if f.first_offset <= offset <= f.last_offset)
    dispositions = [stored_rows.disposition(world.log, j) for j in flush.judged]
    digests = [
        (*row[:10], sha256(value).digest(), *row[11:]) if row[3] == offset else row
        for row in dispositions
    ]
    world.change(
        f"ALTER TABLE payloads UPDATE value = unhex('{value.hex()}') WHERE offset = {offset}",
        "ALTER TABLE events UPDATE activity = 'orders.forged', leaf_hash ="
        f" unhex('{leaf}')::FixedString(32) WHERE offset = {offset} AND seq = {index}",
        f"ALTER TABLE batches UPDATE root = unhex('{statement.root.hex()}')::FixedString(32),"
        f" statement_hash = unhex('{statement_hash(envelope.statement).hex()}')::FixedString(32)"
        f" WHERE offset = {offset}",
        f"ALTER TABLE dispositions UPDATE digest = unhex('{sha256(value).hexdigest()}')"
        f"::FixedString(32) WHERE offset = {offset}",
        "ALTER TABLE commits UPDATE digest = "
        f"unhex('{stored_rows.commit_digest(digests).hex()}')::FixedString(32)"
        f" WHERE first_offset = {flush.first_offset}",
    )


def test_a_batch_rewritten_consistently_without_the_key(world: World):
    _replace_consistently(world, 5, _rewritten(world.values[5]))
    assert world.findings() == [("BAD_SIGNATURE", "payloads", 5, "value")]


def test_a_batch_rewritten_consistently_with_the_key(world: World):
    from tests.auditors.making import PRODUCER

    from sealtrail import dsse

    def sign(statement: bytes) -> tuple[bytes, ...]:
        return tuple(dsse.sign(dsse.BATCH, statement, [PRODUCER]))

    _replace_consistently(world, 5, _rewritten(world.values[5], sign))
    (finding,) = world.room.audit().findings
    assert str(finding.code) == "CHAIN_BROKEN"
    assert (finding.key["batch_seq"], finding.column) == (3, "previous")


def test_a_root_that_is_not_that_of_the_events(world: World):
    envelope = SignedBatch.decode(unframe(world.values[5])[1])
    events = tuple(e.replace(b"orders.enrich", b"orders.forged") for e in envelope.events)
    body = SignedBatch(envelope.payload_type, envelope.statement, envelope.signatures, 1, events)
    _replace_consistently(world, 5, frame(1, body.encode()))
    assert world.findings() == [("BAD_ROOT", "payloads", 5, "value")]


def test_payloads_of_two_batches_exchanged(world: World):
    world.change(
        f"ALTER TABLE payloads UPDATE value = if(offset = 8, unhex('{world.values[9].hex()}'),"
        f" unhex('{world.values[8].hex()}')) WHERE offset IN (8, 9)"
    )
    assert world.findings() == [
        ("ROW_CHANGED", "payloads", 8, "value"),
        ("ROW_CHANGED", "payloads", 9, "value"),
    ]


def test_the_same_row_twice_is_one_row(world: World):
    world.change(
        *(f"INSERT INTO {t} SELECT * FROM {t} WHERE offset < 6" for t in EVERYWHERE),
        "INSERT INTO commits SELECT * FROM commits",
    )
    assert world.findings() == []


def test_leftovers_above_the_committed_offset_are_no_finding_while_young(world: World):
    world.change(
        "ALTER TABLE commits DELETE WHERE first_offset = 10",
        "ALTER TABLE commit_ends UPDATE last_offset = 9, covered = 10 WHERE last_offset = 10",
    )
    report = world.room.audit(settled=0)
    assert report.findings == []
    assert any("wait" in note for note in report.notes)


@pytest.mark.parametrize("table", ["payloads", "batches", "quarantine"])
def test_a_row_added_above_the_committed_offset(world: World, table: str):
    world.change(
        f"INSERT INTO {table} SELECT * REPLACE (toUInt64(999) AS offset)"
        f" FROM (SELECT * FROM {table} LIMIT 1)"
    )
    assert [f[:2] for f in world.findings()] == [("ROW_MISSING", "commits")]


def test_what_readers_see_is_cut_short(world: World):
    world.change("ALTER TABLE commit_ends UPDATE last_offset = 4, covered = 5 WHERE 1")
    assert world.findings() == [("ROW_CHANGED", "commit_ends", -1, "last_offset")]


def test_the_last_commit_deleted_is_seen_at_once_by_what_readers_are_shown(world: World):
    world.change("ALTER TABLE commits DELETE WHERE first_offset = 10")
    (finding,) = world.room.audit(settled=0).findings
    assert (str(finding.code), finding.table, finding.key["first_offset"]) == (
        "ROW_MISSING",
        "commits",
        10,
    )
