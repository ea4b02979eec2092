"""The store as the pipeline sees it.

Whatever goes wrong is one of two errors, so that a caller knows whether to try again:

    StoreUnavailable   not reached, overloaded, out of memory, timed out: the same call may succeed
        later
    StoreRefused       the statement or its data is wrong: it will be refused again; `code` is
        ClickHouse's
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sealtrail.errors import SealtrailError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Row = tuple[Any, ...]
# MEMORY_LIMIT_EXCEEDED: perhaps the store is busy, perhaps what it was sent takes too much.
MEMORY_LIMIT = 241


class StoreUnavailable(UnavailableError):  # noqa: N818 - names the state, beside StoreRefused
    """The store cannot do it now, perhaps later. code is ClickHouse's, 0 without one."""

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(
            message,
            hint="check SEALTRAIL_STORE_URL; `sealtrail local up` starts the embedded stack",
        )
        self.code = code


class StoreRefused(SealtrailError):  # noqa: N818 - beside StoreUnavailable
    """The store will not do this, now or later. code is ClickHouse's."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(
            message, hint="this is about the statement or its data, not about the network"
        )
        self.code = code


class Store(Protocol):
    """What the room needs of a store; blocking. `database` holds the base tables."""

    database: str

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Rows of a SELECT; parameters are bound by the server as {name:Type}.

        Names without a database are looked up in `database`.

        Raises:
            StoreUnavailable: try again.
            StoreRefused: the statement is wrong.
        """

    def insert(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], token: str
    ) -> None:
        """Insert rows as one block; a second insert with the same token changes nothing.

        Raises:
            StoreUnavailable: try again with the same token.
            StoreRefused: the rows do not fit the table.
        """

    def insert_packed(self, sql: str, columns: Mapping[str, str], rows: bytes, token: str) -> None:
        """Run INSERT ... SELECT ... FROM input(...) over rows in RowBinary as one block.

        For rows by the hundred thousand, none of which a shard has to itself (they have no column
        `partition`): packing values costs more than all else that is done for them.

        Args:
            sql: without FORMAT; names without a database are looked up in `database`.
            columns: of `input`, with their types; the rows were packed for these.
            rows: one behind the other.
            token: as of `insert`.

        Raises:
            StoreUnavailable: try again with the same token.
            StoreRefused: the rows cannot be read, or do not fit the table.
        """

    def insert_avro(self, sql: str, parts: list[bytes], token: str) -> None:
        """Run INSERT ... SELECT ... FROM input(...) over an Avro container as one block.

        Args:
            sql: without FORMAT.
            parts: of the container, in order; the list may be emptied.
            token: of its content.

        Raises:
            StoreUnavailable: try again with the same token.
            StoreRefused: the container cannot be read as the statement says.
        """

    def command(self, sql: str) -> None:
        """Run a statement without a result (DDL); names are qualified.

        Raises:
            StoreUnavailable: try again.
            StoreRefused: the statement is wrong.
        """
