"""Chains that fork, lack a batch, or are gone on with by somebody else."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.attacks.registry import attack
from tests.scenarios.chains import event

from sealtrail.findings import Code, Disposition
from sealtrail.statement import Continues

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scenarios.scene import Scene


@attack("B4", "B7")
def fork(scene: Scene) -> None:
    """Two batches at one position: both are kept, and both heads are named."""
    chain = scene.chain("orders", 2)
    scene.accept(chain.make())
    one, other = chain.draft(2), chain.draft(3)
    scene.accept(one)
    scene.accept(other, Code.FORK)
    scene.kept["fork"] = (one, other)
    # Each side goes on; that is no second fork.
    chain.take(other)
    scene.accept(chain.make())
    chain.take(one)
    scene.accept(chain.make())


@attack("B7")
def continued_twice(scene: Scene) -> None:
    ended = scene.chain("shipping", 1)
    scene.accept(ended.make())
    scene.accept(ended.close())
    point = Continues(ended.chain_id, ended.batch_seq - 1, ended.head)
    scene.accept(scene.chain("shipping", 1, continues=point).make())
    scene.accept(scene.chain("shipping", 1, continues=point).make(), Code.FORK)


@attack("B5")
def out_of_order(scene: Scene) -> None:
    """Within the settling time that is told, and nothing to worry about."""
    chain = scene.chain("billing", 0)
    first, second, third = chain.make(), chain.make(), chain.make()
    scene.accept(first)
    scene.accept(third)
    scene.accept(second, Code.GAP_FILLED)


@attack("B6")
def missing_batch(scene: Scene) -> Iterator[None]:
    """A gap that is found once it has settled, and cleared by the batch that was missing."""
    chain = scene.chain("orders", 3)
    first, missing, last = chain.make(), chain.make(), chain.make()
    scene.accept(first)
    scene.accept(last)
    scene.finding(Code.GAP, missing, None)
    scene.kept["gap"] = chain.chain_id
    yield
    scene.accept(missing, Code.GAP_FILLED, Code.LATE)


@attack("B6")
def missing_batches_of_which_one_comes(scene: Scene) -> Iterator[None]:
    chain = scene.chain("billing", 2)
    first, missing, filled, last = (chain.make() for _ in range(4))
    scene.accept(first)
    scene.accept(last)
    scene.finding(Code.GAP, missing, None)
    scene.kept["still missing"] = chain.chain_id
    yield
    scene.accept(filled, Code.GAP_FILLED, Code.LATE)


@attack("B9")
def claim_to_a_chain(scene: Scene) -> None:
    """A producer that goes on with another's chain, with its own good key."""
    victim = scene.chain("orders", 1)
    scene.accept(victim.make())
    thief = scene.chain("billing", 1)
    thief.chain_id, thief.batch_seq, thief.next_seq = victim.chain_id, 1, victim.next_seq
    thief.head = victim.head
    scene.refuse(thief.make().value, 1, Code.ID_COLLISION)
    scene.accept(victim.make())


@attack("B9")
def chain_that_starts_again(scene: Scene) -> None:
    """Number 0 anew, with another genesis under the same name, far beyond, and beyond the end."""
    chain = scene.chain("orders", 2)
    scene.accept(chain.make())
    scene.accept(chain.make())
    again = chain.draft(batch_seq=0, first_seq=0, previous=bytes(32), genesis=chain.genesis)
    scene.accept(again, Code.FORK)
    other = replace(chain.genesis, nonce=os.urandom(32))
    impossible: list[dict[str, Any]] = [
        {"batch_seq": 0, "first_seq": 0, "previous": bytes(32), "genesis": other},
        {"genesis": chain.genesis},
        {"batch_seq": -1},
        {"first_seq": -1},
        {"first_seq": 2**40 - 2},
        {"first_seq": 2**63 - 1},
        {"batch_seq": 0, "first_seq": 0},
    ]
    for changes in impossible:
        scene.refuse(chain.draft(**changes).value, 2, Code.NOT_CANONICAL)
    scene.accept(chain.draft(batch_seq=2**63 - 1), Code.FORK)
    # As if nothing had been: its own next batch.
    scene.accept(chain.make())


@attack("B10")
def signed_anew_after_a_crash(scene: Scene) -> None:
    """Of a producer that lost what it had signed; one that kept it sends the same bytes again."""
    chain = scene.chain("shipping", 0)
    scene.accept(chain.make())
    kept = chain.make()
    scene.accept(kept)
    scene.send(kept.value, 0, Disposition.DUPLICATE)
    # On its way when the producer died, and signed anew for the same place.
    lost, anew = chain.draft(), chain.make()
    scene.accept(lost)
    scene.accept(anew, Code.FORK)
    scene.accept(chain.make())
    # Signed, never sent, and gone on from.
    chain = scene.chain("billing", 3)
    scene.accept(chain.make())
    never = chain.make()
    scene.accept(chain.make())
    scene.finding(Code.GAP, never, None)


@attack("B5")
def shuffled(scene: Scene) -> None:
    """Two chains of the same shape, one in order, one not: their graphs are alike."""
    graphs = []
    for order in (range(8), (3, 0, 7, 1, 6, 2, 5, 4)):
        chain = scene.chain("shipping", 2)
        batches = [chain.make([event()])]
        while len(batches) < 8:
            cause = batches[-1].reference(0)
            batches.append(chain.make([event([cause]), event([cause])]))
        came: set[int] = set()
        for number in order:
            late = any(number < other for other in came)
            scene.accept(batches[number], *([Code.GAP_FILLED] if late else []))
            came.add(number)
        graphs.append(chain.chain_id.hex())
        scene.true_links += 14
    scene.kept["graphs"] = graphs
