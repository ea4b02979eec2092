"""A flush becomes durable: all its rows, then its commit, then the caller may acknowledge.

Order, and why a crash between any two steps loses and doubles nothing:
(a2) events, by one joined Avro insert for each writer schema and month, with the boundary check in
     its SELECT. First, because only here can the engine still find a batch that holds other events
     than it says, and then nothing else of the flush may stand anywhere. Where several inserts are
     needed, all are tried on a table that keeps nothing first.
(a1) dispositions: of a message without events they say that something of it may stand (`holds`).
     Then batches, payloads, findings, quarantine, heartbeats, in any order, and as the caller likes
     at the same time: of each the store waits for its disk.
(b)  the commit. Readers see only what lies at or below it: what a crash left of (a) is invisible,
     and the flush that is done again, with these boundaries or others, writes identical rows that
     replace them.
"""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING

import fastavro

from sealtrail import avro
from sealtrail_processor.judging.model import BoundaryBroken, OneByOne
from sealtrail_processor.store import container, rows
from sealtrail_processor.store.ingest_sql import insert_sql
from sealtrail_processor.store.port import MEMORY_LIMIT, StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sealtrail_processor.judging.model import Flush, Log
    from sealtrail_processor.store.container import Accepted
    from sealtrail_processor.store.port import Store

    Inserts = Sequence[Callable[[], None]]

# ClickHouse's error codes that hostile bytes can bring about: CANNOT_PARSE_TEXT, BAD_ARGUMENTS,
# ATTEMPT_TO_READ_AFTER_EOF, CANNOT_READ_ALL_DATA, ARGUMENT_OUT_OF_BOUND, CANNOT_PARSE_NUMBER,
# INCORRECT_DATA, TOO_LARGE_ARRAY_SIZE, TOO_LARGE_STRING_SIZE, CANNOT_ALLOCATE_MEMORY,
# SIZES_OF_ARRAYS_DONT_MATCH, FUNCTION_THROW_IF_VALUE_IS_NON_ZERO,
# CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN, STD_EXCEPTION (the Avro library's own), UNKNOWN_EXCEPTION.
DATA_CODES = frozenset(
    {6, 27, 32, 33, 36, 69, 72, 117, 128, 131, 173, 190, 349, 395, 691, 748, 1001, 1002}
)
_PAYLOAD_BYTES = 64 * 1024 * 1024


def one_by_one(inserts: Inserts) -> None:
    """Do inserts in turn."""
    for insert in inserts:
        insert()


class ClickHouseSink:
    """Writes flushes to a store.

    Args:
        store: where to.
        randbits: gives that many random bits, unpredictable (secrets.randbits).
        max_rows, max_bytes: bounds of one insert of events.
        at_once: does inserts that need not wait for one another; on return, or when it raises what
            one of them raised, none is under way.
    """

    def __init__(
        self,
        store: Store,
        randbits: Callable[[int], int],
        *,
        max_rows: int = container.MAX_ROWS,
        max_bytes: int = container.MAX_BYTES,
        at_once: Callable[[Inserts], None] = one_by_one,
    ) -> None:
        self._store = store
        self._randbits = randbits
        self._at_once = at_once
        self._max_rows, self._max_bytes = max_rows, max_bytes

    def write(self, flush: Flush) -> None:
        """Write all rows of a flush, then its commit; on return it is on disk.

        Raises:
            BoundaryBroken: some messages hold other events than they say; nothing was stored.
            StoreUnavailable: try again; nothing is visible yet.
            StoreRefused: the tables are not as this version expects them.
        """
        self.write_events(flush)  # (a2)
        self._rest([flush])

    def write_together(self, flushes: Sequence[Flush]) -> None:
        """Write flushes of several partitions as `write` does one, with a commit each in one block.

        Blocks are larger and inserts fewer than one by one. What a refused one leaves behind is
        written again, or replaced, when each is written alone.

        Raises:
            OneByOne: the data of one of them are refused: `write` will say which.
            StoreUnavailable: try again; nothing is visible yet.
            StoreRefused: the tables are not as this version expects them.
        """
        if len(flushes) == 1:
            self._alone(flushes[0])
            return
        chunks = self._plan(flushes)
        log = flushes[0].log
        # Several inserts are one insert's worth of luck each: nothing may stand of a refused group.
        for table in ("ingest_check", "ingest") if len(chunks) > 1 else ("ingest",):
            for chunk in chunks:  # (a2)
                try:
                    self._events(log, chunk, table)
                except StoreRefused as error:
                    if error.code in DATA_CODES:
                        raise OneByOne(error.message) from None
                    raise
                except StoreUnavailable as error:
                    if error.code == MEMORY_LIMIT:
                        raise OneByOne(error.message) from None
                    raise
        self._rest(flushes)

    def _alone(self, flush: Flush) -> None:
        try:
            self.write(flush)
        except BoundaryBroken as error:
            raise OneByOne(error.message) from None

    def _plan(self, flushes: Sequence[Flush]) -> list[list[Accepted]]:
        taken = [item for flush in flushes for item in rows.accepted(flush)]
        return container.plan(taken, self._max_rows, self._max_bytes)

    def _rest(self, flushes: Sequence[Flush]) -> None:
        """Everything but the events, then the commits."""
        became = [rows.dispositions(flush) for flush in flushes]
        content = rows.content(flushes, became).hex()
        inserts = [
            partial(self._insert, part, f"{content}/{number}")
            for table in rows.tables(flushes, became)
            for number, part in enumerate(_split(table))
        ]
        one_by_one(inserts[:1])  # (a1)
        self._at_once(inserts[1:])
        self._insert(rows.commits(flushes, became), content)  # (b)

    def write_events(self, flush: Flush) -> None:
        """Write what the index holds of a flush: events, edges, entities. No commit, no payloads.

        Raises:
            BoundaryBroken, StoreUnavailable, StoreRefused: as `write`.
        """
        chunks = self._plan([flush])
        if len(chunks) > 1:
            self._check(flush.log, chunks)
        for chunk in chunks:
            try:
                self._events(flush.log, chunk, "ingest")
            except (StoreRefused, StoreUnavailable) as error:
                raise self._explained(flush.log, [chunk], error) from None

    def write_lost(self, log: Log, first_offset: int, last_offset: int, arrival: int) -> None:
        """Commit offsets that were gone from the log before they were read.

        Args:
            log: whose.
            first_offset: the last commit's end + 1.
            last_offset: the log's new start - 1.
            arrival: microseconds since 1970.

        Raises:
            StoreUnavailable: try again.
        """
        table = rows.lost(log, first_offset, last_offset, arrival)
        self._insert(
            table, f"{log.log_id}/{log.topic}/{log.partition}/{first_offset}-{last_offset}"
        )

    def _check(self, log: Log, chunks: list[list[Accepted]]) -> None:
        """Try all inserts on a table that keeps nothing; all offenders are named at once."""
        broken: list[list[Accepted]] = []
        last: StoreRefused | StoreUnavailable | None = None
        for chunk in chunks:
            try:
                self._events(log, chunk, "ingest_check")
            except (StoreRefused, StoreUnavailable) as error:
                broken.append(chunk)
                last = error
        if last is not None:
            raise self._explained(log, broken, last)

    def _explained(
        self, log: Log, chunks: list[list[Accepted]], error: StoreRefused | StoreUnavailable
    ) -> BoundaryBroken | StoreRefused | StoreUnavailable:
        """BoundaryBroken when single batches are at fault, else the error itself."""
        if isinstance(error, StoreUnavailable):
            if error.code != MEMORY_LIMIT:
                return error
            # A length of a terabyte in one event looks like an overloaded store, for ever.
            bad = [i for chunk in chunks for i in chunk if not whole(i)]
        elif error.code not in DATA_CODES:
            return error
        else:
            bad = [i for chunk in chunks for i in self._offenders(log, chunk)]
        if not bad:
            return error
        return BoundaryBroken(sorted(i.judged.message.offset for i in bad))

    def _offenders(self, log: Log, chunk: list[Accepted]) -> list[Accepted]:
        """The batches that are refused when they are alone."""
        try:
            self._events(log, chunk, "ingest_check")
        except StoreRefused as error:
            if error.code not in DATA_CODES:
                raise
        except StoreUnavailable as error:
            if error.code != MEMORY_LIMIT:
                raise
        else:
            return []
        if len(chunk) == 1:
            return chunk
        middle = len(chunk) // 2
        return self._offenders(log, chunk[:middle]) + self._offenders(log, chunk[middle:])

    def _events(self, log: Log, chunk: list[Accepted], table: str) -> None:
        secret = self._randbits(container.SECRET_BITS)
        sql = insert_sql(self._store.database, table, log, chunk, secret)
        # The token is of the content alone: the secret must not make a repetition look new.
        token = f"{log.log_id}/{log.topic}/{rows.events_content(chunk).hex()}"
        self._store.insert_avro(sql, container.join(chunk, secret), token)

    def _insert(self, table: rows.Table, token: str) -> None:
        self._store.insert(table.name, table.columns, table.rows, f"{table.name}/{token}")


def _split(table: rows.Table) -> list[rows.Table]:
    """Tables that carry whole messages go in pieces of bounded size."""
    if "value" not in table.columns:
        return [table]
    value = table.columns.index("value")
    pieces: list[list[rows.Row]] = []
    size = _PAYLOAD_BYTES
    for row in table.rows:
        if size >= _PAYLOAD_BYTES:
            pieces.append([])
            size = 0
        pieces[-1].append(row)
        size += len(row[value] or b"")
    return [rows.Table(table.name, table.columns, piece) for piece in pieces]


def whole(item: Accepted) -> bool:
    """Whether each event of a batch is exactly one record. Slow: asked after the engine refused."""
    for event in item.batch.envelope.events:
        data = io.BytesIO(event)
        try:
            fastavro.schemaless_reader(data, item.batch.schema.parsed, None)
        except avro.DECODE_ERRORS:
            return False
        if data.tell() != len(event):
            return False
    return True
