"""Rows in ClickHouse's format RowBinary. Pure.

The driver turns rows into columns and copies each value three times on its way, which for messages
of half a megabyte is what a worker's memory is made of at its height; and it loads pandas and
Arrow, where they are installed, to ask whether rows are one of theirs (67 MB). Here each value is
copied once: when the parts are joined. Numbers are little-endian, text has its length as LEB128
before it, an array its count, what may be null a byte that says so (ClickHouse documentation,
"RowBinary").
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    # Appends the parts of a value.
    Pack = Callable[[list[bytes], Any], None]


class UnknownTypeError(Exception):
    """No values of this type are packed here."""


@lru_cache(maxsize=128)
def packers(types: tuple[str, ...]) -> list[Pack]:
    """How to pack values of these columns.

    Args:
        types: as `system.columns` names them.

    Raises:
        UnknownTypeError: one of them is not known here.
    """
    return [_packer(_one_line(name)) for name in types]


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


def _packer(name: str) -> Pack:
    simple = _PACKERS.get(name)
    if simple is not None:
        return simple
    outer, _, inner = name.removesuffix(")").partition("(")
    made = _MAKERS.get(outer)
    if made is None:
        raise UnknownTypeError(f"values of type {name} are not packed here")
    return made(inner)


def _text(found: list[bytes], value: str | bytes) -> None:
    # What stands in a text that no UTF-8 can say must not hold up all that is in the flush with it;
    # the message itself is stored as bytes.
    data = value.encode(errors="replace") if isinstance(value, str) else value
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


def _fixed(size: str) -> Pack:
    length = int(size)
    nothing = bytes(length)

    def fixed(found: list[bytes], value: bytes) -> None:
        if len(value) not in (0, length):
            raise ValueError(f"{len(value)} bytes, not {length}")
        # Nothing is said by zeros, as the engine fills up what is too short.
        found.append(value or nothing)

    return fixed


def _nullable(inner: str) -> Pack:
    pack = _packer(inner)

    def nullable(found: list[bytes], value: Any) -> None:
        if value is None:
            found.append(b"\x01")
            return
        found.append(b"\x00")
        pack(found, value)

    return nullable


def _array(inner: str) -> Pack:
    pack = _packer(inner)

    def array(found: list[bytes], value: Sequence[Any]) -> None:
        found.append(leb128(len(value)))
        for one in value:
            pack(found, one)

    return array


def _enum(inner: str) -> Pack:
    numbers = {name: struct.pack("<b", int(n)) for name, n in _ENUM.findall(inner)}

    def enum(found: list[bytes], value: str) -> None:
        if value not in numbers:
            raise ValueError(f"{value!r} is none of {', '.join(numbers)}")
        found.append(numbers[value])

    return enum


FORMAT = "RowBinaryWithNamesAndTypes"
_SPACES = re.compile(r"\s+")
_ENUM = re.compile(r"'(\w+)' = (-?\d+)")
_PACKERS: dict[str, Pack] = {
    "String": _text,
    "Bool": _number("<?"),
    "UInt8": _number("<B"),
    "UInt16": _number("<H"),
    "UInt32": _number("<I"),
    "UInt64": _number("<Q"),
    "Int64": _number("<q"),
    # Microseconds since 1970.
    "DateTime64(6, 'UTC')": _number("<q"),
    "Array(Tuple(name String, value String))": _pairs,
}
# By what stands before the parenthesis, of what stands in it. Dictionaries and what merges make of
# values are the engine's matter.
_MAKERS: dict[str, Callable[[str], Pack]] = {
    "LowCardinality": _packer,
    "SimpleAggregateFunction": lambda inner: _packer(inner.partition(", ")[2]),
    "Nullable": _nullable,
    "Array": _array,
    "FixedString": _fixed,
    "Enum8": _enum,
}
