"""How many bytes of refused messages go into the store: so many an hour of each partition. Pure.

- Beyond it a refused message is disposed, found and counted as any other, with digest and size;
  only its key, value and headers are not copied. They lie in the topic for its retention.
- The hour is that of the latest arrival so far, not of a clock, and what was spent in it is the sum
  of what stands in the store from there on: a flush done again, by whomever, comes out alike.
- Parked messages have an allowance of their own, so that junk of other kinds does not take it from
  them: those beyond it are released from the topic (`quarantine.releasing`).
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
    """Bytes that were kept of a partition in an hour; hour: its number since 1970.

    size: of quarantined messages; parked: of parked ones.
    """

    hour: int = 0
    size: int = 0
    parked: int = 0


def size(message: RawMessage) -> int:
    """Bytes that a refused message takes in the store, before compression."""
    named = sum(len(name.encode()) + len(value) for name, value in message.headers)
    return len(message.key or b"") + len(message.value or b"") + named


def keep(
    judged: Iterable[Judged], spent: Spent, most: int, parked: int
) -> tuple[tuple[Judged, ...], Spent]:
    """Judged messages, those that are not kept marked so, and what is spent after them.

    Args:
        judged: in the order of the log.
        spent: before them.
        most: bytes of quarantined messages an hour; 0 for no limit.
        parked: bytes of parked ones; 0 for no limit.
    """
    found = []
    for item in judged:
        hour = item.arrival // HOUR_US
        if hour > spent.hour:
            spent = Spent(hour)
        after = _after(item, spent)
        if _over(spent.size, after.size, most) or _over(spent.parked, after.parked, parked):
            found.append(_unkept(item))
        else:
            found.append(item)
            spent = after
    return tuple(found), spent


def _over(before: int, after: int, most: int) -> bool:
    """Whether what was added is too much."""
    return bool(most) and after > max(before, most)


def spent_on(judged: Sequence[Judged]) -> Spent:
    """What was spent when all these were committed, some of them unkept."""
    hour = max((item.arrival // HOUR_US for item in judged), default=0)
    first = next((n for n, j in enumerate(judged) if j.arrival // HOUR_US >= hour), 0)
    spent = Spent(hour)
    for item in judged[first:]:
        if item.kept:
            spent = _after(item, spent)
    return spent


def _after(item: Judged, spent: Spent) -> Spent:
    """What is spent if it is kept: nothing more unless it was refused."""
    if item.disposition is Disposition.QUARANTINED:
        return replace(spent, size=spent.size + size(item.message))
    if item.disposition is Disposition.PARKED:
        return replace(spent, parked=spent.parked + size(item.message))
    return spent


def _unkept(item: Judged) -> Judged:
    refused = item.refused
    if refused is None:
        return item
    # In the disposition's own text, over which the commit has its digest: an audit tells what was
    # never kept from what somebody took away.
    detail = f"{NOT_KEPT}{len(item.message.value or b'')} bytes; {refused.detail}"
    return replace(item, kept=False, refused=replace(refused, detail=detail))
