"""Lifelike municipal records for the demo, the tests and the benchmarks.

The records describe nobody. Their citizen service numbers come from the official test range, which
is never issued; their names, addresses and dates are drawn at random (commands/lifelike_words.py).
The same seed and day always give the same bytes, and a longer run begins with the shorter one.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

from commands import lifelike_words as words

_T = TypeVar("_T")

FIRST_TEST_BSN = 999_990_000
LAST_TEST_BSN = 999_999_999
EARLIEST_BRONDATUM = date(2020, 1, 1)

RECORDS_PER_SUBJECT = 3
SUBJECTS_IN_VIEW = 12  # how far apart the records of one subject may lie, in subjects
FAMILIES = 0.6  # share of the subjects that have children under 18; the others are elderly

# For a family and for an elderly subject: the share of kindpakket, and of kindpakket plus wmo.
# With six families in ten this gives 45 % kindpakket, 35 % wmo and 20 % nieuwsbrief.
FAMILY_MIX = (0.75, 0.90)
ELDERLY_MIX = (0.0, 0.65)


@dataclass(frozen=True, slots=True)
class LifelikeRecord:
    """One record as a municipality would hand it to the vault.

    Attributes:
        category: `kindpakket`, `wmo` or `nieuwsbrief`.
        subject: The citizen service number, from the test range.
        payload: The record as compact UTF-8 JSON on one line, 1 to 5 KB.
        brondatum: The day from which the retention period counts; None while the case runs.
    """

    category: str
    subject: str
    payload: bytes
    brondatum: date | None


class _Draws:
    """Draws that rest on `Random.random` alone.

    Python promises that sequence for later versions; of `choice` and `shuffle` it does not.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random  # noqa: S311 - sample data, not secrets

    def chance(self, share: float) -> bool:
        return self.random() < share

    def between(self, low: int, high: int) -> int:
        return low + int(self.random() * (high - low + 1))

    def pick(self, items: Sequence[_T]) -> _T:
        return items[int(self.random() * len(items))]

    def some(self, items: Sequence[_T], low: int, high: int) -> list[_T]:
        """Return low to high different neighbours from the table, which is taken as a ring."""
        first = self.between(0, len(items) - 1)
        return [items[(first + n) % len(items)] for n in range(self.between(low, high))]

    def days(self, first: int, last: int, count: int) -> list[str]:
        """Return count days between two ordinals, in order."""
        drawn = sorted(self.between(first, last) for _ in range(count))
        return [_iso(day) for day in drawn]


@dataclass(frozen=True, slots=True)
class _Person:
    """A subject: what all their records share. Days are proleptic ordinals."""

    bsn: str
    fields: dict[str, object]
    municipality: str
    email: str
    children: tuple[tuple[str, int], ...]  # name and birthday, the youngest first


@dataclass(frozen=True, slots=True)
class _Case:
    """What the writer of one record needs: whose it is, its number and the current day."""

    person: _Person
    number: int
    today: int


# The parts of a record that its category decides: day of the case, body, brondatum.
_Written = tuple[int, dict[str, object], int | None]

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def bsn_check(bsn: str) -> bool:
    """Tell whether a citizen service number passes the eleven-test.

    Args:
        bsn: The number, nine digits.

    Returns:
        True if it is nine digits, not all zero, and 9*d1 + 8*d2 + ... + 2*d8 - d9 is a multiple
        of eleven.
    """
    if len(bsn) != 9 or not (bsn.isascii() and bsn.isdigit()) or bsn == "000000000":
        return False
    weights = (9, 8, 7, 6, 5, 4, 3, 2, -1)
    return sum(w * int(digit) for w, digit in zip(weights, bsn, strict=True)) % 11 == 0


def all_test_bsns() -> Iterator[str]:
    """Yield the valid numbers of the official test range, ascending; there are some 900."""
    return filter(bsn_check, map(str, range(FIRST_TEST_BSN, LAST_TEST_BSN + 1)))


def lifelike_records(count: int, seed: int, today: date) -> Iterator[LifelikeRecord]:
    """Yield lifelike records, the same ones for the same seed and day.

    About 45 % is kindpakket, 35 % wmo and 20 % nieuwsbrief. A subject has about three records,
    until the test range is used up (some 2,700 records); from there on the subjects return.

    Args:
        count: How many records.
        seed: Where the draws start.
        today: The day on which the records are held; no brondatum lies after it.

    Yields:
        The records, in no order of time.

    Raises:
        ValueError: If today lies before 2020, when the oldest cases end.
    """
    if today < EARLIEST_BRONDATUM:
        raise ValueError(f"today is {today}, but the oldest cases end on {EARLIEST_BRONDATUM}")
    draws = _Draws(seed)
    bsns = sorted(all_test_bsns(), key=lambda _: draws.random())
    people = [_person(draws, bsn, today.toordinal()) for bsn in bsns]
    for number in range(count):
        ahead = number // RECORDS_PER_SUBJECT + draws.between(0, SUBJECTS_IN_VIEW - 1)
        person = people[ahead % len(people)]
        yield _record(draws, _Case(person, number, today.toordinal()))


def _iso(day: int) -> str:
    return date.fromordinal(day).isoformat()


def _years(years: float) -> int:
    return int(years * 365.25)


def _person(draws: _Draws, bsn: str, today: int) -> _Person:
    woman = draws.chance(0.55)
    name = draws.pick(words.WOMEN if woman else words.MEN)
    prefix, surname = draws.pick(words.SURNAMES)
    birthplace, country = draws.pick(words.BIRTHPLACES)
    children = _children(draws, today) if draws.chance(FAMILIES) else ()
    if children:
        born = children[-1][1] - draws.between(_years(21), _years(33))
    else:
        born = today - draws.between(_years(67), _years(95))
    municipality, address = _address(draws)
    fields: dict[str, object] = {
        "burgerservicenummer": bsn,
        "naam": {
            "voornamen": name,
            "voorletters": f"{name[0]}.",
            "voorvoegsel": prefix or None,
            "geslachtsnaam": surname,
        },
        "geslachtsaanduiding": "vrouw" if woman else "man",
        "geboorte": {"datum": _iso(born), "plaats": birthplace, "land": country},
        "verblijfplaats": address,
    }
    return _Person(bsn, fields, municipality, f"inwoner{bsn[4:]}@post.example", children)


def _children(draws: _Draws, today: int) -> tuple[tuple[str, int], ...]:
    """Return one to four children; the youngest is between three and seventeen today."""
    born = today - draws.between(_years(3), _years(17))
    children = []
    for name in draws.some(words.CHILDREN, 1, 4):
        children.append((name, born))
        born -= draws.between(_years(1.2), _years(4))
    return tuple(children)


def _address(draws: _Draws) -> tuple[str, dict[str, object]]:
    place, municipality, low, high = draws.pick(words.PLACES)
    letters = draws.pick(words.POSTCODE_LETTERS) + draws.pick(words.POSTCODE_LETTERS)
    return municipality, {
        "straatnaam": draws.pick(words.STREETS),
        "huisnummer": draws.between(1, 240),
        "huisnummertoevoeging": draws.pick(words.SUFFIXES) or None,
        "postcode": f"{draws.between(low, high)} {letters}",
        "woonplaats": place,
    }


def _record(draws: _Draws, case: _Case) -> LifelikeRecord:
    lot = draws.random()
    kindpakket, wmo = FAMILY_MIX if case.person.children else ELDERLY_MIX
    if lot < kindpakket:
        category, (opened, body, source) = "kindpakket", _kindpakket(draws, case)
    elif lot < wmo:
        category, (opened, body, source) = "wmo", _wmo(draws, case)
    else:
        category, (opened, body, source) = "nieuwsbrief", _nieuwsbrief(draws, case)
    content = {
        "zaaknummer": f"Z{date.fromordinal(opened).year}-{case.number:07d}",
        "zaaktype": category,
        "gemeente": case.person.municipality,
        "persoon": case.person.fields,
        **body,
    }
    brondatum = None if source is None else date.fromordinal(source)
    return LifelikeRecord(category, case.person.bsn, _encode(content).encode(), brondatum)


def _kindpakket(draws: _Draws, case: _Case) -> _Written:
    start, end = _period(draws, case)
    children = [
        (name, born) for name, born in case.person.children if start - _years(18) < born <= start
    ]
    spent, spendings = _spendings(draws, children, start, end or case.today)
    granted = (spent // 2500 + 1) * 2500
    body: dict[str, object] = {
        "regeling": draws.pick(words.SCHEMES),
        "status": "lopend" if end is None else "beëindigd",
        "kinderen": [{"voornaam": name, "geboortedatum": _iso(born)} for name, born in children],
        "beschikking": _decision(draws, case, start),
        "uitkeringsperiode": {
            "begindatum": _iso(start),
            "einddatum": None if end is None else _iso(end),
        },
        "bedragen": {
            "valuta": "EUR",
            "toegekendInCenten": granted,
            "besteedInCenten": spent,
            "restantInCenten": granted - spent,
        },
        "bestedingen": spendings,
    }
    return start, body, end


def _period(draws: _Draws, case: _Case) -> tuple[int, int | None]:
    """Return the first and last day of a benefit that starts after the youngest was born."""
    if draws.chance(0.2):
        return case.today - draws.between(30, 330), None
    youngest = case.person.children[0][1]
    earliest = max(EARLIEST_BRONDATUM.toordinal(), youngest + _years(1.25))
    end = draws.between(earliest, case.today)
    return end - 364, end


def _decision(draws: _Draws, case: _Case, start: int) -> dict[str, object]:
    applied = start - draws.between(21, 56)
    return {
        "kenmerk": f"KP/{case.number:07d}/{draws.between(100, 999)}",
        "aanvraagdatum": _iso(applied),
        "dagtekening": _iso(draws.between(applied + 5, start)),
        "besluit": "toegekend",
        "grondslag": "artikel 35, Participatiewet",
        "motivering": draws.pick(words.GROUNDS),
        "behandeldDoor": draws.pick(words.DESKS),
        "bezwaartermijnInWeken": 6,
    }


def _spendings(
    draws: _Draws, children: list[tuple[str, int]], start: int, end: int
) -> tuple[int, list[dict[str, object]]]:
    """Return the sum in cents and the vouchers that were spent."""
    total = 0
    spendings: list[dict[str, object]] = []
    for day in draws.days(start, end, draws.between(2, 18)):
        shop, articles = draws.pick(words.SHOPS)
        cents = draws.between(450, 6995)
        total += cents
        spendings.append(
            {
                "datum": day,
                "bonnummer": f"B{draws.between(0, 9_999_999):07d}",
                "kind": draws.pick(children)[0],
                "winkel": shop,
                "artikel": draws.pick(articles),
                "bedragInCenten": cents,
            }
        )
    return total, spendings


def _wmo(draws: _Draws, case: _Case) -> _Written:
    closed = None
    if draws.chance(0.6):
        closed = draws.between(EARLIEST_BRONDATUM.toordinal(), case.today)
    last = closed or case.today
    start = last - draws.between(90, _years(4.5))
    reported = start - draws.between(14, 56)
    body: dict[str, object] = {
        "status": "lopend" if closed is None else "afgesloten",
        "melding": {
            "datum": _iso(reported),
            "gemeldDoor": draws.pick(("inwoner", "mantelzorger", "huisarts", "ziekenhuis")),
            "ontvangenDoor": draws.pick(words.DESKS),
        },
        "onderzoek": {
            "gesprekOp": _iso(draws.between(reported + 3, start)),
            "beperkingen": draws.some(words.LIMITATIONS, 1, 4),
            "mantelzorgAanwezig": draws.chance(0.5),
            "onafhankelijkeCliëntondersteuning": draws.chance(0.2),
        },
        **_provision(draws, start),
        "bezoeken": _visits(draws, start, last),
        "afsluiting": None
        if closed is None
        else {"datum": _iso(closed), "reden": draws.pick(words.ENDINGS)},
    }
    return reported, body, closed


def _provision(draws: _Draws, start: int) -> dict[str, object]:
    code, name, result, unit, least, most = draws.pick(words.PROVISIONS)
    return {
        "indicatie": {
            "resultaat": result,
            "omvang": {"eenheid": unit, "aantal": draws.between(least, most)},
            "ingangsdatum": _iso(start),
            "geldigTotEnMet": _iso(start + _years(5)),
            "wettelijkeGrondslag": "artikel 2.3.5, Wmo 2015",
        },
        "voorziening": {
            "productcode": code,
            "omschrijving": name,
            "leveringsvorm": draws.pick(("zorg in natura", "persoonsgebonden budget")),
            "aanbieder": draws.pick(words.PROVIDERS),
            "contractnummer": f"C-{draws.between(1000, 9999)}",
        },
        "eigenBijdrage": {"verschuldigd": "rolstoel" not in name, "geïndDoor": "CAK"},
    }


def _visits(draws: _Draws, start: int, last: int) -> list[dict[str, object]]:
    return [
        {
            "datum": day,
            "soort": draws.pick(("huisbezoek", "telefonisch", "beeldbellen")),
            "duurInMinuten": draws.between(2, 18) * 5,
            "medewerker": draws.pick(words.DESKS),
            "verslag": draws.pick(words.OBSERVATIONS),
            "vervolgactie": draws.pick(words.ACTIONS),
        }
        for day in draws.days(start, last, draws.between(1, 14))
    ]


def _nieuwsbrief(draws: _Draws, case: _Case) -> _Written:
    consented = case.today - draws.between(60, _years(5))
    body: dict[str, object] = {
        "abonnement": {
            "status": "actief",
            "kanaal": draws.pick(words.CHANNELS),
            "mailadres": case.person.email,
            "taal": draws.pick(words.LANGUAGES),
            "begindatum": _iso(consented),
        },
        "voorkeuren": {
            "frequentie": draws.pick(("wekelijks", "tweewekelijks", "maandelijks")),
            "themas": draws.some(words.THEMES, 2, 7),
            "groteLetters": draws.chance(0.15),
            "straalInMeters": draws.between(1, 20) * 250,
        },
        "toestemming": {
            "tijdstip": _moment(draws, consented),
            "wijze": draws.pick(words.FORMS),
            "grondslag": "artikel 6, lid 1, onder a, AVG",
            "tekstversie": f"{draws.between(1, 4)}.{draws.between(0, 9)}",
            "bevestigd": True,
        },
        "verzendingen": _editions(draws, consented, case.today),
    }
    return consented, body, None


def _moment(draws: _Draws, day: int) -> str:
    hour, minute, second = draws.between(6, 21), draws.between(0, 59), draws.between(0, 59)
    return f"{_iso(day)}T{hour:02d}:{minute:02d}:{second:02d}Z"


def _editions(draws: _Draws, consented: int, today: int) -> list[dict[str, object]]:
    first = draws.between(1, 400)
    days = draws.days(consented + 1, today, draws.between(2, 22))
    return [
        {
            "editie": first + n,
            "datum": day,
            "onderwerp": draws.pick(words.SUBJECT_LINES),
            "rubrieken": draws.some(words.THEMES, 1, 3),
            "bezorging": "afgeleverd" if draws.chance(0.95) else "uitgesteld",
        }
        for n, day in enumerate(days)
    ]
