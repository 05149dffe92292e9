"""No sequence of requests makes a witness roll back, or cosign two histories of one log (MT4)."""

import shutil
import tempfile
from http import HTTPStatus
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from ledger_fixtures import ORIGIN
from witness_fixtures import NOW, MadeLog, cosigners, leaves, new_witness

from ledger.checkpoint import Checkpoint
from ledger.note import Note, verify
from ledger.witness import Request, Witness
from ledger.witnessstate import Contradiction, WitnessState

SIZE = 24
# Histories that leave the first one at an index, all signed by the same keys.
HISTORIES = [MadeLog(leaves(SIZE, forked_at=at)) for at in (None, 0, 3, 8, 15, 23)]
SIZES = st.integers(0, SIZE)
CONTROL = settings(
    max_examples=40,
    stateful_step_count=12,
    deadline=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    derandomize=True,
)
COUNTS = {"requests": 0, "cosigned": 0, "refused": 0, "evidence": 0}


def extends(old: Checkpoint, new: Checkpoint) -> bool:
    """Whether some history holds both, without asking any proof."""
    return any(
        one.checkpoint(old.size) == old and one.checkpoint(new.size) == new for one in HISTORIES
    )


class Watching(RuleBasedStateMachine):
    """One witness, and a log that may sign every history at once."""

    make = staticmethod(new_witness)

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.witness = self.make(self.folder, signing=cosigners()[:1])
        self.cosigned: list[Checkpoint] = []
        self.followed = HISTORIES[0]
        self.now = NOW

    def teardown(self) -> None:
        kept = self.witness._state.evidence()
        COUNTS["evidence"] += len(kept)
        for one in kept:
            # What is called proof of a split view is one, whoever sent the requests.
            if one.kind is Contradiction.SPLIT_VIEW:
                pair = [Checkpoint.parse(note.text) for note in (one.cosigned, one.refused)]
                assert pair[0].size == pair[1].size
                assert pair[0].root != pair[1].root
        shutil.rmtree(self.folder)

    def send(self, old: int, proof: list[bytes], history: MadeLog, new: int) -> None:
        COUNTS["requests"] += 1
        body = Request(old, tuple(proof), history.note(new)).format()
        answer = self.witness.add_checkpoint(body, self.now)
        if answer.status != HTTPStatus.OK:
            COUNTS["refused"] += 1
            return
        COUNTS["cosigned"] += 1
        checkpoint = history.checkpoint(new)
        note = Note.parse(f"{checkpoint.text()}\n".encode() + answer.body)
        verify(note, cosigners()[0].verifier)
        self.cosigned.append(checkpoint)
        self.followed = history

    @rule(history=st.sampled_from(HISTORIES), more=st.integers(0, 5))
    def a_log_asks_as_it_should(self, history: MadeLog, more: int) -> None:
        self.ask_as_the_protocol_says(history, more)

    def ask_as_the_protocol_says(self, history: MadeLog, more: int) -> None:
        old = dict(self.witness._state.logs())[ORIGIN]
        new = min(SIZE, old + more)
        self.send(old, history.proof(old, new), history, new)

    @rule(more=st.integers(0, 3))
    def the_followed_log_grows(self, more: int) -> None:
        self.ask_as_the_protocol_says(self.followed, more)

    @rule(
        old=SIZES,
        history=st.sampled_from(HISTORIES),
        proven=st.sampled_from(HISTORIES),
        start=SIZES,
        end=SIZES,
        new=SIZES,
    )
    def ask_anything(
        self, old: int, history: MadeLog, proven: MadeLog, start: int, end: int, new: int
    ) -> None:
        self.send(old, proven.proof(start, end), history, new)

    @rule(seconds=st.integers(-1000, 1000))
    def the_clock_is_set(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def the_witness_starts_anew(self) -> None:
        self.witness = Witness(WitnessState(self.folder), cosigners()[:1])

    @invariant()
    def what_was_cosigned_is_one_history_that_grows(self) -> None:
        if len(self.cosigned) > 1:
            before, after = self.cosigned[-2:]
            assert before.size <= after.size
            assert extends(before, after)
            assert all(extends(one, after) for one in self.cosigned)


def test_no_sequence_makes_a_witness_contradict_itself():
    COUNTS.update(dict.fromkeys(COUNTS, 0))
    run_state_machine_as_test(
        Watching, settings=settings(max_examples=20, stateful_step_count=30, deadline=None)
    )
    print(COUNTS)
    assert COUNTS["cosigned"] > 30
    assert COUNTS["refused"] > 30


def test_the_machine_finds_a_witness_that_checks_no_proof(monkeypatch):
    """Control: the same sequences against one that believes every log."""
    monkeypatch.setattr("ledger.witness._grows", lambda last, request, new: True)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Watching, settings=CONTROL)


def test_the_machine_finds_a_witness_that_forgets(monkeypatch):
    """Control: and against one that does not keep what it cosigned."""

    class Forgetful(Watching):
        @rule()
        def the_witness_starts_anew(self) -> None:
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            self.witness = self.make(folder, signing=cosigners()[:1])

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Forgetful, settings=CONTROL)
