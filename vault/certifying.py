"""Issuing certificates of destruction (ER2, ER8, ST12).

An erasure is certified once its epoch was closed. What the certificate says is looked up then, not
remembered: what is left in the stored bytes, what became of each generation from the record's birth
to its erasure, what operators declared, which custodians attested. A generation is called gone only
if its provider does not deny that now. When any of that moves on, the certificate is issued anew
with the next number; one that says irrecoverable is the last. Each one's SHA-256 is an entry of the
ledger. Tested in tests/vault/test_certifying.py.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from sqlalchemy import Connection

from ledger.driver import run, run_many
from ledger.entry import (
    CORE_GROUP,
    ERASURES,
    EntryKind,
    encode_certificate,
    parse_entry,
    parse_membership,
)
from ledger.errors import Pruned
from ledger.log import Log, append_pending
from ledger.pointer import format_pointer, parse_pointer
from ledger.tiles import TILE_WIDTH
from policy.assurance import Presence
from policy.category import RetentionRule
from policy.certificate import Certificate, SignedCertificate
from policy.certificate_parts import (
    Approver,
    BackupHorizon,
    DecisionTaken,
    Declaration,
    ErasureEntry,
    InBoth,
    Irrecoverability,
    LegalGround,
    Retention,
    Status,
    Tree,
    irrecoverability_of,
    status_of,
)
from policy.certificate_parts import Generation as CertifiedGeneration
from policy.certificate_rules import SERIAL_BYTES
from policy.decision import DecisionCode, Ground
from policy.errors import InvalidPolicy
from policy.spelling import read
from vault.checkpointing import integrate_pending
from vault.core import Core
from vault.destroying import undestroyed
from vault.errors import (
    Damaged,
    InvalidInput,
    NotCertified,
    ProviderDenied,
    ProviderFailed,
    ProviderUnreachable,
)
from vault.escrow.attestation import attestations_needed, is_irrecoverable
from vault.escrow.stored import escrows
from vault.generations import Generation, GenerationState, load_generations, load_provider
from vault.records import load_record
from vault.rootkeys.opening import provider_class
from vault.rootkeys.provider import KeyReport, TreeNumber

_BATCH = 1_000
_BUNDLES = 256
_TREE = {TreeNumber.ORDINARY: Tree.ORDINARY, TreeNumber.PERMANENT: Tree.PERMANENT}
_SELECT = (
    "SELECT e.id, e.record_id, r.pointer,"
    # Of a field group, the last version that had it, as its erasure entry says.
    " CASE e.field_group WHEN 0 THEN r.current ELSE (SELECT max(number) FROM vault_part"
    " WHERE record_id = e.record_id AND field_group = e.field_group) END,"
    " e.field_group, e.tree, e.born, e.erased, e.index_born, e.index_erased, a.at,"
    " a.actor, e.ground, e.code, e.article, e.rule_version, e.retention, e.archiefactiedatum,"
    " e.approvers, c.number, c.status, c.irrecoverability,"
    # What it says beyond that can move on in these two.
    " CASE WHEN c.status = ? OR c.irrecoverability = ? THEN c.document END"
    " FROM vault_erasure e JOIN vault_record r ON r.id = e.record_id"
    " JOIN vault_act a ON a.id = e.act_id"
    " JOIN vault_tree t ON t.id = e.tree + 1 JOIN vault_tree o ON o.id = 1"
    " LEFT JOIN vault_certificate c ON c.erasure_id = e.id AND c.number ="
    " (SELECT max(number) FROM vault_certificate WHERE erasure_id = e.id)"
    # The epoch in which it was erased must be closed; and what is final stays as it is.
    " WHERE e.erased < t.generation AND coalesce(e.index_erased, 0) < o.generation"
    " AND e.id > ? AND (c.status IS NULL OR c.status <> ?)"
    " ORDER BY e.id LIMIT ?"
)
_MANNER = InBoth(
    "De sleutels van alle versies zijn in de sleutelboom met nullen overschreven en elke knoop"
    " daarboven heeft een nieuwe sleutel; de versleutelde inhoud, de index en de gegevens in de rij"
    " zijn verwijderd en dit is uit de opgeslagen bytes teruggelezen. Daarna is de sleutelperiode"
    " gesloten: de hoofdsleutels van de genoemde generaties zijn bij hun bewaarder vernietigd, voor"
    " zover hieronder staat.",
    "The keys of all versions were overwritten with zeros in the key tree, and every node above"
    " them has a fresh key; the sealed content, the index and the data in the row were removed,"
    " which was read back from the stored bytes. Then the epoch was closed: the root keys of the"
    " generations named were destroyed at their keeper, as far as is stated below.",
)
COPIES_STATEMENT = (
    "No copy of this key file exists, on any medium. / "
    "Van dit sleutelbestand bestaat geen kopie, op welke drager ook."
)


@dataclass(frozen=True, slots=True)
class Issued:
    """What a run of `certify` issued.

    Attributes:
        certificates: how many.
        irrecoverable: how many of those say so.
    """

    certificates: int
    irrecoverable: int


@dataclass(frozen=True, slots=True)
class _Erasure:
    """One erasure, joined with its record, its act and its newest certificate."""

    id: int
    record_id: int
    pointer: bytes
    versions: int
    field_group: int
    tree: int
    born: int
    erased: int
    index_born: int | None
    index_erased: int | None
    at: int
    actor: str
    ground: str
    code: str
    article: str
    rule_version: str
    retention: str | None
    archiefactiedatum: str | None
    approvers: str | None
    number: int | None
    status: str | None
    irrecoverability: str | None
    document: bytes | None

    def spans(self) -> Iterator[tuple[TreeNumber, int, int]]:
        """Yield each tree in which its keys lay, with their first and last generation."""
        yield TreeNumber(self.tree), self.born, self.erased
        if self.index_born is not None and self.index_erased is not None:
            yield TreeNumber.ORDINARY, self.index_born, self.index_erased

    def is_news(self, statement: Certificate) -> bool:
        """Tell whether a statement says something else than the newest certificate does."""
        if (statement.status, statement.irrecoverability) != (self.status, self.irrecoverability):
            return True
        if self.document is None:
            return False
        newest = SignedCertificate.parse(self.document).certificate
        said = (newest.failures, [one.gone_at for one in newest.generations])
        return (statement.failures, [one.gone_at for one in statement.generations]) != said


class _Denials:
    """What providers say now of generations that are stored as gone, each asked once in a run.

    Args:
        core: of the open vault.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._answers: dict[tuple[TreeNumber, int], KeyReport | None] = {}
        self._silent: set[int] = set()

    def ask(self, batch: Sequence[_Erasure]) -> None:
        """Ask of every generation that certificates of a batch of erasures could call gone."""
        spans = {span for one in batch for span in one.spans()}
        with self._core.database.read() as connection:
            stored = {number: load_generations(connection, number) for number in TreeNumber}
            named = {
                (one.tree, one.number): one
                for tree, born, erased in spans
                for one in stored[tree][born - 1 : erased]
                if one.state is GenerationState.GONE
            }
        for name in sorted(named.keys() - self._answers.keys()):
            self._answers[name] = self._denial(named[name])

    def of(self, generation: Generation) -> KeyReport | None:
        """Return a provider's answer that a generation is not gone; None where it gave none."""
        return self._answers.get((generation.tree, generation.number))

    def _denial(self, generation: Generation) -> KeyReport | None:
        if generation.provider_id in self._silent:
            return None
        try:
            with self._core.database.read() as connection:
                provider = self._core.providers.get(connection, generation.provider_id)
            report = provider.report(generation.reference)
        # It may be dismantled by now. What it said when the key was destroyed stands.
        except ProviderUnreachable:
            self._silent.add(generation.provider_id)
            return None
        except (InvalidInput, ProviderDenied, ProviderFailed):
            return None
        return None if report.presence is Presence.GONE else report


def certify(core: Core) -> Issued:
    """Issue a certificate for each erasure whose epoch is closed, where there is news.

    Raises:
        RolledBack, Forked, SignerStateLost: the database is not the one that was signed last.
    """
    total, irrecoverable, last = 0, 0, 0
    denials = _Denials(core)
    while True:
        with core.database.read() as connection:
            moving = (Status.PARTIAL, Irrecoverability.SCHEDULED)
            parameters = (*moving, last, Status.IRRECOVERABLE, _BATCH)
            rows = run(connection, _SELECT, parameters).fetchall()
        if not rows:
            return Issued(total, irrecoverable)
        if not last:
            # A certificate names the leaf of its erasure entry.
            integrate_pending(core)
        batch = [_Erasure(*row) for row in rows]
        last = batch[-1].id
        denials.ask(batch)
        signed = _issue(core, batch, denials)
        total += len(signed)
        irrecoverable += sum(one.certificate.status is Status.IRRECOVERABLE for one in signed)


def newest_certificate(core: Core, pointer_text: str, group: str | None) -> bytes:
    """Return the newest certificate of the erasure of a record or of one field group, as its file.

    Args:
        core: of the open vault.
        pointer_text: of the record.
        group: name of a field group that was erased by itself; None for the whole record.

    Raises:
        NotFound: no such record.
        NotCertified: it has no certificate yet.
    """
    pointer = parse_pointer(pointer_text)
    with core.database.read() as connection:
        record = load_record(connection, pointer)
        row = run(
            connection,
            "SELECT c.document FROM vault_certificate c JOIN vault_erasure e ON e.id = c.erasure_id"
            " WHERE e.record_id = ? AND e.field_group = CASE WHEN ? IS NULL THEN 0 ELSE"
            " (SELECT field_group FROM vault_part WHERE record_id = ? AND name = ? LIMIT 1) END"
            " ORDER BY c.number DESC LIMIT 1",
            (record.id, group, record.id, group),
        ).fetchone()
    if row is None:
        is_living = record.erased_act is None and group is None
        why = "it was not erased" if is_living else "run 'kluis shred' once it was erased"
        raise NotCertified(f"record {record.name} has no certificate of destruction: {why}")
    return bytes(row[0])


def executor_name(actor: str) -> str:
    """Return an actor as certificates name them; what an earlier version took may need escapes."""
    try:
        read(str, actor, "an executor")
    except InvalidPolicy:
        return ascii(actor)[:1_000]
    return actor


def _issue(core: Core, batch: Sequence[_Erasure], denials: _Denials) -> list[SignedCertificate]:
    with core.database.read() as connection:
        writer = _Writer(core, connection, denials)
        left = undestroyed(core, connection, [(one.record_id, one.field_group) for one in batch])
        news = [
            (erasure, statement)
            for erasure in batch
            for statement in [
                writer.statement(erasure, left.get((erasure.record_id, erasure.field_group)))
            ]
            if erasure.is_news(statement)
        ]
    signed = [statement.sign(core.keyring.organisation.sign) for _, statement in news]
    with core.database.write() as connection:
        numbers = [
            max(erasure.number or 0, writer.numbers.get(erasure.id, 0)) + 1 for erasure, _ in news
        ]
        _store(core, connection, [erasure for erasure, _ in news], numbers, signed)
    return signed


def _store(
    core: Core,
    connection: Connection,
    erasures: Sequence[_Erasure],
    numbers: Sequence[int],
    signed: Sequence[SignedCertificate],
) -> None:
    now = core.clock.now()
    rows: list[tuple[object, ...]] = []
    entries = []
    for erasure, number, one in zip(erasures, numbers, signed, strict=True):
        status, irrecoverability = one.certificate.status, one.certificate.irrecoverability
        rows.append((erasure.id, number, status, irrecoverability, one.format(), now))
        entries.append(
            encode_certificate(bytes(erasure.pointer), number, one.digest(), erasure.field_group)
        )
    run_many(
        connection,
        "INSERT INTO vault_certificate (erasure_id, number, status, irrecoverability, document,"
        " issued_at) VALUES (?, ?, ?, ?, ?, ?)",
        rows,
    )
    append_pending(connection, entries)


class _Writer:
    """Writes the statements of one batch, from one snapshot.

    Args:
        core: of the open vault.
        connection: with the snapshot.
        denials: what providers say now.
    """

    def __init__(self, core: Core, connection: Connection, denials: _Denials) -> None:
        self._core = core
        self._connection = connection
        # The newest certificate that the ledger has of each erasure, by the erasure's row.
        self.numbers: dict[int, int] = {}
        self._denials = denials
        self._log = Log(connection)
        # Entries that were integrated together lie in at most 256 bundles, in no order.
        self._bundle = lru_cache(_BUNDLES)(self._log.bundle)
        self._now = core.clock.now()

    @cached_property
    def _generations(self) -> Mapping[TreeNumber, list[CertifiedGeneration]]:
        return {
            number: [self._generation(one) for one in load_generations(self._connection, number)]
            for number in TreeNumber
        }

    def statement(self, erasure: _Erasure, left: str | None) -> Certificate:
        """Return what can be said of an erasure now."""
        tree = TreeNumber(erasure.tree)
        generations = tuple(self._generations[tree][erasure.born - 1 : erasure.erased])
        if erasure.index_born is not None:
            ordinary = self._generations[TreeNumber.ORDINARY]
            generations = (*ordinary[erasure.index_born - 1 : erasure.index_erased], *generations)
        failures = tuple(self._failures(erasure, left))
        irrecoverability = irrecoverability_of(generations)
        if failures and irrecoverability is Irrecoverability.CONFIRMED:
            irrecoverability = Irrecoverability.FAILED
        confirmed = irrecoverability is Irrecoverability.CONFIRMED
        days = self._core.config.key_backup_days
        erased_at = _moment(erasure.at)
        entry = self._entry(erasure)
        return Certificate(
            serial=os.urandom(SERIAL_BYTES),
            origin=self._core.origin,
            pointer=format_pointer(bytes(erasure.pointer)),
            versions=erasure.versions,
            field_groups=self._group_names(erasure),
            status=status_of(irrecoverability, failures),
            erased_at=erased_at,
            irrecoverable_at=_moment(self._now) if confirmed else None,
            issued_at=_moment(self._now),
            ground=LegalGround(Ground(erasure.ground), Ground(erasure.ground).article),
            decision=DecisionTaken(
                DecisionCode(erasure.code), erasure.article, erasure.rule_version
            ),
            retention=_retention(erasure),
            destruction_list=self._list_name(entry),
            approvers=tuple(
                Approver(name, role) for name, role in json.loads(erasure.approvers or "[]")
            ),
            executor=executor_name(erasure.actor),
            systems=(f"vault {self._core.origin}", f"ledger {self._core.origin}"),
            manner=_MANNER,
            exclusions=tuple(self._exclusions(erasure)),
            failures=failures,
            irrecoverability=irrecoverability,
            generations=generations,
            backup_horizon=None
            if days is None
            else BackupHorizon(days, (erased_at + dt.timedelta(days=days)).date()),
            erasure_entry=entry,
        )

    def _generation(self, one: Generation) -> CertifiedGeneration:
        kind, _ = load_provider(self._connection, one.provider_id)
        denial = self._denials.of(one)
        if denial is not None:
            state = GenerationState.CLOSED if denial.gone_at is None else GenerationState.SCHEDULED
            one = replace(
                one,
                state=state,
                response=denial.response,
                asked_at=self._now,
                gone_at=denial.gone_at,
            )
        presence = {
            GenerationState.GONE: Presence.GONE,
            GenerationState.SCHEDULED: Presence.SCHEDULED,
        }.get(one.state, Presence.PRESENT)
        gone_at = {
            Presence.GONE: one.destroyed_at,
            Presence.SCHEDULED: one.gone_at,
        }.get(presence)
        return CertifiedGeneration(
            tree=_TREE[one.tree],
            number=one.number,
            provider=kind,
            reference=one.reference,
            assurance=provider_class(kind).assurance,
            presence=presence,
            response=one.response,
            asked_at=_moment_or_none(one.asked_at),
            gone_at=_moment_or_none(gone_at),
            declaration=self._declaration(one) if presence is Presence.GONE else None,
        )

    def _declaration(self, one: Generation) -> Declaration | None:
        row = run(
            self._connection,
            "SELECT name, at FROM vault_declaration WHERE tree = ? AND generation = ?",
            (one.tree, one.number),
        ).fetchone()
        return None if row is None else Declaration(row[0], _moment(row[1]), COPIES_STATEMENT)

    def _failures(self, erasure: _Erasure, left: str | None) -> Iterator[str]:
        if left is not None:
            yield f"not destroyed in the vault: {left}"
        if erasure.tree != TreeNumber.PERMANENT:
            return
        for escrow, attested in escrows(self._connection, erasure.born, erasure.erased):
            if not is_irrecoverable(escrow.total, escrow.threshold, attested):
                needed = attestations_needed(escrow.total, escrow.threshold)
                yield (
                    f"escrow of generation {escrow.generation}: {attested} of {needed} custodians"
                    " attested that their share is destroyed"
                )

    def _exclusions(self, erasure: _Erasure) -> Iterator[str]:
        (disclosed,) = run(
            self._connection,
            "SELECT count(*) FROM vault_disclosure WHERE record_id = ? AND ? IN (0, field_group)",
            (erasure.record_id, erasure.field_group),
        ).fetchone()
        if disclosed:
            yield (
                f"{disclosed} evidence files with the payload left the vault before; they open for"
                " whoever has them"
            )

    def _group_names(self, erasure: _Erasure) -> tuple[str, ...]:
        if erasure.field_group == CORE_GROUP:
            return ()
        row = run(
            self._connection,
            "SELECT name FROM vault_part WHERE record_id = ? AND field_group = ? LIMIT 1",
            (erasure.record_id, erasure.field_group),
        ).fetchone()
        return (row[0],)

    def _list_name(self, erasure_entry: ErasureEntry) -> str | None:
        entry = parse_entry(erasure_entry.entry)
        if entry.kind is not EntryKind.LISTED_ERASURE:
            return None
        return f"list {parse_membership(entry.body).sequence} of {self._core.origin}"

    def _entry(self, erasure: _Erasure) -> ErasureEntry:
        for leaf in reversed(self._log.leaves_of(bytes(erasure.pointer))):
            data = self._leaf_data(leaf)
            entry = parse_entry(data)
            if entry.group != erasure.field_group:
                continue
            if entry.kind is EntryKind.CERTIFICATE:
                # The ledger may know of more than a restored vault has.
                known = self.numbers.get(erasure.id, 0)
                self.numbers[erasure.id] = max(known, entry.version)
            if entry.kind in ERASURES:
                return ErasureEntry(leaf, data)
        return self._entry_stated_before(erasure)

    def _leaf_data(self, leaf: int) -> bytes:
        number, place = divmod(leaf, TILE_WIDTH)
        try:
            bundle = self._bundle(number)
        except Pruned:
            return self._log.entry(leaf)
        (data,) = bundle[place : place + 1] or [b""]
        return data

    def _entry_stated_before(self, erasure: _Erasure) -> ErasureEntry:
        """Return the erasure entry as the last certificate states it: a prune took the entry."""
        row = run(
            self._connection,
            "SELECT document FROM vault_certificate WHERE erasure_id = ?"
            " ORDER BY number DESC LIMIT 1",
            (erasure.id,),
        ).fetchone()
        if row is None or self._log.pruned_to() is None:
            name = format_pointer(bytes(erasure.pointer))
            raise Damaged(f"the ledger lacks the erasure entry of record {name}")
        return SignedCertificate.parse(bytes(row[0])).certificate.erasure_entry


def _retention(erasure: _Erasure) -> Retention | None:
    if erasure.retention is None:
        return None
    rule = RetentionRule.parse(erasure.retention)
    if rule.result.waardering is None:
        raise Damaged("an erasure names a result of the selection list that is not in force")
    date = erasure.archiefactiedatum
    return Retention(
        "Selectielijst gemeenten en intergemeentelijke organen",
        rule.list_version,
        rule.result.code,
        rule.result.waardering,
        None if date is None else dt.date.fromisoformat(date),
    )


def _moment(at: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC)


def _moment_or_none(at: int | None) -> dt.datetime | None:
    return None if at is None else _moment(at)
