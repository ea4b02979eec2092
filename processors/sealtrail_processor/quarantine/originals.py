"""Bytes of refused messages that the store was not given (`keeping`), read from their topic.

They are there for the retention of the topic. What is read must have the digest that is on record:
a log that began anew has other messages at the same offsets. Headers are left out: none of them
counts when a message is judged.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from itertools import takewhile
from typing import TYPE_CHECKING, Protocol

from sealtrail.errors import SealtrailError
from sealtrail.statement import ZERO
from sealtrail_processor.judging.ports import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sealtrail_processor.judging.model import RawMessage
    from sealtrail_processor.judging.ports import Coordinates
    from sealtrail_processor.quarantine.held import Held

# Bytes that are read at a time; a message more in any case.
BYTES = 16 << 20


class OriginalGone(SealtrailError):  # noqa: N818 - the name says what happened
    """A message's bytes were not kept in the store, and its topic has them no longer."""


class Topic(Protocol):
    """The messages of a broker, by their offsets."""

    def log_id(self, topic: str) -> str:
        """Identity of the log that a topic has now."""

    def messages(
        self, topic: str, partition: int, offsets: Sequence[int], most: int
    ) -> Sequence[RawMessage | None]:
        """Those at the first of some offsets, until `most` bytes; None where there is none."""

    def close(self) -> None:
        """Close the connections."""


class Digests(Protocol):
    """What is on record of refused messages."""

    def refused(
        self, coordinates: Sequence[Coordinates]
    ) -> Mapping[Coordinates, tuple[int, bytes]]:
        """(arrival, SHA-256 of the value) of those messages that were parked or quarantined."""


class Originals:
    """Completes messages; the broker is asked only where the store has not all of them.

    Args:
        connect: opens a client of the broker.
        digests: what is on record.
    """

    def __init__(self, connect: Callable[[], Topic], digests: Digests) -> None:
        self._connect = connect
        self._digests = digests
        self._topic: Topic | None = None

    def first(self, held: Sequence[Held]) -> list[Held | OriginalGone]:
        """The first of some messages with their bytes, or why they have none: as many as fit.

        Raises:
            Unreadable: of the very first one, though it is there.
            UnavailableError: store or broker cannot be asked.
        """
        kept = list(takewhile(lambda h: h.kept, held))
        if kept or not held:
            return [*kept]
        log = held[0].log
        asked = list(takewhile(lambda h: h.log == log and not h.kept, held))
        if self._topic is None:
            self._topic = self._connect()
        if self._topic.log_id(log.topic) != log.log_id:
            return [_gone(h, "the topic is another log now") for h in asked]
        offsets = [h.offset for h in asked]
        found = self._topic.messages(log.topic, log.partition, offsets, BYTES)
        asked = asked[: len(found)]
        known = self._digests.refused([h.coordinates for h in asked])
        if asked[0].coordinates not in known:
            raise Unreadable(f"the store does not say what became of {asked[0].name}")
        pairs = zip(asked, found, strict=True)
        return [
            _completed(h, message, known[h.coordinates][1])
            for h, message in takewhile(lambda pair: pair[0].coordinates in known, pairs)
        ]

    def close(self) -> None:
        """Close the client, if there is one; the next question opens another."""
        topic, self._topic = self._topic, None
        if topic is not None:
            topic.close()


def _completed(held: Held, found: RawMessage | None, digest: bytes) -> Held | OriginalGone:
    if found is None:
        return _gone(held, "its topic has them no longer")
    if digest != (ZERO if found.value is None else sha256(found.value).digest()):
        return _gone(held, "what lies at its offset now has another digest")
    return replace(held, key=found.key, value=found.value)


def _gone(held: Held, why: str) -> OriginalGone:
    parked = held.disposition == "parked"
    setting = "PARKED" if parked else "QUARANTINE"
    return OriginalGone(
        f"the bytes of {held.name} were not kept in the store, and {why}",
        hint=f"more was {'parked' if parked else 'refused'} in its hour than"
        f" SEALTRAIL_{setting}_BYTES_PER_HOUR; what is on record of it stays, and"
        " `sealtrail quarantine dismiss` closes it",
    )
