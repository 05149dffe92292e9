"""Makes the golden vectors of the ledger's formats: `python tests/vectors/generate_ledger.py`.

It shares no code with `ledger`: trees are the recursive definitions of RFC 6962 section 2.1, and
notes, checkpoints and proofs are put together here line by line from the C2SP texts. Keys come from
fixed seeds, so every run writes the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from nacl.signing import SigningKey

CT_LEAVES = [
    bytes.fromhex(data)
    for data in (
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
DIGEST_SIZES = 100
TILE_SIZES = (1, 255, 256, 257, 1000, 65_535, 65_536, 65_537, 70_000)


class NaiveTree:
    """RFC 6962 section 2.1 as it is written, over fixed leaf hashes; slow, remembered."""

    def __init__(self, leaf_hashes: list[bytes]) -> None:
        self.leaf_hashes = leaf_hashes
        self.mth = cache(self._mth)

    def _mth(self, start: int, end: int) -> bytes:
        if start == end:
            return hashlib.sha256(b"").digest()
        if end - start == 1:
            return self.leaf_hashes[start]
        k = self._split(end - start)
        left, right = self.mth(start, start + k), self.mth(start + k, end)
        return hashlib.sha256(b"\x01" + left + right).digest()

    def path(self, m: int, start: int, end: int) -> list[bytes]:
        n = end - start
        if n == 1:
            return []
        k = self._split(n)
        if m < k:
            return [*self.path(m, start, start + k), self.mth(start + k, end)]
        return [*self.path(m - k, start + k, end), self.mth(start, start + k)]

    def proof(self, m: int, n: int) -> list[bytes]:
        return self._subproof(m, 0, n, True) if m else []

    def _subproof(self, m: int, start: int, end: int, known: bool) -> list[bytes]:
        n = end - start
        if m == n:
            return [] if known else [self.mth(start, end)]
        k = self._split(n)
        if m <= k:
            return [*self._subproof(m, start, start + k, known), self.mth(start + k, end)]
        return [*self._subproof(m - k, start + k, end, False), self.mth(start, start + k)]

    @staticmethod
    def _split(n: int) -> int:
        k = 1
        while k * 2 < n:
            k *= 2
        return k


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def counted_leaves(count: int) -> list[bytes]:
    """Leaf hashes of the leaves with data 0, 1, 2, ... as eight bytes, big-endian."""
    return [leaf_hash(number.to_bytes(8, "big")) for number in range(count)]


def tiles_of(tree: NaiveTree, size: int) -> dict[tuple[int, int], bytes]:
    """All tiles of the first `size` leaves, by the formula of C2SP tlog-tiles."""
    tiles = {}
    level, span = 0, 1
    while size // span:
        hashes = [tree.mth(i * span, (i + 1) * span) for i in range(size // span)]
        for index in range(0, len(hashes), 256):
            tiles[level, index // 256] = b"".join(hashes[index : index + 256])
        level, span = level + 1, span * 256
    return tiles


def tile_digest(tiles: dict[tuple[int, int], bytes]) -> str:
    """SHA-256 over each tile's level, index and length, eight bytes each, and its bytes."""
    digest = hashlib.sha256()
    for (level, index), tile in sorted(tiles.items()):
        for number in (level, index, len(tile)):
            digest.update(number.to_bytes(8, "big"))
        digest.update(tile)
    return digest.hexdigest()


def every_proof(tree: NaiveTree, sizes: int) -> Iterator[bytes]:
    """Root, audit paths and consistency proofs of every tree up to a size, in that order."""
    for size in range(sizes + 1):
        yield tree.mth(0, size)
        for index in range(size):
            yield from tree.path(index, 0, size)
        for old_size in range(size + 1):
            yield from tree.proof(old_size, size)


def merkle_vectors() -> dict[str, object]:
    tree = NaiveTree([leaf_hash(data) for data in CT_LEAVES])
    size = len(CT_LEAVES)
    accumulated = hashlib.sha256()
    for value in every_proof(NaiveTree(counted_leaves(DIGEST_SIZES)), DIGEST_SIZES):
        accumulated.update(value)
    return {
        "leaves": [data.hex() for data in CT_LEAVES],
        "roots": [tree.mth(0, count).hex() for count in range(size + 1)],
        "inclusion": [
            {"index": m, "size": n, "proof": [h.hex() for h in tree.path(m, 0, n)]}
            for n in range(1, size + 1)
            for m in range(n)
        ],
        "consistency": [
            {"old_size": m, "new_size": n, "proof": [h.hex() for h in tree.proof(m, n)]}
            for n in range(size + 1)
            for m in range(n + 1)
        ],
        "every_proof": {"sizes": DIGEST_SIZES, "sha256": accumulated.hexdigest()},
    }


def tile_vectors() -> dict[str, object]:
    tree = NaiveTree(counted_leaves(max(TILE_SIZES)))
    return {"sha256": {str(size): tile_digest(tiles_of(tree, size)) for size in TILE_SIZES}}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def key_of(number: int) -> SigningKey:
    return SigningKey(hashlib.sha256(b"ledger vector key %d" % number).digest())


def key_id(name: str, key: SigningKey) -> bytes:
    public = bytes(key.verify_key)
    return hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]


def vkey(name: str, key: SigningKey) -> str:
    return f"{name}+{key_id(name, key).hex()}+{b64(bytes([1]) + bytes(key.verify_key))}"


def signed(text: str, signers: list[tuple[str, SigningKey]]) -> str:
    lines = [
        f"— {name} {b64(key_id(name, key) + key.sign(text.encode()).signature)}\n"
        for name, key in signers
    ]
    return text + "\n" + "".join(lines)


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    return f"{origin}\n{size}\n{b64(root)}\n"


def note_vectors() -> dict[str, object]:
    names = ["datakluis.example/gemeente", "getuige.example/één", "z"]
    keys = [key_of(number) for number in range(len(names))]
    texts = ["one line\n", "\n", "a\n\nb\n\n", "— looks like a signature AAAA\n", "ütf-8 ✓ \x7f\n"]
    return {
        "keys": [
            {"seed": bytes(key).hex(), "name": name, "vkey": vkey(name, key)}
            for name, key in zip(names, keys, strict=True)
        ],
        "notes": [
            {
                "text": text,
                "signers": list(range(count)),
                "note": signed(text, list(zip(names, keys, strict=True))[:count]),
            }
            for text in texts
            for count in (1, 2, 3)
        ],
    }


def checkpoint_vectors() -> dict[str, object]:
    cases = [
        ("datakluis.example/gemeente", 0, hashlib.sha256(b"").digest()),
        ("datakluis.example/gemeente", 1, leaf_hash(b"")),
        ("go.sum database tree", 20_852_163, bytes(range(32))),
        ("één+twee", 2**63 - 1, b"\xff" * 32),
    ]
    return {
        "checkpoints": [
            {"origin": o, "size": s, "root": r.hex(), "text": checkpoint_text(o, s, r)}
            for o, s, r in cases
        ]
    }


def proof_vectors() -> dict[str, object]:
    name, key = "datakluis.example/gemeente", key_of(0)
    tree = NaiveTree([leaf_hash(data) for data in CT_LEAVES])
    proofs = []
    for index, size in ((0, 1), (5, 7), (2, 8)):
        note = signed(checkpoint_text(name, size, tree.mth(0, size)), [(name, key)])
        hashes = tree.path(index, 0, size)
        head = ["c2sp.org/tlog-proof@v1", f"index {index}", *map(b64, hashes), ""]
        proofs.append(
            {
                "index": index,
                "size": size,
                "leaf": CT_LEAVES[index].hex(),
                "hashes": [value.hex() for value in hashes],
                "vkey": vkey(name, key),
                "proof": "\n".join(head) + "\n" + note,
            }
        )
    return {"proofs": proofs}


def files() -> dict[str, str]:
    """File name to content of all vectors."""
    vectors = {
        "ledger_merkle.json": merkle_vectors(),
        "ledger_tiles.json": tile_vectors(),
        "ledger_note.json": note_vectors(),
        "ledger_checkpoint.json": checkpoint_vectors(),
        "ledger_tlogproof.json": proof_vectors(),
    }
    return {
        name: json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        for name, content in vectors.items()
    }


if __name__ == "__main__":
    for file_name, content in files().items():
        (Path(__file__).parent / file_name).write_text(content, encoding="utf-8")
