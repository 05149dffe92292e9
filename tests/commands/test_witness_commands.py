"""`kluis witness`: two processes that serve, a vault that asks them, and what they catch."""

import json
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from kluis_command import Kluis, run

from ledger.note import Note
from ledger.witnesspolicy import WitnessPolicy

REPOSITORY = Path(__file__).parents[2]
ORIGIN = "datakluis.example/test"
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@contextmanager
def served(folder: Path):
    """A witness in a process of its own; the URL that it says."""
    command = [sys.executable, "cli.py", "witness", "serve", str(folder), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        line = server.stdout.readline()
        try:
            assert " answers at http://127.0.0.1:" in line, line + server.stderr.read()
            yield line.split()[-1]
        finally:
            server.send_signal(signal.SIGTERM)
            out, err = server.communicate(timeout=10)
        assert (out, err, server.returncode) == ("", "", 0)


def make(folder: Path, name: str, trust: Path, url: str = "") -> list[str]:
    made = run("witness", "init", folder, "--name", name, "--json")
    assert made.code == 0, made.err
    added = run("witness", "add", folder, "--trust", trust)
    assert added.code == 0, added.err
    assert f"watches {ORIGIN}" in added.text
    return made.json["policy"]


def with_url(lines: list[str], url: str) -> str:
    return "".join(
        f"{line} {url}\n" if line.startswith("witness") else f"{line}\n" for line in lines
    )


def test_a_vault_is_witnessed_by_others(kluis, tmp_path):
    (tmp_path / "file").write_bytes(b"payload")
    trust = tmp_path / "trust.json"
    assert kluis("trust", "-o", trust).code == 0
    names = ("witness.example/gouda", "witness.example/edam")
    lines = [make(tmp_path / str(i), name, trust) for i, name in enumerate(names)]
    config = kluis.folder / "datakluis.toml"
    text = config.read_text().partition("\n[ledger]")[0]
    config.write_text(f'{text}\n[ledger]\nwitness_policy = "p"\nwitness_seconds = 5\n')

    def policy(*urls: str) -> WitnessPolicy:
        data = "".join(with_url(*pair) for pair in zip(lines, urls, strict=True))
        data += f"group both all {' '.join(names)}\nquorum both\n"
        (kluis.folder / "p").write_text(data)
        return WitnessPolicy.parse(data.encode())

    with ExitStack() as stack:
        urls = [stack.enter_context(served(tmp_path / str(i))) for i in range(2)]
        asked = policy(*urls)
        assert kluis("put", tmp_path / "file", "--category", "wmo", "--subject", "s").code == 0
        done = kluis("checkpoint")
        assert done.code == 0, done.err
        note = Note.parse(done.out)
        assert [line.name for line in note.signatures[-4:]] == [n for n in names for _ in range(2)]
        assert asked.missing(asked.cosigners(note)) is None
        # Kluis itself: the local anchor warns on standard error.
        assert Kluis(kluis.folder)("anchor", "run").code == 0
        # One goes away: the checkpoint is signed, and the command says who is missing.
        policy(urls[0], "http://127.0.0.1:9")
        kluis("put", tmp_path / "file", "--category", "wmo", "--subject", "t")
        lacking = kluis("checkpoint")
        assert lacking.code == 7
        assert Note.parse(lacking.out).text.splitlines()[1] == "2"
        assert "witness witness.example/edam: unreachable" in lacking.err
        assert "signed and stored" in lacking.err
        assert "witness.example/edam missing" in lacking.err
        told = kluis("checkpoint", "--json")
        assert "witness.example/edam" in told.json["missing"]
        anchored = kluis("anchor", "run")
        assert anchored.code == 7
        assert "the one of 1 entries" in anchored.err
    assert kluis("audit").code == 0
    nothing = run("witness", "evidence", tmp_path / "0")
    assert nothing.text == "Nothing was refused that contradicts what was cosigned.\n"


def test_a_split_view_is_listed(tmp_path, monkeypatch):
    sys.path.append(str(REPOSITORY / "tests/ledger"))
    from witness_fixtures import LOG_KEYS, NOW, MadeLog, cosigners, leaves
    from witness_fixtures import ORIGIN as LOG

    from ledger.witness import Witness
    from ledger.witnessstate import WitnessState

    (tmp_path / "passphrase").write_text("geheim\n")
    monkeypatch.setenv("KLUIS_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    folder = tmp_path / "w"
    assert run("witness", "init", folder, "--name", "witness.example/w").code == 0
    keys = [part for key in LOG_KEYS for part in ("--key", key)]
    assert run("witness", "add", folder, LOG, *keys).code == 0
    witness = Witness(WitnessState(folder), cosigners())
    witness.add_checkpoint(MadeLog(leaves(20)).request(0, 20), NOW)
    witness.add_checkpoint(MadeLog(leaves(20, forked_at=4)).request(20, 20), NOW)
    listed = run("witness", "evidence", folder)
    assert f"1 split-view {LOG}: 20 leaves cosigned, 20 refused" in listed.text
    assert "both signed by the log" in listed.text
    (one,) = run("witness", "evidence", folder, "--json").json["evidence"]
    assert (one["kind"], one["signed"]) == ("split-view", True)
    assert Note.parse(one["refused"].encode()).text != Note.parse(one["cosigned"].encode()).text


def test_what_is_wrong_is_said_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "passphrase").write_text("geheim\n")
    monkeypatch.setenv("KLUIS_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    folder = tmp_path / "w"

    def refused(words: str, code: int, *arguments: object) -> None:
        ran = run("witness", *arguments)
        assert ran.code == code, ran
        assert ran.text == ""
        assert words in ran.err
        assert ran.err.count("\n") == 1

    refused("a name is", 2, "init", folder, "--name", "a b")
    refused("base64", 2, "add", folder, "o", "--key", "example.com/foo+x+y")
    refused("witness.db is missing", 1, "add", folder, "o", "--key", VKEY)
    made = run("witness", "init", folder, "--name", "witness.example/w", "--url", "https://w")
    assert made.text.count("https://w\n") == 2
    for file in folder.iterdir():
        if file.suffix in (".key", ".db"):
            assert file.stat().st_mode & 0o077 == 0
    refused("a witness already", 2, "init", folder, "--name", "witness.example/w")
    refused("give either", 2, "add", folder, "o")
    refused("HOST:PORT", 2, "serve", folder, "--listen", "8080")
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    refused("pip install 'datakluis[serve]'", 2, "serve", folder, "--listen", "127.0.0.1:0")
    monkeypatch.undo()
    monkeypatch.setenv("KLUIS_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    (tmp_path / "passphrase").write_text("other\n")
    refused("wrong passphrase", 2, "serve", folder)
    (tmp_path / "passphrase").write_text("geheim\n")
    (folder / "witness.db").unlink()
    refused("could vouch for two histories", 1, "serve", folder)
    assert json.loads((folder / "ed25519.key").read_text())["label"] == "witness key Ed25519"
