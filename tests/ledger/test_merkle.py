"""The Merkle tree against the RFC's own recursion, and every way to lie in a proof."""

import hashlib
import importlib.util
import json
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle
from ledger.errors import BadProof

VECTORS = Path(__file__).parents[1] / "vectors"
SIZES = 256
"""Every proof of every tree of so many leaves is made and verified."""

CHANGED_SIZES = 64
"""Every proof is changed in every way in trees of so many leaves, and in all by `make soak`."""

SAMPLED = 5
"""Places of a larger tree whose proofs are changed in the default run."""


def load_generator():
    spec = importlib.util.spec_from_file_location("generate_ledger", VECTORS / "generate_ledger.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = load_generator()
GOLDEN = json.loads((VECTORS / "ledger_merkle.json").read_text())
ORACLE = generator.NaiveTree(generator.counted_leaves(SIZES + 1))

# Published with Certificate Transparency's own implementation, for trees of 1 to 8 leaves.
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# Of the same tree, by (index, size) and by (older size, newer size).
CT_PATHS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CT_CONSISTENCIES = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (6, 7): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}
EMPTY_ROOT = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

Case = tuple[str, tuple]
Verifier = Callable[..., None]


def reader_of(tree) -> merkle.ReadHash:
    return lambda level, index: tree.mth(index << level, (index + 1) << level)


READ = reader_of(ORACLE)


def hexes(hashes: list[bytes]) -> list[str]:
    return [value.hex() for value in hashes]


def accepted(verify: Verifier, cases: Iterator[Case]) -> list[str]:
    """Run a verifier over false claims and name those that it takes for true."""
    taken = []
    for name, arguments in cases:
        try:
            verify(*arguments)
        except BadProof:
            continue
        taken.append(name)
    return taken


def counted(cases: Iterator[Case], counts: dict[str, int]) -> Iterator[Case]:
    for name, arguments in cases:
        counts[name] = counts.get(name, 0) + 1
        yield name, arguments


def changed_proofs(proof: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Every proof one step away from a good one."""
    for place, value in enumerate(proof):
        bit = place * 37 % 256
        flipped = (int.from_bytes(value, "big") ^ (1 << bit)).to_bytes(32, "big")
        yield "hash flipped", [*proof[:place], flipped, *proof[place + 1 :]]
        yield "hash dropped", proof[:place] + proof[place + 1 :]
        yield "hash cut short", [*proof[:place], value[:-1], *proof[place + 1 :]]
        for other in range(place):
            swapped = proof.copy()
            swapped[place], swapped[other] = swapped[other], swapped[place]
            yield "hashes swapped", swapped
    for place in range(len(proof) + 1):
        yield "hash added", [*proof[:place], b"\x5a" * 32, *proof[place:]]


def all_of(size: int) -> Sequence[int]:
    return range(size)


def some_of(size: int) -> Sequence[int]:
    """A few places of a tree, its ends among them; other ones at each size."""
    pick = random.Random(size)
    return sorted({0, size - 1, *(pick.randrange(size) for _ in range(SAMPLED - 2))})


def false_inclusions(
    sizes: int, first: int = 1, places: Callable[[int], Sequence[int]] = all_of
) -> Iterator[Case]:
    for size in range(first, sizes + 1):
        root = ORACLE.mth(0, size)
        for index in places(size):
            leaf = ORACLE.leaf_hashes[index]
            proof = ORACLE.path(index, 0, size)
            for name, changed in changed_proofs(proof):
                yield name, (leaf, index, size, changed, root)
            for other in places(size):
                if other != index:
                    yield "other index", (leaf, other, size, proof, root)
            for beyond in (index + size, index - size, index + (1 << 63), size):
                yield "index out of range", (leaf, beyond, size, proof, root)
            yield "size out of range", (leaf, index, 2**63 + size, proof, root)
            yield "other leaf", (merkle.leaf_hash(b"other"), index, size, proof, root)
            yield "other root", (leaf, index, size, proof, ORACLE.mth(0, size + 1))
            yield "root cut short", (leaf, index, size, proof, root[:-1])
    yield from inner_node_inclusions()


def inner_node_inclusions() -> Iterator[Case]:
    """An inner node of the tree of four leaves, passed off as its leaf 0."""
    node, sibling, root = ORACLE.mth(0, 2), ORACLE.mth(2, 4), ORACLE.mth(0, 4)
    yield "inner node as leaf", (node, 0, 4, [sibling], root)
    children = ORACLE.mth(0, 1) + ORACLE.mth(1, 2)
    yield "children as leaf", (children, 0, 4, [b"", sibling], root)


def false_consistencies(
    sizes: int, first: int = 1, places: Callable[[int], Sequence[int]] = all_of
) -> Iterator[Case]:
    for new in range(first, sizes + 1):
        new_root = ORACLE.mth(0, new)
        for old in (place + 1 for place in places(new)):
            old_root = ORACLE.mth(0, old)
            proof = ORACLE.proof(old, new)
            other = merkle.leaf_hash(b"other")
            for name, changed in changed_proofs(proof):
                yield name, (old, old_root, new, new_root, changed)
            yield "other old root", (old, other, new, new_root, proof)
            yield "other new root", (old, old_root, new, other, proof)
            if old < new:
                yield "roots swapped", (old, new_root, new, old_root, proof)
                yield "sizes swapped", (new, old_root, old, new_root, proof)
            yield "size out of range", (-old, old_root, new, new_root, proof)
            yield "size out of range", (old, old_root, 2**63 + new, new_root, proof)
        yield "empty tree with a root", (0, new_root, new, new_root, [])
        yield "empty tree with a proof", (0, merkle.EMPTY_ROOT, new, new_root, [new_root])
    yield "empty tree with a root", (0, merkle.EMPTY_ROOT, 0, ORACLE.mth(0, 1), [])
    # The left half of a tree of 8, passed off as the root of the tree of one leaf.
    half = (1, ORACLE.mth(0, 4), 8, ORACLE.mth(0, 8), [ORACLE.mth(4, 8)])
    yield "inner node as old root", half


def test_certificate_transparency_roots():
    assert merkle.EMPTY_ROOT.hex() == EMPTY_ROOT
    tree = generator.NaiveTree([merkle.leaf_hash(data) for data in generator.CT_LEAVES])
    roots = [merkle.root(size, reader_of(tree)) for size in range(9)]
    assert hexes(roots) == [EMPTY_ROOT, *CT_ROOTS]


def test_certificate_transparency_proofs():
    leaves = [merkle.leaf_hash(data) for data in generator.CT_LEAVES]
    read = reader_of(generator.NaiveTree(leaves))
    roots = [bytes.fromhex(root) for root in (EMPTY_ROOT, *CT_ROOTS)]
    for (index, size), path in CT_PATHS.items():
        assert hexes(merkle.inclusion_proof(index, size, read)) == path
        proof = [bytes.fromhex(one) for one in path]
        merkle.verify_inclusion(leaves[index], index, size, proof, roots[size])
    for (old, new), path in CT_CONSISTENCIES.items():
        assert hexes(merkle.consistency_proof(old, new, read)) == path
        proof = [bytes.fromhex(one) for one in path]
        merkle.verify_consistency(old, roots[old], new, roots[new], proof)


def test_the_example_of_the_module():
    leaves = [merkle.leaf_hash(b""), merkle.leaf_hash(b"\x00")]
    root = merkle.root(2, lambda level, index: merkle.node_hash(*leaves))
    for value in (*leaves, root):
        assert f"  {value.hex()}\n" in merkle.__doc__
    assert merkle.inclusion_proof(0, 2, lambda _, index: leaves[index]) == [leaves[1]]


def test_the_generator_still_makes_the_stored_vectors():
    for name, content in generator.files().items():
        assert (VECTORS / name).read_text(encoding="utf-8") == content


def test_golden_proofs():
    read = reader_of(generator.NaiveTree([merkle.leaf_hash(data) for data in generator.CT_LEAVES]))
    assert hexes([merkle.root(size, read) for size in range(9)]) == GOLDEN["roots"]
    for case in GOLDEN["inclusion"]:
        found = merkle.inclusion_proof(case["index"], case["size"], read)
        assert hexes(found) == case["proof"]
    for case in GOLDEN["consistency"]:
        found = merkle.consistency_proof(case["old_size"], case["new_size"], read)
        assert hexes(found) == case["proof"]


def digest_of_every_proof(read: merkle.ReadHash) -> str:
    digest = hashlib.sha256()
    for size in range(GOLDEN["every_proof"]["sizes"] + 1):
        digest.update(merkle.root(size, read))
        for index in range(size):
            digest.update(b"".join(merkle.inclusion_proof(index, size, read)))
        for old_size in range(size + 1):
            digest.update(b"".join(merkle.consistency_proof(old_size, size, read)))
    return digest.hexdigest()


def test_one_digest_over_every_proof():
    assert digest_of_every_proof(READ) == GOLDEN["every_proof"]["sha256"]


def test_control_the_digest_sees_one_wrong_subtree():
    def read(level: int, index: int) -> bytes:
        return b"\x00" * 32 if (level, index) == (3, 7) else READ(level, index)

    assert digest_of_every_proof(read) != GOLDEN["every_proof"]["sha256"]


def test_every_inclusion_proof():
    count = 0
    for size in range(1, SIZES + 1):
        root = merkle.root(size, READ)
        assert root == ORACLE.mth(0, size)
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, READ)
            assert proof == ORACLE.path(index, 0, size)
            merkle.verify_inclusion(ORACLE.leaf_hashes[index], index, size, proof, root)
            count += 1
    print(f"{count} inclusion proofs made and verified")
    assert count == SIZES * (SIZES + 1) // 2


def test_every_consistency_proof():
    count = 0
    for new in range(SIZES + 1):
        for old in range(new + 1):
            proof = merkle.consistency_proof(old, new, READ)
            assert proof == ORACLE.proof(old, new)
            merkle.verify_consistency(old, ORACLE.mth(0, old), new, ORACLE.mth(0, new), proof)
            count += 1
    print(f"{count} consistency proofs made and verified")
    assert count == (SIZES + 1) * (SIZES + 2) // 2


def require_refused(verify: Verifier, cases: Iterator[Case]) -> None:
    counts: dict[str, int] = {}
    assert accepted(verify, counted(cases, counts)) == []
    print(f"{sum(counts.values())} false claims refused: {counts}")
    assert set(counts) >= {"hash flipped", "hash dropped", "hashes swapped", "hash added"}


def test_no_false_inclusion_is_accepted():
    """All of small trees, and some places of every larger one."""
    larger = false_inclusions(SIZES, CHANGED_SIZES + 1, some_of)
    require_refused(merkle.verify_inclusion, chain(false_inclusions(CHANGED_SIZES), larger))


def test_no_false_consistency_is_accepted():
    """All of small trees, and some older sizes of every larger one."""
    larger = false_consistencies(SIZES, CHANGED_SIZES + 1, some_of)
    require_refused(merkle.verify_consistency, chain(false_consistencies(CHANGED_SIZES), larger))


@pytest.mark.soak
def test_no_false_inclusion_of_any_leaf_of_any_tree_is_accepted():
    require_refused(merkle.verify_inclusion, false_inclusions(SIZES))


@pytest.mark.soak
def test_no_false_consistency_of_any_two_trees_is_accepted():
    require_refused(merkle.verify_consistency, false_consistencies(SIZES))


def test_control_a_verifier_that_forgets_the_index_range():
    def forgetful(leaf, index, size, proof, root):
        merkle.verify_inclusion(leaf, index % size, size, proof, root)

    assert set(accepted(forgetful, false_inclusions(8))) == {"index out of range"}


def test_control_a_verifier_that_forgets_the_index():
    def forgetful(leaf, index, size, proof, root):
        """Accept when the leaf is anywhere in the tree."""
        for place in range(min(size, 4)):
            try:
                return merkle.verify_inclusion(leaf, place, size, proof, root)
            except BadProof:
                continue
        raise BadProof

    assert "other index" in accepted(forgetful, false_inclusions(4))


def forget(monkeypatch, name):
    monkeypatch.setattr(merkle, name, lambda *_: None)


def test_control_a_verifier_that_forgets_the_proof_length(monkeypatch):
    forget(monkeypatch, "_check_length")
    assert "inner node as leaf" in accepted(merkle.verify_inclusion, false_inclusions(4))
    taken = accepted(merkle.verify_consistency, false_consistencies(3))
    assert "inner node as old root" in taken
    assert "empty tree with a proof" in taken


def test_control_a_verifier_that_forgets_the_hash_length(monkeypatch):
    forget(monkeypatch, "_check_hashes")
    assert accepted(merkle.verify_inclusion, false_inclusions(4)) == ["children as leaf"]


def test_control_a_verifier_that_forgets_to_compare(monkeypatch):
    monkeypatch.setattr(merkle.hmac, "compare_digest", lambda *_: True)
    taken = set(accepted(merkle.verify_inclusion, false_inclusions(4)))
    assert {"hash flipped", "hashes swapped", "other index", "other leaf", "other root"} <= taken


@pytest.mark.parametrize(
    ("believed", "missed"), [("old", "other old root"), ("new", "other new root")]
)
def test_control_a_verifier_that_looks_at_one_root(monkeypatch, believed, missed):
    real = merkle._check_root

    def check_one(found, expected, size):
        if size != sizes[believed]:
            real(found, expected, size)

    sizes: dict[str, int] = {}

    def half(old, old_root, new, new_root, proof):
        sizes.update(old=old, new=new)
        merkle.verify_consistency(old, old_root, new, new_root, proof)

    monkeypatch.setattr(merkle, "_check_root", check_one)
    assert missed in accepted(half, false_consistencies(8))


def test_control_leaves_without_prefix_miss_the_published_roots():
    tree = generator.NaiveTree([hashlib.sha256(data).digest() for data in generator.CT_LEAVES])
    assert merkle.root(8, reader_of(tree)).hex() != CT_ROOTS[7]


@given(st.integers(1, 2**63 - 1), st.randoms(use_true_random=False))
def test_proofs_of_trees_of_any_size(size: int, pick: random.Random):
    """Trees too large to build: every subtree's hash is made up, and all proofs still agree."""

    def read(level: int, index: int) -> bytes:
        # Proofs open subtrees only on the way to the two places, so only there a hash must be that
        # of its children.
        first, last = index << level, ((index + 1) << level) - 1
        if level == 0 or not any(first <= place <= last for place in places):
            return hashlib.sha256(b"%d %d" % (level, index)).digest()
        left, right = read(level - 1, 2 * index), read(level - 1, 2 * index + 1)
        return merkle.node_hash(left, right)

    index = pick.randrange(size)
    old = pick.randint(1, size)
    places = {index, old - 1}
    root, old_root = merkle.root(size, read), merkle.root(old, read)
    proof = merkle.inclusion_proof(index, size, read)
    merkle.verify_inclusion(read(0, index), index, size, proof, root)
    growth = merkle.consistency_proof(old, size, read)
    assert len(proof) <= 63
    assert len(growth) <= 64
    merkle.verify_consistency(old, old_root, size, root, growth)
    with pytest.raises(BadProof):
        merkle.verify_inclusion(read(0, index), index, size, [*proof, root], root)


@pytest.mark.parametrize(
    "call",
    [
        lambda: merkle.root(-1, READ),
        lambda: merkle.root(2**63, READ),
        lambda: merkle.inclusion_proof(0, 0, READ),
        lambda: merkle.inclusion_proof(5, 5, READ),
        lambda: merkle.inclusion_proof(-1, 5, READ),
        lambda: merkle.inclusion_proof(0, 2**63, READ),
        lambda: merkle.consistency_proof(6, 5, READ),
        lambda: merkle.consistency_proof(-1, 5, READ),
        lambda: merkle.consistency_proof(1, 2**63, READ),
    ],
)
def test_proof_makers_refuse_what_is_out_of_range(call):
    with pytest.raises(ValueError, match=r"leaves|2\*\*63"):
        call()


@pytest.mark.parametrize(
    ("index", "size", "hashes"), [(-1, 4, 4), (1, 1, 1), (0, 2**63, 63), (0, 2**63 + 1, 64)]
)
def test_an_index_out_of_range_is_refused_though_the_length_would_fit(index, size, hashes):
    with pytest.raises(BadProof, match="is not in a tree"):
        merkle.root_from_inclusion(bytes(32), index, size, [bytes(32)] * hashes)


@pytest.mark.parametrize("value", [b"", bytes(31), bytes(33), bytes(64)])
def test_a_hash_of_another_length_is_refused_though_it_is_the_root(value):
    with pytest.raises(BadProof, match="a hash of"):
        merkle.verify_inclusion(value, 0, 1, [], value)
    with pytest.raises(BadProof, match="a hash of"):
        merkle.verify_consistency(1, value, 1, value, [])


@given(
    st.integers(-5, 2**64),
    st.integers(-5, 2**64),
    st.lists(st.binary(min_size=31, max_size=33), max_size=70),
    st.binary(max_size=33),
)
def test_verifiers_raise_nothing_but_bad_proof(first, second, proof, value):
    def claims() -> Iterator[Case]:
        yield "inclusion", (merkle.verify_inclusion, value, first, second, proof, value)
        yield "consistency", (merkle.verify_consistency, first, value, second, b"\x01" * 32, proof)

    assert accepted(lambda verify, *rest: verify(*rest), claims()) == []
