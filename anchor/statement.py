"""The anchor statement: the file whose SHA-256 goes to an anchor, and nothing else does (LG3).

It is UTF-8 text: one domain line, then the checkpoint as a signed note that carries the log's own
signature lines only, in the order of the log's keys:

    datakluis/anchor-statement/1
    datakluis.example/hoorn
    109482
    sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

    — datakluis.example/hoorn hI2DJw…

Cosignatures stay out, so that the digest does not depend on who answered in time. The statement is
stored before it is submitted. Tested in tests/anchor/test_statement.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from anchor.errors import BadFile
from ledger.checkpoint import Checkpoint
from ledger.errors import BadSignature, LedgerError
from ledger.note import Note, NoteKey, verify

DOMAIN_LINE = "datakluis/anchor-statement/1\n"


@dataclass(frozen=True, slots=True)
class AnchorStatement:
    """One statement.

    Attributes:
        note: the checkpoint under the log's own signatures.
    """

    note: Note

    @classmethod
    def of(cls, checkpoint: Note, log_keys: Sequence[NoteKey]) -> AnchorStatement:
        """Return the statement about a signed checkpoint.

        Args:
            checkpoint: may carry signatures of others, which are left out.
            log_keys: the log's own keys, in their fixed order.

        Raises:
            BadSignature: one of these keys did not sign it, or there is none.
        """
        if not log_keys:
            raise BadSignature("no log key may sign this checkpoint")
        lines = tuple(verify(checkpoint, key) for key in log_keys)
        return cls(Note(checkpoint.text, lines))

    @classmethod
    def parse(cls, text: str) -> AnchorStatement:
        """Return the statement that a text holds; no signature is verified.

        Raises:
            BadFile: any text that `format` would not have written.
        """
        if not text.startswith(DOMAIN_LINE):
            raise BadFile("not an anchor statement: its first line is another")
        try:
            note = Note.parse(text.removeprefix(DOMAIN_LINE).encode())
            Checkpoint.parse(note.text)
        except (LedgerError, UnicodeEncodeError) as cause:
            raise BadFile(f"not an anchor statement: {cause}") from cause
        return cls(note)

    def format(self) -> str:
        """Return the text of the statement."""
        return DOMAIN_LINE + self.note.format()

    def digest(self) -> bytes:
        """Return the 32 bytes that are anchored: SHA-256 of the text in UTF-8."""
        return hashlib.sha256(self.format().encode()).digest()

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint that is stated."""
        return Checkpoint.parse(self.note.text)
