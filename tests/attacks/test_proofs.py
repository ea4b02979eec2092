"""Rows of the catalogue about proofs and thresholds: what a verifier must refuse."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.attacks.key_record import fresh_signer, record

from sealtrail import merkle
from sealtrail.errors import ProofError
from sealtrail.records import SignedRecord, TrustRoot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.attacks.played import Played

    Say = Callable[[str], None]

LEAVES = [merkle.leaf_hash(bytes([n])) for n in range(7)]
ROOT = merkle.root(LEAVES)


def flipped(data: bytes) -> Iterator[bytes]:
    """The bytes with one bit changed, at each position."""
    for position in range(8 * len(data)):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        yield bytes(changed)


def refused(leaf: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> bool:
    """Whether a verifier says no."""
    try:
        merkle.verify_inclusion(leaf, index, size, proof, root)
    except ProofError:
        return True
    return False


@pytest.mark.row("A1")
def test_a1_every_bit_of_a_proof(happened: Say) -> None:
    tried = 0
    for index, leaf in enumerate(LEAVES):
        proof = merkle.inclusion_proof(LEAVES, index)
        merkle.verify_inclusion(leaf, index, 7, proof, ROOT)
        attempts = [(bad, proof, ROOT) for bad in flipped(leaf)]
        attempts += [(leaf, proof, bad) for bad in flipped(ROOT)]
        attempts += [
            (leaf, [*proof[:n], bad, *proof[n + 1 :]], ROOT)
            for n, step in enumerate(proof)
            for bad in flipped(step)
        ]
        assert all(refused(bad, index, 7, path, root) for bad, path, root in attempts)
        tried += len(attempts)
    happened(f"every bit of leaf, proof and root: {tried} proofs refused")


@pytest.mark.row("A12", "F8")
def test_a12_f8_proofs_of_other_shapes(happened: Say) -> None:
    tried = 0
    for index, leaf in enumerate(LEAVES):
        proof = merkle.inclusion_proof(LEAVES, index)
        wrong: list[tuple[bytes, int, int, list[bytes], bytes]] = [
            # An empty tree, a wrong place, a place beyond the tree or before it.
            (leaf, index, 0, proof, ROOT),
            (leaf, 0, 0, [], merkle.EMPTY_ROOT),
            (leaf, (index + 1) % 7, 7, proof, ROOT),
            (leaf, 7, 7, proof, ROOT),
            (leaf, -1, 7, proof, ROOT),
            (leaf, index + 2**63, 7, proof, ROOT),
            # A proof that is empty, too short, too long, reversed, not of hashes.
            (leaf, index, 7, [], ROOT),
            (leaf, index, 7, proof[:-1], ROOT),
            (leaf, index, 7, proof[1:], ROOT),
            (leaf, index, 7, [*proof, bytes(32)], ROOT),
            (leaf, index, 7, [ROOT, *proof], ROOT),
            (leaf, index, 7, [step[:31] for step in proof], ROOT),
            (leaf, index, 7, [step + b"\0" for step in proof], ROOT),
            # The root as its own proof, a node for a leaf, a leaf that is no hash.
            (ROOT, 0, 7, [], ROOT),
            (merkle.node_hash(LEAVES[0], LEAVES[1]), 0, 4, [], ROOT),
            (leaf[:31], index, 7, proof, ROOT),
            (leaf, index, 7, proof, ROOT[:31]),
            (leaf, index, 7, proof, b""),
        ]
        wrong += [(leaf, index, size, proof, ROOT) for size in (1, 2, 3, 2**20, 2**63)]
        said = [case for case in wrong if not refused(*case)]
        assert said == []
        tried += len(wrong)
    for first, second in ((1, 7), (3, 7), (5, 7), (4, 6)):
        good = merkle.consistency_proof(LEAVES[:second], first)
        old, new = merkle.root(LEAVES[:first]), merkle.root(LEAVES[:second])
        for sizes in ((first + 1, second), (second + 1, second), (-1, second)):
            with pytest.raises(ProofError):
                merkle.verify_consistency(*sizes, [*good, bytes(32)], old, new)
            tried += 1
        with pytest.raises(ProofError):
            merkle.verify_consistency(first, second, [*good, bytes(32)], old, new)
        with pytest.raises(ProofError):
            merkle.verify_consistency(first, second, good, old, os.urandom(32))
        tried += 2
    happened(f"{tried} proofs refused")


@pytest.mark.row("A14")
def test_a14_one_key_counts_once(played: Played, tmp_path: Path, happened: Say) -> None:
    """Two of three operators must sign; one that signs twice is one."""
    scene = played.scene
    one, two, three = (fresh_signer() for _ in range(3))
    root = TrustRoot(2, tuple(s.public_key for s in (one, two, three)))
    file = tmp_path / "root.json"
    file.write_text(root.to_json())
    topic = "provenance.keys-threshold"
    keys = {name: fresh_signer().public_key for name in ("both", "alone", "twice", "again", "none")}

    def signed(name: str, *operators: object) -> SignedRecord:
        return SignedRecord.sign(record(keys[name].der, name), operators)  # type: ignore[arg-type] # signers

    both, alone = signed("both", one, two), signed("alone", one)
    twice = signed("twice", one)
    twice = SignedRecord(twice.payload_type, twice.body, twice.signatures * 2)
    other = signed("again", one)
    # The other's name over the same key's signature.
    again = SignedRecord(
        other.payload_type,
        other.body,
        tuple(sorted([*other.signatures, (two.public_key.fingerprint, other.signatures[0][1])])),
    )
    none = SignedRecord(both.payload_type, record(keys["none"].der, "none").encode(), ())
    for made in (alone, twice, again, none, both):
        scene.publish(topic, b"key", made.encode())
    scene.flush()
    listed = scene.ask(
        "keys",
        "list",
        env={"SEALTRAIL_KEYS_TOPIC": topic, "SEALTRAIL_TRUST_ROOT": str(file)},
    )
    assert [row["producer"] for row in listed] == ["both"]
    happened("signed by one, by one twice, by one under two names, by none: refused; by two: taken")
