"""Scans for personal data: whole texts in every usual encoding, and guesses by brute force."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ledger import merkle

_BASE64_LINE = re.compile(rb"[A-Za-z0-9+/]{32,}={0,2}")
_HEX = re.compile(rb"(?:[0-9a-f]{2}){16,}")


def spellings(text: str) -> set[bytes]:
    """Return the ways in which a text can lie in a file; base64 and base32 at each offset."""
    plain = text.encode()
    found = {plain, text.upper().encode(), text.encode("utf-16-le"), text.encode("utf-16-be")}
    found |= {plain.hex().encode(), plain.hex().upper().encode()}
    for offset in range(3):
        # Behind other bytes, the first characters and the last ones depend on the neighbours.
        coded = base64.b64encode(bytes(offset) + plain).rstrip(b"=")
        inner = coded[(8 * offset + 5) // 6 : (8 * (offset + len(plain))) // 6]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    for offset in range(5):
        coded = base64.b32encode(bytes(offset) + plain).rstrip(b"=")
        inner = coded[(8 * offset + 4) // 5 : (8 * (offset + len(plain))) // 5]
        found |= {inner, inner.lower()}
    return found


def hits(data: bytes, texts: Iterable[str]) -> list[str]:
    """Return the texts that lie in some bytes, in any spelling."""
    return [text for text in texts if any(spelling in data for spelling in spellings(text))]


def all_files(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def windows(data: bytes) -> set[bytes]:
    """Return every value of 16 bytes that lies in some bytes, also in hex and base64 inside them.

    A value of 32 bytes begins with one of 16, so it is found by that.
    """
    parts = [data]
    for found in _BASE64_LINE.findall(data):
        text = found.rstrip(b"=")
        parts.append(base64.b64decode(text[: len(text) // 4 * 4]))
    parts += [bytes.fromhex(found.decode()) for found in _HEX.findall(data)]
    return {part[at : at + 16] for part in parts for at in range(len(part) - 15)}


def guesses(number: str, payload: bytes, salts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what an unblinded ledger could hold of a person, from values that anybody has."""
    for value in (number.encode(), payload):
        for name in ("sha256", "sha1", "sha512", "md5"):
            yield hashlib.new(name, value).digest()
        yield merkle.leaf_hash(value)
        digest = hashlib.sha256(value).digest()
        yield hashlib.sha256(digest).digest()
        for salt in salts:
            yield hmac.digest(salt, value, "sha256")
            yield hmac.digest(salt, digest, "sha256")
            yield hashlib.sha256(salt + value).digest()
            yield hashlib.sha256(value + salt).digest()
