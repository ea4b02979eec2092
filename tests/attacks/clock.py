"""Clocks that are ahead, behind or go back, and times that no clock shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.attacks.registry import attack
from tests.scenarios.chains import SECOND, event

from sealtrail.findings import Code

if TYPE_CHECKING:
    from tests.scenarios.scene import Scene


@attack("D2", "D5")
def clock_ahead(scene: Scene) -> None:
    """90 s ahead; an honest consumer of its output stands before its cause, and is no suspect."""
    ahead = scene.chain("orders", 1, skew_us=90 * SECOND)
    made = ahead.make(2)
    scene.accept(made, Code.AHEAD)
    scene.accept(ahead.make(2), Code.AHEAD)
    # In another partition: judged without looking there, the suspect is added afterwards.
    child = scene.chain("billing", 2).make([event(), event([made.reference(1)])])
    scene.accept(child, Code.CAUSALITY, index=1)
    scene.kept["ahead"] = (made, child)


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


@attack("C9", "C15")
def time_of_another_age(scene: Scene) -> None:
    """Any time of the calendar is stored; what is none is refused."""
    far = [event(at=0), event(at=-62_135_596_800_000_000), event(at=253_402_300_799_999_999)]
    scene.accept(scene.chain("orders", 3).make(far))
    bad = event()
    later = _varint(253_402_300_800_000_000)
    changed = later + bad[_first_field(bad) :]
    scene.refuse(scene.chain("orders", 3).make([event(), changed]).value, 3, Code.BAD_EVENT)


def _varint(number: int) -> bytes:
    """Zig-zag and base 128, as Avro writes a long that is not negative."""
    rest, out = number << 1, bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


def _first_field(data: bytes) -> int:
    """Where the first varint of an event ends."""
    return next(i for i, byte in enumerate(data) if byte < 0x80) + 1
