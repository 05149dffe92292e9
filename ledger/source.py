"""Sources: where the files of a published log are read from. None of them is trusted.

A published log is the files of C2SP tlog-tiles, as ledger/publish.py writes them: `checkpoint`,
`tile/<level>/<index>` and `tile/entries/<index>`, the last two with `.p/<width>` behind a partial
one (ledger/tiles.py). A source hands over bytes by these names and no others, so that no name leads
out of its folder, and never more bytes than such a file can have:

    checkpoint    524,288     the largest signed note
    tile          8,192       256 hashes of 32 bytes
    entry bundle  16,777,472  256 entries of 65,535 bytes behind two bytes each

What the bytes are worth is for the reader to find out; `ledger.replay.read_entries` does. A source
over HTTP is in ledger/net/source.py. Tested in tests/ledger/test_source.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ledger.errors import BadPublication, SourceMissing, SourceUnreachable
from ledger.merkle import HASH_SIZE
from ledger.note import MAX_NOTE_SIZE
from ledger.tiles import MAX_ENTRY_SIZE, TILE_WIDTH, parse_path

CHECKPOINT = "checkpoint"
"""Path of the newest signed checkpoint."""

MAX_TILE_BYTES = TILE_WIDTH * HASH_SIZE
MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + MAX_ENTRY_SIZE)


class Source(Protocol):
    """Hands over the files of one published log."""

    def read(self, path: str) -> bytes:
        """Return a file.

        Args:
            path: `checkpoint`, or as `ledger.tiles.tile_path` and `entries_path` write it.

        Raises:
            Malformed: any other path.
            SourceMissing: the log has no such file.
            SourceUnreachable: it could not be read.
            BadPublication: it is larger than such a file can be.
        """
        ...


class FolderSource:
    """A published log in a folder of this machine.

    Args:
        folder: that holds `checkpoint` and `tile`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str) -> bytes:
        """Return a file; see `Source.read`."""
        limit = size_limit(path)
        try:
            with (self._folder / path).open("rb") as file:
                data = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError) as cause:
            raise SourceMissing(path) from cause
        except OSError as cause:
            raise SourceUnreachable(path, cause.strerror or "it cannot be opened") from cause
        return require_size(path, data, limit)


def size_limit(path: str) -> int:
    """Return how many bytes the file of a path can have.

    Raises:
        Malformed: no file of a published log has that path.
    """
    if path == CHECKPOINT:
        return MAX_NOTE_SIZE
    return MAX_BUNDLE_BYTES if parse_path(path).level is None else MAX_TILE_BYTES


def require_size(path: str, data: bytes, limit: int) -> bytes:
    """Return what was read of a file, of which one byte above the limit was asked for.

    Raises:
        BadPublication: that byte came.
    """
    if len(data) > limit:
        raise BadPublication(path, f"has more than {limit} bytes")
    return data
