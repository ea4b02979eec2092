"""What the store has acknowledged is there after SIGKILL; parts move to the cold volume by TTL."""

import threading
import time
import uuid
from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error
from tests.conftest import Stack, running_stack
from tests.local.conftest import connector, kill

from sealtrail.settings import load
from sealtrail_local import stack as stack_module
from sealtrail_local.settings import LocalSettings

KILLS = 4
BLOCK = 2_000


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    """A stack that a test may break."""
    with running_stack() as running:
        yield running


def insert(client: Client, block: int) -> None:
    rows = "\n".join(f"{block},{i}" for i in range(BLOCK)).encode()
    client.raw_insert(
        "kept",
        ["block", "row"],
        rows,
        fmt="CSV",
        settings={"insert_deduplication_token": f"block-{block}"},
    )


def test_acknowledged_blocks_survive_sigkill(own: Stack):
    settings, connect = load(LocalSettings, own.env), connector(own)
    client = connect(autogenerate_session_id=False)
    client.command(
        "CREATE TABLE kept (block UInt64, row UInt64) ENGINE = MergeTree ORDER BY (block, row) "
        "SETTINGS non_replicated_deduplication_window = 1000, storage_policy = 'hot_cold'"
    )
    acknowledged: set[int] = set()
    block = 0
    for turn in range(KILLS):
        killer = threading.Timer(0.3 + 0.17 * turn, kill, (own, "store"))
        killer.start()
        while killer.is_alive() or block not in acknowledged:
            try:
                insert(client, block)
            except Error:
                break  # unacknowledged: sent again with the same token below
            acknowledged.add(block)
            block += 1
        killer.join()
        stack_module.up(settings, print)
        client = connect(autogenerate_session_id=False)
        insert(client, block)
        acknowledged.add(block)
        block += 1
        found = client.query("SELECT block, count(), uniqExact(row) FROM kept GROUP BY block")
        assert {b: (n, u) for b, n, u in found.result_rows} == dict.fromkeys(
            acknowledged, (BLOCK, BLOCK)
        )
    assert len(acknowledged) > KILLS
    client.close()


def test_data_stay_over_a_clean_restart(own: Stack):
    settings, connect = load(LocalSettings, own.env), connector(own)
    client = connect(autogenerate_session_id=False)
    client.command("CREATE TABLE stays (a Int8) ENGINE = MergeTree ORDER BY a")
    client.command("INSERT INTO stays VALUES (1), (2)")
    client.close()
    assert stack_module.down(settings, print) == ["store", "registry", "broker"]
    stack_module.up(settings, print)
    client = connect(autogenerate_session_id=False)
    assert client.command("SELECT sum(a) FROM stays") == 3
    client.close()


def test_parts_move_to_the_cold_volume_by_ttl(own: Stack):
    client = connector(own)(autogenerate_session_id=False)
    client.command(
        "CREATE TABLE aging (at DateTime64(6, 'UTC'), x UInt64) ENGINE = MergeTree ORDER BY x "
        "PARTITION BY toYYYYMM(at) TTL toDateTime(at) + INTERVAL 3 SECOND TO VOLUME 'cold' "
        "SETTINGS storage_policy = 'hot_cold'"
    )
    disks = (
        "SELECT DISTINCT disk_name FROM system.parts "
        "WHERE database = 'sealtrail' AND table = 'aging' AND active"
    )
    client.command("INSERT INTO aging SELECT now64(6, 'UTC'), number FROM numbers(1000)")
    assert client.query(disks).result_rows == [("hot",)]
    deadline = time.monotonic() + 40
    while client.query(disks).result_rows != [("cold",)]:
        assert time.monotonic() < deadline
        time.sleep(0.25)
    assert client.command("SELECT count() FROM aging") == 1000
    # Rows that have expired when they come land there at once.
    client.command("INSERT INTO aging SELECT toDateTime64('2020-01-01', 6, 'UTC'), 1")
    old = disks + " AND partition = '202001'"
    assert client.query(old).result_rows == [("cold",)]
    assert list((own.state_dir / "store" / "cold").rglob("data.bin"))
    client.close()


def test_no_staged_body_is_left_behind(own: Stack):
    client = connector(own)()
    name = f"staged_{uuid.uuid4().hex}"
    client.command(f"CREATE TABLE {name} (a String) ENGINE = Memory")
    client.raw_insert(name, ["a"], b"x" * 1_000_000, fmt="CSV")
    client.close()
    assert [p for p in (own.state_dir / "store" / "tmp").iterdir() if p.is_file()] == []
