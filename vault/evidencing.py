"""Evidence out of the log: the entry, its proof, who vouches for that, and how it was decided.

A leaf is proven against one checkpoint: the oldest that is anchored; with a witness policy whose
quorum that lacks, the newest that has it; where there is neither, the newest of all. Where a key
that signed it was retired since, its tree is tied to the closing checkpoint (anchor/verify_log.py).
An entry that governance must have decided brings the governance entries that it is judged by
(anchor/verify_state.py). Of a log that was pruned, what was kept is proven to a checkpoint from the
minimum index on. Tested in tests/vault/test_evidencing.py.
"""

from __future__ import annotations

from anchor import job
from anchor.evidence import GOVERNED_KINDS, Evidence, Group, Opening, StateEntry
from anchor.receipt import LocalReceipt
from anchor.statement import AnchorStatement
from ledger.checkpoint import Checkpoint
from ledger.entry import GOVERNANCE_POINTER, Entry, EntryKind, parse_entry, parse_membership
from ledger.log import Log
from ledger.note import Note
from ledger.tlogproof import LogProof
from ledger.witnesspolicy import WitnessPolicy
from vault import witnessing
from vault.core import Core
from vault.errors import Damaged

Stated = tuple[AnchorStatement, tuple[LocalReceipt, ...]]


def assemble(core: Core, log: Log, leaf: int, opening: Opening | None = None) -> Evidence:
    """Return evidence of a leaf that a signed checkpoint covers; nothing is verified.

    Raises:
        Damaged: no checkpoint is stored.
    """
    entry, policy = parse_entry(log.entry(leaf)), witnessing.read_policy(core)
    statement, receipts = _stated(core, log, _least_size(log, leaf), policy)
    note = statement.note if policy is None else log.cosigned(statement.note, policy.witness_keys())
    size = statement.checkpoint().size
    proof = LogProof(leaf, tuple(log.inclusion_proof(leaf, size)), note)
    group = Group(proof, statement, receipts, _to_closing(core, log, size))
    return Evidence(entry, (group,), opening, _state(log, entry, note))


def _least_size(log: Log, leaf: int) -> int:
    """Return the size of the smallest tree to which a leaf can be proven."""
    kept, pruned = log.kept(leaf), log.pruned_to()
    if kept is None or pruned is None:
        return leaf + 1
    return max(kept.size, pruned[0])


def _stated(core: Core, log: Log, least: int, policy: WitnessPolicy | None) -> Stated:
    anchored = _anchored(log, least)
    if policy is not None and (anchored is None or not _has_quorum(log, policy, anchored)):
        witnessed = witnessing.newest_with_quorum(log.connection, policy)
        size = 0 if witnessed is None else Checkpoint.parse(witnessed.text).size
        if witnessed is not None and size >= least:
            later = _anchored(log, size)
            if later is not None and later[0].checkpoint().size == size:
                return later
            return _statement(core, witnessed), ()
    if anchored is not None:
        return anchored
    latest = log.latest_checkpoint()
    if latest is None:
        raise Damaged("the ledger has no checkpoint, though one was signed")
    return _statement(core, latest), ()


def _anchored(log: Log, least: int) -> Stated | None:
    """Return the oldest anchored statement about a tree of at least so many leaves."""
    found = job.anchored_statement(log.connection, least - 1)
    if found is None:
        return None
    receipts = tuple(LocalReceipt.parse(receipt) for _, receipt in found[1])
    return AnchorStatement.parse(found[0]), receipts


def _statement(core: Core, note: Note) -> AnchorStatement:
    return AnchorStatement.of(note, core.signer.keys.for_size(Checkpoint.parse(note.text).size))


def _has_quorum(log: Log, policy: WitnessPolicy, stated: Stated) -> bool:
    note = log.cosigned(stated[0].note, policy.witness_keys())
    return policy.missing(policy.cosigners(note)) is None


def _to_closing(core: Core, log: Log, size: int) -> tuple[bytes, ...]:
    """Return how a tree grew to the one at which a key that signed it was retired."""
    closings = [
        one.last_size
        for one in core.signer.keys.keys
        if one.covers(size) and one.last_size is not None
    ]
    closing = min(closings, default=size)
    return tuple(log.consistency_proof(size, closing)) if closing > size else ()


def governance_leaves(log: Log) -> dict[int, int]:
    """Return the leaf of each governance entry by its sequence, as far as they were not pruned."""
    leaves = log.leaves_of(GOVERNANCE_POINTER)
    return {parse_entry(log.entry(leaf)).version: leaf for leaf in leaves}


def _state(log: Log, entry: Entry, note: Note) -> tuple[StateEntry, ...]:
    """Return the governance entries by which an entry is judged, proven to one checkpoint.

    None where one of them aged out (LG8): then its authorisation cannot be shown any more.
    """
    if entry.kind not in GOVERNED_KINDS:
        return ()
    is_listed = entry.kind is EntryKind.LISTED_ERASURE
    last = parse_membership(entry.body).sequence if is_listed else entry.version - 1
    leaves, size = governance_leaves(log), Checkpoint.parse(note.text).size
    if not leaves.keys() >= set(range(1, last + 1)):
        return ()
    return tuple(
        StateEntry(
            parse_entry(log.entry(leaves[sequence])),
            LogProof(leaves[sequence], tuple(log.inclusion_proof(leaves[sequence], size)), note),
        )
        for sequence in range(1, last + 1)
    )
