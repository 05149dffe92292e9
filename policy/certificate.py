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
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from policy.decision import Decision, DecisionCode, Ground
from policy.errors import InvalidPolicy
from policy.selection_list import Waardering
from policy.spelling import parse_json, read, spell

FORMAT = "datakluis-certificate/1"
ALGORITHM = "ecdsa-p256-sha256"
MAX_BYTES = 4 * 1024 * 1024
SERIAL_BYTES = 16
ENTRY_BYTES = 24
MAX_ITEMS = 1_000
_WHAT = "the certificate"
_DOMAIN = f"{FORMAT}\n".encode()
_POINTER = re.compile("[a-z2-7]{25}[aeimquy4]")
_MAX_VERSION = 2**32 - 1
_MAX_GENERATION = 2**56 - 1
_LEAF_LIMIT = 2**63
_MAX_DAYS = 36_500
# Order of the group of P-256 (SEC 2, section 2.4.2).
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# The rows of the decision table that can end in erasure; the others keep, or come too late.
_ERASING = frozenset({DecisionCode.D2B, DecisionCode.D5, DecisionCode.D9, DecisionCode.D10})


class Status(StrEnum):
    """How far the destruction is."""

    ERASED = "erased"
    IRRECOVERABLE = "irrecoverable"
    PARTIAL = "partial"


class Irrecoverability(StrEnum):
    """Whether no copy of any store opens the record, or why that is not claimed."""

    CONFIRMED = "confirmed"
    SCHEDULED = "scheduled"
    NOT_DECLARED = "not-declared"
    WAITING = "waiting"
    FAILED = "failed"


class Tree(StrEnum):
    """The key tree that a generation is of."""

    ORDINARY = "ordinary"
    PERMANENT = "permanent"


class Provider(StrEnum):
    """Who kept a generation's root key."""

    FILE = "file"
    PKCS11 = "pkcs11"
    TRANSIT = "transit"
    AWSKMS = "awskms"


class AssuranceClass(StrEnum):
    """Who says that a destroyed root key is gone."""

    DECLARED = "declared"
    TOKEN = "token"  # noqa: S105 - a cryptographic token
    SERVICE = "service"
    MANAGED = "managed"


class Presence(StrEnum):
    """What is left of a root key."""

    PRESENT = "present"
    SCHEDULED = "scheduled"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class LegalGround:
    """Why erasure was due.

    Attributes:
        name: the ground.
        article: the point of GDPR Art. 17(1), as `Ground.article` writes it.
    """

    name: Ground
    article: str

    @classmethod
    def of(cls, ground: Ground) -> LegalGround:
        """Return a ground with its article."""
        return cls(ground, ground.article)


@dataclass(frozen=True, slots=True)
class DecisionTaken:
    """The decision to erase.

    Attributes:
        code: a row of the decision table that can end in erasure: D2b, D5, D9 or D10.
        article: on which it rests.
        rule_version: the rules that decided (AD3).
    """

    code: DecisionCode
    article: str
    rule_version: str

    @classmethod
    def of(cls, decision: Decision) -> DecisionTaken:
        """Return what a certificate says of a decision."""
        return cls(decision.code, decision.article, decision.rule_version)


@dataclass(frozen=True, slots=True)
class Retention:
    """The retention duty that had ended or was set aside.

    Attributes:
        list_name: of the selection list.
        list_version: its edition, such as "2020".
        result: code of the result, such as "8.1.7".
        waardering: destroy or keep for ever.
        archiefactiedatum: the last day of the duty; None where there is none or it is unknown.
    """

    list_name: str
    list_version: str
    result: str
    waardering: Waardering
    archiefactiedatum: dt.date | None


@dataclass(frozen=True, slots=True)
class Approver:
    """Who approved the destruction.

    Attributes:
        name: of the official.
        role: in which they approved.
    """

    name: str
    role: str


@dataclass(frozen=True, slots=True)
class InBoth:
    """One text in two languages.

    Attributes:
        nl: Dutch.
        en: English.
    """

    nl: str
    en: str


@dataclass(frozen=True, slots=True)
class Assurance:
    """What a provider's word is worth.

    Attributes:
        class_: who says that a destroyed key is gone; the member `class`.
        nl: what someone with the provider's own backups could still do, in Dutch.
        en: the same in English.
    """

    class_: AssuranceClass
    nl: str
    en: str


@dataclass(frozen=True, slots=True)
class Declaration:
    """The operator's word that no copy of a root key is left.

    Attributes:
        name: who declares.
        at: when, UTC.
        statement: in their words.
    """

    name: str
    at: dt.datetime
    statement: str


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of root keys under which the record's key lay.

    Attributes:
        tree: of which key tree.
        number: from 1.
        provider: who kept the root key.
        reference: the root key's name there; no secret.
        assurance: what the provider's word is worth.
        presence: what is left of the root key.
        response: the provider's answer in its own words; None only while `present` and not asked.
        asked_at: when it answered so, UTC; None exactly where `response` is.
        gone_at: where `gone`, when it was found so; where `scheduled`, when it is due, or None if
            the provider does not say; None where `present`.
        declaration: that no copy is left; only for class `declared`, once `gone`.
    """

    tree: Tree
    number: int
    provider: Provider
    reference: str
    assurance: Assurance
    presence: Presence
    response: str | None
    asked_at: dt.datetime | None
    gone_at: dt.datetime | None
    declaration: Declaration | None

    @property
    def lacks_declaration(self) -> bool:
        """Whether the operator still has to declare that no copy is left."""
        return self.assurance.class_ is AssuranceClass.DECLARED and self.declaration is None


@dataclass(frozen=True, slots=True)
class BackupHorizon:
    """How long backups of the keys may still exist.

    Attributes:
        days: that a key backup is kept, 0 to 36,500.
        until: the last day on which one from before the erasure may exist.
    """

    days: int
    until: dt.date


@dataclass(frozen=True, slots=True)
class ErasureEntry:
    """Where the ledger says that the record was erased.

    Attributes:
        index: of the leaf, from 0.
        entry: the leaf data, 24 bytes (ledger/entry.py).
    """

    index: int
    entry: bytes


# No slots: the spelling is kept beside the fields.
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
        for rule in _RULES:
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


def irrecoverability_of(generations: tuple[Generation, ...]) -> Irrecoverability:
    """Return what generations amount to, where no attempt to destroy one has failed."""
    presences = {generation.presence for generation in generations}
    if Presence.PRESENT in presences:
        return Irrecoverability.WAITING
    if Presence.SCHEDULED in presences:
        return Irrecoverability.SCHEDULED
    if any(generation.lacks_declaration for generation in generations):
        return Irrecoverability.NOT_DECLARED
    return Irrecoverability.CONFIRMED


def status_of(irrecoverability: Irrecoverability, failures: tuple[str, ...]) -> Status:
    """Return how far a destruction is; a part that failed makes it partial, whatever the rest."""
    if failures:
        return Status.PARTIAL
    confirmed = irrecoverability is Irrecoverability.CONFIRMED
    return Status.IRRECOVERABLE if confirmed else Status.ERASED


def _signed_bytes(certificate: Certificate) -> bytes:
    return _DOMAIN + certificate.spelling


def _is_canonical(signature: bytes) -> bool:
    try:
        r, s = decode_dss_signature(signature)
    except ValueError:
        return False
    in_range = 0 < r < _ORDER and 0 < s <= _ORDER // 2
    return in_range and encode_dss_signature(r, s) == signature


# The rules: each yields what of it is broken.


def _names(one: Certificate) -> Iterator[str]:
    if len(one.serial) != SERIAL_BYTES:
        yield f"has a serial of {len(one.serial)} bytes, not {SERIAL_BYTES}"
    if _POINTER.fullmatch(one.pointer) is None:
        yield "has a pointer that is not 26 characters of a-z and 2-7"
    if not 1 <= one.versions <= _MAX_VERSION:
        yield f"counts {one.versions} versions"
    if not 0 <= one.erasure_entry.index < _LEAF_LIMIT:
        yield f"names leaf {one.erasure_entry.index} of the ledger"
    if len(one.erasure_entry.entry) != ENTRY_BYTES:
        yield f"has an erasure entry of {len(one.erasure_entry.entry)} bytes, not {ENTRY_BYTES}"


def _lists(one: Certificate) -> Iterator[str]:
    if not one.systems:
        yield "names no system"
    if not one.generations:
        yield "names no generation of root keys"
    for what, items in (
        ("field group", one.field_groups),
        ("approver", one.approvers),
        ("system", one.systems),
    ):
        if len(set(items)) != len(items):
            yield f"names one {what} twice"
    counts = (one.field_groups, one.approvers, one.systems, one.exclusions, one.failures)
    if any(len(items) > MAX_ITEMS for items in counts):
        yield f"has a list of more than {MAX_ITEMS} items"


def _law(one: Certificate) -> Iterator[str]:
    code, retention = one.decision.code, one.retention
    if one.ground.article != one.ground.name.article:
        yield f"rests {one.ground.name} on another article than {one.ground.name.article}"
    if code not in _ERASING:
        yield f"rests on {code}, which erases nothing"
    if code is DecisionCode.D10 and retention is not None:
        yield "rests on D10 in spite of a retention duty"
    if code is DecisionCode.D9:
        yield from _expiry(one)


def _expiry(one: Certificate) -> Iterator[str]:
    retention = one.retention
    if retention is None or retention.archiefactiedatum is None:
        yield "rests on D9 without an archiefactiedatum"
        return
    if retention.waardering is not Waardering.VERNIETIGEN:
        yield "rests on D9 though the record was to be kept for ever"
    # In the municipality's own time zone the day may be one further than in UTC.
    if one.erased_at.date() < retention.archiefactiedatum:
        yield "rests on D9 before the archiefactiedatum had passed"
    if one.destruction_list is None:
        yield "rests on D9 without a destruction list"


def _moments(one: Certificate) -> Iterator[str]:
    moments = [one.erased_at, one.issued_at, one.irrecoverable_at]
    for generation in one.generations:
        declared = generation.declaration
        moments += [generation.asked_at, generation.gone_at, declared.at if declared else None]
    for moment in moments:
        if moment is not None and (moment.utcoffset() != dt.timedelta(0) or moment.microsecond):
            yield "has a time that is not UTC to the second"


def _order(one: Certificate) -> Iterator[str]:
    if one.erased_at > one.issued_at:
        yield "was issued before the record was erased"
    seen = [moment for generation in one.generations for moment in _past(generation)]
    if any(moment > one.issued_at for moment in seen):
        yield "was issued before what it says of the root keys"
    if one.irrecoverable_at is not None:
        conditions = [
            moment for generation in one.generations for moment in _conditions(generation)
        ]
        if not max([one.erased_at, *conditions]) <= one.irrecoverable_at <= one.issued_at:
            yield "claims irrecoverability before its conditions were met, or before it is so"
    horizon = one.backup_horizon
    if horizon is not None and not 0 <= horizon.days <= _MAX_DAYS:
        yield f"has a backup horizon of {horizon.days} days"
    if horizon is not None and horizon.until < one.erased_at.date():
        yield "has a backup horizon that ends before the erasure"


def _past(generation: Generation) -> Iterator[dt.datetime]:
    if generation.asked_at is not None:
        yield generation.asked_at
    yield from _conditions(generation)


def _conditions(generation: Generation) -> Iterator[dt.datetime]:
    if generation.presence is Presence.GONE and generation.gone_at is not None:
        yield generation.gone_at
    if generation.declaration is not None:
        yield generation.declaration.at


def _generations(one: Certificate) -> Iterator[str]:
    for generation in one.generations:
        name = f"generation {generation.number} of the {generation.tree} tree"
        for fault in _generation(generation):
            yield f"says that {name} {fault}"
    for before, after in itertools.pairwise(one.generations):
        follows = before.tree is after.tree and after.number == before.number + 1
        begins = before.tree is Tree.ORDINARY and after.tree is Tree.PERMANENT
        if not follows and not begins:
            yield f"has a gap or another order after generation {before.number}"


def _generation(generation: Generation) -> Iterator[str]:
    if not 1 <= generation.number <= _MAX_GENERATION:
        yield "has no number that a generation has"
    if (generation.response is None) != (generation.asked_at is None):
        yield "has an answer without a time, or a time without an answer"
    if generation.gone_at is None and generation.presence is Presence.GONE:
        yield "is gone without a time"
    if generation.presence is Presence.PRESENT:
        if generation.gone_at is not None:
            yield "is present and has a time at which it goes"
        if generation.declaration is not None:
            yield "is declared gone though it is present"
        return
    if generation.response is None:
        yield f"is {generation.presence} without the provider's answer"
    if generation.declaration is not None and (
        generation.presence is not Presence.GONE
        or generation.assurance.class_ is not AssuranceClass.DECLARED
    ):
        yield "has a declaration that it does not call for"


def _outcome(one: Certificate) -> Iterator[str]:
    found = irrecoverability_of(one.generations)
    if one.irrecoverability not in (found, Irrecoverability.FAILED):
        yield f"says {one.irrecoverability} where the generations say {found}"
    if (one.irrecoverable_at is None) == (one.irrecoverability is Irrecoverability.CONFIRMED):
        yield "has a moment of irrecoverability without it, or the other way round"
    status = status_of(one.irrecoverability, one.failures)
    if one.status is not status:
        yield f"has the status {one.status} where {status} is due"


_RULES = (_names, _lists, _law, _moments, _order, _generations, _outcome)
