"""The PDF of a certificate: signed, with the certificate in it, and all of it in words."""

import datetime as dt
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from certificate_samples import SIGNED, WHOLE, generations
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.pdf_utils.writer import copy_into_new_writer
from pypdf import PdfReader

from policy.assurance import AssuranceClass, Presence, ProviderKind
from policy.certificate import SignedCertificate
from policy.certificate_parts import Irrecoverability, Status, Tree, status_of
from policy.decision import Ground
from policy.selection_list import Waardering
from vault import certificate_words, organisation
from vault.certificate_pdf import render_pdf
from vault.certificate_reading import ATTACHMENT, read_pdf
from vault.certificate_words import Language, sections
from vault.errors import InvalidInput
from vault.organisation import OrganisationKey

ORIGIN = "datakluis.example/hoorn"
AT = dt.datetime(2026, 4, 3, 8, 30, 15, tzinfo=dt.UTC)


def make_key(folder) -> OrganisationKey:
    (folder / "signer").mkdir(parents=True)
    organisation.create(folder, "x", ORIGIN, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    return OrganisationKey.open(folder, "x")


@pytest.fixture(scope="module")
def key(tmp_path_factory, cheap_argon2):
    return make_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory, cheap_argon2):
    return make_key(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def signed(key):
    return WHOLE.sign(key.sign)


@pytest.fixture(scope="module")
def pdf(signed, key):
    return render_pdf(signed, key, AT)


def judge(data: bytes, *keys: OrganisationKey) -> str:
    """What the reader finds wrong with a PDF; empty for nothing."""
    try:
        return read_pdf(data, [one.certificate_der for one in keys]).fault
    except InvalidInput:
        return "unreadable"


# --- what is in it --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIGNED)
def test_the_certificate_comes_back_byte_for_byte(name, key):
    signed = SIGNED[name].certificate.sign(key.sign)
    content = read_pdf(render_pdf(signed, key, AT), [key.certificate_der])
    assert content.fault == ""
    assert content.attachment == signed.format()
    assert SignedCertificate.parse(content.attachment) == signed


def test_another_reader_finds_the_attachment_too(pdf, signed):
    reader = PdfReader(io.BytesIO(pdf))
    assert list(reader.attachments) == [ATTACHMENT]
    assert reader.attachments[ATTACHMENT] == [signed.format()]
    assert reader.metadata.title == "Verklaring van vernietiging / Certificate of destruction"


def test_it_is_signed_as_pades_for_no_change_at_the_time_given(pdf):
    (signature,) = PdfFileReader(io.BytesIO(pdf)).embedded_signatures
    assert signature.sig_object["/SubFilter"] == "/ETSI.CAdES.detached"
    assert signature.docmdp_level.name == "NO_CHANGES"
    assert signature.self_reported_timestamp == AT


def byte_range(pdf: bytes) -> tuple[bytes, bytes, int, int]:
    """What is signed, the signature in DER with its padding, and where its hex digits stand."""
    found = re.search(rb"/ByteRange \[ *(\d+) (\d+) (\d+) (\d+) *\]", pdf)
    first, length, second, rest = map(int, found.groups())
    assert (first, second + rest) == (0, len(pdf))
    contents = pdf[length + 1 : second - 1]
    return pdf[:length] + pdf[second:], bytes.fromhex(contents.decode()), length + 1, second - 1


def test_openssl_verifies_the_signature(pdf, key, tmp_path, missing_part):
    """Another implementation, which has never seen the library that signed."""
    openssl = shutil.which("openssl") or missing_part("openssl is not installed")
    content, signature, *_ = byte_range(pdf)
    length = 4 + int.from_bytes(signature[2:4], "big")
    (tmp_path / "signature.der").write_bytes(signature[:length])
    (tmp_path / "key.pem").write_bytes(key.certificate.public_bytes(Encoding.PEM))

    def verifies(content: bytes) -> bool:
        (tmp_path / "content").write_bytes(content)
        command = [openssl, "cms", "-verify", "-binary", "-inform", "DER", "-in", "signature.der"]
        command += ["-content", "content", "-certfile", "key.pem", "-noverify", "-out", "out"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        return done.returncode == 0

    assert verifies(content)
    assert not verifies(content.replace(b"/Page", b"/Pagf", 1))


# --- what it says ---------------------------------------------------------------------------------


def texts(pdf: bytes) -> list[str]:
    """The words of the Dutch and of the English pages, without blanks and page numbers."""
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages]
    begin = next(n for n, page in enumerate(pages) if page.startswith("Certificate of destruction"))
    parts = ("".join(pages[:begin]), "".join(pages[begin:]))
    return [squeeze(re.sub(r"[0-9a-f]{32} +\d+/\d+", "", part)) for part in parts]


def squeeze(text: str) -> str:
    return re.sub(r"\s+", "", text)


# Where a value is not printed as it stands in the file: its words, in Dutch and in English.
WORDS = {
    ("status", "erased"): ("Gewist. Het systeem kan", "Erased. The system cannot"),
    ("status", "irrecoverable"): ("Gewist en onherstelbaar", "Erased and irrecoverable"),
    ("status", "partial"): ("Gedeeltelijk", "Partial"),
    ("irrecoverability", "confirmed"): ("Bevestigd", "Confirmed"),
    ("irrecoverability", "scheduled"): ("is gepland", "is scheduled"),
    ("irrecoverability", "not-declared"): ("moet nog verklaren", "has not declared yet"),
    ("irrecoverability", "waiting"): ("nog in gebruik", "still in use"),
    ("irrecoverability", "failed"): ("is mislukt", "failed"),
    ("ground.name", "not-needed"): ("niet meer nodig", "no longer needed"),
    ("ground.name", "consent-withdrawn"): ("toestemming is ingetrokken", "consent was withdrawn"),
    ("ground.name", "unlawful"): ("onrechtmatig verwerkt", "processed unlawfully"),
    ("retention.waardering", "vernietigen"): ("vernietigen", "destroy (vernietigen)"),
    ("retention.waardering", "blijvend_bewaren"): ("blijvend bewaren", "keep for ever"),
    ("generations.tree", "ordinary"): ("gewone sleutelboom", "ordinary key tree"),
    ("generations.tree", "permanent"): ("van blijvend te bewaren gegevens", "kept for ever"),
    ("generations.provider", "file"): ("een sleutelbestand", "a key file"),
    ("generations.provider", "pkcs11"): ("sleutelmodule (PKCS#11)", "key module (PKCS#11)"),
    ("generations.provider", "transit"): ("sleuteldienst (transit)", "key service (transit)"),
    ("generations.provider", "awskms"): ("sleuteldienst (AWS KMS)", "key service (AWS KMS)"),
    ("generations.presence", "present"): ("sleutel is er nog", "key is still there"),
    ("generations.presence", "scheduled"): ("gepland om te verdwijnen", "scheduled to go"),
    ("generations.presence", "gone"): ("sleutel is weg", "key is gone"),
    ("generations.assurance.class", "declared"): (
        "verklaring van de beheerder",
        "declared by the operator",
    ),
    ("generations.assurance.class", "token"): (
        "woord van een sleutelmodule",
        "word of a key module",
    ),
    ("generations.assurance.class", "service"): ("woord van een eigen dienst", "of one's own"),
    ("generations.assurance.class", "managed"): ("woord van een leverancier", "of a supplier"),
}


def leaves(node: object, path: str = "") -> list[tuple[str, object]]:
    if isinstance(node, dict):
        return [
            leaf
            for key, child in node.items()
            for leaf in leaves(child, f"{path}.{key}".strip("."))
        ]
    if isinstance(node, list):
        return [leaf for child in node for leaf in leaves(child, path)]
    return [(path, node)]


def expected(path: str, value: object) -> tuple[str, str]:
    """What must stand on the Dutch and on the English pages for one value of the certificate."""
    if (path, value) in WORDS:
        return WORDS[path, value]
    text = str(value)
    if re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+Z", text):
        text = text.replace("T", " ").replace("Z", " UTC")
    if path.endswith("article"):
        return text.replace("GDPR", "AVG"), text
    if path.endswith(".nl"):
        return text, ""
    return ("" if path.endswith(".en") else text), text


@pytest.mark.parametrize("name", SIGNED)
def test_every_value_stands_on_the_pages_in_both_languages(name, key):
    signed = SIGNED[name].certificate.sign(key.sign)
    pages = texts(render_pdf(signed, key, AT))
    values = leaves(json.loads(signed.format())["certificate"])
    count = 0
    for path, value in values:
        if value is None:
            continue
        for page, words in zip(pages, expected(path, value), strict=True):
            assert squeeze(words) in page, (path, value)
            count += 1
    for page in pages:
        assert signed.digest().hex() in page
    print(f"{name}: {len(values)} values, {count} look-ups on the pages")
    assert count > 60


@pytest.mark.parametrize("name", SIGNED)
def test_what_is_absent_is_said_to_be(name):
    """No empty cell, and each question has an answer."""
    for language in Language:
        found = sections(SIGNED[name], language)
        assert len(found) == 8
        assert all(section.rows for section in found)
        assert all(label and text for section in found for label, text in section.rows)


def test_every_value_of_every_kind_has_words_of_its_own():
    tables = {
        Status: certificate_words._STATUS,
        Irrecoverability: certificate_words._IRRECOVERABILITY,
        Ground: certificate_words._GROUND,
        Waardering: certificate_words._WAARDERING,
        Tree: certificate_words._TREE,
        ProviderKind: certificate_words._PROVIDER,
        Presence: certificate_words._PRESENCE,
        AssuranceClass: certificate_words._ASSURANCE,
    }
    for kind, table in tables.items():
        assert set(table) == set(kind)
        for language in Language:
            assert len({words[language] for words in table.values()}) == len(kind)


def test_a_changed_statement_changes_the_pages(key):
    """Control: the pages are not the same whatever is stated."""
    other = replace(WHOLE, executor="een ander").sign(key.sign)
    assert "eenander" in texts(render_pdf(other, key, AT))[0]
    assert "eenander" not in texts(render_pdf(WHOLE.sign(key.sign), key, AT))[0]


def test_letters_of_every_name_and_what_the_font_lacks(key):
    names = "Łukasz Őry, Şükrü Yıldız, Ştefan, Dvořák, Ğülay, Þór, Æbelø, Ṭāriq, Ελένη, Юлия"
    one = replace(WHOLE, executor=f"{names}, 漢, 🗝").sign(key.sign)
    pages = texts(render_pdf(one, key, AT))
    for page in pages:
        for name in re.findall(r"\w+", names):
            assert name in page
        assert "[U+6F22],[U+1F5DD]" in page


def test_a_long_certificate_loses_nothing(key):
    many = generations(*range(1, 61))
    failures = tuple(f"{number} " + "lang " * 198 for number in range(20))
    failures = tuple(text.strip() for text in failures)
    status = status_of(WHOLE.irrecoverability, failures)
    one = replace(WHOLE, generations=many, failures=failures, status=status).sign(key.sign)
    pdf = render_pdf(one, key, AT)
    for page in texts(pdf):
        for generation in many:
            assert f"{generation.reference};" in page
        for text in failures:
            assert squeeze(text) in page
    assert judge(pdf, key) == ""


# --- tampering ------------------------------------------------------------------------------------


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_changed_byte_anywhere_is_seen(pdf, key):
    places = range(0, len(pdf), 397)
    found = [judge(flipped(pdf, place), key) for place in places]
    print(f"{len(places)} bytes changed one at a time, {sum(map(bool, found))} seen")
    assert all(found)
    assert judge(pdf, key) == ""


def test_a_changed_byte_of_the_signature_itself_is_seen(pdf, key):
    """Also in the zeros that fill up the room for it, which the signature does not cover."""
    _, _, start, end = byte_range(pdf)
    places = [*range(start, end, 163), *range(end - 4, end)]
    assert all(judge(flipped(pdf, place), key) for place in places)


def test_whatever_is_added_is_seen(pdf, key):
    assert judge(pdf + b"\n", key)
    assert judge(pdf + pdf, key)
    assert judge(b"\n" + pdf, key)
    writer = IncrementalPdfFileWriter(io.BytesIO(pdf))
    writer.root["/Comment"] = generic.pdf_string("niets is vernietigd")
    writer.update_root()
    output = io.BytesIO()
    writer.write(output)
    assert output.getvalue().startswith(pdf)
    assert judge(output.getvalue(), key)


def test_a_pdf_without_its_signature_is_not_trusted(pdf, key):
    writer = copy_into_new_writer(PdfFileReader(io.BytesIO(pdf)))
    del writer.root["/AcroForm"]
    output = io.BytesIO()
    writer.write(output)
    content = read_pdf(output.getvalue(), [key.certificate_der])
    assert content.fault == "it has 0 signatures, not one"


def test_the_signature_of_a_stranger_is_not_trusted(signed, key, stranger):
    """A genuine certificate in pages that somebody else made."""
    forged = render_pdf(signed, stranger, AT)
    assert judge(forged, key) == "no organisation that the trust file names signed it"
    assert judge(forged) == "no organisation that the trust file names signed it"
    assert judge(forged, key, stranger) == ""


@pytest.mark.parametrize("year", [2025, 2070])
def test_a_signature_outside_the_life_of_the_key_is_not_trusted(signed, key, year):
    late = render_pdf(signed, key, AT.replace(year=year))
    assert judge(late, key) == "the organisation's key was not valid when it was signed"


@pytest.mark.parametrize(
    "data", [b"", b"%PDF-", b"%PDF-1.7\n%%EOF\n", b"%PDF-2.0\n" + b"9" * 9_999, b"\x00" * 99]
)
def test_what_is_no_pdf_is_bad_input(data, key):
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_pdf(data, [key.certificate_der])


def test_a_pdf_that_was_cut_is_bad_input_or_not_trusted(pdf, key):
    assert all(judge(pdf[:length], key) for length in range(0, len(pdf), 499))


def test_a_pdf_with_another_attachment_is_bad_input(signed, key, monkeypatch):
    monkeypatch.setattr("vault.certificate_pdf.ATTACHMENT", "other.json")
    with pytest.raises(InvalidInput, match="one file attached"):
        read_pdf(render_pdf(signed, key, AT), [key.certificate_der])
