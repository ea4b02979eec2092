"""What an import remembers: which event stands for which commit.

One file of fixed records, appended and synced *before* the events of a group
can leave the process. After a crash the file may therefore know more commits
than were sent, never fewer: what the spool does not hold is cut off and told
again, and nothing that was sent is told a second time.

    "SEALREF1", then per commit: commit id (32 bytes, SHA-1 padded with zeros),
    event id (16), occurred_at (8, big-endian microseconds), leaf hash (32),
    CRC-32 of the above (4)
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from typing import TYPE_CHECKING, Self

from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail.event import ParentRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

MAGIC = b"SEALREF1"
BODY = struct.Struct(">32s16sq32s")
REFERENCE = struct.Struct(">16sq32s")
RECORD_BYTES = BODY.size + 4


class Checkpoint:
    """References of all commits told so far, in memory (56 bytes each) and on disk.

    Args:
        path: file to keep; made if missing.

    Raises:
        ConfigurationError: another kind of file.
        UnavailableError: another import holds it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._known: dict[bytes, bytes] = {}
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(path)
            self._load(path)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, commit: str) -> bool:
        return _key(commit) in self._known

    def __getitem__(self, commit: str) -> ParentRef:
        return ParentRef(*REFERENCE.unpack(self._known[_key(commit)]))

    def append(self, told: Iterable[tuple[str, ParentRef]]) -> None:
        """Remember commits durably; returns when the disk has them."""
        written = bytearray()
        for commit, reference in told:
            packed = REFERENCE.pack(reference.event_id, reference.occurred_at, reference.leaf_hash)
            self._known[_key(commit)] = packed
            body = _key(commit) + packed
            written += body + zlib.crc32(body).to_bytes(4, "big")
        view = memoryview(written)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)

    def tail(self, sent: Callable[[bytes], bool]) -> int:
        """How many commits at the end stand for events that never left.

        Args:
            sent: whether the event with this id is durable outside of this process.
        """
        unsent = 0
        for packed in reversed(self._known.values()):
            # Groups leave in order: the first event that was sent, from the end, decides.
            if sent(packed[:16]):
                break
            unsent += 1
        return unsent

    def forget(self, count: int) -> None:
        """Cut off the last commits, which will be told again."""
        for _ in range(count):
            self._known.popitem()
        self._cut(len(self._known))

    def _lock(self, path: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError(
                f"another import is using {path}", hint="wait for it, or stop it"
            ) from None

    def _load(self, path: Path) -> None:
        data = path.read_bytes()
        if not data:
            os.write(self._file, MAGIC)
            return
        if not data.startswith(MAGIC):
            raise ConfigurationError(
                f"{path} is no record of an import", hint="move it away; the import starts anew"
            )
        for at in range(len(MAGIC), len(data) - RECORD_BYTES + 1, RECORD_BYTES):
            body, check = data[at : at + BODY.size], data[at + BODY.size : at + RECORD_BYTES]
            if zlib.crc32(body).to_bytes(4, "big") != check:
                break  # the end of a write that a power loss cut short
            self._known[body[:32]] = body[32:]
        self._cut(len(self._known))

    def _cut(self, records: int) -> None:
        end = len(MAGIC) + records * RECORD_BYTES
        os.ftruncate(self._file, end)
        os.lseek(self._file, end, os.SEEK_SET)


def _key(commit: str) -> bytes:
    return bytes.fromhex(commit).ljust(32, b"\0")
