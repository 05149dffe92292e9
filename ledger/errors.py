"""Errors of the ledger room: one root, each carrying its evidence.

Bytes that cannot be parsed are bad input (`Malformed`); bytes that can be parsed and are wrong fail
verification (`BadSignature`, `BadProof`). The two are never mixed up, because a caller answers the
first by "bring the right file" and the second by "something was tampered with".
"""

from __future__ import annotations


class LedgerError(Exception):
    """Root of everything that the ledger room raises."""


class Malformed(LedgerError):
    """Bytes that this ledger would not have written."""


class BadSignature(LedgerError):
    """No signature of a known key, or one that does not verify."""


class BadProof(LedgerError):
    """A Merkle proof that does not lead to the expected root."""


class UnknownLeaf(LedgerError):
    """A leaf or a pointer of which the tree has no entry yet."""


class RolledBack(LedgerError):
    """The database holds a smaller tree than the signer has signed: an older copy was restored.

    Attributes:
        signed: leaves in the last checkpoint that was signed.
        present: leaves in the database.
    """

    def __init__(self, signed: int, present: int) -> None:
        super().__init__(
            f"the database holds {present} leaves but {signed} were signed: it is an older copy"
        )
        self.signed = signed
        self.present = present


class Forked(LedgerError):
    """The database holds another history than the one that was signed.

    Attributes:
        signed: leaves in the last checkpoint that was signed.
    """

    def __init__(self, signed: int) -> None:
        super().__init__(
            f"the database does not reproduce the checkpoint signed at {signed} leaves"
        )
        self.signed = signed


class SignerStateLost(LedgerError):
    """The signer's last checkpoint is missing or damaged, so signing could fork the history."""
