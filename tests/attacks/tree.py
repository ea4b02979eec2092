"""Trees of other shapes than RFC 6962's, and leaves from elsewhere."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from tests.attacks.registry import attack
from tests.scenarios.chains import event

from sealtrail import merkle
from sealtrail.findings import Code

if TYPE_CHECKING:
    from tests.scenarios.scene import Scene


@attack("A12")
def tree_of_another_shape(scene: Scene) -> None:
    """Signed by the right key, over roots that other rules would give."""
    chain = scene.chain("orders", 1)
    events = [event() for _ in range(3)]
    leaves = [merkle.leaf_hash(e) for e in events]
    bare = [sha256(e).digest() for e in events]
    one, two, three = leaves
    roots = [
        # The last leaf twice, to fill the level (CVE-2012-2459).
        merkle.root([one, two, three, three]),
        # No prefixes at all; none for nodes; none for leaves.
        sha256(sha256(bare[0] + bare[1]).digest() + bare[2]).digest(),
        sha256(sha256(one + two).digest() + three).digest(),
        merkle.root(bare),
        merkle.EMPTY_ROOT,
        bytes(32),
    ]
    for root in roots:
        scene.refuse(chain.draft(events, root=root).value, 1, Code.BAD_ROOT)
    for count in (2, 4, 2**31 - 1):
        scene.refuse(chain.draft(events, count=count).value, 1, Code.BAD_ROOT)
    # A node passed off as a leaf: its children, as an event.
    inner = chain.draft(events)
    node = b"\x01" + one + two
    forged = inner.with_envelope(events=(node, events[2]))
    scene.refuse(forged, 1, Code.BAD_ROOT)
    scene.refuse(chain.draft([], root=merkle.EMPTY_ROOT).value, 1, Code.NOT_CANONICAL)
    scene.refuse(chain.draft([], kind="CLOSE", root=bytes(32)).value, 1, Code.BAD_ROOT)
    scene.accept(chain.make(events))


@attack("A13")
def event_of_another_batch(scene: Scene) -> None:
    """Both batches are good and of one key; an event of one stands in the other."""
    chain = scene.chain("billing", 2)
    first, second = chain.make(4), chain.make(4)
    for index in range(4):
        swapped = [*second.events]
        swapped[index] = first.events[index]
        scene.refuse(second.with_envelope(events=tuple(swapped)), 2, Code.BAD_ROOT)
    scene.accept(first)
    scene.accept(second)
