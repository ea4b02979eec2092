"""How parts lie on the disk: an insert writes few files, merges write files for each column."""

from collections.abc import Callable, Iterator

import pytest
from tests.processors.store.making import Maker
from tests.processors.store.test_flush import visible

from sealtrail_processor.store.client import ClickHouseStore
from sealtrail_processor.store.sink import ClickHouseSink

TABLES = ("events", "edges_by_parent", "edges_by_child", "entity_events")


@pytest.fixture
def any_size(store: ClickHouseStore) -> Iterator[None]:
    """The form of a part follows from its level alone, not from its size."""
    for table in TABLES:
        store.command(f"ALTER TABLE sealtrail.{table} MODIFY SETTING min_bytes_for_wide_part = 0")
    yield
    for table in TABLES:
        store.command(f"ALTER TABLE sealtrail.{table} RESET SETTING min_bytes_for_wide_part")


def forms(store: ClickHouseStore, table: str, which: str = "active") -> dict[str, tuple[str, int]]:
    """Of each part: its form and its level."""
    rows = store.query(
        "SELECT name, part_type, level FROM system.parts"
        f" WHERE database = 'sealtrail' AND table = {{t:String}} AND {which}",
        {"t": table},
    )
    return {name: (form, level) for name, form, level in rows}


@pytest.mark.usefixtures("any_size")
def test_inserts_write_compact_parts_and_merges_wide_ones(
    store: ClickHouseStore, sink: ClickHouseSink, maker: Callable[..., Maker]
) -> None:
    # Also those that are merged already: earlier tests may have left enough for a merge.
    every = "level = 0"
    before = {table: forms(store, table, every) for table in TABLES}
    first, second = maker(), maker(1)
    for m in (first, second):
        sink.write(m.flush(m.accept(40, 40)))
    seen = visible(store, first.log)
    assert seen["events"][0] == 160
    for table in TABLES:
        new = forms(store, table, every).items() - before[table].items()
        assert {form for _, (form, _) in new} == {"Compact"}, table
        store.command(f"OPTIMIZE TABLE sealtrail.{table} FINAL")
        merged = forms(store, table)
        assert {form for form, _ in merged.values()} == {"Wide"}, table
    assert visible(store, first.log) == seen
