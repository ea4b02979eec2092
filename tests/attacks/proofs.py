"""Proofs that prove nothing: that an event is in a batch where it is not, or is not so.

A verifier holds what an auditor was given: leaf hash, place, size of the tree, path and root.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.scenarios import conservation

from sealtrail import merkle
from sealtrail.errors import ProofError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.scenarios.scene import Scene


@dataclass(frozen=True, slots=True)
class Claim:
    """That a leaf stands at an index of a tree of this size and root."""

    leaf: bytes
    index: int
    size: int
    path: tuple[bytes, ...]
    root: bytes


def honest(leaves: Sequence[bytes], index: int) -> Claim:
    """The claim that holds."""
    path = tuple(merkle.inclusion_proof(leaves, index))
    return Claim(leaves[index], index, len(leaves), path, merkle.root(leaves))


def refused(claim: Claim) -> str:
    """What the verifier says against it; empty when it believes it."""
    try:
        merkle.verify_inclusion(claim.leaf, claim.index, claim.size, claim.path, claim.root)
    except ProofError as error:
        return error.message
    return ""


def forged(leaves: Sequence[bytes], index: int) -> Iterator[tuple[str, Claim]]:
    """Claims that must be refused, made from one that holds; the tree has three leaves or more."""
    true = honest(leaves, index)
    size, path, root = true.size, true.path, true.root
    yield "empty tree", replace(true, size=0)
    yield "empty tree", Claim(true.leaf, 0, 0, (), merkle.EMPTY_ROOT)
    yield "wrong index", replace(true, index=(index + 1) % size)
    for beyond in (size, -1, index + 2**63):
        yield "index beyond the tree", replace(true, index=beyond)
    yield "empty proof", replace(true, path=())
    for changed in (path[:-1], path[1:]):
        yield "proof too short", replace(true, path=changed)
    for changed in ((*path, bytes(32)), (root, *path)):
        yield "proof too long", replace(true, path=changed)
    for changed in (tuple(s[:31] for s in path), tuple(s + b"\0" for s in path)):
        yield "path of no hashes", replace(true, path=changed)
    yield "root as its own proof", Claim(root, 0, size, (), root)
    node = merkle.node_hash(leaves[0], leaves[1])
    yield "node for a leaf", Claim(node, 0, 4, (), root)
    yield "leaf that is no hash", replace(true, leaf=true.leaf[:31])
    for changed_root in (root[:31], b""):
        yield "root that is no hash", replace(true, root=changed_root)
    for other in (1, 2, 2**20, 2**63):
        if other != size:
            yield "wrong size", replace(true, size=other)
    other_leaf = leaves[(index + 1) % size]
    yield "leaf of another event", replace(true, leaf=other_leaf)
    for step in range(len(path)):
        bent = (*path[:step], merkle.leaf_hash(path[step]), *path[step + 1 :])
        yield "step of the path exchanged", replace(true, path=bent)


def give(scene: Scene, producer: str, count: int, seed: int) -> dict[str, Any]:
    """Forge proofs about so many of a producer's stored events, the honest one held; figures."""
    rows = conservation.query(
        conservation.variables(scene.folder),
        "SELECT UUIDNumToString(e.event_id) AS id FROM sealtrail.committed_events AS e "
        "INNER JOIN sealtrail.committed_batches AS b USING (log_id, topic, partition, offset) "
        f"WHERE b.count > 2 AND b.producer = '{producer}' "
        f"ORDER BY sipHash64(e.event_id, {seed}) LIMIT {count}",
    )
    said_no, believed, wrong = Counter[str](), list[str](), list[str]()
    for row in rows:
        (shown,) = scene.ask("event", "show", row["id"])
        proof = shown["proof"]
        true = Claim(
            bytes.fromhex(proof["leaf_hash"]),
            proof["index"],
            proof["events_in_batch"],
            tuple(map(bytes.fromhex, proof["path"])),
            bytes.fromhex(proof["root"]),
        )
        leaves = _leaves(scene, proof["statement_hash"])
        if not proof["verified"] or honest(leaves, true.index) != true:
            wrong.append(row["id"])
        for kind, claim in forged(leaves, true.index):
            name = refused(claim)
            if name:
                said_no[kind] += 1
            else:
                believed.append(f"{kind}: {row['id']}")
    return {
        "events": len(rows),
        "forged": said_no.total() + len(believed),
        "refused": said_no.total(),
        "believed": believed[:10],
        "honest_refused": wrong,
        "kinds": dict(said_no),
    }


def _leaves(scene: Scene, statement_hash: str) -> list[bytes]:
    """Of the events of a batch, in order."""
    rows = conservation.query(
        conservation.variables(scene.folder),
        "SELECT lower(hex(e.leaf_hash)) AS leaf FROM sealtrail.committed_events AS e "
        "INNER JOIN sealtrail.committed_batches AS b USING (log_id, topic, partition, offset) "
        f"WHERE b.statement_hash = unhex('{statement_hash}') ORDER BY e.seq",
    )
    return [bytes.fromhex(row["leaf"]) for row in rows]
