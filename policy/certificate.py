r"""The certificate of destruction (verklaring van vernietiging): what it says, and when it may.

Format "datakluis-certificate/1", schema in policy/schemas/certificate-1.schema.json. One JSON
object, spelt as policy/spelling.py says and ended by a newline, with these members in this order:

    format       "datakluis-certificate/1"
    certificate  the statement; its members are the fields of `Certificate`, and so downwards
    signature    an object with
        algorithm    "ecdsa-p256-sha256"
        value        ECDSA over P-256 with SHA-256, DER in lower-case hex, s at most half the order

Signed are the bytes of "datakluis-certificate/1", a newline, and the bytes of the member
`certificate` as they stand in the file, from its brace to its closing brace. So

    {
      "format": "datakluis-certificate/1",
      "certificate": {
        "serial": "00112233445566778899aabbccddeeff",
        ...
      },
      "signature": {
        "algorithm": "ecdsa-p256-sha256",
        "value": "3045..."
      }
    }

signs `datakluis-certificate/1\n{\n    "serial": ... \n  }`. It holds no content and no personal
data of the subject, only the names of who approved, carried out and declared. The serial is random,
so the file's SHA-256 in the ledger confirms no guess of what the rest says.

*Erased* and *irrecoverable* are two moments. The second is claimed only when each generation of the
root keys, from the record's birth to its erasure, was found gone, and where a provider's word is
worth no more than the operator's, the operator has declared that no copy is left (P2).

Source: Archiefbesluit 1995, art. 8; GDPR Art. 5(2), 17. Rows: ER2, ER8, ST12.
Proof: `tests/policy/test_certificate.py`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from policy.certificate_parts import (
    Approver,
    BackupHorizon,
    DecisionTaken,
    ErasureEntry,
    Generation,
    InBoth,
    Irrecoverability,
    LegalGround,
    Retention,
    Status,
)
from policy.certificate_rules import RULES
from policy.errors import InvalidPolicy
from policy.spelling import parse_json, read, spell

FORMAT = "datakluis-certificate/1"
ALGORITHM = "ecdsa-p256-sha256"
MAX_BYTES = 4 * 1024 * 1024
_WHAT = "the certificate"
_DOMAIN = f"{FORMAT}\n".encode()
# Order of the group of P-256 (SEC 2, section 2.4.2).
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class Certificate:
    """What a certificate states. All times are UTC to the second.

    Attributes:
        serial: 16 random bytes.
        origin: of the ledger.
        pointer: of the record, as text.
        versions: how many the record had, from 1; all of them are erased.
        field_groups: names of those erased; empty for the whole record.
        status: partial where there are failures, else irrecoverable where that is confirmed.
        erased_at: from then on the live system cannot decrypt.
        irrecoverable_at: when the last condition for it was met; None unless confirmed.
        issued_at: when this was stated.
        ground: why erasure was due.
        decision: to erase.
        retention: the duty to keep; None where there was none.
        destruction_list: its identifier; None for an erasure outside a list.
        approvers: of the destruction, none of them twice.
        executor: who carried it out.
        systems: in which it was carried out, one or more.
        manner: how it was carried out.
        exclusions: what was left, and why.
        failures: what should be gone and is not.
        irrecoverability: whether it is confirmed, or why not.
        generations: all from the record's birth to its erasure, without a gap in either tree: those
            of the ordinary tree first, by number.
        backup_horizon: None where no backups of keys are made.
        erasure_entry: in the ledger.
    """

    serial: bytes
    origin: str
    pointer: str
    versions: int
    field_groups: tuple[str, ...]
    status: Status
    erased_at: dt.datetime
    irrecoverable_at: dt.datetime | None
    issued_at: dt.datetime
    ground: LegalGround
    decision: DecisionTaken
    retention: Retention | None
    destruction_list: str | None
    approvers: tuple[Approver, ...]
    executor: str
    systems: tuple[str, ...]
    manner: InBoth
    exclusions: tuple[str, ...]
    failures: tuple[str, ...]
    irrecoverability: Irrecoverability
    generations: tuple[Generation, ...]
    backup_horizon: BackupHorizon | None
    erasure_entry: ErasureEntry

    @cached_property
    def spelling(self) -> bytes:
        """The bytes of the member `certificate`, which never change."""
        return spell(self, level=1)

    def check(self) -> None:
        """Check that the statement agrees with itself and claims no more than it shows.

        Raises:
            InvalidPolicy: it does not; the message says where.
        """
        for rule in RULES:
            for fault in rule(self):
                raise InvalidPolicy(f"{_WHAT} {fault}")

    def sign(self, sign: Callable[[bytes], bytes]) -> SignedCertificate:
        """Return the signed certificate.

        Args:
            sign: returns an ECDSA signature over P-256 with SHA-256 of what it is given, in DER.

        Raises:
            InvalidPolicy: the statement breaks a rule, or holds what its file cannot.
        """
        self.check()
        r, s = decode_dss_signature(sign(_signed_bytes(self)))
        signed = SignedCertificate(self, encode_dss_signature(r, min(s, _ORDER - s)))
        # What is written must be what will be read.
        if SignedCertificate.parse(signed.format()) != signed:
            raise InvalidPolicy(f"{_WHAT} would be read as another one")
        return signed


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """A certificate with the organisation's signature, as it stands in its file.

    Attributes:
        certificate: what is stated.
        signature: DER, s at most half the order, so that nobody can write a second one from it.
    """

    certificate: Certificate
    signature: bytes

    def format(self) -> bytes:
        """Return the file."""
        return b"".join(
            (
                f'{{\n  "format": "{FORMAT}",\n  "certificate": '.encode(),
                self.certificate.spelling,
                f',\n  "signature": {{\n    "algorithm": "{ALGORITHM}",\n'.encode(),
                f'    "value": "{self.signature.hex()}"\n  }}\n}}\n'.encode(),
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> SignedCertificate:
        """Return the certificate in a file. Its signature is not verified.

        Raises:
            InvalidPolicy: any bytes that `format` would not have written for a certificate that
                keeps the rules of `Certificate.check`.
        """
        document = parse_json(data, _WHAT, MAX_BYTES)
        if document.get("format") != FORMAT:
            raise InvalidPolicy(f"{_WHAT} has another format than {FORMAT!r}")
        signature = document.get("signature")
        value = signature.get("value") if isinstance(signature, dict) else None
        signed = cls(
            read(Certificate, document.get("certificate"), _WHAT),
            read(bytes, value, f"the signature of {_WHAT}"),
        )
        if signed.format() != data:
            raise InvalidPolicy(
                f"{_WHAT} is not as this software writes it: unknown or reordered members"
            )
        if not _is_canonical(signed.signature):
            raise InvalidPolicy(f"{_WHAT} has no ECDSA signature in its only spelling")
        signed.certificate.check()
        return signed

    def digest(self) -> bytes:
        """Return the SHA-256 of the file, which the ledger holds."""
        return hashlib.sha256(self.format()).digest()

    def verify_signature(self, public_key: ec.EllipticCurvePublicKey) -> bool:
        """Tell whether the holder of a key of P-256 signed this certificate."""
        if not isinstance(public_key.curve, ec.SECP256R1) or not _is_canonical(self.signature):
            return False
        try:
            public_key.verify(
                self.signature, _signed_bytes(self.certificate), ec.ECDSA(hashes.SHA256())
            )
        except InvalidSignature:
            return False
        return True


def _signed_bytes(certificate: Certificate) -> bytes:
    return _DOMAIN + certificate.spelling


def _is_canonical(signature: bytes) -> bool:
    try:
        r, s = decode_dss_signature(signature)
    except ValueError:
        return False
    in_range = 0 < r < _ORDER and 0 < s <= _ORDER // 2
    return in_range and encode_dss_signature(r, s) == signature
