"""The command line as scripts see it: verbs, exit codes, JSON, and one line for each error."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kluis_command import Kluis, run

import cli
from vault import keyfile

PASSPHRASE = "correct paard batterij nietje"
POINTER = "a" * 26
SECRET = "Zoë-Geheim-7d1"
BSN = "999990019"
PAYLOAD = SECRET.encode()
TO_STORE = ("put", "-", "--category", "wmo", "--subject", "s")


@pytest.fixture(scope="module", autouse=True)
def cheap_keys():
    """Argon2id at full cost is tested in tests/vault/test_keyfile.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyfile, "_MEMORY_KIB", 64)
        patch.setattr(keyfile, "_ITERATIONS", 1)
        yield


@pytest.fixture
def passphrase_file(tmp_path, monkeypatch):
    path = tmp_path / "passphrase"
    path.write_text(PASSPHRASE + "\n")
    monkeypatch.setenv("KLUIS_PASSPHRASE_FILE", str(path))
    return path


@pytest.fixture
def kluis(tmp_path, passphrase_file):
    made = run("init", tmp_path / "vault", "--origin", "datakluis.example/test", "--json")
    assert made.code == 0, made.err
    assert made.json == {"folder": str(tmp_path / "vault"), "origin": "datakluis.example/test"}
    return Kluis(tmp_path / "vault")


def put(kluis, payload=PAYLOAD, category="nieuwsbrief", subject=BSN, *more):
    path = kluis.folder.parent / "payload"
    path.write_bytes(payload)
    ran = kluis("put", path, "--category", category, "--subject", subject, *more)
    assert ran.code == 0, ran.err
    return ran.text.strip()


def assert_one_line(ran, code, *words):
    """Bad news is one line on standard error, without a traceback and without what was stored."""
    assert ran.code == code, ran.err
    lines = ran.err.splitlines()
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("kluis: ")
    assert "Traceback" not in ran.err
    assert SECRET not in ran.err
    assert BSN not in ran.err
    for word in words:
        assert word in ran.err


def test_put_prints_the_pointer_alone_and_get_gives_the_bytes_back(kluis):
    payload = b"\x00\xff\r\n" + SECRET.encode() + b"\n"
    path = kluis.folder.parent / "payload"
    path.write_bytes(payload)
    ran = kluis("put", path, "--category", "wmo", "--subject", "-", stdin=BSN.encode() + b"\n")
    assert ran.code == 0
    assert re.fullmatch(r"[a-z2-7]{26}\n", ran.text)
    assert kluis("get", ran.text.strip(), "--purpose", "inzage").out == payload
    again = kluis("put", "-", "--category", "wmo", "--subject", BSN, "--json", stdin=payload)
    assert kluis("get", again.json["pointer"]).out == payload
    assert kluis("find", "--subject", BSN, "--json").json == {
        "pointers": [ran.text.strip(), again.json["pointer"]]
    }


def test_the_folder_comes_from_the_option_or_the_environment(kluis, monkeypatch):
    pointer = put(kluis)
    monkeypatch.setenv("KLUIS_DIR", str(kluis.folder))
    assert run("get", pointer).out == SECRET.encode()


def test_wait_returns_with_a_checkpoint_that_includes_the_record(kluis):
    pointer = put(kluis, b"x", "wmo", BSN, "--wait")
    assert kluis("history", pointer, "--json").json["versions"][0]["index"] == 0
    ran = kluis("checkpoint")
    assert ran.text.startswith("datakluis.example/test\n1\n")
    assert kluis("checkpoint", "--json").json["note"] == ran.text


def test_history_names_actor_and_purpose(kluis):
    pointer = put(kluis)
    assert (
        run("--actor", "loket", "-C", kluis.folder, "rectify", pointer, "-", stdin=b"2").code == 0
    )
    ran = kluis("rectify", pointer, "-", "--actor", "archief", "--json", stdin=b"3")
    assert ran.json == {"pointer": pointer, "version": 3}
    versions = kluis("history", pointer, "--json").json["versions"]
    assert [version["actor"] for version in versions] == ["beheer", "loket", "archief"]
    assert {version["purpose"] for version in versions} == {"inzage"}
    assert kluis("get", pointer).out == b"3"


def test_erase_says_what_would_happen_then_does_it_then_says_it_was_done(kluis):
    """ER1, ER3, D10, D2: exit 0, then exit 4 with the index of the erasure entry."""
    pointer = put(kluis)
    rehearsal = kluis("erase", pointer, "--ground", "consent-withdrawn", "--dry-run", "--json")
    assert (rehearsal.code, rehearsal.json["outcome"], rehearsal.json["code"]) == (
        0,
        "allowed",
        "D10",
    )
    assert kluis("get", pointer).code == 0
    done = kluis("erase", pointer, "--ground", "consent-withdrawn", "--json")
    assert (done.code, done.json["outcome"], done.json["article"]) == (
        0,
        "erased",
        "Art. 17(1)(b) GDPR",
    )
    assert_one_line(kluis("get", pointer), 4, pointer)
    assert_one_line(kluis("rectify", pointer, "-", stdin=b"2"), 4, pointer)
    again = kluis("erase", pointer, "--ground", "consent-withdrawn", "--json")
    assert (again.code, again.json["code"], again.json["index"]) == (4, "D2", 1)
    assert kluis("find", "--subject", BSN, "--json").json == {"pointers": []}
    assert kluis("audit").code == 0


@pytest.mark.parametrize(
    ("category", "dates", "ground", "outcome", "code", "date"),
    [
        ("kindpakket", ("2024-06-30", "2021-01-01"), "not-needed", "refused", "D8", "2031-06-30"),
        ("kindpakket", (None, "2021-01-01"), "objection", "refused", "D8", None),
        ("kindpakket", ("2001-06-30", "2021-01-01"), "not-needed", "queued", "D9", "2008-06-30"),
        ("organisatie", (None, "2021-01-01"), "not-needed", "refused", "D7", None),
        ("wmo", ("2024-02-29", "2024-03-01"), "not-needed", "refused", "D8", "2039-02-28"),
        ("wmo", (None, None), "unlawful", "refused", "D5", None),
        ("wmo", (None, None), "legal-duty", "refused", "D2b", None),
        ("nieuwsbrief", (None, None), "unlawful", "refused", "D5", None),
        ("nieuwsbrief", (None, None), "child-service", "allowed", "D10", None),
    ],
)
def test_each_decision_reaches_the_script(kluis, category, dates, ground, outcome, code, date):
    """ER3: outcome, D-code, article and date, with exit 3 for whatever is not erased."""
    options = []
    for name, value in zip(("--brondatum", "--record-date"), dates, strict=True):
        options += [name, value] if value else []
    pointer = put(kluis, b"x", category, BSN, *options)
    ran = kluis("erase", pointer, "--ground", ground, "--dry-run", "--json")
    assert (ran.json["outcome"], ran.json["code"], ran.json["date"]) == (outcome, code, date)
    assert ran.json["article"].startswith("Art. ")
    assert ran.code == (0 if outcome == "allowed" else 3)
    if ground in ("unlawful", "legal-duty"):
        assert "archivist" in ran.json["needs"]
        assert "archivist" in ran.err
    real = kluis("erase", pointer, "--ground", ground)
    assert real.code == ran.code
    assert (kluis("get", pointer).code == 0) is (outcome != "allowed")


def test_prove_trust_and_verify_work_without_the_vault(kluis, tmp_path):
    """LG4: the auditor has two files and nothing else."""
    pointer = put(kluis)
    assert kluis("anchor", "run", "--json").json["anchors"][0]["size"] == 1
    assert kluis("prove", pointer, "-o", tmp_path / "e.json").code == 0
    (tmp_path / "t.json").write_bytes(kluis("trust").out)
    kluis.folder.rename(tmp_path / "elsewhere")
    ran = run("verify", tmp_path / "e.json", "--trust", tmp_path / "t.json", "--json")
    assert (ran.code, ran.json["verdict"]) == (0, "verified")
    assert [step["number"] for step in ran.json["steps"]] == list(range(1, 10))
    text = run("verify", tmp_path / "e.json", "--trust", tmp_path / "t.json").text
    assert "no date proven" in text
    assert "Not proven: uniqueness" in text


def test_verify_tells_wrong_from_unreadable_from_incomplete(kluis, tmp_path):
    pointer = put(kluis)
    evidence = kluis("prove", pointer).out
    trust = kluis("trust").out

    def verify(evidence, trust):
        (tmp_path / "e.json").write_bytes(evidence)
        (tmp_path / "t.json").write_bytes(trust)
        return run("verify", tmp_path / "e.json", "--trust", tmp_path / "t.json")

    assert verify(evidence, trust).code == 0
    place = evidence.index(b'"entry"') + 90
    digit = b"1" if evidence[place : place + 1] == b"0" else b"0"
    wrong = evidence[:place] + digit + evidence[place + 1 :]
    assert_one_line(verify(wrong, trust), 1, "inclusion")
    assert_one_line(verify(evidence[:-40], trust), 2, "evidence")
    assert_one_line(verify(evidence, trust[:-40]), 2, "trust")
    other = trust.replace(b'"origin": "datakluis.example/test"', b'"origin": "other.example"')
    assert_one_line(verify(evidence, other), 2, "other.example")
    stricter = trust.replace(b'"inclusion"\n', b'"inclusion",\n    "public-anchor"\n')
    assert_one_line(verify(evidence, stricter), 7, "public-anchor")


def test_disclosed_evidence_opens_the_payload_until_it_is_erased(kluis):
    """ER9: the shredded entry still proves inclusion, and cannot be opened any more."""
    pointer = put(kluis)
    opened = json.loads(kluis("prove", pointer, "--disclose").out)
    assert set(opened["opening"]) == {"commitment_key", "payload"}
    assert kluis("erase", pointer, "--ground", "consent-withdrawn").code == 0
    assert kluis("prove", pointer).code == 0
    assert_one_line(kluis("prove", pointer, "--disclose"), 4)


def test_audit_reports_what_was_changed_and_where(kluis):
    import sqlite3

    pointer = put(kluis)
    assert kluis("audit", "--json").json["faults"] == []
    with sqlite3.connect(kluis.folder / "vault.db") as database:
        database.execute("UPDATE vault_record SET category = 'wmo'")
    database.close()
    ran = kluis("audit", "--json")
    assert ran.code == 1
    assert any(pointer in fault["where"] for fault in ran.json["faults"])
    (kluis.folder / "vault.db").write_bytes(b"SQLite format 3\x00" + bytes(5000))
    ran = kluis("audit", "--json")
    assert ran.code == 1
    assert len(ran.json["faults"]) == 1


def test_a_wrong_pointer_or_an_unknown_one(kluis):
    assert_one_line(kluis("get", POINTER), 5, POINTER)
    assert_one_line(kluis("get", BSN), 2, "26 characters")
    assert_one_line(kluis("erase", POINTER, "--ground", "objection"), 5)
    assert_one_line(kluis("prove", POINTER), 5)
    assert_one_line(kluis("history", POINTER), 5)


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("put", "-", "--category", "geen", "--subject", "s"), 2, "kindpakket"),
        (("put", "-", "--category", "wmo", "--subject", ""), 2, "1 to 256 bytes"),
        (("put", "-", "--category", "wmo", "--subject", "s" * 257), 2, "257"),
        (("put", "-", "--category", "wmo", "--subject", "-"), 2, "cannot both"),
        (("put", "/does/not/exist", "--category", "wmo", "--subject", "s"), 2, "/does/not/exist"),
        (("put", "-", "--category", "wmo"), 2, "--subject"),
        (
            (*TO_STORE, "--brondatum", "31-12-2020"),
            2,
            "date",
        ),
        ((*TO_STORE, "--brondatum", "20201231"), 2, "date"),
        (
            (*TO_STORE, "--record-date", "2019-12-31"),
            3,
            "2017",
        ),
        ((*TO_STORE, "--purpose", "reclame"), 3, "inzage"),
        ((*TO_STORE, "--actor", "a\nb"), 2, "printable"),
        (("get", POINTER, "--purpose", "reclame"), 3, "inzage"),
        (("erase", POINTER, "--ground", "because"), 2, "consent-withdrawn"),
        (("prove", POINTER, "-o", "/does/not/exist/e.json"), 5, ""),
        (("frobnicate",), 2, "no such command"),
        (("init",), 2, "DIR"),
    ],
)
def test_bad_input_is_one_line_that_says_what_and_changes_nothing(kluis, arguments, code, word):
    before = kluis("audit", "--json").json
    assert_one_line(kluis(*arguments, stdin=SECRET.encode()), code, word)
    assert kluis("audit", "--json").json == before


def test_vaults_that_cannot_be_opened(kluis, tmp_path, passphrase_file, monkeypatch):
    import sqlite3

    assert_one_line(run("init", kluis.folder), 2, "already")
    assert_one_line(run("init", tmp_path), 2, "not empty")
    assert_one_line(run("-C", tmp_path / "nowhere", "audit"), 2, "kluis init")
    passphrase_file.write_text("wrong")
    assert_one_line(kluis("audit"), 2, "passphrase")
    passphrase_file.write_text("")
    assert_one_line(kluis("audit"), 2, "empty")
    monkeypatch.setenv("KLUIS_PASSPHRASE_FILE", str(tmp_path / "no-file"))
    assert_one_line(kluis("audit"), 2, "no-file")
    monkeypatch.delenv("KLUIS_PASSPHRASE_FILE")
    assert_one_line(kluis("audit"), 2, "KLUIS_PASSPHRASE_FILE")
    passphrase_file.write_text(PASSPHRASE)
    monkeypatch.setenv("KLUIS_PASSPHRASE_FILE", str(passphrase_file))
    with sqlite3.connect(kluis.folder / "vault.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    assert_one_line(kluis("audit"), 2, "9999", "upgrade")


def test_a_database_restored_from_an_older_copy_signs_nothing(kluis, tmp_path):
    import shutil

    first = put(kluis, b"1", "wmo", BSN, "--wait")
    for name in ("vault.db", "vault.db-wal"):
        if (kluis.folder / name).exists():
            shutil.copy(kluis.folder / name, tmp_path / f"old-{name}")
    put(kluis, b"2", "wmo", BSN, "--wait")
    for name in ("vault.db", "vault.db-wal", "vault.db-shm"):
        (kluis.folder / name).unlink(missing_ok=True)
        if (tmp_path / f"old-{name}").exists():
            shutil.copy(tmp_path / f"old-{name}", kluis.folder / name)
    put(kluis, b"3")
    for command in (("checkpoint",), ("anchor", "run"), ("prove", first)):
        assert_one_line(kluis(*command), 1, "older copy", "newest database")
    assert kluis("audit").code == 1


def lines_of(path, *lines):
    path.write_bytes(b"".join(lines))
    return path


def test_import_checks_everything_first_and_names_the_bad_lines(kluis, tmp_path):
    good = b'{"id": "s%d", "n": "Zo\xc3\xab"}\n'
    bad = [
        (b"not json\n", "not JSON"),
        (b'{"id": "\xff"}\n', "UTF-8"),
        (b"\n", "empty"),
        (b'{"id": "' + b"x" * 10_000_000 + b'"}\n', "longer"),
        (b'{"id": "a", "id": "b"}\n', "duplicated"),
        (b'{"id": "a", "n": NaN}\n', "NaN"),
        (b'{"name": "a"}\n', "/id"),
        (b'{"id": 999990019}\n', "not a text"),
    ]
    arguments = ("--category", "nieuwsbrief", "--subject-field", "/id")
    for number, (line, reason) in enumerate(bad):
        path = lines_of(tmp_path / f"bad{number}.jsonl", good % 1, line, good % 2)
        ran = kluis("import", path, *arguments)
        assert_one_line(ran, 2, "line 2", reason, "--skip-bad")
    path = lines_of(tmp_path / "all.jsonl", good % 1, *(line for line, _ in bad), good % 2)
    refused = kluis("import", path, *arguments, "--json")
    assert (refused.code, refused.json["records"], refused.json["rejected"]) == (2, 0, len(bad))
    assert kluis("audit", "--json").json["counts"]["versions"] == 0
    done = kluis("import", path, *arguments, "--skip-bad", "--json")
    assert (done.code, done.json["records"], done.json["rejected"]) == (0, 2, len(bad))
    assert len(kluis("find", "--subject", "s1", "--json").json["pointers"]) == 1
    for wrong, word in (
        (("--category", "geen", "--subject-field", "/id"), "kindpakket"),
        (("--category", "wmo", "--subject-field", "id"), "JSON Pointer"),
    ):
        assert_one_line(kluis("import", path, *wrong, "--skip-bad"), 2, word)
    assert_one_line(kluis("import", lines_of(tmp_path / "none"), *arguments), 2, "no lines")
    assert_one_line(kluis("import", tmp_path / "gone", *arguments), 2, "gone")


def test_each_command_has_help_with_an_example_and_a_true_summary():
    seen = 0
    for name, (_, _, summary) in cli.COMMANDS.items():
        command = cli.kluis.get_command(None, name)
        assert command.help.splitlines()[0].replace("\n", " ") == summary
        for words, one in [((name,), command), *subcommands_of(name, command)]:
            shown = run(*words, "--help")
            assert shown.code == 0
            assert re.search(r"Example: .*kluis", shown.text), words
            seen += 1
            assert one.help
    print(f"{seen} helps with an example")


def subcommands_of(name, command):
    return [((name, sub), one) for sub, one in getattr(command, "commands", {}).items()]


def test_help_loads_neither_database_nor_ciphers():
    """What makes `kluis --help` quick; the time itself is not asserted."""
    code = (
        "import sys, cli; cli.run(['--help']);"
        "heavy = ('sqlalchemy', 'cryptography', 'nacl', 'boto3', 'rich');"
        "print([module for module in heavy if module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_installed_command_as_a_process(tmp_path):
    """The whole way through real processes, with the passphrase file and standard input."""
    kluis = Path(sys.executable).with_name("kluis")
    if not kluis.exists():
        kluis = Path(sys.executable)
    prefix = [str(kluis)] if kluis.name == "kluis" else [str(kluis), "-m", "cli"]
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    environment = {
        **os.environ,
        "KLUIS_PASSPHRASE_FILE": str(tmp_path / "passphrase"),
        "KLUIS_DIR": str(tmp_path / "v"),
    }

    def kluis_process(*arguments, stdin=b""):
        return subprocess.run(
            [*prefix, *arguments], input=stdin, env=environment, capture_output=True, check=False
        )

    assert kluis_process("init", str(tmp_path / "v")).returncode == 0
    put = kluis_process(*TO_STORE, stdin=SECRET.encode())
    pointer = put.stdout.decode().strip()
    assert kluis_process("get", pointer).stdout == SECRET.encode()
    assert kluis_process("audit").returncode == 0
    key_file = json.loads((tmp_path / "v" / "keys" / "root-1.key").read_text())
    assert key_file["kdf"]["memory_kib"] == 65_536
    assert (tmp_path / "v" / "keys" / "root-1.key").stat().st_mode & 0o777 == 0o600


def test_demo_tells_the_story_and_leaves_a_vault_that_works(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told = run("demo", "--records", "60")
    assert told.code == 0, told.err
    for number in range(1, 10):
        assert f"\n{number}  " in told.text
    for words in ("D8", "Art. 17(3)(b) GDPR", "D10", "blob does not open", "inclusion failed"):
        assert words in told.text
    (folder,) = tmp_path.glob("kluis-demo-*")
    monkeypatch.setenv("KLUIS_PASSPHRASE_FILE", str(folder / "passphrase"))
    assert run("-C", folder / "vault", "audit").code == 0
    assert run("verify", folder / "evidence.json", "--trust", folder / "trust.json").code == 0


def test_demo_takes_the_users_own_records(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f'{{"klant": {{"bsn": "9{n}"}}, "n": {n}}}\n' for n in range(30)))
    told = run("demo", "--input", path)
    assert told.code == 0, told.err
    assert "/klant/bsn" in told.text
    path.write_text("geen json\n")
    assert_one_line(run("demo", "--input", path), 2, "mine.jsonl")


def test_an_unforeseen_error_is_one_line_that_shows_nothing_of_the_data(kluis, monkeypatch):
    from vault import Vault

    def fail(*_args, **_kwargs):
        raise RuntimeError(f"cannot digest {SECRET} of {BSN}")

    monkeypatch.setattr(Vault, "find", fail)
    assert_one_line(kluis("find", "--subject", BSN), 1, "RuntimeError")


def test_a_full_disk_behind_the_output_does_not_invite_to_repeat(kluis, monkeypatch):
    """What was done is done, also where its result could not be printed."""
    from vault import Vault

    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Vault, "find", fail)
    assert_one_line(kluis("find", "--subject", BSN), 8, "No space left", "before you repeat")
