"""Members of the escrow's files: read a document and check each member's own range.

The files are written as anchor/strictjson.py says, and every parser writes again what it read and
compares. Errors say which member is wrong, never what it holds: a share file is secret, so no
error here keeps another one that quotes the file. Tested in tests/vault/test_escrow_shares.py.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import unicodedata
from collections.abc import Callable
from typing import TypeVar

from anchor.errors import BadFile
from anchor.strictjson import JsonObject, hex_bytes, read_json, text, write_json
from vault.escrow.errors import BadEscrowFile

TENANT_BYTES = 16
ID_BYTES = 32
KEY_BYTES = 32
GENERATIONS = range(1, 2**56)
"""Generations that a key tree can have: 7 bytes, from 1."""

THRESHOLDS = range(2, 17)
"""Shares that it can take. With 1, each custodian alone would have the key."""

TOTALS = range(2, 17)
"""Shares that SLIP-0039 can make."""

NUMBERS = range(1, 17)
MOMENTS = range(253_402_300_800)
"""Unix seconds from 1970 to the end of the year 9999."""

_MAX_NAME_BYTES = 128
_PHRASE = re.compile("[a-z]+( [a-z]+){32}")
_PARSED = TypeVar("_PARSED")


def is_custodian_name(name: str) -> bool:
    """Tell whether a text can name a custodian: printable, 1 to 128 bytes, no space at an end."""
    return (
        name.isprintable() and name == name.strip() and 1 <= len(name.encode()) <= _MAX_NAME_BYTES
    )


def fold_name(name: str) -> str:
    """Return what the spellings of one name have in common, so that nobody is named twice."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def format_moment(at: int) -> str:
    """Return Unix seconds as ISO 8601 in UTC, "2026-03-02T10:00:00Z"."""
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat().replace("+00:00", "Z")


def digest(document: JsonObject) -> bytes:
    """Return the SHA-256 of a document as it is written."""
    return hashlib.sha256(write_json(document)).digest()


def parse_file(
    data: bytes, what: str, limit: int, kind: str, build: Callable[[Members], _PARSED]
) -> _PARSED:
    """Return what `build` makes of a file's members.

    Args:
        data: the file.
        what: its name in messages.
        limit: its largest size, bytes.
        kind: its member "format".
        build: reads the members and checks them; writes nothing again.

    Raises:
        BadEscrowFile: not such a file, or a member out of its range.
    """
    try:
        members = Members(read_json(data, what, limit), what)
        if members.text("format") != kind:
            raise BadFile(f"{what} has another format than {kind!r}")
        return build(members)
    except BadFile as cause:
        reason = str(cause)
    # Outside the handler: the error that the JSON reader raised first quotes the whole file.
    raise BadEscrowFile(reason)


def require_same(written: bytes, data: bytes, what: str) -> None:
    """Refuse a file that this software would have written otherwise.

    Raises:
        BadEscrowFile: it is one.
    """
    if written != data:
        raise BadEscrowFile(f"{what} is not as this software writes it")


class Members:
    """The members of one object in a file.

    Args:
        document: the object.
        what: the file's name in messages.
    """

    def __init__(self, document: JsonObject, what: str) -> None:
        self.document = document
        self.what = what

    def text(self, key: str) -> str:
        """Return a text member."""
        return text(self.document, key, self.what)

    def fixed_bytes(self, key: str, size: int) -> bytes:
        """Return a member in lower-case hex that has one size, bytes."""
        value = hex_bytes(self.document, key, self.what)
        if len(value) != size:
            raise self.bad(key, f"has {len(value)} bytes, not {size}")
        return value

    def integer(self, key: str, allowed: range) -> int:
        """Return a member that is an integer within a range."""
        value = self.document.get(key)
        if type(value) is not int or value not in allowed:
            raise self.bad(key, f"is not a number from {allowed[0]} to {allowed[-1]}")
        return value

    def custodian(self, key: str) -> str:
        """Return a member that names a custodian."""
        value = self.text(key)
        # A lone surrogate is not printable, so what is measured can be encoded.
        if not is_custodian_name(value):
            raise self.bad(key, "is not a name of 1 to 128 printable bytes")
        return value

    def phrase(self, key: str) -> str:
        """Return a member that is 33 lower-case words; which words is for others to check."""
        value = self.text(key)
        if _PHRASE.fullmatch(value) is None:
            raise self.bad(key, "is not 33 words in lower case")
        return value

    def moment(self, key: str) -> int:
        """Return a member that is a time, in Unix seconds."""
        value = self.text(key)
        try:
            at = int(dt.datetime.fromisoformat(value).timestamp())
        except (ValueError, OverflowError):
            at = -1
        if at not in MOMENTS or format_moment(at) != value:
            raise self.bad(key, "is not a time such as 2026-03-02T10:00:00Z")
        return at

    def bad(self, key: str, reason: str) -> BadFile:
        """Return the error that a member is not as it should be."""
        return BadFile(f"{key!r} in {self.what} {reason}")
