"""Makes the golden vectors of the anchor room's formats: `python tests/vectors/generate_anchor.py`.

One small log of twelve entries, with checkpoints at four, seven and twelve leaves and a local
anchor. Keys, pointers and commitment keys come from fixed seeds and times are fixed, so every run
writes the same bytes. What is added stands behind what was there, so that no file changes. These
are the first released versions of the formats: whatever the code becomes, these files verify, and
`tests/anchor/independent_verifier.py`, which shares no code with it, says the same.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
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
from ledger.entry import (
    ORDINARY_TREE,
    encode_certificate,
    encode_erasure,
    encode_shred,
    encode_version,
    parse_entry,
)
from ledger.note import Note, VerifierKey, sign
from ledger.tlogproof import LogProof

ORIGIN = "datakluis.example/hoorn"
SIZES = (4, 7, 12)
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


def organisation_key(what: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(seeded(what), "big"), ec.SECP256R1())


def organisation_certificate(what: str, curve_key: ec.EllipticCurvePrivateKey) -> bytes:
    """The X.509 certificate of a key that signs certificates of destruction, always the same."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ORIGIN)])
    start = dt.datetime.fromtimestamp(FIRST_TIME, dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(curve_key.public_key())
        .serial_number(int.from_bytes(seeded(f"serial {what}")[:8], "big"))
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=10_957))
    )
    signed = builder.sign(curve_key, hashes.SHA256(), ecdsa_deterministic=True)
    return signed.public_bytes(Encoding.DER)


@cache
def organisation(what: str) -> bytes:
    return organisation_certificate(what, organisation_key(what))


# Which certificates the trust files name.
ORGANISATION = {
    "joined": ("organisation key",),
    "strict": ("organisation key", "second organisation key"),
}

# Who signs the checkpoints of a log whose key stays, is joined by a second, or makes way for it.
SIGNERS: dict[str, dict[int, list[Signer]]] = {
    "one": {4: [FIRST], 7: [FIRST], 12: [FIRST]},
    "joined": {4: [FIRST], 7: [FIRST, SECOND], 12: [FIRST, SECOND]},
    "rotated": {4: [FIRST], 7: [SECOND], 12: [SECOND]},
}

# Record, version and payload of each of the first leaves.
VERSIONS = [
    ("a", 1, '{"naam": "Zoë", "besluit": "toegekend"}'.encode()),
    ("b", 1, b'{"bedrag": "1.250,00"}'),
    ("c", 1, b""),
    ("d", 1, bytes(range(256))),
    ("b", 2, b'{"bedrag": "1.520,00"}'),
    ("e", 1, b"%PDF-1.7\r\n%\xe2\xe3\xcf\xd3\r\n"),
]
# The leaves behind them: the erasure, a version and the erasure of a field group, the certificates
# of both erasures, and the destruction of a generation of the tenant's ordinary key tree.
ERASURE, GROUP_VERSION, GROUP_ERASURE, CERTIFICATE, GROUP_CERTIFICATE, SHRED = range(6, 12)
GROUP = 3
GROUP_PAYLOAD = b'{"telefoon": "+31 20 555 01 23"}'
CERTIFICATE_FILE = b"verklaring van vernietiging\n"


def pointer(record: str) -> bytes:
    return seeded(f"pointer {record}")[:16]


def opening(leaf: int) -> Opening:
    if leaf == GROUP_VERSION:
        return Opening(seeded("commitment key a 1 3"), GROUP_PAYLOAD)
    record, version, payload = VERSIONS[leaf]
    return Opening(seeded(f"commitment key {record} {version}"), payload)


def leaf_data(leaf: int) -> bytes:
    record, version, payload = VERSIONS[leaf]
    key = opening(leaf).commitment_key
    commitment = Committer(ORIGIN).commit(key, pointer(record), version, payload)
    return encode_version(pointer(record), version, commitment)


def later_leaves() -> list[bytes]:
    key, payload = opening(GROUP_VERSION).commitment_key, GROUP_PAYLOAD
    commitment = Committer(ORIGIN).commit(key, pointer("a"), 1, payload, GROUP)
    digest = hashlib.sha256(CERTIFICATE_FILE).digest()
    return [
        encode_erasure(pointer("b"), 2),
        encode_version(pointer("a"), 1, commitment, GROUP),
        encode_erasure(pointer("a"), 1, GROUP),
        encode_certificate(pointer("b"), 2, digest),
        encode_certificate(pointer("a"), 1, digest, GROUP),
        encode_shred(pointer("tenant"), ORDINARY_TREE, 1),
    ]


LEAVES = [*map(leaf_data, range(len(VERSIONS))), *later_leaves()]
OPENED = (*range(len(VERSIONS)), GROUP_VERSION)
"""Leaves that commit to a payload."""


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


def trust(
    regime: str, require: Sequence[Step] = REQUIRED_AT_FIRST, organisations: Sequence[str] = ()
) -> TrustFile:
    first, second = FIRST[0], SECOND[0]
    keys = {
        "one": (LogKey(first),),
        "joined": (LogKey(first), LogKey(second, 5)),
        "rotated": (LogKey(first, 0, 4), LogKey(second, 5)),
    }[regime]
    certificates = tuple(map(organisation, organisations))
    return TrustFile(ORIGIN, tuple(require), keys, (ANCHOR[0],), certificates)


EVERY_CHECKED_STEP = tuple(step for step in Step if step is not Step.PUBLIC_ANCHOR)


def trust_files() -> dict[str, TrustFile]:
    return {
        "one": trust("one"),
        "joined": trust("joined", organisations=ORGANISATION["joined"]),
        "rotated": trust("rotated"),
        "strict": trust("one", EVERY_CHECKED_STEP, ORGANISATION["strict"]),
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
        "group": ("strict", evidence(GROUP_VERSION, [12], anchored=True, opened=True)),
        "erasure of a group": ("one", evidence(GROUP_ERASURE, [12])),
        "certificate": ("one", evidence(CERTIFICATE, [12], anchored=True)),
        "certificate of a group": ("joined", evidence(GROUP_CERTIFICATE, [12], "joined")),
        "shred": ("one", evidence(SHRED, [12], anchored=True)),
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
