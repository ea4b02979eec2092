"""Rows are packed as the engine reads them, for every type of a column that rows are written to."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrail_processor.store import row_binary
from sealtrail_processor.store.port import StoreRefused
from sealtrail_processor.store.rows import PAYLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Stack

    from sealtrail_processor.store.client import ClickHouseStore

READ = (
    "SELECT log_id, topic, partition, offset, toUnixTimestamp64Micro(arrival), hex(key), "
    "hex(value), arrayMap(h -> (hex(h.1), hex(h.2)), headers) FROM payloads "
    "WHERE log_id = {log:String} ORDER BY offset"
)
ROW = st.tuples(
    st.text(max_size=300),
    st.integers(0, 2**16 - 1),
    # The year 2000 to 2100: what the table's partitions are made of.
    st.integers(946_684_800_000_000, 4_102_444_800_000_000),
    st.binary(max_size=40),
    st.binary(max_size=70_000),
    st.lists(st.tuples(st.text(max_size=200), st.binary(max_size=200)), max_size=3),
)


def packed(store: ClickHouseStore, rows: list[Any]) -> list[Any]:
    """What the engine gives back of rows."""
    store.insert("payloads", PAYLOADS, rows, os.urandom(8).hex())
    return store.query(READ, {"log": rows[0][0]})


@settings(max_examples=30)
@given(st.lists(ROW, min_size=1, max_size=5))
def test_payloads_come_back_as_they_were(store: ClickHouseStore, drawn: list[Any]) -> None:
    log = os.urandom(8).hex()
    arrival = drawn[0][2]
    rows = [
        (log, topic, partition, 2**63 + number, arrival, key, value, headers)
        for number, (topic, partition, _, key, value, headers) in enumerate(drawn)
    ]
    expected = [
        (
            *row[:5],
            row[5].hex().upper(),
            row[6].hex().upper(),
            [(name.encode().hex().upper(), text.hex().upper()) for name, text in row[7]],
        )
        for row in rows
    ]
    assert packed(store, rows) == expected


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_lengths_at_the_bounds_of_their_bytes(store: ClickHouseStore, size: int) -> None:
    row: tuple[Any, ...] = (
        os.urandom(8).hex(),
        "t",
        1,
        2,
        1_700_000_000_000_000,
        b"k",
        b"v" * size,
        [],
    )
    assert packed(store, [row])[0][6] == "76" * size


@pytest.mark.parametrize(
    ("at", "value"),
    [(2, 2**16), (2, -1), (3, 2**64), (4, 2**63), (2, "1"), (5, None), (6, 7), (7, [("a", None)])],
)
def test_values_that_do_not_fit_are_refused_and_nothing_is_stored(
    store: ClickHouseStore, at: int, value: Any
) -> None:
    good: tuple[Any, ...] = (os.urandom(8).hex(), "t", 1, 2, 1_700_000_000_000_000, b"k", b"v", [])
    bad = tuple(value if n == at else each for n, each in enumerate(good))
    with pytest.raises(StoreRefused):
        store.insert("payloads", PAYLOADS, [good, bad], os.urandom(8).hex())
    assert store.query(READ, {"log": good[0]}) == []


TYPES: dict[str, st.SearchStrategy[Any]] = {
    "a Bool": st.booleans(),
    "b UInt8": st.integers(0, 2**8 - 1),
    "c UInt32": st.integers(0, 2**32 - 1),
    "d Int64": st.integers(-(2**63), 2**63 - 1),
    "e FixedString(4)": st.binary(min_size=4, max_size=4),
    "f Nullable(FixedString(2))": st.none() | st.binary(min_size=2, max_size=2),
    "g LowCardinality(String)": st.text(max_size=200),
    "h LowCardinality(Nullable(String))": st.none() | st.text(max_size=200),
    "i Array(FixedString(3))": st.lists(st.binary(min_size=3, max_size=3), max_size=200),
    "j Enum8('flush' = 1, 'lost' = -2)": st.sampled_from(["flush", "lost"]),
    "k SimpleAggregateFunction(max, UInt64)": st.integers(0, 2**64 - 1),
}
NAMES = [one.partition(" ")[0] for one in TYPES]


@pytest.fixture(scope="module")
def mixed(store: ClickHouseStore) -> Iterator[str]:
    columns = ", ".join(TYPES)
    store.command(f"CREATE TABLE sealtrail.mixed (n UInt64, {columns}) ENGINE = Memory")
    yield "mixed"
    store.command("DROP TABLE sealtrail.mixed")


@settings(max_examples=50)
@given(st.lists(st.tuples(*TYPES.values()), min_size=1, max_size=5))
def test_values_of_all_types_come_back_as_they_were(
    store: ClickHouseStore, mixed: str, drawn: list[Any]
) -> None:
    store.command(f"TRUNCATE TABLE sealtrail.{mixed}")
    rows = [(number, *row) for number, row in enumerate(drawn)]
    store.insert(mixed, ("n", *NAMES), rows, os.urandom(8).hex())
    assert store.query(f"SELECT n, {', '.join(NAMES)} FROM {mixed} ORDER BY n") == rows


@pytest.mark.parametrize(
    ("name", "value"),
    [("b", 256), ("c", -1), ("e", b"123"), ("e", b"12345"), ("e", None), ("f", b"1"), ("j", "no")],
)
def test_a_value_of_another_size_is_refused(
    store: ClickHouseStore, mixed: str, name: str, value: Any
) -> None:
    with pytest.raises(StoreRefused, match="does not fit"):
        store.insert(mixed, (name,), [(value,)], os.urandom(8).hex())


def test_nothing_is_said_by_zeros(store: ClickHouseStore, mixed: str) -> None:
    store.command(f"TRUNCATE TABLE sealtrail.{mixed}")
    store.insert(mixed, ("e", "f"), [(b"", b"")], os.urandom(8).hex())
    assert store.query(f"SELECT e, f FROM {mixed}") == [(bytes(4), bytes(2))]


def test_text_that_no_utf8_can_say_holds_nothing_up(store: ClickHouseStore, mixed: str) -> None:
    store.command(f"TRUNCATE TABLE sealtrail.{mixed}")
    store.insert(mixed, ("g",), [("a\ud800b",)], os.urandom(8).hex())
    assert store.query(f"SELECT g FROM {mixed}") == [("a?b",)]


def test_a_type_that_is_not_known_is_named(store: ClickHouseStore) -> None:
    store.command("CREATE TABLE sealtrail.strange (a Map(String, String)) ENGINE = Memory")
    try:
        with pytest.raises(StoreRefused, match=r"strange: values of type Map\(String, String\)"):
            store.insert("strange", ("a",), [({},)], os.urandom(8).hex())
    finally:
        store.command("DROP TABLE sealtrail.strange")


def test_the_engine_breaks_long_types_into_lines() -> None:
    pack = row_binary.packers(("Array(Tuple(\n    name String,\n    value String))", "UInt16"))
    assert b"".join(row_binary.parts(pack, [([("a", b"bc")], 258)])) == b"\x01\x01a\x02bc\x02\x01"


def test_an_insert_loads_no_library_of_tables(stack: Stack, store: ClickHouseStore) -> None:
    # The driver's own insert loads pandas and Arrow where they are installed: 67 MB of a worker.
    program = (
        "import sys; from sealtrail_processor.store.opening import open_store; "
        "from sealtrail.settings import load; "
        "from sealtrail_processor.settings import WorkerSettings; "
        "from sealtrail_processor.store import rows; store = open_store(load(WorkerSettings)); "
        "store.insert('commits', rows.COMMITS, [('loads', 't', 0, 0, 0, 'lost', 0, 0, bytes(32), "
        "1700000000000000)], 'loads'); "
        "print(store.query('SELECT messages FROM commits WHERE log_id = {l:String}', "
        "{'l': 'loads'}), [n for n in ('numpy', 'pandas', 'pyarrow') if n in sys.modules])"
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SEALTRAIL_")} | stack.env
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "[(0,)] []\n", done.stderr


def test_a_type_that_a_migration_changed_is_refused_once_and_then_known(
    store: ClickHouseStore,
) -> None:
    table = "sealtrail.changed"
    store.command(f"CREATE TABLE {table} (name String, number UInt64) ENGINE = Memory")
    try:
        store.insert("changed", ("number", "name"), [(2**63, "a")], "one")
        store.command(f"DROP TABLE {table}")
        # 0 and 1 as 16 bytes: without types four numbers would be read from it.
        store.command(f"CREATE TABLE {table} (name String, number UInt16) ENGINE = Memory")
        with pytest.raises(StoreRefused, match="number"):
            store.insert("changed", ("number", "name"), [(0, ""), (1, "")], "two")
        store.insert("changed", ("number", "name"), [(0, ""), (1, "b")], "three")
        assert store.query("SELECT number, name FROM changed") == [(0, ""), (1, "b")]
    finally:
        store.command(f"DROP TABLE IF EXISTS {table}")
