"""What a vault puts into evidence: retired keys, witnesses, and who decided (PR6, MT4, GO2)."""

import datetime as dt
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from governed import decide, enact_list, found
from nacl.signing import SigningKey

from anchor.consistency import ConsistencyFile, verify_growth
from anchor.evidence import Evidence
from anchor.steps import Step, StepState, Verdict
from anchor.trust import TrustFile
from anchor.verify import verify
from ledger.action import Stop
from ledger.checkpoint import Checkpoint
from ledger.cosignature import Ed25519Cosigner, MlDsaCosigner
from ledger.note import Note
from policy import Ground
from vault import Vault
from vault.errors import ConfigurationError, InvalidInput, NotFound

sys.path.append(str(Path(__file__).parents[1] / "anchor"))

import independent_verifier


def put(vault, number=0, category="nieuwsbrief"):
    return vault.put(b"%d" % number, category=category, subject=f"subject {number}")


def judged(evidence, trust, *required):
    """The verdict and the states, for a trust file that also requires these; both verifiers."""
    trust = replace(trust, require=(*trust.require, *required))
    report = verify(Evidence.parse(evidence.format()), TrustFile.parse(trust.format()))
    accepted = independent_verifier.accepts(evidence.format(), trust.format())
    assert accepted is (report.verdict is Verdict.VERIFIED)
    assert len(evidence.format()) <= 48 * 1024
    return report.verdict, {one.step: one.state for one in report.steps}


def test_a_fresh_vault_signs_by_both_algorithms(vault):
    evidence, trust = vault.prove(put(vault)), vault.trust()
    keys = json.loads(trust.format())["log_keys"]
    assert [one["algorithm"] for one in keys] == ["ed25519", "ml-dsa-44"]
    assert len(evidence.groups[0].proof.checkpoint.signatures) == 2
    assert judged(evidence, trust)[0] is Verdict.VERIFIED


@pytest.mark.parametrize("anchored", [False, True])
def test_evidence_of_before_and_after_keys_were_replaced(vault, anchored):
    old = put(vault, 1)
    vault.checkpoint()
    if anchored:
        vault.anchor()
    before = vault.prove(old)
    put(vault, 2)
    vault.checkpoint()
    vault.rotate_log_keys()
    new = put(vault, 3)
    after, trust = vault.prove(new), vault.trust()
    assert [one.last_size for one in trust.log_keys] == [2, 2, None, None]
    assert judged(after, trust)[0] is Verdict.VERIFIED
    again = vault.prove(old)
    assert judged(again, trust)[0] is Verdict.VERIFIED
    assert (again.groups[0].consistency != ()) is anchored
    # What was given out before lacks the proof, which a file makes up for.
    assert before.groups[0].checkpoint().size == 1
    verdict, states = judged(before, trust)
    assert (verdict, states[Step.LOG_SIGNATURE]) == (Verdict.INCOMPLETE, StepState.NOT_CHECKED)
    file = ConsistencyFile.parse(vault.consistency(1, 2).format())
    assert verify_growth(file, trust).verdict is Verdict.VERIFIED
    assert verify(before, trust, [file]).verdict is Verdict.VERIFIED
    assert verify(before, trust, [vault.consistency(1, 3)]).verdict is Verdict.VERIFIED


def test_consistency_between_sizes_that_were_signed(vault):
    for number in range(4):
        put(vault, number)
        if number != 1:
            vault.checkpoint()
    for old, new in ((1, 3), (1, 4), (3, 4)):
        assert verify_growth(vault.consistency(old, new), vault.trust()).verdict is Verdict.VERIFIED
    with pytest.raises(InvalidInput, match="of 2 leaves was signed; the nearest are of 1 and 3"):
        vault.consistency(2, 4)
    with pytest.raises(InvalidInput, match="of 9 leaves was signed; the nearest are of 4"):
        vault.consistency(1, 9)
    for old, new in ((3, 1), (3, 3)):
        with pytest.raises(InvalidInput, match=f"a tree of {old} leaves does not grow to one of"):
            vault.consistency(old, new)


def test_an_erasure_is_proven(vault):
    pointer = put(vault)
    with pytest.raises(NotFound):
        vault.prove_erasure(pointer)
    vault.erase(pointer, ground=Ground.CONSENT_WITHDRAWN)
    evidence = vault.prove_erasure(pointer)
    report = verify(evidence, vault.trust())
    assert report.verdict is Verdict.VERIFIED
    assert report.sentence.startswith(f"The erasure of record {pointer}, up to and including")
    assert evidence.state == ()


def test_governance_is_proven_to_who_knows_the_founding(vault):
    members = found(vault)
    enact_list(vault, [put_expired(vault, number) for number in range(3)], members)
    decide(vault, Stop(), members.auditor)
    for sequence in (1, 2, 3):
        evidence, trust = vault.prove_governance(sequence), vault.trust()
        assert len(evidence.state) == sequence - 1
        verdict, states = judged(evidence, trust, Step.AUTHORISATION)
        assert (verdict, states[Step.AUTHORISATION]) == (Verdict.VERIFIED, StepState.PASSED)
        blind = replace(trust, founding=None)
        assert judged(evidence, blind, Step.AUTHORISATION)[0] is Verdict.INCOMPLETE
    with pytest.raises(NotFound, match="no governance entry 4"):
        vault.prove_governance(4)


def put_expired(vault, number):
    born = dt.date(2015, 1, 1)
    return vault.put(
        b"%d" % number, category="kindpakket", subject=f"subject {number}", brondatum=born
    )


def test_a_listed_erasure_brings_who_decided_it(vault):
    members = found(vault)
    pointers = [put_expired(vault, number) for number in range(3)]
    enact_list(vault, pointers, members)
    decide(vault, Stop(), members.auditor)
    for pointer in pointers:
        vault.erase_listed(pointer, Ground.NOT_NEEDED)
        evidence, trust = vault.prove_erasure(pointer), vault.trust()
        # Down to the list, and not to the stop behind it.
        assert [one.entry.version for one in evidence.state] == [1, 2]
        verdict, states = judged(evidence, trust, Step.AUTHORISATION)
        assert (verdict, states[Step.AUTHORISATION]) == (Verdict.VERIFIED, StepState.PASSED)
        assert len(verify(evidence, trust).not_proven) == 2


def test_an_ungoverned_ledger_names_no_founding(vault):
    put(vault)
    vault.checkpoint()
    assert vault.trust().founding is None
    found(vault)
    # Not before a signed checkpoint covers it.
    assert vault.trust().founding is None
    vault.checkpoint()
    assert vault.trust().founding is not None


# Witnesses


@pytest.fixture
def watched(vault, vault_folder, passphrase):
    """Put a policy into the vault's configuration and cosign by hand, as the witnesses would."""
    cosigners = [
        Ed25519Cosigner("witness.example/gouda", SigningKey(bytes([1] * 32))),
        MlDsaCosigner("witness.example/edam", bytes([2] * 32)),
    ]
    lines = [f"witness w{n} {one.verifier}\n" for n, one in enumerate(cosigners)]
    policy = "".join(lines) + "group all 2 w0 w1\nquorum all\n"

    def reopen(text=None):
        (vault_folder / "witnesses.policy").write_bytes(text or policy.encode())
        config = vault_folder / "datakluis.toml"
        before = config.read_text().partition("\n[ledger]")[0]
        config.write_text(f'{before}\n[ledger]\nwitness_policy = "witnesses.policy"\n')
        vault.close()
        return Vault.open(vault_folder, passphrase, clock=vault._core.clock)

    def cosign(opened, note: Note, count=2):
        checkpoint = Checkpoint.parse(note.text)
        with opened._core.database.write() as connection:
            for one in cosigners[:count]:
                line = one.cosign(checkpoint, 1_772_323_200)
                connection.exec_driver_sql(
                    "INSERT INTO ledger_cosignature (size, name, key_id, line, received_at)"
                    " VALUES (?, ?, ?, ?, 0)",
                    (checkpoint.size, line.name, line.key_id, line.format()),
                )

    return reopen, cosign


def test_cosignatures_are_in_evidence_and_required(watched):
    reopen, cosign = watched
    with reopen() as vault:
        pointer = put(vault)
        note = vault.checkpoint()
        trust = vault.trust()
        assert trust.require == (Step.LOG_SIGNATURE, Step.WITNESSES, Step.INCLUSION)
        assert judged(vault.prove(pointer), trust)[0] is Verdict.INCOMPLETE
        cosign(vault, note)
        evidence = vault.prove(pointer)
        verdict, states = judged(evidence, trust)
        assert (verdict, states[Step.WITNESSES]) == (Verdict.VERIFIED, StepState.PASSED)
        # A newer one that lacks its quorum is not taken for it.
        put(vault, 2)
        vault.checkpoint()
        assert vault.prove(pointer) == evidence


def test_evidence_moves_to_a_checkpoint_that_has_its_quorum(vault, watched):
    """A record that was anchored before there were witnesses is proven to a witnessed tree."""
    pointer = put(vault)
    vault.anchor()
    reopen, cosign = watched
    with reopen() as vault:
        assert vault.prove(pointer).groups[0].checkpoint().size == 1
        put(vault, 2)
        cosign(vault, vault.checkpoint())
        evidence = vault.prove(pointer)
        assert evidence.groups[0].checkpoint().size == 2
        assert judged(evidence, vault.trust())[0] is Verdict.VERIFIED


def test_a_policy_that_no_trust_file_can_hold(watched):
    reopen, _ = watched
    vault = reopen(b"# \xff\nquorum none\n")
    with vault, pytest.raises(ConfigurationError, match="is not UTF-8"):
        vault.trust()
