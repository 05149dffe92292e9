"""Anchoring and proving: from a pointer to evidence and from a vault to its trust file."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection

from anchor import job
from anchor.evidence import Evidence, Group, Opening
from anchor.local import LocalTarget
from anchor.receipt import LocalReceipt, key_name
from anchor.statement import AnchorStatement
from anchor.steps import Verdict
from anchor.target import Target
from anchor.trust import REQUIRED_AT_FIRST, TrustFile
from anchor.verify import verify
from ledger.checkpoint import Checkpoint
from ledger.driver import run
from ledger.entry import CORE_GROUP, EntryKind, parse_entry
from ledger.log import Log
from ledger.note import VerifierKey
from ledger.pointer import parse_pointer
from ledger.tlogproof import LogProof
from policy.certificate import SignedCertificate
from vault import checkpointing
from vault.cipher import derive_record_keys
from vault.core import Caller, Core
from vault.errors import Damaged, NotFound
from vault.groups import find_group, group_erased_error, newest_part
from vault.organisation import read_certificate
from vault.reading import living_record, version_leaves
from vault.records import Action, RecordRow, load_record


def run_anchors(core: Core) -> list[job.Anchored]:
    """Sign a checkpoint over all entries and anchor it at every target."""
    checkpointing.checkpoint(core)
    now = core.clock.now()
    return job.run(core.database.write, core.signer.keys, _targets(core, now), now)


def anchor_status(core: Core) -> list[job.TargetStatus]:
    """Return how far each target is behind."""
    with core.database.read() as connection:
        return job.status(connection, [LocalTarget.name])


def trust_file(core: Core) -> TrustFile:
    """Return what an auditor needs to verify evidence of this vault."""
    anchor_key = VerifierKey(key_name(core.origin), bytes(core.keyring.anchor.verify_key))
    return TrustFile(
        core.origin,
        REQUIRED_AT_FIRST,
        core.signer.keys.keys,
        (anchor_key,),
        (read_certificate(core.folder).public_bytes(Encoding.DER),),
    )


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
        latest = log.latest_checkpoint()
    if leaf is None or latest is None or Checkpoint.parse(latest.text).size <= leaf:
        checkpointing.checkpoint(core)
    opening = _disclose(core, proven, caller) if disclose else None
    with core.database.read() as connection:
        log = Log(connection, core.tiles)
        leaf = version_leaves(log, pointer, proven.group)[proven.number]
        entry = log.entry(leaf)
        evidence = Evidence(parse_entry(entry), (_group(core, log, leaf),), opening)
    # Evidence that would not verify must never leave the house.
    report = verify(evidence, trust_file(core))
    if report.verdict is Verdict.FAILED:
        core.tiles.clear()
        raise Damaged(f"what is stored of record {record.name} proves nothing: {report.sentence}")
    return evidence


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
                return Evidence(entry, (_group(core, log, leaf),), None)
    raise NotFound("the ledger does not hold this certificate: was it issued by another vault?")


def _group(core: Core, log: Log, leaf: int) -> Group:
    """Return the proof against the oldest anchored checkpoint, or the newest if there is none."""
    anchored = job.anchored_statement(log.connection, leaf)
    if anchored is not None:
        statement = AnchorStatement.parse(anchored[0])
        receipts = tuple(LocalReceipt.parse(receipt) for _, receipt in anchored[1])
    else:
        latest = log.latest_checkpoint()
        if latest is None:
            raise Damaged("the ledger has no checkpoint, though one was signed")
        keys = core.signer.keys.for_size(Checkpoint.parse(latest.text).size)
        statement, receipts = AnchorStatement.of(latest, keys), ()
    note = statement.note
    size = Checkpoint.parse(note.text).size
    proof = LogProof(leaf, tuple(log.inclusion_proof(leaf, size)), note)
    return Group(proof, statement, receipts)


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
