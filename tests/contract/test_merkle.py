"""RFC 6962 trees: known answers, every small tree, and proofs that must not pass (A12)."""

import base64
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrail import merkle
from sealtrail.errors import ProofError

TLOG = Path(__file__).parents[1] / "vectors/tlog"
# The reference data of certificate-transparency (merkletree/merkle_tree_test.cc).
DATA = [
    bytes.fromhex(h)
    for h in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [merkle.leaf_hash(bytes([i])) for i in range(33)]


def recursive(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word by word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + recursive(leaves[:k]) + recursive(leaves[k:])).digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_known_roots(size: int) -> None:
    assert merkle.root([merkle.leaf_hash(d) for d in DATA[:size]]).hex() == ROOTS[size - 1]


def test_the_empty_tree() -> None:
    assert merkle.root([]) == merkle.EMPTY_ROOT == sha256(b"").digest()


def test_roots_of_a_real_log() -> None:
    raw, entries = (TLOG / "entries").read_bytes(), []
    while raw:
        length = int.from_bytes(raw[:2], "big")
        entries.append(merkle.leaf_hash(raw[2 : 2 + length]))
        raw = raw[2 + length :]
    assert len(entries) == 15
    for size in range(16):
        lines = (TLOG / f"checkpoint.{size}").read_text().split("\n")
        assert int(lines[1]) == size
        assert merkle.root(entries[:size]) == base64.b64decode(lines[2])


def test_every_small_tree() -> None:
    for size in range(1, len(LEAVES)):
        leaves = LEAVES[:size]
        root = merkle.root(leaves)
        assert root == recursive(leaves)
        for index in range(size):
            proof = merkle.inclusion_proof(leaves, index)
            merkle.verify_inclusion(leaves[index], index, size, proof, root)
            _refuse_neighbours(leaves, index, proof, root)


def _refuse_neighbours(leaves: list[bytes], index: int, proof: list[bytes], root: bytes) -> None:
    size = len(leaves)
    wrong = [
        (leaves[index], index, size, [*proof, root], root),
        (leaves[index], index, size, [root, *proof], root),
        (leaves[index], size, size, proof, root),
        (leaves[index], -1, size, proof, root),
        (leaves[index], index, 0, proof, root),
        (LEAVES[-1], index, size, proof, root),
        (leaves[index], index, size, proof, LEAVES[-1]),
    ]
    if proof:
        wrong.append((leaves[index], index, size, proof[:-1], root))
        wrong.append((leaves[index], index, size, proof[1:], root))
        wrong.append((leaves[index], index, size, [*proof[:-1], LEAVES[-1]], root))
        wrong.append((leaves[index], index, size, [*proof[:-1], proof[-1][:-1]], root))
    wrong += [(leaves[index], other, size, proof, root) for other in range(size) if other != index]
    for case in wrong:
        with pytest.raises(ProofError):
            merkle.verify_inclusion(*case)


def test_every_small_consistency_proof() -> None:
    for size2 in range(1, 20):
        root2 = merkle.root(LEAVES[:size2])
        for size1 in range(1, size2 + 1):
            root1 = merkle.root(LEAVES[:size1])
            proof = merkle.consistency_proof(LEAVES[:size2], size1)
            merkle.verify_consistency(size1, size2, proof, root1, root2)
            wrong = [
                (size1, size2, [*proof, root1], root1, root2),
                (size1, size2, proof, LEAVES[-1], root2),
                (size1, size2, proof, root1, LEAVES[-1]),
                (0, size2, proof, root1, root2),
                (size2 + 1, size2, proof, root1, root2),
            ]
            if proof:
                wrong.append((size1, size2, proof[:-1], root1, root2))
                wrong.append((size1, size2, proof[1:], root1, root2))
                wrong.append((size1, size2, [], root1, root2))
                wrong.append((size1, size2, [LEAVES[-1], *proof[1:]], root1, root2))
            for case in wrong:
                with pytest.raises(ProofError):
                    merkle.verify_consistency(*case)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3)])
def test_no_inclusion_proof_outside_of_the_tree(index: int, size: int) -> None:
    with pytest.raises(ProofError):
        merkle.inclusion_proof(LEAVES[:size], index)


@pytest.mark.parametrize(("size1", "size2"), [(0, 3), (4, 3), (-1, 3), (0, 0)])
def test_no_consistency_proof_outside_of_the_tree(size1: int, size2: int) -> None:
    with pytest.raises(ProofError):
        merkle.consistency_proof(LEAVES[:size2], size1)


def test_a12_a_node_is_no_leaf_and_nothing_is_doubled() -> None:
    left, right = LEAVES[:2]
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)
    # CVE-2012-2459: with a doubled last leaf these two trees would share a root.
    assert merkle.root(LEAVES[:3]) != merkle.root([*LEAVES[:3], LEAVES[2]])


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70), st.data())
def test_any_tree(items: list[bytes], data: st.DataObject) -> None:
    leaves = [merkle.leaf_hash(item) for item in items]
    size = len(leaves)
    index = data.draw(st.integers(0, size - 1))
    root = merkle.root(leaves)
    merkle.verify_inclusion(leaves[index], index, size, merkle.inclusion_proof(leaves, index), root)
    merkle.verify_consistency(
        index + 1,
        size,
        merkle.consistency_proof(leaves, index + 1),
        merkle.root(leaves[: index + 1]),
        root,
    )
