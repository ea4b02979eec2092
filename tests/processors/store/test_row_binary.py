"""Rows that we pack ourselves are read by the engine as the driver's are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrail_processor.store import row_binary
from sealtrail_processor.store.client import StoreRefused
from sealtrail_processor.store.rows import PAYLOADS

if TYPE_CHECKING:
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


def test_a_table_with_a_type_that_is_not_known_is_left_to_the_driver() -> None:
    assert row_binary.packers(["String", "Nullable(String)"]) is None
    pack = row_binary.packers(["Array(Tuple(\n    name String,\n    value String))", "UInt16"])
    assert pack is not None
    assert b"".join(row_binary.parts(pack, [([("a", b"bc")], 258)])) == b"\x01\x01a\x02bc\x02\x01"


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
