"""Bytes of refused messages that the store was not given (`keeping`), read from their topic.

They are there for the retention of the topic. What is read must have the digest that is on record:
a log that began anew has other messages at the same offsets. Headers are left out: none of them
counts when a message is judged.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from sealtrail.errors import SealtrailError
from sealtrail.statement import ZERO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sealtrail_processor.judging.model import RawMessage
    from sealtrail_processor.judging.ports import Coordinates
    from sealtrail_processor.quarantine.held import Held


class OriginalGone(SealtrailError):  # noqa: N818 - the name says what happened
    """A message's bytes were not kept in the store, and its topic has them no longer."""


class Log(Protocol):
    """The messages of a broker, one by one."""

    def log_id(self, topic: str) -> str:
        """Identity of the log that a topic has now."""

    def message(self, topic: str, partition: int, offset: int) -> RawMessage | None:
        """The message at an offset; None where there is none (any more)."""


class Digests(Protocol):
    """What is on record of refused messages."""

    def refused(
        self, coordinates: Sequence[Coordinates]
    ) -> Mapping[Coordinates, tuple[int, bytes]]:
        """(arrival, SHA-256 of the value) of those messages that were parked or quarantined."""


def completed(held: Held, digests: Digests, log: Log) -> Held:
    """A message with its bytes, wherever they are.

    Raises:
        OriginalGone: nowhere.
        UnavailableError: the broker cannot be asked.
    """
    if held.kept:
        return held
    at = held.coordinates
    if log.log_id(held.log.topic) != held.log.log_id:
        raise _gone(held, "the topic is another log now")
    found = log.message(held.log.topic, held.log.partition, held.offset)
    if found is None:
        raise _gone(held, "its topic has them no longer")
    digest = ZERO if found.value is None else sha256(found.value).digest()
    if digests.refused([at]).get(at, (0, b""))[1] != digest:
        raise _gone(held, "what lies at its offset now has another digest")
    return replace(held, key=found.key, value=found.value)


def _gone(held: Held, why: str) -> OriginalGone:
    return OriginalGone(
        f"the bytes of {held.name} were not kept in the store, and {why}",
        hint="more was refused in its hour than SEALTRAIL_QUARANTINE_BYTES_PER_HOUR; what is on"
        " record of it stays, and `sealtrail quarantine dismiss` closes it",
    )
