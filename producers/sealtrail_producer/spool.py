"""The spool: signed batches on disk until the brokers have them.

Rules:
- append-only segment files, each named after the index of its first record; records are numbered
  without end;
- a record counts when its checksum holds. What a crash left behind the last good record is cut off
  at opening;
- the acknowledged position is a small file of its own, never synced: losing it only sends some
  batches again;
- a segment goes when all of it is acknowledged, but never the one with the last record: the next
  process reads there which head its chain may continue;
- bounded by bytes of records that are not acknowledged; a single record larger than the bound is
  taken when it is alone, so that nothing stands still for ever.

One writer and one reader thread; a lock keeps them apart.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import threading
from bisect import bisect_left
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

from sealtrail_producer import files, spool_record
from sealtrail_producer.errors import SpoolDiskError, SpoolFullError
from sealtrail_producer.spool_record import Record
from sealtrail_producer.spool_segment import Segment, read_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sealtrail_producer.ports import Message

log = logging.getLogger(__name__)

SUFFIX = ".seg"
SEGMENT_BYTES = 8 * 1024 * 1024
_ACKED = struct.Struct(">Q16s")

Policy = Literal["always", "interval", "never"]


class Spool:
    """A folder of segments.

    Args:
        folder: made if missing; whoever opens it must hold its lock (`sealtrail_producer.slots`).
        max_bytes: bound of what is not acknowledged.
        policy: "always" syncs each record before it is sent, "interval" when `sync` is called,
            "never" not at all.
        segment_bytes: size at which a new segment begins.
        fsync: brings a descriptor to disk.

    Raises:
        SpoolDiskError: the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        policy: Policy = "always",
        segment_bytes: int = SEGMENT_BYTES,
        fsync: Callable[[int], None] = os.fsync,
    ) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.policy = policy
        self._segment_bytes = min(segment_bytes, max(max_bytes // 4, 1))
        self._fsync = fsync
        self._lock = threading.Lock()
        self._segments: list[Segment] = []
        self._fresh = True
        self._dirty = False
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._acked_file = os.open(folder / "acked", os.O_RDWR | os.O_CREAT, 0o600)
            self.acked = self._read_acked()
            self._scan()
        except OSError as error:
            raise _disk_error(folder, error) from error
        self.next_index = max(self.acked + 1, self._segments[-1].after if self._segments else 0)
        self.pending_bytes = sum(self._pending_in(s) for s in self._segments)
        self._drop_acknowledged()

    # -- opening ------------------------------------------------------------

    def _read_acked(self) -> int:
        raw = os.pread(self._acked_file, _ACKED.size, 0)
        if len(raw) == _ACKED.size:
            number, digest = _ACKED.unpack(raw)
            if digest == _acked_digest(number):
                return int(number) - 1
        return -1

    def _scan(self) -> None:
        paths = sorted(p for p in self.folder.iterdir() if p.suffix == SUFFIX)
        for position, path in enumerate(paths):
            last = position + 1 == len(paths)
            end = None if last else int(paths[position + 1].stem)
            self._open_segment(path, end)

    def _open_segment(self, path: Path, end: int | None) -> None:
        descriptor = os.open(path, os.O_RDWR)
        segment = Segment(int(path.stem), path, descriptor)
        length = os.fstat(descriptor).st_size
        # A later segment that begins with an index of this one was written because this one
        # failed: it counts.
        while end is None or segment.after < end:
            record, size = read_at(segment, segment.after, segment.size)
            if record is None:
                break
            segment.starts.append(segment.size)
            segment.size += size
        if segment.size < length:
            log.warning(
                "spool %s: %d bytes behind the last good record are cut off",
                path,
                length - segment.size,
            )
            os.ftruncate(descriptor, segment.size)
        if end is not None and segment.after < end:
            log.error("spool %s: records %d to %d are unreadable", path, segment.after, end - 1)
        if segment.starts:
            self._segments.append(segment)
        else:
            os.close(descriptor)
            path.unlink()

    # -- writing ------------------------------------------------------------

    def append(
        self, message: Message, *, framed: bool = True, sync: bool = False, beyond: bool = False
    ) -> Record:
        """Write a record behind all others.

        Args:
            message: what to send.
            framed: see `Record`.
            sync: bring it to disk whatever the policy says.
            beyond: take it though the bound is reached.

        Raises:
            SpoolFullError: no room until something is acknowledged; nothing was written.
            SpoolDiskError: the disk refused; nothing counts as written.
        """
        durable = sync or self.policy == "always"
        with self._lock:
            data = spool_record.encode(self.next_index, message, framed=framed, durable=durable)
            room = self.max_bytes - self.pending_bytes
            if self.pending_bytes and len(data) > room and not beyond:
                raise SpoolFullError(
                    f"spool {self.folder} is full: {self.pending_bytes} bytes wait for the brokers",
                    hint="see whether the brokers are up, or raise SEALTRAIL_SPOOL_BYTES",
                )
            try:
                self._write(data, durable=durable)
            except OSError as error:
                self._withdraw()
                raise _disk_error(self.folder, error) from error
            index = self.next_index
            self.next_index += 1
            self.pending_bytes += len(data)
            return Record(index, message, framed, durable)

    def _write(self, data: bytes, *, durable: bool) -> None:
        segment = self._writable()
        done = 0
        while done < len(data):
            done += os.pwrite(segment.descriptor, data[done:], segment.size + done)
        if durable:
            self._fsync(segment.descriptor)
        else:
            self._dirty = True
        segment.starts.append(segment.size)
        segment.size += len(data)

    def _writable(self) -> Segment:
        if not self._fresh and self._segments[-1].size < self._segment_bytes:
            return self._segments[-1]
        if self._dirty and self._segments:
            # Later syncs reach the new segment only.
            self._fsync(self._segments[-1].descriptor)
            self._dirty = False
        path = self.folder / f"{self.next_index:020d}{SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._segments.append(Segment(self.next_index, path, descriptor))
        files.sync_folder(self.folder)
        self._fresh = False
        return self._segments[-1]

    def _withdraw(self) -> None:
        """Undo a failed write or sync; the record will go to a fresh segment."""
        self._fresh = True
        if not self._segments:
            return
        segment = self._segments[-1]
        with contextlib.suppress(OSError):
            os.ftruncate(segment.descriptor, segment.size)
        if not segment.starts:
            self._remove(self._segments.pop())

    def sync(self) -> None:
        """Bring what was appended to disk.

        Raises:
            SpoolDiskError: the disk refused.
        """
        with self._lock:
            if not self._dirty or not self._segments:
                return
            try:
                self._fsync(self._segments[-1].descriptor)
            except OSError as error:
                self._fresh = True
                raise _disk_error(self.folder, error) from error
            self._dirty = False

    # -- reading ------------------------------------------------------------

    def get(self, index: int) -> Record | None:
        """The first record at or behind an index, or None when there is none (yet).

        Raises:
            SpoolDiskError: it was good and cannot be read any more.
        """
        with self._lock:
            for segment in self._segments:
                if index < segment.after and segment.starts:
                    wanted = max(index, segment.first)
                    record, _ = read_at(segment, wanted, segment.starts[wanted - segment.first])
                    if record is None:
                        raise SpoolDiskError(
                            f"{segment.path}: record {wanted} cannot be read any more",
                            hint="the disk fails or somebody changed the file",
                        )
                    return record
            return None

    def has(self, index: int) -> bool:
        """Whether there is a record at or behind an index."""
        with self._lock:
            return bool(self._segments) and index < self._segments[-1].after

    def last(self) -> Record | None:
        """The last record ever appended, acknowledged or not."""
        return self.get(self._segments[-1].after - 1) if self._segments else None

    @property
    def empty(self) -> bool:
        """Whether everything is acknowledged."""
        return self.acked + 1 >= self.next_index

    # -- acknowledging ------------------------------------------------------

    def ack(self, index: int) -> None:
        """All records up to this index are with the brokers."""
        with self._lock:
            if index <= self.acked:
                return
            freed = sum(self._pending_in(s, upto=index) for s in self._segments)
            self.pending_bytes -= freed
            self.acked = index
            # A failed write only means that some batches are sent again.
            with contextlib.suppress(OSError):
                raw = _ACKED.pack(index + 1, _acked_digest(index + 1))
                os.pwrite(self._acked_file, raw, 0)
            self._drop_acknowledged()

    def _pending_in(self, segment: Segment, upto: int | None = None) -> int:
        """Bytes of a segment that are not acknowledged, up to an index (inclusive)."""
        low = min(max(self.acked + 1 - segment.first, 0), len(segment.starts))
        high = len(segment.starts)
        if upto is not None:
            high = min(max(upto + 1 - segment.first, 0), high)
        if low >= high:
            return 0
        return segment.end_of(high - 1) - segment.starts[low]

    def _drop_acknowledged(self) -> None:
        keep = bisect_left([s.after for s in self._segments], self.acked + 2)
        keep = min(keep, len(self._segments) - 1)
        for segment in self._segments[: max(keep, 0)]:
            self._remove(segment)
        del self._segments[: max(keep, 0)]

    @staticmethod
    def _remove(segment: Segment) -> None:
        os.close(segment.descriptor)
        with contextlib.suppress(OSError):
            segment.path.unlink()

    # -- leaving ------------------------------------------------------------

    def close(self) -> None:
        """Sync and close the files."""
        with contextlib.suppress(SpoolDiskError):
            self.sync()
        self.abandon()

    def abandon(self) -> None:
        """Close the files and nothing else: for a forked child, whose parent goes on with them."""
        for segment in self._segments:
            os.close(segment.descriptor)
        self._segments.clear()
        if self._acked_file >= 0:
            os.close(self._acked_file)
            self._acked_file = -1


def _acked_digest(number: int) -> bytes:
    return sha256(b"sealtrail/spool-acked/v1\x00" + number.to_bytes(8, "big")).digest()[:16]


def _disk_error(folder: Path, error: OSError) -> SpoolDiskError:
    return SpoolDiskError(
        f"spool {folder}: {error.strerror or error}",
        hint="make room on the disk or choose another place with SEALTRAIL_SPOOL_DIR",
    )
