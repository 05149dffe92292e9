"""The offline check of a certificate of destruction: the file, a trust file and perhaps a proof.

    1 format         the file is as this software writes it
    2 pdf-signature  where a PDF was brought: an organisation that is trusted signed it, whole
    3 signature      an organisation that is trusted signed the certificate, with a key valid then
    4 statement      the certificate agrees with itself and claims no more than it shows
    5 erasure-entry  the entry in it erases this record, up to and including its last version
    6 ledger-proof   evidence of a later entry, for this record, that holds the file's SHA-256;
                     verified with all that the trust file requires (anchor/verify.py)

Steps 2 and 6 are not checked where no PDF and no proof was brought: these are files of their own,
and what is missing then is said to be not proven. Step 3 is required always, and so is a proof that
was brought; what of it could not be checked leaves the check incomplete.
The caller still owes where the trust file came from. Tested in
tests/commands/test_verify_certificate.py.
"""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from anchor.errors import OtherOrigin
from anchor.evidence import Evidence
from anchor.steps import Report, StepResult, StepState, Verdict
from anchor.trust import TrustFile
from anchor.verify import verify
from ledger.entry import CORE_GROUP, ERASURES, EntryKind, parse_entry
from ledger.errors import Malformed
from ledger.pointer import format_pointer
from policy.certificate import FORMAT, Certificate, SignedCertificate
from policy.certificate_parts import Status
from policy.errors import InvalidPolicy

NOT_PROVEN = (
    "that the erasure entry is in the ledger: that takes evidence of its own",
    "what the certificate calls not tested, or declared",
    "currency: a later certificate may say more of the same erasure",
)
_NO_PROOF = "that the ledger holds this certificate: bring its proof with --proof"


class CertificateStep(StrEnum):
    """What is checked, in this order."""

    FORMAT = "format"
    PDF_SIGNATURE = "pdf-signature"
    SIGNATURE = "signature"
    STATEMENT = "statement"
    ERASURE_ENTRY = "erasure-entry"
    LEDGER_PROOF = "ledger-proof"


def check_certificate(
    signed: SignedCertificate,
    trust: TrustFile,
    proof: Evidence | None = None,
    pdf_fault: str | None = None,
) -> Report:
    """Check a certificate offline.

    Args:
        signed: the certificate.
        trust: what the reader trusts.
        proof: evidence that the certificate is in the ledger.
        pdf_fault: of the PDF that it came in, why its signature is not trusted, empty where it is;
            None where there is no PDF.

    Raises:
        OtherOrigin: certificate, proof and trust file are not of one ledger.
    """
    if signed.certificate.origin != trust.origin:
        raise OtherOrigin(signed.certificate.origin, trust.origin)
    steps = (
        _format(signed),
        _pdf_signature(pdf_fault),
        _signature(signed, trust),
        _statement(signed.certificate),
        _erasure_entry(signed.certificate),
        _ledger_proof(signed, trust, proof),
    )
    return _report(signed.certificate, steps, has_proof=proof is not None)


def _format(signed: SignedCertificate) -> StepResult:
    step = CertificateStep.FORMAT
    try:
        read = SignedCertificate.parse(signed.format())
    except InvalidPolicy as error:
        return _failed(step, str(error))
    if read != signed:
        return _failed(step, "the file would be read as another certificate")
    return _passed(step, f"{FORMAT}, SHA-256 {signed.digest().hex()}")


def _pdf_signature(fault: str | None) -> StepResult:
    step = CertificateStep.PDF_SIGNATURE
    if fault is None:
        return _not_checked(step, "the certificate was not brought as a PDF")
    if fault:
        return _failed(step, f"the PDF: {fault}")
    return _passed(step, "the organisation signed the PDF, and nothing was changed since")


def _signature(signed: SignedCertificate, trust: TrustFile) -> StepResult:
    step = CertificateStep.SIGNATURE
    certificates = [x509.load_der_x509_certificate(der) for der in trust.organisation_certificates]
    if not certificates:
        return _not_checked(step, "the trust file names no certificate of the organisation")
    signers = [one for one in certificates if _signed_with(signed, one)]
    if not signers:
        return _failed(step, "no organisation that the trust file names signed this certificate")
    at = signed.certificate.issued_at
    for signer in signers:
        if signer.not_valid_before_utc <= at <= signer.not_valid_after_utc:
            return _passed(step, f"signed by {signer.subject.rfc4514_string()}")
    return _failed(step, f"the organisation's key was not valid on {_time(at)}, the day of issue")


def _signed_with(signed: SignedCertificate, signer: x509.Certificate) -> bool:
    key = signer.public_key()
    return isinstance(key, ec.EllipticCurvePublicKey) and signed.verify_signature(key)


def _statement(certificate: Certificate) -> StepResult:
    try:
        certificate.check()
    except InvalidPolicy as error:
        return _failed(CertificateStep.STATEMENT, str(error))
    return _passed(
        CertificateStep.STATEMENT,
        f"{certificate.status}; irrecoverability {certificate.irrecoverability}",
    )


def _erasure_entry(certificate: Certificate) -> StepResult:
    step = CertificateStep.ERASURE_ENTRY
    try:
        entry = parse_entry(certificate.erasure_entry.entry)
    except Malformed as error:
        return _failed(step, str(error))
    kind = entry.kind.name.lower().replace("_", " ")
    found = f"{kind} of {format_pointer(entry.pointer)}, version {entry.version}"
    if entry.kind not in ERASURES or (format_pointer(entry.pointer), entry.version) != (
        certificate.pointer,
        certificate.versions,
    ):
        expected = f"erasure of {certificate.pointer}, version {certificate.versions}"
        return _failed(step, f"expected the {expected}, found the {found}")
    if (entry.group == CORE_GROUP) != (certificate.field_groups == ()):
        return _failed(step, "the entry and the certificate differ on whether the whole was erased")
    return _passed(step, f"leaf {certificate.erasure_entry.index} is the {found}")


def _ledger_proof(
    signed: SignedCertificate, trust: TrustFile, proof: Evidence | None
) -> StepResult:
    step = CertificateStep.LEDGER_PROOF
    if proof is None:
        return _not_checked(step, "bring evidence of the certificate's own entry with --proof")
    report = verify(proof, trust)
    if report.verdict is Verdict.FAILED:
        return _failed(step, report.sentence)
    fault = _entry_fault(signed, proof)
    if fault:
        return _failed(step, fault)
    if report.verdict is Verdict.INCOMPLETE:
        return _not_checked(step, report.sentence)
    return _passed(step, report.sentence)


def _entry_fault(signed: SignedCertificate, proof: Evidence) -> str:
    """Return why verified evidence is not about a certificate, or nothing."""
    entry, certificate = proof.entry, signed.certificate
    if entry.kind is not EntryKind.CERTIFICATE:
        return (
            f"the proof is of an entry of the kind {entry.kind.name.lower()}, not of a certificate"
        )
    if entry.body != signed.digest():
        return (
            f"expected the entry of SHA-256 {signed.digest().hex()},"
            f" found that of {entry.body.hex()}"
        )
    if format_pointer(entry.pointer) != certificate.pointer:
        return "the proof is of a certificate of another record"
    if entry.group != _erased_group(certificate):
        return "the proof is of a certificate of another field group"
    if min(group.proof.index for group in proof.groups) <= certificate.erasure_entry.index:
        return "the certificate stands in the ledger before the erasure that it certifies"
    return ""


def _erased_group(certificate: Certificate) -> int | None:
    try:
        return parse_entry(certificate.erasure_entry.entry).group
    except Malformed:
        return None


def _report(certificate: Certificate, steps: tuple[StepResult, ...], *, has_proof: bool) -> Report:
    failed = [one.step for one in steps if one.state is StepState.FAILED]
    if failed:
        sentence = f"Not verified: {', '.join(failed)} failed. Trust nothing in this certificate."
        return Report(Verdict.FAILED, sentence, steps, NOT_PROVEN)
    required = {CertificateStep.SIGNATURE}
    if has_proof:
        # It is a file of its own: what the trust file requires of evidence, it requires of this.
        required.add(CertificateStep.LEDGER_PROOF)
    missing = [
        one.step for one in steps if one.step in required and one.state is StepState.NOT_CHECKED
    ]
    if missing:
        sentence = f"Incomplete: {', '.join(missing)} is required and was not checked here."
        return Report(Verdict.INCOMPLETE, sentence, steps, NOT_PROVEN)
    not_proven = NOT_PROVEN if has_proof else (_NO_PROOF, *NOT_PROVEN)
    return Report(Verdict.VERIFIED, _sentence(certificate), steps, not_proven)


def _sentence(certificate: Certificate) -> str:
    what = f"record {certificate.pointer}"
    if certificate.field_groups:
        what = f"{', '.join(certificate.field_groups)} of {what}"
    return (
        f"The organisation behind the log {certificate.origin} certified on"
        f" {_time(certificate.issued_at)} that {what} was erased at"
        f" {_time(certificate.erased_at)}, {_outcome(certificate)}."
    )


def _outcome(certificate: Certificate) -> str:
    if certificate.status is Status.PARTIAL:
        return "but only in part: what failed stands in the certificate"
    if certificate.irrecoverable_at is None:
        return "not established yet to be irrecoverable"
    return f"irrecoverable since {_time(certificate.irrecoverable_at)}"


def _time(at: dt.datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _passed(step: CertificateStep, detail: str) -> StepResult:
    return StepResult(step, StepState.PASSED, detail)


def _failed(step: CertificateStep, detail: str) -> StepResult:
    return StepResult(step, StepState.FAILED, detail)


def _not_checked(step: CertificateStep, detail: str) -> StepResult:
    return StepResult(step, StepState.NOT_CHECKED, detail)
