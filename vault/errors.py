"""Errors of the vault room: one root, each carrying its evidence, none carrying personal data."""

from __future__ import annotations

from policy import Decision


class VaultError(Exception):
    """Root of everything that the vault room raises."""


class InvalidInput(VaultError):
    """Something given to the vault that it cannot accept; nothing was changed."""


class ConfigurationError(InvalidInput):
    """The vault's folder or its configuration file cannot be used as it is."""


class WrongPassphrase(InvalidInput):
    """A key file does not open: another passphrase sealed it, or it was changed."""


class NewerSchema(InvalidInput):
    """The database was written by a newer version of this software."""


class NotFound(VaultError):
    """No record has this pointer."""


class NotCertified(NotFound):
    """There is no certificate of destruction, or not yet."""


class Erased(VaultError):
    """The record was erased; nothing can open it any more.

    Attributes:
        pointer: the record's pointer, as text.
        leaf: index of the erasure entry in the ledger, or None while it is pending, and once it
            was pruned.
        erased_at: Unix seconds, UTC.
        decision: the answer to a request to erase it again (D2), or None for any other request.
        group: name of the field group that was erased by itself; None for the whole record.
        pruned: what became of the erasure entry, in words, where the ledger was pruned (LG8).
    """

    def __init__(
        self,
        pointer: str,
        leaf: int | None,
        erased_at: int,
        decision: Decision | None = None,
        group: str | None = None,
        pruned: str | None = None,
    ) -> None:
        where = "pending in the ledger" if leaf is None else f"entry {leaf} of the ledger"
        what = f"record {pointer}" if group is None else f"field group {group} of record {pointer}"
        super().__init__(f"{what} was erased: {pruned or where}")
        self.pointer = pointer
        self.group = group
        self.leaf = leaf
        self.pruned = pruned
        self.erased_at = erased_at
        self.decision = decision


class Refused(VaultError):
    """The law or the policy forbids what was asked.

    Attributes:
        pointer: the record's pointer, as text.
        decision: outcome, article, date and the sentence for the citizen.
    """

    def __init__(self, pointer: str, decision: Decision) -> None:
        super().__init__(f"record {pointer}: {decision.sentence_en}")
        self.pointer = pointer
        self.decision = decision


class Stopped(VaultError):
    """The ledger is stopped: no new record enters (GO3).

    Attributes:
        sequence: of the state of governance that the stop made.
        resumed_by: what a resume takes, in words.
    """

    def __init__(self, sequence: int, resumed_by: str) -> None:
        super().__init__(
            f"stopped since state {sequence} of governance: nothing new is stored until"
            f" 'kluis resume', which takes {resumed_by}"
        )
        self.sequence = sequence
        self.resumed_by = resumed_by


class NotAllowed(VaultError):
    """The rules of governance do not allow what was asked, or not by this key (GO2)."""


class ListNeeded(NotAllowed):
    """A governed record that stands on no enacted destruction list.

    Attributes:
        pointer: the record's pointer, as text.
    """

    def __init__(self, pointer: str) -> None:
        super().__init__(
            f"record {pointer} is governed and stands on no enacted list: have a destruction list"
            " with it enacted first"
        )
        self.pointer = pointer


class PurposeRefused(VaultError):
    """The purpose is not registered, or the record's category does not allow it (PU1)."""


class Incomplete(VaultError):
    """A destruction of which one part failed: it is PARTIAL, not done (ER2)."""


class QuorumMissing(VaultError):
    """A checkpoint is signed and stored, and fewer witnesses cosigned it than the policy asks for.

    Attributes:
        size: leaves in the checkpoint.
        missing: what is missing, in words.
    """

    def __init__(self, size: int, missing: str, then: str) -> None:
        super().__init__(
            f"the checkpoint of {size} entries is signed and stored, without its quorum of"
            f" witnesses: {missing}; {then}"
        )
        self.size = size
        self.missing = missing


class Busy(VaultError):
    """Another process holds the writer lock, or the disk is out of reach: try again."""


class Damaged(VaultError):
    """Stored bytes are not what was written: a node, blob or row that fails its check."""


class KeyGone(VaultError):
    """A root key was destroyed, or is about to be: nothing of its generation opens any more."""


class ProviderUnreachable(Busy):
    """A root key provider does not answer; whether it did what was asked is not known."""


class ProviderDenied(VaultError):
    """A root key provider refuses this vault's role what was asked."""


class ProviderFailed(VaultError):
    """A root key provider answers what it should not: wrong bytes, or an error of its own."""


class BadBackup(Damaged):
    """A backup that was brought cannot be read, or is not as this software writes it."""


class KeyLost(Damaged):
    """A live record whose slot holds no key: lost, which is not the same as erased."""


class TreeMoved(VaultError):
    """The key tree changed under a writer: its compare-and-swap found another root sequence."""
