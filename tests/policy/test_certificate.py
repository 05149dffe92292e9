"""ST12: the certificate of destruction is strict, signed, and claims no more than it shows."""

import copy
import dataclasses
import datetime as dt
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from certificate_samples import (
    FILES,
    SIGNED,
    VECTOR,
    VECTORS,
    WHOLE,
    generations,
    generator,
    sign,
    with_generation,
)
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from policy.assurance import Assurance, AssuranceClass, Presence, ProviderKind
from policy.certificate import MAX_BYTES, Certificate, SignedCertificate
from policy.certificate_parts import (
    Approver,
    BackupHorizon,
    DecisionTaken,
    Declaration,
    ErasureEntry,
    Generation,
    InBoth,
    Irrecoverability,
    LegalGround,
    Retention,
    Status,
    Tree,
    irrecoverability_of,
    status_of,
)
from policy.certificate_rules import ENTRY_BYTES, MAX_ITEMS
from policy.decision import DecisionCode, Ground
from policy.errors import InvalidPolicy
from policy.selection_list import Waardering

KEY = load_der_public_key(bytes.fromhex(VECTOR["public_key"]))
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
FILE = FILES["irrecoverable"]
SCHEMA = json.loads(
    (VECTORS.parents[1] / "policy" / "schemas" / "certificate-1.schema.json").read_text("utf-8")
)
SECOND = dt.timedelta(seconds=1)


def at(*numbers: int) -> dt.datetime:
    return dt.datetime(*numbers, tzinfo=dt.UTC)


def accepted(data: bytes) -> SignedCertificate | None:
    try:
        return SignedCertificate.parse(data)
    except InvalidPolicy:
        return None


# --- goldens --------------------------------------------------------------------------------------


def test_the_generator_writes_the_same_bytes():
    for name, content in generator.files().items():
        assert (VECTORS / name).read_text(encoding="utf-8") == content


@pytest.mark.parametrize("golden", VECTOR["files"], ids=lambda golden: golden["name"])
def test_goldens_are_read_written_and_verified_for_ever(golden):
    data = golden["certificate"].encode()
    signed = SignedCertificate.parse(data)
    assert signed.format() == data
    assert signed.verify_signature(KEY)
    assert signed.digest() == hashlib.sha256(data).digest()
    assert signed.digest().hex() == golden["sha256"]


def test_control_goldens_under_another_key():
    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
    other_curve = ec.generate_private_key(ec.SECP384R1()).public_key()
    assert not any(one.verify_signature(stranger) for one in SIGNED.values())
    assert not any(one.verify_signature(other_curve) for one in SIGNED.values())


def test_a_golden_written_out_in_code():
    declared = Assurance(
        AssuranceClass.DECLARED,
        "Wie het sleutelbestand heeft gekopieerd en de wachtzin kent, opent deze generatie.",
        "Whoever copied the key file and knows the passphrase opens this generation.",
    )
    generation = Generation(
        tree=Tree.ORDINARY,
        number=1,
        provider=ProviderKind.FILE,
        reference="root-1.key",
        assurance=declared,
        presence=Presence.GONE,
        response="file root-1.key is not there",
        asked_at=at(2026, 4, 1, 2, 0, 9),
        gone_at=at(2026, 4, 1, 2, 0, 9),
        declaration=Declaration(
            "Şükran Yıldız",
            at(2026, 4, 2, 9, 15, 0),
            'Er bestaat geen kopie: noch op "tape", noch op C:\\keys.',
        ),
    )
    assert (
        Certificate(
            serial=bytes.fromhex(json.loads(FILE)["certificate"]["serial"]),
            origin="datakluis.example/hoorn",
            pointer="aaisem2ekvthpcezvk54zxpo74",
            versions=2,
            field_groups=(),
            status=Status.IRRECOVERABLE,
            erased_at=at(2026, 3, 15, 14, 3, 5),
            irrecoverable_at=at(2026, 4, 2, 9, 15, 0),
            issued_at=at(2026, 4, 2, 9, 15, 1),
            ground=LegalGround.of(Ground.CONSENT_WITHDRAWN),
            decision=DecisionTaken(DecisionCode.D10, "Art. 17(1)(b) GDPR", "erasure-1"),
            retention=None,
            destruction_list=None,
            approvers=(),
            executor="burgerzaken",
            systems=("vault datakluis.example/hoorn",),
            manner=InBoth(
                "De sleutels zijn gewist en de versleutelde inhoud is verwijderd.",
                "The keys were erased and the sealed content was removed.",
            ),
            exclusions=(),
            failures=(),
            irrecoverability=Irrecoverability.CONFIRMED,
            generations=(generation,),
            backup_horizon=BackupHorizon(30, dt.date(2026, 4, 14)),
            erasure_entry=ErasureEntry(
                6, bytes.fromhex("0102000000112233445566778899aabbccddeeff00000002")
            ),
        )
        == WHOLE
    )


def test_the_signature_is_over_the_bytes_in_the_file(tmp_path, missing_part):
    """Cut out with nothing but the brackets of the file, and verified by another program."""
    openssl = shutil.which("openssl") or missing_part("openssl is not installed")
    start = FILE.index(b'"certificate": ') + len(b'"certificate": ')
    body = FILE[start : FILE.index(b',\n  "signature"')]
    (tmp_path / "signed").write_bytes(b"datakluis-certificate/1\n" + body)
    (tmp_path / "signature").write_bytes(SIGNED["irrecoverable"].signature)
    (tmp_path / "key.der").write_bytes(bytes.fromhex(VECTOR["public_key"]))
    command = [openssl, "dgst", "-sha256", "-keyform", "DER", "-verify", "key.der"]
    command += ["-signature", "signature", "signed"]

    def verifies() -> bool:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return "Verified OK" in done.stdout

    assert verifies()
    (tmp_path / "signed").write_bytes(body)
    assert not verifies()


# --- strictness -----------------------------------------------------------------------------------


def test_every_bit_of_a_certificate_is_bound():
    """A flipped bit gives no certificate, or one whose signature fails."""
    refused = unsigned = 0
    for place in range(len(FILE) * 8):
        flipped = bytearray(FILE)
        flipped[place // 8] ^= 1 << place % 8
        signed = accepted(bytes(flipped))
        if signed is None:
            refused += 1
        else:
            assert not signed.verify_signature(KEY)
            unsigned += 1
    print(f"{len(FILE) * 8} bits flipped: {refused} files refused, {unsigned} signatures failed")
    assert unsigned > len(FILE)


@pytest.mark.parametrize("name", FILES)
def test_every_byte_of_every_golden_is_bound(name):
    data, refused = FILES[name], 0
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        signed = accepted(changed)
        refused += signed is None
        assert signed is None or not signed.verify_signature(KEY)
    print(f"{len(data)} bytes changed, {refused} files refused, the other signatures failed")


@pytest.mark.parametrize("length", range(0, len(FILE), 7))
def test_a_certificate_that_was_cut_is_none(length):
    assert accepted(FILE[:length]) is None


@given(st.data())
def test_only_what_is_written_is_accepted_near_goldens(data):
    whole = FILES[data.draw(st.sampled_from(sorted(FILES)))]
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 20)))
    new = data.draw(
        st.sampled_from([b"", b"\n", b'"', b"\\ud800", b" ", b"0", b"9", b"e", b"\xff", b"null"])
    )
    mutant = whole[:start] + new + whole[end:]
    signed = accepted(mutant)
    assert signed is None or signed.format() == mutant
    assert mutant == whole or signed is None or not signed.verify_signature(KEY)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def places(node: object, path: tuple = ()) -> list[tuple]:
    """The path of each value in a document."""
    found = [path] if path else []
    items = node.items() if isinstance(node, dict) else enumerate(node)
    if isinstance(node, dict | list):
        for key, child in items:
            found += places(child, (*path, key)) if isinstance(child, dict | list) else []
            if not isinstance(child, dict | list):
                found.append((*path, key))
    return found


def put(document: dict, path: tuple, value: object) -> dict:
    changed = copy.deepcopy(document)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return changed


def written(document: dict) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(
        errors="surrogatepass"
    )


@given(st.sampled_from(sorted(FILES)), st.data(), JSON)
def test_no_value_in_any_place_breaks_the_parser(name, data, value):
    document = json.loads(FILES[name])
    mutant = written(put(document, data.draw(st.sampled_from(places(document))), value))
    signed = accepted(mutant)
    assert signed is None or signed.format() == mutant


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_break_the_parser(data):
    assert accepted(data) is None


def test_the_places_are_all_found():
    assert len(places(json.loads(FILE))) > 45


SPELLINGS = {
    "empty": b"",
    "an array": b"[]\n",
    "another format": FILE.replace(b"certificate/1", b"certificate/2"),
    "another algorithm": FILE.replace(b"ecdsa-p256-sha256", b"ecdsa-p384-sha384"),
    "no final newline": FILE[:-1],
    "two final newlines": FILE + b"\n",
    "byte order mark": b"\xef\xbb\xbf" + FILE,
    "UTF-16": FILE.decode().encode("utf-16"),
    "other indentation": FILE.replace(b"  ", b" "),
    "hex in capitals": FILE.replace(b'"0102', b'"0102').replace(b"ccddeeff", b"CCDDEEFF"),
    "a member twice": FILE.replace(b'"versions": 2,', b'"versions": 2,\n    "versions": 2,'),
    "an extra member": FILE.replace(b'"versions": 2,', b'"versions": 2,\n    "comment": "x",'),
    "an extra member of the file": FILE[:-3] + b',\n  "comment": "x"\n}\n',
    "no signature": FILE[: FILE.index(b',\n  "signature"')] + b"\n}\n",
    "a number that is true": FILE.replace(b'"versions": 2', b'"versions": true'),
    "a number that is a text": FILE.replace(b'"versions": 2', b'"versions": "2"'),
    "a number with a point": FILE.replace(b'"versions": 2', b'"versions": 2.0'),
    "a long number": FILE.replace(b'"versions": 2', b'"versions": ' + b"9" * 5_000),
    "another zone": FILE.replace(b"14:03:05Z", b"14:03:05+00:00"),
    "no zone": FILE.replace(b"14:03:05Z", b"14:03:05"),
    "a fraction of a second": FILE.replace(b"14:03:05Z", b"14:03:05.5Z"),
    "a day that is none": FILE.replace(b"2026-03-15T", b"2026-02-30T"),
    "an escape that is longer": FILE.replace(b"burgerzaken", b"\\u0062urgerzaken"),
    "half a character": FILE.replace(b"burgerzaken", b"\\ud800"),
    "a text of two lines": FILE.replace(b"burgerzaken", b"burger\\nzaken"),
    "a text that is empty": FILE.replace(b"burgerzaken", b""),
    "a text that begins blank": FILE.replace(b"burgerzaken", b" burgerzaken"),
    "a text that turns": FILE.replace(b"burgerzaken", "burger\u202ezaken".encode()),
    "a text with what is unseen": FILE.replace(b"burgerzaken", "burger\u200bzaken".encode()),
    "a text that is too long": FILE.replace(b"burgerzaken", b"x" * 1_001),
    "a file that is too long": FILE + b" " * MAX_BYTES,
    "nesting without end": b'{"format": ' + b"[" * 100_000,
    "an unknown status": FILE.replace(b'"irrecoverable",', b'"gone",'),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_another_spelling_is_refused(name):
    assert SPELLINGS[name] != FILE
    assert accepted(SPELLINGS[name]) is None


def test_control_the_longest_text_is_accepted():
    long = replace(WHOLE, executor="é" * 1_000).sign(sign)
    assert SignedCertificate.parse(long.format()) == long


def test_no_second_signature_can_be_made_from_the_first():
    signed = SIGNED["irrecoverable"]
    r, s = decode_dss_signature(signed.signature)
    twin = replace(signed, signature=encode_dss_signature(r, ORDER - s))
    assert not twin.verify_signature(KEY)
    assert accepted(twin.format()) is None
    padded = b"\x30" + bytes([len(signed.signature) - 1]) + b"\x02" + signed.signature[3:]
    for other in (b"", b"\x30\x00", signed.signature + b"\x00", padded, encode_dss_signature(0, 1)):
        assert accepted(replace(signed, signature=other).format()) is None
        assert not replace(signed, signature=other).verify_signature(KEY)


def test_a_high_signature_is_written_low():
    def high(data: bytes) -> bytes:
        r, s = decode_dss_signature(sign(data))
        return encode_dss_signature(r, max(s, ORDER - s))

    assert WHOLE.sign(high).verify_signature(KEY)


def test_what_could_not_be_read_is_not_signed():
    for wrong in (
        replace(WHOLE, executor="two\nlines"),
        replace(WHOLE, executor=""),
        replace(WHOLE, approvers=(Approver("\ud800", "archivaris"),)),
    ):
        with pytest.raises((InvalidPolicy, UnicodeEncodeError)):
            wrong.sign(sign)


# --- the rules ------------------------------------------------------------------------------------

DUTY = Retention("Selectielijst", "2020", "8.1.7", Waardering.VERNIETIGEN, dt.date(2025, 12, 31))
LISTED = SIGNED["by a destruction list"].certificate
WAITING = SIGNED["waiting"].certificate
SCHEDULED = SIGNED["scheduled"].certificate
PARTIAL = SIGNED["partial"].certificate
UNCLAIMED = {
    "status": Status.ERASED,
    "irrecoverability": Irrecoverability.NOT_DECLARED,
    "irrecoverable_at": None,
}


def decided(code: DecisionCode) -> DecisionTaken:
    return replace(WHOLE.decision, code=code)


def entry(**changes: object) -> ErasureEntry:
    return replace(WHOLE.erasure_entry, **changes)


TOKEN = Assurance(AssuranceClass.TOKEN, "x", "x")
BROKEN = [
    (replace(WHOLE, serial=bytes(15)), "a serial of 15 bytes"),
    (replace(WHOLE, pointer="aaisem2ekvthpcezvk54zxpo7"), "a pointer that is not"),
    (replace(WHOLE, pointer="aaisem2ekvthpcezvk54zxpo7b"), "a pointer that is not"),
    (replace(WHOLE, versions=0), "counts 0 versions"),
    (replace(WHOLE, versions=2**32), "counts 4294967296 versions"),
    (replace(WHOLE, erasure_entry=entry(index=-1)), "names leaf -1"),
    (replace(WHOLE, erasure_entry=entry(index=2**63)), "names leaf"),
    (replace(WHOLE, erasure_entry=entry(entry=bytes(23))), "an erasure entry of 23 bytes"),
    (replace(WHOLE, systems=()), "names no system"),
    (replace(WHOLE, systems=("x", "x")), "names one system twice"),
    (replace(WHOLE, field_groups=("x", "x")), "names one field group twice"),
    (replace(WHOLE, approvers=(Approver("x", "y"),) * 2), "names one approver twice"),
    (replace(WHOLE, exclusions=("x",) * (MAX_ITEMS + 1)), "a list of more than"),
    (replace(WHOLE, generations=()), "names no generation"),
    (replace(WHOLE, ground=LegalGround(Ground.OBJECTION, "x")), "on another article"),
    *(
        (replace(WHOLE, decision=decided(code)), f"rests on {code}, which erases nothing")
        for code in (DecisionCode.D2, DecisionCode.D3, DecisionCode.D7, DecisionCode.D8)
    ),
    (replace(WHOLE, retention=DUTY), "D10 in spite of a retention duty"),
    (replace(LISTED, retention=None), "D9 without an archiefactiedatum"),
    (replace(LISTED, retention=replace(DUTY, archiefactiedatum=None)), "without an archiefactie"),
    (
        replace(LISTED, retention=replace(DUTY, waardering=Waardering.BLIJVEND_BEWAREN)),
        "was to be kept for ever",
    ),
    (
        replace(LISTED, retention=replace(DUTY, archiefactiedatum=dt.date(2026, 3, 16))),
        "before the archiefactiedatum had passed",
    ),
    (replace(LISTED, destruction_list=None), "D9 without a destruction list"),
    (replace(WHOLE, erased_at=WHOLE.erased_at.replace(tzinfo=None)), "not UTC to the second"),
    (replace(WHOLE, issued_at=WHOLE.issued_at.replace(microsecond=1)), "not UTC to the second"),
    (
        replace(WHOLE, issued_at=WHOLE.issued_at.astimezone(dt.timezone(dt.timedelta(hours=1)))),
        "not UTC to the second",
    ),
    (with_generation(WHOLE, gone_at=dt.datetime(2026, 4, 1)), "not UTC to the second"),
    (replace(WAITING, issued_at=WAITING.erased_at - SECOND), "before the record was erased"),
    (
        with_generation(WHOLE, asked_at=WHOLE.issued_at + SECOND),
        "before what it says of the root keys",
    ),
    (
        with_generation(WHOLE, gone_at=WHOLE.issued_at + SECOND),
        "before what it says of the root keys",
    ),
    (
        replace(WHOLE, irrecoverable_at=WHOLE.irrecoverable_at - SECOND),
        "claims irrecoverability before its conditions were met",
    ),
    (replace(WHOLE, irrecoverable_at=WHOLE.issued_at + SECOND), "or before it is so"),
    (replace(WHOLE, backup_horizon=BackupHorizon(-1, dt.date(2026, 4, 1))), "of -1 days"),
    (replace(WHOLE, backup_horizon=BackupHorizon(36_501, dt.date(2026, 4, 1))), "of 36501 days"),
    (
        replace(WHOLE, backup_horizon=BackupHorizon(30, dt.date(2026, 3, 14))),
        "that ends before the erasure",
    ),
    (replace(WHOLE, generations=generations(1, 3)), "a gap or another order after generation 1"),
    (replace(WHOLE, generations=generations(2, 1)), "a gap or another order after generation 2"),
    (replace(WHOLE, generations=generations(1, 1)), "a gap or another order after generation 1"),
    (
        replace(PARTIAL, generations=PARTIAL.generations[::-1]),
        "a gap or another order after generation 2",
    ),
    (replace(WHOLE, generations=generations(0)), "no number that a generation has"),
    (replace(WHOLE, generations=generations(2**56)), "no number that a generation has"),
    (with_generation(WHOLE, response=None), "a time without an answer"),
    (with_generation(WHOLE, response=None, asked_at=None), "gone without the provider's answer"),
    (
        with_generation(SCHEDULED, response=None, asked_at=None),
        "scheduled without the provider's answer",
    ),
    (with_generation(WHOLE, gone_at=None), "is gone without a time"),
    (with_generation(WAITING, 1, gone_at=WAITING.erased_at), "present and has a time"),
    (
        with_generation(WAITING, 1, declaration=WHOLE.generations[0].declaration),
        "declared gone though it is present",
    ),
    (with_generation(WHOLE, assurance=TOKEN), "a declaration that it does not call for"),
    (
        with_generation(SCHEDULED, declaration=WHOLE.generations[0].declaration),
        "a declaration that it does not call for",
    ),
    # Irrecoverable is claimed only when all of it was shown.
    (with_generation(WHOLE, declaration=None), "confirmed where the generations say not-declared"),
    (
        with_generation(WHOLE, presence=Presence.SCHEDULED, declaration=None),
        "confirmed where the generations say scheduled",
    ),
    (
        with_generation(WHOLE, presence=Presence.PRESENT, declaration=None, gone_at=None),
        "confirmed where the generations say waiting",
    ),
    (replace(WHOLE, **UNCLAIMED), "not-declared where the generations say confirmed"),
    (replace(WHOLE, irrecoverable_at=None), "a moment of irrecoverability without it"),
    (replace(WAITING, irrecoverable_at=WAITING.issued_at), "without it, or the other way round"),
    (replace(WHOLE, status=Status.ERASED), "the status erased where irrecoverable is due"),
    (replace(WHOLE, failures=("x",)), "the status irrecoverable where partial is due"),
    (replace(WHOLE, status=Status.PARTIAL), "the status partial where irrecoverable is due"),
    (replace(WAITING, status=Status.IRRECOVERABLE), "the status irrecoverable where erased is due"),
    (replace(PARTIAL, failures=()), "the status partial where erased is due"),
]


@pytest.mark.parametrize(("wrong", "words"), BROKEN, ids=[words for _, words in BROKEN])
def test_a_statement_that_breaks_a_rule_is_neither_signed_nor_read(wrong, words):
    with pytest.raises(InvalidPolicy, match=re.escape(words)):
        wrong.check()
    with pytest.raises(InvalidPolicy):
        wrong.sign(sign)
    with pytest.raises(InvalidPolicy):
        SignedCertificate.parse(SignedCertificate(wrong, SIGNED["waiting"].signature).format())


KEPT = {
    "erased on the day before, in UTC": replace(
        LISTED, retention=replace(DUTY, archiefactiedatum=dt.date(2026, 3, 15))
    ),
    "D2b in spite of a duty": replace(WHOLE, decision=decided(DecisionCode.D2B), retention=DUTY),
    "D5 without a duty": replace(WHOLE, decision=decided(DecisionCode.D5)),
    "destroying failed though all are gone": replace(
        WHOLE,
        status=Status.ERASED,
        irrecoverability=Irrecoverability.FAILED,
        irrecoverable_at=None,
    ),
    "partial and irrecoverable": replace(WHOLE, failures=("x",), status=Status.PARTIAL),
    "scheduled for no day": with_generation(SCHEDULED, gone_at=None),
    "present, and asked": with_generation(
        WAITING, 1, response="Enabled", asked_at=WAITING.issued_at
    ),
    "all at once": replace(WHOLE, issued_at=WHOLE.irrecoverable_at),
    "a generation gone before the erasure": with_generation(
        WHOLE, asked_at=at(2026, 1, 1), gone_at=at(2026, 1, 1)
    ),
    "only the permanent tree": replace(
        PARTIAL, generations=tuple(g for g in PARTIAL.generations if g.tree is Tree.PERMANENT)
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_control_what_keeps_the_rules_is_signed_and_read(name):
    signed = KEPT[name].sign(sign)
    assert SignedCertificate.parse(signed.format()) == signed
    assert signed.verify_signature(KEY)


def test_what_generations_amount_to():
    """All gone, and declared where needed, or not irrecoverable."""
    undeclared = {"declaration": None}
    kinds = {
        "present": with_generation(WHOLE, presence=Presence.PRESENT, gone_at=None, **undeclared),
        "scheduled": with_generation(WHOLE, presence=Presence.SCHEDULED, **undeclared),
        "undeclared": with_generation(WHOLE, **undeclared),
        "declared": WHOLE,
        "token": with_generation(WHOLE, assurance=TOKEN, **undeclared),
    }
    worst = ("present", "scheduled", "undeclared")
    expected = {
        "present": Irrecoverability.WAITING,
        "scheduled": Irrecoverability.SCHEDULED,
        "undeclared": Irrecoverability.NOT_DECLARED,
    }
    combinations = list(product(kinds, repeat=3))
    for names in combinations:
        found = irrecoverability_of(tuple(kinds[name].generations[0] for name in names))
        bad = next((name for name in worst if name in names), None)
        assert found is (Irrecoverability.CONFIRMED if bad is None else expected[bad])
    assert len(combinations) == 125


def test_what_a_destruction_amounts_to():
    for found in Irrecoverability:
        assert status_of(found, ("x",)) is Status.PARTIAL
        confirmed = found is Irrecoverability.CONFIRMED
        assert status_of(found, ()) is (Status.IRRECOVERABLE if confirmed else Status.ERASED)


TEXT = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=30).filter(
    lambda text: (
        text == text.strip(" ") and not re.search("[\ufff9-\uffff\U000e0000-\U000e0fff]", text)
    )
)


@st.composite
def valid(draw) -> Certificate:
    """A certificate that keeps the rules, with all else free."""
    numbers = st.integers(1, 2**56 - 4)
    first = draw(numbers)
    made = []
    for number in range(first, first + draw(st.integers(1, 3))):
        presence = draw(st.sampled_from(Presence))
        kind = draw(st.sampled_from(AssuranceClass))
        present = presence is Presence.PRESENT
        gone = presence is Presence.GONE
        declared = gone and kind is AssuranceClass.DECLARED and draw(st.booleans())
        made.append(
            Generation(
                Tree.ORDINARY,
                number,
                draw(st.sampled_from(ProviderKind)),
                draw(TEXT),
                Assurance(kind, draw(TEXT), draw(TEXT)),
                presence,
                None if present else draw(TEXT),
                None if present else at(2026, 4, 1),
                None if present else at(2026, 4, 1),
                Declaration(draw(TEXT), at(2026, 4, 2), draw(TEXT)) if declared else None,
            )
        )
    failures = tuple(draw(st.lists(TEXT, max_size=2)))
    found = irrecoverability_of(tuple(made))
    confirmed = found is Irrecoverability.CONFIRMED
    ground = draw(st.sampled_from(Ground))
    return replace(
        WHOLE,
        serial=draw(st.binary(min_size=16, max_size=16)),
        origin=draw(TEXT),
        versions=draw(st.integers(1, 2**32 - 1)),
        field_groups=tuple(draw(st.lists(TEXT, max_size=3, unique=True))),
        status=status_of(found, failures),
        irrecoverable_at=WHOLE.irrecoverable_at if confirmed else None,
        ground=LegalGround.of(ground),
        destruction_list=draw(st.none() | TEXT),
        executor=draw(TEXT),
        exclusions=tuple(draw(st.lists(TEXT, max_size=2))),
        failures=failures,
        irrecoverability=found,
        generations=tuple(made),
        erasure_entry=ErasureEntry(draw(st.integers(0, 2**63 - 1)), draw(st.binary(max_size=24))),
    )


@given(valid())
def test_whatever_keeps_the_rules_comes_back_and_fits_the_schema(one):
    if len(one.erasure_entry.entry) != ENTRY_BYTES:
        with pytest.raises(InvalidPolicy):
            one.check()
        one = replace(one, erasure_entry=WHOLE.erasure_entry)
    signed = one.sign(sign)
    data = signed.format()
    assert SignedCertificate.parse(data) == signed
    assert signed.verify_signature(KEY)
    assert schema_faults(json.loads(data)) == []


# --- the schema -----------------------------------------------------------------------------------

VALIDATOR = Draft202012Validator(SCHEMA)


def schema_faults(document: object) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors(document)]


def test_the_schema_is_one_and_ships_with_the_room():
    Draft202012Validator.check_schema(SCHEMA)
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^policy = \[.*"schemas/\*\.json"', pyproject, re.MULTILINE)


@pytest.mark.parametrize("name", FILES)
def test_all_goldens_fit_the_schema(name):
    assert schema_faults(json.loads(FILES[name])) == []


def schema_objects(node: object) -> list[dict]:
    if isinstance(node, list):
        return [found for child in node for found in schema_objects(child)]
    if not isinstance(node, dict):
        return []
    own = [node] if node.get("type") == "object" else []
    return own + [found for child in node.values() for found in schema_objects(child)]


def test_the_schema_is_strict_in_every_object_and_names_members_in_order():
    found = schema_objects(SCHEMA)
    assert len(found) == 13
    for schema in found:
        assert schema["additionalProperties"] is False
        assert schema["required"] == list(schema["properties"])
    fields = [field.name for field in dataclasses.fields(Certificate)]
    assert SCHEMA["$defs"]["certificate"]["required"] == fields


def test_the_schema_names_every_value_that_the_code_knows():
    def values(*path: str) -> list[str]:
        node = SCHEMA["$defs"]
        for key in path:
            node = node[key]
        return node["enum"]

    def of(name: str, *path: str) -> list[str]:
        return values(name, "properties", *path)

    assert of("certificate", "status") == list(Status)
    assert of("certificate", "irrecoverability") == list(Irrecoverability)
    assert of("ground", "name") == list(Ground)
    assert set(of("decision", "code")) < set(DecisionCode)
    assert of("retention", "waardering") == list(Waardering)
    assert of("generation", "tree") == list(Tree)
    assert of("generation", "provider") == list(ProviderKind)
    assert of("generation", "presence") == list(Presence)
    assert of("generation", "assurance", "properties", "class") == list(AssuranceClass)


def test_a_certificate_without_a_member_does_not_fit():
    document = json.loads(FILES["by a destruction list"])
    count = 0
    for path in places(document):
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        if isinstance(parent, dict):
            changed = copy.deepcopy(document)
            node = changed
            for key in path[:-1]:
                node = node[key]
            del node[path[-1]]
            assert schema_faults(changed) != []
            assert accepted(written(changed)) is None
            count += 1
    print(f"{count} members left out, one at a time")
    assert count > 60


MUTANTS = {
    "another format": (("format",), "datakluis-certificate/2"),
    "extra member": (("comment",), "x"),
    "extra member of the certificate": (("certificate", "comment"), "x"),
    "extra member of a generation": (("certificate", "generations", 0, "comment"), "x"),
    "another algorithm": (("signature", "algorithm"), "rsa"),
    "signature in capitals": (("signature", "value"), "30AB"),
    "signature that is too long": (("signature", "value"), "30" * 73),
    "short serial": (("certificate", "serial"), "00" * 15),
    "empty origin": (("certificate", "origin"), ""),
    "origin of two lines": (("certificate", "origin"), "a\nb"),
    "origin that ends in a newline": (("certificate", "origin"), "a\n"),
    "text that ends blank": (("certificate", "executor"), "a "),
    "text that turns": (("certificate", "executor"), "a\u202eb"),
    "text with a tag": (("certificate", "executor"), "a\U000e0041b"),
    "text that is too long": (("certificate", "executor"), "x" * 1_001),
    "pointer with spare bits": (("certificate", "pointer"), "aaisem2ekvthpcezvk54zxpo7b"),
    "no version": (("certificate", "versions"), 0),
    "half a version": (("certificate", "versions"), 1.5),
    "group twice": (("certificate", "field_groups"), ["x", "x"]),
    "unknown status": (("certificate", "status"), "gone"),
    "time with a fraction": (("certificate", "erased_at"), "2026-03-15T14:03:05.5Z"),
    "time without a zone": (("certificate", "issued_at"), "2026-03-15T14:03:05"),
    "another article": (("certificate", "ground", "article"), "Art. 18 GDPR"),
    "decision that keeps": (("certificate", "decision", "code"), "D7"),
    "unknown waardering": (("certificate", "retention", "waardering"), "verkopen"),
    "day of a time": (("certificate", "retention", "archiefactiedatum"), "2026-03-15T14:03:05Z"),
    "approver without a role": (("certificate", "approvers"), [{"name": "x"}]),
    "no system": (("certificate", "systems"), []),
    "manner in one language": (("certificate", "manner"), {"nl": "x"}),
    "no generation": (("certificate", "generations"), []),
    "generation 0": (("certificate", "generations", 0, "number"), 0),
    "unknown provider": (("certificate", "generations", 0, "provider"), "drawer"),
    "unknown class": (("certificate", "generations", 0, "assurance", "class"), "sworn"),
    "declaration that is a text": (("certificate", "generations", 0, "declaration"), "x"),
    "backup of -1 days": (("certificate", "backup_horizon", "days"), -1),
    "leaf of 2**63": (("certificate", "erasure_entry", "index"), 2**63),
    "entry cut short": (("certificate", "erasure_entry", "entry"), "0102"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_other_certificates_do_not_fit_and_are_not_read(name):
    document = json.loads(FILES["by a destruction list"])
    mutant = put(document, *MUTANTS[name])
    assert mutant != document
    assert schema_faults(mutant) != []
    assert accepted(written(mutant)) is None
