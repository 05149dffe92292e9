"""Makes the golden vectors of the anchor room's formats: `python tests/vectors/generate_anchor.py`.

One small log of seven entries, with checkpoints at four and seven leaves and a local anchor. Keys,
pointers and commitment keys come from fixed seeds and times are fixed, so every run writes the same
bytes. These are the first released versions of the formats: whatever the code becomes, these files
verify, and `tests/anchor/independent_verifier.py`, which shares no code with it, says the same.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from nacl.signing import SigningKey

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from anchor.evidence import Evidence, Group, Opening
from anchor.receipt import NO_PREDECESSOR, LocalReceipt, key_name
from anchor.statement import AnchorStatement
from anchor.steps import Step
from anchor.trust import REQUIRED_AT_FIRST, LogKey, TrustFile
from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.commitment import Committer
from ledger.entry import encode_erasure, encode_version, parse_entry
from ledger.note import Note, VerifierKey, sign
from ledger.tlogproof import LogProof

ORIGIN = "datakluis.example/hoorn"
SIZES = (4, 7)
FIRST_TIME = 1_767_225_600
DAY = 86_400
Signer = tuple[VerifierKey, SigningKey]


def seeded(what: str) -> bytes:
    """32 bytes that depend on nothing but a word."""
    return hashlib.sha256(f"anchor vector {what}".encode()).digest()


def signer(name: str, what: str) -> Signer:
    key = SigningKey(seeded(what))
    return VerifierKey(name, bytes(key.verify_key)), key


FIRST = signer(ORIGIN, "first log key")
SECOND = signer(f"{ORIGIN}/2027", "second log key")
ANCHOR = signer(key_name(ORIGIN), "local anchor key")
STRANGER = signer("vreemde.example/log", "key of a stranger")

# Who signs the checkpoints of a log whose key stays, is joined by a second, or makes way for it.
SIGNERS: dict[str, dict[int, list[Signer]]] = {
    "one": {4: [FIRST], 7: [FIRST]},
    "joined": {4: [FIRST], 7: [FIRST, SECOND]},
    "rotated": {4: [FIRST], 7: [SECOND]},
}

# Record, version and payload of each leaf; the last one erases.
VERSIONS = [
    ("a", 1, '{"naam": "Zoë", "besluit": "toegekend"}'.encode()),
    ("b", 1, b'{"bedrag": "1.250,00"}'),
    ("c", 1, b""),
    ("d", 1, bytes(range(256))),
    ("b", 2, b'{"bedrag": "1.520,00"}'),
    ("e", 1, b"%PDF-1.7\r\n%\xe2\xe3\xcf\xd3\r\n"),
]
ERASURE = len(VERSIONS)


def pointer(record: str) -> bytes:
    return seeded(f"pointer {record}")[:16]


def opening(leaf: int) -> Opening:
    record, version, payload = VERSIONS[leaf]
    return Opening(seeded(f"commitment key {record} {version}"), payload)


def leaf_data(leaf: int) -> bytes:
    if leaf == ERASURE:
        return encode_erasure(pointer("b"), 2)
    record, version, payload = VERSIONS[leaf]
    key = opening(leaf).commitment_key
    commitment = Committer(ORIGIN).commit(key, pointer(record), version, payload)
    return encode_version(pointer(record), version, commitment)


LEAVES = [leaf_data(leaf) for leaf in range(ERASURE + 1)]


def read_hash(level: int, index: int) -> bytes:
    if level == 0:
        return merkle.leaf_hash(LEAVES[index])
    return merkle.node_hash(read_hash(level - 1, 2 * index), read_hash(level - 1, 2 * index + 1))


@cache
def checkpoint(size: int, regime: str = "one") -> Note:
    text = Checkpoint(ORIGIN, size, merkle.root(size, read_hash)).text()
    signers = SIGNERS[regime][size]
    return Note(text, tuple(sign(text, verifier.name, key) for verifier, key in signers))


@cache
def statement(size: int, regime: str = "one") -> AnchorStatement:
    verifiers = [verifier for verifier, _ in SIGNERS[regime][size]]
    return AnchorStatement.of(checkpoint(size, regime), verifiers)


@cache
def receipt(size: int, regime: str = "one") -> LocalReceipt:
    number = SIZES.index(size)
    previous = receipt(SIZES[number - 1], regime).hash() if number else NO_PREDECESSOR
    at = FIRST_TIME + number * DAY
    return LocalReceipt.sign(number, statement(size, regime).digest(), previous, at, *ANCHOR)


def group(leaf: int, size: int, regime: str = "one", *, anchored: bool = False) -> Group:
    hashes = tuple(merkle.inclusion_proof(leaf, size, read_hash))
    receipts = (receipt(size, regime),) if anchored else ()
    return Group(
        LogProof(leaf, hashes, checkpoint(size, regime)), statement(size, regime), receipts
    )


def evidence(
    leaf: int,
    sizes: Sequence[int],
    regime: str = "one",
    *,
    anchored: bool = False,
    opened: bool = False,
) -> Evidence:
    groups = tuple(group(leaf, size, regime, anchored=anchored) for size in sizes)
    return Evidence(parse_entry(LEAVES[leaf]), groups, opening(leaf) if opened else None)


def trust(regime: str, require: Sequence[Step] = REQUIRED_AT_FIRST) -> TrustFile:
    first, second = FIRST[0], SECOND[0]
    keys = {
        "one": (LogKey(first),),
        "joined": (LogKey(first), LogKey(second, 5)),
        "rotated": (LogKey(first, 0, 4), LogKey(second, 5)),
    }[regime]
    return TrustFile(ORIGIN, tuple(require), keys, (ANCHOR[0],))


EVERY_CHECKED_STEP = tuple(step for step in Step if step is not Step.PUBLIC_ANCHOR)


def trust_files() -> dict[str, TrustFile]:
    return {
        "one": trust("one"),
        "joined": trust("joined"),
        "rotated": trust("rotated"),
        "strict": trust("one", EVERY_CHECKED_STEP),
    }


def evidence_files() -> dict[str, tuple[str, Evidence]]:
    """Name to the trust file that verifies it, and the evidence."""
    return {
        "version": ("one", evidence(2, [4])),
        "version, opened": ("one", evidence(0, [4], opened=True)),
        "version, anchored": ("one", evidence(1, [7], anchored=True)),
        "version, anchored and opened": ("strict", evidence(4, [7], anchored=True, opened=True)),
        "version, empty payload": ("strict", evidence(2, [7], anchored=True, opened=True)),
        "version, binary payload": ("one", evidence(3, [4], opened=True)),
        "version, two checkpoints": ("strict", evidence(0, [4, 7], anchored=True, opened=True)),
        "erasure": ("one", evidence(ERASURE, [7])),
        "erasure, anchored": ("one", evidence(ERASURE, [7], anchored=True)),
        "second key joined": ("joined", evidence(3, [4, 7], "joined", anchored=True, opened=True)),
        "key rotated": ("rotated", evidence(3, [4, 7], "rotated", anchored=True)),
    }


def files() -> dict[str, str]:
    """File name to content of all vectors."""
    vectors: dict[str, object] = {
        "anchor_statement.json": {
            "statements": [
                {
                    "signers": regime,
                    "size": size,
                    "statement": statement(size, regime).format(),
                    "digest": statement(size, regime).digest().hex(),
                }
                for regime in SIGNERS
                for size in SIZES
            ]
        },
        "anchor_receipt.json": {
            "vkey": str(ANCHOR[0]),
            "receipts": [
                {
                    "number": one.number,
                    "digest": one.digest.hex(),
                    "previous": one.previous.hex(),
                    "at": one.at,
                    "receipt": one.format(),
                }
                for one in (receipt(size) for size in SIZES)
            ],
        },
        "anchor_trust.json": {
            "files": {name: one.format().decode() for name, one in trust_files().items()}
        },
        "anchor_evidence.json": {
            "files": [
                {"name": name, "trust": trusted, "evidence": one.format().decode()}
                for name, (trusted, one) in evidence_files().items()
            ]
        },
    }
    return {
        name: json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        for name, content in vectors.items()
    }


if __name__ == "__main__":
    for file_name, content in files().items():
        (Path(__file__).parent / file_name).write_text(content, encoding="utf-8")
