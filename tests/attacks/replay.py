"""Good batches, sent where or when they do not belong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.attacks.registry import attack

from sealtrail.findings import Code, Disposition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scenarios.scene import Scene


@attack("B1", "B2")
def replay_into_another_place(scene: Scene) -> None:
    for changes, code in (
        ({"environment": "staging"}, Code.WRONG_ENVIRONMENT),
        ({"tenant": "other"}, Code.WRONG_TENANT),
        ({"topic": "provenance.events-old"}, Code.WRONG_TOPIC),
    ):
        scene.refuse(scene.chain("orders", 0, **changes).make().value, 0, code)
    chain = scene.chain("orders", 1)
    made = chain.make()
    scene.accept(made)
    for partition in (0, 2, 3):
        scene.refuse(made.value, partition, Code.WRONG_PARTITION, key=made.chain_id)


@attack("B3")
def replayed_batch(scene: Scene) -> Iterator[None]:
    """The same bytes again: at once, after others, long after, and with another framing."""
    chain = scene.chain("billing", 3)
    batches = [chain.make() for _ in range(4)]
    for made in (batches[0], batches[1]):
        scene.accept(made)
        scene.send(made.value, 3, Disposition.DUPLICATE)
    for made in batches[2:]:
        scene.accept(made)
    first = batches[0]
    # Nobody signed the ids of a registry, nor the framing.
    scene.send(first.with_envelope(event_schema_id=77), 3, Disposition.DUPLICATE)
    scene.send(first.value[:1] + b"\0\0\1\7" + first.value[5:], 3, Disposition.DUPLICATE)
    yield
    for made in batches:
        scene.send(made.value, 3, Disposition.DUPLICATE, key=b"another key")
    scene.accept(chain.make())


@attack("B3")
def release_that_never_was(scene: Scene) -> None:
    """Headers of a release, invented: they buy nothing."""
    made = scene.chain("shipping", 0).make()
    headers = [
        ("sealtrail-released-log-id", b"nowhere"),
        ("sealtrail-released-topic", b"provenance.events"),
        ("sealtrail-released-partition", b"0"),
        ("sealtrail-released-offset", b"0"),
    ]
    scene.accept(made, headers=headers)
