"""The parts of a certificate of destruction; their fields are its members (policy/certificate.py).

Proof: `tests/policy/test_certificate.py`.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from policy.assurance import Assurance, AssuranceClass, Presence, ProviderKind
from policy.decision import Decision, DecisionCode, Ground
from policy.selection_list import Waardering


class Status(StrEnum):
    """How far the destruction is."""

    ERASED = "erased"
    IRRECOVERABLE = "irrecoverable"
    PARTIAL = "partial"


class Irrecoverability(StrEnum):
    """Whether no copy of any store opens the record, or why that is not claimed."""

    CONFIRMED = "confirmed"
    SCHEDULED = "scheduled"
    NOT_DECLARED = "not-declared"
    WAITING = "waiting"
    FAILED = "failed"


class Tree(StrEnum):
    """The key tree that a generation is of."""

    ORDINARY = "ordinary"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True)
class LegalGround:
    """Why erasure was due.

    Attributes:
        name: the ground.
        article: the point of GDPR Art. 17(1), as `Ground.article` writes it.
    """

    name: Ground
    article: str

    @classmethod
    def of(cls, ground: Ground) -> LegalGround:
        """Return a ground with its article."""
        return cls(ground, ground.article)


@dataclass(frozen=True, slots=True)
class DecisionTaken:
    """The decision to erase.

    Attributes:
        code: a row of the decision table that can end in erasure: D2b, D5, D9 or D10.
        article: on which it rests.
        rule_version: the rules that decided (AD3).
    """

    code: DecisionCode
    article: str
    rule_version: str

    @classmethod
    def of(cls, decision: Decision) -> DecisionTaken:
        """Return what a certificate says of a decision."""
        return cls(decision.code, decision.article, decision.rule_version)


@dataclass(frozen=True, slots=True)
class Retention:
    """The retention duty that had ended or was set aside.

    Attributes:
        list_name: of the selection list.
        list_version: its edition, such as "2020".
        result: code of the result, such as "8.1.7".
        waardering: destroy or keep for ever.
        archiefactiedatum: the last day of the duty; None where there is none or it is unknown.
    """

    list_name: str
    list_version: str
    result: str
    waardering: Waardering
    archiefactiedatum: dt.date | None


@dataclass(frozen=True, slots=True)
class Approver:
    """Who approved the destruction.

    Attributes:
        name: of the official.
        role: in which they approved.
    """

    name: str
    role: str


@dataclass(frozen=True, slots=True)
class InBoth:
    """One text in two languages.

    Attributes:
        nl: Dutch.
        en: English.
    """

    nl: str
    en: str


@dataclass(frozen=True, slots=True)
class Declaration:
    """The operator's word that no copy of a root key is left.

    Attributes:
        name: who declares.
        at: when, UTC.
        statement: in their words.
    """

    name: str
    at: dt.datetime
    statement: str


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of root keys under which the record's key lay.

    Attributes:
        tree: of which key tree.
        number: from 1.
        provider: who kept the root key.
        reference: the root key's name there; no secret.
        assurance: what the provider's word is worth.
        presence: what is left of the root key.
        response: the provider's answer in its own words; None only while `present` and not asked.
        asked_at: when it answered so, UTC; None exactly where `response` is.
        gone_at: where `gone`, when it was found so; where `scheduled`, when it is due, or None if
            the provider does not say; None where `present`.
        declaration: that no copy is left; only for class `declared`, once `gone`.
    """

    tree: Tree
    number: int
    provider: ProviderKind
    reference: str
    assurance: Assurance
    presence: Presence
    response: str | None
    asked_at: dt.datetime | None
    gone_at: dt.datetime | None
    declaration: Declaration | None

    @property
    def lacks_declaration(self) -> bool:
        """Whether the operator still has to declare that no copy is left."""
        return self.assurance.class_ is AssuranceClass.DECLARED and self.declaration is None


@dataclass(frozen=True, slots=True)
class BackupHorizon:
    """How long backups of the keys may still exist.

    Attributes:
        days: that a key backup is kept, 0 to 36,500.
        until: the last day on which one from before the erasure may exist.
    """

    days: int
    until: dt.date


@dataclass(frozen=True, slots=True)
class ErasureEntry:
    """Where the ledger says that the record was erased.

    Attributes:
        index: of the leaf, from 0.
        entry: the leaf data (ledger/entry.py): 24 bytes, or with its place on a destruction list
            32 and up to 32 hashes of 32 bytes.
    """

    index: int
    entry: bytes


# No slots: the spelling is kept beside the fields.


def irrecoverability_of(generations: tuple[Generation, ...]) -> Irrecoverability:
    """Return what generations amount to, where no attempt to destroy one has failed."""
    presences = {generation.presence for generation in generations}
    if Presence.PRESENT in presences:
        return Irrecoverability.WAITING
    if Presence.SCHEDULED in presences:
        return Irrecoverability.SCHEDULED
    if any(generation.lacks_declaration for generation in generations):
        return Irrecoverability.NOT_DECLARED
    return Irrecoverability.CONFIRMED


def status_of(irrecoverability: Irrecoverability, failures: tuple[str, ...]) -> Status:
    """Return how far a destruction is; a part that failed makes it partial, whatever the rest."""
    if failures:
        return Status.PARTIAL
    confirmed = irrecoverability is Irrecoverability.CONFIRMED
    return Status.IRRECOVERABLE if confirmed else Status.ERASED
