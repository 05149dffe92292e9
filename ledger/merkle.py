"""The Merkle tree of the ledger: roots, inclusion proofs and consistency proofs.

Implements RFC 6962 section 2.1 (the same tree as RFC 9162 section 2.1) with SHA-256. The functions
take integers and bytes only; where the hashes are kept is the caller's affair, who hands in a
`ReadHash`. `tests/ledger/test_merkle.py` holds every tree of up to 256 leaves, and every proof in
it, against the recursive definition of the RFC.

The tree over the leaf data d[0], ..., d[n-1] has the root

    n = 0   SHA-256 of nothing
    n = 1   SHA-256(0x00 || d[0])
    n > 1   SHA-256(0x01 || root of d[0:k] || root of d[k:n]), k the largest power of two below n

The two prefix bytes keep a leaf from being passed off as an inner node. Hashes are 32 bytes, leaf
indices start at 0, and a tree has fewer than 2**63 leaves.

Example: the tree over the two leaves with data "" (empty) and 0x00 has, in hex,

    leaf 0  6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d
    leaf 1  96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7
    root    fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125

and the inclusion proof of leaf 0 is the one hash "leaf 1".
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TypeAlias

from ledger.errors import BadProof

HASH_SIZE = 32
"""Bytes in a leaf hash, a node hash and a root."""

SIZE_LIMIT = 2**63
"""Every tree has fewer leaves than this, so that a size fits a signed 64-bit integer anywhere."""

EMPTY_ROOT = sha256(b"").digest()
"""Root of the tree without leaves."""

ReadHash: TypeAlias = Callable[[int, int], bytes]
"""(level, index) to the root over leaves [index << level, (index + 1) << level), all of them there.

Level 0 holds the leaf hashes. It is only asked for subtrees that lie wholly within the tree.
"""

_LEAF_PREFIX = b"\x00"
_NODE_PREFIX = b"\x01"


def leaf_hash(data: bytes) -> bytes:
    """Hash the data of one leaf (RFC 6962 section 2.1)."""
    return sha256(_LEAF_PREFIX + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash an inner node from the 32-byte hashes of its two children (RFC 6962 section 2.1)."""
    return sha256(_NODE_PREFIX + left + right).digest()


def root(size: int, read: ReadHash) -> bytes:
    """Return the root of the tree of the first `size` leaves (RFC 6962 section 2.1).

    Args:
        size: number of leaves, 0 <= size < 2**63.
        read: reader of complete subtrees; asked at most 63 times, once per set bit of `size`.

    Raises:
        ValueError: the size is out of range.
    """
    _require(0 <= size < SIZE_LIMIT, f"tree size {size} is not in [0, 2**63)")
    if size == 0:
        return EMPTY_ROOT
    return _range_root(0, size, read)


def inclusion_proof(index: int, size: int, read: ReadHash) -> list[bytes]:
    """Return the audit path of a leaf, from its sibling up to a child of the root.

    RFC 6962 section 2.1.1, PATH(index, D[size]). At most 63 hashes, from at most 126 reads.

    Args:
        index: the leaf, 0 <= index < size.
        size: number of leaves of the tree, below 2**63.
        read: reader of complete subtrees.

    Raises:
        ValueError: index or size is out of range.
    """
    _require(0 <= index < size < SIZE_LIMIT, f"leaf {index} is not in a tree of {size} leaves")
    proof = []
    start, end = 0, size
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            proof.append(_range_root(split, end, read))
            end = split
        else:
            proof.append(_range_root(start, split, read))
            start = split
    proof.reverse()
    return proof


def consistency_proof(old_size: int, new_size: int, read: ReadHash) -> list[bytes]:
    """Return the proof that the tree of `old_size` leaves is a prefix of that of `new_size`.

    RFC 6962 section 2.1.2, PROOF(old_size, D[new_size]). Empty when the old tree is empty, which is
    a prefix of every tree, and when the sizes are equal.

    Args:
        old_size: leaves of the older tree, 0 <= old_size <= new_size.
        new_size: leaves of the newer tree, below 2**63.
        read: reader of complete subtrees of the newer tree.

    Raises:
        ValueError: a size is out of range.
    """
    _require(
        0 <= old_size <= new_size < SIZE_LIMIT,
        f"a tree of {old_size} leaves does not precede one of {new_size}",
    )
    if old_size == 0:
        return []
    proof = []
    start, end = 0, new_size
    while end != old_size:
        split = start + _split(end - start)
        if old_size <= split:
            proof.append(_range_root(split, end, read))
            end = split
        else:
            proof.append(_range_root(start, split, read))
            start = split
    # The walk ends at the rightmost subtree that both trees share. When that is the whole old tree,
    # the verifier has its hash already: the old root.
    if start > 0:
        proof.append(_range_root(start, end, read))
    proof.reverse()
    return proof


def siblings(index: int, size: int, proof: Sequence[bytes]) -> dict[tuple[int, int], bytes]:
    """Return the roots of complete subtrees that an audit path holds, by (level, index).

    Args:
        index: the leaf's place, 0 <= index < size.
        size: leaves of the tree, below 2**63.
        proof: hashes from the leaf's sibling upwards, as many as there are; not verified.
    """
    found = {}
    hashes, level = iter(proof), 0
    while last := size - 1 >> level:
        beside = index >> level ^ 1
        # On the right border a node whose bit is not set has no sibling.
        if beside <= last:
            value = next(hashes, b"")
            if (beside + 1 << level) <= size:
                found[level, beside] = value
        level += 1
    return found


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """Return the root to which an audit path leads (RFC 9162 section 2.1.3.2).

    The caller must still compare it with a root that it has reason to trust.

    Args:
        leaf: the 32-byte leaf hash (`leaf_hash` of the data), never the data itself.
        index: the leaf's place, 0 <= index < size.
        size: leaves of the tree, below 2**63.
        proof: hashes from the leaf's sibling upwards.

    Raises:
        BadProof: index or size is out of range, or a hash or the proof has the wrong length.
    """
    if not 0 <= index < size < SIZE_LIMIT:
        raise BadProof(f"leaf {index} is not in a tree of {size} leaves")
    _check_hashes([leaf, *proof])
    inner, border = _path_shape(index, size)
    _check_length(proof, inner + border)
    return _climb(leaf, index, proof, inner)


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes
) -> None:
    """Check that a leaf is in the tree with the expected root (RFC 9162 section 2.1.3.2).

    The proof alone does not bind the size: one path can fit trees of several sizes. Take size and
    root together from one signed checkpoint.

    Args:
        leaf: the 32-byte leaf hash (`leaf_hash` of the data), never the data itself.
        index: the leaf's place, 0 <= index < size.
        size: leaves of the tree, below 2**63.
        proof: hashes from the leaf's sibling upwards.
        expected_root: 32-byte root of the tree, from a checkpoint whose signature was verified.

    Raises:
        BadProof: the proof does not lead from this leaf at this index to that root.
    """
    found = root_from_inclusion(leaf, index, size, proof)
    if not hmac.compare_digest(found, expected_root):
        raise BadProof(
            f"leaf {index} of {size} leads to root {found.hex()}, not to {expected_root.hex()}"
        )


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the older tree is a prefix of the newer one (RFC 9162 section 2.1.4.2).

    An empty older tree is a prefix of everything: then the newer root is compared with nothing, and
    success says nothing about it.

    Args:
        old_size: leaves of the older tree, 0 <= old_size <= new_size.
        old_root: 32-byte root of the older tree.
        new_size: leaves of the newer tree, below 2**63.
        new_root: 32-byte root of the newer tree.
        proof: hashes in the order of `consistency_proof`.

    Raises:
        BadProof: the proof does not lead to both roots, or a size or a length is out of range.
    """
    if not 0 <= old_size <= new_size < SIZE_LIMIT:
        raise BadProof(f"a tree of {old_size} leaves does not precede one of {new_size}")
    _check_hashes([old_root, new_root, *proof])
    if old_size == 0:
        _check_length(proof, 0)
        _check_root(EMPTY_ROOT, old_root, 0)
        if new_size == 0:
            _check_root(EMPTY_ROOT, new_root, 0)
        return
    if old_size == new_size:
        _check_length(proof, 0)
        _check_root(old_root, new_root, new_size)
        return
    _verify_growth(old_size, old_root, new_size, new_root, proof)


def _verify_growth(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Verify a consistency proof for 0 < old_size < new_size.

    Such a proof is the audit path, in the newer tree, of the last complete subtree of the older
    tree. All of it rebuilds the new root; the siblings on the left alone rebuild the old one.
    """
    shared_level = _trailing_zeros(old_size)
    inner, border = _path_shape(old_size - 1, new_size)
    inner -= shared_level
    old_is_one_subtree = old_size == 1 << shared_level
    _check_length(proof, inner + border + (0 if old_is_one_subtree else 1))

    shared, path = (old_root, proof) if old_is_one_subtree else (proof[0], proof[1:])
    shared_index = (old_size - 1) >> shared_level
    old_found = shared
    for level, sibling in enumerate(path):
        if level >= inner or shared_index >> level & 1:
            old_found = node_hash(sibling, old_found)
    _check_root(old_found, old_root, old_size)
    _check_root(_climb(shared, shared_index, path, inner), new_root, new_size)


def _climb(node: bytes, index: int, path: Sequence[bytes], inner: int) -> bytes:
    """Hash a node upwards along its audit path.

    In the first `inner` levels the bits of the index say on which side the sibling stands. Above
    them the node lies on the right border of the tree, where every sibling stands on the left.
    """
    for level, sibling in enumerate(path):
        if level >= inner or index >> level & 1:
            node = node_hash(sibling, node)
        else:
            node = node_hash(node, sibling)
    return node


def _path_shape(index: int, size: int) -> tuple[int, int]:
    """Return how many siblings a leaf's path has below the right border, and how many along it."""
    inner = (index ^ (size - 1)).bit_length()
    border = (index >> inner).bit_count()
    return inner, border


def _range_root(start: int, end: int, read: ReadHash) -> bytes:
    """Return the root over leaves [start, end): its complete subtrees, joined from the right.

    The start is a multiple of a power of two that is at least end - start, so that the subtrees,
    taken largest first, are subtrees of the whole tree too.
    """
    subtrees = []
    while start < end:
        level = (end - start).bit_length() - 1
        subtrees.append(read(level, start >> level))
        start += 1 << level
    joined = subtrees.pop()
    while subtrees:
        joined = node_hash(subtrees.pop(), joined)
    return joined


def _split(size: int) -> int:
    """Return the largest power of two below `size`, for size > 1 (k in RFC 6962 section 2.1)."""
    return 1 << ((size - 1).bit_length() - 1)


def _trailing_zeros(number: int) -> int:
    return (number & -number).bit_length() - 1


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _check_hashes(hashes: Sequence[bytes]) -> None:
    for value in hashes:
        if len(value) != HASH_SIZE:
            raise BadProof(f"a hash of {len(value)} bytes, not {HASH_SIZE}")


def _check_length(proof: Sequence[bytes], expected: int) -> None:
    if len(proof) != expected:
        raise BadProof(f"a proof of {len(proof)} hashes where {expected} are needed")


def _check_root(found: bytes, expected: bytes, size: int) -> None:
    if not hmac.compare_digest(found, expected):
        raise BadProof(f"tree of {size}: the proof gives {found.hex()}, not {expected.hex()}")
