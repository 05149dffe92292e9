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
