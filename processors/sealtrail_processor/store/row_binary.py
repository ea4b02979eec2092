"""Rows in ClickHouse's format RowBinary, for tables of few types whose values are large. Pure.

The driver turns rows into columns and copies each value three times on its way, which for messages
of half a megabyte is what a worker's memory is made of at its height. Here each value is copied
once: when the parts are joined. Numbers are little-endian, text has its length as LEB128 before it,
an array its count (ClickHouse documentation, "RowBinary").
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    # Appends the parts of a value.
    Pack = Callable[[list[bytes], Any], None]


def packers(types: Sequence[str]) -> list[Pack] | None:
    """How to pack values of these columns, None when one of them has a type that is not known here.

    Args:
        types: as `system.columns` names them.
    """
    found = [_PACKERS.get(_one_line(name)) for name in types]
    return None if None in found else [pack for pack in found if pack is not None]


def header(columns: Mapping[str, str]) -> bytes:
    """What stands before the rows: the engine refuses them if a column has another type.

    Args:
        columns: type of each, as `system.columns` names it.
    """
    found: list[bytes] = [leb128(len(columns))]
    for text in (*columns, *map(_one_line, columns.values())):
        _text(found, text)
    return b"".join(found)


def parts(pack: Sequence[Pack], rows: Iterable[Sequence[Any]]) -> list[bytes]:
    """Rows in pieces to be joined; large values are not copied.

    Raises:
        TypeError, ValueError, struct.error: a value does not fit its column.
    """
    found: list[bytes] = []
    for row in rows:
        for one, value in zip(pack, row, strict=True):
            one(found, value)
    return found


def leb128(number: int) -> bytes:
    """A number that is not negative in groups of seven bits, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _one_line(name: str) -> str:
    # The engine breaks the names of long types into lines where people may look at them.
    return _SPACES.sub(" ", name).replace("( ", "(").replace(" )", ")")


def _text(found: list[bytes], value: str | bytes) -> None:
    data = value.encode() if isinstance(value, str) else value
    if not isinstance(data, bytes):
        raise TypeError(f"a {type(value).__name__} is no text")
    found += (leb128(len(data)), data)


def _pairs(found: list[bytes], value: Sequence[tuple[str, bytes]]) -> None:
    found.append(leb128(len(value)))
    for name, text in value:
        _text(found, name)
        _text(found, text)


def _number(form: str) -> Pack:
    pack = struct.Struct(form).pack

    def number(found: list[bytes], value: int) -> None:
        found.append(pack(value))

    return number


FORMAT = "RowBinaryWithNamesAndTypes"
_SPACES = re.compile(r"\s+")
_PACKERS: dict[str, Pack] = {
    "String": _text,
    "LowCardinality(String)": _text,
    "UInt16": _number("<H"),
    "UInt64": _number("<Q"),
    # Microseconds since 1970.
    "DateTime64(6, 'UTC')": _number("<q"),
    "Array(Tuple(name String, value String))": _pairs,
}
