"""A header whose name is no UTF-8 costs no message, neither its own nor its neighbours."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords
from tests.processors.pipeline.record_batches import record_batch

from sealtrail_processor.kafka.header_names import Records


class Name(str):
    __slots__ = ()

    def encode(self, *_: Any, **__: Any) -> bytes:
        return b"\xffx"


def batch(first: int, names: list[str], codec: int = 0) -> bytes:
    return record_batch(first, [(b"v" * 9, [(name, b"\xfe")]) for name in names], codec)


def read(data: bytes) -> list[tuple[int, str]]:
    records, found = Records(data), []
    while records.has_next():
        part = records.next_batch()
        assert part is not None
        assert part.validate_crc()
        found += [(r.offset, r.headers[0][0]) for r in part]
    assert records.next_batch() is None
    return found


@pytest.mark.parametrize("codec", [0, 1])
def test_all_messages_are_read(codec: int):
    data = batch(0, ["a", "b"], codec) + batch(2, ["c", Name("d"), "é"], codec) + batch(5, ["f"])
    assert read(data) == [(0, "a"), (1, "b"), (2, "c"), (3, "\\xffx"), (4, "é"), (5, "f")]


def test_aiokafka_alone_fails():
    records = MemoryRecords(batch(0, [Name("a")]))
    with pytest.raises(UnicodeDecodeError):
        list(records.next_batch())


def test_a_record_that_ends_beyond_its_batch_is_refused_with_it():
    """aiokafka's varints in C read on behind the buffer, which once ended the process."""
    data = bytearray(batch(40, [Name("a")]))
    # Two records, it says; so does the offset of its last one.
    data[57:61] = (2).to_bytes(4, "big")
    data[23:27] = (1).to_bytes(4, "big")
    part = Records(bytes(data)).next_batch()
    assert part is not None
    assert [(r.offset, r.value) for r in part] == [(40, None), (41, None)]


def test_a_batch_that_is_cut_waits_for_the_rest():
    data = batch(0, ["a"]) + batch(1, ["b"])
    assert read(data[:-3]) == [(0, "a")]
    assert Records(data).size_in_bytes() == len(data)
