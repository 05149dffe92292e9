"""Anchoring and proving: from a pointer to evidence and from a vault to its trust file."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection

from anchor import job
from anchor.consistency import ConsistencyFile
from anchor.evidence import Evidence, Opening
from anchor.local import LocalTarget
from anchor.receipt import key_name
from anchor.steps import Verdict
from anchor.target import Target
from anchor.trust import TrustFile, WatchedRange, require_at_first
from anchor.verify import verify
from ledger.checkpoint import Checkpoint
from ledger.driver import run
from ledger.entry import (
    CORE_GROUP,
    EntryKind,
    parse_entry,
)
from ledger.log import Log
from ledger.note import Note, VerifierKey
from ledger.pointer import parse_pointer
from policy.certificate import SignedCertificate
from vault import checkpointing, witnessing
from vault.cipher import derive_record_keys
from vault.core import Caller, Core
from vault.errors import ConfigurationError, Damaged, InvalidInput, NotFound
from vault.evidencing import assemble, governance_leaves
from vault.groups import find_group, group_erased_error, newest_part
from vault.organisation import read_certificate
from vault.reading import erasure_leaf, living_record, pruned_erasure, version_leaves
from vault.records import Action, RecordRow, load_record
from vault.witnessing import Witnessed


@dataclass(frozen=True, slots=True)
class AnchorRun:
    """What an anchoring run did.

    Attributes:
        anchored: by target; of an older checkpoint where the newest lacks its quorum.
        witnessed: the newest checkpoint; its `missing` says why it was not anchored.
    """

    anchored: tuple[job.Anchored, ...]
    witnessed: Witnessed


def run_anchors(core: Core) -> AnchorRun:
    """Sign a checkpoint over all entries, have it cosigned, and anchor it at every target.

    A checkpoint without its quorum of witnesses is not anchored; the newest that has it is.
    """
    checkpointing.checkpoint(core)
    witnessed = witnessing.collect(core)
    checkpoint: Note | None = witnessed.note
    policy = witnessing.read_policy(core)
    if witnessed.missing is not None and policy is not None:
        with core.database.read() as connection:
            checkpoint = witnessing.newest_with_quorum(connection, policy)
    if checkpoint is None:
        return AnchorRun((), witnessed)
    now = core.clock.now()
    done = job.run(core.database.write, core.signer.keys, _targets(core, now), now, checkpoint)
    return AnchorRun(tuple(done), witnessed)


def anchor_status(core: Core) -> list[job.TargetStatus]:
    """Return how far each target is behind."""
    with core.database.read() as connection:
        return job.status(connection, [LocalTarget.name])


def trust_file(core: Core) -> TrustFile:
    """Return what an auditor needs to verify evidence of this vault."""
    anchor_key = VerifierKey(key_name(core.origin), bytes(core.keyring.anchor.verify_key))
    with core.database.read() as connection:
        founding = _founding(Log(connection))
    policies = _watched(core)
    return TrustFile(
        core.origin,
        require_at_first(policies),
        core.signer.keys.keys,
        (anchor_key,),
        (read_certificate(core.folder).public_bytes(Encoding.DER),),
        policies,
        founding,
    )


def _watched(core: Core) -> tuple[WatchedRange, ...]:
    policy = witnessing.read_policy(core)
    if policy is None:
        return ()
    try:
        policy.format().decode()
    except UnicodeDecodeError as cause:
        raise ConfigurationError(
            "the witness policy is not UTF-8, so no trust file can hold it"
        ) from cause
    return (WatchedRange(policy),)


def _founding(log: Log) -> bytes | None:
    """Return the SHA-256 of the founding entry, once a signed checkpoint covers it."""
    leaf, latest = governance_leaves(log).get(1), log.latest_checkpoint()
    if leaf is None or latest is None or Checkpoint.parse(latest.text).size <= leaf:
        return None
    return hashlib.sha256(log.entry(leaf)).digest()


@dataclass(frozen=True, slots=True)
class _Proven:
    """What is to be proven: a field group of a version of a record, 0 for the core."""

    record: RecordRow
    number: int
    group: int = CORE_GROUP
    name: str | None = None


def prove(
    core: Core,
    pointer_text: str,
    caller: Caller,
    version: int | None,
    *,
    disclose: bool,
    group: str | None = None,
) -> Evidence:
    """Return evidence that a version of a record is in the ledger; of an erased record too (ER9).

    Args:
        core: of the open vault.
        pointer_text: of the record.
        caller: who asks and why; a disclosure is recorded.
        version: from 1; None means the newest, of a field group the newest that has it.
        disclose: whether the evidence opens the payload.
        group: name of a field group of that version; None for its core.

    Raises:
        NotFound: no such record or version, or that version came without this group.
        InvalidInput: its category has no such group.
        Erased: the payload is to be disclosed but was erased.
        RolledBack: the database is an older copy, of which nothing is proven.
    """
    pointer = parse_pointer(pointer_text)
    with core.database.read() as connection:
        record = load_record(connection, pointer)
        core.require_allowed(record.category, caller.purpose)
        proven = _proven(core, connection, record, version, group)
        log = Log(connection)
        core.signer.memory.require_present(log.head())
        leaf = version_leaves(log, pointer, proven.group).get(proven.number)
        gone = pruned_erasure(log, pointer) if leaf is None else None
        if gone is not None:
            raise NotFound(f"version {proven.number} of record {record.name}{_because(gone)}")
        latest = log.latest_checkpoint()
    if leaf is None or latest is None or Checkpoint.parse(latest.text).size <= leaf:
        checkpointing.checkpoint(core)
    opening = _disclose(core, proven, caller) if disclose else None
    with core.database.read() as connection:
        log = Log(connection, core.tiles)
        leaf = version_leaves(log, pointer, proven.group)[proven.number]
        evidence = assemble(core, log, leaf, opening)
    _require_proof(core, evidence, f"record {record.name}")
    return evidence


def prove_erasure(
    core: Core, pointer_text: str, caller: Caller, group: str | None = None
) -> Evidence:
    """Return evidence that a record, or a field group of it, was erased (ER9).

    Args:
        core: of the open vault.
        pointer_text: of the record.
        caller: who asks and why.
        group: name of a field group; None for the record.

    Raises:
        NotFound: no such record, or it was not erased.
        InvalidInput: its category has no such group.
        RolledBack: the database is an older copy, of which nothing is proven.
    """
    checkpointing.checkpoint(core)
    pointer = parse_pointer(pointer_text)
    with core.database.read() as connection:
        record = load_record(connection, pointer)
        core.require_allowed(record.category, caller.purpose)
        number = CORE_GROUP if group is None else find_group(core, connection, record, group)
        log = Log(connection, core.tiles)
        leaf = erasure_leaf(log, pointer, number)
        if leaf is None:
            gone = pruned_erasure(log, pointer)
            what = "record" if group is None else f"field group {group} of record"
            raise NotFound(f"the ledger has no erasure of {what} {record.name}{_because(gone)}")
        evidence = assemble(core, log, leaf)
    _require_proof(core, evidence, f"the erasure of record {record.name}")
    return evidence


def prove_governance(core: Core, sequence: int) -> Evidence:
    """Return evidence of a governance entry, with the state in which it was decided (GO2).

    Args:
        core: of the open vault.
        sequence: of the state that it made, from 1.

    Raises:
        NotFound: there is no such entry.
        RolledBack: the database is an older copy, of which nothing is proven.
    """
    checkpointing.checkpoint(core)
    with core.database.read() as connection:
        log = Log(connection, core.tiles)
        leaf = governance_leaves(log).get(sequence)
        if leaf is None:
            raise NotFound(f"the ledger has no governance entry {sequence}")
        evidence = assemble(core, log, leaf)
    _require_proof(core, evidence, f"governance entry {sequence}")
    return evidence


def _because(gone: str | None) -> str:
    return "" if gone is None else f": {gone}"


def consistency(core: Core, old: int, new: int) -> ConsistencyFile:
    """Return the proof that the ledger only grew between two of its signed checkpoints.

    Args:
        core: of the open vault.
        old: size of the smaller, leaves, at least 1.
        new: size of the larger.

    Raises:
        InvalidInput: no checkpoint of such a size was signed, or they are not in this order.
        RolledBack: the database is an older copy, of which nothing is proven.
    """
    with core.database.read() as connection:
        log = Log(connection, core.tiles)
        core.signer.memory.require_present(log.head())
        notes = dict(log.checkpoints())
        for size in (old, new):
            if size not in notes:
                raise InvalidInput(
                    f"no checkpoint of {size} leaves was signed{_nearest(size, notes)}"
                )
        if not 0 < old < new:
            raise InvalidInput(f"a tree of {old} leaves does not grow to one of {new}")
        proof = tuple(log.consistency_proof(old, new))
        keys = witnessing.witness_keys(core)
        smaller, larger = (
            log.cosigned(Note.parse(notes[size].encode()), keys) for size in (old, new)
        )
    return ConsistencyFile(smaller, proof, larger)


def _nearest(size: int, sizes: Collection[int]) -> str:
    near = [max((one for one in sizes if one < size), default=None)]
    near.append(min((one for one in sizes if one > size), default=None))
    named = " and ".join(str(one) for one in near if one)
    return f"; the nearest are of {named}" if named else ""


def _require_proof(core: Core, evidence: Evidence, what: str) -> None:
    # Evidence that would not verify must never leave the house.
    report = verify(evidence, trust_file(core))
    if report.verdict is Verdict.FAILED:
        core.tiles.clear()
        raise Damaged(f"what is stored of {what} proves nothing: {report.sentence}")


def prove_certificate(core: Core, signed: SignedCertificate) -> Evidence:
    """Return evidence that the ledger holds the digest of a certificate of destruction (ST12).

    Raises:
        NotFound: the ledger does not hold it.
        RolledBack: the database is an older copy, of which nothing is proven.
    """
    checkpointing.checkpoint(core)
    pointer = parse_pointer(signed.certificate.pointer)
    digest = signed.digest()
    with core.database.read() as connection:
        log = Log(connection, core.tiles)
        core.signer.memory.require_present(log.head())
        for leaf in reversed(log.leaves_of(pointer)):
            entry = parse_entry(log.entry(leaf))
            if entry.kind is EntryKind.CERTIFICATE and entry.body == digest:
                return assemble(core, log, leaf)
    raise NotFound("the ledger does not hold this certificate: was it issued by another vault?")


def _proven(
    core: Core, connection: Connection, record: RecordRow, version: int | None, name: str | None
) -> _Proven:
    number = record.current if version is None else version
    if not 1 <= number <= record.current:
        raise NotFound(f"record {record.name} has no version {number}")
    if name is None:
        return _Proven(record, number)
    group = find_group(core, connection, record, name)
    newest = newest_part(connection, record, group, name).version
    if version is None:
        return _Proven(record, newest, group, name)
    found = run(
        connection,
        "SELECT 1 FROM vault_part WHERE record_id = ? AND number = ? AND field_group = ?",
        (record.id, number, group),
    ).fetchone()
    if found is None:
        raise NotFound(f"version {number} of record {record.name} came without this field group")
    return _Proven(record, number, group, name)


def _disclose(core: Core, proven: _Proven, caller: Caller) -> Opening:
    number, group = proven.number, proven.group
    with core.change() as change:
        # Checks the row, so that a changed category cannot open what its purpose may not see.
        pointer = bytes(proven.record.pointer)
        record, _ = living_record(core, change.connection, change.key, pointer, caller)
        slot, body = _sealed(change.connection, record, proven)
        keys = derive_record_keys(change.key(slot))
        payload = core.cipher.open(keys, bytes(record.pointer), number, body, group=group)
        act_id = change.act(caller, Action.DISCLOSE, core.clock.now())
        change.connection.exec_driver_sql(
            "INSERT INTO vault_disclosure (record_id, version, act_id, field_group)"
            " VALUES (?, ?, ?, ?)",
            (record.id, number, act_id, group),
        )
    return Opening(keys.commitment, payload)


def _sealed(connection: Connection, record: RecordRow, proven: _Proven) -> tuple[int, bytes]:
    """Return slot and blob of what is to be disclosed."""
    if proven.name is None:
        found = run(
            connection,
            "SELECT slot, body FROM vault_version WHERE record_id = ? AND number = ?",
            (record.id, proven.number),
        ).fetchone()
    else:
        found = run(
            connection,
            "SELECT slot, body, erased_generation FROM vault_part"
            " WHERE record_id = ? AND number = ? AND field_group = ?",
            (record.id, proven.number, proven.group),
        ).fetchone()
        if found is not None and found[2] is not None:
            raise group_erased_error(connection, record, proven.group, proven.name)
    if found is None or found[1] is None:
        raise Damaged(f"record {record.name} is live but its version {proven.number} is missing")
    return found[0], found[1]


def _targets(core: Core, now: int) -> list[Target]:
    path = core.folder / core.config.local_anchor
    return [LocalTarget(path, core.origin, core.keyring.anchor, now)]
