"""Consistency files: read as written, and every change of one refused (PR6)."""

import json
import re
from dataclasses import replace

import independent_verifier
import pytest
from anchor_samples import CONSISTENCY, GROWTH_TRUST_OF, TRUST, world
from evidence_mutations import (
    one_bit_of_each_byte,
    paths,
    rearrangements,
    replaced,
    respellings,
    spell,
    truncations,
)
from hypothesis import given
from hypothesis import strategies as st

import anchor.consistency
from anchor.consistency import MAX_BYTES, ConsistencyFile, verify_growth
from anchor.errors import AnchorError, BadFile, OtherOrigin
from anchor.steps import ConsistencyStep, StepState, Verdict
from anchor.trust import TrustFile
from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.note import Note, sign

ONE, CENTURY = world.trust("one"), world.trust("century")
WATCHED = world.trust("century", world.WATCHED)
FILE = world.consistency(4, 7)


def states(file: ConsistencyFile, trust: TrustFile) -> tuple[Verdict, dict]:
    report = verify_growth(ConsistencyFile.parse(file.format()), trust)
    accepted = independent_verifier.accepts(file.format(), trust.format())
    assert accepted is (report.verdict is Verdict.VERIFIED)
    return report.verdict, {one.step: one.state for one in report.steps}


def outcome(data: bytes, trust: TrustFile) -> str:
    try:
        return verify_growth(ConsistencyFile.parse(data), trust).verdict.value
    except AnchorError as error:
        return type(error).__name__


def test_what_it_says():
    report = verify_growth(FILE, ONE)
    assert report.sentence == (
        f"The log {world.ORIGIN} only grew from 4 to 7 leaves: its older tree is the beginning of"
        " the newer."
    )
    assert [one.step for one in report.steps] == list(ConsistencyStep)
    assert "no other history" in report.not_proven[0]


def signed(size: int) -> Note:
    text = Checkpoint(world.ORIGIN, size, merkle.root(size, world.read_hash)).text()
    return Note(text, (sign(text, world.ORIGIN, world.FIRST[1]),))


def test_every_pair_of_sizes_and_each_hash():
    pairs = flips = 0
    for new in range(2, 17):
        for old in range(1, new):
            proof = tuple(merkle.consistency_proof(old, new, world.read_hash))
            file = ConsistencyFile(signed(old), proof, signed(new))
            assert states(file, ONE)[0] is Verdict.VERIFIED
            pairs += 1
            for place, value in enumerate(proof):
                changed = (*proof[:place], bytes([value[0] ^ 1]) + value[1:], *proof[place + 1 :])
                assert states(replace(file, proof=changed), ONE)[0] is Verdict.FAILED
                flips += 1
            for other in (proof[:-1], (*proof, bytes(32)), proof[::-1]):
                if other and other != proof:
                    assert states(replace(file, proof=other), ONE)[0] is Verdict.FAILED
    print(f"{pairs} pairs, {flips} hashes")


@pytest.mark.parametrize("name", CONSISTENCY)
def test_no_other_file_is_accepted(name):
    whole, trust = CONSISTENCY[name], TrustFile.parse(TRUST[GROWTH_TRUST_OF[name]])
    document, seen = json.loads(whole), 0
    mutants = [*rearrangements(whole), *respellings(whole)]
    if len(whole) < 1000:
        mutants += [*one_bit_of_each_byte(whole), *truncations(whole)]
    for other in CONSISTENCY.values():
        donor = json.loads(other)
        mutants += [
            (f"{path} of another", spell(replaced(document, path, donor[path[0]])))
            for path in paths(document)
            if len(path) == 1
        ]
    for what, data in mutants:
        if data in CONSISTENCY.values():
            continue
        seen += 1
        found = outcome(data, trust)
        accepted = independent_verifier.accepts(data, trust.format())
        assert (found, accepted) != ("verified", True) or _is_true(data), what
        assert accepted is (found == "verified"), what
    print(f"{seen} mutants refused")
    assert seen > 100


def _is_true(data: bytes) -> bool:
    """A file with one of the log's own checkpoints in the place of another can still be true."""
    file = ConsistencyFile.parse(data)
    old, new = (Checkpoint.parse(note.text).size for note in (file.old, file.new))
    return file.proof == tuple(merkle.consistency_proof(old, new, world.read_hash))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "datakluis-consistency/2"}, "has another format"),
        ({"old": 7}, "lacks the text 'old'"),
        ({"old": "x"}, "does not hold what it should"),
        ({"old": "\ud800"}, "does not hold what it should"),
        ({"proof": []}, "a consistency proof of 0 hashes"),
        ({"proof": ["AAAA"]}, "has a hash in 'proof' that is not 32 bytes"),
        ({"proof": ["A"]}, "does not hold what it should: not base64"),
        ({"proof": [1]}, "lacks the array of texts 'proof'"),
        ({"proof": ["A" * 43 + "="] * 65}, "a consistency proof of 65 hashes"),
        ({"new": FILE.old.format()}, "is not about a smaller and a larger tree of one log"),
        ({"comment": "x"}, "unknown or reordered members"),
    ],
)
def test_a_bad_file_says_what_is_wrong(change, words):
    document = {**json.loads(FILE.format()), **change}
    data = (json.dumps(document, indent=2) + "\n").encode()
    with pytest.raises(BadFile, match=re.escape(words)):
        ConsistencyFile.parse(data)


def test_a_file_that_is_too_large_is_not_read():
    with pytest.raises(BadFile, match=f"more than {MAX_BYTES}"):
        ConsistencyFile.parse(b" " * (MAX_BYTES + 1))


@given(st.binary(max_size=200))
def test_only_what_is_written_is_accepted(data):
    with pytest.raises(BadFile):
        ConsistencyFile.parse(data)


def test_another_log_is_another_file_to_bring():
    with pytest.raises(OtherOrigin):
        verify_growth(FILE, replace(ONE, origin="datakluis.example/zwolle"))


def test_a_larger_checkpoint_of_a_retired_key_is_not_enough():
    verdict, found = states(world.consistency(4, 7, "century"), CENTURY)
    assert verdict is Verdict.INCOMPLETE
    assert found[ConsistencyStep.LOG_SIGNATURE] is StepState.NOT_CHECKED
    assert states(world.consistency(4, 12, "century"), CENTURY)[0] is Verdict.VERIFIED


def test_witnesses_count_under_the_larger_where_they_are_required():
    whole = world.consistency(7, 16, "century")
    assert states(whole, WATCHED)[0] is Verdict.VERIFIED
    fewer = replace(whole, new=Note(whole.new.text, whole.new.signatures[:3]))
    verdict, found = states(fewer, WATCHED)
    assert verdict is Verdict.INCOMPLETE
    assert found[ConsistencyStep.WITNESSES] is StepState.NOT_CHECKED
    assert states(fewer, CENTURY)[0] is Verdict.VERIFIED


def test_a_stripped_line_fails():
    whole = world.consistency(7, 16, "century")
    bare = replace(whole, old=Note(whole.old.text, whole.old.signatures[:1]))
    assert states(bare, CENTURY)[0] is Verdict.FAILED


def test_control_a_check_without_the_proof_is_seen(monkeypatch):
    monkeypatch.setattr(anchor.consistency, "verify_consistency", lambda *_: None)
    wrong = replace(FILE, proof=(bytes(32),))
    assert verify_growth(wrong, ONE).verdict is Verdict.VERIFIED
    assert not independent_verifier.accepts(wrong.format(), ONE.format())
