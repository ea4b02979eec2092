"""Record batches that inflate a thousandfold: how large one may become is known before it is.

A megabyte of compressed zeros is a gigabyte in memory, and all of Kafka's limits are on compressed
bytes; whoever may write to the topic could end every worker that reads it, without any key. So the
largest size that a batch can have is read from the headers of its compressed blocks. One that could
exceed MAX_BYTES, or whose blocks are none, is not inflated: its offsets come out as messages
without a value, which are refused and counted like any other tombstone.

- lz4 (its frame format, 1.6.2) and zstd (RFC 8878) say how large each block can be; frames follow
  one another, and zstd's decoder takes those of formats that it had before, which is not measured;
- snappy says how large each block is (framing of snappy-java, or none);
- gzip says nothing: what could exceed the limit at its best ratio is inflated piece by piece, and
  nothing of it is kept. What follows the first member counts with that ratio: nobody writes two.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Brokers take batches of a megabyte by default, and ours hold random bytes for the most part.
MAX_BYTES = 64 * 2**20
# Kafka protocol, "Record Batch": attributes, last offset delta, first timestamp, ..., count.
_HEADER = struct.Struct(">q9xIhiq22xi")
_CODECS, _APPENDED = 0x07, 0x08
_GZIP_RATIO = 1032
_PIECE = 1 << 20
_LZ4_MAGIC = 0x184D2204
_LZ4_BLOCKS = {4: 1 << 16, 5: 1 << 18, 6: 1 << 20, 7: 1 << 22}
_ZSTD_BLOCK = 128 * 1024
_ZSTD_MAGIC, _SKIPPABLE = 0xFD2FB528, 0x184D2A5
# Of lengths in snappy, which are 32 bits wide.
_VARINT_BYTES = 5
_SNAPPY_JAVA = b"\x82SNAPPY\x00"


@dataclass(slots=True)
class Tombstone:
    """What stands for a message that was not inflated, as aiokafka's fetcher reads a record."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: None = None
    value: None = None
    checksum: None = None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


def bomb(data: bytes) -> Iterator[Tombstone] | None:
    """What stands for a record batch that must not be inflated; None of one that may.

    Args:
        data: a whole record batch of format 2.
    """
    if len(data) < _HEADER.size:
        return None
    _, _, attributes, *_ = _HEADER.unpack_from(data)
    measure = _MEASURES.get(attributes & _CODECS)
    if measure is None:
        return None
    try:
        large = measure(data[_HEADER.size :]) > MAX_BYTES
    except (struct.error, IndexError, KeyError, zlib.error):
        # Not what it says that it is: how far a decoder would get with it nobody knows.
        large = True
    return tombstones(data) if large else None


def tombstones(data: bytes) -> Iterator[Tombstone]:
    """What stands for each message of a record batch, none of which is read."""
    base, _, attributes, last, timestamp, _ = _HEADER.unpack_from(data)
    kind = int(bool(attributes & _APPENDED))
    return (Tombstone(base + n, timestamp, kind) for n in range(last + 1))


def _gzip(data: bytes) -> int:
    if len(data) * _GZIP_RATIO <= MAX_BYTES:
        return len(data) * _GZIP_RATIO
    size, inflating = 0, zlib.decompressobj(wbits=31)
    rest = data
    while rest and not inflating.eof and size <= MAX_BYTES:
        size += len(inflating.decompress(rest, _PIECE))
        rest = inflating.unconsumed_tail
    return size + len(inflating.unused_data) * _GZIP_RATIO


def _snappy(data: bytes) -> int:
    if not data.startswith(_SNAPPY_JAVA):
        return _varint(data, 0)
    size, at = 0, 16
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at)
        size += _varint(data, at + 4)
        if length <= 0:
            break
        at += 4 + length
    return size


def _varint(data: bytes, at: int) -> int:
    number = 0
    for place in range(_VARINT_BYTES):
        number |= (data[at + place] & 0x7F) << 7 * place
        if data[at + place] < 0x80:
            break
    return number


def _lz4(data: bytes) -> int:
    size = at = 0
    while at < len(data):
        (magic,) = struct.unpack_from("<I", data, at)
        if magic >> 4 == _SKIPPABLE:
            at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
            continue
        if magic != _LZ4_MAGIC:
            break
        blocks, at = _lz4_frame(data, at + 4)
        size += blocks
    return size


def _lz4_frame(data: bytes, at: int) -> tuple[int, int]:
    """How large the blocks of a frame can be, and where it ends; at: after its magic number."""
    flags, block = data[at], _LZ4_BLOCKS[data[at + 1] >> 4 & 7]
    # Content size, id of a dictionary; each block with its own checksum, or not.
    at += 3 + 8 * (flags >> 3 & 1) + 4 * (flags & 1)
    after, size = 4 * (flags >> 4 & 1), 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if length == 0:
            return size, at + 4 * (flags >> 2 & 1)
        stored = bool(length >> 31)
        length &= 0x7FFFFFFF
        size += length if stored else min(block, length * 255)
        at += length + after
    return size, at


def _zstd(data: bytes) -> int:
    size = at = 0
    while at < len(data):
        (magic,) = struct.unpack_from("<I", data, at)
        if magic >> 4 == _SKIPPABLE:
            (length,) = struct.unpack_from("<I", data, at + 4)
            at += 8 + length
            continue
        if magic != _ZSTD_MAGIC:
            # A format of before 1.0, or what no decoder takes.
            return MAX_BYTES + 1
        descriptor = data[at + 4]
        single = descriptor >> 5 & 1
        sizes = (single, 2, 4, 8)[descriptor >> 6]
        at += 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3] + sizes
        last = False
        while not last:
            head = int.from_bytes(data[at : at + 3], "little")
            if at + 3 > len(data):
                raise IndexError(at)
            last, kind, length = bool(head & 1), head >> 1 & 3, head >> 3
            # Raw and repeated blocks say how large they are, compressed ones are bounded.
            size += length if kind < 2 else _ZSTD_BLOCK
            at += 3 + (1 if kind == 1 else length)
        at += 4 * (descriptor >> 2 & 1)
    return size


_MEASURES = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}
