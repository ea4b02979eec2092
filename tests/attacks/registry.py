"""What an attack is, and where each is entered under its name.

A function sends with `scene.refuse` or `scene.accept`, which write down what must be found. What
stands after a `yield` happens later, when gaps have settled and windows have passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.scenarios.scene import Scene

    Attack = Callable[[Scene], Iterator[None] | None]

ENTERED: dict[str, Attack] = {}
# The rows of tests/catalogue.toml that an attack belongs to.
ROWS: dict[str, tuple[str, ...]] = {}


def attack(*rows: str) -> Callable[[Attack], Attack]:
    """Enter an attack under its name."""

    def enter(function: Attack) -> Attack:
        # In one file the linter would see a second one of the same name; across files nobody would.
        assert function.__name__ not in ENTERED
        ENTERED[function.__name__] = function
        ROWS[function.__name__] = rows
        return function

    return enter
