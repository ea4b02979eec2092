"""ClickHouse over HTTP, behind `port.Store`.

This is the only module of the room that imports clickhouse_connect. Whatever goes wrong becomes one
of the port's two errors. Every insert carries a token that is a hash of its content, so that a
repeated one changes nothing.
"""

from __future__ import annotations

import logging
import re
import struct
import traceback
from typing import TYPE_CHECKING, Any, TypeVar

import clickhouse_connect
from clickhouse_connect.driver import exceptions, httputil

from sealtrail import connections
from sealtrail_processor.store import row_binary
from sealtrail_processor.store.port import StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from clickhouse_connect.driver.client import Client

    from sealtrail.errors import SealtrailError
    from sealtrail_processor.store.port import Row

# The driver logs what it raises as well; where no logging is set up (commands), Python would print
# that beside our one line.
logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())

T = TypeVar("T")

# ClickHouse's error codes that say nothing about the statement: SOCKET_TIMEOUT, TIMEOUT_EXCEEDED,
# CANNOT_SCHEDULE_TASK, ABORTED, TOO_MANY_SIMULTANEOUS_QUERIES, NETWORK_ERROR, NO_FREE_CONNECTION,
# TABLE_IS_READ_ONLY, NOT_ENOUGH_SPACE, MEMORY_LIMIT_EXCEEDED, TOO_MANY_PARTS,
# TOO_FEW_LIVE_REPLICAS, UNKNOWN_STATUS_OF_INSERT, SESSION_IS_LOCKED, QUERY_WAS_CANCELLED,
# RECEIVED_ERROR_TOO_MANY_REQUESTS, ALL_REPLICAS_LOST, KEEPER_EXCEPTION.
TRANSIENT = frozenset(
    {159, 209, 202, 203, 210, 236, 241, 242, 243, 252, 285, 319, 364, 373, 394, 415, 439, 999}
)
# Raised by the client itself about what it was given.
_OURS = (exceptions.DataError, exceptions.ProgrammingError, exceptions.NotSupportedError)
_CODE = re.compile(r"[Cc]ode:? (\d+)")
# What the system said, in the driver's tale of pools and retries.
_ERRNO = re.compile(r"\[Errno -?\d+\] [\w ]+")

INSERT_SETTINGS: dict[str, Any] = {
    # The reply must mean: on disk.
    "async_insert": 0,
    "insert_deduplicate": 1,
    # Also in the tables behind materialized views. (What comes from a SELECT counts as repeatable
    # when it has a token.)
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    # No two rows of a block have one key: merging it on the way in takes more than all the rest
    # (17 against 7 us an event) and changes nothing.
    "optimize_on_insert": 0,
}
# The types before packed rows are the names that people read, and must be those of the table.
PACKED_SETTINGS: dict[str, Any] = INSERT_SETTINGS | {
    "input_format_with_names_use_header": 1,
    "input_format_with_types_use_header": 1,
    "input_format_binary_decode_types_in_binary_format": 0,
}
# An INSERT that selects from what it is given: one thread, one block, in the order of the data.
ONE_BLOCK: dict[str, Any] = {
    "max_threads": 1,
    "max_insert_threads": 1,
    "max_parsing_threads": 1,
    "input_format_parallel_parsing": 0,
    "max_block_size": 1_000_000,
    "max_insert_block_size": 1_000_000,
    "min_insert_block_size_rows": 0,
    "min_insert_block_size_bytes": 0,
}
# The boundary check of events counts rows.
AVRO_SETTINGS: dict[str, Any] = (
    INSERT_SETTINGS
    | ONE_BLOCK
    | {
        # Writer schemas of other versions lack fields or have more.
        "input_format_avro_allow_missing_fields": 1,
        # A parent reference becomes its row in the table of edges in the same insert.
        "parallel_view_processing": 0,
        # The SQL carries the columns that a batch's events share.
        "max_query_size": 268_435_456,
        "max_ast_elements": 10_000_000,
        "max_expanded_ast_elements": 10_000_000,
    }
)

QUORUM_SETTINGS: dict[str, Any] = {
    # A replica that dies after its acknowledgement must not be the only one that knew.
    "insert_quorum": "auto",
    # Different partitions of the log insert side by side.
    "insert_quorum_parallel": 1,
    "insert_quorum_timeout": 60_000,
}


class ClickHouseStore:
    """A store over ClickHouse's HTTP interface; safe to call from several threads (no sessions).

    Args:
        url: http(s)://host:port of the HTTP interface.
        user, password: who writes.
        database: where unqualified names are looked up.
        timeout_s: how long a call may take, seconds.
        quorum: whether a majority of replicas must have an insert before it is acknowledged.
        ca_file: PEM of the CAs that sign the server of an https URL; None for the system's.
    """

    def __init__(  # noqa: PLR0913 - how to reach and use a server
        self,
        url: str,
        user: str,
        password: str,
        database: str = "sealtrail",
        *,
        timeout_s: float = 120.0,
        quorum: bool = False,
        ca_file: str | None = None,
    ) -> None:
        self.database = database
        self._settings = QUORUM_SETTINGS if quorum else {}
        self._connect: dict[str, Any] = {
            **connections.store_address(url),
            "username": user,
            "password": password,
            "autogenerate_session_id": False,
            "send_receive_timeout": timeout_s,
            "connect_timeout": 10,
            "query_limit": 0,
            # Ours are loopback or a rack away: compressing costs more than sending.
            "compress": False,
            "pool_mgr": httputil.get_pool_manager(ca_cert=ca_file, maxsize=16, num_pools=2),
        }
        self._client: Client | None = None
        self._types: dict[str, dict[str, str]] = {}

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """See Store.query. Strings that are no UTF-8 and FixedStrings come as bytes."""

        def run(client: Client) -> list[Row]:
            formats = {"FixedString": "bytes"}
            found = client.query(sql, parameters=dict(parameters or {}), query_formats=formats)
            return [tuple(row) for row in found.result_rows]

        return self._call(run)

    def insert(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], token: str
    ) -> None:
        """See Store.insert."""
        if not rows:
            return
        types = self._column_types(table, columns)

        def run(client: Client) -> None:
            parts = row_binary.parts(row_binary.packers(tuple(types.values())), rows)
            statement = f"INSERT INTO {self.database}.{table} ({', '.join(types)})"
            self._send(client, _packed(statement, types), parts, PACKED_SETTINGS, token)

        try:
            self._call(run)
        except row_binary.UnknownTypeError as error:
            self._types.pop(table, None)
            raise StoreRefused(f"table {self.database}.{table}: {error}", code=0) from None
        except StoreRefused:
            # A migration may have changed a type since it was asked for.
            self._types.pop(table, None)
            raise

    def insert_packed(self, sql: str, columns: Mapping[str, str], rows: bytes, token: str) -> None:
        """See Store.insert_packed."""
        if rows:
            head = _packed(sql, columns)
            settings = PACKED_SETTINGS | ONE_BLOCK
            self._call(lambda client: self._send(client, head, [rows], settings, token))

    def insert_avro(self, sql: str, parts: list[bytes], token: str) -> None:
        """See Store.insert_avro."""
        head = f"{sql} FORMAT Avro\n".encode()
        self._call(lambda client: self._send(client, head, parts, AVRO_SETTINGS, token))

    def _send(
        self,
        client: Client,
        head: bytes,
        parts: list[bytes],
        settings: Mapping[str, Any],
        token: str,
    ) -> None:
        """One insert of data in a format of the engine's own; empties the parts."""
        # The only copy, and the parts go at once: a container may have some tens of MB, and lanes
        # send several at a time. The statement stands before the data: given apart, the driver
        # would copy all of it once more.
        block = b"".join((head, *parts))
        parts.clear()
        client.raw_insert(
            "",
            insert_block=block,
            settings={**settings, **self._settings, "insert_deduplication_token": token},
        )

    def command(self, sql: str) -> None:
        """See Store.command."""
        self._call(lambda client: client.command(sql, use_database=False))

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _column_types(self, table: str, columns: Sequence[str]) -> dict[str, str]:
        # Another thread may drop what is known while this one looks.
        found = self._types.get(table)
        if found is None:
            rows = self.query(
                "SELECT name, type FROM system.columns"
                " WHERE database = {d:String} AND table = {t:String}",
                {"d": self.database, "t": table},
            )
            if not rows:
                raise StoreRefused(f"table {self.database}.{table} does not exist", code=60)
            found = self._types[table] = dict(rows)
        try:
            return {name: found[name] for name in columns}
        except KeyError as error:
            detail = f"table {self.database}.{table} has no column {error}"
            raise StoreRefused(detail, code=16) from None

    def _call(self, run: Callable[[Client], T]) -> T:
        try:
            if self._client is None:
                client = clickhouse_connect.get_client(**self._connect)
                # Set afterwards: connecting asks the server some questions, and on a new store the
                # database is not there yet.
                client.database = self.database
                self._client = client
            return run(self._client)
        except exceptions.Error as error:
            _forget(error)
            raise translated(error) from None
        except (TypeError, ValueError, OverflowError, struct.error) as error:
            # Values that do not fit the columns: trying again would not help.
            raise StoreRefused(f"a value does not fit: {error}", code=0) from None
        except OSError as error:
            _forget(error)
            raise StoreUnavailable(f"store cannot be reached: {error}") from None


def _packed(statement: str, columns: Mapping[str, str]) -> bytes:
    return f"{statement} FORMAT {row_binary.FORMAT}\n".encode() + row_binary.header(columns)


def _forget(error: BaseException | None) -> None:
    """Let go of what the frames hold that an error came through.

    A request that failed is a cycle in urllib3 (the error, its traceback, the frame), and with it
    lies what it was to send, some MB, until somebody looks for garbage.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def translated(error: exceptions.Error) -> SealtrailError:
    """Our error for one of clickhouse_connect: by ClickHouse's code where there is one."""
    found = _CODE.search(str(error))
    code = error.code or (int(found[1]) if found else 0)
    text = " ".join(str(error).split())[:600]
    if code in TRANSIENT:
        return StoreUnavailable(f"store is busy: {text}", code=code)
    if code == 0 and not isinstance(error, _OURS):
        cause = _ERRNO.search(text)
        text = cause[0] if cause else text
        return StoreUnavailable(f"store cannot be reached: {text}")
    return StoreRefused(f"store refuses: {text}", code=code)
