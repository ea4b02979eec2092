"""Which fault comes when: everything of it follows from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Planned:
    """A fault: when it begins (seconds after the load), its kind, and the seed of its details."""

    at_s: float
    kind: str
    seed: int


def plan(seed: int, kinds: Sequence[str], seconds: float, every_s: float) -> list[Planned]:
    """One fault after the other, all kinds before any comes again.

    Args:
        seed: of order and details.
        kinds: to choose from.
        seconds: until the last one begins at the latest.
        every_s: from one begin to the next.
    """
    rng = random.Random(seed)
    planned: list[Planned] = []
    left: list[str] = []
    at = every_s / 2
    while at < seconds - every_s / 2:
        if not left:
            left = sorted(kinds)
            rng.shuffle(left)
        planned.append(Planned(round(at, 1), left.pop(), rng.getrandbits(32)))
        at += every_s
    return planned
