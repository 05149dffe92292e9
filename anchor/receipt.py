"""The receipt of the local anchor: a signed note that says when it was given a digest.

    datakluis/local-receipt/1
    <number of this receipt in its file, decimal, from 0>
    <digest of the anchor statement, 64 characters of lower-case hex>
    <SHA-256 of the receipt before it, lower-case hex; zeros for the first>
    <Unix seconds, UTC, decimal>

    — <origin>/local-anchor <signature, Ed25519>

Both numbers have no leading zeroes; the time has at most eleven digits, which a calendar can show.
Each receipt holds the hash of the one before, so their file can only grow. The time is the
operator's own word: a local receipt proves no date to an outsider. Tested in
tests/anchor/test_local_target.py.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from nacl.signing import SigningKey

from anchor.errors import BadFile
from ledger.errors import LedgerError
from ledger.note import Note, VerifierKey, sign

# How evidence and the anchoring job name this kind of target.
LOCAL_NAME = "local"
DOMAIN_LINE = "datakluis/local-receipt/1"
NO_PREDECESSOR = bytes(32)
# Five lines of text, an empty one and one signature.
LINES = 7

_TEXT = re.compile(
    re.escape(DOMAIN_LINE)
    + r"\n(0|[1-9][0-9]{0,17})\n([0-9a-f]{64})\n([0-9a-f]{64})\n(0|[1-9][0-9]{0,10})\n"
)


def key_name(origin: str) -> str:
    """Return the name under which the local anchor of a log signs."""
    return f"{origin}/local-anchor"


@dataclass(frozen=True, slots=True)
class LocalReceipt:
    """One receipt.

    Attributes:
        number: of this receipt in its file, from 0.
        digest: 32 bytes, of the anchor statement.
        previous: 32 bytes, hash of the receipt before; zeros for the first.
        at: Unix seconds, UTC, below 10**11.
        note: the signed text.
    """

    number: int
    digest: bytes
    previous: bytes
    at: int
    note: Note

    @classmethod
    def sign(
        cls,
        number: int,
        digest: bytes,
        previous: bytes,
        at: int,
        verifier: VerifierKey,
        key: SigningKey,
    ) -> LocalReceipt:
        """Make a receipt.

        Raises:
            BadFile: a number or time that `parse` would not read back.
        """
        text = f"{DOMAIN_LINE}\n{number}\n{digest.hex()}\n{previous.hex()}\n{at}\n"
        return cls.parse(Note(text, (sign(text, verifier.name, key),)).format())

    @classmethod
    def parse(cls, text: str) -> LocalReceipt:
        """Return the receipt that a text holds; the signature is not verified.

        Raises:
            BadFile: any text that `format` would not have written.
        """
        try:
            note = Note.parse(text.encode())
        except (LedgerError, UnicodeEncodeError) as cause:
            raise BadFile(f"not a local receipt: {cause}") from cause
        match = _TEXT.fullmatch(note.text)
        if match is None or len(note.signatures) != 1:
            raise BadFile("not a local receipt: its lines are others")
        number, digest, previous, at = match.groups()
        return cls(int(number), bytes.fromhex(digest), bytes.fromhex(previous), int(at), note)

    def format(self) -> str:
        """Return the text of the receipt."""
        return self.note.format()

    def hash(self) -> bytes:
        """Return what the next receipt names as its predecessor."""
        return hashlib.sha256(self.format().encode()).digest()
