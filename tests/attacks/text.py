"""Texts that are no UTF-8, or that do something to whoever shows them; lengths that cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.attacks.assets import make
from tests.attacks.registry import attack
from tests.scenarios.chains import event

from sealtrail.batch import MAX_EVENTS
from sealtrail.event import MAX_EVENT_BYTES, EntityRef
from sealtrail.findings import Code

if TYPE_CHECKING:
    from tests.scenarios.scene import Scene

ACTIVITY = b"\x1ascenario.step"


def activity(data: bytes, length: int | None = None) -> bytes:
    """An event whose activity is these bytes, said to be so long."""
    whole = event()
    said = varint(len(data) if length is None else length)
    return whole.replace(ACTIVITY, said + data, 1)


def varint(number: int) -> bytes:
    """Zig-zag and base 128, as Avro writes a long."""
    rest, out = (number << 1) if number >= 0 else (-number << 1) - 1, bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


@attack("C9")
def text_that_is_none(scene: Scene) -> None:
    chain = scene.chain("orders", 2)
    for data in make.no_texts().values():
        bad = chain.draft([event(), activity(data), event()])
        scene.refuse(bad.value, 2, Code.BAD_EVENT)
    scene.accept(chain.make())


@attack("C9")
def text_that_acts(scene: Scene) -> None:
    """Valid UTF-8: stored byte for byte, whatever it would do to a terminal."""
    texts = make.texts()
    events = [
        event(activity=t, attributes={t: t}, inputs=(EntityRef(t, t, t),)) for t in texts.values()
    ]
    made = scene.chain("billing", 0).make(events)
    scene.accept(made)
    scene.kept["texts"] = made


@attack("C6")
def length_that_cannot_be(scene: Scene) -> None:
    """Strings of 2^62 bytes, of 4 GB, of a few too many, of a negative number."""
    chain = scene.chain("shipping", 1)
    for length in (2**62, 2**63 - 1, 2**32, 2**31, 100_000, -1, -(2**62)):
        bad = chain.draft([event(), activity(b"scenario.step", length), event()])
        scene.refuse(bad.value, 1, Code.BAD_EVENT)
    scene.accept(chain.make())


@attack("C10")
def larger_than_may_be(scene: Scene) -> None:
    """By somebody who does without the SDK, which would not have signed it."""
    chain = scene.chain("orders", 3)
    whole, some = event(), 400_000

    def sized(length: int) -> bytes:
        return whole.replace(ACTIVITY, varint(length) + b"x" * length, 1)

    largest = some + MAX_EVENT_BYTES - len(sized(some))
    scene.accept(chain.make([event(), sized(largest)]))
    for more in (1, 100_000):
        scene.refuse(chain.draft([event(), sized(largest + more)]).value, 3, Code.BAD_EVENT)
    many = chain.draft().with_envelope(events=(b"",) * (MAX_EVENTS + 1))
    scene.refuse(many, 3, Code.MALFORMED)
    scene.accept(chain.make())


@attack("C4")
def counts_of_nothing(scene: Scene) -> None:
    """Lists of 10^8 items in five bytes, counts that are negative, blocks of no end."""
    chain = scene.chain("shipping", 0)
    whole = event(inputs=(), outputs=(), attributes={})
    # Its last four fields are attributes, protected and commitments, all empty, each one zero.
    for count in (10**8, 2**40, 2**62, -(10**8)):
        for at in (1, 2, 3):
            bad = whole[: len(whole) - at] + varint(count) + whole[len(whole) - at + 1 :]
            scene.refuse(chain.draft([event(), bad]).value, 0, Code.BAD_EVENT)
    parents = varint(0) + varint(10**8)
    scene.refuse(chain.draft([event(), parents]).value, 0, Code.BAD_EVENT)
    scene.accept(chain.make())


@attack("C8")
def event_in_another_encoding(scene: Scene) -> None:
    """What the engine and the contract would read differently is refused."""
    chain = scene.chain("billing", 1)
    whole = event()
    at = whole.index(ACTIVITY)
    backfill = whole.index(b"\x02\x0cnumber") - 1
    bent = [
        whole[: at - 1] + b"\x01" + whole[at:],
        whole[: at - 2] + b"\x01" + whole[at - 1 :],
        whole[: at - 2] + b"\x40" + whole[at - 1 :],
        whole[:backfill] + b"\x02" + whole[backfill + 1 :],
        whole + b"\0",
        # The first field in more bytes than it needs.
        b"\x80\x00" + event(at=0)[1:],
        b"\x80" * 10 + b"\0" + whole,
    ]
    for changed in bent:
        scene.refuse(chain.draft([event(), changed, event()]).value, 1, Code.BAD_EVENT)
    scene.accept(chain.make())
