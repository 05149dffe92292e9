"""Witnesses of the vault's ledger: who must cosign, asking them, and what they answered (LG4, MT4).

The policy is a file in the vault's folder (C2SP tlog-policy, ledger/witnesspolicy.py), named by
`[ledger] witness_policy`. `collect` is called after a checkpoint was signed and stored:

    1 read the newest checkpoint and what is stored of its cosignatures; close the transaction
    2 ask the witnesses of which one is lacking, all at once, for at most `witness_seconds`; no
      transaction and no lock is held, so that a witness that is down, slow or lying delays no write
    3 store what verified, in one transaction

A crash between 2 and 3 loses cosignatures that the witnesses give again. Tested in
tests/vault/test_witnessing.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from ledger.checkpoint import Checkpoint
from ledger.cosignature import CosignerKey
from ledger.driver import run_many
from ledger.errors import LedgerError, Malformed, NotSigned
from ledger.fault import Fault
from ledger.log import Log
from ledger.note import Note
from ledger.witnesspolicy import MAX_POLICY_BYTES, WitnessPolicy
from vault.core import Core
from vault.errors import ConfigurationError

if TYPE_CHECKING:
    from ledger.net.witnessclient import Asked


@dataclass(frozen=True, slots=True)
class Witnessed:
    """The newest checkpoint and how far it is witnessed.

    Attributes:
        note: with the log's lines first, then cosignatures in the order of the policy.
        size: leaves.
        asked: what came of asking, by witness; those that had cosigned before are not in it.
        missing: what its quorum lacks, in words; None where it is reached or nobody witnesses.
    """

    note: Note
    size: int
    asked: tuple[Asked, ...]
    missing: str | None

    @property
    def failed(self) -> tuple[Asked, ...]:
        """Those that were asked and did not cosign."""
        return tuple(one for one in self.asked if not one.lines)


def read_policy(core: Core) -> WitnessPolicy | None:
    """Return the vault's witness policy; None where nobody witnesses.

    Raises:
        ConfigurationError: the file cannot be read, or is none.
    """
    if core.config.witness_policy is None:
        return None
    path = core.folder / core.config.witness_policy
    try:
        with path.open("rb") as file:
            return WitnessPolicy.parse(file.read(MAX_POLICY_BYTES + 1))
    except OSError as cause:
        raise ConfigurationError(f"the witness policy {path} cannot be read") from cause
    except Malformed as cause:
        raise ConfigurationError(f"{path}: {cause}") from cause


def witness_keys(core: Core) -> tuple[CosignerKey, ...]:
    """Return the keys of the vault's witnesses, in the order of the policy."""
    policy = read_policy(core)
    return () if policy is None else policy.witness_keys()


def collect(core: Core) -> Witnessed:
    """Let the newest checkpoint be cosigned, and return it; the steps are those of this module.

    Raises:
        NotSigned: there is no checkpoint yet.
        ConfigurationError: the policy cannot be read.
    """
    policy = read_policy(core)
    # 1
    with core.database.read() as connection:
        log = Log(connection)
        signed = log.latest_checkpoint()
        if signed is None:
            raise NotSigned("the log has no signed checkpoint for witnesses to cosign")
        size = Checkpoint.parse(signed.text).size
        if policy is None:
            return Witnessed(signed, size, (), None)
        note = log.cosigned(signed, policy.witness_keys())
        remembered = _remembered(connection, policy)
    lacking = {key.name for key in policy.witness_keys()} - _complete(policy, note)

    def prove(old: int, new: int) -> list[bytes]:
        with core.database.read() as connection:
            return Log(connection, core.tiles).consistency_proof(old, new)

    # Slow to load, and a vault without witnesses needs none of it.
    from ledger.net.witnessclient import request_cosignatures

    # 2
    asked = request_cosignatures(
        signed,
        [one for one in policy.witnesses if one.key.name in lacking],
        remembered,
        prove,
        core.config.witness_seconds,
    )
    # 3
    if any(one.lines for one in asked):
        with core.database.write() as connection:
            _store(connection, size, asked, core.clock.now())
            note = Log(connection).cosigned(signed, policy.witness_keys())
    return Witnessed(note, size, tuple(asked), policy.missing(policy.cosigners(note)))


def newest_with_quorum(connection: Connection, policy: WitnessPolicy) -> Note | None:
    """Return the newest checkpoint that has its quorum, with the cosignatures; None without one."""
    log = Log(connection)
    for _, text in reversed(log.checkpoints()):
        note = log.cosigned(Note.parse(text.encode()), policy.witness_keys())
        if policy.missing(policy.cosigners(note)) is None:
            return note
    return None


def check_cosignatures(core: Core, connection: Connection) -> Iterator[Fault]:
    """Yield what is wrong with the stored cosignatures.

    One by a key that has left the policy is not verified: it is published no more and counts for
    nothing.
    """
    keys = {(key.name, key.key_id): key for key in witness_keys(core)}
    rows = connection.exec_driver_sql(
        "SELECT c.size, c.name, c.key_id, c.line, p.note FROM ledger_cosignature c"
        " LEFT JOIN ledger_checkpoint p ON p.size = c.size ORDER BY c.size, c.name, c.key_id"
    )
    for size, name, key_id, line, note in rows:
        where = f"cosignature of the checkpoint of {size} leaves"
        if note is None:
            yield Fault(where, "there is no such checkpoint")
            continue
        key = keys.get((name, bytes(key_id)))
        try:
            text = Note.parse(note.encode()).text
            (found,) = Note.parse(f"{text}\n{line}".encode()).signatures
            if (found.name, found.key_id) != (name, bytes(key_id)):
                yield Fault(where, "it is by another key than its row says")
            elif key is not None:
                key.check(text, found.signature)
        except (LedgerError, ValueError):
            yield Fault(where, "it does not verify")


def _complete(policy: WitnessPolicy, note: Note) -> set[str]:
    """Return the key names of the witnesses of which no key's line is lacking."""
    signed = set(policy.cosigners(note))
    lacking = {key.name for key in policy.witness_keys() if key not in signed}
    return {key.name for key in signed} - lacking


def _remembered(connection: Connection, policy: WitnessPolicy) -> dict[CosignerKey, int]:
    """Return the size of the largest tree that each key is known to have cosigned."""
    rows = connection.exec_driver_sql(
        "SELECT name, key_id, max(size) FROM ledger_cosignature GROUP BY name, key_id"
    )
    sizes = {(name, bytes(key_id)): size for name, key_id, size in rows}
    known = {key: sizes.get((key.name, key.key_id), 0) for key in policy.witness_keys()}
    return {key: size for key, size in known.items() if size}


def _store(connection: Connection, size: int, asked: list[Asked], now: int) -> None:
    run_many(
        connection,
        "INSERT INTO ledger_cosignature (size, name, key_id, line, received_at)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT (size, name, key_id) DO UPDATE SET"
        " line = excluded.line, received_at = excluded.received_at",
        [
            (size, key.name, key.key_id, line.format(), now)
            for one in asked
            for key, line in one.lines
        ],
    )
