"""Errors of the ledger room: one root, each carrying its evidence.

Bytes that cannot be parsed are bad input (`Malformed`); bytes that can be parsed and are wrong fail
verification (`BadSignature`, `BadProof`). The two are never mixed up, because a caller answers the
first by "bring the right file" and the second by "something was tampered with".
"""

from __future__ import annotations

from collections.abc import Mapping


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


class Pruned(LedgerError):
    """Entries below the log's minimum index are gone, and the hashes that only they need (LG8).

    Attributes:
        minimum: the index.
        leaf: of the prune entry, or None where it is not known: a published log does not say it.
    """

    def __init__(self, minimum: int, leaf: int | None, what: str) -> None:
        by = "" if leaf is None else f" by entry {leaf}"
        super().__init__(f"{what}: the ledger was pruned to {minimum}{by}")
        self.minimum = minimum
        self.leaf = leaf


class NotValid(LedgerError):
    """An entry that the rules of governance do not allow, given the state before it."""


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


class NotSigned(LedgerError):
    """The log has no signed checkpoint yet, so there is nothing that it stands for."""


class BadPublication(LedgerError):
    """A file of a published log that is not what the log's signed checkpoint covers.

    Attributes:
        path: of the file, as C2SP tlog-tiles names it.
        what: what is wrong with it.
    """

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"published file {path} {what}")
        self.path = path
        self.what = what


class SourceMissing(LedgerError):
    """A published log does not have a file that was asked for.

    Attributes:
        path: of the file, as C2SP tlog-tiles names it.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"the published log has no file {path}")
        self.path = path


class SourceUnreachable(LedgerError):
    """A published log could not be read, so nothing is known about it.

    Attributes:
        path: of the file that was asked for, as C2SP tlog-tiles names it.
        why: what came instead of an answer. Nothing that a server said is repeated in it.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"cannot read {path} of the published log: {why}")
        self.path = path
        self.why = why


class DestinationUnreachable(LedgerError):
    """A published log could not be written to, or it is not known whether it was.

    Attributes:
        path: of the file that was to be written or removed, as C2SP tlog-tiles names it.
        why: what came instead of an answer. Nothing that a server said is repeated in it.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"cannot write {path} of the published log: {why}")
        self.path = path
        self.why = why


class PublicationMoved(LedgerError):
    """Another export published a checkpoint while this one was at work, so this one did not."""

    def __init__(self) -> None:
        super().__init__("another export published a checkpoint meanwhile, which stands")


class SignerStateLost(LedgerError):
    """The signer's last checkpoint is missing or damaged, so signing could fork the history."""


class NoAnswer(LedgerError):
    """Nothing that is an answer came from a server in time. Nothing that it said is repeated."""


class NotServed(LedgerError):
    """A server cannot start: its address cannot be listened on, or its libraries are missing."""


class WitnessStateLost(LedgerError):
    """What a witness cosigned is missing or damaged, so cosigning could vouch for two histories."""


class Misbehaved(LedgerError):
    """A published log, or a witness of it, did what it must not; the evidence says what.

    Attributes:
        what: in one line.
        evidence: what was found, by names for files; never empty of what was signed.
    """

    def __init__(self, what: str, evidence: Mapping[str, bytes]) -> None:
        super().__init__(what)
        self.what = what
        self.evidence = dict(evidence)


class NotJudged(LedgerError):
    """What is published does not suffice to judge a log, which proves nothing against it."""


class MonitorBusy(LedgerError):
    """Another monitor works in the same folder."""


class MonitorStateLost(LedgerError):
    """What a monitor has seen so far is damaged, so it could not tell a fork from growth."""
