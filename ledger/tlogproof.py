"""Log proofs: an inclusion proof and the checkpoint to which it leads, in one file.

Implements C2SP tlog-proof without the `extra` line, which nothing authenticates: every byte here is
bound. `tests/ledger/test_tlogproof.py` holds it against the example below.

A proof is a sequence of lines, each ended by a newline: `c2sp.org/tlog-proof@v1`; `index` and the
leaf's index as decimal ASCII without leading zeroes, below 2**63; 0 to 63 lines of canonical base64
with one 32-byte hash each, from the leaf's sibling up to a child of the root (RFC 6962 section
2.1.1); an empty line; the checkpoint as a signed note (C2SP tlog-checkpoint), byte for byte. Files
are named `*.tlog-proof`.

Example: leaf 2 (its data is the byte 0x10) in a tree of 8 leaves, signed by the verifier key

    datakluis.example/gemeente+3597e1f1+AdtuN2v8+ySzADYbf9InlnTc/gEZTB5OtJ2ejhfd21ki

is

    c2sp.org/tlog-proof@v1
    index 2
    B1Bqhf2d0vEg62lPhgEeW7RmLlxBWmKRcDPUqWJEh+c=
    +sVCA+fMaWzw38tCySodnbr3CtnmIfS9jZhmLwDjwSU=
    a0eq8p7jwq+a+Im8H7klTavTEXfxYjLdaqsDXKOb9uQ=

    datakluis.example/gemeente
    8
    XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=

    — datakluis.example/gemeente NZfh8T+FGHhxeaz7oia4b6QDjowlgAES+jflxCQDvAjt7Z1Ep52TLdCHGTy25ciAL+ILaxbTQEgnEvwTvXx35LbQ8wk=
"""  # noqa: E501 - a signature line cannot be broken

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ledger.checkpoint import Checkpoint, parse_decimal
from ledger.errors import Malformed
from ledger.merkle import HASH_SIZE, SIZE_LIMIT
from ledger.note import MAX_NOTE_SIZE, Note, decode_base64, encode_base64

MAX_PROOF_HASHES = 63
"""Hashes of the longest inclusion proof in a tree of fewer than 2**63 leaves."""

_MAGIC = "c2sp.org/tlog-proof@v1"
_INDEX = "index "
# Two lines before the hashes, and 45 bytes for each of those.
_MAX_HEAD_SIZE = 50 + 45 * MAX_PROOF_HASHES


@dataclass(frozen=True, slots=True)
class LogProof:
    """That a leaf stands at an index in the tree of a checkpoint.

    Nothing is verified yet. The caller checks the checkpoint's signature (`ledger.note.verify`) and
    origin, works out the leaf hash, and calls `ledger.merkle.verify_inclusion` with the
    checkpoint's size and root.

    Attributes:
        index: the leaf's place, 0 <= index < 2**63.
        hashes: at most 63 hashes of 32 bytes, from the leaf's sibling upwards.
        checkpoint: the signed note whose text is a `ledger.checkpoint.Checkpoint`.

    Raises:
        ValueError: index or hashes are out of these bounds.
        Malformed: the text of the note is not a checkpoint.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: Note

    def __post_init__(self) -> None:
        if not 0 <= self.index < SIZE_LIMIT:
            raise ValueError(f"leaf index {self.index} is not in [0, 2**63)")
        if len(self.hashes) > MAX_PROOF_HASHES:
            raise ValueError(f"{len(self.hashes)} hashes, more than {MAX_PROOF_HASHES}")
        if any(len(value) != HASH_SIZE for value in self.hashes):
            raise ValueError(f"a hash that is not {HASH_SIZE} bytes")
        Checkpoint.parse(self.checkpoint.text)

    def format(self) -> str:
        """Return the whole proof; its UTF-8 encoding is what is stored."""
        head = [_MAGIC, f"{_INDEX}{self.index}", *map(encode_base64, self.hashes)]
        return "\n".join(head) + "\n\n" + self.checkpoint.format()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a proof that `format` wrote. Nothing is verified.

        Raises:
            Malformed: any other bytes.
        """
        if len(data) > _MAX_HEAD_SIZE + MAX_NOTE_SIZE:
            raise Malformed(f"a log proof of {len(data)} bytes")
        head, _, note = data.partition(b"\n\n")
        try:
            # The first line is not looked at here: writing the proof anew brings it back.
            index, *hashes = head.decode("ascii").partition("\n")[2].split("\n")
            proof = cls(
                parse_decimal(index.removeprefix(_INDEX)),
                tuple(map(decode_base64, hashes)),
                Note.parse(note),
            )
        except (ValueError, Malformed) as error:
            raise Malformed(f"not a log proof: {error}") from error
        if proof.format().encode() != data:
            raise Malformed("not a log proof: it would be written otherwise")
        return proof
