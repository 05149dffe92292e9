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
from collections.abc import Mapping
from enum import StrEnum

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
    text = json.dumps(document_of(value), indent=2, ensure_ascii=False)
    # A text holds no newline of its own.
    return text.replace("\n", "\n" + "  " * level).encode()


def document_of(value: object) -> object:
    """Return what the JSON writer takes."""
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dt.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, tuple):
        return [document_of(item) for item in value]
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name.rstrip("_"): document_of(getattr(value, name)) for name in names}
    return value


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
    origin = typing.get_origin(kind)
    if origin is types.UnionType:
        return None if value is None else read(_without_none(kind), value, what)
    if origin is tuple:
        return _read_tuple(typing.get_args(kind)[0], value, what)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _read_object(kind, value, what)
    if kind is int:
        if type(value) is not int:
            raise InvalidPolicy(f"{what} is not a whole number")
        return value
    if not isinstance(value, str):
        raise InvalidPolicy(f"{what} is not a text")
    return _read_text(kind, value, what)


def _read_tuple(kind: object, value: object, what: str) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise InvalidPolicy(f"{what} is not an array")
    return tuple(read(kind, item, f"{what}, item {number}") for number, item in enumerate(value))


def _read_object(kind: type, value: object, what: str) -> object:
    hints = _fields(kind)
    if not isinstance(value, dict) or value.keys() != {name.rstrip("_") for name in hints}:
        raise InvalidPolicy(f"{what} is not an object with the members it should have")
    members = {
        name: read(hint, value[name.rstrip("_")], f"{what}, {name.rstrip('_')}")
        for name, hint in hints.items()
    }
    return kind(**members)


def _read_text(kind: typing.Any, text: str, what: str) -> object:
    if kind is str:
        if not _is_text(text):
            raise InvalidPolicy(f"{what} is not one line of 1 to {MAX_TEXT} visible characters")
        return text
    try:
        if kind is bytes:
            return bytes.fromhex(text)
        if kind is dt.datetime:
            return dt.datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=dt.UTC)
        if kind is dt.date:
            return dt.date.fromisoformat(text)
        return kind(text)
    except ValueError:
        raise InvalidPolicy(f"{what} is not one of the values that it can have") from None


@functools.cache
def _fields(kind: type) -> dict[str, object]:
    return typing.get_type_hints(kind)


def _without_none(kind: object) -> object:
    (inner,) = (one for one in typing.get_args(kind) if one is not _NONE)
    return inner
