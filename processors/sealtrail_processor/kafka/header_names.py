"""Record batches that aiokafka cannot read: one of them would stop a partition for good.

aiokafka decodes as it fetches and fails on such a batch each time anew, so that whoever may write
to the topic could end every worker that reads it, without any key.

- A header's name that is no UTF-8: the batch is read again with the name's odd bytes written as
  escapes; what the message says is judged like any other.
- What no decoder takes (brokers read less of a batch than clients do: what follows the end of an
  lz4 frame, for one), or what would inflate too far: its offsets come out as messages without a
  value, which are refused and counted.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING, Any

import aiokafka.consumer.fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint_py

from sealtrail_processor.kafka import inflate

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

# Before each batch: base offset (8 bytes), then the length of what follows (Kafka protocol,
# "Record Batch").
_OVERHEAD = struct.Struct(">qi")


class Lenient(bytearray):
    """A buffer whose slices decode whatever they hold."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return Lenient(found) if isinstance(at, slice) else found

    def decode(self, encoding: str = "utf-8", _errors: str = "strict") -> str:
        """Text, bytes that are none as escapes."""
        return super().decode(encoding, "backslashreplace")


class Batch:
    """A record batch: aiokafka's own, until a header's name fails it."""

    def __init__(self, batch: Any, data: bytes) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        tombstones = inflate.bomb(self._data)
        if tombstones is not None:
            log.warning("a record batch could inflate beyond %d bytes: refused", inflate.MAX_BYTES)
            return tombstones
        # All at once: half of a batch must not be handed over twice.
        try:
            return iter(self._records())
        except Exception as error:  # noqa: BLE001 - decoders raise what they like
            # Its checksum holds, so that it is what was sent, and would fail each worker anew.
            log.warning("a record batch cannot be read (%s): refused", type(error).__name__)
            return inflate.tombstones(self._data)

    def _records(self) -> list[Any]:
        try:
            return list(self._batch)
        except UnicodeDecodeError:
            return list(_again(self._data))


class _Bounded(_DefaultRecordBatchPy):  # type: ignore[misc] # its module has no types
    """aiokafka's reader in Python, with its varints in Python too: those in C read on beyond."""

    def _read_msg(self, decode_varint: Any = decode_varint_py) -> Any:
        return super()._read_msg(decode_varint)


def _again(data: bytes) -> Any:
    batch = _Bounded(data)
    batch._maybe_uncompress()  # noqa: SLF001 - aiokafka has no public way to its buffer
    batch._buffer = Lenient(batch._buffer)  # noqa: SLF001 - see above
    return batch


class Records:
    """What one fetch brought of a partition, as aiokafka's fetcher reads it."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._data = data
        self._at = 0

    def size_in_bytes(self) -> int:
        """As aiokafka's."""
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        """Whether there is another whole batch."""
        return bool(self._records.has_next())

    def next_batch(self) -> Batch | None:
        """The next batch, None after the last."""
        batch = self._records.next_batch()
        if batch is None:
            return None
        _, length = _OVERHEAD.unpack_from(self._data, self._at)
        begin, self._at = self._at, self._at + _OVERHEAD.size + length
        return Batch(batch, self._data[begin : self._at])


def install() -> None:
    """Have all consumers of this process read so."""
    aiokafka.consumer.fetcher.MemoryRecords = Records
