"""Checkpoints: what a log says about its tree, as the text of a signed note.

Implements C2SP tlog-checkpoint without extension lines. `tests/ledger/test_checkpoint.py` holds it
against that text's example.

A checkpoint is three lines, each ended by a newline: the origin (non-empty, no control characters
below U+0020), the number of leaves as decimal ASCII without leading zeroes (below 2**63), and the
canonical base64 of the 32-byte RFC 6962 root. C2SP allows further lines; they are refused here,
because witnesses do not look at them and so nothing would vouch for them.

An example:

    example.com/behind-the-sofa
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from ledger.errors import Malformed
from ledger.merkle import HASH_SIZE, SIZE_LIMIT
from ledger.note import decode_base64, encode_base64, is_text_line

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head. It means nothing before the signature of the log on its note was verified.

    Attributes:
        origin: the log's identity, one non-empty line.
        size: leaves in the tree, 0 <= size < 2**63.
        root: 32-byte RFC 6962 root over them.

    Raises:
        ValueError: a field is out of these bounds.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not is_text_line(self.origin):
            raise ValueError("an origin that is empty or has a control character")
        if not 0 <= self.size < SIZE_LIMIT:
            raise ValueError(f"tree size {self.size} is not in [0, 2**63)")
        if len(self.root) != HASH_SIZE:
            raise ValueError(f"a root of {len(self.root)} bytes, not {HASH_SIZE}")

    def text(self) -> str:
        """Return the text to sign, with its final newline."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a text that `text` wrote.

        Raises:
            Malformed: any other text.
        """
        lines = text.split("\n", 3)
        if len(lines) != 4 or lines[3] != "":
            raise Malformed("not a checkpoint of exactly three lines")
        origin, size, encoded_root, _ = lines
        try:
            return cls(origin, parse_decimal(size), decode_base64(encoded_root))
        except (ValueError, Malformed) as error:
            raise Malformed(f"not a checkpoint: {error}") from error


def parse_decimal(text: str) -> int:
    """Read a decimal ASCII number without leading zeroes, 0 <= number < 2**63.

    Raises:
        Malformed: any other text.
    """
    if _DECIMAL.fullmatch(text) is None or int(text) >= SIZE_LIMIT:
        raise Malformed("not a decimal number below 2**63 without leading zeroes")
    return int(text)
