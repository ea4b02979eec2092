"""Avro as the contract uses it: one canonical encoding, schemas that cannot hurt, fingerprints.

Rules (docs/wire-format.md, "Canonical Avro"; reasons in docs/adr):
- decoding never converts logical types: a timestamp is its number of microseconds;
- `Codec.decode` encodes again and compares, so overlong varints, negative indexes, split blocks,
  unsorted maps,
  booleans other than 0 and 1 and trailing bytes are all refused;
- a schema is refused before it is parsed when it is too large or too deep, is recursive, has
  zero-width items or
  decimals: each of these kills or stalls a decoder with a few bytes.
"""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from io import BytesIO
from typing import Any

import fastavro

from sealtrail import resources
from sealtrail.errors import MalformedError, NotCanonicalError

MAX_SCHEMA_BYTES = 65_536
MAX_SCHEMA_DEPTH = 32
PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
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

Schema = Any


def parse_json(text: str | bytes) -> Schema:
    """Read the JSON of a schema under caps on size and nesting.

    Raises:
        MalformedError: too large, too deep or no JSON.
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > MAX_SCHEMA_BYTES:
        raise MalformedError(f"schema has {len(raw)} bytes, more than {MAX_SCHEMA_BYTES}")
    depth = deepest = 0
    for byte in raw:
        # Brackets inside strings count too: an over-estimate is safe and no real schema comes near
        # the cap.
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    if deepest > 2 * MAX_SCHEMA_DEPTH:
        raise MalformedError(f"schema nests deeper than {2 * MAX_SCHEMA_DEPTH} brackets")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"schema is not JSON: {error}") from None


def without(schema: Schema, *names: str) -> Schema:
    """A copy of a schema without some attributes (such as doc) of its definitions and fields."""
    if isinstance(schema, list):
        return [without(s, *names) for s in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key in names:
            continue
        # Defaults are data, not definitions: their keys are left alone.
        kept[key] = value if key in ("default", "symbols", "aliases") else without(value, *names)
    return kept


def canonical_json(value: Any) -> bytes:
    """RFC 8785 JSON of what a schema may hold (no fractions: their rendering is where implementations differ).

    Raises:
        MalformedError: a fraction, a huge integer or text that is no Unicode.
    """
    _refuse_numbers(value)
    try:
        return json.dumps(
            _sorted(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False
        ).encode()
    except UnicodeEncodeError:
        raise MalformedError("text holds a lone surrogate") from None


def _refuse_numbers(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _refuse_numbers(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_numbers(item)
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) > 2**53):
        raise MalformedError(f"number {value!r} has no safe canonical form")


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        # RFC 8785 section 3.2.3: property names are sorted by their UTF-16 code units.
        keys = sorted(value, key=lambda k: k.encode("utf-16-be", "surrogatepass"))
        return {k: _sorted(value[k]) for k in keys}
    if isinstance(value, list):
        return [_sorted(v) for v in value]
    return value


def fingerprint(schema: Schema) -> bytes:
    """SHA-256 of the RFC 8785 JSON of a schema without doc, 32 bytes.

    Avro's own parsing canonical form drops logical types, defaults and aliases: micros and millis
    would hash alike.
    """
    return sha256(canonical_json(without(schema, "doc"))).digest()


def check_schema(schema: Schema) -> Schema:
    """Parse a schema that came from outside, or refuse it.

    Returns:
        fastavro's parsed schema, logical types dropped (numbers stay numbers).

    Raises:
        MalformedError: recursive, zero-width items, decimals, unknown types, too deep.
    """
    _Guard().check(schema, 0)
    return _parse(without(schema, "doc", "logicalType", "precision", "scale"))


def _parse(schema: Schema) -> Schema:
    try:
        return fastavro.parse_schema(schema, _force=True)
    except (
        *ENCODE_ERRORS,
        fastavro.schema.SchemaParseException,
        fastavro.schema.UnknownType,
        RecursionError,
    ) as error:
        raise MalformedError(f"schema is refused: {error}") from None


class _Guard:
    """Walks a schema before fastavro sees it."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.wide: dict[str, bool] = {}

    def check(self, schema: Schema, depth: int, namespace: str = "") -> bool:
        """Refuse what can hurt; return whether each value takes at least one byte."""
        if depth > MAX_SCHEMA_DEPTH:
            raise MalformedError(f"schema nests deeper than {MAX_SCHEMA_DEPTH}")
        if isinstance(schema, str):
            return self._named(schema, namespace)
        if isinstance(schema, list):
            for branch in schema:
                self.check(branch, depth + 1, namespace)
            return True
        if not isinstance(schema, dict) or "type" not in schema:
            raise MalformedError("schema has a part that is no type")
        if schema.get("logicalType") == "decimal":
            # A bytes-decimal of a megabyte takes a minute to convert.
            raise MalformedError("decimals are refused")
        kind = schema["type"]
        if kind in ("array", "map"):
            inner = self.check(
                schema.get("items" if kind == "array" else "values"), depth + 1, namespace
            )
            if kind == "array" and not inner:
                raise MalformedError("array items of no width are refused")
            return True
        if kind in ("record", "error"):
            return self._record(schema, depth, namespace)
        if kind in ("enum", "fixed"):
            wide = kind == "enum" or (
                isinstance(schema.get("size"), int) and 0 < schema["size"] <= MAX_SCHEMA_BYTES
            )
            if not wide:
                raise MalformedError("fixed of no or absurd size is refused")
            self.wide[self._full(schema, namespace)] = True
            return True
        return self.check(kind, depth + 1, namespace)

    def _record(self, schema: dict[str, Any], depth: int, namespace: str) -> bool:
        name = self._full(schema, namespace)
        self.open.add(name)
        inner = name.rpartition(".")[0]
        fields = schema.get("fields")
        if not isinstance(fields, list) or len(fields) > 256:
            raise MalformedError(f"record {name} has no list of at most 256 fields")
        widths = [self.check(f, depth + 1, inner) for f in fields]
        self.open.discard(name)
        self.wide[name] = any(widths)
        return self.wide[name]

    def _full(self, schema: dict[str, Any], namespace: str) -> str:
        name = schema.get("name")
        if not isinstance(name, str) or not name:
            raise MalformedError("a named type has no name")
        if "." in name:
            return name
        space = schema.get("namespace", namespace)
        return f"{space}.{name}" if space else name

    def _named(self, name: str, namespace: str) -> bool:
        if name in PRIMITIVES:
            return name != "null"
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full in self.open:
            raise MalformedError(f"recursive schema at {full} is refused")
        if full not in self.wide:
            raise MalformedError(f"unknown type {full}")
        return self.wide[full]


class Codec:
    """Encodes and decodes one record type, canonically.

    Args:
        schema: the JSON form of a schema; refused unless it is harmless.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.fingerprint = fingerprint(schema)
        self.parsed = check_schema(schema)
        self._maps = _has_map(schema)

    def encode(self, value: Any) -> bytes:
        """Canonical bytes of a value.

        Raises:
            MalformedError: the value does not fit the schema.
        """
        out = BytesIO()
        try:
            fastavro.schemaless_writer(
                out, self.parsed, _ordered(value) if self._maps else value, strict=True
            )
        except ENCODE_ERRORS as error:
            raise MalformedError(f"value does not fit the schema: {error}") from None
        return out.getvalue()

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


def _has_map(schema: Schema) -> bool:
    if isinstance(schema, list):
        return any(_has_map(s) for s in schema)
    if isinstance(schema, dict):
        return schema.get("type") == "map" or any(_has_map(v) for v in schema.values())
    return False


def _ordered(value: Any) -> Any:
    """Maps in byte order of their keys; records keep theirs by the schema whatever order a dict has."""
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
