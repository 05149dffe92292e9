"""Reads a certificate of destruction back out of its PDF, and verifies the PDF's signature.

A PDF is accepted only as `vault/certificate_pdf.py` makes it: one signature, over the whole file,
that certifies it against any change, by a key that the reader trusts, and one attachment. Hence all
that a viewer shows was there when the organisation signed. pyHanko parses and verifies; it comes
with the extra `pdf`. Tested in tests/vault/test_certificate_pdf.py.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from asn1crypto import cms
from asn1crypto.algos import DigestAlgorithm
from asn1crypto.core import Null
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.fields import MDPPerm
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature
from pyhanko.sign.validation.status import SignatureCoverageLevel
from pyhanko_certvalidator import ValidationContext

from vault.errors import InvalidInput

ATTACHMENT = "certificate.json"


@dataclass(frozen=True, slots=True)
class PdfContent:
    """What a PDF holds.

    Attributes:
        attachment: the file of the certificate; not verified.
        fault: why the PDF's signature is not trusted; empty where it is.
    """

    attachment: bytes
    fault: str


def read_pdf(data: bytes, trusted: Sequence[bytes]) -> PdfContent:
    """Return the certificate in a PDF, and whether the PDF is signed as it must be.

    Args:
        data: the PDF.
        trusted: X.509 certificates in DER, of the keys that may have signed it.

    Raises:
        InvalidInput: no PDF, or not one with a single attachment.
    """
    try:
        reader = PdfFileReader(io.BytesIO(data))
        attachment = _attachment(reader)
    except Exception:  # what a damaged PDF makes of its reader is not foreseen
        raise InvalidInput("the PDF cannot be read, or has not one file attached to it") from None
    try:
        fault = _fault(data, reader, trusted)
    except Exception:  # as above
        fault = "its signature cannot be read"
    return PdfContent(attachment, fault)


def _attachment(reader: PdfFileReader) -> bytes:
    named = reader.root["/Names"]["/EmbeddedFiles"]["/Names"]
    if len(named) != 2 or named[0] != ATTACHMENT:
        raise ValueError("another number of files, or another name")
    return bytes(named[1]["/EF"]["/F"].data)


def _fault(data: bytes, reader: PdfFileReader, trusted: Sequence[bytes]) -> str:
    signatures = reader.embedded_signatures
    if len(signatures) != 1:
        return f"it has {len(signatures)} signatures, not one"
    (signature,) = signatures
    if signature.signer_cert.dump() not in trusted:
        return "no organisation that the trust file names signed it"
    if not _is_exact(data, signature):
        return "its signature is not as this software writes it"
    return _validate(signature)


def _is_exact(data: bytes, signature: EmbeddedPdfSignature) -> bool:
    # A signature covers neither the zeros behind it nor these parts of the container around it.
    _, start, end, _ = signature.byte_range
    digits = data[start + 1 : end - 1]
    container = cms.ContentInfo.load(bytes.fromhex(digits.decode()))
    sha256 = DigestAlgorithm({"algorithm": "sha256", "parameters": Null()})
    content = container["content"]
    content["version"] = "v1"
    content["digest_algorithms"] = [sha256]
    (signer,) = content["signer_infos"]
    signer["version"] = "v1"
    signer["digest_algorithm"] = sha256
    exact: bytes = container.dump(force=True).hex().encode().ljust(len(digits), b"0")
    return digits in (exact, exact.upper())


def _validate(signature: EmbeddedPdfSignature) -> str:
    # Whether the key was valid is asked for the day of signing: the pages outlive its certificate.
    moment, certificate = signature.self_reported_timestamp, signature.signer_cert
    if moment is None or not certificate.not_valid_before <= moment <= certificate.not_valid_after:
        return "the organisation's key was not valid when it was signed"
    context = ValidationContext(
        trust_roots=[certificate],
        allow_fetching=False,
        moment=moment,
    )
    status = validate_pdf_signature(signature, context)
    if not status.bottom_line:
        return "it was changed after it was signed"
    if status.coverage is not SignatureCoverageLevel.ENTIRE_FILE:
        return "something was added after it was signed"
    if signature.docmdp_level is not MDPPerm.NO_CHANGES:
        return "its signature allows changes"
    return ""
