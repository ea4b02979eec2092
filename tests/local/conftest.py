"""Clients of the embedded store."""

import datetime as dt
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from tests.conftest import Stack

from sealtrail_local.processes import ProcessId, read_pid_file

COLUMNS = ["a", "s", "h", "ts", "arr", "n"]
DDL = """
CREATE OR REPLACE TABLE local_t
(
    a UInt64, s LowCardinality(String), h FixedString(4), ts DateTime64(6, 'UTC'),
    arr Array(String), n Nullable(Int32),
    CONSTRAINT small CHECK a < 1000000
)
ENGINE = MergeTree ORDER BY a PARTITION BY intDiv(a, 100000)
SETTINGS storage_policy = 'hot_cold', non_replicated_deduplication_window = 1000
"""

Connect = Callable[..., Client]


def row(i: int) -> list[Any]:
    """A row of local_t."""
    time = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return [i, f"s{i % 3}", b"abcd", time, ["x", "y"], None if i % 2 else i]


def connector(stack: Stack) -> Connect:
    """Makes clients of a stack's store; the writer's unless told otherwise."""
    url = urlsplit(stack.env["SEALTRAIL_STORE_URL"])

    def connect(**arguments: Any) -> Client:
        return clickhouse_connect.get_client(
            **{
                "host": url.hostname,
                "port": url.port,
                "username": stack.env["SEALTRAIL_STORE_USER"],
                "password": stack.env["SEALTRAIL_STORE_PASSWORD"],
                "database": "sealtrail",
                **arguments,
            }
        )

    return connect


def kill(stack: Stack, service: str) -> ProcessId:
    """Kill one process of a stack with SIGKILL and wait until it is gone."""
    process = read_pid_file(stack.state_dir / "run" / f"{service}.json")
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    while process.alive():
        time.sleep(0.02)
    return process


@pytest.fixture(scope="session")
def connect(stack: Stack) -> Connect:
    return connector(stack)


@pytest.fixture(scope="session")
def writer(connect: Connect) -> Iterator[Client]:
    client = connect(autogenerate_session_id=False)
    client.command(DDL)
    client.command("CREATE OR REPLACE TABLE local_x (a Int8) ENGINE = Memory")
    yield client
    client.command("DROP TABLE local_t")
    client.command("DROP TABLE local_x")
    client.close()


@pytest.fixture(scope="session")
def analyst(connect: Connect, stack: Stack, writer: Client) -> Iterator[Client]:
    client = connect(
        username=stack.env["SEALTRAIL_ANALYST_USER"],
        password=stack.env["SEALTRAIL_ANALYST_PASSWORD"],
        autogenerate_session_id=False,
    )
    writer.insert("local_t", [row(i) for i in range(500_000, 500_100)], column_names=COLUMNS)
    yield client
    client.close()
