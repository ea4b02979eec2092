"""The workers' group as the broker keeps it: members, generations, partitions, offsets.

As Kafka does it: a member that comes or goes begins a rebalance, in which all partitions are taken
away from all; once all have come again there is a generation more, and each partition has a member.
An offset is taken from a member of the generation that is, and from nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.simulation.tape import Tape

PARTITIONS = 2


class Member(Protocol):
    """A worker, as its group sees it."""

    name: str

    def revoked(self) -> None:
        """All its partitions are taken away."""

    def given(self, generation: int, numbers: Sequence[int]) -> None:
        """It has these in a generation."""


@dataclass
class SimGroup:
    """The group.

    committed: told of each partition and offset that it takes.
    """

    tape: Tape
    note: Callable[[str], None]
    committed: Callable[[int, int], None]
    generation: int = 0
    preparing: bool = False
    members: list[Member] = field(default_factory=list)
    owners: list[Member] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)

    def join(self, member: Member) -> None:
        """A member comes."""
        self.members.append(member)
        self.begin()

    def leave(self, member: Member) -> None:
        """A member is gone, or has not been heard of for too long."""
        if member in self.members:
            self.members.remove(member)
            self.begin()

    def forget(self) -> None:
        """A broker without a disk knows neither offsets nor members, and counts from 1 again.

        That comes to the generation which a member had before: here as often as not at once.
        """
        self.offsets.clear()
        self.members.clear()
        self.owners.clear()
        before = max(self.generation - 1, 0)
        self.generation, self.preparing = self.tape.below(2) * before, False

    def again(self) -> None:
        """A member that is not the leader, and wants what it wanted, comes in between.

        It is given what it had, in the same generation; nobody else hears of it.
        """
        if len(self.members) > 1 and not self.preparing:
            member = self.members[1 + self.tape.below(len(self.members) - 1)]
            self.note(f"{member.name} joins again")
            member.revoked()
            self._give(member)

    def begin(self) -> None:
        """Take all partitions away."""
        if self.members and not self.preparing:
            self.preparing = True
            self.note("a rebalance begins")
        for member in self.members:
            member.revoked()

    def complete(self) -> None:
        """Give partitions to members."""
        if not self.preparing or not self.members:
            return
        self.preparing = False
        self.generation += 1
        most = len(self.members)
        at = [self.tape.below(most) if most > 1 else 0 for _ in range(PARTITIONS)]
        self.owners = [self.members[owner] for owner in at]
        for member in list(self.members):
            self._give(member)

    def _give(self, member: Member) -> None:
        numbers = [number for number, owner in enumerate(self.owners) if owner is member]
        self.note(f"{member.name} has partitions {numbers} in generation {self.generation}")
        member.given(self.generation, numbers)

    def commit(self, member: Member, generation: int, offsets: Mapping[int, int]) -> None:
        """Take offsets, of whoever may say them."""
        if member not in self.members or generation != self.generation:
            self.note(f"the group refuses what {member.name} commits")
            return
        for number, offset in offsets.items():
            self.offsets[number] = offset
            self.committed(number, offset)
