"""Messages on disk: made before a measurement, read back without any work on them.

    each: partition, sizes of key and value, events, checksum, key, value

Headers are left out: all that they say stands in the statement.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail_bench.generator import Made
from sealtrail_producer.ports import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_RECORD = struct.Struct(">HHIIQ")


@dataclass(slots=True)
class Total:
    """What messages hold together: how many, their events, bytes of values, checksum."""

    messages: int = 0
    events: int = 0
    bytes: int = 0
    checksum: int = 0

    def add(self, made: Made) -> None:
        """Count one more."""
        self.messages += 1
        self.events += made.events
        self.bytes += len(made.message.value)
        self.checksum = (self.checksum + made.checksum) % 2**64


def write(file: Path, messages: Iterable[Made]) -> Total:
    """Write messages."""
    total = Total()
    with file.open("wb") as out:
        for made in messages:
            m = made.message
            sizes = (m.partition, len(m.key), len(m.value), made.events, made.checksum)
            out.write(_RECORD.pack(*sizes) + m.key + m.value)
            total.add(made)
    return total


def read(file: Path, topic: str) -> Iterator[Made]:
    """The messages of a file, for a topic."""
    with file.open("rb") as source:
        while head := source.read(_RECORD.size):
            partition, key, value, events, checksum = _RECORD.unpack(head)
            message = Message(topic, partition, source.read(key), (), source.read(value))
            yield Made(message, events, checksum)
