"""The whole way with the official test persons of the national register.

Each record goes in by the command and comes out byte for byte; each is proven and verified; some
are rectified and erased (ER1, ER9, RE1, LG1, LG4, ST1, ST3). The file holds names with diacritics,
incomplete dates, duplicated numbers, and numbers that start with 0.
"""

import json
from collections import defaultdict

import pytest
from kluis_command import Kluis, run

from anchor.evidence import Evidence
from anchor.steps import Verdict
from anchor.trust import TrustFile
from anchor.verify import verify
from vault import Erased, Ground, Vault

FIELD = "/persoon/0/burgerservicenummer"
PASSPHRASE = "een lange zin die niemand raadt"


@pytest.fixture(scope="module")
def persons(test_persons):
    """Lines of the file, and the lines of each subject."""
    lines = test_persons.read_bytes().splitlines()
    by_subject = defaultdict(list)
    for line in lines:
        by_subject[json.loads(line)["persoon"][0]["burgerservicenummer"]].append(line)
    return lines, by_subject


@pytest.fixture(scope="module")
def imported(test_persons, persons, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    (folder / "passphrase").write_text(PASSPHRASE + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KLUIS_PASSPHRASE_FILE", str(folder / "passphrase"))
        assert run("init", folder / "vault").code == 0
        kluis = Kluis(folder / "vault")
        done = kluis(
            "import", test_persons, "--category", "kindpakket", "--subject-field", FIELD,
            "--brondatum", "2025-12-31", "--json",
        )  # fmt: skip
        assert done.code == 0, done.err
        assert done.json["records"] == len(persons[0])
        assert done.json["rejected"] == 0
        assert kluis("anchor", "run").code == 0
        yield kluis


@pytest.fixture
def vault(imported):
    with Vault.open(imported.folder, PASSPHRASE) as vault:
        yield vault


def test_every_record_comes_back_byte_for_byte_and_verifies(vault, persons):
    lines, by_subject = persons
    trust = TrustFile.parse(vault.trust().format())
    verified = 0
    for subject, own in by_subject.items():
        pointers = vault.find(subject)
        assert sorted(vault.get(pointer) for pointer in pointers) == sorted(own)
        for pointer in pointers:
            report = verify(Evidence.parse(vault.prove(pointer).format()), trust)
            verified += report.verdict is Verdict.VERIFIED
    print(f"{verified} of {len(lines)} test persons back byte for byte, proven and verified")
    assert verified == len(lines)


def test_no_number_or_name_of_a_person_lies_in_the_vault_in_the_clear(imported, persons):
    """PR2, PR3, with the input file itself as the control."""
    _, by_subject = persons
    stored = b"".join(path.read_bytes() for path in imported.folder.rglob("*") if path.is_file())
    given = b"\n".join(line for lines in by_subject.values() for line in lines)
    assert sum(subject.encode() in stored for subject in by_subject) == 0
    assert all(subject.encode() in given for subject in by_subject)


def test_some_are_rectified_some_erased_and_the_rest_still_verify(vault, persons):
    lines, by_subject = persons
    subjects = sorted(by_subject)
    trust = vault.trust()
    pointers = {subject: vault.find(subject)[0] for subject in subjects[:60]}
    old_proofs = {subject: vault.prove(pointers[subject]) for subject in subjects[:60]}
    for subject in subjects[:20]:
        assert vault.rectify(pointers[subject], b"v2 of " + subject.encode()) == 2
    newsletters = [
        vault.put(by_subject[subject][0], category="nieuwsbrief", subject=subject)
        for subject in subjects[20:60]
    ]
    vault.checkpoint()
    shredded_proofs = [vault.prove(pointer) for pointer in newsletters]
    for pointer in newsletters:
        vault.erase(pointer, Ground.CONSENT_WITHDRAWN)
        with pytest.raises(Erased):
            vault.get(pointer)
    for subject in subjects[:20]:
        assert vault.get(pointers[subject]) == b"v2 of " + subject.encode()
    proofs = [*old_proofs.values(), *shredded_proofs, *map(vault.prove, newsletters)]
    assert all(verify(proof, trust).verdict is Verdict.VERIFIED for proof in proofs)
    report = vault.audit()
    print(f"{len(proofs)} proofs verified after 20 rectifications and 40 erasures")
    assert report.faults == []
    assert report.counts["versions"] == len(lines) + 20


def test_erasure_of_a_listed_record_is_refused_with_its_date(imported, persons):
    """ER3, ST3: the benefit ended on 31-12-2025 and its term is seven years (D8)."""
    subject = sorted(persons[1])[0]
    pointer = imported("find", "--subject", "-", stdin=subject.encode()).text.split()[0]
    ran = imported("erase", pointer, "--ground", "not-needed", "--json")
    assert ran.code == 3
    assert ran.json["code"] == "D8"
    assert ran.json["article"] == "Art. 17(3)(b) GDPR"
    assert ran.json["date"] == "2032-12-31"


def test_the_same_import_again_doubles_nothing(imported, test_persons, persons):
    again = imported(
        "import", test_persons, "--category", "kindpakket", "--subject-field", FIELD,
        "--brondatum", "2025-12-31", "--json",
    )  # fmt: skip
    assert again.code == 0, again.err
    assert (again.json["records"], again.json["already"]) == (0, len(persons[0]))
