"""Marks: what a worker is working on is on record when it dies.

- Before it works on messages a worker writes their offsets into its *mark*: a file of the state
  folder, mapped into memory, which survives the process (not a power cut: that is no message's
  doing). It costs a copy of some bytes, and no system call.
- The file is locked for as long as the process lives, frozen or not. A mark that nobody holds is a
  dead worker's: whoever finds it brings what it says into the store, where all workers read it
  (`judging.suspicion`).
- A thread that commits flushes of several partitions (`together`) has all of them in hand.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from sealtrail.errors import ConfigurationError, SealtrailError
from sealtrail_processor.judging.model import Log
from sealtrail_processor.judging.suspicion import SHARED, Death, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType
    from typing import Any, Self

    from sealtrail_processor.judging.model import Flush
    from sealtrail_processor.store.port import Row, Store
    from sealtrail_processor.store.sink import Inserts

# A slot: phase (1 byte), count of ranges and lengths of two names, the names, the ranges.
SLOTS, _SLOT = 64, 4096
_MAGIC = b"STMARK1\n"
PAGE = len(_MAGIC) + SLOTS * _SLOT
_NAMES = struct.Struct("<HHH")
_OFFSETS = struct.Struct("<QQ")
_RANGE = struct.Struct("<HQQ")
_NAME = 300
_NAMES_AT = 1
_TEXT_AT = _NAMES_AT + _NAMES.size
_RANGES_AT = _TEXT_AT + 2 * _NAME
_OFFSETS_AT = _RANGES_AT + 2
_RANGES = (_SLOT - _RANGES_AT) // _RANGE.size
_ACTIVE = (Phase.WORK, Phase.WAIT, Phase.FAULT)


class Mark:
    """What the process is at; a slot for each thread that works on messages.

    Args:
        page: PAGE bytes; of a file where it is to outlive the process.
    """

    def __init__(self, page: bytearray | mmap.mmap) -> None:
        self._page = page
        self._page[: len(_MAGIC)] = _MAGIC
        self._slots: dict[int, int] = {}
        self._logs: dict[int, Log] = {}
        self._lock = threading.Lock()

    def working(self, log: Log, first: int, last: int) -> Self:
        """Take messages of a partition in hand, for a `with` block."""
        slot = self._slot()
        self._page[slot] = Phase.IDLE
        if self._logs.get(slot) != log:
            self._name(slot, log, 1)
            _RANGE.pack_into(self._page, slot + _RANGES_AT, log.partition, first, last)
            self._logs[slot] = log
        else:
            _OFFSETS.pack_into(self._page, slot + _OFFSETS_AT, first, last)
        self._page[slot] = Phase.WORK
        return self

    def holding(self, flushes: Sequence[Flush]) -> Self:
        """Take flushes of several partitions in hand, for a `with` block."""
        slot = self._slot()
        self._page[slot] = Phase.IDLE
        self._logs.pop(slot, None)
        # Those that find no room are searched for by their neighbours' deaths.
        held = flushes[:_RANGES]
        self._name(slot, held[0].log, len(held))
        for number, flush in enumerate(held):
            at = slot + _RANGES_AT + number * _RANGE.size
            first = flush.judged[0].message.offset
            _RANGE.pack_into(self._page, at, flush.log.partition, first, flush.last_offset)
        self._page[slot] = Phase.WORK
        return self

    def _slot(self) -> int:
        """Where the calling thread writes."""
        thread = threading.get_ident()
        slot = self._slots.get(thread)
        if slot is None:
            with self._lock:
                # More threads than slots share the last one: it says too little, never too much.
                slot = len(_MAGIC) + min(len(self._slots), SLOTS - 1) * _SLOT
                self._slots[thread] = slot
        return slot

    def _name(self, slot: int, log: Log, count: int) -> None:
        names = (log.log_id.encode()[:_NAME], log.topic.encode()[:_NAME])
        _NAMES.pack_into(self._page, slot + _NAMES_AT, count, *map(len, names))
        text = b"".join(names)
        self._page[slot + _TEXT_AT : slot + _TEXT_AT + len(text)] = text

    def at(self, first: int, last: int) -> None:
        """Of the messages in hand, these."""
        _OFFSETS.pack_into(self._page, self._slot() + _OFFSETS_AT, first, last)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """The store is asked: who dies now was probably killed."""
        slot = self._slots.get(threading.get_ident())
        waits = slot is not None and self._page[slot] == Phase.WORK
        if slot is not None and waits:
            self._page[slot] = Phase.WAIT
        try:
            yield
        finally:
            if slot is not None and waits:
                self._page[slot] = Phase.WORK

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Errors of ours are answers of the outside; they are tried again and kill nobody.
        known = error is None or isinstance(error, SealtrailError)
        self._page[self._slot()] = Phase.IDLE if known else Phase.FAULT

    def absolve(self) -> None:
        """The process is about to end for another reason than the messages in hand."""
        for slot in self._slots.values():
            if self._page[slot] != Phase.FAULT:
                self._page[slot] = Phase.IDLE


class Marks:
    """The mark of this process as a file, and those of others that share the folder.

    Args:
        folder: where marks lie.
        name: of the worker; its file's begins with it.

    Raises:
        ConfigurationError: the folder cannot be written.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path = folder / f"{name}-{os.getpid()}-{os.urandom(4).hex()}.mark"
            # Under another name until it is locked: a mark without a lock is a dead worker's.
            fresh = self._path.with_suffix(".new")
            self._file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            os.ftruncate(self._file, PAGE)
            self._map = mmap.mmap(self._file, PAGE)
            self.own = Mark(self._map)
            fresh.rename(self._path)
        except OSError as error:
            raise ConfigurationError(
                f"no mark can be made in {folder}: {error}",
                hint="SEALTRAIL_STATE_DIR must be a folder that the worker can write",
            ) from None

    def collect(self, record: Callable[[Death], None]) -> int:
        """Hand over what dead workers' marks say, then remove them; how many had any in hand.

        Raises:
            SealtrailError: it was not recorded; what is left will be found again.
        """
        found = 0
        for path in sorted(self._folder.glob("*.mark")):
            with contextlib.suppress(FileNotFoundError), _held(path) as descriptor:
                if descriptor is None:
                    continue
                deaths = read_mark(os.pread(descriptor, PAGE, 0), path.stem)
                for death in deaths:
                    record(death)
                found += bool(deaths)
                path.unlink()
        return found

    def close(self) -> None:
        """Leave nothing behind."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


class WaitingStore:
    """A store whose answers are waited for with the mark saying so.

    Args:
        store: who answers.
        mark: of the thread that asks.
    """

    def __init__(self, store: Store, mark: Mark) -> None:
        self.database = store.database
        self._store = store
        self._mark = mark

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """See Store.query."""
        with self._mark.waiting():
            return self._store.query(sql, parameters)

    def insert(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], token: str
    ) -> None:
        """See Store.insert."""
        with self._mark.waiting():
            self._store.insert(table, columns, rows, token)

    def insert_packed(self, sql: str, columns: Mapping[str, str], rows: bytes, token: str) -> None:
        """See Store.insert_packed."""
        with self._mark.waiting():
            self._store.insert_packed(sql, columns, rows, token)

    def insert_avro(self, sql: str, parts: list[bytes], token: str) -> None:
        """See Store.insert_avro."""
        with self._mark.waiting():
            self._store.insert_avro(sql, parts, token)

    def command(self, sql: str) -> None:
        """See Store.command."""
        with self._mark.waiting():
            self._store.command(sql)


def at_once(mark: Mark) -> Callable[[Inserts], None]:
    """Does inserts in a thread each, and waits for all with the mark saying so (see `sink`).

    Args:
        mark: of the thread that waits.
    """

    def run(inserts: Inserts) -> None:
        under_way: list[Future[None]] = []
        with mark.waiting(), ThreadPoolExecutor(thread_name_prefix="insert") as threads:
            for insert in inserts:
                try:
                    under_way.append(threads.submit(insert))
                except RuntimeError:
                    # No more threads: the process ends, and what is under way may end with it.
                    insert()
            try:
                for one in under_way:
                    one.result()
            finally:
                # An error holds this frame, and the frame what was to be inserted.
                under_way.clear()

    return run


@contextlib.contextmanager
def _held(path: Path) -> Iterator[int | None]:
    """A dead worker's mark, locked; None when its worker lives or another one has it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            held = False
        yield descriptor if held and path.exists() else None
    finally:
        os.close(descriptor)


def read_mark(data: bytes, name: str) -> list[Death]:
    """What a mark says; nothing when its worker had nothing in hand, or it is no whole mark."""
    if len(data) < PAGE or not data.startswith(_MAGIC):
        return []
    slots = range(len(_MAGIC), len(_MAGIC) + SLOTS * _SLOT, _SLOT)
    active = {slot: Phase(data[slot]) for slot in slots if data[slot] in _ACTIVE}
    # Of two threads that worked when the process died either may be to blame.
    several = sum(phase is Phase.WORK for phase in active.values()) > 1
    return [
        death
        for slot, phase in active.items()
        for death in _deaths(data[slot : slot + _SLOT], phase, f"{name}/{slot}", several=several)
    ]


def _deaths(slot: bytes, phase: Phase, name: str, *, several: bool) -> Iterator[Death]:
    count, log_id, topic = _NAMES.unpack_from(slot, _NAMES_AT)
    text = slot[_TEXT_AT : _TEXT_AT + log_id + topic]
    names = text[:log_id].decode(errors="replace"), text[log_id:].decode(errors="replace")
    shared = count > 1 or (several and phase is Phase.WORK)
    for number in range(min(count, _RANGES)):
        partition, first, last = _RANGE.unpack_from(slot, _RANGES_AT + number * _RANGE.size)
        kind = SHARED if shared and phase is not Phase.WAIT else phase.name
        yield Death(Log(*names, partition), first, last, kind, f"{name}/{partition}")
