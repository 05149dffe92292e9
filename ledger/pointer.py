"""Pointers: the random names of records.

A pointer is 16 bytes from the operating system, never derived from content or subject (PR2, PR5).
People and scripts see it as lower-case base32 (RFC 4648 section 6) without padding, 26 characters:

    00112233445566778899aabbccddeeff  ->  aaisem2ekvthpcezvk54zxpo74

Sixteen bytes fill 25.6 base32 characters; the two spare bits of the last one are zero, and a text
in which they are not is refused, so that each record has exactly one name.

The standard library's base32 takes ten times as long as everything else about a read, so the two
conversions are done on integers here; tests/ledger/test_entry.py compares them with it.
"""

from __future__ import annotations

import re

from ledger.errors import Malformed

POINTER_BYTES = 16
POINTER_CHARACTERS = 26

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
# Two characters at a time: 13 look-ups of 10 bits make the 130 bits of a text.
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = range(120, -1, -10)
_SPARE_BITS = 2
# The last character holds three bits of the pointer, so only every fourth can stand there.
_TEXT = re.compile(f"[{_ALPHABET}]{{{POINTER_CHARACTERS - 1}}}[{_ALPHABET[::4]}]")
# Python reads base 32 with digits before letters.
_TO_DIGITS = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")


def format_pointer(pointer: bytes) -> str:
    """Return the 26 characters that name the 16 bytes of `pointer`."""
    value = int.from_bytes(pointer, "big") << _SPARE_BITS
    return "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])


def parse_pointer(text: str) -> bytes:
    """Return the 16 bytes that `text` names.

    Raises:
        Malformed: anything but the 26 characters that `format_pointer` writes. The text itself is
            not repeated, since a caller may have passed an identifier of a person by mistake.
    """
    if _TEXT.fullmatch(text) is None:
        raise Malformed("not a pointer: expected 26 characters of a-z and 2-7")
    return (int(text.translate(_TO_DIGITS), 32) >> _SPARE_BITS).to_bytes(POINTER_BYTES, "big")
