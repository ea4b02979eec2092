"""Rows of the catalogue about proofs and thresholds: what a verifier must refuse."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.attacks import proofs
from tests.attacks.key_record import fresh_signer, record, short_of_two

from sealtrail import merkle
from sealtrail.errors import ProofError
from sealtrail.records import SignedRecord, TrustRoot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.attacks.played import Played

    Say = Callable[[str], None]

LEAVES = [merkle.leaf_hash(bytes([n])) for n in range(7)]


def flipped(data: bytes) -> Iterator[bytes]:
    """The bytes with one bit changed, at each position."""
    for position in range(8 * len(data)):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        yield bytes(changed)


@pytest.mark.row("A1")
def test_a1_every_bit_of_a_proof(happened: Say) -> None:
    tried = 0
    for index in range(len(LEAVES)):
        true = proofs.honest(LEAVES, index)
        assert not proofs.refused(true)
        path = true.path
        attempts = [replace(true, leaf=bad) for bad in flipped(true.leaf)]
        attempts += [replace(true, root=bad) for bad in flipped(true.root)]
        attempts += [
            replace(true, path=(*path[:n], bad, *path[n + 1 :]))
            for n, step in enumerate(path)
            for bad in flipped(step)
        ]
        assert all(proofs.refused(claim) for claim in attempts)
        tried += len(attempts)
    happened(f"every bit of leaf, proof and root: {tried} proofs refused")


@pytest.mark.row("A12", "F8")
def test_a12_f8_proofs_of_other_shapes(happened: Say) -> None:
    tried = 0
    for index in range(len(LEAVES)):
        wrong = [claim for _, claim in proofs.forged(LEAVES, index)]
        said = [claim for claim in wrong if not proofs.refused(claim)]
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
    both = SignedRecord.sign(record(fresh_signer().public_key.der, "both"), [one, two])
    short = short_of_two(lambda: record(fresh_signer().public_key.der, "short"), one, two)
    for made in (*short, both):
        scene.publish(topic, b"key", made.encode())
    scene.flush()
    listed = scene.ask(
        "keys",
        "list",
        env={"SEALTRAIL_KEYS_TOPIC": topic, "SEALTRAIL_TRUST_ROOT": str(file)},
    )
    assert [row["producer"] for row in listed] == ["both"]
    happened("signed by one, by one twice, by one under two names, by none: refused; by two: taken")
