"""Compatibility levels, judged by Apache Avro's own checker.

BACKWARD  the new schema reads what the last one wrote
FORWARD   the last one reads what the new schema writes
FULL      both
*_TRANSITIVE  against every earlier version, not only the last
NONE      anything goes
"""

from collections.abc import Sequence
from typing import Any, Final

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import Schema

from sealtrail_local.registry.errors import INVALID_LEVEL, INVALID_SCHEMA, RegistryError

LEVELS: Final = (
    "NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE",
    "FULL", "FULL_TRANSITIVE",
)  # fmt: skip
# Avro's package has no types.
_CHECKER: Final[Any] = ReaderWriterCompatibilityChecker
DEFAULT_LEVEL: Final = "BACKWARD"  # as Confluent's


def level(text: object) -> str:
    """A compatibility level by name.

    Raises:
        RegistryError: 42203, no such level.
    """
    name = str(text).upper()
    if name not in LEVELS:
        raise RegistryError(
            INVALID_LEVEL, f"Invalid compatibility level. Valid values are {LEVELS}"
        )
    return name


def check(name: str, new: Schema, earlier: Sequence[Schema]) -> list[str]:
    """Why a schema may not follow others.

    Args:
        name: level.
        new: the schema to be added.
        earlier: what is registered, oldest first.

    Returns:
        One message for each reason; empty if it may.

    Raises:
        RegistryError: 42201, a chain of named types too long to follow.
    """
    if name == "NONE":
        return []
    against = earlier if name.endswith("_TRANSITIVE") else earlier[-1:]
    backward = name.startswith(("BACKWARD", "FULL"))
    forward = name.startswith(("FORWARD", "FULL"))
    messages: list[str] = []
    for old in against:
        if backward:
            messages += _reads(new, old, "the new schema cannot read data of an earlier one")
        if forward:
            messages += _reads(old, new, "an earlier schema cannot read data of the new one")
    return messages


def _reads(reader: Schema, writer: Schema, problem: str) -> list[str]:
    # A fresh one: it remembers pairs, and with them their positions.
    checker: Any = _CHECKER()
    try:
        result = checker.get_compatibility(reader, writer)
    except RecursionError:
        raise RegistryError(
            INVALID_SCHEMA, "Invalid schema: its types are nested too deeply"
        ) from None
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    where = ", ".join(sorted(result.locations)) or "/"
    what = "; ".join(sorted(result.messages))
    return [f"{problem}: {what} (at {where})"]
