"""`kluis monitor`: a published ledger followed by somebody who has no vault (LG1, LG4, MT4)."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from kluis_command import run
from watched_kluis import WatchedKluis

from anchor.trust import TrustFile, WatchedRange
from commands.exitcodes import ExitCode
from ledger.checkpoint import Checkpoint
from ledger.net.logserver import LogServer
from ledger.net.serving import Serving
from ledger.note import Note

sys.path.append(str(Path(__file__).parents[1] / "ledger"))

from witness_fixtures import new_witness, policy_of, running_witness

REPOSITORY = Path(__file__).parents[2]


class Public:
    """What a vault publishes, and a monitor of it that has no vault."""

    def __init__(self, kluis: WatchedKluis, folder: Path) -> None:
        self.kluis = kluis
        self.folder = folder
        self.log = folder / "log"
        self.trust = folder / "trust.json"
        self.state = folder / "watch"
        folder.mkdir()
        self.publish(1)
        assert kluis("trust", "-o", self.trust).code == 0

    def publish(self, records: int, to: Path | None = None) -> None:
        for _ in range(records):
            self.kluis.put()
        assert self.kluis("ledger", "export", to or self.log).code == 0

    def monitor(self, *options, source=None):
        arguments = ("--trust", self.trust, "--state", self.state, *options)
        ran = run("monitor", source or self.log, *arguments)
        return self.kluis.watched(ran)

    def note(self, log: Path | None = None) -> Note:
        return Note.parse(((log or self.log) / "checkpoint").read_bytes())

    def evidence(self) -> dict[str, bytes]:
        (folder,) = self.state.glob("evidence-*")
        return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def public(kluis, tmp_path, monkeypatch):
    made = Public(kluis, tmp_path / "public")
    monkeypatch.chdir(made.folder)
    return made


@contextmanager
def served(log: Path):
    serving = Serving(LogServer(log), "127.0.0.1", 0)
    thread = threading.Thread(target=serving.run)
    thread.start()
    try:
        yield serving.url
    finally:
        serving.stop()
        thread.join()


def test_an_honest_ledger_is_followed_without_a_vault(public, monkeypatch):
    monkeypatch.delenv("KLUIS_PASSPHRASE_FILE")
    ran = public.monitor()
    assert (ran.code, ran.text) == (0, "1 entry, grown as they must; 1 judged now.\n")
    monkeypatch.setenv("KLUIS_PASSPHRASE_FILE", str(public.kluis.folder.parent / "passphrase"))
    public.publish(3)
    assert public.monitor("--json").json == {
        "size": 4,
        "judged": 3,
        "stopped": False,
        "minimum": 0,
        "witnesses": [],
    }
    assert public.monitor().text == "4 entries, grown as they must; 0 judged now.\n"
    assert not list(public.state.glob("evidence-*"))


def test_it_follows_over_http_and_says_when_nobody_answers(public):
    with served(public.log) as url:
        assert public.monitor(source=url).code == 0
        public.publish(2)
        assert public.monitor("--json", source=url).json["judged"] == 2
    ran = public.monitor(source=url)
    assert ran.code == ExitCode.BUSY
    assert "there is no connection" in ran.err
    assert not list(public.state.glob("evidence-*"))


def test_lg1_a_ledger_with_two_histories_leaves_both_checkpoints_as_evidence(public, tmp_path):
    """Two copies of one vault, each of which goes on by itself."""
    copy = tmp_path / "copy"
    shutil.copytree(public.kluis.folder, copy)
    public.publish(2)
    assert public.monitor().code == 0
    kept = public.note()
    forked = public.folder / "forked"
    other = WatchedKluis(copy)
    for _ in range(5):
        other.put()
    assert other("ledger", "export", forked).code == 0
    ran = public.monitor(source=forked)
    assert ran.code == ExitCode.FAULT
    assert "another history at 6 leaves than at 3" in ran.err
    assert "watch/evidence-" in ran.err
    found = public.evidence()
    trusted = TrustFile.parse(public.trust.read_bytes())
    notes = [Note.parse(found[f"checkpoint-{name}"]) for name in ("kept", "found")]
    assert notes == [kept, public.note(forked)]
    for note in notes:
        size = Checkpoint.parse(note.text).size
        for key in trusted.keys_for(size):
            assert any(line.key_id == key.key_id for line in note.signatures)
    # The fault stays one, and the log that was followed can still be.
    assert public.monitor(source=forked).code == ExitCode.FAULT
    assert public.monitor().code == 0


def test_a_tampered_entry_is_a_fault(public):
    public.publish(2)
    (bundle,) = (public.log / "tile" / "entries").rglob("3")
    bundle.write_bytes(bundle.read_bytes()[:-1] + b"\x00")
    ran = public.monitor()
    assert ran.code == ExitCode.FAULT
    assert "tile/entries/000.p/3 holds other entries than the signed tree" in ran.err


def watched_by(public, url, key):
    policy = policy_of(("w", url, key), quorum="quorum none\n")
    trusted = TrustFile.parse(public.trust.read_bytes())
    changed = replace(trusted, witness_policies=(WatchedRange(policy),))
    public.trust.write_bytes(changed.format())
    return tuple(one.key for one in trusted.log_keys), trusted.origin


def test_mt4_a_split_view_is_seen_where_there_is_a_witness(public, tmp_path):
    """The ledger showed the witness one history, and shows the world another."""
    from ledger.net.http import HttpClient

    copy = tmp_path / "copy"
    shutil.copytree(public.kluis.folder, copy)
    public.publish(1)
    keys = tuple(one.key for one in TrustFile.parse(public.trust.read_bytes()).log_keys)
    witness = new_witness(tmp_path / "witness", keys=keys, origin="datakluis.example/test")
    other, shown = WatchedKluis(copy), public.folder / "shown"
    other.put()
    assert other("ledger", "export", shown).code == 0
    with running_witness(witness) as url:
        watched_by(public, url, witness.keys[0])
        assert public.monitor("--witnesses", "--json").code == ExitCode.INCOMPLETE  # None yet.
        body = b"old 0\n\n" + public.note(shown).format().encode()
        answer = HttpClient(10).post(f"{url}/add-checkpoint", body, "text/plain", 10_000, (200,))
        assert answer.status == 200
        ran = public.monitor("--witnesses")
        assert ran.code == ExitCode.FAULT
        assert "one history of 2 leaves here and another of 2 to the witness" in ran.err
        found = public.evidence()
        assert Note.parse(found["checkpoint-found"]) == public.note()
        assert Note.parse(found["checkpoint-witness"]).text == public.note(shown).text
        # Control: without the witness's view nothing is seen.
        assert public.monitor().code == 0


def test_witnesses_are_named_by_the_trust_file_or_not_at_all(public):
    ran = public.monitor("--witnesses")
    assert ran.code == ExitCode.BAD_INPUT
    assert "names no witness with an address" in ran.err


def test_bad_input_is_told_in_one_line(public, kluis):
    assert public.monitor(source=public.folder / "nowhere").code == ExitCode.BAD_INPUT
    assert public.monitor(source="http://user:pass@host/").code == ExitCode.BAD_INPUT
    trusted = TrustFile.parse(public.trust.read_bytes())
    public.trust.write_bytes(replace(trusted, origin="datakluis.example/elders").format())
    ran = public.monitor("--state", public.folder / "other")
    assert ran.code == ExitCode.BAD_INPUT
    assert "datakluis.example/elders" in ran.err
    public.trust.write_bytes(b"{}")
    assert public.monitor().code == ExitCode.BAD_INPUT


def test_every_goes_on_until_a_fault_and_through_an_outage(public, tmp_path):
    """A real process: it sees growth, an outage and its end, and leaves at the first fault."""
    out = tmp_path / "out"
    command = [sys.executable, "-c", "import cli; cli.main()", "monitor", str(public.log)]
    options = ["--trust", str(public.trust), "--state", str(public.state), "--every", "1"]
    with out.open("w") as file:
        process = subprocess.Popen(
            [*command, *options],
            cwd=REPOSITORY,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        wait_for(out, "1 entry, grown as they must; 1 judged now.")
        public.publish(2)
        wait_for(out, "3 entries, grown as they must; 2 judged now.")
        public.log.rename(public.folder / "gone")
        wait_for(out, "there is none any more; so it is since ")
        (public.folder / "gone").rename(public.log)
        wait_for(out, "3 entries, grown as they must; 0 judged now.")
        (public.log / "checkpoint").write_bytes(b"nothing")
        assert process.wait(20) == ExitCode.FAULT
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert re.search(r"kluis: the published checkpoint: .*; the evidence is in ", out.read_text())


def wait_for(out: Path, text: str) -> None:
    until = time.monotonic() + 30
    while text not in out.read_text():
        assert time.monotonic() < until, f"{text!r} is not in {out.read_text()!r}"
        time.sleep(0.05)


def test_the_help_names_the_exit_codes():
    ran = run("monitor", "--help")
    assert ran.code == 0
    for words in ("Exit 0", "7 that", "8 that"):
        assert words in " ".join(ran.text.split())
