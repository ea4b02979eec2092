"""Records within records: events, well signed, that are not one record each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.attacks.registry import attack
from tests.scenarios.chains import event

from sealtrail.findings import Code

if TYPE_CHECKING:
    from tests.scenarios.scene import Scene

    from sealtrail.event import Protected as _Protected


@attack("C8")
def event_that_holds_two(scene: Scene) -> None:
    """Good signature, good root, and one event that is two records."""
    chain, neighbour = scene.chain("orders", 0), scene.chain("billing", 0)
    for _ in range(3):
        scene.accept(neighbour.make(4))
        bad = chain.draft([event(), event() + event(), event()])
        scene.refuse(bad.value, 0, Code.BAD_EVENT)
        scene.accept(neighbour.make(4))
    # The producer may still do it right.
    scene.accept(chain.make())


@attack("C6")
def event_that_swallows_its_neighbour(scene: Scene) -> None:
    """An event whose last value is said to be longer than it is."""
    chain, neighbour = scene.chain("shipping", 0), scene.chain("billing", 0)
    for missing in (300, 60, 20, 1):
        scene.accept(neighbour.make(3))
        bad = chain.draft([event(), _swallowing(missing)])
        scene.refuse(bad.value, 0, Code.BAD_EVENT)
        scene.accept(neighbour.make(3))
    # One record in two events, the second of which looks like one by itself.
    inner = event()
    whole = event(protected=(_protected(inner),))
    cut = whole.index(inner)
    bad = chain.draft([event(), whole[:cut], whole[cut:], event()])
    scene.refuse(bad.value, 0, Code.BAD_EVENT)
    scene.accept(neighbour.make(3))
    for broken in (event()[:-1], event() + b"\0", event()[:60], event()[:10] + b"\xff" * 50):
        code = Code.BAD_EVENT
        scene.refuse(chain.draft([event(), broken]).value, 0, code)
    scene.accept(chain.make())


def _protected(ciphertext: bytes) -> _Protected:
    from sealtrail.event import Protected

    return Protected(os.urandom(16), os.urandom(16), ciphertext)


def _swallowing(missing: int) -> bytes:
    """An event whose ciphertext lacks its last bytes: a decoder takes what comes next for it."""
    whole = event(protected=(_protected(os.urandom(400)),))
    # After the ciphertext: the end of `protected` and the empty `commitments`.
    return whole[: -2 - missing]
