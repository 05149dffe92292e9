"""Exit codes of `kluis`, a contract that scripts rely on, and which error means which."""

from __future__ import annotations

from enum import IntEnum

import anchor.errors
import ledger.errors
import policy.errors
import vault.errors


class ExitCode(IntEnum):
    """What a command's exit says."""

    DONE = 0
    FAULT = 1
    BAD_INPUT = 2
    REFUSED = 3
    ERASED = 4
    NOT_FOUND = 5
    STOPPED = 6
    INCOMPLETE = 7
    BUSY = 8


# Most specific first: the first type that matches decides.
_BY_TYPE: tuple[tuple[type[Exception], ExitCode], ...] = (
    (vault.errors.Erased, ExitCode.ERASED),
    (vault.errors.NotFound, ExitCode.NOT_FOUND),
    (vault.errors.Refused, ExitCode.REFUSED),
    (vault.errors.PurposeRefused, ExitCode.REFUSED),
    (vault.errors.NotAllowed, ExitCode.REFUSED),
    (vault.errors.Stopped, ExitCode.STOPPED),
    (ledger.errors.NotValid, ExitCode.REFUSED),
    (vault.errors.ProviderDenied, ExitCode.REFUSED),
    (policy.errors.ListNotCarried, ExitCode.REFUSED),
    (vault.errors.Incomplete, ExitCode.INCOMPLETE),
    (vault.errors.QuorumMissing, ExitCode.INCOMPLETE),
    (vault.errors.Busy, ExitCode.BUSY),
    (vault.errors.TreeMoved, ExitCode.BUSY),
    (ledger.errors.SourceUnreachable, ExitCode.BUSY),
    (ledger.errors.DestinationUnreachable, ExitCode.BUSY),
    (ledger.errors.PublicationMoved, ExitCode.BUSY),
    (ledger.errors.NotJudged, ExitCode.INCOMPLETE),
    (ledger.errors.MonitorBusy, ExitCode.BUSY),
    (ledger.errors.SourceMissing, ExitCode.BAD_INPUT),
    (ledger.errors.Pruned, ExitCode.BAD_INPUT),
    (ledger.errors.NotServed, ExitCode.BAD_INPUT),
    (vault.errors.BadBackup, ExitCode.BAD_INPUT),
    (vault.errors.InvalidInput, ExitCode.BAD_INPUT),
    (policy.errors.InvalidPolicy, ExitCode.BAD_INPUT),
    (ledger.errors.Malformed, ExitCode.BAD_INPUT),
    (anchor.errors.BadFile, ExitCode.BAD_INPUT),
    (anchor.errors.OtherOrigin, ExitCode.BAD_INPUT),
)

# What to do about an error whose message does not say it.
_ADVICE: tuple[tuple[type[Exception], str], ...] = (
    (
        ledger.errors.RolledBack,
        "bring back the newest database; a restored copy must not sign another history",
    ),
    (ledger.errors.Forked, "bring back the database that was signed, and run 'kluis audit'"),
    (ledger.errors.SignerStateLost, "bring the vault's signer folder back; do not make a new one"),
    (
        ledger.errors.WitnessStateLost,
        "bring the witness's own folder back; a new or older one could vouch for two histories",
    ),
    (ledger.errors.MonitorStateLost, "bring that folder back, or begin anew in another one"),
    (ledger.errors.SourceUnreachable, "try again, or bring a copy of that ledger as a folder"),
    (ledger.errors.DestinationUnreachable, "mend that and export again; what is there stays valid"),
    (ledger.errors.PublicationMoved, "export again if it is behind this database"),
    (ledger.errors.SourceMissing, "bring the whole folder that 'kluis ledger export' wrote"),
    (
        ledger.errors.Pruned,
        "what is gone is gone for ever: ask for what lies above, or bring a newer backup",
    ),
    (vault.errors.BadBackup, "bring another copy of that backup"),
    (vault.errors.Damaged, "run 'kluis audit' to see all that is wrong"),
    (
        vault.errors.KeyGone,
        "bring a newer copy of the database or of its keys; this one is older than the last shred",
    ),
    (vault.errors.NotCertified, ""),
    (vault.errors.NotFound, "check the pointer, or look it up with 'kluis find'"),
)


def exit_code_of(error: Exception) -> ExitCode:
    """Return the exit code that an error of one of the rooms means; the rest are faults."""
    return next((code for kind, code in _BY_TYPE if isinstance(error, kind)), ExitCode.FAULT)


def advice_for(error: Exception) -> str:
    """Return what to do about an error, or nothing when its own message says it."""
    return next((advice for kind, advice in _ADVICE if isinstance(error, kind)), "")
