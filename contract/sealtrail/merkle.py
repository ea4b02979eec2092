"""Merkle trees of RFC 6962 section 2.1; proofs are checked as RFC 9162 section 2.1 says.

Rules:
- leaf hash = SHA-256(0x00 || data), node hash = SHA-256(0x01 || left || right): a leaf is never
  taken for a node;
- nothing is duplicated to fill a level (the shape of CVE-2012-2459);
- a verifier raises ProofError unless every element of the proof was used and every step agreed.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from sealtrail.errors import ProofError

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Hash one leaf. RFC 6962 section 2.1: SHA-256(0x00 || data), 32 bytes."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two children. RFC 6962 section 2.1: SHA-256(0x01 || left || right), 32 bytes."""
    return sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """Largest power of two smaller than size (size > 1)."""
    return 1 << ((size - 1).bit_length() - 1)


def root(leaves: Sequence[bytes]) -> bytes:
    """Tree hash over leaf hashes.

    Args:
        leaves: leaf hashes, 32 bytes each, in order; may be empty.

    Returns:
        The root, 32 bytes; of no leaves SHA-256 of nothing (RFC 6962 section 2.1).
    """
    if not leaves:
        return EMPTY_ROOT
    level = list(leaves)
    # Pairing neighbours and carrying an odd last node up unchanged gives the same tree as the RFC's
    # recursive split.
    while len(level) > 1:
        paired = [
            sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)
        ]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
    return level[0]


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Audit path of one leaf (RFC 6962 section 2.1.1), from the leaf's sibling up.

    Raises:
        ProofError: index outside of the tree.
    """
    if not 0 <= index < len(leaves):
        raise ProofError(f"leaf {index} is not in a tree of {len(leaves)} leaves")
    path: list[bytes] = []
    low, high = 0, len(leaves)
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(root(leaves[middle:high]))
            high = middle
        else:
            path.append(root(leaves[low:middle]))
            low = middle
    return path[::-1]


def verify_inclusion(
    leaf_hash: bytes,
    index: int,
    size: int,
    proof: Sequence[bytes],
    root: bytes,
) -> None:
    """Check that a leaf stands at an index of a tree (RFC 9162 section 2.1.3.2).

    Args:
        leaf_hash: 32 bytes.
        index: position of the leaf, from 0.
        size: number of leaves in the tree.
        proof: sibling hashes, 32 bytes each, leaf to root.
        root: 32 bytes.

    Raises:
        ProofError: the proof does not show it.
    """
    _check_hashes([leaf_hash, root, *proof])
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size} leaves")
    fn, sn, r = index, size - 1, leaf_hash
    for p in proof:
        if sn == 0:
            raise ProofError("inclusion proof is too long")
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            r = node_hash(r, p)
        fn >>= 1
        sn >>= 1
    if sn != 0:
        raise ProofError("inclusion proof is too short")
    if r != root:
        raise ProofError("inclusion proof leads to another root")


def consistency_proof(leaves: Sequence[bytes], size1: int) -> list[bytes]:
    """Proof that the first size1 leaves are a prefix of all (RFC 6962 section 2.1.2).

    Raises:
        ProofError: size1 is not in 1..len(leaves).
    """
    if not 0 < size1 <= len(leaves):
        raise ProofError(f"no consistency proof from {size1} to {len(leaves)} leaves")
    path: list[bytes] = []
    low, high, whole = 0, len(leaves), True
    m = size1
    while m != high - low:
        middle = _split(high - low)
        if m <= middle:
            path.append(root(leaves[low + middle : high]))
            high = low + middle
        else:
            path.append(root(leaves[low : low + middle]))
            low += middle
            m -= middle
            whole = False
    if not whole:
        path.append(root(leaves[low:high]))
    return path[::-1]


def verify_consistency(
    size1: int,
    size2: int,
    proof: Sequence[bytes],
    root1: bytes,
    root2: bytes,
) -> None:
    """Check that a tree of size1 leaves is a prefix of one of size2 (RFC 9162 section 2.1.4.2).

    Raises:
        ProofError: the proof does not show it.
    """
    _check_hashes([root1, root2, *proof])
    if not 0 < size1 <= size2:
        raise ProofError(f"no consistency proof from {size1} to {size2} leaves")
    if size1 == size2:
        if proof:
            raise ProofError("trees of equal size need an empty proof")
        if root1 != root2:
            raise ProofError("same size, different roots")
        return
    _replay_consistency(size1, size2, proof, root1, root2)


def _replay_consistency(
    size1: int, size2: int, proof: Sequence[bytes], root1: bytes, root2: bytes
) -> None:
    """The loop of RFC 9162 section 2.1.4.2 for 0 < size1 < size2."""
    # A whole tree of a power of two leaves is a node of the larger one: its hash goes unsent.
    path = [root1, *proof] if size1 & (size1 - 1) == 0 else list(proof)
    if not proof:
        raise ProofError("consistency proof is empty")
    fn, sn = size1 - 1, size2 - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            raise ProofError("consistency proof is too long")
        if fn & 1 or fn == sn:
            fr = node_hash(c, fr)
            sr = node_hash(c, sr)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            sr = node_hash(sr, c)
        fn >>= 1
        sn >>= 1
    if sn != 0:
        raise ProofError("consistency proof is too short")
    if fr != root1 or sr != root2:
        raise ProofError("consistency proof leads to another root")


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(h) != HASH_BYTES for h in hashes):
        raise ProofError("a hash is not 32 bytes long")
