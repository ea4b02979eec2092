"""Avro as the contract uses it: one canonical encoding, and nothing but our errors.

Rules (docs/wire-format.md, "Canonical Avro"; reasons in docs/adr):
- decoding never converts logical types: a timestamp is its number of microseconds;
- `Codec.decode` encodes again and compares, so overlong varints, negative indexes, split blocks,
  unsorted maps, booleans other than 0 and 1 and trailing bytes are all refused;
- an int has 32 bits, which fastavro does not look at.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import Any

import fastavro

from sealtrail import resources
from sealtrail.avro_schema import (
    MAX_SCHEMA_BYTES,
    MAX_SCHEMA_DEPTH,
    Schema,
    canonical_json,
    check_schema,
    fingerprint,
    parse_json,
    without,
)
from sealtrail.errors import MalformedError, NotCanonicalError

# What fastavro raises on hostile bytes; RuntimeError covers its recursion guard.
DECODE_ERRORS = (
    EOFError,
    IndexError,
    KeyError,
    ValueError,
    OverflowError,
    TypeError,
    MemoryError,
    RuntimeError,
    fastavro.read.SchemaResolutionError,
)
ENCODE_ERRORS = (ValueError, TypeError, KeyError, OverflowError, AttributeError, IndexError)
INT_MIN, INT_MAX = -(2**31), 2**31 - 1


class Codec:
    """Encodes and decodes one record type, canonically.

    Args:
        schema: the JSON form of a schema; refused unless it is harmless.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.parsed = check_schema(schema)
        self.fingerprint = fingerprint(schema)
        fields = _fields(self.parsed)
        # An event has one map, among its own fields: no need to walk through all of its value.
        self._maps = tuple(f["name"] for f in fields if _is_flat_map(f["type"]))
        others = [f["type"] for f in fields if f["name"] not in self._maps] or [self.parsed]
        self._deep_maps = _mentions(others, "map")
        # Ints deeper down (heartbeat_s) have narrower limits of their own, beside their records.
        self._ints = tuple(f["name"] for f in fields if f["type"] == "int")

    def encode(self, value: Any) -> bytes:
        """Canonical bytes of a value.

        Raises:
            MalformedError: the value does not fit the schema.
        """
        out = BytesIO()
        try:
            if any(not INT_MIN <= value[name] <= INT_MAX for name in self._ints):
                raise MalformedError("value does not fit the schema: an int exceeds 32 bits")
            fastavro.schemaless_writer(out, self.parsed, self._arranged(value), strict=True)
        except ENCODE_ERRORS as error:
            raise MalformedError(f"value does not fit the schema: {error}") from None
        return out.getvalue()

    def _arranged(self, value: Any) -> Any:
        """The value with its maps in canonical order."""
        if self._deep_maps:
            return _ordered(value)
        for name in self._maps:
            if len(value[name]) > 1:
                value = {**value, name: _ordered(value[name])}
        return value

    def decode(self, data: bytes) -> Any:
        """The value that canonical bytes stand for.

        Raises:
            MalformedError: not decodable.
            NotCanonicalError: decodable, but not what `encode` gives for that value.
        """
        value = self.decode_any(data)
        try:
            again = self.encode(value)
        except MalformedError:
            again = None
        if again != data:
            raise NotCanonicalError(f"{len(data)} bytes are not the canonical encoding")
        return value

    def decode_any(self, data: bytes) -> Any:
        """The value at the start of the bytes, canonical or not.

        Raises:
            MalformedError: not decodable.
        """
        try:
            return fastavro.schemaless_reader(BytesIO(data), self.parsed, None)
        except DECODE_ERRORS as error:
            raise MalformedError(f"cannot be decoded: {type(error).__name__}") from None


def _is_flat_map(schema: Schema) -> bool:
    is_map = isinstance(schema, dict) and schema["type"] == "map"
    return is_map and not _mentions(schema["values"], "map")


def _fields(schema: Schema) -> list[Any]:
    is_record = isinstance(schema, dict) and schema["type"] == "record"
    return list(schema["fields"]) if is_record else []


def _mentions(schema: Schema, kind: str) -> bool:
    """Whether a parsed schema has a part of a type."""
    if isinstance(schema, list):
        return any(_mentions(s, kind) for s in schema)
    if isinstance(schema, dict):
        types = (schema.get(key) for key in ("type", "items", "values"))
        return any(_mentions(t, kind) for t in types) or any(
            _mentions(f, kind) for f in schema.get("fields", ())
        )
    return bool(schema == kind)


def _ordered(value: Any) -> Any:
    """Maps in byte order of their keys; a record's order comes from the schema, not from a dict."""
    if isinstance(value, dict):
        keys = sorted(
            value, key=lambda k: k.encode("utf-8", "surrogatepass") if isinstance(k, str) else b""
        )
        return {k: _ordered(value[k]) for k in keys}
    if isinstance(value, list):
        return [_ordered(v) for v in value]
    return value


@cache
def codec(name: str) -> Codec:
    """The codec of a record in schemas/avro, by its name (such as "BatchStatement")."""
    return Codec(load_schema(name))


def load_schema(name: str) -> Schema:
    """The JSON form of a schema in schemas/avro, by its record name."""
    return parse_json(resources.path("schemas", f"{name}.avsc").read_bytes())


__all__ = [
    "DECODE_ERRORS",
    "ENCODE_ERRORS",
    "MAX_SCHEMA_BYTES",
    "MAX_SCHEMA_DEPTH",
    "Codec",
    "Schema",
    "canonical_json",
    "check_schema",
    "codec",
    "fingerprint",
    "load_schema",
    "parse_json",
    "without",
]


def values(record: Any) -> dict[str, Any]:
    """The fields of a dataclass by name: what `Codec.encode` takes of a flat record."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
