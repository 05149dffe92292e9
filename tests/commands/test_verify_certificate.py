"""`kluis verify` of a certificate of destruction: as JSON, as PDF, with and without its proof."""

import datetime as dt
import importlib
import json
import sys
from dataclasses import replace

import pytest
from certificate_samples import FILES, SIGNED, WHOLE, generator, load_generator, sign
from kluis_command import run

from anchor.errors import OtherOrigin
from anchor.evidence import Evidence, Group
from anchor.statement import AnchorStatement
from anchor.steps import Step, StepState, Verdict
from commands.checking import CertificateStep, check_certificate
from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.entry import encode_certificate, encode_erasure, encode_version, parse_entry
from ledger.note import Note
from ledger.note import sign as sign_note
from ledger.pointer import parse_pointer
from ledger.tlogproof import LogProof
from policy.certificate import SignedCertificate
from policy.certificate_parts import ErasureEntry
from vault.certificate_pdf import render_pdf
from vault.organisation import OrganisationKey, _self_signed

world = load_generator("generate_anchor")
POINTER = parse_pointer(WHOLE.pointer)
OTHER = bytes(range(16))
ERASURE = 6
FROM = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ORGANISATION = OrganisationKey(generator.KEY, _self_signed(generator.KEY, WHOLE.origin, FROM))
STRANGER = OrganisationKey(
    world.organisation_key("stranger"),
    _self_signed(world.organisation_key("stranger"), WHOLE.origin, FROM),
)
SIGNED_ONE = SIGNED["irrecoverable"]
FILE = FILES["irrecoverable"]
TRUST = replace(world.trust("one"), organisation_certificates=(ORGANISATION.certificate_der,))


def prove(*later: bytes, leaf: int = ERASURE + 1, origin: str = WHOLE.origin) -> Evidence:
    """Evidence of one leaf of a log: versions, the erasure of the golden, and what is given."""
    leaves = [encode_version(OTHER, number, bytes(32)) for number in range(1, ERASURE + 1)]
    leaves += [encode_erasure(POINTER, 2), *later]

    def read_hash(level: int, index: int) -> bytes:
        if level == 0:
            return merkle.leaf_hash(leaves[index])
        below = (read_hash(level - 1, 2 * index), read_hash(level - 1, 2 * index + 1))
        return merkle.node_hash(*below)

    size = len(leaves)
    verifier, key = world.FIRST
    text = Checkpoint(origin, size, merkle.root(size, read_hash)).text()
    note = Note(text, (sign_note(text, verifier.name, key),))
    hashes = tuple(merkle.inclusion_proof(leaf, size, read_hash))
    group = Group(LogProof(leaf, hashes, note), AnchorStatement.of(note, [verifier]), ())
    return Evidence(parse_entry(leaves[leaf]), (group,))


def entry_of(signed: SignedCertificate, pointer: bytes = POINTER, group: int = 0) -> bytes:
    return encode_certificate(pointer, 1, signed.digest(), group)


PROOF = prove(entry_of(SIGNED_ONE))


@pytest.fixture
def verify(tmp_path):
    """Run `kluis verify` on a file, a trust file and perhaps a proof."""

    def one(file: bytes, trust=TRUST, proof: Evidence | bytes | None = PROOF, *options: str):
        (tmp_path / "file").write_bytes(file)
        (tmp_path / "trust.json").write_bytes(trust if isinstance(trust, bytes) else trust.format())
        arguments = ["verify", tmp_path / "file", "--trust", tmp_path / "trust.json", *options]
        if proof is not None:
            data = proof if isinstance(proof, bytes) else proof.format()
            (tmp_path / "proof.json").write_bytes(data)
            arguments += ["--proof", tmp_path / "proof.json"]
        return run(*arguments)

    return one


def states(ran) -> dict[str, str]:
    return {step["step"]: step["state"] for step in ran.json["steps"]}


# --- verified -------------------------------------------------------------------------------------


def test_a_certificate_with_its_proof_is_verified(verify):
    ran = verify(FILE, TRUST, PROOF, "--json")
    assert ran.code == 0
    assert ran.json["verdict"] == "verified"
    assert [step["number"] for step in ran.json["steps"]] == [1, 2, 3, 4, 5, 6]
    assert [step["step"] for step in ran.json["steps"]] == list(CertificateStep)
    assert states(ran) == dict.fromkeys(CertificateStep, "passed") | {
        "pdf-signature": "not checked"
    }
    assert ran.err == ""


def test_what_is_printed_for_people(verify):
    ran = verify(FILE)
    assert ran.code == 0
    lines = ran.text.splitlines()
    assert [line.split()[:2] for line in lines[:6]] == [
        [str(number), step] for number, step in enumerate(CertificateStep, 1)
    ]
    assert SIGNED_ONE.digest().hex() in lines[0]
    assert lines[6] == (
        "The organisation behind the log datakluis.example/hoorn certified on 2026-04-02T09:15:01Z"
        " that record aaisem2ekvthpcezvk54zxpo74 was erased at 2026-03-15T14:03:05Z, irrecoverable"
        " since 2026-04-02T09:15:00Z."
    )
    assert lines[7].startswith("Not proven: that the erasure entry is in the ledger")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("waiting", "not established yet to be irrecoverable"),
        ("scheduled", "not established yet to be irrecoverable"),
        ("not declared", "not established yet to be irrecoverable"),
        ("partial", "but only in part: what failed stands in the certificate"),
        ("by a destruction list", "irrecoverable since"),
    ],
)
def test_the_sentence_says_no_more_than_the_certificate(verify, name, words):
    ran = verify(FILES[name], TRUST, prove(entry_of(SIGNED[name])))
    assert ran.code == 0
    assert words in ran.text


def test_a_field_group_is_named(verify):
    one = SIGNED["field group"].certificate
    erasure = ErasureEntry(ERASURE + 1, one.erasure_entry.entry)
    signed = replace(one, erasure_entry=erasure).sign(sign)
    later = (erasure.entry, entry_of(signed, group=3))
    ran = verify(signed.format(), TRUST, prove(*later, leaf=ERASURE + 2))
    assert ran.code == 0
    assert "that contact of record" in ran.text
    wrong = (erasure.entry, entry_of(signed, group=2))
    ran = verify(signed.format(), TRUST, prove(*wrong, leaf=ERASURE + 2))
    assert ran.code == 1
    assert "another field group" in ran.text


@pytest.mark.parametrize("name", FILES)
def test_another_proven_version_of_the_file_is_not_this_one(verify, name):
    """Control: only the golden that the proof is of is verified by it."""
    assert verify(FILES[name]).code == (0 if name == "irrecoverable" else 1)


# --- incomplete -----------------------------------------------------------------------------------


def test_a_proof_that_is_not_brought_is_not_checked_and_not_proven(verify):
    ran = verify(FILE, TRUST, None)
    assert ran.code == 0
    assert "ledger-proof   not checked  bring evidence of the certificate's own entry" in ran.text
    assert "Not proven: that the ledger holds this certificate" in ran.text
    assert "that the ledger holds this certificate" not in verify(FILE, TRUST).text


def test_without_the_organisation_it_is_incomplete(verify):
    ran = verify(FILE, replace(TRUST, organisation_certificates=()))
    assert ran.code == 7
    assert "Incomplete: signature is required" in ran.text


def test_a_proof_that_lacks_a_required_step_is_incomplete(verify):
    ran = verify(FILE, replace(TRUST, require=(*TRUST.require, Step.PUBLIC_ANCHOR)))
    assert ran.code == 7
    assert "requires public-anchor" in ran.text


# --- failed ---------------------------------------------------------------------------------------


def fails(ran, step: CertificateStep, words: str) -> None:
    assert ran.code == 1
    (line,) = [line for line in ran.text.splitlines() if line[2:].startswith(step)]
    assert " failed " in line
    assert words in line
    assert f"Not verified: {step} failed. Trust nothing in this certificate." in ran.text
    assert len(ran.err.splitlines()) == 1


def test_the_signature_of_somebody_else(verify):
    trust = replace(TRUST, organisation_certificates=(STRANGER.certificate_der,))
    fails(verify(FILE, trust), CertificateStep.SIGNATURE, "no organisation that the trust file")
    both = (STRANGER.certificate_der, ORGANISATION.certificate_der)
    assert verify(FILE, replace(TRUST, organisation_certificates=both)).code == 0


@pytest.mark.parametrize("year", [1990, 2027])
def test_a_key_that_was_not_valid_on_the_day_of_issue(verify, year):
    own = OrganisationKey(
        generator.KEY, _self_signed(generator.KEY, WHOLE.origin, FROM.replace(year=year))
    )
    trust = replace(TRUST, organisation_certificates=(own.certificate_der,))
    fails(verify(FILE, trust), CertificateStep.SIGNATURE, "was not valid on 2026-04-02T09:15:01Z")
    # Another certificate of the same key, which was.
    both = (own.certificate_der, ORGANISATION.certificate_der)
    assert verify(FILE, replace(TRUST, organisation_certificates=both)).code == 0


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (encode_erasure(OTHER, 2), "found the erasure of"),
        (encode_erasure(POINTER, 1), "version 2, found the"),
        (encode_erasure(POINTER, 3), "version 2, found the"),
        (encode_erasure(POINTER, 2, 3), "differ on whether the whole was erased"),
        (b"\x01\x04\x00\x00" + POINTER + bytes(3) + b"\x02", "found the shred of"),
        (b"\x02" + encode_erasure(POINTER, 2)[1:], "entry format 2"),
        (encode_erasure(POINTER, 2)[:-4] + bytes(4), "version 0"),
    ],
)
def test_an_erasure_entry_of_something_else(verify, entry, words):
    signed = replace(WHOLE, erasure_entry=ErasureEntry(ERASURE, entry)).sign(sign)
    ran = verify(signed.format(), replace(TRUST, require=()), None)
    fails(ran, CertificateStep.ERASURE_ENTRY, words)


def test_a_group_without_an_entry_of_its_own(verify):
    one = replace(SIGNED["field group"].certificate, erasure_entry=WHOLE.erasure_entry)
    ran = verify(one.sign(sign).format(), replace(TRUST, require=()), None)
    fails(ran, CertificateStep.ERASURE_ENTRY, "differ on whether the whole was erased")


@pytest.mark.parametrize(
    ("proof", "words"),
    [
        (prove(entry_of(SIGNED["waiting"])), "expected the entry of SHA-256"),
        (prove(entry_of(SIGNED_ONE, OTHER)), "a certificate of another record"),
        (prove(entry_of(SIGNED_ONE, group=1)), "a certificate of another field group"),
        (prove(entry_of(SIGNED_ONE), leaf=ERASURE), "of the kind erasure, not of a certificate"),
        (prove(entry_of(SIGNED_ONE), leaf=0), "of the kind version, not of a certificate"),
    ],
)
def test_a_proof_of_something_else(verify, proof, words):
    fails(verify(FILE, TRUST, proof), CertificateStep.LEDGER_PROOF, words)


def test_a_certificate_that_stands_before_its_erasure(verify):
    signed = replace(WHOLE, erasure_entry=replace(WHOLE.erasure_entry, index=ERASURE + 1)).sign(
        sign
    )
    ran = verify(signed.format(), TRUST, prove(entry_of(signed)))
    fails(ran, CertificateStep.LEDGER_PROOF, "before the erasure that it certifies")


def test_a_proof_that_proves_nothing(verify):
    group = PROOF.groups[0]
    hashes = (bytes(32), *group.proof.hashes[1:])
    wrong = replace(PROOF, groups=(replace(group, proof=replace(group.proof, hashes=hashes)),))
    fails(verify(FILE, TRUST, wrong), CertificateStep.LEDGER_PROOF, "inclusion failed")
    stranger = replace(TRUST, log_keys=(world.LogKey(world.STRANGER[0]),))
    fails(verify(FILE, stranger), CertificateStep.LEDGER_PROOF, "log-signature, statement failed")


def test_a_statement_that_was_never_read_from_a_file():
    """The steps are checked by themselves, whoever made the object."""
    wrong = replace(SIGNED_ONE, certificate=replace(WHOLE, failures=("x",)))
    report = check_certificate(wrong, TRUST, PROOF)
    found = {result.step: result.state for result in report.steps}
    assert report.verdict is Verdict.FAILED
    for step in (CertificateStep.FORMAT, CertificateStep.SIGNATURE, CertificateStep.STATEMENT):
        assert found[step] is StepState.FAILED


def test_every_bit_of_the_file_is_bound(verify):
    """No change of one bit verifies; every 13th place, the others in tests of the format."""
    verdicts = set()
    for place in range(0, len(FILE), 13):
        data = FILE[:place] + bytes([FILE[place] ^ 1]) + FILE[place + 1 :]
        verdicts.add(verify(data).code)
    assert verdicts == {1, 2}


# --- bad input ------------------------------------------------------------------------------------


def refused(ran, words: str) -> None:
    assert ran.code == 2
    assert ran.out == b""
    (line,) = ran.err.splitlines()
    assert words in line


def test_a_file_that_is_no_certificate_says_so(verify):
    refused(verify(FILE[:-40]), "the certificate is not JSON")
    refused(verify(FILE.replace(b"certificate/1", b"certificate/2", 1)), "another format")
    refused(verify(b' {"format":"datakluis-certificate/1"}'), "the certificate")
    refused(verify(json.dumps(json.loads(FILE)).encode()), "is not as this software writes it")
    refused(verify(FILE, TRUST.format()[:-9]), "the trust file")
    refused(verify(FILE, TRUST, b"{}"), "the evidence file")


def test_a_certificate_of_another_ledger(verify):
    elsewhere = replace(WHOLE, origin="elders.example").sign(sign)
    refused(verify(elsewhere.format()), "elders.example")
    with pytest.raises(OtherOrigin):
        check_certificate(elsewhere, TRUST)
    refused(
        verify(FILE, TRUST, prove(entry_of(SIGNED_ONE), origin="elders.example")), "elders.exam"
    )


def test_a_proof_goes_with_a_certificate_alone(verify):
    assert verify(PROOF.format(), TRUST, None).code == 0
    refused(verify(PROOF.format(), TRUST, PROOF), "--proof goes with a certificate")


# --- PDF ------------------------------------------------------------------------------------------

AT = dt.datetime(2026, 4, 3, 8, 30, 15, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def pdf():
    return render_pdf(SIGNED_ONE, ORGANISATION, AT)


def test_a_pdf_is_verified_with_what_is_in_it(verify, pdf):
    ran = verify(pdf, TRUST, PROOF, "--json")
    assert ran.code == 0
    assert states(ran) == dict.fromkeys(CertificateStep, "passed")
    assert verify(pdf, TRUST, None).code == 0


def test_a_pdf_that_was_changed_or_made_by_another_is_not(verify, pdf):
    forged = render_pdf(SIGNED_ONE, STRANGER, AT)
    ran = verify(forged)
    fails(ran, CertificateStep.PDF_SIGNATURE, "no organisation that the trust file names")
    added = pdf + b"%\n"
    fails(verify(added), CertificateStep.PDF_SIGNATURE, "the PDF: ")
    refused(verify(pdf[:2_000]), "the PDF cannot be read")
    refused(verify(b"%PDF-1.7"), "the PDF cannot be read")


def test_where_pyhanko_is_not_installed_it_says_how(verify, pdf, monkeypatch):
    monkeypatch.delitem(sys.modules, "vault.certificate_reading")
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyhanko"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyhanko", None)
    monkeypatch.delattr(importlib.import_module("vault"), "certificate_reading", raising=False)
    refused(verify(pdf), "pip install 'datakluis[pdf]'")
    # The certificate itself needs it not.
    assert verify(FILE).code == 0
