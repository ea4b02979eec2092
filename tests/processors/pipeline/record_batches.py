"""Record batches of Kafka, byte for byte as a broker hands them over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

if TYPE_CHECKING:
    from collections.abc import Iterable

TIMESTAMP = 7


def record_batch(
    first: int, records: Iterable[tuple[bytes, list[tuple[str, bytes]]]], codec: int = 0
) -> bytes:
    """A batch of (value, headers) from an offset on; codec is its number in Kafka."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=2**31,
    )
    for index, (value, headers) in enumerate(records):
        builder.append(index, timestamp=TIMESTAMP, key=b"k", value=value, headers=headers)
    data = builder.build()
    data[:8] = first.to_bytes(8, "big")  # the checksum does not cover the base offset
    return bytes(data)
