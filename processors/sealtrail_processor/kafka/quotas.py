"""Kafka's client quotas as code: what deploy/kafka/access.yaml bounds, what a cluster has. Pure.

They bound the bytes of whoever holds a producer's password, and brokers' time, but not the number
of messages where these compress to nothing (ADR 0132).

Rules of `plan`:
- the quotas that a role declares are set for each of its principals, 0 takes them away;
- other quotas of principals of the file, and those of a single client id, which Kafka prefers to
  them, are refused: they stay drift until somebody has looked;
- quotas of everybody else are nobody's business here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from sealtrail_processor.kafka.access import holders

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sealtrail_processor.kafka.access import Role


@dataclass(frozen=True, slots=True, order=True)
class Quota:
    """A bound on what a user may do, at each broker.

    Attributes:
        principal: the user.
        name: in Kafka's words: bytes a second, or percent of a broker's thread.
        value: of it; 0 stands for none.
        client: the client id that it is for, empty for all.
    """

    principal: str
    name: str
    value: float
    client: str = ""


@dataclass(frozen=True, slots=True)
class QuotaChange:
    """A difference between the quotas of a cluster and those of the file.

    Attributes:
        act: set, remove, or refuse: it is not touched.
        quota: as it shall be; as found when it is removed or refused.
        why: of a refusal.
    """

    act: Literal["set", "remove", "refuse"]
    quota: Quota
    why: str = ""


_UNNAMED: Final = "the file does not name it: add it there, or remove it by hand"
_NARROW: Final = "it is for one client id, and Kafka prefers it to that of the user"


def plan(
    roles: Sequence[Role], producers: Collection[str], found: Collection[Quota]
) -> list[QuotaChange]:
    """What leads from the quotas of a cluster to those of the file; none when they are alike.

    Args:
        roles: the matrix.
        producers: for whom valid keys speak.
        found: all quotas of users of the cluster.
    """
    held = holders(roles, producers)
    wanted = {(who, name): value for role, who in held for name, value in role.quotas.items()}
    there = {(one.principal, one.name): one.value for one in found if not one.client}
    changes = [
        QuotaChange("set", Quota(*key, value))
        for key, value in sorted(wanted.items())
        if value and there.get(key) != value
    ]
    people = {who for _, who in held}
    for one in sorted(found):
        if one.principal not in people:
            continue
        key = (one.principal, one.name)
        if one.client:
            changes.append(QuotaChange("refuse", one, _NARROW))
        elif key not in wanted:
            changes.append(QuotaChange("refuse", one, _UNNAMED))
        elif not wanted[key]:
            changes.append(QuotaChange("remove", one))
    return changes
