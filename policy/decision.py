"""The decision on a request to erase one record: one row, one article, one sentence.

Implements the decision table for conflicts between the right to erasure (GDPR, Art. 17) and the
duty to keep (Archiefwet 1995). The first row that matches decides:

    D2   already erased                                        the existing certificate
    D2b  a legal duty or court order to erase, Art. 17(1)(e)   refused until it is recorded
    D3   a legal hold                                          held: stored, nothing else
    D5   unlawfully processed, Art. 17(1)(d)                   refused until it is decided
    D7   kept for ever (blijvend bewaren)                      refused
    D8   archiefactiedatum not passed, or not known            refused until that date
    D9   archiefactiedatum passed                              queued on a destruction list
    D10  no retention duty                                     allowed

D2b comes before the hold, because an order to erase outranks it; D5 comes after. Neither is
carried out on a request alone: `Decision.needs` names the recorded decision that each takes. Rows
D1, D4 and D6 (identity, restriction, transfer) are about facts that this function is not given.

The same facts always give the same answer, and every answer names `RULE_VERSION` (AD3). The ground
is taken as established; weighing it is the work of the privacy officer.

Source: GDPR Art. 12(3), 17, 18; Archiefwet 1995, art. 3. Rows: ER3, AD3, ST5, ST15.
Proof: `tests/policy/test_policy_decision.py`.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from policy.category import RetentionRule
from policy.retention import archiefactiedatum, is_expired
from policy.selection_list import Waardering

RULE_VERSION = "erasure-1"
"""Name of the rules in this module; it changes whenever any answer changes."""


class Ground(StrEnum):
    """Why the subject asks for erasure."""

    NOT_NEEDED = "not-needed"
    CONSENT_WITHDRAWN = "consent-withdrawn"
    OBJECTION = "objection"
    UNLAWFUL = "unlawful"
    LEGAL_DUTY = "legal-duty"
    CHILD_SERVICE = "child-service"

    @property
    def article(self) -> str:
        """The point of GDPR Art. 17(1) that this ground rests on."""
        return f"Art. 17(1)({_POINT[self]}) GDPR"


_POINT = {
    Ground.NOT_NEEDED: "a",
    Ground.CONSENT_WITHDRAWN: "b",
    Ground.OBJECTION: "c",
    Ground.UNLAWFUL: "d",
    Ground.LEGAL_DUTY: "e",
    Ground.CHILD_SERVICE: "f",
}


class Outcome(StrEnum):
    """What happens to the record on this request."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    HELD = "held"
    QUEUED = "queued"
    ALREADY_ERASED = "already-erased"


class DecisionCode(StrEnum):
    """The row of the decision table."""

    D2 = "D2"
    D2B = "D2b"
    D3 = "D3"
    D5 = "D5"
    D7 = "D7"
    D8 = "D8"
    D9 = "D9"
    D10 = "D10"


@dataclass(frozen=True, slots=True)
class ErasureFacts:
    """Everything that the decision depends on; no personal data but dates.

    Attributes:
        ground: why the subject asks, as established by the privacy officer.
        today: the day in the municipality's own time zone.
        already_erased: the record's key is gone.
        on_hold: a legal hold lies on the record.
        rule: its retention duty; None where its category has no list code.
        brondatum: the day from which its term runs; None where it is not known.
    """

    ground: Ground
    today: dt.date
    already_erased: bool
    on_hold: bool
    rule: RetentionRule | None
    brondatum: dt.date | None

    @property
    def is_permanent(self) -> bool:
        """Whether the record is kept for ever."""
        return self.rule is not None and self.rule.result.waardering is Waardering.BLIJVEND_BEWAREN

    @property
    def archiefactiedatum(self) -> dt.date | None:
        """The last day on which it must be kept; None where there is none or it is unknown."""
        return None if self.rule is None else archiefactiedatum(self.brondatum, self.rule.result)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to the request.

    Attributes:
        code: the row that decided.
        outcome: what happens now.
        article: the article that it rests on.
        date: the archiefactiedatum, in D8 (None where unknown) and D9; else None.
        sentence_nl: what the subject is told, in plain Dutch (B1); no personal data.
        sentence_en: the same in English.
        needs: what must be recorded before the record can be erased after all, in D2b and D5;
            else empty.
        rule_version: the rules that decided.
    """

    code: DecisionCode
    outcome: Outcome
    article: str
    date: dt.date | None
    sentence_nl: str
    sentence_en: str
    needs: str
    rule_version: str


def decide(facts: ErasureFacts) -> Decision:
    """Decide on one request to erase one record (ER3).

    Raises:
        InvalidPolicy: the archiefactiedatum would fall after the year 9999.
    """
    code = _first_match(facts)
    has_date = code in (DecisionCode.D8, DecisionCode.D9)
    date = facts.archiefactiedatum if has_date else None
    sentence_nl, sentence_en = _sentences(code, date)
    return Decision(
        code=code,
        outcome=_OUTCOME[code],
        article=_ARTICLE.get(code, facts.ground.article),
        date=date,
        sentence_nl=sentence_nl,
        sentence_en=sentence_en,
        needs=_needs(code, is_permanent=facts.is_permanent),
        rule_version=RULE_VERSION,
    )


def _first_match(facts: ErasureFacts) -> DecisionCode:
    rows = (
        (DecisionCode.D2, facts.already_erased),
        (DecisionCode.D2B, facts.ground is Ground.LEGAL_DUTY),
        (DecisionCode.D3, facts.on_hold),
        (DecisionCode.D5, facts.ground is Ground.UNLAWFUL),
        (DecisionCode.D10, facts.rule is None),
        (DecisionCode.D7, facts.is_permanent),
    )
    for code, matches in rows:
        if matches:
            return code
    expired = is_expired(facts.archiefactiedatum, facts.today)
    return DecisionCode.D9 if expired else DecisionCode.D8


def _needs(code: DecisionCode, *, is_permanent: bool) -> str:
    if code not in (DecisionCode.D2B, DecisionCode.D5):
        return ""
    recorded = "a decision recorded by the privacy officer and the archivist"
    if is_permanent:
        return f"{recorded}, and M-of-N break-glass, because the record is blijvend te bewaren"
    return recorded


_OUTCOME = {
    DecisionCode.D2: Outcome.ALREADY_ERASED,
    DecisionCode.D2B: Outcome.REFUSED,
    DecisionCode.D3: Outcome.HELD,
    DecisionCode.D5: Outcome.REFUSED,
    DecisionCode.D7: Outcome.REFUSED,
    DecisionCode.D8: Outcome.REFUSED,
    DecisionCode.D9: Outcome.QUEUED,
    DecisionCode.D10: Outcome.ALLOWED,
}

# The rows that are missing here (D2b, D5, D9, D10) rest on the article of the ground.
_ARTICLE = {
    DecisionCode.D2: "Art. 12(3) GDPR",
    DecisionCode.D3: "Art. 17(3)(e), 18(1)(c) GDPR",
    DecisionCode.D7: "Art. 17(3)(b), (d) GDPR",
    DecisionCode.D8: "Art. 17(3)(b) GDPR",
}

_SENTENCES = {
    DecisionCode.D2: (
        "Wij hebben deze gegevens al gewist.",
        "We have already erased this data.",
    ),
    DecisionCode.D2B: (
        "Een wet of een rechter kan ons verplichten om deze gegevens te wissen. "
        "Wij wissen ze nu nog niet. Eerst moeten de privacyfunctionaris en de archivaris "
        "die plicht vastleggen.",
        "A law or a court may oblige us to erase this data. We do not erase it yet. First the "
        "privacy officer and the archivist must record that duty.",
    ),
    DecisionCode.D3: (
        "Wij wissen deze gegevens nu niet. Ze zijn nodig voor een bezwaar, een rechtszaak of een "
        "onderzoek. Wij bewaren ze tot dat is afgelopen.",
        "We do not erase this data now. It is needed for an objection, a court case or an "
        "inspection. We keep it until that has ended.",
    ),
    DecisionCode.D5: (
        "U zegt dat wij deze gegevens niet mochten gebruiken. Wij wissen ze nu nog niet. "
        "Eerst beslissen de privacyfunctionaris en de archivaris of dat zo is.",
        "You say that we were not allowed to use this data. We do not erase it yet. First the "
        "privacy officer and the archivist decide whether that is so.",
    ),
    DecisionCode.D7: (
        "Wij mogen deze gegevens niet wissen. Volgens de Archiefwet moeten wij ze altijd bewaren.",
        "We are not allowed to erase this data. Under the Archives Act we must keep it for ever.",
    ),
    DecisionCode.D8: (
        "Wij mogen deze gegevens nog niet wissen. Volgens de Archiefwet moeten wij ze bewaren "
        "tot en met {date}.",
        "We are not allowed to erase this data yet. Under the Archives Act we must keep it up to "
        "and including {date}.",
    ),
    DecisionCode.D9: (
        "Wij moesten deze gegevens bewaren tot en met {date}. Die dag is voorbij. "
        "Wij vernietigen ze met een vernietigingslijst, en niet los daarvan.",
        "We had to keep this data up to and including {date}. That day has passed. "
        "We destroy it by a destruction list, and not apart from that.",
    ),
    DecisionCode.D10: (
        "Wij wissen deze gegevens. Er is geen wettelijke plicht om ze te bewaren.",
        "We erase this data. There is no legal duty to keep it.",
    ),
}

_NO_DATE_YET = (
    "Wij mogen deze gegevens nog niet wissen. Volgens de Archiefwet moeten wij ze bewaren. "
    "Wij weten nog niet tot welke datum.",
    "We are not allowed to erase this data yet. Under the Archives Act we must keep it. "
    "We do not know yet until which date.",
)

# Written out, because the names that strftime gives depend on the machine's locale.
_MONTHS = (
    ("januari", "January"),
    ("februari", "February"),
    ("maart", "March"),
    ("april", "April"),
    ("mei", "May"),
    ("juni", "June"),
    ("juli", "July"),
    ("augustus", "August"),
    ("september", "September"),
    ("oktober", "October"),
    ("november", "November"),
    ("december", "December"),
)


def _sentences(code: DecisionCode, date: dt.date | None) -> tuple[str, str]:
    if date is None:
        return _NO_DATE_YET if code is DecisionCode.D8 else _SENTENCES[code]
    dutch, english = _SENTENCES[code]
    month_nl, month_en = _MONTHS[date.month - 1]
    return (
        dutch.format(date=f"{date.day} {month_nl} {date.year}"),
        english.format(date=f"{date.day} {month_en} {date.year}"),
    )
