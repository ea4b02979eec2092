"""What a record batch can become is bounded before it is inflated, for each codec of Kafka."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from sealtrail_processor.kafka import inflate
from sealtrail_processor.kafka.header_names import Records

if TYPE_CHECKING:
    from sealtrail_processor.kafka.inflate import Tombstone

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def batch(codec: int, *values: bytes) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=2**31,
    )
    for index, value in enumerate(values):
        builder.append(index, timestamp=7, key=b"k", value=value, headers=[])
    data = builder.build()
    data[:8] = (40).to_bytes(8, "big")
    return bytes(data)


def read(data: bytes) -> list[tuple[int, bytes | None]]:
    records = Records(data)
    part = records.next_batch()
    assert part is not None
    assert part.validate_crc()
    return [(r.offset, r.value) for r in part]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_an_honest_batch_is_inflated(codec: int) -> None:
    values = [os.urandom(100_000), b"a" * 400_000, b""]
    data = batch(codec, *values)
    assert inflate.bomb(data) is None
    assert read(data) == [(40 + n, value) for n, value in enumerate(values)]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_bomb_is_not(codec: int) -> None:
    data = batch(codec, b"first", bytes(inflate.MAX_BYTES + 1), b"last")
    assert len(data) < inflate.MAX_BYTES // 15
    assert read(data) == [(40, None), (41, None), (42, None)]


def test_what_aiokafka_reads_of_a_record_is_there() -> None:
    (tombstone, *_) = _bomb()
    names = ("offset", "timestamp", "timestamp_type", "key", "value", "checksum", "headers")
    assert [getattr(tombstone, n) for n in names] == [40, 7, 0, None, None, None, []]


def _bomb() -> list[Tombstone]:
    found = inflate.bomb(batch(1, bytes(inflate.MAX_BYTES + 1)))
    assert found is not None
    return list(found)


@pytest.mark.parametrize("codec", [*CODECS.values(), 0, 5, 7])
def test_bytes_that_are_no_such_thing_are_left_to_the_decoder(codec: int) -> None:
    data = bytearray(batch(0, b"value"))
    data[21:23] = struct.pack(">h", codec)
    for tail in (b"", b"\0", b"\xff" * 40, b"\x28\xb5\x2f\xfd\xff", os.urandom(300)):
        whole = bytes(data[:61]) + tail
        found = inflate.bomb(whole)
        assert found is None or len(list(found)) == 1
    assert inflate.bomb(b"short") is None
