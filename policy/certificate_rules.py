"""The rules of a certificate of destruction: it claims no more than it shows.

Each rule yields what of it is broken, in words that go behind "the certificate".
Proof: `tests/policy/test_certificate.py`.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from policy.assurance import AssuranceClass, Presence
from policy.certificate_parts import (
    Generation,
    Irrecoverability,
    Tree,
    irrecoverability_of,
    status_of,
)
from policy.decision import DecisionCode
from policy.selection_list import Waardering

if TYPE_CHECKING:
    from policy.certificate import Certificate

SERIAL_BYTES = 16
ENTRY_BYTES = 24
# Of an erasure by a destruction list: with its place on the list, and a path of 0 to 32 hashes.
LISTED_ENTRY_BYTES = frozenset(range(32, 32 + 33 * 32, 32))
MAX_ITEMS = 1_000
_POINTER = re.compile("[a-z2-7]{25}[aeimquy4]")
_MAX_VERSION = 2**32 - 1
_MAX_GENERATION = 2**56 - 1
_LEAF_LIMIT = 2**63
_MAX_DAYS = 36_500
# The rows of the decision table that can end in erasure; the others keep, or come too late.
_ERASING = frozenset({DecisionCode.D2B, DecisionCode.D5, DecisionCode.D9, DecisionCode.D10})


def _names(one: Certificate) -> Iterator[str]:
    if len(one.serial) != SERIAL_BYTES:
        yield f"has a serial of {len(one.serial)} bytes, not {SERIAL_BYTES}"
    if _POINTER.fullmatch(one.pointer) is None:
        yield "has a pointer that is not 26 characters of a-z and 2-7"
    if not 1 <= one.versions <= _MAX_VERSION:
        yield f"counts {one.versions} versions"
    if not 0 <= one.erasure_entry.index < _LEAF_LIMIT:
        yield f"names leaf {one.erasure_entry.index} of the ledger"
    size = len(one.erasure_entry.entry)
    if size in LISTED_ENTRY_BYTES:
        if one.destruction_list is None:
            yield "has an erasure entry by a destruction list, and names none"
    elif size != ENTRY_BYTES:
        yield f"has an erasure entry of {size} bytes, not {ENTRY_BYTES}"


def _lists(one: Certificate) -> Iterator[str]:
    if not one.systems:
        yield "names no system"
    if not one.generations:
        yield "names no generation of root keys"
    for what, items in (
        ("field group", one.field_groups),
        ("approver", one.approvers),
        ("system", one.systems),
    ):
        if len(set(items)) != len(items):
            yield f"names one {what} twice"
    counts = (one.field_groups, one.approvers, one.systems, one.exclusions, one.failures)
    if any(len(items) > MAX_ITEMS for items in counts):
        yield f"has a list of more than {MAX_ITEMS} items"


def _law(one: Certificate) -> Iterator[str]:
    code, retention = one.decision.code, one.retention
    if one.ground.article != one.ground.name.article:
        yield f"rests {one.ground.name} on another article than {one.ground.name.article}"
    if code not in _ERASING:
        yield f"rests on {code}, which erases nothing"
    if code is DecisionCode.D10 and retention is not None:
        yield "rests on D10 in spite of a retention duty"
    if code is DecisionCode.D9:
        yield from _expiry(one)


def _expiry(one: Certificate) -> Iterator[str]:
    retention = one.retention
    if retention is None or retention.archiefactiedatum is None:
        yield "rests on D9 without an archiefactiedatum"
        return
    if retention.waardering is not Waardering.VERNIETIGEN:
        yield "rests on D9 though the record was to be kept for ever"
    # In the municipality's own time zone the day may be one further than in UTC.
    if one.erased_at.date() < retention.archiefactiedatum:
        yield "rests on D9 before the archiefactiedatum had passed"
    if one.destruction_list is None:
        yield "rests on D9 without a destruction list"


def _moments(one: Certificate) -> Iterator[str]:
    moments = [one.erased_at, one.issued_at, one.irrecoverable_at]
    for generation in one.generations:
        declared = generation.declaration
        moments += [generation.asked_at, generation.gone_at, declared.at if declared else None]
    for moment in moments:
        if moment is not None and (moment.utcoffset() != dt.timedelta(0) or moment.microsecond):
            yield "has a time that is not UTC to the second"


def _order(one: Certificate) -> Iterator[str]:
    if one.erased_at > one.issued_at:
        yield "was issued before the record was erased"
    seen = [moment for generation in one.generations for moment in _past(generation)]
    if any(moment > one.issued_at for moment in seen):
        yield "was issued before what it says of the root keys"
    if one.irrecoverable_at is not None:
        conditions = [
            moment for generation in one.generations for moment in _conditions(generation)
        ]
        if not max([one.erased_at, *conditions]) <= one.irrecoverable_at <= one.issued_at:
            yield "claims irrecoverability before its conditions were met, or before it is so"
    horizon = one.backup_horizon
    if horizon is not None and not 0 <= horizon.days <= _MAX_DAYS:
        yield f"has a backup horizon of {horizon.days} days"
    if horizon is not None and horizon.until < one.erased_at.date():
        yield "has a backup horizon that ends before the erasure"


def _past(generation: Generation) -> Iterator[dt.datetime]:
    if generation.asked_at is not None:
        yield generation.asked_at
    yield from _conditions(generation)


def _conditions(generation: Generation) -> Iterator[dt.datetime]:
    if generation.presence is Presence.GONE and generation.gone_at is not None:
        yield generation.gone_at
    if generation.declaration is not None:
        yield generation.declaration.at


def _generations(one: Certificate) -> Iterator[str]:
    for generation in one.generations:
        name = f"generation {generation.number} of the {generation.tree} tree"
        for fault in _generation(generation):
            yield f"says that {name} {fault}"
    for before, after in itertools.pairwise(one.generations):
        follows = before.tree is after.tree and after.number == before.number + 1
        begins = before.tree is Tree.ORDINARY and after.tree is Tree.PERMANENT
        if not follows and not begins:
            yield f"has a gap or another order after generation {before.number}"


def _generation(generation: Generation) -> Iterator[str]:
    if not 1 <= generation.number <= _MAX_GENERATION:
        yield "has no number that a generation has"
    if (generation.response is None) != (generation.asked_at is None):
        yield "has an answer without a time, or a time without an answer"
    if generation.gone_at is None and generation.presence is Presence.GONE:
        yield "is gone without a time"
    if generation.presence is Presence.PRESENT:
        if generation.gone_at is not None:
            yield "is present and has a time at which it goes"
        if generation.declaration is not None:
            yield "is declared gone though it is present"
        return
    if generation.response is None:
        yield f"is {generation.presence} without the provider's answer"
    if generation.declaration is not None and (
        generation.presence is not Presence.GONE
        or generation.assurance.class_ is not AssuranceClass.DECLARED
    ):
        yield "has a declaration that it does not call for"


def _outcome(one: Certificate) -> Iterator[str]:
    found = irrecoverability_of(one.generations)
    if one.irrecoverability not in (found, Irrecoverability.FAILED):
        yield f"says {one.irrecoverability} where the generations say {found}"
    if (one.irrecoverable_at is None) == (one.irrecoverability is Irrecoverability.CONFIRMED):
        yield "has a moment of irrecoverability without it, or the other way round"
    status = status_of(one.irrecoverability, one.failures)
    if one.status is not status:
        yield f"has the status {one.status} where {status} is due"


RULES = (_names, _lists, _law, _moments, _order, _generations, _outcome)
