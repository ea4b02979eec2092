"""What is sent after the worker was killed and its files were taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.attacks.registry import attack
from tests.scenarios.chains import event

from sealtrail.findings import Code, Disposition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scenarios.scene import Scene


@attack("B3", "D3", "E14")
def worker_without_its_memory(scene: Scene) -> Iterator[None]:
    """Killed, its files deleted: old batches are duplicates still, and what waited still waits."""
    chain = scene.chain("orders", 2)
    old = [chain.make() for _ in range(5)]
    for made in old:
        scene.accept(made)
    late = scene.chain("billing", 1)
    parent = late.draft()
    child = scene.chain("shipping", 0).make([event([parent.reference(1)])])
    sent = scene.accept(child)
    scene.finding(Code.ORPHAN, child, sent, 0, batch=0)
    yield
    scene.kill_worker()
    scene.start_worker()
    for made in reversed(old):
        scene.send(made.value, 2, Disposition.DUPLICATE)
    scene.accept(chain.make())
    # The parent comes after its window, and after the worker that waited for it.
    late.take(parent)
    scene.accept(parent)
    scene.true_links += 1
    scene.late_links += 1
