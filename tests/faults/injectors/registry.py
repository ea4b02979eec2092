"""What a fault is, and where each is entered under its kind.

A fault is done by one function: it harms the field, waits, mends what it broke, and says in a line
what it did. It takes its times and victims from the random numbers that it is given, so that a seed
tells the whole campaign.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.faults.field import Field

    Fault = Callable[[Field, random.Random], str]

FAULTS: dict[str, Fault] = {}
# Kinds that make sense with real servers only.
REAL: set[str] = set()


def fault(kind: str, needs: str = "") -> Callable[[Fault], Fault]:
    """Enter a fault under its kind; needs is "real" if the embedded servers cannot stand it."""

    def enter(function: Fault) -> Fault:
        assert kind not in FAULTS
        FAULTS[kind] = function
        if needs == "real":
            REAL.add(kind)
        return function

    return enter
