"""The log as it lies in the database: head, tiles, bundles, positions and proofs.

Tiles and entry bundles follow C2SP tlog-tiles; a tile or bundle that is not full grows in place,
and each earlier, narrower state of it is a prefix of what is stored. Everything here only reads;
the integrator writes. A `Log` sees what its connection's transaction sees, so a caller who wants
one consistent picture opens one read transaction around it. Tested in tests/ledger/test_log.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.driver import run, run_many
from ledger.errors import LedgerError, Malformed, UnknownLeaf
from ledger.merkle import ReadHash
from ledger.note import Note, is_text_line
from ledger.tilecache import TileCache
from ledger.tiles import TILE_WIDTH, entry_at, hash_reader, parse_bundle


@dataclass(frozen=True, slots=True)
class Head:
    """The tree as integrated so far.

    Attributes:
        origin: the origin line of the log.
        size: number of leaves.
        root: 32 bytes, the RFC 6962 root over those leaves.
    """

    origin: str
    size: int
    root: bytes

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint that a signature would be made over."""
        return Checkpoint(self.origin, self.size, self.root)


class Log:
    """Reads the log through one connection.

    Args:
        connection: with a transaction open; nothing is written.
        cache: of this log's tiles, for proofs; None makes them from the stored tiles each time.
    """

    def __init__(self, connection: Connection, cache: TileCache | None = None) -> None:
        self.connection = connection
        self._cache = cache

    def head(self) -> Head:
        """Return the tree's head."""
        row = self.connection.exec_driver_sql(
            "SELECT origin, size, root FROM ledger_head WHERE id = 1"
        ).one_or_none()
        if row is None:
            raise LedgerError("the database has no ledger head")
        return Head(*row)

    def tile(self, level: int, number: int) -> bytes:
        """Return the hashes of a tile, as wide as it is now.

        Raises:
            UnknownLeaf: the tree has no such tile.
        """
        row = self.connection.exec_driver_sql(
            "SELECT hashes FROM ledger_tile WHERE level = ? AND number = ?", (level, number)
        ).one_or_none()
        if row is None:
            raise UnknownLeaf(f"no tile {number} at level {level}")
        return bytes(row[0])

    def bundle(self, number: int) -> list[bytes]:
        """Return the entries of a bundle, as many as it holds now."""
        return parse_bundle(self._bundle_bytes(number))

    def entry(self, leaf: int) -> bytes:
        """Return the leaf data at an index."""
        number, place = divmod(leaf, TILE_WIDTH)
        entry = entry_at(self._bundle_bytes(number), place)
        if entry is None:
            raise UnknownLeaf(f"no leaf {leaf}")
        return entry

    def leaves_of(self, pointer: bytes) -> list[int]:
        """Return the indices of the leaves that speak of a pointer, in order."""
        rows = run(
            self.connection,
            "SELECT leaf FROM ledger_position WHERE pointer = ? ORDER BY leaf",
            (pointer,),
        )
        return [leaf for (leaf,) in rows.fetchall()]

    def _bundle_bytes(self, number: int) -> bytes:
        row = self.connection.exec_driver_sql(
            "SELECT entries FROM ledger_bundle WHERE number = ?", (number,)
        ).one_or_none()
        if row is None:
            raise UnknownLeaf(f"no entry bundle {number}")
        return bytes(row[0])

    def _reader(self, size: int) -> ReadHash:
        if self._cache is None:
            return hash_reader(self.tile)
        return self._cache.reader(size, self.tile)

    def pending_count(self) -> int:
        """Return how many entries are durable but not yet leaves."""
        row = self.connection.exec_driver_sql("SELECT count(*) FROM ledger_pending").one()
        return int(row[0])

    def inclusion_proof(self, leaf: int, size: int) -> list[bytes]:
        """Return the RFC 6962 audit path of a leaf in the tree of the first `size` leaves."""
        return merkle.inclusion_proof(leaf, size, self._reader(size))

    def consistency_proof(self, old_size: int, new_size: int) -> list[bytes]:
        """Return the RFC 6962 consistency proof between two sizes of this tree."""
        return merkle.consistency_proof(old_size, new_size, self._reader(new_size))

    def root(self, size: int) -> bytes:
        """Return the root over the first `size` leaves, from the stored tiles and no cache."""
        return merkle.root(size, hash_reader(self.tile))

    def latest_checkpoint(self) -> Note | None:
        """Return the signed checkpoint with the most leaves, or None before the first."""
        row = self.connection.exec_driver_sql(
            "SELECT note FROM ledger_checkpoint ORDER BY size DESC LIMIT 1"
        ).one_or_none()
        return None if row is None else Note.parse(row[0].encode())

    def checkpoints(self) -> list[tuple[int, str]]:
        """Return (size, note text) of each signed checkpoint, smallest first."""
        rows = self.connection.exec_driver_sql(
            "SELECT size, note FROM ledger_checkpoint ORDER BY size"
        )
        return [(row[0], row[1]) for row in rows]


def append_pending(connection: Connection, entries: list[bytes]) -> None:
    """Make entries durable with the caller's transaction; the integrator turns them into leaves."""
    run_many(
        connection,
        "INSERT INTO ledger_pending (entry) VALUES (?)",
        [(entry,) for entry in entries],
    )


def create(connection: Connection, origin: str) -> None:
    """Write the head of an empty log.

    Raises:
        Malformed: an origin that no checkpoint could carry.
    """
    if not is_text_line(origin) or origin != origin.strip():
        raise Malformed("an origin is one non-empty line without control characters")
    connection.exec_driver_sql(
        "INSERT INTO ledger_head (id, origin, size, root) VALUES (1, ?, 0, ?)",
        (origin, merkle.EMPTY_ROOT),
    )
