"""What a certificate of destruction says, in words for people: Dutch and English.

Every field of the certificate appears, sorted by the question that it answers: what was destroyed,
why, by whom, what was tested, what was not tested, what was declared, what failed, and how all this
is checked. A list that is empty says so. Tested in tests/vault/test_certificate_pdf.py.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from policy.assurance import AssuranceClass, Presence, ProviderKind
from policy.certificate import Certificate, SignedCertificate
from policy.certificate_parts import Generation, Irrecoverability, Status, Tree
from policy.decision import Ground
from policy.selection_list import Waardering


class Language(IntEnum):
    """In which the words are."""

    NL = 0
    EN = 1


@dataclass(frozen=True, slots=True)
class Section:
    """One question and its answer.

    Attributes:
        title: the question.
        rows: label and text, each one line.
    """

    title: str
    rows: tuple[tuple[str, str], ...]


_Both = tuple[str, str]
_Say = Callable[[str, str], str]
_Rows = Iterator[tuple[str, str]]

_STATUS: dict[Status, _Both] = {
    Status.ERASED: (
        "Gewist. Het systeem kan de gegevens niet meer lezen. Nog niet is vastgesteld dat ook geen"
        " kopie ze meer kan openen.",
        "Erased. The system cannot read the data any more. It is not established yet that no copy"
        " can open it either.",
    ),
    Status.IRRECOVERABLE: (
        "Gewist en onherstelbaar. Geen kopie van de opslag opent de gegevens nog. Kopieën van"
        " hoofdsleutels vallen hierbuiten; zie wat niet is getoetst.",
        "Erased and irrecoverable. No copy of the storage opens the data any more. Copies of root"
        " keys are outside this; see what was not tested.",
    ),
    Status.PARTIAL: (
        "Gedeeltelijk. Een deel van de vernietiging is mislukt; zie wat mislukt is.",
        "Partial. A part of the destruction failed; see what failed.",
    ),
}
_IRRECOVERABILITY: dict[Irrecoverability, _Both] = {
    Irrecoverability.CONFIRMED: (
        "Bevestigd: alle hoofdsleutels waaronder de gegevens ooit lagen, zijn weg.",
        "Confirmed: all root keys under which the data ever lay are gone.",
    ),
    Irrecoverability.SCHEDULED: (
        "Nog niet: de vernietiging van een hoofdsleutel is gepland.",
        "Not yet: the destruction of a root key is scheduled.",
    ),
    Irrecoverability.NOT_DECLARED: (
        "Nog niet: de beheerder moet nog verklaren dat er geen kopie van een hoofdsleutel is.",
        "Not yet: the operator has not declared yet that no copy of a root key is left.",
    ),
    Irrecoverability.WAITING: (
        "Nog niet: een hoofdsleutel waaronder de gegevens lagen, is nog in gebruik.",
        "Not yet: a root key under which the data lay is still in use.",
    ),
    Irrecoverability.FAILED: (
        "Nee: de vernietiging van een hoofdsleutel is mislukt.",
        "No: the destruction of a root key failed.",
    ),
}
_GROUND: dict[Ground, _Both] = {
    Ground.NOT_NEEDED: (
        "de gegevens zijn niet meer nodig",
        "the data is no longer needed",
    ),
    Ground.CONSENT_WITHDRAWN: (
        "de toestemming is ingetrokken",
        "consent was withdrawn",
    ),
    Ground.OBJECTION: ("er is bezwaar gemaakt", "there was an objection"),
    Ground.UNLAWFUL: (
        "de gegevens zijn onrechtmatig verwerkt",
        "the data was processed unlawfully",
    ),
    Ground.LEGAL_DUTY: (
        "een wet of een rechter verplicht ertoe",
        "a law or a court demands it",
    ),
    Ground.CHILD_SERVICE: (
        "de gegevens zijn van een kind, bij een online dienst",
        "the data is of a child, for an online service",
    ),
}
_WAARDERING: dict[Waardering, _Both] = {
    Waardering.VERNIETIGEN: ("vernietigen", "destroy (vernietigen)"),
    Waardering.BLIJVEND_BEWAREN: ("blijvend bewaren", "keep for ever (blijvend bewaren)"),
}
_TREE: dict[Tree, _Both] = {
    Tree.ORDINARY: ("gewone sleutelboom", "ordinary key tree"),
    Tree.PERMANENT: (
        "sleutelboom van blijvend te bewaren gegevens",
        "key tree of records that are kept for ever",
    ),
}
_PROVIDER: dict[ProviderKind, _Both] = {
    ProviderKind.FILE: ("een sleutelbestand", "a key file"),
    ProviderKind.PKCS11: ("een beveiligde sleutelmodule (PKCS#11)", "a key module (PKCS#11)"),
    ProviderKind.TRANSIT: ("een sleuteldienst (transit)", "a key service (transit)"),
    ProviderKind.AWSKMS: ("een sleuteldienst (AWS KMS)", "a key service (AWS KMS)"),
}
_PRESENCE: dict[Presence, _Both] = {
    Presence.PRESENT: ("er nog", "still there"),
    Presence.SCHEDULED: ("gepland om te verdwijnen", "scheduled to go"),
    Presence.GONE: ("weg", "gone"),
}
_ASSURANCE: dict[AssuranceClass, _Both] = {
    AssuranceClass.DECLARED: ("verklaring van de beheerder", "declared by the operator"),
    AssuranceClass.TOKEN: ("woord van een sleutelmodule", "word of a key module"),
    AssuranceClass.SERVICE: ("woord van een eigen dienst", "word of a service of one's own"),
    AssuranceClass.MANAGED: ("woord van een leverancier", "word of a supplier"),
}


def title(language: Language) -> str:
    """Return the title of the pages."""
    return ("Verklaring van vernietiging", "Certificate of destruction")[language]


def sections(signed: SignedCertificate, language: Language) -> list[Section]:
    """Return all that a certificate says."""
    one = signed.certificate

    def say(nl: str, en: str) -> str:
        return (nl, en)[language]

    parts: tuple[tuple[str, _Rows], ...] = (
        (say("Wat is vernietigd", "What was destroyed"), _what(one, say)),
        (say("Waarom", "Why"), _why(one, say)),
        (say("Door wie", "By whom"), _who(one, say)),
        (say("Wat is getoetst", "What was tested"), _tested(one, say)),
        (say("Wat niet is getoetst", "What was not tested"), _untested(one, say)),
        (say("Wat is verklaard", "What was declared"), _declared(one, say)),
        (say("Wat is mislukt", "What failed"), _failed(one, say)),
        (say("Hoe dit te controleren is", "How to check this"), _checking(signed, say)),
    )
    return [Section(heading, tuple(rows)) for heading, rows in parts]


def _what(one: Certificate, say: _Say) -> _Rows:
    whole = say("het hele dossier", "the whole record")
    yield say("Stand", "Status"), say(*_STATUS[one.status])
    yield say("Dossier (verwijzing)", "Record (pointer)"), one.pointer
    yield say("Aantal versies", "Number of versions"), str(one.versions)
    yield say("Gewiste onderdelen", "Parts erased"), ", ".join(one.field_groups) or whole
    yield say("Gewist op", "Erased at"), _moment(one.erased_at)
    yield say("Wijze van vernietiging", "Manner of destruction"), say(one.manner.nl, one.manner.en)
    yield from _list(say("Systeem", "System"), one.systems, "")
    none = say("niets", "nothing")
    yield from _list(
        say("Niet vernietigd, en waarom", "Not destroyed, and why"), one.exclusions, none
    )


def _why(one: Certificate, say: _Say) -> _Rows:
    def law(article: str) -> str:
        # The name that the regulation has in Dutch.
        return say(article.replace("GDPR", "AVG"), article)

    ground = say(*_GROUND[one.ground.name])
    yield say("Grond", "Ground"), f"{ground}: {law(one.ground.article)}"
    decision = one.decision
    rests = f"{decision.code}, {law(decision.article)}"
    rules = say("regels", "rules")
    yield say("Beslissing", "Decision"), f"{rests}; {rules} {decision.rule_version}"
    yield from _retention(one, say)
    no_list = say("geen: los van een lijst gewist", "none: erased apart from a list")
    yield say("Vernietigingslijst", "Destruction list"), one.destruction_list or no_list


def _retention(one: Certificate, say: _Say) -> _Rows:
    label = say("Bewaarplicht", "Duty to keep")
    duty = one.retention
    if duty is None:
        yield label, say("geen", "none")
        return
    yield (
        label,
        say(
            f"{duty.list_name}, versie {duty.list_version}, resultaat {duty.result}",
            f"{duty.list_name}, version {duty.list_version}, result {duty.result}",
        ),
    )
    yield say("Waardering", "Appraisal (waardering)"), say(*_WAARDERING[duty.waardering])
    date = duty.archiefactiedatum
    yield (
        say("Archiefactiedatum", "Last day of the duty (archiefactiedatum)"),
        date.isoformat() if date else say("geen of onbekend", "none or unknown"),
    )


def _who(one: Certificate, say: _Say) -> _Rows:
    none = say("niemand apart", "nobody apart")
    approvers = [f"{approver.name}, {approver.role}" for approver in one.approvers]
    yield from _list(say("Goedgekeurd door", "Approved by"), approvers, none)
    yield say("Uitgevoerd door", "Carried out by"), one.executor
    yield say("Register (oorsprong)", "Ledger (origin)"), one.origin
    yield say("Afgegeven op", "Issued at"), _moment(one.issued_at)


def _tested(one: Certificate, say: _Say) -> _Rows:
    yield say("Onherstelbaar", "Irrecoverable"), say(*_IRRECOVERABILITY[one.irrecoverability])
    at = one.irrecoverable_at
    yield (
        say("Onherstelbaar sinds", "Irrecoverable since"),
        _moment(at) if at else say("nog niet", "not yet"),
    )
    for generation in one.generations:
        yield from _generation(generation, say)


def _generation(one: Generation, say: _Say) -> _Rows:
    tree, provider, presence = (
        say(*words) for words in (_TREE[one.tree], _PROVIDER[one.provider], _PRESENCE[one.presence])
    )
    when = ""
    if one.gone_at is not None:
        due, at = one.presence is Presence.SCHEDULED, _moment(one.gone_at)
        when = (
            say(f", op {at}", f", at {at}")
            if due
            else say(f", zo gevonden op {at}", f", found so at {at}")
        )
    yield (
        say(f"Hoofdsleutel, generatie {one.number}", f"Root key, generation {one.number}"),
        say(
            f"{tree}; in {provider}: {one.reference}; deze sleutel is {presence}{when}",
            f"{tree}; in {provider}: {one.reference}; this key is {presence}{when}",
        ),
    )
    if one.response is not None and one.asked_at is not None:
        asked = _moment(one.asked_at)
        yield (
            say("Antwoord van de bewaarder", "Answer of its keeper"),
            say(f"{one.response} (gevraagd op {asked})", f"{one.response} (asked at {asked})"),
        )


def _untested(one: Certificate, say: _Say) -> _Rows:
    seen: set[object] = set()
    for generation in one.generations:
        assurance = generation.assurance
        if assurance not in seen:
            seen.add(assurance)
            kind = say(*_ASSURANCE[assurance.class_])
            words = say(assurance.nl, assurance.en)
            yield say("Kopieën van hoofdsleutels", "Copies of root keys"), f"{kind}: {words}"
    horizon = one.backup_horizon
    label = say("Reservekopieën van sleutels", "Backups of keys")
    if horizon is None:
        yield label, say("worden niet gemaakt", "are not made")
        return
    until = horizon.until.isoformat()
    yield (
        label,
        say(
            f"blijven {horizon.days} dagen; uit de tijd voor het wissen kan er een zijn tot en met"
            f" {until}",
            f"are kept for {horizon.days} days; there may be one from before the erasure up to and"
            f" including {until}",
        ),
    )


def _declared(one: Certificate, say: _Say) -> _Rows:
    found = False
    for generation in one.generations:
        if generation.declaration is None:
            continue
        found = True
        declaration = generation.declaration
        tree = say(*_TREE[generation.tree])
        at = _moment(declaration.at)
        yield (
            say(
                f"Generatie {generation.number} ({tree})",
                f"Generation {generation.number} ({tree})",
            ),
            say(
                f"{declaration.name} verklaarde op {at}: {declaration.statement}",
                f"{declaration.name} declared at {at}: {declaration.statement}",
            ),
        )
    if not found:
        yield say("Verklaringen", "Declarations"), say("geen", "none")


def _failed(one: Certificate, say: _Say) -> _Rows:
    yield from _list(say("Mislukt", "Failed"), one.failures, say("niets", "nothing"))


def _checking(signed: SignedCertificate, say: _Say) -> _Rows:
    one = signed.certificate
    yield say("Kenmerk", "Serial"), one.serial.hex()
    yield (
        say("Regel in het register", "Entry in the ledger"),
        say(f"nummer {one.erasure_entry.index}", f"leaf {one.erasure_entry.index}"),
    )
    yield say("Inhoud van die regel", "Content of that entry"), one.erasure_entry.entry.hex()
    yield say("SHA-256 van de bijlage", "SHA-256 of the attachment"), signed.digest().hex()
    yield (
        say("Controle", "Check"),
        say(
            "De bijlage certificate.json is de verklaring zelf, ondertekend door de organisatie."
            " Dit document geeft haar weer. Controleer beide met: kluis verify BESTAND --trust"
            " trust.json --proof BEWIJS",
            "The attachment certificate.json is the certificate itself, signed by the organisation."
            " This document shows what it says. Check both with: kluis verify FILE --trust"
            " trust.json --proof PROOF",
        ),
    )


def _list(label: str, items: Iterable[str], none: str) -> _Rows:
    found = list(items)
    for number, item in enumerate(found, 1):
        yield (f"{label} ({number})" if len(found) > 1 else label), item
    if not found:
        yield label, none


def _moment(at: dt.datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
