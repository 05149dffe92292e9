"""Record categories: what a municipality says, once, about each kind of record that it stores.

Implements the configuration table `categories`, as a TOML parser returns it:

    [categories.kindpakket]
    selectielijst = "2020"
    resultaat = "8.1.7"
    afleidingswijze = "eigenschap"
    purposes = ["inzage"]
    groups = ["contact", "foto"]

    [categories.nieuwsbrief]
    purposes = ["inzage"]

A category with a code of the selection list resolves to list version, procestype, resultaat and
waardering (ST1), and to the list that the record's own date calls for (ST2). A category without
one has no retention duty. Nothing is guessed: an unknown key or a wrong type is refused.

`groups` names the optional field groups of its records: data that no duty keeps, under keys of its
own, so that it can be erased while the record stays (ER5). The first is number 1 in keys, ledger
and certificates, the second number 2: names may be added at the end, never moved or taken out.

Source: Archiefwet 1995, art. 5; Archiefbesluit 1995, art. 5; GDPR art. 6 (purposes, PU1).
Rows: ST1, ST2, ST4, ER5. Proof: `tests/policy/test_policy_category.py`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from policy.errors import InvalidPolicy
from policy.retention import Afleidingswijze, check_afleidingswijze
from policy.selection_list import Result, Waardering, list_2020, list_for

_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_KEYS = frozenset({"selectielijst", "resultaat", "afleidingswijze", "purposes", "groups"})

MAX_FIELD_GROUPS = 15


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """The retention duty of one record.

    Attributes:
        list_version: the edition of the selection list, such as "2020".
        result: the row of that list.
        afleidingswijze: how the brondatum is found; None for a record that is kept for ever.

    Raises:
        InvalidPolicy: the result is not in force, or the afleidingswijze does not fit it (ST4).
    """

    list_version: str
    result: Result
    afleidingswijze: Afleidingswijze | None

    def __post_init__(self) -> None:
        if self.result.waardering is None:
            raise InvalidPolicy(f"result {self.result.code} is not in force")
        check_afleidingswijze(self.result, self.afleidingswijze)

    def __str__(self) -> str:
        """Name the rule for ever: list, code and afleidingswijze, as in "2020 8.1.7 eigenschap"."""
        return f"{self.list_version} {self.result.code} {self.afleidingswijze or '-'}"

    @classmethod
    def parse(cls, text: str) -> RetentionRule:
        """Return the rule that `str` has named.

        Raises:
            InvalidPolicy: the text names no rule of a list that is carried.
        """
        carried = list_2020()
        try:
            version, code, way = text.split(" ")
            rule = cls(version, carried.result(code), None if way == "-" else Afleidingswijze(way))
        except ValueError:
            raise InvalidPolicy(f"{text!r} names no retention rule") from None
        if version != carried.version:
            raise InvalidPolicy(f"the selection list {version} is not carried")
        return rule


@dataclass(frozen=True, slots=True)
class RecordCategory:
    """One category, as `parse_categories` has checked it.

    Attributes:
        name: 1 to 64 lower-case letters, digits, "-" or "_".
        purposes: the purposes for which its records may be read; at least one, named like a
            category.
        list_code: result of the selection list; None where there is no retention duty.
        afleidingswijze: how the brondatum is found; None without a duty or without an end to it.
        groups: names of its optional field groups, named like a category; at most 15. The first
            has number 1.
    """

    name: str
    purposes: frozenset[str]
    list_code: str | None = None
    afleidingswijze: Afleidingswijze | None = None
    groups: tuple[str, ...] = ()

    @property
    def result(self) -> Result | None:
        """The row of the selection list with procestype, resultaat and waardering (ST1)."""
        return None if self.list_code is None else list_2020().result(self.list_code)

    @property
    def is_permanent(self) -> bool:
        """Whether its records are kept for ever (blijvend bewaren)."""
        result = self.result
        return result is not None and result.waardering is Waardering.BLIJVEND_BEWAREN


def retention_rule(category: RecordCategory, record_date: dt.date) -> RetentionRule | None:
    """Return the retention duty of a record, or None where its category has no list code.

    Args:
        category: the record's category.
        record_date: the day on which the record was made or received (ST2).

    Raises:
        ListNotCarried: the date calls for a list from before 2020.
    """
    if category.list_code is None:
        return None
    selection_list = list_for(record_date)
    result = selection_list.result(category.list_code)
    return RetentionRule(selection_list.version, result, category.afleidingswijze)


def parse_categories(document: Mapping[str, object]) -> dict[str, RecordCategory]:
    """Read the categories of a configuration file.

    Args:
        document: the decoded file: one table `categories` and nothing beside it.

    Returns:
        The categories by name, in the order of the file.

    Raises:
        InvalidPolicy: anything that this version does not know or that does not fit; the message
            names the category and the key.
    """
    unknown = sorted(document.keys() - {"categories"})
    if unknown:
        raise InvalidPolicy(f"unknown key {unknown[0]!r} beside categories")
    tables = document.get("categories")
    if not isinstance(tables, Mapping):
        raise InvalidPolicy("categories: a table with one table per category is expected")
    return {name: _category(name, table) for name, table in tables.items()}


def _category(name: object, table: object) -> RecordCategory:
    if not _is_name(name):
        raise InvalidPolicy(
            f"category {name!r}: a name has 1 to 64 lower-case letters, digits, '-' or '_'"
        )
    if not isinstance(table, Mapping):
        raise InvalidPolicy(f"category {name}: a table is expected")
    unknown = sorted(str(key) for key in table.keys() - _KEYS)
    if unknown:
        raise _refusal(name, unknown[0], "unknown key")
    purposes, groups = _purposes(name, table), _groups(name, table)
    if "resultaat" in table:
        return RecordCategory(name, purposes, *_list_code(name, table), groups)
    for key in ("selectielijst", "afleidingswijze"):
        if key in table:
            raise _refusal(name, key, "means nothing without resultaat")
    return RecordCategory(name, purposes, groups=groups)


def _list_code(name: str, table: Mapping[str, object]) -> tuple[str, Afleidingswijze | None]:
    version = table.get("selectielijst")
    if version != list_2020().version:
        raise _refusal(name, "selectielijst", f'"2020" is expected, not {version!r}')
    code = table["resultaat"]
    if not isinstance(code, str):
        raise _refusal(name, "resultaat", f"a code in quotes is expected, not {code!r}")
    try:
        result = list_2020().result(code)
    except InvalidPolicy as error:
        raise _refusal(name, "resultaat", str(error)) from error
    afleidingswijze = _afleidingswijze(name, table)
    try:
        check_afleidingswijze(result, afleidingswijze)
    except InvalidPolicy as error:
        raise _refusal(name, "afleidingswijze", str(error)) from error
    return code, afleidingswijze


def _afleidingswijze(name: str, table: Mapping[str, object]) -> Afleidingswijze | None:
    if "afleidingswijze" not in table:
        return None
    value = table["afleidingswijze"]
    carried = [kind for kind in Afleidingswijze if kind == value]
    if not carried:
        raise _refusal(name, "afleidingswijze", f"{value!r} is not one that this version carries")
    return carried[0]


def _purposes(name: str, table: Mapping[str, object]) -> frozenset[str]:
    purposes = table.get("purposes")
    if not isinstance(purposes, list) or not purposes:
        raise _refusal(name, "purposes", "a list with at least one purpose is expected")
    for purpose in purposes:
        if not _is_name(purpose):
            raise _refusal(name, "purposes", f"{purpose!r} is not a name of a purpose")
    if len(set(purposes)) != len(purposes):
        raise _refusal(name, "purposes", "a purpose stands in the list twice")
    return frozenset(purposes)


def _groups(name: str, table: Mapping[str, object]) -> tuple[str, ...]:
    groups = table.get("groups", [])
    if not isinstance(groups, list) or len(groups) > MAX_FIELD_GROUPS:
        raise _refusal(name, "groups", f"a list of at most {MAX_FIELD_GROUPS} names is expected")
    for group in groups:
        if not _is_name(group):
            raise _refusal(name, "groups", f"{group!r} is not a name of a field group")
    if len(set(groups)) != len(groups):
        raise _refusal(name, "groups", "a field group stands in the list twice")
    return tuple(groups)


def _is_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _refusal(name: str, key: str, reason: str) -> InvalidPolicy:
    return InvalidPolicy(f"category {name}, key {key!r}: {reason}")
