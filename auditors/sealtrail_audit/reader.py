"""Reading the store. The only module of this room that imports clickhouse_connect.

- Everything is asked as the analyst, who may only read; nothing here writes.
- Text is read as bytes where it is compared: the driver shows bytes that are no UTF-8 as hex, and a
  row whose text was replaced by the bytes of its hex would look unchanged.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from sealtrail import connections
from sealtrail.errors import SealtrailError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from io import IOBase

    from clickhouse_connect.driver.client import Client

    from sealtrail_audit.settings import AuditSettings

# The driver logs what it raises as well; unasked, Python would print that beside our one line.
logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())

_FORMAT = "JSONCompactEachRowWithNamesAndTypes"


class QueryError(SealtrailError):
    """The store refused or failed a query."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows for people: columns with their ClickHouse types, values as JSON has them, bytes as hex.

    cut: whether there were more rows than were asked for.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    cut: bool = False


class Reader(Protocol):
    """What the audit tools need of a store."""

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a small answer; text as str, FixedString as bytes."""

    def blocks(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> Iterator[Sequence[Sequence[Any]]]:
        """An answer block by block, each a list of columns; all text as bytes."""

    def answer(self, sql: str, parameters: Mapping[str, Any], limit: int) -> Answer:
        """An answer for people, at most `limit` rows of it (0: all)."""


class ClickHouseReader:
    """A store behind ClickHouse's HTTP interface.

    Args:
        client: a connected client.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a small answer; text as str, FixedString as bytes."""
        try:
            result = self._client.query(sql, parameters=dict(parameters or {}))
        except ClickHouseError as error:
            raise explain(error) from error
        return [tuple(row) for row in result.result_rows]

    def blocks(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> Iterator[Sequence[Sequence[Any]]]:
        """An answer block by block, each a list of columns; all text as bytes."""
        try:
            with self._client.query_column_block_stream(
                sql, parameters=dict(parameters or {}), query_formats={"String": "bytes"}
            ) as stream:
                yield from stream
        except ClickHouseError as error:
            raise explain(error) from error

    def answer(self, sql: str, parameters: Mapping[str, Any], limit: int) -> Answer:
        """An answer for people, at most `limit` rows of it (0: all)."""
        try:
            stream = cast(
                "IOBase",
                self._client.raw_stream(
                    sql.strip().rstrip(";"), parameters=dict(parameters), fmt=_FORMAT
                ),
            )
        except ClickHouseError as error:
            raise explain(error) from error
        try:
            with stream:
                return read_answer(iter(stream.readline, b""), limit)
        except HTTPError as error:
            raise QueryError("the store broke off in the middle of its answer") from error

    def close(self) -> None:
        """Release the connection."""
        self._client.close()


def connect(settings: AuditSettings) -> ClickHouseReader:
    """Connect as the analyst.

    Raises:
        UnavailableError: the store does not answer.
        QueryError: it does not let us in.
        ConfigurationError: the file with its CAs cannot be read.
    """
    try:
        client = clickhouse_connect.get_client(
            **connections.store_address(settings.store_url),
            username=settings.analyst_user,
            password=settings.analyst_password.get_secret_value(),
            ca_cert=connections.store_ca(settings),
            database=settings.store_database,
            send_receive_timeout=settings.query_timeout_s,
            autogenerate_session_id=False,
        )
    except ClickHouseError as error:
        if "DB::Exception" in str(error):
            raise explain(error) from error
        raise UnavailableError(
            f"the store at {settings.store_url} does not answer",
            hint="start it with: sealtrail local up; or set SEALTRAIL_STORE_URL",
        ) from error
    return ClickHouseReader(client)


_EXCEPTION = re.compile(r"(?:Code: (\d+)\. )?DB::Exception: (.*)", re.DOTALL)


def explain(error: Exception) -> SealtrailError:
    """The engine's own message in one line, without its version and stack."""
    found = _EXCEPTION.search(str(error))
    if found is None:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return UnavailableError(f"the store failed: {first[:300]}")
    message = re.split(r" \(version |Stack trace:", found[2])[0]
    message = " ".join(message.split()).replace(f" FORMAT {_FORMAT}", "")
    message = message.split(". Expected one of: ")[0]  # a list of some hundred keywords
    hint = ""
    if found[1] in ("164", "497"):
        hint = "analysts only read: one SELECT, no settings, no files, no other hosts"
    elif found[1] == "516":
        hint = "check SEALTRAIL_ANALYST_USER and SEALTRAIL_ANALYST_PASSWORD"
    elif found[1] == "60":
        hint = "views for people are in database provenance: SHOW TABLES FROM provenance"
    return QueryError(message[:500], hint=hint)


def read_answer(lines: Iterator[bytes], limit: int) -> Answer:
    """Read lines of JSONCompactEachRowWithNamesAndTypes, at most `limit` rows (0: all).

    Raises:
        QueryError: the engine failed in the middle of its answer.
    """
    columns: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    rows: list[tuple[Any, ...]] = []
    for number, line in enumerate(lines):
        values = _values(line, lines)
        if number == 0:
            columns = tuple(values)
        elif number == 1:
            types = tuple(map(str, values))
        elif limit and len(rows) >= limit:
            return Answer(columns, types, tuple(rows), cut=True)
        elif len(values) != len(types):
            raise explain(RuntimeError(f"a row of {len(values)} values in {len(types)} columns"))
        else:
            rows.append(_row(values, types))
    return Answer(columns, types, tuple(rows))


def _values(line: bytes, rest: Iterator[bytes]) -> list[Any]:
    try:
        # FixedString columns hold bytes that are no text; they come through as surrogates.
        values = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list):
        tail = b"".join([line, *rest]).decode("utf-8", "replace")
        raise explain(RuntimeError(tail))
    return values


def _row(values: list[Any], types: tuple[str, ...]) -> tuple[Any, ...]:
    try:
        return tuple(shown(v, t) for v, t in zip(values, types, strict=True))
    except RecursionError:
        raise explain(RuntimeError("a value is nested too deeply to be shown")) from None


def shown(value: Any, type_: str) -> Any:
    """A value as people see it: FixedString, and text that is not printable UTF-8, in hex."""
    if isinstance(value, list):
        return [shown(item, type_) for item in value]
    if isinstance(value, dict):
        return {shown(k, ""): shown(v, type_) for k, v in value.items()}
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogateescape")
        only_fixed = "FixedString" in type_ and "String" not in type_.replace("FixedString", "")
        if only_fixed or any("\udc80" <= c <= "\udcff" for c in value):
            return raw.hex()
    return value
