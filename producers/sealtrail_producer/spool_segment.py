"""One file of the spool: records behind one another, each found by its number."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sealtrail_producer import spool_record
from sealtrail_producer.spool_record import PREFIX, Record

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(slots=True)
class Segment:
    """An open segment file: the byte offset of each record, and the end of the last one."""

    first: int
    path: Path
    descriptor: int
    starts: list[int] = field(default_factory=list)
    size: int = 0

    @property
    def after(self) -> int:
        """Index behind its last record."""
        return self.first + len(self.starts)

    def end_of(self, position: int) -> int:
        """Byte offset behind the record at a position within the segment."""
        return self.starts[position + 1] if position + 1 < len(self.starts) else self.size


def read_at(segment: Segment, index: int, offset: int) -> tuple[Record | None, int]:
    """The record at a byte offset and its size, or (None, 0) if no good record stands there."""
    prefix = os.pread(segment.descriptor, PREFIX.size, offset)
    if len(prefix) < PREFIX.size:
        return None, 0
    length, _ = PREFIX.unpack(prefix)
    if length > spool_record.MAX_BODY:
        return None, 0
    body = os.pread(segment.descriptor, length, offset + PREFIX.size)
    return spool_record.decode(index, prefix, body), PREFIX.size + length
