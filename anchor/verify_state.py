"""Whether an entry was decided by those who may: its authorisation (GO2, MT4).

Evidence of a governance entry or of a listed erasure can carry the governance entries before it,
from the founding one on: for a governance entry all of them, for a listed erasure those down to the
one that enacted its list. Then:

    1 each is a governance entry and a leaf of the first group's checkpoint, in the order of the log
    2 each is valid in the state that those before it made (ledger/governance.py)
    3 the evidence's own entry is valid in the state that they all made: its approvals are its
      quorum, or the list on which it stands was enacted
    4 the founding entry is the one that the trust file names: who the members are never comes from
      the evidence

A state whose last entries were left out shows by its sequence. Whether a record was governed, and
so could be erased by a list alone, is told by its version entries and not here. Tested in
tests/anchor/test_verify_state.py.
"""

from __future__ import annotations

import hashlib

from anchor.evidence import GOVERNED_KINDS, Evidence
from anchor.steps import Step, StepResult, failed, not_checked, passed
from anchor.trust import TrustFile
from ledger import merkle
from ledger.entry import EntryKind, parse_membership
from ledger.errors import BadProof, NotValid
from ledger.governance import GovernanceState, judge

_STEP = Step.AUTHORISATION
_NOT = "authorisation not checked"


def authorisation(evidence: Evidence, trust: TrustFile) -> StepResult:
    """Check that governance decided what the entry says."""
    entry = evidence.entry
    if entry.kind not in GOVERNED_KINDS:
        return not_checked(_STEP, f"{_NOT}: nothing in an entry of this kind says who decided it")
    if not evidence.state and not _is_first(evidence):
        return not_checked(_STEP, f"{_NOT}: the evidence does not hold the state of governance")
    try:
        state = _replay(evidence)
        judge(evidence.origin, state, entry, evidence.groups[0].proof.index, None)
    except NotValid as error:
        return failed(_STEP, f"the entry {error}")
    except _NotState as error:
        return failed(_STEP, str(error))
    if trust.founding is None:
        return not_checked(_STEP, f"{_NOT}: the trust file names no founding entry")
    first = evidence.state[0].entry if evidence.state else entry
    found = hashlib.sha256(first.encode()).digest()
    if found != trust.founding:
        return failed(
            _STEP,
            f"expected the founding entry with SHA-256 {trust.founding.hex()}, found {found.hex()}",
        )
    if entry.kind is EntryKind.LISTED_ERASURE:
        return passed(_STEP, f"list {state.sequence} was enacted by its quorum, and names this")
    return passed(_STEP, f"approved by its quorum, after {state.sequence} governance entries")


class _NotState(Exception):
    """The governance entries in evidence are not the state that its entry goes by."""


def _is_first(evidence: Evidence) -> bool:
    return evidence.entry.kind is EntryKind.GOVERNANCE and evidence.entry.version == 1


def _replay(evidence: Evidence) -> GovernanceState:
    """Return the state that the entries in the evidence make.

    Raises:
        _NotState: they are not all that came before the entry, in order, and valid.
    """
    state, before = GovernanceState(), -1
    checkpoint = evidence.groups[0].checkpoint()
    for one in evidence.state:
        index, name = one.proof.index, f"governance entry at leaf {one.proof.index}"
        if one.entry.kind is not EntryKind.GOVERNANCE or index <= before:
            raise _NotState(f"{name}: not one, or out of the order of the log")
        try:
            merkle.verify_inclusion(
                merkle.leaf_hash(one.entry.encode()),
                index,
                checkpoint.size,
                one.proof.hashes,
                checkpoint.root,
            )
            state = judge(evidence.origin, state, one.entry, index, None)
        except BadProof as error:
            raise _NotState(f"{name}: {error}") from error
        except NotValid as error:
            raise _NotState(f"{name} {error}") from error
        before = index
    if before >= evidence.groups[0].proof.index:
        raise _NotState("a governance entry that stands behind the entry itself")
    if state.sequence != _last_sequence(evidence):
        raise _NotState(
            f"{state.sequence} governance entries where {_last_sequence(evidence)} go before this"
        )
    return state


def _last_sequence(evidence: Evidence) -> int:
    """Return the sequence of the last governance entry that the evidence must hold."""
    if evidence.entry.kind is EntryKind.LISTED_ERASURE:
        return parse_membership(evidence.entry.body).sequence
    return evidence.entry.version - 1
