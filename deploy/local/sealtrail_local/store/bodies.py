"""Request bodies: statement text stays in memory, data go to an unlinked file.

A pipe would be simpler, but a broken upload looks to its reader like the end of the data: half of
it would be inserted. Here the statement starts only when the whole body has arrived.
"""

import contextlib
import errno
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from sealtrail_local.store.errors import (
    CANNOT_DECOMPRESS,
    NOT_ENOUGH_SPACE,
    NOT_IMPLEMENTED,
    SYNTAX_ERROR,
    TOO_MANY_BYTES,
    Refused,
)
from sealtrail_local.store.statements import InsertWithBody, split_insert

# An INSERT's header is looked for in this many bytes at least.
HEAD_BYTES: Final = 64 << 10
MAX_STATEMENT_BYTES: Final = 32 << 20
# Decompressed. Far above a flush, far below what fills a disk.
MAX_BODY_BYTES: Final = 2 << 30
# Of a disk, of a quota, of a process's limit on files.
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Decode = Callable[[bytes], bytes]


class _Frames(Protocol):
    """What the decompressors of zlib, lz4 and zstandard have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def decoder(encoding: str) -> Decode:
    """A function that decompresses a body chunk by chunk.

    Args:
        encoding: value of the Content-Encoding header.

    Raises:
        Refused: an encoding that is not supported; from the function: data that do not decompress.
    """
    if encoding in ("", "identity"):
        return bytes
    if encoding == "gzip":
        return _many_frames(lambda: zlib.decompressobj(31))
    if encoding == "deflate":
        return _many_frames(lambda: zlib.decompressobj(15))
    if encoding == "lz4":
        from lz4.frame import LZ4FrameDecompressor

        return _many_frames(LZ4FrameDecompressor)
    if encoding == "zstd":
        import zstandard

        return _many_frames(lambda: zstandard.ZstdDecompressor().decompressobj())
    raise Refused(NOT_IMPLEMENTED, f"Content-Encoding {encoding} is not supported")


def _many_frames(new: Callable[[], _Frames]) -> Decode:
    # clickhouse-connect sends one frame per block, one after another.
    current = new()

    def feed(data: bytes) -> bytes:
        nonlocal current
        out = b""
        try:
            while data:
                if current.eof:
                    current = new()
                out += current.decompress(data)
                data = (current.unused_data or b"") if current.eof else b""
        except Exception as error:  # each library has an error class of its own
            raise Refused(CANNOT_DECOMPRESS, f"Cannot decompress the body: {error}") from error
        return out

    return feed


@dataclass
class Body:
    """A request's statement, and its data if it has any.

    Attributes:
        statement: what the engine is to run.
        shown: the same as the client meant it, for the gate.
        data: unlinked file with the staged data; closed by whoever got the body.
        staged_select: whether the statement reads its data through a table function.
    """

    statement: bytes
    shown: bytes
    data: BinaryIO | None = None
    staged_select: bool = False


async def receive(
    chunks: AsyncIterator[bytes], decode: Decode, url_statement: bytes, folder: Path
) -> Body:
    """Read a request's body to its end.

    Args:
        chunks: the body as it arrives.
        decode: from `decoder`.
        url_statement: the `query` parameter, which the body continues.
        folder: where data are staged.

    Raises:
        Refused: too long, an INSERT that `split_insert` refuses, or no room for the data.
    """
    receiver = _Receiver(url_statement, folder)
    try:
        async for chunk in chunks:
            receiver.feed(decode(chunk))
        return receiver.finish()
    except BaseException as error:
        receiver.drop()
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            detail = f"The disk of the store has no room for the body: {error.strerror}"
            raise Refused(NOT_ENOUGH_SPACE, detail) from error
        raise


class _Receiver:
    """Sorts what arrives: text until an INSERT's header is whole, data from there on."""

    def __init__(self, url_statement: bytes, folder: Path) -> None:
        # Exactly one line break between statement and data: a second would belong to the data.
        self._head = bytearray(url_statement.rstrip() + b"\n" if url_statement else b"")
        self._folder = folder
        self._insert: InsertWithBody | None = None
        self._looked = False
        self._staged: BinaryIO | None = None
        self._size = 0

    def feed(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_BODY_BYTES:
            raise Refused(TOO_MANY_BYTES, f"The body exceeds {MAX_BODY_BYTES} bytes")
        if self._staged is not None:
            self._staged.write(data)
            return
        self._head += data
        if not self._looked and len(self._head) >= HEAD_BYTES:
            self._looked = True
            self._insert = split_insert(bytes(self._head))
            if self._insert is not None:
                self._stage(self._insert)
        elif len(self._head) > MAX_STATEMENT_BYTES:
            raise Refused(SYNTAX_ERROR, "Max query size exceeded")

    def finish(self) -> Body:
        insert = self._insert
        if insert is None:
            insert = split_insert(bytes(self._head))
            # Short VALUES stay text: they may hold parameters.
            if insert is not None and insert.format != "Values":
                self._stage(insert)
        if self._staged is None or insert is None:
            return Body(bytes(self._head), bytes(self._head))
        self._staged.flush()
        statement = insert.reading(self._staged.fileno())
        return Body(statement, insert.original, self._staged, insert.structure is not None)

    def drop(self) -> None:
        if self._staged is not None:
            # What it still holds is written first, which fails as before where there is no room.
            with contextlib.suppress(OSError):
                self._staged.close()

    def _stage(self, insert: InsertWithBody) -> None:
        # Unlinked from the start: a killed process leaves nothing behind.
        self._staged = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - the caller's
        with memoryview(self._head) as view:
            self._staged.write(view[insert.body_at :])
