"""Makes the golden vectors of the anchor room's formats: `python tests/vectors/generate_anchor.py`.

One small log of sixteen entries, with checkpoints at four, seven, twelve and sixteen leaves and a
local anchor. Keys, pointers and commitment keys come from fixed seeds and times are fixed, so every
run writes the same bytes; ML-DSA signatures are random, so those that were made once are kept in
anchor_signatures.json and are used again. What is added stands behind what was there, so that no
file changes. These are the first released versions of the formats: whatever the code becomes, these
files verify, and `tests/anchor/independent_verifier.py`, which shares no code with it, says the
same.
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

from anchor.consistency import ConsistencyFile
from anchor.evidence import Evidence, Group, Opening, StateEntry
from anchor.receipt import NO_PREDECESSOR, LocalReceipt, key_name
from anchor.statement import AnchorStatement
from anchor.steps import Step
from anchor.trust import REQUIRED_AT_FIRST, TrustFile, WatchedRange
from ledger import merkle
from ledger.action import RULED, Action, EnactList, Found, Member, Role, Stop, list_item
from ledger.approval import approve
from ledger.checkpoint import Checkpoint
from ledger.commitment import Committer
from ledger.cosignature import NO_TIME, CosignerKey, Ed25519Cosigner, MlDsaCosigner
from ledger.entry import (
    ORDINARY_TREE,
    EntryKind,
    Membership,
    encode_certificate,
    encode_erasure,
    encode_governance,
    encode_listed_erasure,
    encode_shred,
    encode_version,
    parse_entry,
)
from ledger.governance import DEFAULT_RULES
from ledger.logkeys import LogKey
from ledger.note import Note, SignatureLine, VerifierKey, decode_base64, encode_base64, sign
from ledger.tlogproof import LogProof
from ledger.witnesspolicy import WitnessPolicy

ORIGIN = "datakluis.example/hoorn"
SIZES = (4, 7, 12, 16)
FIRST_TIME = 1_767_225_600
DAY = 86_400
Signer = tuple[VerifierKey, SigningKey]
Cosigning = Ed25519Cosigner | MlDsaCosigner


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


def ml_dsa(name: str, what: str) -> MlDsaCosigner:
    return MlDsaCosigner(name, seeded(what))


def ed25519(name: str, what: str) -> Ed25519Cosigner:
    return Ed25519Cosigner(name, SigningKey(seeded(what)))


FIRST_CENTURY = ml_dsa(ORIGIN, "first ML-DSA log key")
SECOND_CENTURY = ml_dsa(f"{ORIGIN}/2027", "second ML-DSA log key")
# Three witnesses, of which the second has two keys; and one that no policy names.
GOUDA = ed25519("witness.example/gouda", "gouda")
EDAM = ed25519("witness.example/edam", "edam")
EDAM_CENTURY = ml_dsa("witness.example/edam", "edam ML-DSA")
LEIDEN = ed25519("witness.example/leiden", "leiden")
UNKNOWN = ed25519("witness.example/vreemd", "unknown witness")
WITNESSES = (GOUDA, EDAM, EDAM_CENTURY, LEIDEN)
POLICY = WitnessPolicy.parse(
    "".join(
        (
            f"witness gouda {GOUDA.verifier}\n",
            f"witness edam {EDAM.verifier}\n",
            f"witness edam-century {EDAM_CENTURY.verifier}\n",
            f"witness leiden {LEIDEN.verifier}\n",
            "group edams any edam edam-century\n",
            "group all 2 gouda edams leiden\n",
            "quorum all\n",
        )
    ).encode()
)
SIGNATURES = Path(__file__).parent / "anchor_signatures.json"


@cache
def kept_signatures() -> dict[str, str]:
    if not SIGNATURES.exists():
        return {}
    return dict(json.loads(SIGNATURES.read_text(encoding="utf-8"))["signatures"])


def cosign(cosigner: Cosigning, text: str, timestamp: int) -> SignatureLine:
    """The line of a cosigner, always the same one."""
    key = cosigner.verifier
    if isinstance(cosigner, Ed25519Cosigner):
        return cosigner.cosign(Checkpoint.parse(text), timestamp)
    name = hashlib.sha256(f"{key}\n{timestamp}\n{text}".encode()).hexdigest()
    if name not in kept_signatures():
        line = cosigner.cosign(Checkpoint.parse(text), timestamp)
        kept_signatures()[name] = encode_base64(line.signature)
    return SignatureLine(key.name, key.key_id, decode_base64(kept_signatures()[name]))


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

# Who signs the checkpoints of a log whose key stays, is joined by a second, makes way for it, or is
# two keys of which both make way, in view of witnesses.
BOTH, BOTH_LATER = [FIRST, FIRST_CENTURY], [SECOND, SECOND_CENTURY]
SIGNERS: dict[str, dict[int, list[Signer | MlDsaCosigner]]] = {
    "one": {4: [FIRST], 7: [FIRST], 12: [FIRST], 16: [FIRST]},
    "joined": {4: [FIRST], 7: [FIRST, SECOND], 12: [FIRST, SECOND], 16: [FIRST, SECOND]},
    "rotated": {4: [FIRST], 7: [SECOND], 12: [SECOND], 16: [SECOND]},
    "century": {4: BOTH, 7: BOTH, 12: BOTH, 16: BOTH_LATER},
}
# Size from which on a regime's checkpoints are cosigned, and by whom.
COSIGNERS = {"century": (16, (GOUDA, EDAM_CENTURY))}

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
# And behind those: the founding of governance, a list, an erasure that stands on it, and a stop.
FOUNDING, LISTING, LISTED_ERASURE, STOP = range(12, 16)
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


MEMBER_KEYS = {role: SigningKey(seeded(f"key of the {role.name.lower()}")) for role in Role}
MEMBERS = tuple(
    sorted(
        Member(bytes(key.verify_key), seeded(f"organisation {role % 2}")[:16], role)
        for role, key in MEMBER_KEYS.items()
    )
)
LISTED = ("c", "d", "e")


def decided(sequence: int, action: Action, roles: Sequence[Role], expiry: int = 100) -> bytes:
    """The governance entry of an action that members in these roles approve."""
    approvals = [approve(MEMBER_KEYS[one], ORIGIN, sequence, action, expiry) for one in roles]
    return encode_governance(sequence, action, approvals)


def listed_hash(level: int, index: int) -> bytes:
    if level == 0:
        return merkle.leaf_hash(list_item(pointer(LISTED[index]), 0))
    left, right = listed_hash(level - 1, 2 * index), listed_hash(level - 1, 2 * index + 1)
    return merkle.node_hash(left, right)


def listed_erasure(index: int, sequence: int = 2) -> bytes:
    path = tuple(merkle.inclusion_proof(index, len(LISTED), listed_hash))
    membership = Membership(sequence, index, path)
    return encode_listed_erasure(pointer(LISTED[index]), 1, membership)


def governed_leaves() -> list[bytes]:
    found = Found(MEMBERS, tuple(DEFAULT_RULES[kind] for kind in RULED))
    enacted = EnactList(merkle.root(len(LISTED), listed_hash), len(LISTED))
    return [
        decided(1, found, list(Role)),
        decided(2, enacted, [Role.OFFICER, Role.ARCHIVIST]),
        listed_erasure(0),
        decided(3, Stop(), [Role.AUDITOR]),
    ]


LEAVES = [*map(leaf_data, range(len(VERSIONS))), *later_leaves(), *governed_leaves()]
GOVERNANCE = (FOUNDING, LISTING, STOP)
OPENED = (*range(len(VERSIONS)), GROUP_VERSION)
"""Leaves that commit to a payload."""


def read_hash(level: int, index: int) -> bytes:
    if level == 0:
        return merkle.leaf_hash(LEAVES[index])
    return merkle.node_hash(read_hash(level - 1, 2 * index), read_hash(level - 1, 2 * index + 1))


@cache
def checkpoint(size: int, regime: str = "one") -> Note:
    text = Checkpoint(ORIGIN, size, merkle.root(size, read_hash)).text()
    return Note(text, (*own_lines(text, size, regime), *cosignatures(text, size, regime)))


def own_lines(text: str, size: int, regime: str) -> list[SignatureLine]:
    return [
        cosign(one, text, NO_TIME)
        if isinstance(one, MlDsaCosigner)
        else sign(text, one[0].name, one[1])
        for one in SIGNERS[regime][size]
    ]


def cosignatures(text: str, size: int, regime: str) -> list[SignatureLine]:
    first, cosigners = COSIGNERS.get(regime, (0, ()))
    return [cosign(one, text, FIRST_TIME) for one in cosigners if size >= first]


@cache
def statement(size: int, regime: str = "one") -> AnchorStatement:
    return AnchorStatement.of(checkpoint(size, regime), verifiers(size, regime))


def verifiers(size: int, regime: str) -> list[VerifierKey | CosignerKey]:
    return [
        one.verifier if isinstance(one, MlDsaCosigner) else one[0] for one in SIGNERS[regime][size]
    ]


@cache
def receipt(size: int, regime: str = "one") -> LocalReceipt:
    number = SIZES.index(size)
    previous = receipt(SIZES[number - 1], regime).hash() if number else NO_PREDECESSOR
    at = FIRST_TIME + number * DAY
    return LocalReceipt.sign(number, statement(size, regime).digest(), previous, at, *ANCHOR)


def group(leaf: int, size: int, regime: str = "one", *, anchored: bool = False) -> Group:
    hashes = tuple(merkle.inclusion_proof(leaf, size, read_hash))
    receipts = (receipt(size, regime),) if anchored else ()
    proof = LogProof(leaf, hashes, checkpoint(size, regime))
    return Group(proof, statement(size, regime), receipts, tie(size, regime))


def tie(size: int, regime: str) -> tuple[bytes, ...]:
    """How a checkpoint of a retired key leads to the closing one."""
    closing = next((one.closing for one in log_keys(regime) if one.covers(size)), None)
    if closing is None or closing.size == size:
        return ()
    return tuple(merkle.consistency_proof(size, closing.size, read_hash))


def state(leaf: int, size: int, regime: str) -> tuple[StateEntry, ...]:
    """The governance entries that an entry goes by."""
    entry = parse_entry(LEAVES[leaf])
    before: tuple[int, ...] = ()
    if entry.kind is EntryKind.GOVERNANCE:
        before = tuple(one for one in GOVERNANCE if one < leaf)
    elif entry.kind is EntryKind.LISTED_ERASURE:
        before = (FOUNDING, LISTING)
    return tuple(
        StateEntry(parse_entry(LEAVES[one]), group(one, size, regime).proof) for one in before
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
    return Evidence(
        parse_entry(LEAVES[leaf]),
        groups,
        opening(leaf) if opened else None,
        state(leaf, sizes[0], regime),
    )


def consistency(old: int, new: int, regime: str = "one") -> ConsistencyFile:
    proof = tuple(merkle.consistency_proof(old, new, read_hash))
    return ConsistencyFile(checkpoint(old, regime), proof, checkpoint(new, regime))


@cache
def log_keys(regime: str) -> tuple[LogKey, ...]:
    first, second = FIRST[0], SECOND[0]

    def closing(size: int) -> Checkpoint:
        return Checkpoint(ORIGIN, size, merkle.root(size, read_hash))

    return {
        "one": (LogKey(first),),
        "joined": (LogKey(first), LogKey(second, 5)),
        "rotated": (LogKey(first, 0, 4, closing(4)), LogKey(second, 5)),
        "century": (
            LogKey(first, 0, 12, closing(12)),
            LogKey(FIRST_CENTURY.verifier, 0, 12, closing(12)),
            LogKey(second, 13),
            LogKey(SECOND_CENTURY.verifier, 13),
        ),
    }[regime]


def trust(
    regime: str, require: Sequence[Step] = REQUIRED_AT_FIRST, organisations: Sequence[str] = ()
) -> TrustFile:
    certificates = tuple(map(organisation, organisations))
    policies, founding = (), None
    if regime in COSIGNERS:
        policies = (WatchedRange(POLICY, COSIGNERS[regime][0]),)
        founding = hashlib.sha256(LEAVES[FOUNDING]).digest()
    keys = log_keys(regime)
    return TrustFile(ORIGIN, tuple(require), keys, (ANCHOR[0],), certificates, policies, founding)


# Of evidence of a version in a log without witnesses.
EVERY_CHECKED_STEP = tuple(
    step for step in Step if step not in (Step.WITNESSES, Step.PUBLIC_ANCHOR, Step.AUTHORISATION)
)
WATCHED = (Step.LOG_SIGNATURE, Step.WITNESSES, Step.INCLUSION)


def trust_files() -> dict[str, TrustFile]:
    return {
        "one": trust("one"),
        "joined": trust("joined", organisations=ORGANISATION["joined"]),
        "rotated": trust("rotated"),
        "strict": trust("one", EVERY_CHECKED_STEP, ORGANISATION["strict"]),
        "century": trust("century"),
        "watched": trust("century", WATCHED),
        "governed": trust("century", (*WATCHED, Step.AUTHORISATION)),
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
        "retired keys": ("century", evidence(4, [7], "century", anchored=True, opened=True)),
        "closing checkpoint": ("century", evidence(ERASURE, [12], "century")),
        "cosigned": ("watched", evidence(4, [16], "century", anchored=True)),
        "founding": ("governed", evidence(FOUNDING, [16], "century")),
        "listed erasure": ("governed", evidence(LISTED_ERASURE, [16], "century", anchored=True)),
        "stop": ("governed", evidence(STOP, [16], "century")),
    }


def consistency_files() -> dict[str, tuple[str, ConsistencyFile]]:
    """Name to the trust file that verifies it, and the file."""
    return {
        "one key": ("one", consistency(4, 7)),
        "key rotated": ("rotated", consistency(4, 12, "rotated")),
        "to the closing checkpoint": ("century", consistency(7, 12, "century")),
        "retired to cosigned": ("watched", consistency(7, 16, "century")),
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
    vectors["anchor_consistency.json"] = {
        "files": [
            {"name": name, "trust": trusted, "file": one.format().decode()}
            for name, (trusted, one) in consistency_files().items()
        ]
    }
    # Last, when all were made.
    vectors["anchor_signatures.json"] = {"signatures": dict(sorted(kept_signatures().items()))}
    return {
        name: json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        for name, content in vectors.items()
    }


if __name__ == "__main__":
    for file_name, content in files().items():
        (Path(__file__).parent / file_name).write_text(content, encoding="utf-8")
