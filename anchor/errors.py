"""Errors of the anchor room: one root, each carrying its evidence."""

from __future__ import annotations


class AnchorError(Exception):
    """Root of everything that the anchor room raises."""


class BadFile(AnchorError):
    """A file that this software would not have written: bad input, not a failed verification."""


class OtherOrigin(AnchorError):
    """Evidence and trust file belong to different logs.

    Attributes:
        evidence: the origin that the evidence names.
        trusted: the origin that the trust file names.
    """

    def __init__(self, evidence: str, trusted: str) -> None:
        super().__init__(
            f"the evidence is of the log {evidence!r}, the trust file of {trusted!r}:"
            " bring the trust file of the log that made the evidence"
        )
        self.evidence = evidence
        self.trusted = trusted


class TargetDamaged(AnchorError):
    """What a target has kept is not what was given to it."""
