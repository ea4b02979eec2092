"""What events say of their causes: their first two fields, which each version of the schema keeps.

These are read of every event that is verified; the rest of it is the engine's to decode.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealtrail import ids
from sealtrail.errors import MalformedError
from sealtrail.event import MAX_MICROS, MAX_PARENTS, MIN_MICROS, ParentRef

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Parents:
    """What the events of one batch name as parents: of each event a tuple, made when asked for.

    Most events name just the one before them. Of these only the index is kept: a worker holds the
    references of hundreds of thousands of events at a time.

    Args:
        first_id: id of the batch's first event, as a number.
        times: of the events, microseconds since 1970.
        leaves: of the events, leaf hashes of 32 bytes.
        following: indexes of the events whose one parent is the event before, with the id, time and
            leaf hash that it has in this batch; ascending.
        others: parents of all other events that have any, by index; ascending.
    """

    first_id: int
    times: tuple[int, ...]
    leaves: tuple[bytes, ...]
    following: tuple[int, ...]
    others: Mapping[int, tuple[ParentRef, ...]]

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, index: int) -> tuple[ParentRef, ...]:
        if not 0 <= index < len(self.times):
            raise IndexError(index)
        at = bisect_left(self.following, index)
        if self.following[at : at + 1] == (index,):
            event_id = (self.first_id + index - 1).to_bytes(16, "big")
            return (ParentRef(event_id, self.times[index - 1], self.leaves[index - 1]),)
        return self.others.get(index, ())

    def __iter__(self) -> Iterator[tuple[ParentRef, ...]]:
        return map(self.__getitem__, range(len(self.times)))

    def early(self) -> list[int]:
        """Indexes of the events that are older than a parent of theirs, ascending."""
        times = self.times
        found = [index for index in self.following if times[index - 1] > times[index]]
        for index, parents in self.others.items():
            if any(parent_at > times[index] for _, parent_at, _ in parents):
                found.append(index)
        return sorted(found)


def causal_prefix(data: bytes) -> tuple[int, list[ParentRef]]:
    """(occurred_at, parents) from the first two fields of an event, whatever its schema version.

    Written out, not by a schema: it is strict (minimal varints, one positive block), and it is the
    hot path.

    Raises:
        MalformedError: not decodable, not canonical, a time outside of the calendar, too many
            parents, or one whose id is no event id.
    """
    try:
        occurred_at, at = _long(data, 0)
        if not MIN_MICROS <= occurred_at <= MAX_MICROS:
            raise MalformedError("event: occurred_at is no time of the calendar")
        if data[at] == 0:
            return occurred_at, []
        count, at = _long(data, at)
        if not 0 < count <= MAX_PARENTS:
            raise MalformedError(f"event: block of {count} parents")
        parents = []
        for _ in range(count):
            event_id = data[at : at + 16]
            when, at = _long(data, at + 16)
            leaf = data[at : at + 32]
            at += 32
            if not MIN_MICROS <= when <= MAX_MICROS:
                raise MalformedError("event: a parent's time is no time of the calendar")
            if not ids.is_event_id(event_id):
                raise MalformedError("event: a parent's id is no event id")
            parents.append(ParentRef(event_id, when, leaf))
        if data[at] != 0:
            raise MalformedError("event: parents are not one block")
    except IndexError:
        raise MalformedError("event: ends within its first two fields") from None
    return occurred_at, parents


_TIME = rb"([\x80-\xff]{7}[\x01-\x7f])"
# What nearly all events begin with: a time of eight bytes (1979 to 3111), and no parent or one.
_USUAL = re.compile(
    _TIME + rb"(?:\x00|\x02(.{6}[\x80-\x8f].[\x80-\xbf].{7})" + _TIME + rb"(.{32})\x00)",
    re.DOTALL,
)


def causal_prefixes(
    events: Sequence[bytes], leaves: tuple[bytes, ...], first_id: int
) -> tuple[tuple[int, ...], Parents]:
    """`causal_prefix` of the events of a batch: their times, and their parents.

    Args:
        events: their bytes.
        leaves: their leaf hashes, 32 bytes each.
        first_id: id of the first of them, as a number.

    Raises:
        MalformedError: as `causal_prefix`; says of which event.
    """
    times: list[int] = []
    following: list[int] = []
    others: dict[int, tuple[ParentRef, ...]] = {}
    # Times repeat: an event's parent is mostly the event before. Of all times within 8 ms only the
    # first two bytes differ.
    known: dict[bytes, int] = {}
    bases: dict[bytes, int] = {}
    match, before, at = _USUAL.match, first_id - 1, 0
    # This runs for every event.
    for index, (event, leaf_before) in enumerate(zip(events, (b"", *leaves), strict=False)):
        found, at_before = match(event), at
        if found is None:
            try:
                at, causes = causal_prefix(event)
            except MalformedError as error:
                raise MalformedError(f"event {index}: {error.message}") from None
            times.append(at)
            if causes == [((before + index).to_bytes(16, "big"), at_before, leaf_before)]:
                following.append(index)
            elif causes:
                others[index] = tuple(causes)
            continue
        when, event_id, parent_when, leaf = found.groups()
        own_at = known.get(when)
        at = known[when] = _usual_time(when, bases) if own_at is None else own_at
        times.append(at)
        if event_id is None:
            continue
        parent_at = known.get(parent_when)
        if parent_at is None:
            parent_at = known[parent_when] = _usual_time(parent_when, bases)
        if (
            leaf == leaf_before
            and parent_at == at_before
            and event_id == (before + index).to_bytes(16, "big")
        ):
            following.append(index)
        else:
            others[index] = (ParentRef(event_id, parent_at, leaf),)
    stamps = tuple(times)
    return stamps, Parents(first_id, stamps, leaves, tuple(following), others)


def _usual_time(varint: bytes, bases: dict[bytes, int]) -> int:
    """The value of a zig-zag varint of eight bytes; bases: by the upper six, kept by the caller."""
    high = varint[2:]
    base = bases.get(high)
    if base is None:
        base = bases[high] = sum((byte & 0x7F) << 7 * n for n, byte in enumerate(high, 2))
    number = base | (varint[1] & 0x7F) << 7 | varint[0] & 0x7F
    return (number >> 1) ^ -(number & 1)


def _long(data: bytes, at: int) -> tuple[int, int]:
    """A minimal zig-zag varint (Avro specification, "Binary Encoding") and where it ends."""
    start = at
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise MalformedError("event: varint is too long")
    if (byte == 0 and at - start > 1) or number >= 1 << 64:
        raise MalformedError("event: varint is not minimal")
    return (number >> 1) ^ -(number & 1), at
