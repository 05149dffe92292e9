"""A witness: C2SP's statuses, races, crashes, and evidence that stands by itself (LG4, MT4)."""

import signal
import sqlite3
import subprocess
import sys
import threading
from http import HTTPStatus
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_fixtures import KEY, ORIGIN, OTHER_KEY, log_keys
from witness_fixtures import LOG_KEYS, NOW, MadeLog, cosigners, leaves, new_witness

from ledger.checkpoint import Checkpoint
from ledger.cosignature import timestamp_of
from ledger.errors import Malformed, WitnessStateLost
from ledger.note import Note, SignatureLine, verify
from ledger.witness import MAX_BODY_BYTES, MAX_PROOF_LINES, TLOG_SIZE, Request, Witness
from ledger.witnessstate import (
    DATABASE,
    EVIDENCE,
    MAX_EVIDENCE,
    Contradiction,
    WitnessState,
    origin_hash,
)

LOG = MadeLog(leaves(40))
FORK = MadeLog(leaves(40, forked_at=10))
# C2SP tlog-witness, "add-checkpoint".
EXAMPLE = """old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=
"""  # noqa: E501 - a signature line cannot be broken


@pytest.fixture
def witness(tmp_path) -> Witness:
    return new_witness(tmp_path)


def accepted(answer, checkpoint: Checkpoint, at: int = NOW) -> Note:
    """The note under the lines of an answer, once each is verified."""
    assert answer.status == HTTPStatus.OK, answer.body
    note = Note.parse(f"{checkpoint.text()}\n".encode() + answer.body)
    for cosigner in cosigners():
        line = verify(note, cosigner.verifier)
        assert timestamp_of(line, cosigner.verifier) == at
    assert len(note.signatures) == 2
    return note


def test_the_example_of_the_specification_is_read_to_the_byte(witness):
    request = Request.parse(EXAMPLE.encode())
    assert (request.old_size, len(request.proof)) == (20852014, 4)
    assert request.format() == EXAMPLE.encode()
    assert witness.add_checkpoint(EXAMPLE.encode(), NOW).status == HTTPStatus.NOT_FOUND


def test_a_log_that_grows_is_cosigned_and_published(witness):
    for old, new in ((0, 1), (1, 1), (1, 7), (7, 8), (8, 33)):
        note = accepted(witness.add_checkpoint(LOG.request(old, new), NOW), LOG.checkpoint(new))
        published = Note.parse(witness.checkpoint(origin_hash(ORIGIN)).body)
        assert published.signatures == LOG.note(new).signatures + note.signatures
    assert witness.checkpoint(origin_hash("other")).status == HTTPStatus.NOT_FOUND


def test_each_status_of_the_specification(witness, tmp_path):
    def status(body: bytes) -> HTTPStatus:
        return witness.add_checkpoint(body, NOW).status

    assert witness.checkpoint(origin_hash(ORIGIN)).status == HTTPStatus.NOT_FOUND
    assert status(LOG.request(0, 12)) == HTTPStatus.OK
    for old in (0, 11, 13):
        answer = witness.add_checkpoint(LOG.request(old, 20), NOW)
        assert (answer.status, answer.content_type) == (HTTPStatus.CONFLICT, TLOG_SIZE)
        assert answer.body == b"12\n"
    assert status(Request(21, (), LOG.note(20)).format()) == HTTPStatus.BAD_REQUEST
    other = MadeLog(leaves(20), origin="example.com/other")
    assert status(other.request(12, 20)) == HTTPStatus.NOT_FOUND
    # 403: signed by nobody known, by one of two algorithms alone, or a known key's line is wrong.
    stranger = MadeLog(leaves(20), key=OTHER_KEY)
    assert status(stranger.request(12, 20)) == HTTPStatus.FORBIDDEN
    note, extra = LOG.note(20), stranger.note(20).signatures
    for lines in (note.signatures[:1], note.signatures[1:], (extra[0], note.signatures[1])):
        stripped = Request(12, tuple(LOG.proof(12, 20)), Note(note.text, lines))
        assert status(stripped.format()) == HTTPStatus.FORBIDDEN
    wrong = SignatureLine(ORIGIN, note.signatures[1].key_id, LOG.note(19).signatures[1].signature)
    broken = Note(note.text, (note.signatures[0], wrong))
    assert status(Request(12, tuple(LOG.proof(12, 20)), broken).format()) == HTTPStatus.FORBIDDEN
    # 422: no proof, a proof that leads elsewhere, another root, a proof from nothing.
    assert status(Request(12, (), LOG.note(20)).format()) == HTTPStatus.UNPROCESSABLE_ENTITY
    assert status(FORK.request(12, 20)) == HTTPStatus.UNPROCESSABLE_ENTITY
    assert status(FORK.request(12, 12)) == HTTPStatus.UNPROCESSABLE_ENTITY
    # Unknown lines are ignored.
    ours = Request(12, tuple(LOG.proof(12, 20)), Note(note.text, (*extra, *note.signatures)))
    assert status(ours.format()) == HTTPStatus.OK
    new = new_witness(tmp_path / "new")
    unneeded = Request(0, (bytes(32),), LOG.note(5)).format()
    assert new.add_checkpoint(unneeded, NOW).status == HTTPStatus.UNPROCESSABLE_ENTITY


def test_an_empty_tree_has_one_root(witness):
    from ledger_fixtures import sign_with_both

    wrong = Request(0, (), sign_with_both(Checkpoint(ORIGIN, 0, bytes(32)))).format()
    assert witness.add_checkpoint(wrong, NOW).status == HTTPStatus.UNPROCESSABLE_ENTITY
    accepted(witness.add_checkpoint(LOG.request(0, 0), NOW), LOG.checkpoint(0))
    accepted(witness.add_checkpoint(LOG.request(0, 9), NOW), LOG.checkpoint(9))


def test_the_clock_never_goes_back(witness):
    for now, at in ((NOW, NOW), (NOW - 500, NOW), (0, NOW), (NOW + 5, NOW + 5)):
        accepted(witness.add_checkpoint(LOG.request(*last(witness), 9), now), LOG.checkpoint(9), at)


def last(witness: Witness) -> tuple[int]:
    return (dict(witness._state.logs())[ORIGIN],)


BODY = LOG.request(8, 20)


@given(
    st.integers(0, len(BODY) - 1),
    st.sampled_from(["flip", "drop", "double", "cut", "newline"]),
    st.integers(0, 7),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_changed_request_is_refused_or_harmless(shared_witness, at, how, bit):
    changed = bytearray(BODY)
    if how == "flip":
        changed[at] ^= 1 << bit
    elif how == "cut":
        del changed[at:]
    else:
        changed[at : at + (how == "drop")] = {"drop": b"", "double": BODY[at : at + 1]}.get(
            how, b"\n"
        )
    if bytes(changed) == BODY:
        return
    answer = shared_witness.add_checkpoint(bytes(changed), NOW)
    assert answer.status in (400, 403, 404, 409, 422)
    assert last(shared_witness) == (8,)


@pytest.fixture(scope="module")
def shared_witness(tmp_path_factory) -> Witness:
    made = new_witness(tmp_path_factory.mktemp("shared"))
    assert made.add_checkpoint(LOG.request(0, 8), NOW).status == HTTPStatus.OK
    return made


def test_the_unchanged_request_is_taken(tmp_path):
    """Control: what the mutations start from is right."""
    made = new_witness(tmp_path)
    made.add_checkpoint(LOG.request(0, 8), NOW)
    assert made.add_checkpoint(BODY, NOW).status == HTTPStatus.OK


def test_a_request_has_its_limits(witness):
    too_long = b"old 8\n" + b"A" * 43 + b"=\n"
    note = LOG.note(20).format().encode()
    lines = [b"old 8\n", *[b"A" * 43 + b"=\n"] * (MAX_PROOF_LINES + 1), b"\n", note]
    for body in (b"", too_long, b"".join(lines), bytes(MAX_BODY_BYTES + 1)):
        assert witness.add_checkpoint(body, NOW).status == HTTPStatus.BAD_REQUEST
    assert len(Request.parse(b"".join(lines[:1] + lines[2:])).proof) == MAX_PROOF_LINES


# Two at once


def race(witness: Witness) -> list[HTTPStatus]:
    """Requests A (8 to 20) and B (8 to 30) at once; what C2SP's race needs."""
    witness.add_checkpoint(LOG.request(0, 8), NOW)
    gate, statuses = threading.Barrier(2), []

    def send(size: int) -> None:
        body = LOG.request(8, size)
        gate.wait()
        statuses.append((witness.add_checkpoint(body, NOW).status, size))

    threads = [threading.Thread(target=send, args=(size,)) for size in (20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(statuses)


def test_of_two_requests_at_once_one_is_cosigned(tmp_path):
    winners = []
    for round_ in range(20):
        witness = new_witness(tmp_path / str(round_))
        (won, size), (lost, _) = race(witness)
        assert (won, lost) == (HTTPStatus.OK, HTTPStatus.CONFLICT)
        assert last(witness) == (size,)
        winners.append(size)
    print(
        f"20 races: {winners.count(20)} won by the smaller tree, {winners.count(30)} by the other"
    )


def test_without_the_atomic_check_the_race_rolls_back(tmp_path, monkeypatch):
    """Control: the same race where check and update are two transactions."""
    from contextlib import contextmanager

    writing = WitnessState.writing
    checked = threading.Barrier(2)

    class Late:
        """A connection whose update comes when both have checked."""

        def __init__(self, db: sqlite3.Connection) -> None:
            self._db = db

        def execute(self, statement: str, *parameters: object) -> sqlite3.Cursor:
            if statement.startswith("UPDATE clock"):
                checked.wait(timeout=10)
            return self._db.execute(statement, *parameters)

    @contextmanager
    def torn(state: WitnessState):
        with state.reading() as db:
            yield Late(db)

    witness = new_witness(tmp_path)
    witness.add_checkpoint(LOG.request(0, 8), NOW)
    monkeypatch.setattr(WitnessState, "writing", torn)
    statuses: list[HTTPStatus] = []
    threads = [
        threading.Thread(
            target=lambda size=size: statuses.append(
                witness.add_checkpoint(LOG.request(8, size), NOW).status
            )
        )
        for size in (20, 30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [HTTPStatus.OK, HTTPStatus.OK]
    monkeypatch.setattr(WitnessState, "writing", writing)


# Crashes


CRASHING = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from ledger.witness import Witness
from ledger.witnessstate import WitnessState
from witness_fixtures import LOG_KEYS, MadeLog, cosigners, leaves
import ledger.witness
ledger.witness.Answer = lambda status, *_: os.kill(os.getpid(), signal.SIGKILL)
witness = Witness(WitnessState(Path({folder!r})), cosigners())
witness.add_checkpoint(MadeLog(leaves(40)).request(8, 20), 1780000000)
"""


def test_what_was_cosigned_before_a_kill_is_remembered(witness, tmp_path):
    witness.add_checkpoint(LOG.request(0, 8), NOW)
    here = Path(__file__).parent
    program = CRASHING.format(paths=[str(here), str(here.parents[1])], folder=str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    again = Witness(WitnessState(tmp_path), cosigners())
    assert last(again) == (20,)
    # The log did not hear it: asked anew it gets the size, and the very same checkpoint again.
    assert again.add_checkpoint(LOG.request(8, 20), NOW).status == HTTPStatus.CONFLICT
    accepted(again.add_checkpoint(LOG.request(20, 20), NOW), LOG.checkpoint(20))
    assert again.add_checkpoint(FORK.request(20, 20), NOW).status == HTTPStatus.UNPROCESSABLE_ENTITY


def test_a_witness_that_forgets_cosigns_both_histories(tmp_path):
    """Control: why the state is flushed first, and never restored from a copy."""
    first = new_witness(tmp_path / "one")
    accepted(first.add_checkpoint(LOG.request(0, 20), NOW), LOG.checkpoint(20))
    forgetful = new_witness(tmp_path / "two")
    accepted(forgetful.add_checkpoint(FORK.request(0, 20), NOW), FORK.checkpoint(20))


def test_a_witness_without_its_state_does_not_start(tmp_path):
    with pytest.raises(WitnessStateLost, match="missing"):
        WitnessState(tmp_path)
    WitnessState.create(tmp_path)
    with pytest.raises(WitnessStateLost, match="exists already"):
        WitnessState.create(tmp_path)
    assert (tmp_path / DATABASE).stat().st_mode & 0o077 == 0
    (tmp_path / DATABASE).write_bytes(b"no database" * 100)
    with pytest.raises(WitnessStateLost):
        WitnessState(tmp_path)


def test_the_state_is_flushed_at_each_commit(witness):
    with witness._state.reading() as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)


# Evidence


def test_a_split_view_is_kept_as_it_was_signed(witness, tmp_path):
    witness.add_checkpoint(LOG.request(0, 20), NOW)
    for _ in range(3):
        witness.add_checkpoint(FORK.request(20, 20), NOW + 1)
    # Also where the request would have got 409.
    answer = witness.add_checkpoint(FORK.request(0, 20), NOW + 2)
    assert answer.status == HTTPStatus.CONFLICT
    (kept,) = witness._state.evidence()
    assert (kept.kind, kept.origin, kept.seen_at) == (Contradiction.SPLIT_VIEW, ORIGIN, NOW + 1)
    assert (kept.cosigned, kept.refused) == (LOG.note(20), FORK.note(20))
    files = sorted((tmp_path / EVIDENCE).iterdir())
    assert [file.name for file in files] == [
        "000001-split-view-cosigned.note",
        "000001-split-view-refused.note",
    ]
    one, two = (log_keys().verify(Note.parse(file.read_bytes())) for file in files)
    assert one.size == two.size
    assert one.root != two.root


def test_what_brings_no_proof_is_kept_apart(witness):
    witness.add_checkpoint(LOG.request(0, 20), NOW)
    witness.add_checkpoint(FORK.request(20, 33), NOW)
    (kept,) = witness._state.evidence()
    assert (kept.kind, kept.refused) == (Contradiction.UNPROVEN, FORK.note(33))
    # Whoever fills that has not filled the place of what proves a split view.
    longer = MadeLog(leaves(90))
    for size in range(21, 90):
        witness.add_checkpoint(Request(20, (), longer.note(size)).format(), NOW)
    witness.add_checkpoint(FORK.request(20, 20), NOW)
    kinds = [one.kind for one in witness._state.evidence()]
    assert kinds.count(Contradiction.UNPROVEN) == MAX_EVIDENCE
    assert kinds[-1] is Contradiction.SPLIT_VIEW


def test_lines_of_strangers_do_not_fill_what_is_kept(witness):
    """Anybody can put lines under a checkpoint; none of them makes it another contradiction."""
    witness.add_checkpoint(LOG.request(0, 20), NOW)
    note = Request.parse(LOG.request(20, 30)).note
    for number in range(3):
        line = SignatureLine("stranger.example", bytes(4), b"%d" % number * 1000)
        brought = Request(20, (), Note(note.text, (line, *note.signatures)))
        answer = witness.add_checkpoint(brought.format(), NOW)
        assert answer.status == HTTPStatus.UNPROCESSABLE_ENTITY
    (kept,) = witness._state.evidence()
    assert {line.name for line in kept.refused.signatures} == {ORIGIN}


def test_what_a_stranger_signed_is_no_evidence(witness):
    witness.add_checkpoint(LOG.request(0, 20), NOW)
    forged = MadeLog(leaves(40, forked_at=3), key=OTHER_KEY)
    assert witness.add_checkpoint(forged.request(20, 20), NOW).status == HTTPStatus.FORBIDDEN
    assert witness._state.evidence() == []


# Registering


def test_many_logs_and_rotated_keys(tmp_path):
    witness = new_witness(tmp_path)
    others = [MadeLog(leaves(9), origin=f"example.com/{i}") for i in range(30)]
    for i, other in enumerate(others):
        keys = [one.key for one in log_keys(KEY, f"example.com/{i}").keys]
        witness._state.register(f"example.com/{i}", keys)
        accepted(witness.add_checkpoint(other.request(0, 9), NOW), other.checkpoint(9))
    rotated = MadeLog(leaves(9), key=OTHER_KEY)
    assert witness.add_checkpoint(rotated.request(0, 9), NOW).status == HTTPStatus.FORBIDDEN
    witness._state.register(ORIGIN, [one.key for one in log_keys(OTHER_KEY).keys])
    assert len(witness._state.keys(ORIGIN)) == 4
    accepted(witness.add_checkpoint(rotated.request(0, 9), NOW), rotated.checkpoint(9))


def test_what_cannot_be_watched_is_refused(witness):
    for origin, keys in (("", LOG_KEYS), ("a\nb", LOG_KEYS), ("o" * 256, LOG_KEYS), ("o", ())):
        with pytest.raises(Malformed):
            witness._state.register(origin, keys)
    with pytest.raises(ValueError, match="one name"):
        Witness(witness._state, (cosigners("a")[0], cosigners("b")[0]))


def test_one_key_can_cosign_alone(tmp_path):
    for i, cosigner in enumerate(cosigners()):
        alone = new_witness(tmp_path / str(i), signing=(cosigner,))
        answer = alone.add_checkpoint(LOG.request(0, 20), NOW)
        note = Note.parse(f"{LOG.checkpoint(20).text()}\n".encode() + answer.body)
        assert verify(note, cosigner.verifier) in note.signatures
        assert len(note.signatures) == 1
