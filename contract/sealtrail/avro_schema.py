"""Avro schemas that come from outside: read under caps, refused when they can hurt, fingerprinted.

Rules (docs/wire-format.md, "Schemas"; reasons in docs/adr):
- nothing is handed to a parser before size and nesting are known;
- a schema is refused when it is recursive or has items or records of no width: each of these
  kills or stalls a decoder with a few bytes;
- decimals are refused: converting a megabyte of one takes a minute;
- JSON that two readers could read differently (a name twice, fractions, huge numbers) is refused.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any

import fastavro

from sealtrail.errors import MISSHAPEN, MalformedError

MAX_SCHEMA_BYTES = 65_536
MAX_SCHEMA_DEPTH = 32
MAX_FIELDS = 256
PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
# Apache Avro 1.12, "Names".
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# Their values are data or names, not definitions: nothing in them is a schema.
_DATA = frozenset({"default", "symbols", "aliases"})
_PARSE_ERRORS = (
    *MISSHAPEN,
    IndexError,
    fastavro.schema.SchemaParseException,
    fastavro.schema.UnknownType,
)

Schema = Any


def parse_json(text: str | bytes) -> Schema:
    """Read the JSON of a schema (RFC 8259, in UTF-8) under caps on size and nesting.

    Raises:
        MalformedError: too large, too deep, no JSON, or an object that has a name twice.
    """
    try:
        raw = text.encode() if isinstance(text, str) else text
        plain = raw.decode()
    except UnicodeError:
        raise MalformedError("schema is not UTF-8") from None
    if len(raw) > MAX_SCHEMA_BYTES:
        raise MalformedError(f"schema has {len(raw)} bytes, more than {MAX_SCHEMA_BYTES}")
    depth = deepest = 0
    for byte in raw:
        # Brackets inside strings count too: an over-estimate is safe, no real schema comes near.
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    if deepest > 2 * MAX_SCHEMA_DEPTH:
        raise MalformedError(f"schema nests deeper than {2 * MAX_SCHEMA_DEPTH} brackets")
    try:
        return json.loads(plain, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"schema is not JSON: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # One reader takes the first of two equal names, another the last (RFC 7493 section 2.3).
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def without(schema: Schema, *names: str) -> Schema:
    """A copy of a schema without some members (such as doc) of its definitions and fields."""
    if isinstance(schema, list):
        return [without(s, *names) for s in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value if key in _DATA else without(value, *names)
        for key, value in schema.items()
        if key not in names
    }


def canonical_json(value: Any) -> bytes:
    """RFC 8785 JSON of what a schema may hold.

    No fractions: how they are written is where implementations differ.

    Raises:
        MalformedError: a fraction, a huge integer or text that is no Unicode.
    """
    try:
        _refuse_numbers(value)
        return json.dumps(
            _sorted(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False
        ).encode()
    except UnicodeEncodeError:
        raise MalformedError("text holds a lone surrogate") from None
    except RecursionError:
        raise MalformedError("value nests too deep") from None


def _refuse_numbers(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _refuse_numbers(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_numbers(item)
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) >= 2**53):
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

    Raises:
        MalformedError: as canonical_json.
    """
    return sha256(canonical_json(without(schema, "doc"))).digest()


def check_schema(schema: Schema) -> Schema:
    """Parse a schema that came from outside, or refuse it.

    Returns:
        fastavro's parsed schema, logical types dropped (numbers stay numbers).

    Raises:
        MalformedError: recursive, too deep, of no width somewhere, decimals, unknown types.
    """
    _Guard().check(schema, 0)
    try:
        bare = without(schema, "doc", "logicalType", "precision", "scale")
        return fastavro.parse_schema(bare, _force=True)
    except _PARSE_ERRORS as error:
        raise MalformedError(f"schema is refused: {error}") from None


class _Guard:
    """Walks a schema before fastavro sees it. Each value of what passes takes a byte or more."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.known: set[str] = set()

    def check(self, schema: Schema, depth: int, namespace: str = "", *, null: bool = False) -> None:
        """Refuse what can hurt.

        Args:
            schema: a schema or a part of one.
            depth: how deep it stands.
            namespace: of what encloses it.
            null: whether a bare null, which takes no byte, may stand here.
        """
        if depth > MAX_SCHEMA_DEPTH:
            raise MalformedError(f"schema nests deeper than {MAX_SCHEMA_DEPTH}")
        if isinstance(schema, str):
            self._named(schema, namespace, null=null)
        elif isinstance(schema, list):
            for branch in schema:
                self.check(branch, depth + 1, namespace, null=True)
        else:
            self._definition(schema, depth, namespace, null=null)

    def _definition(self, schema: Schema, depth: int, namespace: str, *, null: bool) -> None:
        if not isinstance(schema, dict) or "type" not in schema:
            raise MalformedError("schema has a part that is no type")
        if schema.get("logicalType") == "decimal":
            raise MalformedError("decimals are refused")
        if any(key.startswith("__") for key in schema):
            # fastavro reads members of such names as its own notes on a parsed schema.
            raise MalformedError("schema has a member whose name begins with two underscores")
        kind = schema["type"]
        if kind == "array":
            self.check(schema.get("items"), depth + 1, namespace)
        elif kind == "map":
            self.check(schema.get("values"), depth + 1, namespace, null=True)
        elif kind in ("record", "error"):
            self._record(schema, depth, namespace)
        elif kind == "enum":
            self._define(_full_name(schema, namespace))
        elif kind == "fixed":
            size = schema.get("size")
            if type(size) is not int or not 0 < size <= MAX_SCHEMA_BYTES:
                raise MalformedError("fixed of no or absurd size is refused")
            self._define(_full_name(schema, namespace))
        else:
            self.check(kind, depth + 1, namespace, null=null)

    def _record(self, schema: dict[str, Any], depth: int, namespace: str) -> None:
        name = _full_name(schema, namespace)
        fields = schema.get("fields")
        if not isinstance(fields, list) or len(fields) > MAX_FIELDS:
            raise MalformedError(f"record {name} has no list of at most {MAX_FIELDS} fields")
        # Records of records of nothing would take no byte and 256 ** depth steps.
        if all(_is_null(f) for f in fields):
            raise MalformedError(f"record {name} of no width is refused")
        self.open.add(name)
        inner = name.rpartition(".")[0]
        for field in fields:
            self.check(field, depth + 1, inner, null=True)
        self.open.discard(name)
        self._define(name)

    def _define(self, name: str) -> None:
        if name in self.known or name in self.open:
            raise MalformedError(f"type {name} is defined twice")
        self.known.add(name)

    def _named(self, name: str, namespace: str, *, null: bool) -> None:
        if name in PRIMITIVES:
            if name == "null" and not null:
                raise MalformedError("array items of no width are refused")
            return
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full in self.open:
            raise MalformedError(f"recursive schema at {full} is refused")
        if full not in self.known:
            raise MalformedError(f"unknown type {full}")


def _is_null(part: Any) -> bool:
    while isinstance(part, dict):
        part = part.get("type")
    return bool(part == "null")


def _full_name(schema: dict[str, Any], namespace: str) -> str:
    name, space = schema.get("name"), schema.get("namespace", namespace)
    if not isinstance(name, str) or not isinstance(space, str):
        raise MalformedError("a named type has no name")
    if not all(_NAME.fullmatch(part) for part in name.split(".")):
        raise MalformedError(f"{name[:100]!r} is no name")
    return name if "." in name or not space else f"{space}.{name}"
