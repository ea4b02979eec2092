"""Schemas as they come in: capped before anything parses them.

A deeply nested schema of a few kB kills a process that parses it by recursion (hazards: fastavro, a
segmentation fault). So text is measured first, byte by byte, without recursion.
"""

import json
import warnings
from typing import Any, Final

from avro.errors import AvroException
from avro.schema import Schema, make_avsc_object

from sealtrail.errors import MISSHAPEN
from sealtrail_local.registry.errors import INVALID_SCHEMA, RegistryError

MAX_SCHEMA_BYTES: Final = 256 << 10
# Levels of JSON brackets: a record in a record is three. The widest schema of ours has 12.
MAX_DEPTH: Final = 100

# Avro's checker compares every pair of types that can meet, each by its whole text: a chain of 300
# records of 20 kB takes it 5 s, of 1,500 minutes.
MAX_NAMED_TYPES: Final = 100
MAX_BRANCHES: Final = 50
_NAMED: Final = frozenset({"record", "error", "enum", "fixed"})
_NO_UNIONS: Final = frozenset({"fields", "symbols", "aliases", "default", "doc"})

_OPEN, _CLOSE = frozenset("[{"), frozenset("]}")


def json_depth(text: str) -> int:
    """Deepest nesting of brackets outside strings, found without recursion."""
    depth = deepest = 0
    quoted = escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif quoted:
            if character == "\\":
                escaped = True
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = True
        elif character in _OPEN:
            depth += 1
            deepest = max(deepest, depth)
        elif character in _CLOSE:
            depth -= 1
    return deepest


def canonical(text: str) -> str:
    """A schema's text with white space removed; order, docs and defaults stay.

    Args:
        text: the schema as sent: JSON, or the bare name of a primitive type.

    Raises:
        RegistryError: 42201, too large, too deep, or not JSON.
    """
    if len(text.encode(errors="replace")) > MAX_SCHEMA_BYTES:
        raise RegistryError(INVALID_SCHEMA, f"Schema exceeds {MAX_SCHEMA_BYTES} bytes")
    if json_depth(text) > MAX_DEPTH:
        raise RegistryError(INVALID_SCHEMA, f"Schema is nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(text)
    except ValueError:
        if not text.strip().isalpha():
            raise RegistryError(INVALID_SCHEMA, "Invalid schema: it is not JSON") from None
        value = text.strip()  # Avro allows a primitive type without quotes
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def parse(text: str) -> Schema:
    """A schema in Apache Avro's own form.

    Args:
        text: from `canonical`.

    Raises:
        RegistryError: 42201, not an Avro schema.
    """
    value: Any = json.loads(text)
    _refuse_slow(value)
    try:
        with warnings.catch_warnings():
            # It warns of logical types that it does not know; they are legal.
            warnings.simplefilter("ignore")
            return make_avsc_object(value)
    except (AvroException, *MISSHAPEN) as error:
        # Avro's parser leaks Python's own errors for values of unexpected types.
        raise RegistryError(INVALID_SCHEMA, f"Invalid schema: {error}") from error


def _refuse_slow(value: Any) -> None:
    """Refuse what the compatibility checker would take too long for."""
    named = 0
    pending = [("", value)]
    while pending:
        key, node = pending.pop()
        if isinstance(node, dict):
            kind = node.get("type")
            named += isinstance(kind, str) and kind in _NAMED
            pending += node.items()
        elif isinstance(node, list):
            if key not in _NO_UNIONS and len(node) > MAX_BRANCHES:
                raise RegistryError(INVALID_SCHEMA, f"A union has over {MAX_BRANCHES} branches")
            pending += (("", item) for item in node)
    if named > MAX_NAMED_TYPES:
        raise RegistryError(INVALID_SCHEMA, f"Schema has more than {MAX_NAMED_TYPES} named types")
