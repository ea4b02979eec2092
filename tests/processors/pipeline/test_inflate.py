"""What a record batch can become is bounded before it is inflated, for each codec of Kafka."""

from __future__ import annotations

import gzip
import os
import struct
import time
from typing import TYPE_CHECKING

import pytest
from aiokafka.codec import lz4_encode, zstd_encode
from aiokafka.record.util import calc_crc32c
from tests.processors.pipeline.record_batches import TIMESTAMP, record_batch

from sealtrail_processor.kafka import inflate
from sealtrail_processor.kafka.header_names import Records

if TYPE_CHECKING:
    from sealtrail_processor.kafka.inflate import Tombstone

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def batch(codec: int, *values: bytes) -> bytes:
    return record_batch(40, [(value, []) for value in values], codec)


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
    assert [getattr(tombstone, n) for n in names] == [40, TIMESTAMP, 0, None, None, None, []]


def _bomb() -> list[Tombstone]:
    found = inflate.bomb(batch(1, bytes(inflate.MAX_BYTES + 1)))
    assert found is not None
    return list(found)


def _raw(codec: int, body: bytes) -> bytes:
    """A batch of one record whose compressed part is whatever it is, with a checksum that holds."""
    data = bytearray(batch(0, b"value")[:61] + body)
    data[8:12] = (len(data) - 12).to_bytes(4, "big")
    data[21:23] = struct.pack(">h", codec)
    data[17:21] = calc_crc32c(bytes(data[21:])).to_bytes(4, "big")
    return bytes(data)


LARGE = bytes(inflate.MAX_BYTES + 1)


@pytest.mark.parametrize(
    ("codec", "body"),
    [
        # A second member, a second frame: decoders read on.
        (1, gzip.compress(b"small") + gzip.compress(LARGE)),
        (3, lz4_encode(b"small") + lz4_encode(LARGE)),
        (3, b"\x50\x2a\x4d\x18\x03\x00\x00\x00xyz" + lz4_encode(LARGE)),
        (4, zstd_encode(b"small") + zstd_encode(LARGE)),
        # What follows is none, but the decoder has inflated the first by then.
        (3, lz4_encode(LARGE) + b"xy"),
        (4, zstd_encode(LARGE) + b"xy"),
        # zstd's format of version 0.7, which its decoder still takes.
        (4, b"\x27\xb5\x2f\xfd\x00\x38\x40\x00\x05hello\xc0\x00\x00"),
    ],
)
def test_a_bomb_that_hides_is_none_either(codec: int, body: bytes) -> None:
    assert inflate.bomb(_raw(codec, body)) is not None
    assert read(_raw(codec, body)) == [(40, None)]


def test_a_length_of_a_megabyte_is_no_work() -> None:
    began = time.process_time()
    assert read(_raw(2, b"\xff" * 1_000_000)) == [(40, None)]
    assert time.process_time() - began < 1


@pytest.mark.parametrize("codec", [*CODECS.values(), 0, 5, 7])
def test_bytes_that_are_no_such_thing_are_refused(codec: int) -> None:
    lz4 = lz4_encode(b"brokers read as far as the end of the frame")
    for body in (b"", b"\0", b"\xff" * 40, b"\x28\xb5\x2f\xfd\xff", lz4 + b"more", lz4[:-9]):
        assert read(_raw(codec, body)) == [(40, None)]
    assert inflate.bomb(b"short") is None
