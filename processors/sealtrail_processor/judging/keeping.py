"""How many bytes of refused messages go into the store: so many an hour of each partition. Pure.

- Beyond it a refused message is disposed, found and counted as any other, with digest and size;
  only its key, value and headers are not copied. They lie in the topic for its retention.
- The hour is that of the latest arrival so far, not of a clock, and what was spent in it is the sum
  of what stands in the store from there on: a flush done again, by whomever, comes out alike.
- Parked messages are kept, and cost nothing of it: nobody but the store releases them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sealtrail.findings import NOT_KEPT, Disposition

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sealtrail_processor.judging.model import Judged, RawMessage

HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """Bytes that were kept of a partition in an hour; hour: its number since 1970."""

    hour: int = 0
    size: int = 0


def size(message: RawMessage) -> int:
    """Bytes that a refused message takes in the store, before compression."""
    named = sum(len(name.encode()) + len(value) for name, value in message.headers)
    return len(message.key or b"") + len(message.value or b"") + named


def keep(judged: Iterable[Judged], spent: Spent, most: int) -> tuple[tuple[Judged, ...], Spent]:
    """Judged messages, those that are not kept marked so, and what is spent after them.

    Args:
        judged: in the order of the log.
        spent: before them.
        most: bytes an hour; 0 for no limit.
    """
    found = []
    for item in judged:
        hour = item.arrival // HOUR_US
        if hour > spent.hour:
            spent = Spent(hour)
        if item.disposition is Disposition.QUARANTINED:
            after = spent.size + size(item.message)
            if most and after > most:
                found.append(_unkept(item))
                continue
            spent = Spent(spent.hour, after)
        found.append(item)
    return tuple(found), spent


def spent_on(judged: Sequence[Judged]) -> Spent:
    """What was spent when all these were committed, some of them unkept."""
    hour = max((item.arrival // HOUR_US for item in judged), default=0)
    first = next((n for n, j in enumerate(judged) if j.arrival // HOUR_US >= hour), 0)
    kept = (j for j in judged[first:] if j.kept and j.disposition is Disposition.QUARANTINED)
    return Spent(hour, sum(size(j.message) for j in kept))


def _unkept(item: Judged) -> Judged:
    refused = item.refused
    if refused is None:
        return item
    # In the disposition's own text, over which the commit has its digest: an audit tells what was
    # never kept from what somebody took away.
    detail = f"{NOT_KEPT}{len(item.message.value or b'')} bytes; {refused.detail}"
    return replace(item, kept=False, refused=replace(refused, detail=detail))
