"""What a trust file says to a monitor: which signatures a published checkpoint must carry."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from anchor.errors import OtherOrigin
from anchor.monitoring import TrustedByFile, watchers
from anchor.trust import REQUIRED_AT_FIRST, TrustFile, WatchedRange
from ledger.checkpoint import Checkpoint
from ledger.cosignature import NO_TIME, Ed25519Cosigner, MlDsaCosigner
from ledger.errors import BadSignature
from ledger.logkeys import LogKey
from ledger.note import Note, sign
from ledger.signer import NoteSigner
from ledger.source import FolderSource
from ledger.witnesspolicy import WitnessPolicy

ORIGIN = "datakluis.example/monitored"
OLD, NEW = (SigningKey(hashlib.sha256(name).digest()) for name in (b"old", b"new"))
ML_DSA = MlDsaCosigner(ORIGIN, hashlib.sha256(b"ml-dsa").digest())
WITNESS = Ed25519Cosigner("witness.example/w", SigningKey(hashlib.sha256(b"w").digest()))
CLOSING = Checkpoint(ORIGIN, 10, hashlib.sha256(b"ten").digest())
POLICY = WitnessPolicy.parse(
    f"witness w {WITNESS.verifier} https://w.example/log\nquorum w\n".encode()
)


def trusted(**changes) -> TrustFile:
    keys = (
        LogKey(NoteSigner(ORIGIN, OLD).verifier, 0, 10, CLOSING),
        LogKey(NoteSigner(ORIGIN, NEW).verifier, 11),
        LogKey(ML_DSA.verifier, 11),
    )
    file = TrustFile(ORIGIN, REQUIRED_AT_FIRST, keys, ())
    return TrustFile.parse(replace(file, **changes).format())


def checkpoint(size: int, origin: str = ORIGIN) -> Checkpoint:
    return CLOSING if size == 10 else Checkpoint(origin, size, bytes(32))


def note(size: int, *keys: SigningKey, ml_dsa: bool = False, origin: str = ORIGIN) -> Note:
    stated = checkpoint(size, origin)
    lines = [sign(stated.text(), ORIGIN, key) for key in keys]
    return Note(stated.text(), (*lines, *([ML_DSA.cosign(stated, NO_TIME)] if ml_dsa else [])))


def test_pr6_every_key_of_the_size_must_have_signed_and_no_other_counts():
    file = TrustedByFile(trusted())
    for signed in (note(9, OLD), note(10, OLD), note(11, NEW, ml_dsa=True), note(9, OLD, NEW)):
        assert file.verify(signed) == Checkpoint.parse(signed.text)
    for refused in (
        note(9, NEW),
        note(11, OLD, ml_dsa=True),
        note(11, NEW),
        note(12, OLD, ml_dsa=True),
        note(12, OLD, NEW),
    ):
        with pytest.raises(BadSignature):
            file.verify(refused)
    assert file.closings == (CLOSING,)


def test_mt4_of_a_witness_one_key_of_the_log_is_enough_for_evidence():
    """A witness may know only one of the keys; two checkpoints by it contradict each other."""
    file = TrustedByFile(trusted())
    for seen in (note(11, NEW), note(11, OLD, ml_dsa=True), note(12, NEW, ml_dsa=True)):
        assert file.verify_any(seen).size in (11, 12)
    for unseen in (note(11, OLD), note(9, NEW), note(11, NEW, origin="datakluis.example/other")):
        with pytest.raises(BadSignature):
            file.verify_any(unseen)


def test_another_log_is_bad_input():
    with pytest.raises(OtherOrigin):
        TrustedByFile(trusted()).verify(note(11, NEW, ml_dsa=True, origin="datakluis.example/x"))


def test_mt4_the_quorum_is_that_of_the_size():
    file = TrustedByFile(trusted(witness_policies=(WatchedRange(POLICY, 12),)))
    assert file.lacking(note(11, NEW, ml_dsa=True)) is None
    bare = note(12, NEW, ml_dsa=True)
    assert "did not cosign" in file.lacking(bare)
    cosigned = Note(bare.text, (*bare.signatures, WITNESS.cosign(checkpoint(12), 1_790_000_000)))
    assert file.verify(cosigned).size == 12
    assert file.lacking(cosigned) is None
    line = cosigned.signatures[-1]
    forged = replace(line, signature=line.signature[:-1] + bytes([line.signature[-1] ^ 1]))
    with pytest.raises(BadSignature):
        file.verify(Note(bare.text, (*bare.signatures, forged)))


def test_the_witnesses_are_read_where_c2sp_says():
    asked = []

    def source_at(place: str) -> FolderSource:
        asked.append(place)
        return FolderSource(Path())

    policies = (WatchedRange(POLICY, 0, 11), WatchedRange(POLICY, 12))
    (found,) = watchers(trusted(witness_policies=policies), source_at)
    assert found.key == str(WITNESS.verifier)
    assert asked == ["https://w.example/log/" + hashlib.sha256(ORIGIN.encode()).hexdigest()]
    assert list(watchers(trusted(), source_at)) == []


def test_a_founding_that_is_trusted_is_handed_on():
    digest = hashlib.sha256(b"founding").digest()
    assert TrustedByFile(trusted(founding=digest)).founding == digest
    assert TrustedByFile(trusted()).founding is None
