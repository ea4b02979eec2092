"""Clocks that are ahead, behind or go back, and times that no clock shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.attacks.registry import attack
from tests.attacks.text import varint
from tests.scenarios.chains import SECOND, event, now_us

from sealtrail.findings import Code

if TYPE_CHECKING:
    from tests.scenarios.scene import Scene


@attack("D2", "D5")
def clock_ahead(scene: Scene) -> None:
    """An hour: an honest consumer of its output stands before its cause, and is no suspect.

    More than any message waits: where the broker sets no time, a worker that is late sees less.
    """
    ahead = scene.chain("orders", 1, skew_us=3600 * SECOND)
    made, later = ahead.make(2), ahead.make(2)
    scene.accept(made, Code.AHEAD)
    scene.accept(later, Code.AHEAD)
    # In another partition: judged without looking there, the suspect is added afterwards.
    child = scene.chain("billing", 2).make([event(), event([made.reference(1)])])
    scene.accept(child, Code.CAUSALITY, index=1)
    scene.kept["ahead"] = (made, later, child)
    scene.true_links += 1


@attack("D5")
def clock_goes_back(scene: Scene) -> None:
    chain = scene.chain("shipping", 3)
    scene.accept(chain.make())
    chain.skew_us = -30 * SECOND
    scene.accept(chain.make(), Code.REGRESSION)
    scene.accept(chain.make())


@attack("D5")
def clock_behind(scene: Scene) -> None:
    """An hour: a spool or a clock; a live child before its cause makes its own chain suspect."""
    behind = scene.chain("shipping", 2, skew_us=-3600 * SECOND)
    cause = scene.chain("orders", 2).make()
    scene.accept(cause)
    made = behind.make([event([cause.reference()], at=behind.clock())])
    sent = scene.accept(made, Code.BEHIND_OR_DELAYED)
    scene.finding(Code.CAUSALITY, made, sent, 0)
    scene.kept["behind"] = made
    scene.true_links += 1


@attack("D5")
def clock_off_by(scene: Scene) -> None:
    """From nothing to a year, both ways, and one that drifts: a verdict beyond the tolerance."""
    minute = 60 * SECOND
    year = 365 * 24 * 60 * minute
    for skew, codes in (
        (SECOND // 2, ()),
        (-SECOND, ()),
        (-10 * minute, ()),
        (60 * minute, (Code.AHEAD,)),
        (24 * 60 * minute, (Code.AHEAD,)),
        (year, (Code.AHEAD,)),
        (-20 * minute, (Code.BEHIND_OR_DELAYED,)),
        (-24 * 60 * minute, (Code.BEHIND_OR_DELAYED,)),
        (-year, (Code.BEHIND_OR_DELAYED,)),
    ):
        scene.accept(scene.chain("orders", 0, skew_us=skew).make(2), *codes)
    drifting = scene.chain("billing", 3)
    for _ in range(20):
        # 100 ppm over ten seconds a batch.
        drifting.skew_us += 1_000
        scene.accept(drifting.make(1))


@attack("D2")
def parent_from_the_future(scene: Scene) -> None:
    """A child says that its parent will be tomorrow; the parent says the same."""
    chain = scene.chain("orders", 1)
    tomorrow = event(at=now_us() + 24 * 3600 * SECOND)
    parent = chain.make([tomorrow])
    scene.accept(parent)
    child = scene.chain("shipping", 1).make([event([parent.reference()])])
    scene.accept(child, Code.CAUSALITY, index=0)
    scene.true_links += 1


@attack("C9", "C15")
def time_of_another_age(scene: Scene) -> None:
    """Any time of the calendar is stored; what is none is refused."""
    # 2016-12-31 23:59:60 has no number of its own: those around it.
    leap = 1_483_228_800 * SECOND
    far = [
        event(at=0),
        event(at=leap - 1),
        event(at=leap),
        event(at=-1),
        event(at=-62_135_596_800_000_000),
        event(at=253_402_300_799_999_999),
    ]
    scene.accept(scene.chain("orders", 3).make(far))
    ahead = scene.chain("orders", 2)
    for at in (2**63 - 1, -(2**63), 253_402_300_800_000_000):
        scene.refuse(ahead.draft(signed_at=at).value, 2, Code.NOT_CANONICAL)
    bad = event()
    later = varint(253_402_300_800_000_000)
    changed = later + bad[_first_field(bad) :]
    scene.refuse(scene.chain("orders", 3).make([event(), changed]).value, 3, Code.BAD_EVENT)


def _first_field(data: bytes) -> int:
    """Where the first varint of an event ends."""
    return next(i for i, byte in enumerate(data) if byte < 0x80) + 1
