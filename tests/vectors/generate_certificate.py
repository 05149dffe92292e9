"""Makes the golden certificates of destruction: `python tests/vectors/generate_certificate.py`.

It shares no code with `policy`: the members are written out here, the JSON writer is Python's own,
and the signature is made over the bytes that the docstring of `policy.certificate` names. The key
and the serials come from fixed texts and the signatures are deterministic (RFC 6979), so every run
writes the same bytes. Certificates are kept permanently: whatever the code becomes, these verify.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

FORMAT = "datakluis-certificate/1"
ORIGIN = "datakluis.example/hoorn"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
POINTER = ("aaisem2ekvthpcezvk54zxpo74", "00112233445566778899aabbccddeeff")
DECLARED = {
    "class": "declared",
    "nl": "Wie het sleutelbestand heeft gekopieerd en de wachtzin kent, opent deze generatie.",
    "en": "Whoever copied the key file and knows the passphrase opens this generation.",
}
TOKEN = {
    "class": "token",
    "nl": "Een kloon van de sleutelmodule kan de sleutel nog hebben.",
    "en": "A clone of the hardware module may still have the key.",
}
SERVICE = {
    "class": "service",
    "nl": "Een reservekopie van de sleuteldienst kan de sleutel nog hebben.",
    "en": "A backup of the key service may still have the key.",
}
MANAGED = {
    "class": "managed",
    "nl": "Dat de leverancier geen kopie heeft, is zijn woord.",
    "en": "That the supplier has no copy is its word.",
}


def seeded(what: str) -> bytes:
    """32 bytes that depend on nothing but a word."""
    return hashlib.sha256(f"certificate vector {what}".encode()).digest()


KEY = ec.derive_private_key(int.from_bytes(seeded("organisation key"), "big"), ec.SECP256R1())


def entry(versions: int, group: int = 0) -> str:
    """An erasure entry, byte by byte (ledger/entry.py)."""
    return bytes([1, 2, 0, group]).hex() + POINTER[1] + versions.to_bytes(4, "big").hex()


def generation(number: int, **members: object) -> dict[str, object]:
    """A generation whose root key was found gone from a file, with changes."""
    return {
        "tree": "ordinary",
        "number": number,
        "provider": "file",
        "reference": f"root-{number}.key",
        "assurance": DECLARED,
        "presence": "gone",
        "response": f"file root-{number}.key is not there",
        "asked_at": "2026-04-01T02:00:09Z",
        "gone_at": "2026-04-01T02:00:09Z",
        "declaration": {
            "name": "Şükran Yıldız",
            "at": "2026-04-02T09:15:00Z",
            "statement": 'Er bestaat geen kopie: noch op "tape", noch op C:\\keys.',
        },
    } | members


def present(number: int, **members: object) -> dict[str, object]:
    """A generation that is still in use."""
    nothing = dict.fromkeys(("response", "asked_at", "gone_at", "declaration"))
    return generation(number, presence="present", **nothing) | members


def certificate(name: str, **members: object) -> dict[str, object]:
    """An erasure without a duty to keep, confirmed to be irrecoverable, with changes."""
    return {
        "serial": seeded(f"serial {name}")[:16].hex(),
        "origin": ORIGIN,
        "pointer": POINTER[0],
        "versions": 2,
        "field_groups": [],
        "status": "irrecoverable",
        "erased_at": "2026-03-15T14:03:05Z",
        "irrecoverable_at": "2026-04-02T09:15:00Z",
        "issued_at": "2026-04-02T09:15:01Z",
        "ground": {"name": "consent-withdrawn", "article": "Art. 17(1)(b) GDPR"},
        "decision": {
            "code": "D10",
            "article": "Art. 17(1)(b) GDPR",
            "rule_version": "erasure-1",
        },
        "retention": None,
        "destruction_list": None,
        "approvers": [],
        "executor": "burgerzaken",
        "systems": [f"vault {ORIGIN}"],
        "manner": {
            "nl": "De sleutels zijn gewist en de versleutelde inhoud is verwijderd.",
            "en": "The keys were erased and the sealed content was removed.",
        },
        "exclusions": [],
        "failures": [],
        "irrecoverability": "confirmed",
        "generations": [generation(1)],
        "backup_horizon": {"days": 30, "until": "2026-04-14"},
        "erasure_entry": {"index": 6, "entry": entry(2)},
    } | members


def waiting(**members: object) -> dict[str, object]:
    """The members of a certificate that does not claim irrecoverability yet."""
    unclaimed = {"status": "erased", "irrecoverable_at": None, "irrecoverability": "waiting"}
    return unclaimed | members


def certificates() -> dict[str, dict[str, object]]:
    """Name to statement."""
    undeclared = generation(1, declaration=None)
    by_list: dict[str, object] = {
        "ground": {"name": "not-needed", "article": "Art. 17(1)(a) GDPR"},
        "decision": {
            "code": "D9",
            "article": "Art. 17(1)(a) GDPR",
            "rule_version": "erasure-1",
        },
        "retention": {
            "list_name": "Selectielijst gemeenten en intergemeentelijke organen",
            "list_version": "2020",
            "result": "8.1.7",
            "waardering": "vernietigen",
            "archiefactiedatum": "2025-12-31",
        },
        "destruction_list": "VL-2026-0007",
        "approvers": [
            {"name": "J. de Vries", "role": "proceseigenaar"},
            {"name": "Zoë Łukasiewicz-Őry", "role": "archivaris"},
        ],
    }
    unlawful: dict[str, object] = {
        "ground": {"name": "unlawful", "article": "Art. 17(1)(d) GDPR"},
        "decision": {
            "code": "D5",
            "article": "Art. 17(1)(d) GDPR",
            "rule_version": "erasure-1",
        },
        "retention": {
            "list_name": "Selectielijst gemeenten en intergemeentelijke organen",
            "list_version": "2020",
            "result": "1.1",
            "waardering": "blijvend_bewaren",
            "archiefactiedatum": None,
        },
        "approvers": [{"name": "P. Officer", "role": "privacyfunctionaris"}],
    }
    providers = [
        generation(3),
        generation(
            4,
            provider="pkcs11",
            reference="kluis-root-4",
            assurance=TOKEN,
            response="no object has this label",
            declaration=None,
        ),
        generation(
            5,
            provider="transit",
            reference="kluis-root:5",
            assurance=SERVICE,
            response="version 5 is below min_available_version 6",
            declaration=None,
        ),
    ]
    scheduled = generation(
        1,
        provider="awskms",
        reference="arn:aws:kms:eu-west-1:111122223333:key/1234abcd",
        assurance=MANAGED,
        presence="scheduled",
        response="PendingDeletion",
        gone_at="2026-05-01T02:00:09Z",
        declaration=None,
    )
    permanent = {"tree": "permanent", "provider": "pkcs11", "assurance": TOKEN, "declaration": None}
    members: dict[str, dict[str, object]] = {
        "waiting": waiting(generations=[undeclared, present(2)]),
        "irrecoverable": {},
        "by a destruction list": {**by_list, "generations": providers},
        "scheduled": waiting(irrecoverability="scheduled", generations=[scheduled]),
        "not declared": waiting(irrecoverability="not-declared", generations=[undeclared]),
        "partial": {
            **unlawful,
            "status": "partial",
            "irrecoverable_at": None,
            "irrecoverability": "failed",
            "failures": ["opslag: het versleutelde bestand is er nog"],
            "exclusions": ["1 bewijsbestand met de inhoud is eerder verstrekt"],
            "generations": [
                generation(1),
                generation(1, **permanent),
                generation(2, **permanent),
            ],
            "backup_horizon": None,
        },
        "field group": {
            "field_groups": ["contact"],
            "erasure_entry": {"index": 8, "entry": entry(2, 3)},
        },
    }
    return {name: certificate(name, **changes) for name, changes in members.items()}


def sign(statement: dict[str, object]) -> bytes:
    """The signed file."""
    body = json.dumps(statement, indent=2, ensure_ascii=False).replace("\n", "\n  ")
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    r, s = decode_dss_signature(KEY.sign(f"{FORMAT}\n{body}".encode(), algorithm))
    document = {
        "format": FORMAT,
        "certificate": statement,
        "signature": {
            "algorithm": "ecdsa-p256-sha256",
            "value": encode_dss_signature(r, min(s, ORDER - s)).hex(),
        },
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def files() -> dict[str, str]:
    """File name to content of all vectors."""
    public = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signed = {name: sign(statement) for name, statement in certificates().items()}
    vectors = {
        "public_key": public.hex(),
        "files": [
            {
                "name": name,
                "certificate": file.decode(),
                "sha256": hashlib.sha256(file).hexdigest(),
            }
            for name, file in signed.items()
        ],
    }
    return {"certificate.json": json.dumps(vectors, indent=1, ensure_ascii=False) + "\n"}


if __name__ == "__main__":
    for file_name, content in files().items():
        (Path(__file__).parent / file_name).write_text(content, encoding="utf-8")
