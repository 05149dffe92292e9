"""Escrow of the permanent tree's key, and the broken glass (ST6, OP5, D2b, D5).

Records that are kept for ever must survive the loss of the provider that keeps their root key, so
their epoch key is shared out among N custodians, of whom any M bring it back. M custodians are also
who it takes to erase such a record against its duty to be kept, on the order of a court or because
it was collected unlawfully: they show their shares, and two named officers have decided it. That
erasure is certified as partial until the root key's keeper has destroyed it and so many custodians
have attested that their shares are destroyed that fewer than M can be left.

What is stored of an escrow is public: who keeps which share, and how their attestations verify. A
new generation of the permanent tree needs a new escrow. Tested in tests/vault/test_escrowing.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger.driver import run
from ledger.entry import CORE_GROUP
from ledger.files import flush
from ledger.pointer import parse_pointer
from policy import DecisionCode, Ground, InvalidPolicy
from policy.spelling import read
from vault.certifying import certify
from vault.closing import NewPlace, OnStep
from vault.core import Caller, Core
from vault.destroying import Target, confirm, destroy
from vault.erasing import Erasure, decide_record
from vault.errors import (
    ConfigurationError,
    Damaged,
    ProviderDenied,
    ProviderFailed,
    ProviderUnreachable,
    Refused,
)
from vault.escrow.attestation import Attestation, attested_numbers
from vault.escrow.errors import EscrowRefused, OtherEscrow
from vault.escrow.members import fold_name
from vault.escrow.shares import Escrow, Share, combine, make_shares
from vault.escrow.stored import (
    delete_escrow,
    insert_attestation,
    insert_escrow,
    load_escrow,
)
from vault.keytree import KeyTree, root_of, tree_of
from vault.listing import membership_of
from vault.reading import living_record
from vault.records import Action, current_slot
from vault.rootkeys.provider import TreeNumber
from vault.shredding import ShredReport, move

# Grounds on which the glass may be broken: D2b and D5 of the decision table.
BREAKING = frozenset({DecisionCode.D2B, DecisionCode.D5})
_MIN_APPROVERS = 2


@dataclass(frozen=True, slots=True)
class Approval:
    """Someone who decided that the glass be broken.

    Attributes:
        name: of the person.
        role: in which that was, such as "privacy officer" or "archivist".
    """

    name: str
    role: str


def make_escrow(
    core: Core, custodians: Sequence[str], threshold: int, folder: Path, caller: Caller
) -> list[Path]:
    """Share the permanent tree's key out and write one share file for each custodian.

    Args:
        core: of the open vault.
        custodians: 2 to 16 names.
        threshold: how many of them bring the key back.
        folder: where the share files go; made if it is missing.
        caller: who does it and why.

    Returns:
        The files, in the order of the custodians.

    Raises:
        EscrowRefused: such an escrow would not protect.
        ConfigurationError: a share file is there already, the folder cannot be made, or the
            library is not installed.
        KeyGone, ProviderUnreachable: the key cannot be had at its keeper.
    """
    tree = core.trees[TreeNumber.PERMANENT]
    with core.database.read() as connection:
        state = tree.state(connection)
        epoch_key = tree.epoch_key(connection, state)
    at = core.clock.now()
    escrow, shares = make_shares(
        epoch_key, state.tenant, state.generation, custodians, threshold, created_at=at
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be made: {error.strerror}") from None
    paths = [folder / f"share-{state.generation}-{share.number}.json" for share in shares]
    for path in paths:
        if path.exists():
            raise ConfigurationError(f"{path} exists already: choose another folder")
    # Known to the vault before a share exists: one that nobody knows of could not be attested.
    with core.change() as change:
        if tree.state(change.connection).generation != state.generation:
            raise EscrowRefused("the permanent tree moved to a new generation meanwhile: try again")
        insert_escrow(change.connection, escrow, change.act(caller, Action.ESCROW, at))
    try:
        _write(shares, paths)
    except (OSError, ConfigurationError):
        # No share is left, so nobody could ever attest one.
        with core.change() as change:
            delete_escrow(change.connection, escrow.escrow_id)
        raise
    return paths


def _write(shares: Sequence[Share], paths: Sequence[Path]) -> None:
    """Write all shares, or none."""
    begun: list[Path] = []
    try:
        for path, share in zip(paths, shares, strict=True):
            begun.append(path)
            share.write(path)
        flush(paths[0].parent)
    except ConfigurationError:
        # The last one is another's, made since it was looked for.
        _remove(begun[:-1])
        raise
    except OSError:
        _remove(begun)
        raise


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def drill(core: Core, shares: Sequence[Share], caller: Caller) -> int:
    """Open the permanent tree with nothing but shares, and return how many keys it holds.

    Raises:
        TooFewShares, OtherEscrow, DuplicateShare, DamagedShare: they do not bring the key back.
        Damaged: the key does not open the tree.
    """
    epoch_key = _combined(core, shares)
    tree = KeyTree(TreeNumber.PERMANENT, core.providers)
    with core.database.read() as connection:
        state = tree.state(connection)
        tree.lend(shares[0].generation, epoch_key)
        _, keys = tree.open_all(connection, state)
    with core.change() as change:
        change.act(caller, Action.DRILL, core.clock.now())
    return keys


def recover(
    core: Core,
    shares: Sequence[Share],
    place: NewPlace,
    caller: Caller,
    on_step: OnStep = lambda step: None,
) -> ShredReport | None:
    """Give the permanent tree a new root key at a provider, where the old one is lost.

    The tree moves to a new generation, so that what the custodians hold opens only what was there.

    Returns:
        What was done; None where the tree moved but the old provider did not answer, so that the
        old root key is not known to be gone.

    Raises:
        TooFewShares, OtherEscrow, DuplicateShare, DamagedShare: they do not bring the key back.
        InvalidInput: these are not the options of such a provider.
    """
    tree = core.trees[TreeNumber.PERMANENT]
    epoch_key = _combined(core, shares)
    with core.database.read() as connection:
        tree.state(connection)
    tree.lend(shares[0].generation, epoch_key)
    with core.change() as change:
        # The lent key must open the root node before anything moves.
        tree.node(change.connection, tree.state(change.connection), root_of(TreeNumber.PERMANENT))
        change.act(caller, Action.ESCROW, core.clock.now())
    try:
        # Anew, since the lost one may have lain at that very provider.
        return move(core, TreeNumber.PERMANENT, place, caller, anew=True, on_step=on_step)
    except (ConfigurationError, ProviderDenied, ProviderFailed, ProviderUnreachable):
        # Of the old keeper, where the tree has left it: it is lost, or its credentials are.
        with core.database.read() as connection:
            if tree.state(connection).generation == shares[0].generation:
                raise
        return None


def accept_attestation(core: Core, attestation: Attestation, caller: Caller) -> Escrow:
    """Store that a custodian's share is destroyed, and certify what that completes.

    Raises:
        OtherEscrow: this vault made no such escrow.
        AttestationRefused: it does not count: not signed by that custodian, dated before the
            share was made, or with other numbers than the escrow.
    """
    with core.change() as change:
        escrow = load_escrow(change.connection, attestation.escrow_id)
        if escrow is None:
            raise OtherEscrow("this vault made no escrow of that name")
        # All that a certificate will ask of it: what is stored must count.
        attested_numbers(escrow, [attestation])
        insert_attestation(change.connection, attestation)
        change.act(caller, Action.ESCROW, core.clock.now())
    certify(core)
    return escrow


def break_glass(
    core: Core,
    pointer_text: str,
    ground: Ground,
    shares: Sequence[Share],
    approvals: Sequence[Approval],
    caller: Caller,
) -> Erasure:
    """Erase a record that is kept for ever, on an order or because it was collected unlawfully.

    Args:
        core: of the open vault.
        pointer_text: of the record.
        ground: `Ground.LEGAL_DUTY` (D2b) or `Ground.UNLAWFUL` (D5).
        shares: M of the escrow of the tree's present generation.
        approvals: of two different persons or more.
        caller: who carries it out and why.

    Raises:
        Refused: the decision table does not lead to D2b or D5, or the record is not kept for ever.
        ListNeeded: it is governed and stands on no enacted destruction list.
        EscrowRefused: there are not two different approvers, or one cannot be named so.
        TooFewShares, OtherEscrow, DuplicateShare, DamagedShare: the custodians do not agree.
        Incomplete: the destruction could not be confirmed (ER2).
    """
    _require_two(approvals)
    _combined(core, shares)
    pointer = parse_pointer(pointer_text)
    erased_at = core.clock.now()
    with core.change() as change:
        record, _ = living_record(core, change.connection, change.key, pointer, caller)
        decision = decide_record(core, record, ground)
        permanent = tree_of(current_slot(change.connection, record)) is TreeNumber.PERMANENT
        if decision.code not in BREAKING or not permanent:
            raise Refused(record.name, decision)
        act_id = change.act(caller, Action.BREAK_GLASS, erased_at)
        membership = membership_of(change.connection, pointer)
        versions = destroy(change, Target(record, ground, decision, membership), act_id)
        run(
            change.connection,
            "UPDATE vault_erasure SET approvers = ? WHERE record_id = ? AND field_group = ?",
            (json.dumps([[one.name, one.role] for one in approvals]), record.id, CORE_GROUP),
        )
    files_clean = core.database.clean_files()
    confirm(core, [record])
    generation = change.permanent.state.generation
    return Erasure(record.name, decision, versions, erased_at, generation, files_clean)


def _require_two(approvals: Sequence[Approval]) -> None:
    try:
        for one in approvals:
            # As the certificate will read them: one that it cannot hold would never be issued.
            read(str, one.name, "the name of an approver")
            read(str, one.role, "the role of an approver")
    except InvalidPolicy as error:
        raise EscrowRefused(str(error)) from None
    persons = {fold_name(" ".join(one.name.split())) for one in approvals}
    if len(persons) < max(_MIN_APPROVERS, len(approvals)):
        raise EscrowRefused(
            "it takes two different persons to decide that the glass be broken, each named once"
        )


def _combined(core: Core, shares: Sequence[Share]) -> bytes:
    """Return the epoch key that shares bring back, checked against the present tree's escrow."""
    epoch_key = combine(shares)
    with core.database.read() as connection:
        escrow = load_escrow(connection, shares[0].escrow_id)
        state = core.trees[TreeNumber.PERMANENT].state(connection)
    if escrow is None or shares[0].tenant != state.tenant:
        raise OtherEscrow("these shares are of another vault")
    if escrow.generation != state.generation:
        raise OtherEscrow(
            f"these shares are of generation {escrow.generation}, the tree is in"
            f" {state.generation}: use those of the newest escrow"
        )
    if not escrow.confirms(epoch_key):
        raise Damaged("the shares fit together but do not bring back the key that was shared out")
    return epoch_key
