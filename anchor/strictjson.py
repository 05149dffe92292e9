r"""JSON files with one spelling: parse, write again, compare.

A file is UTF-8 without a byte order mark. Each member and each array item stands on a line of its
own, indented by two spaces for each level; an empty array is []; a key is followed by a colon and a
space; the file ends in a newline. In a text only the quotation mark, the backslash and characters
below U+0020 are escaped, as \", \\, \b, \f, \n, \r, \t, and otherwise as \u with four lower-case
digits of hex. Numbers are integers in decimal.

A file is accepted only if writing what was read gives the same bytes. So a duplicated key, another
order, white space, an unknown member, an upper-case digit of hex or a number where a text goes is
refused, and no byte of a file can change without a reader noticing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from anchor.errors import BadFile

JsonObject = Mapping[str, object]


def write_json(document: JsonObject) -> bytes:
    """Return the one spelling of a document: UTF-8, members in order, two spaces, final newline."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def read_json(data: bytes, what: str, limit: int) -> JsonObject:
    """Return the object in a file, before its own rules are checked.

    Args:
        data: the file.
        what: its name in messages.
        limit: its largest size, bytes.

    Raises:
        BadFile: no JSON object within the limit.
    """
    if len(data) > limit:
        raise BadFile(f"{what} has {len(data)} bytes, more than {limit}")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise BadFile(f"{what} is not JSON in UTF-8; is it whole?") from None
    if not isinstance(document, dict):
        raise BadFile(f"{what} is not a JSON object")
    return cast(JsonObject, document)


def text(parent: JsonObject, key: str, what: str) -> str:
    """Return a text member."""
    value = parent.get(key)
    if not isinstance(value, str):
        raise BadFile(f"{what} lacks the text {key!r}")
    return value


def hex_bytes(parent: JsonObject, key: str, what: str) -> bytes:
    """Return the bytes of a member in lower-case hex."""
    value = text(parent, key, what)
    try:
        decoded = bytes.fromhex(value)
    except ValueError:
        decoded = b""
    if decoded.hex() != value:
        raise BadFile(f"{key!r} in {what} is not lower-case hex")
    return decoded


def objects(parent: JsonObject, key: str, what: str) -> list[JsonObject]:
    """Return a member that is an array of objects."""
    value = parent.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadFile(f"{what} lacks the array of objects {key!r}")
    return value


def texts(parent: JsonObject, key: str, what: str) -> list[str]:
    """Return a member that is an array of texts."""
    value = parent.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadFile(f"{what} lacks the array of texts {key!r}")
    return value
