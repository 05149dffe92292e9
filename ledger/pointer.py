"""Pointers: the random names of records.

A pointer is 16 bytes from the operating system, never derived from content or subject (PR2, PR5).
People and scripts see it as lower-case base32 (RFC 4648 section 6) without padding, 26 characters:

    00112233445566778899aabbccddeeff  ->  aaisem2ekvthpcezvk54zxpo74

Sixteen bytes fill 25.6 base32 characters; the two spare bits of the last one are zero, and a text
in which they are not is refused, so that each record has exactly one name.
Tested in tests/ledger/test_entry.py.
"""

from __future__ import annotations

import base64
import binascii

from ledger.errors import Malformed

POINTER_BYTES = 16
POINTER_CHARACTERS = 26


def format_pointer(pointer: bytes) -> str:
    """Return the 26 characters that name the 16 bytes of `pointer`."""
    return base64.b32encode(pointer).decode("ascii").rstrip("=").lower()


def parse_pointer(text: str) -> bytes:
    """Return the 16 bytes that `text` names.

    Raises:
        Malformed: anything but the 26 characters that `format_pointer` writes. The text itself is
            not repeated, since a caller may have passed an identifier of a person by mistake.
    """
    try:
        pointer = base64.b32decode(text.upper() + "======")
    except (binascii.Error, ValueError):
        pointer = b""
    if len(pointer) != POINTER_BYTES or format_pointer(pointer) != text:
        raise Malformed("not a pointer: expected 26 characters of a-z and 2-7")
    return pointer
