"""References to parents as they are kept in memory and written: those of a batch together. Pure.

The engine makes a row of `link_verdicts` of each of them; here a reference that names the event
before it is two bytes.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sealtrail import ids
from sealtrail_processor.store.row_binary import leb128

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sealtrail.findings import Verdict

# What is packed: `References`, what was decided of them, and when.
PACKED = {
    "chain": "FixedString(32)",
    "branch": "UInt32",
    "first_seq": "UInt64",
    "first_id": "UInt128",
    "events": "Array(UInt16)",
    "ordinals": "Array(UInt8)",
    "parents": "Array(FixedString(16))",
    "verdict": "String",
    "at": "Int64",
}
_STRUCTURE = ", ".join(f"{name} {kind}" for name, kind in PACKED.items())
# And what the engine makes of it. The id of an event is the number of the chain's first and its
# sequence number, the highest byte first (`sealtrail.ids`).
_BEFORE = "arrayMap(i -> reverse(reinterpretAsFixedString(first_id + i - 1)), events)"
INSERT = (
    "INSERT INTO link_verdicts (child_chain, child_seq, child_branch, ordinal, parent_id, verdict, "  # noqa: S608 - ours
    "decided_at, version) SELECT chain, first_seq + event, branch, ordinal, parent, verdict, "
    f"fromUnixTimestamp64Micro(at, 'UTC'), at FROM input('{_STRUCTURE}') "
    "ARRAY JOIN events AS event, arrayResize(ordinals, length(events)) AS ordinal, "
    f"if(empty(parents), {_BEFORE}, parents) AS parent"
)
_WHERE = struct.Struct("<32sIQ16s")


class Reference(NamedTuple):
    """One reference: its child, and which of the child's parents it names.

    Args:
        chain: of the child, 32 bytes.
        seq: of the child.
        branch: of the child.
        ordinal: 0 for the child's first parent.
        parent: its id, 16 bytes.
    """

    chain: bytes
    seq: int
    branch: int
    ordinal: int
    parent: bytes


@dataclass(frozen=True, slots=True)
class References:
    """References of events of one chain and branch.

    Args:
        chain: of the children, 32 bytes.
        branch: of the children.
        first_seq: from which `events` count.
        events: of each reference the child's number, less `first_seq`; 0 to 65,535, ascending.
        ordinals: of each reference, a byte each; nothing when all are 0.
        parents: of each the parent's id, 16 bytes each; nothing when each is the event before the
            child, of the same chain.
    """

    chain: bytes
    branch: int
    first_seq: int
    events: tuple[int, ...]
    ordinals: bytes = b""
    parents: bytes = b""

    @classmethod
    def of(cls, reference: Reference) -> References:
        """A single one."""
        chain, seq, branch, ordinal, parent = reference
        return cls(chain, branch, seq, (0,), bytes((ordinal,)), parent)

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Reference]:
        return map(self._at, range(len(self.events)))

    def __contains__(self, reference: Reference) -> bool:
        index = reference.seq - self.first_seq
        at = bisect_left(self.events, index)
        while at < len(self.events) and self.events[at] == index:
            if self._at(at) == reference:
                return True
            at += 1
        return False

    def _at(self, number: int) -> Reference:
        index = self.events[number]
        if self.parents:
            parent = self.parents[16 * number : 16 * number + 16]
        else:
            parent = (self.first_id + index - 1).to_bytes(16, "big")
        ordinal = self.ordinals[number] if self.ordinals else 0
        return Reference(self.chain, self.first_seq + index, self.branch, ordinal, parent)

    @property
    def first_id(self) -> int:
        """The event id of `first_seq`, as a number."""
        return ids.template(self.chain) + self.first_seq


class Groups:
    """Looks references up in the groups of batches.

    Batches of one branch do not overlap. Of a batch there may be two groups: of references to the
    event before the child, and of others.
    """

    def __init__(self, groups: Iterable[References]) -> None:
        self._of: dict[tuple[bytes, int], dict[int, list[References]]] = {}
        for group in groups:
            batches = self._of.setdefault((group.chain, group.branch), {})
            batches.setdefault(group.first_seq, []).append(group)
        self._firsts = {where: sorted(batches) for where, batches in self._of.items()}

    def __contains__(self, reference: Reference) -> bool:
        where = (reference.chain, reference.branch)
        firsts = self._firsts.get(where, ())
        at = bisect_right(firsts, reference.seq) - 1
        return at >= 0 and any(reference in group for group in self._of[where][firsts[at]])


def pack(said: Mapping[Verdict, Sequence[References]], at: int) -> bytes:
    """What was decided, in ClickHouse's format RowBinary for the columns of `PACKED`.

    Args:
        said: references by their verdicts.
        at: when it was decided, microseconds since 1970.
    """
    rows: list[bytes] = []
    for verdict, groups in said.items():
        name = verdict.value.encode()
        end = leb128(len(name)) + name + struct.pack("<q", at)
        for group in groups:
            count, first_id = len(group.events), group.first_id.to_bytes(16, "little")
            rows += (
                _WHERE.pack(group.chain, group.branch, group.first_seq, first_id),
                leb128(count),
                struct.pack(f"<{count}H", *group.events),
                leb128(len(group.ordinals)),
                group.ordinals,
                leb128(len(group.parents) // 16),
                group.parents,
                end,
            )
    return b"".join(rows)
