"""The certificate of destruction as a signed PDF, for people who do not read JSON.

The pages say in Dutch and then in English what the certificate says (vault/certificate_words.py).
The file of the certificate itself is attached as `certificate.json`, byte for byte; the pages only
show it. The PDF is signed with the organisation key as PAdES B-B (ETSI EN 319 142-1): a certifying
signature (ISO 32000-2, 12.8.2.2) that allows no change.

fpdf2 lays out the pages, in Source Sans Pro, which is embedded and has all letters of the Dutch
register of persons; a character that it lacks is printed as its code point, as in [U+6F22]. pyHanko
signs. Both come with the extra `pdf`. Tested in tests/vault/test_certificate_pdf.py.
"""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path

import font_source_sans_pro
from asn1crypto import x509
from asn1crypto.algos import SignedDigestAlgorithm
from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import FontFace, TTFFont
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.writer import BasePdfFileWriter
from pyhanko.sign import signers
from pyhanko.sign.fields import MDPPerm, SigSeedSubFilter
from pyhanko.sign.signers.pdf_signer import PdfSigningSession

from policy.certificate import SignedCertificate
from vault.certificate_reading import ATTACHMENT
from vault.certificate_words import Language, Section, sections, title
from vault.organisation import OrganisationKey

_FONTS = Path(font_source_sans_pro.font_directory)
_FONT_FILES = {"": "SourceSansPro-Regular.ttf", "B": "SourceSansPro-Bold.ttf"}
_FAMILY = "SourceSansPro"
# Millimetres on A4.
_MARGIN = 18
_BOTTOM = 15
_COLUMNS = (48, 126)
_LINE = 4.3
_SECTION = 22
_SIGNATURE_BYTES = 72


def render_pdf(
    signed: SignedCertificate, organisation: OrganisationKey, signed_at: dt.datetime
) -> bytes:
    """Return the signed PDF of a certificate.

    Args:
        signed: the certificate; its file is attached.
        organisation: signs the PDF.
        signed_at: UTC, the time that the PDF names as that of its signing.
    """
    pages = _Pages(signed, signed_at)
    for language in Language:
        pages.add(language)
    writer = IncrementalPdfFileWriter(io.BytesIO(bytes(pages.output())))
    metadata = signers.PdfSignatureMetadata(
        field_name="Signature",
        md_algorithm="sha256",
        reason=" / ".join(map(title, Language)),
        certify=True,
        docmdp_permissions=MDPPerm.NO_CHANGES,
        subfilter=SigSeedSubFilter.PADES,
    )
    signer = _PdfSigner(metadata, _Signer(organisation), signed_at)
    output: io.BytesIO = signer.sign_pdf(writer)
    return output.getvalue()


class _Pages(FPDF):
    """The pages, laid out; each language begins on a new one."""

    def __init__(self, signed: SignedCertificate, at: dt.datetime) -> None:
        super().__init__(format="A4")
        self._signed = signed
        for style, name in _FONT_FILES.items():
            self.add_font(_FAMILY, style, _FONTS / name)
        fonts = [font for font in self.fonts.values() if isinstance(font, TTFFont)]
        self._known = set.intersection(*(set(font.cmap) for font in fonts))
        self.set_margin(_MARGIN)
        self.set_auto_page_break(True, margin=_BOTTOM)
        self.set_creation_date(at)
        self.set_title(" / ".join(map(title, Language)))
        self.set_lang("nl")
        self.embed_file(
            bytes=signed.format(),
            basename=ATTACHMENT,
            mime_type="application/json",
            modification_date=at,
            associated_file_relationship="Source",
        )

    def add(self, language: Language) -> None:
        """Add the pages in one language."""
        self.add_page()
        self._write("B", 18, 9, title(language))
        for section in sections(self._signed, language):
            self._section(section)

    def footer(self) -> None:
        """Number each page, and name the certificate on it."""
        self.set_y(-_BOTTOM + _LINE)
        self.set_font(_FAMILY, "", 8)
        serial = self._signed.certificate.serial.hex()
        self.cell(0, _LINE, f"{serial}   {self.page_no()}/{{nb}}", align="R")

    def _section(self, section: Section) -> None:
        self.ln(2.5)
        # A heading stands above something.
        if self.will_page_break(_SECTION):
            self.add_page()
        self._write("B", 12, 6.5, section.title)
        self.set_font(_FAMILY, "", 9)
        with self.table(
            borders_layout="NONE",
            col_widths=_COLUMNS,
            first_row_as_headings=False,
            line_height=_LINE,
            text_align="LEFT",
            v_align="TOP",
        ) as table:
            for label, text in section.rows:
                row = table.row()
                row.cell(self._printable(label), style=FontFace(emphasis="BOLD"))
                row.cell(self._printable(text))

    def _write(self, style: str, size: int, height: float, text: str) -> None:
        self.set_font(_FAMILY, style, size)
        self.multi_cell(0, height, text, new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def _printable(self, text: str) -> str:
        return "".join(
            character if ord(character) in self._known else f"[U+{ord(character):04X}]"
            for character in text
        )


class _Signer(signers.Signer):
    """Lets pyHanko sign with the organisation key, without handing it over."""

    def __init__(self, organisation: OrganisationKey) -> None:
        certificate = x509.Certificate.load(organisation.certificate_der)
        super().__init__(
            signing_cert=certificate,
            signature_mechanism=SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}),
        )
        self._organisation = organisation

    async def async_sign_raw(
        self, data: bytes, digest_algorithm: str, dry_run: bool = False
    ) -> bytes:
        """Return the signature over the attributes that pyHanko gives."""
        return bytes(_SIGNATURE_BYTES) if dry_run else self._organisation.sign(data)


class _PdfSigner(signers.PdfSigner):
    """Signs at the time that it is told, not at that of the machine's clock."""

    def __init__(
        self, metadata: signers.PdfSignatureMetadata, signer: _Signer, at: dt.datetime
    ) -> None:
        super().__init__(metadata, signer)
        self._at = at

    def init_signing_session(
        self, pdf_out: BasePdfFileWriter, existing_fields_only: bool = False
    ) -> PdfSigningSession:
        """Begin to sign; see pyHanko."""
        session = super().init_signing_session(pdf_out, existing_fields_only)
        session.system_time = self._at
        return session
