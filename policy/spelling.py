r"""JSON of dataclasses with one spelling: what was read is written again and compared.

The members of an object are the fields of its class, all of them, in their order and by their name
without a final underscore. Values:

    str             text: 1 to 1,000 characters of one line, no space at either end, no control
                    character and none that is unseen or turns the direction of writing
    StrEnum         its value
    int             decimal
    bytes           lower-case hex
    datetime        UTC to the second, as in 2026-03-15T14:03:05Z
    date            as in 2026-03-15
    tuple           array
    dataclass       object
    X | None        X or null

UTF-8 without a byte order mark. Each member and each item stands on a line of its own, indented by
two spaces for each level; an empty array is []; a key is followed by a colon and a space. In a text
only the quotation mark and the backslash are escaped. Whoever reads compares with what would be
written, so that no byte can change unnoticed. Tested in tests/policy/test_certificate.py.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import StrEnum
from json.encoder import encode_basestring as _quoted

from policy.errors import InvalidPolicy

MAX_TEXT = 1_000
# Written as escapes: none of them can be seen.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\uffff\U000e0000-\U000e0fff]"
)
_NONE = type(None)


def _is_text(text: str) -> bool:
    """Tell whether a text can stand in a file of this spelling."""
    return 1 <= len(text) <= MAX_TEXT and text == text.strip(" ") and _UNSEEN.search(text) is None


def spell(value: object, level: int = 0) -> bytes:
    """Return a value's bytes, without a final newline.

    Args:
        value: a dataclass, or what it may hold.
        level: how deep it stands; its first line is not indented.
    """
    return _spelt(value, "\n" + "  " * level).encode()


def _spelt(value: object, line: str) -> str:
    """Return a value's text.

    Args:
        value: to spell.
        line: the newline and indentation of the line on which it begins.
    """
    kind: typing.Any = type(value)
    return _speller(kind)(value, line)


def _spelt_object(names: Sequence[tuple[str, str]], value: object, line: str) -> str:
    inner = f"{line}  "
    members = [f"{inner}{key}{_spelt(getattr(value, name), inner)}" for name, key in names]
    return f"{{{','.join(members)}{line}}}"


def _spelt_array(items: tuple[object, ...], line: str) -> str:
    if not items:
        return "[]"
    inner = f"{line}  "
    return f"[{','.join([inner + _spelt(item, inner) for item in items])}{line}]"


# One for each type: a certificate has some fifty values, and there may be ten thousand of them.
@functools.cache
def _speller(kind: type) -> Callable[[typing.Any, str], str]:
    if issubclass(kind, StrEnum):
        return lambda value, _: _quoted(value.value)
    if issubclass(kind, bytes):
        return lambda value, _: f'"{value.hex()}"'
    if issubclass(kind, dt.datetime):
        return lambda value, _: f'"{value.isoformat().replace("+00:00", "Z")}"'
    if issubclass(kind, dt.date):
        return lambda value, _: f'"{value.isoformat()}"'
    if issubclass(kind, tuple):
        return _spelt_array
    if dataclasses.is_dataclass(kind):
        fields = dataclasses.fields(kind)
        names = [(field.name, f'"{field.name.rstrip("_")}": ') for field in fields]
        return functools.partial(_spelt_object, names)
    if issubclass(kind, str):
        return lambda value, _: _quoted(value)
    if kind is int:
        return lambda value, _: repr(value)
    return lambda value, _: json.dumps(value)  # null, and what no file of this spelling holds


def parse_json(data: bytes, what: str, limit: int) -> Mapping[str, object]:
    """Return the object in a file, before its own rules are checked.

    Args:
        data: the file.
        what: its name in messages.
        limit: its largest size, bytes.

    Raises:
        InvalidPolicy: no JSON object within the limit.
    """
    if len(data) > limit:
        raise InvalidPolicy(f"{what} has {len(data)} bytes, more than {limit}")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidPolicy(f"{what} is not JSON in UTF-8; is it whole?") from None
    if not isinstance(document, dict):
        raise InvalidPolicy(f"{what} is not a JSON object")
    return document


def read(kind: typing.Any, value: object, what: str) -> typing.Any:
    """Return the value of a type that a decoded document spells.

    Spellings that mean the same are not told apart here: compare with `spell`.

    Args:
        kind: the type of a field.
        value: what the JSON reader gave.
        what: its name in messages.

    Raises:
        InvalidPolicy: it spells none.
    """
    try:
        return _reader(kind)(value)
    except _Misspelt as fault:
        raise InvalidPolicy(f"{', '.join([what, *reversed(fault.path)])} {fault.reason}") from None


class _Misspelt(Exception):
    """A value spells nothing of its type.

    Args:
        reason: said of the value.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []  # from the value outwards; made only when something is wrong


# As for spelling: what a type calls for is worked out once.
@functools.cache
def _reader(kind: typing.Any) -> Callable[[object], object]:
    origin = typing.get_origin(kind)
    if origin is types.UnionType:
        inner = _reader(_without_none(kind))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        return functools.partial(_read_array, _reader(typing.get_args(kind)[0]))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        members = [(name, name.rstrip("_"), _reader(hint)) for name, hint in hints.items()]
        return functools.partial(_read_object, kind, members, {key for _, key, _ in members})
    return _read_int if kind is int else functools.partial(_read_text, _text_reader(kind))


def _read_array(read_item: Callable[[object], object], value: object) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise _Misspelt("is not an array")
    items = []
    try:
        for item in value:
            items.append(read_item(item))
    except _Misspelt as fault:
        fault.path.append(f"item {len(items)}")
        raise
    return tuple(items)


def _read_object(
    kind: type,
    members: Sequence[tuple[str, str, Callable[[object], object]]],
    keys: AbstractSet[str],
    value: object,
) -> object:
    if not isinstance(value, dict) or value.keys() != keys:
        raise _Misspelt("is not an object with the members it should have")
    found = {}
    key = ""
    try:
        for name, key, read_member in members:
            found[name] = read_member(value[key])
    except _Misspelt as fault:
        fault.path.append(key)
        raise
    return kind(**found)


def _read_int(value: object) -> int:
    if type(value) is not int:
        raise _Misspelt("is not a whole number")
    return value


def _read_text(convert: Callable[[str], object], value: object) -> object:
    if not isinstance(value, str):
        raise _Misspelt("is not a text")
    try:
        return convert(value)
    except ValueError:
        raise _Misspelt("is not one of the values that it can have") from None


def _text_reader(kind: typing.Any) -> Callable[[str], object]:
    readers: dict[object, Callable[[str], object]] = {
        str: _read_line,
        bytes: bytes.fromhex,
        dt.datetime: _read_moment,
        dt.date: dt.date.fromisoformat,
    }
    reader: Callable[[str], object] = readers.get(kind, kind)
    return reader


def _read_line(text: str) -> str:
    if not _is_text(text):
        raise _Misspelt(f"is not one line of 1 to {MAX_TEXT} visible characters")
    return text


def _read_moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=dt.UTC)


def _without_none(kind: object) -> object:
    (inner,) = (one for one in typing.get_args(kind) if one is not _NONE)
    return inner
