"""A vault and its witnesses: quorums, anchors, publication, and writes that wait for nobody."""

import shutil
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from anchor.steps import Step, Verdict
from anchor.trust import REQUIRED_AT_FIRST, TrustFile
from anchor.verify import verify
from ledger.checkpoint import Checkpoint
from ledger.note import Note
from ledger.witnesspolicy import WitnessPolicy
from vault import Vault
from vault.errors import ConfigurationError, QuorumMissing

sys.path.append(str(Path(__file__).parents[1] / "ledger"))

from test_witness_client import ACTS, hostile
from witness_fixtures import cosigners, new_witness, running_witness

ORIGIN = "datakluis.example/tests"
NAMES = [f"witness.example/{i}" for i in range(3)]
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def write_policy(
    folder: Path, urls: list[str], threshold: int = 2, seconds: int = 5
) -> WitnessPolicy:
    """Let a vault ask for a number of witnesses, each with both its keys."""
    lines = []
    for name, url in zip(NAMES, urls, strict=True):
        keys = cosigners(name)
        lines += [f"witness {name}-{i} {key.verifier} {url}" for i, key in enumerate(keys)]
        lines.append(f"group {name} all {name}-0 {name}-1")
    lines += [f"group all {threshold} {' '.join(NAMES)}", "quorum all", ""]
    data = "\n".join(lines).encode()
    (folder / "witnesses.policy").write_bytes(data)
    config = folder / "datakluis.toml"
    text = config.read_text().partition("\n[ledger]")[0]
    config.write_text(
        f'{text}\n[ledger]\nwitness_policy = "witnesses.policy"\nwitness_seconds = {seconds}\n'
    )
    return WitnessPolicy.parse(data)


@pytest.fixture
def witnesses(vault, tmp_path):
    """Three witnesses that know the vault's log; each can be started and stopped."""
    keys = [one.key for one in vault.trust().log_keys]
    vault.close()
    return [
        new_witness(tmp_path / f"w{i}", name, tuple(keys), ORIGIN) for i, name in enumerate(NAMES)
    ]


@pytest.fixture
def put():
    def one(vault: Vault, number: int = 0) -> str:
        return vault.put(b"%d" % number, category="wmo", subject=f"subject {number}")

    return one


@pytest.fixture
def start(vault_folder, passphrase, clock):
    return lambda: Vault.open(vault_folder, passphrase, clock=clock)


def test_a_checkpoint_is_cosigned_published_and_anchored(
    vault_folder, witnesses, start, put, tmp_path
):
    with ExitStack() as stack:
        urls = [stack.enter_context(running_witness(one)) for one in witnesses]
        policy = write_policy(vault_folder, urls, threshold=3)
        vault = stack.enter_context(start())
        for number in range(3):
            put(vault, number)
            signed = vault.checkpoint()
            witnessed = vault.witness()
            assert witnessed.missing is None
            count = len(signed.signatures)
            assert witnessed.note.signatures[:count] == signed.signatures
            assert policy.cosigners(witnessed.note) == policy.witness_keys()
            names = [line.name for line in witnessed.note.signatures[count:]]
            assert names == [name for name in NAMES for _ in range(2)]
        # Nobody is asked twice for what is there.
        assert vault.witness().asked == ()
        (anchored,) = vault.anchor()
        assert anchored.size == witnessed.size
        vault.export_ledger(tmp_path / "published")
        published = Note.parse((tmp_path / "published/checkpoint").read_bytes())
        assert published == vault.witness().note
        pointer = put(vault, 9)
        vault.anchor()
        evidence = vault.prove(pointer)
        (group,) = evidence.groups
        assert policy.missing(policy.cosigners(group.proof.checkpoint)) is None
        # An auditor who requires witnesses finds them, offline.
        strict = replace(vault.trust(), require=(*REQUIRED_AT_FIRST, Step.WITNESSES))
        assert verify(evidence, TrustFile.parse(strict.format())).verdict is Verdict.VERIFIED
        assert vault.audit().faults == []


def test_without_a_quorum_nothing_is_anchored_and_the_next_run_repairs_it(
    vault_folder, witnesses, start, put
):
    with running_witness(witnesses[0]) as one, running_witness(witnesses[1]) as two:
        write_policy(vault_folder, [one, NOBODY, NOBODY])
        with start() as vault:
            put(vault)
            with pytest.raises(QuorumMissing, match="all has 1 of the 2") as caught:
                vault.anchor()
            assert "no checkpoint is anchored" in str(caught.value)
            assert NAMES[1] in caught.value.missing
            assert vault.anchor_status()[0].size == 0
            # Signed and stored all the same.
            assert vault.witness().size == caught.value.size
        write_policy(vault_folder, [one, two, NOBODY])
        with start() as vault:
            (anchored,) = vault.anchor()
            assert anchored.size == caught.value.size
        # A larger one that lacks its quorum leaves the anchored one anchored.
        write_policy(vault_folder, [one, NOBODY, NOBODY])
        with start() as vault:
            put(vault, 2)
            with pytest.raises(QuorumMissing, match="which has it, is anchored") as again:
                vault.anchor()
            assert again.value.size > anchored.size
            assert vault.anchor_status()[0].size == anchored.size


@pytest.mark.parametrize(
    "name", ["says nothing", "drips", "answers bytes", "redirects", "signs wrongly"]
)
def test_a_hostile_witness_delays_no_write(vault_folder, witnesses, start, put, name):
    with hostile(ACTS[name][0]) as url:
        write_policy(vault_folder, [url, url, NOBODY], seconds=1)
        with start() as vault:
            put(vault)
            vault.checkpoint()
            done = threading.Event()
            found = []

            def collect() -> None:
                found.append(vault.witness())
                done.set()

            thread = threading.Thread(target=collect)
            thread.start()
            times = []
            for number in range(1, 1000):
                begun = time.monotonic()
                put(vault, number)
                times.append(time.monotonic() - begun)
                if done.is_set() and number >= 20:
                    break
            vault.checkpoint()
            thread.join()
    print(f"{name}: {len(times)} puts, the slowest {max(times) * 1000:.0f} ms")
    assert found[0].missing is not None
    assert len(found[0].asked) == 3
    assert max(times) < 0.9


def test_without_a_policy_nobody_is_asked(vault, put):
    put(vault)
    note = vault.checkpoint()
    witnessed = vault.witness()
    assert (witnessed.note, witnessed.asked, witnessed.missing) == (note, (), None)
    assert len(vault.anchor()) == 1


def test_the_audit_verifies_each_cosignature(vault_folder, witnesses, start, put):
    with running_witness(witnesses[0]) as url:
        write_policy(vault_folder, [url, NOBODY, NOBODY], threshold=1)
        with start() as vault:
            put(vault)
            vault.checkpoint()
            first = vault.witness()
            put(vault, 1)
            vault.checkpoint()
            second = vault.witness()
            assert vault.audit().faults == []
            lines = [note.note.signatures[-1].format() for note in (first, second)]
            assert lines[0] != lines[1]
            with vault._core.database.write() as connection:
                connection.exec_driver_sql(
                    "UPDATE ledger_cosignature SET line = ? WHERE line = ?", tuple(lines)
                )
            (fault,) = vault.audit().faults
            assert "cosignature of the checkpoint of" in fault.where
            assert "does not verify" in fault.what


def test_a_policy_that_cannot_be_read_is_said_and_stops_no_write(vault_folder, vault, start, put):
    vault.close()
    write_policy(vault_folder, [NOBODY] * 3)
    path = vault_folder / "witnesses.policy"
    for spoil in (lambda: path.write_bytes(b"quorum x\n"), path.unlink):
        spoil()
        with start() as again:
            put(again)
            again.checkpoint()
            with pytest.raises(ConfigurationError, match=r"witnesses\.policy"):
                again.witness()


def test_the_configuration_is_strict(vault_folder, vault, start):
    vault.close()
    config = vault_folder / "datakluis.toml"
    before = config.read_text().partition("\n[ledger]")[0]
    for line in (
        'witness_policy = "../x"',
        'witness_policy = "/etc/x"',
        'witness_policy = ""',
        "witness_policy = 1",
        "witness_seconds = 0",
        "witness_seconds = 601",
        "witness_seconds = true",
        'witnesses = "x"',
    ):
        config.write_text(f"{before}\n[ledger]\n{line}\n")
        with pytest.raises(ConfigurationError, match=r"\[ledger\]"):
            start()


def test_a_restored_copy_is_refused_by_its_witnesses(vault_folder, witnesses, start, put, tmp_path):
    """MT4: whoever holds all of the vault's keys cannot bring another history past a witness."""
    with ExitStack() as stack:
        urls = [stack.enter_context(running_witness(one)) for one in witnesses]
        write_policy(vault_folder, urls)
        copy = shutil.copytree(vault_folder, tmp_path / "copy")
        with start() as vault:
            put(vault)
            vault.checkpoint()
            assert vault.witness().missing is None
        vault_folder.rename(tmp_path / "gone")
        copy.rename(vault_folder)
        with start() as vault:
            put(vault, 7)
            vault.checkpoint()
            witnessed = vault.witness()
    assert witnessed.missing is not None
    assert {one.detail for one in witnessed.asked} == {"it answered with status 422"}
    for witness in witnesses:
        (kept,) = witness._state.evidence()
        sizes = {Checkpoint.parse(note.text).size for note in (kept.cosigned, kept.refused)}
        assert sizes == {witnessed.size}
