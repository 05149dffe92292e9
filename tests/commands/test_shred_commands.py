"""`kluis shred`, `certificate` and `rootkey`: what scripts and people see of them."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kluis_command import run
from watched_kluis import PASSPHRASE, PAYLOAD, SUBJECT

ROOT = Path(__file__).parents[2]
CERTIFICATE_KEYS = {
    "pointer",
    "status",
    "irrecoverability",
    "erased_at",
    "irrecoverable_at",
    "failures",
    "digest",
}
REPORT_KEYS = {"gone", "waiting", "certificates", "irrecoverable", "declared", "status"}
STATUS_KEYS = {"waiting", "step", "waits_for", "processes"}


@pytest.fixture
def erased(kluis):
    pointer = kluis.put()
    kluis.erase(pointer)
    return pointer


def key_files(kluis):
    return sorted(path.name for path in (kluis.folder / "keys").iterdir())


# shred


def test_a_shred_says_what_is_gone_and_that_nobody_declared_yet(kluis, erased):
    living = kluis.put()
    assert key_files(kluis) == ["permanent-1.key", "root-1.key"]
    ran = kluis("shred")
    assert ran.code == 0
    lines = ran.text.splitlines()
    assert lines[:2] == [
        "gone      generation 1 of the ordinary keys",
        "issued    1 certificate, 0 of irrecoverable erasure",
    ]
    assert re.fullmatch(
        r"waits     1 erasure, the oldest since .*: irrecoverability is not-declared:"
        r" see the certificate",
        lines[2],
    )
    assert key_files(kluis) == ["permanent-1.key", "root-2.key"]
    assert kluis.holds(living)
    stated = kluis("certificate", erased, "--json").json
    assert set(stated) == CERTIFICATE_KEYS
    assert (stated["pointer"], stated["status"], stated["irrecoverability"]) == (
        erased,
        "erased",
        "not-declared",
    )
    assert (stated["irrecoverable_at"], stated["failures"]) == (None, [])


def test_the_declaration_completes_it(kluis, erased):
    assert kluis("shred").code == 0
    first = kluis("certificate", erased, "--json").json
    ran = kluis("shred", "--no-copies-declared-by", "J. de Boer")
    assert ran.code == 0
    assert "declared  no copies of 1 key file" in ran.text
    assert ran.text.endswith("Every erasure is irrecoverable.\n")
    stated = kluis("certificate", erased, "--json").json
    assert (stated["status"], stated["irrecoverability"]) == ("irrecoverable", "confirmed")
    assert stated["irrecoverable_at"] >= stated["erased_at"]
    assert stated["digest"] != first["digest"]
    assert "J. de Boer" in kluis("certificate", erased).text
    again = kluis("shred", "--no-copies-declared-by", "J. de Boer", "--json").json
    assert (again["declared"], again["certificates"]) == (0, 0)


def test_shred_and_declaration_in_one_go_as_json(kluis, erased):
    ran = kluis("shred", "--no-copies-declared-by", "J. de Boer", "--json")
    assert ran.code == 0
    assert set(ran.json) == REPORT_KEYS
    assert ran.json["gone"] == [{"tree": "ordinary", "generation": 1}]
    assert (ran.json["waiting"], ran.json["certificates"], ran.json["declared"]) == ([], 1, 1)
    assert set(ran.json["status"]) == STATUS_KEYS
    assert ran.json["status"]["waiting"] == []


def test_the_status_says_what_waits_and_changes_nothing(kluis):
    assert kluis("shred", "--status").text == "Every erasure is irrecoverable.\n"
    assert kluis("shred", "--status", "--json").json == {
        "waiting": [],
        "step": None,
        "waits_for": None,
        "processes": [],
    }
    pointers = [kluis.put() for _ in range(3)]
    for pointer in pointers[:2]:
        kluis.erase(pointer)
    for _ in range(2):
        ran = kluis("shred", "--status")
        assert "2 erasures" in ran.text
        assert "the epoch is still open: run 'kluis shred'" in ran.text
        assert "OVERDUE" not in ran.text
        (one,) = kluis("shred", "--status", "--json").json["waiting"]
        assert set(one) == {"reason", "erasures", "since", "overdue"}
        assert (one["erasures"], one["overdue"]) == (2, False)
    assert key_files(kluis) == ["permanent-1.key", "root-1.key"]


def test_when_nothing_is_due_nothing_is_done(kluis, erased):
    untouched = kluis.state()
    living = kluis.put()
    assert kluis("shred").code == 0
    before = kluis.state()
    for _ in range(2):
        ran = kluis("shred")
        assert ran.code == 0
        assert ran.text.startswith("Nothing was erased since the last shred.\n")
        assert kluis.state() == before
    assert before != untouched
    assert kluis.holds(living)
    assert kluis("audit").code == 0


def test_a_vault_in_which_nothing_was_erased_keeps_its_root_keys(kluis):
    kluis.put()
    before = kluis.state()
    assert kluis("shred", "--json").json["gone"] == []
    assert kluis.state() == before


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--no-copies-declared-by", ""), "1 to 128 bytes"),
        (("--no-copies-declared-by", "a\nb"), "printable"),
        (("--no-copies-declared-by", " J. de Boer"), "space"),
        (("--status", "--no-copies-declared-by", "J. de Boer"), "--status"),
        (("--wait", "soon"), "--wait"),
        (("--wait", "-1"), "--wait"),
        (("--backup", "/does/not/exist/keys.kluis"), "/does/not/exist"),
    ],
)
def test_a_shred_that_is_not_understood_destroys_nothing(kluis, erased, arguments, word):
    ran = kluis("shred", *arguments)
    assert ran.code == 2
    assert word in ran.err
    assert key_files(kluis)[1] == "root-1.key"


def test_no_erasure_bears_a_name_that_no_certificate_can(kluis):
    pointer = kluis.put()
    for name in (" piet", "piet\ufffd", "piet\u200b"):
        refused = kluis("--actor", name, "erase", pointer, "--ground", "objection")
        assert refused.code == 2
    assert kluis.holds(pointer)
    done = kluis("--actor", "Zo\u00eb van der Ven", "erase", pointer, "--ground", "objection")
    assert done.code == 0
    assert kluis("shred").code == 0
    assert "Zo\u00eb van der Ven" in kluis("certificate", pointer).text


@pytest.fixture
def other_process(kluis):
    """Another process that has the vault open and does nothing."""
    code = (
        "import sys; from vault import Vault; Vault.open(sys.argv[1], sys.argv[2]);"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(kluis.folder), PASSPHRASE],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_that_keeps_its_lease_is_named_and_waited_for(kluis, erased, other_process):
    ran = kluis("shred", "--wait", "0.1")
    assert ran.code == 8
    assert f"process {other_process.pid}" in ran.err
    assert "run this again" in ran.err
    status = kluis("shred", "--status", "--json").json
    assert status["processes"] == [other_process.pid]
    assert str(other_process.pid) in status["waits_for"]
    assert f"waits for process {other_process.pid}" in kluis("shred", "--status").text
    assert kluis("certificate", erased).code == 5
    assert "root-1.key" in key_files(kluis)
    other_process.kill()
    other_process.wait()
    ran = kluis("shred", "--wait", "0.1")
    assert ran.code == 0
    assert "gone      generation 1" in ran.text
    assert kluis("certificate", erased).code == 0


def test_two_shreds_at_once_are_one(kluis, erased):
    with (kluis.folder / "leases" / "shredding.new").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ran = kluis("shred")
        assert ran.code == 8
        assert "another process" in ran.err
    assert kluis("shred").code == 0


# certificate


def test_there_is_no_certificate_before_the_shred(kluis):
    pointer = kluis.put()
    for arguments, word in (
        ((pointer,), "was not erased"),
        ((pointer, "--group", "contact"), "kluis shred"),
        (("a" * 26,), "no record"),
    ):
        ran = kluis("certificate", *arguments)
        assert ran.code == 5
        assert word in ran.err
        assert ran.out == b""
    kluis.erase(pointer)
    ran = kluis("certificate", pointer, "-o", "never.json", "--json")
    assert ran.code == 5
    assert "run 'kluis shred'" in ran.err
    assert not Path("never.json").exists()
    assert kluis("certificate", SUBJECT).code == 2


def test_files_are_written_where_the_user_stands(kluis, erased, desk):
    assert kluis("shred").code == 0
    printed = kluis("certificate", erased)
    assert printed.code == 0
    names = ("-o", "v.json", "--pdf", "v.pdf", "--proof", "bewijs.json")
    ran = kluis("certificate", erased, *names)
    assert (ran.code, ran.out) == (0, b"")
    assert sorted(path.name for path in desk.iterdir()) == ["bewijs.json", "v.json", "v.pdf"]
    assert (desk / "v.json").read_bytes() == printed.out
    assert (desk / "v.pdf").read_bytes().startswith(b"%PDF")
    assert kluis("certificate", erased, "-o", "-").out == printed.out
    for content in (path.read_bytes() for path in desk.iterdir()):
        for secret in kluis.secrets:
            assert secret.encode() not in content


@pytest.mark.parametrize("option", ["-o", "--pdf", "--proof"])
@pytest.mark.parametrize("target", [".", "missing/file"])
def test_a_target_that_cannot_be_written_is_named(kluis, desk, erased, option, target):
    assert kluis("shred").code == 0
    ran = kluis("certificate", erased, option, target)
    assert ran.code == 2
    assert f"{target} cannot be written" in ran.err
    assert list(desk.iterdir()) == []


def test_an_auditor_verifies_it_with_three_files_and_nothing_else(kluis, erased, desk, monkeypatch):
    assert kluis("shred", "--no-copies-declared-by", "J. de Boer").code == 0
    other = kluis.put()
    kluis.erase(other)
    assert kluis("shred").code == 0
    kluis("certificate", erased, "-o", "cert.json", "--pdf", "cert.pdf", "--proof", "proof.json")
    kluis("certificate", other, "-o", "other.json", "--proof", "other-proof.json")
    kluis("trust", "-o", "trust.json")
    kluis.folder.rename(kluis.folder.with_name("elsewhere"))
    monkeypatch.delenv("KLUIS_PASSPHRASE_FILE")

    def verify(certificate, proof="proof.json", *more):
        proving = ("--proof", proof) if proof else ()
        ran = run("verify", certificate, "--trust", "trust.json", *proving, *more)
        return kluis.watched(ran)

    for name in ("cert.json", "cert.pdf"):
        ran = verify(name)
        assert ran.code == 0, ran.err
        assert verify(name, "proof.json", "--json").json["verdict"] == "verified"
    assert verify("other.json", "other-proof.json").code == 0
    # Another certificate's proof proves nothing of this one.
    assert verify("cert.json", "other-proof.json").code == 1
    good = (desk / "cert.json").read_bytes()
    changes = [
        (b'"versions": 1', b'"versions": 2'),
        (b"J. de Boer", b"K. de Boer"),
        (b'"consent-withdrawn"', b'"objection"'),
        (erased.encode(), other.encode()),
        (b'"status": "irrecoverable"', b'"status": "erased"'),
    ]
    codes = []
    for old, new in changes:
        assert good.count(old) >= 1
        (desk / "cert.json").write_bytes(good.replace(old, new))
        codes.append(verify("cert.json").code)
    print(f"{len(changes)} changes, exits {codes}")
    assert set(codes) <= {1, 2}
    assert codes.count(1) >= 1
    # One that still reads well fails at its signature.
    (desk / "cert.json").write_bytes(good.replace(b"J. de Boer", b"K. de Boer"))
    assert verify("cert.json").code == 1
    (desk / "cert.json").write_bytes(good[:-20])
    assert verify("cert.json").code == 2


# rootkey


def test_root_keys_are_shown_with_what_they_are_worth(kluis, erased):
    shown = kluis("rootkey", "show")
    assert shown.code == 0
    assert "declared: " in shown.text
    assert kluis("shred").code == 0
    found = kluis("rootkey", "show", "--json").json["generations"]
    assert [(one["tree"], one["generation"], one["state"]) for one in found] == [
        ("ordinary", 1, "gone"),
        ("ordinary", 2, "open"),
        ("permanent", 1, "open"),
    ]
    assert found[0]["response"] == "file root-1.key is not there"
    assert {one["provider"] for one in found} == {"file"}


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("nowhere",), 2, "pkcs11"),
        (("file", "--option", "modul", "x"), 2, "modul"),
        (("pkcs11",), 2, "module"),
        (("pkcs11", "--option", "module", "x", "--option", "token", "y"), 2, "pin_file"),
        (
            ("pkcs11", "--option", "module", "x", "--option", "token", "y", "--option", "pin_file",
             "nope"),
            2,
            "nope",
        ),
        (("pkcs11", "--option", "module", "", "--option", "token", "y", "--option", "pin_file",
          "p"), 2, "module"),
        (("transit", "--option", "url", "x", "--option", "token_file", "t"), 2, "url"),
        (("awskms", "--option", "region", "eu-west-1"), 2, "role"),
        (("file", "--purpose", "reclame"), 3, "inzage"),
    ],
)  # fmt: skip
def test_a_move_that_is_not_understood_moves_nothing(kluis, arguments, code, word):
    pointer = kluis.put()
    (kluis.folder / "p").write_text("1234\n")
    (kluis.folder / "t").write_text("a token\n")
    before = kluis.state()
    ran = kluis("rootkey", "move", *arguments)
    assert ran.code == code, ran.err
    assert word in ran.err
    assert kluis.state() == before
    assert kluis.holds(pointer)


def test_a_move_to_where_they_are_says_so(kluis):
    before = kluis.state()
    ran = kluis("rootkey", "move", "file")
    assert (ran.code, ran.text) == (0, "The ordinary keys lie there already.\n")
    assert kluis.state() == before


def test_root_keys_move_to_a_token_and_back(kluis, softhsm):
    pointer = kluis.put()
    ran = kluis("rootkey", "move", "pkcs11", *softhsm)
    assert ran.code == 0
    assert ran.text == "gone      generation 1 of the ordinary keys\n"
    assert key_files(kluis) == ["permanent-1.key"]
    shown = kluis("rootkey", "show", "--json").json["generations"][1]
    assert (shown["provider"], shown["state"]) == ("pkcs11", "open")
    assert shown["assurance"].startswith("token: ")
    assert kluis.holds(pointer)
    gone = kluis.put()
    kluis.erase(gone)
    assert kluis("shred").code == 0
    stated = kluis("certificate", gone, "--json").json
    assert (stated["status"], stated["irrecoverability"]) == ("irrecoverable", "confirmed")
    assert kluis("rootkey", "move", "file").code == 0
    assert kluis.holds(pointer)
    # A token that was left for good takes its PIN file with it.
    (kluis.folder.parent / Path(softhsm[-1]).name).unlink()
    assert kluis("rootkey", "show").code == 0
    kluis.erase(pointer)
    assert kluis("shred").code == 0
    assert kluis("certificate", pointer).code == 0
    assert kluis("audit").code == 0


def test_a_token_that_does_not_let_in_moves_nothing_and_the_pin_is_not_told(kluis, softhsm):
    pointer = kluis.put()
    (kluis.folder / "wrong-pin").write_text("canary-of-a-pin\n")
    kluis.secrets.add("canary-of-a-pin")
    before = kluis.state()
    ran = kluis("rootkey", "move", "pkcs11", *softhsm[:-1], "wrong-pin")
    assert ran.code == 3
    assert "PinIncorrect" in ran.err
    ran = kluis("rootkey", "move", "pkcs11", *softhsm, "--option", "token", "another")
    assert ran.code == 8
    assert "another" in ran.err
    assert kluis.state() == before
    assert kluis.holds(pointer)
    assert kluis("rootkey", "move", "pkcs11", *softhsm).code == 0
    assert kluis.holds(pointer)


def test_permanent_keys_in_a_token_are_left_there_with_its_answer(kluis, softhsm):
    pointer = kluis.put("organisatie")
    assert kluis("rootkey", "move", "pkcs11", *softhsm, "--permanent").code == 0
    ran = kluis("rootkey", "move", "file", "--permanent")
    assert ran.code == 0
    assert ran.text.startswith("waiting   generation 2 of the permanent keys: token ")
    assert "not destroyable" in ran.text
    assert kluis.holds(pointer)
    again = kluis("shred", "--json").json
    assert [one["generation"] for one in again["waiting"]] == [2]


# The whole way, as processes


def test_a_transcript_from_within_the_vaults_folder(tmp_path):
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    environment = {**os.environ, "KLUIS_PASSPHRASE_FILE": str(tmp_path / "passphrase")}
    environment |= {"PYTHONPATH": str(ROOT)}

    def kluis(*arguments, folder, stdin=b"", code=0):
        done = subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            cwd=folder,
            env=environment,
            input=stdin,
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        for secret in (PASSPHRASE, SUBJECT, PAYLOAD):
            assert secret.encode() not in done.stderr + done.stdout
        return done.stdout.decode()

    vault = tmp_path / "hoorn"
    kluis("init", "hoorn", folder=tmp_path)
    put = ("put", "-", "--category", "nieuwsbrief", "--subject", SUBJECT)
    pointer = kluis(*put, folder=vault, stdin=PAYLOAD.encode()).strip()
    kluis("erase", "--subject", "-", "--ground", "objection", folder=vault, stdin=SUBJECT.encode())
    kluis("certificate", pointer, folder=vault, code=5)
    shown = kluis("shred", "--no-copies-declared-by", "J. de Boer", folder=vault)
    assert "gone      generation 1 of the ordinary keys" in shown
    kluis("certificate", pointer, "-o", "c.json", "--proof", "p.json", folder=vault)
    kluis("trust", "-o", "t.json", folder=vault)
    auditor = tmp_path / "auditor"
    auditor.mkdir()
    for name in ("c.json", "p.json", "t.json"):
        shutil.move(vault / name, auditor / name)
    verify = ("verify", "c.json", "--trust", "t.json", "--proof", "p.json")
    assert "certificate" in kluis(*verify, folder=auditor)
    (auditor / "c.json").write_bytes(
        (auditor / "c.json").read_bytes().replace(b"J. de Boer", b"K. de Boer")
    )
    kluis(*verify, folder=auditor, code=1)
