"""What a service promised, kept where SIGKILL cannot take it: one small mapped file a process run.

`emitted` is raised before an event is handed to the SDK, `promised` after the SDK has said that an
event is on disk (durable=True): everything before it is then on disk as well. So of each chain the
store must hold exactly one run of sequence numbers from 0 that ends between the two.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

_LAYOUT = struct.Struct("<32sQQ")
_SUFFIX = ".run"


@dataclass(frozen=True)
class Run:
    """One process run as its file tells it."""

    service: str
    chain_id: str
    emitted: int
    promised: int


class Page:
    """The file of the run that writes it."""

    def __init__(self, folder: Path, service: str, chain_id: bytes) -> None:
        path = folder / f"{service}-{os.getpid()}-{chain_id.hex()[:8]}{_SUFFIX}"
        path.write_bytes(_LAYOUT.pack(chain_id, 0, 0))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _LAYOUT.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._map.close()

    def emitted(self, count: int) -> None:
        """So many events were handed over, or are about to be."""
        self._map[32:40] = count.to_bytes(8, "little")

    def promised(self, count: int) -> None:
        """So many events are on disk."""
        self._map[40:48] = count.to_bytes(8, "little")


def runs(folder: Path) -> list[Run]:
    """All process runs so far."""
    found = []
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        data = path.read_bytes()
        if len(data) == _LAYOUT.size:  # else it is being made
            chain_id, emitted, promised = _LAYOUT.unpack(data)
            found.append(Run(path.name.split("-")[0], chain_id.hex(), emitted, promised))
    return found
