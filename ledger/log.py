"""The log as it lies in the database: head, tiles, bundles, positions and proofs.

Tiles and entry bundles follow C2SP tlog-tiles; a tile or bundle that is not full grows in place,
and each earlier, narrower state of it is a prefix of what is stored. Of a log that was pruned
(ledger/pruning.py), what only leaves below its minimum index needed raises `Pruned`; entries that
were kept are there, each with its proof. Everything here only reads; the integrator writes. A `Log`
sees what its connection's transaction sees, so a caller who wants one consistent picture opens one
read transaction around it. Tested in tests/ledger/test_log.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.cosignature import CosignerKey
from ledger.driver import run, run_many
from ledger.errors import LedgerError, Malformed, Pruned, UnknownLeaf
from ledger.merkle import HASH_SIZE, ReadHash
from ledger.note import Note, is_text_line
from ledger.tilecache import TileCache
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH, entry_at, hash_reader, parse_bundle


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


@dataclass(frozen=True, slots=True)
class KeptEntry:
    """An entry below the minimum index that was kept, with its proof.

    Attributes:
        leaf: its index.
        entry: the leaf data.
        size: leaves in the stored checkpoint to which the proof leads.
        path: RFC 6962 audit path.
    """

    leaf: int
    entry: bytes
    size: int
    path: tuple[bytes, ...]

    @classmethod
    def of_row(cls, leaf: int, entry: bytes, size: int, path: bytes) -> KeptEntry:
        """Return what a row of `ledger_kept` says."""
        hashes = (path[at : at + HASH_SIZE] for at in range(0, len(path), HASH_SIZE))
        return cls(leaf, bytes(entry), size, tuple(hashes))


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
            Pruned: it ends at or below the minimum index.
        """
        row = self.connection.exec_driver_sql(
            "SELECT hashes FROM ledger_tile WHERE level = ? AND number = ?", (level, number)
        ).one_or_none()
        if row is None:
            end = number + 1 << TILE_HEIGHT * (level + 1)
            raise self._lacking(end, f"no tile {number} at level {level}")
        return bytes(row[0])

    def bundle(self, number: int) -> list[bytes]:
        """Return the entries of a bundle, as many as it holds now.

        Raises:
            UnknownLeaf: the tree has no such bundle.
            Pruned: it ends at or below the minimum index, whatever of it was kept.
        """
        return parse_bundle(self._bundle_bytes(number))

    def entry(self, leaf: int) -> bytes:
        """Return the leaf data at an index.

        Raises:
            UnknownLeaf: the tree has no such leaf.
            Pruned: it is gone.
        """
        number, place = divmod(leaf, TILE_WIDTH)
        try:
            bundle = self._bundle_bytes(number)
        except Pruned:
            kept = self.kept(leaf)
            if kept is None:
                raise
            return kept.entry
        entry = entry_at(bundle, place)
        if entry is None:
            raise UnknownLeaf(f"no leaf {leaf}")
        return entry

    def pruned_to(self) -> tuple[int, int] | None:
        """Return the minimum index and the leaf of the prune entry; None for a log with all."""
        row = run(
            self.connection, "SELECT minimum, leaf FROM ledger_prune ORDER BY minimum DESC LIMIT 1"
        ).fetchone()
        return None if row is None else (row[0], row[1])

    def minimum(self) -> int:
        """Return the minimum index; 0 for a log with all its entries (C2SP tlog-tiles)."""
        pruned = self.pruned_to()
        return 0 if pruned is None else pruned[0]

    def first_leaf(self) -> int:
        """Return the index from which on every entry is there: that of the minimum's bundle."""
        return self.minimum() // TILE_WIDTH * TILE_WIDTH

    def kept(self, leaf: int) -> KeptEntry | None:
        """Return an entry below the minimum index that was kept, or None."""
        row = run(
            self.connection,
            "SELECT leaf, entry, size, path FROM ledger_kept WHERE leaf = ?",
            (leaf,),
        ).fetchone()
        return None if row is None else KeptEntry.of_row(*row)

    def _lacking(self, end: int, what: str) -> LedgerError:
        """Return the error for what is not stored, and would end before this index."""
        pruned = self.pruned_to()
        if pruned is not None and end <= pruned[0]:
            return Pruned(*pruned, what)
        return UnknownLeaf(what)

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
            raise self._lacking((number + 1) * TILE_WIDTH, f"no entry bundle {number}")
        return bytes(row[0])

    def _reader(self, size: int) -> ReadHash:
        if self._cache is None:
            return hash_reader(self.tile)
        return self._cache.reader(size, self.tile)

    def _reader_beside(self, kept: KeptEntry, size: int) -> ReadHash:
        """Return a reader that has the hashes beside a kept leaf, which may be gone, from its path.

        What is gone of a path ends at or below the minimum index, and so was complete, and a
        sibling, in the tree to which the kept path leads.
        """
        read = self._reader(size)
        siblings = merkle.siblings(kept.leaf, kept.size, kept.path)

        def read_hash(level: int, index: int) -> bytes:
            try:
                return read(level, index)
            except Pruned:
                if (level, index) not in siblings:
                    raise
                return siblings[level, index]

        return read_hash

    def pending_count(self) -> int:
        """Return how many entries are durable but not yet leaves."""
        row = self.connection.exec_driver_sql("SELECT count(*) FROM ledger_pending").one()
        return int(row[0])

    def inclusion_proof(self, leaf: int, size: int) -> list[bytes]:
        """Return the RFC 6962 audit path of a leaf in the tree of the first `size` leaves.

        Raises:
            Pruned: it takes hashes that are gone; never for leaves and sizes from the minimum on,
                nor for a kept leaf and sizes from that of its own proof on.
        """
        try:
            return merkle.inclusion_proof(leaf, size, self._reader(size))
        except Pruned:
            kept = self.kept(leaf)
            if kept is None or size < kept.size:
                raise
        return merkle.inclusion_proof(leaf, size, self._reader_beside(kept, size))

    def consistency_proof(self, old_size: int, new_size: int) -> list[bytes]:
        """Return the RFC 6962 consistency proof between two sizes of this tree.

        Raises:
            Pruned: it takes hashes that are gone; never for sizes from the minimum on.
        """
        return merkle.consistency_proof(old_size, new_size, self._reader(new_size))

    def root(self, size: int) -> bytes:
        """Return the root over the first `size` leaves, from the stored tiles and no cache.

        Raises:
            Pruned: it takes hashes that are gone; never for sizes from the minimum on.
        """
        return merkle.root(size, hash_reader(self.tile))

    def latest_checkpoint(self, witnesses: Sequence[CosignerKey] = ()) -> Note | None:
        """Return the signed checkpoint with the most leaves, or None before the first.

        Args:
            witnesses: whose cosignatures it carries, in this order, behind the log's lines.
        """
        row = self.connection.exec_driver_sql(
            "SELECT note FROM ledger_checkpoint ORDER BY size DESC LIMIT 1"
        ).one_or_none()
        return None if row is None else self.cosigned(Note.parse(row[0].encode()), witnesses)

    def cosigned(self, note: Note, witnesses: Sequence[CosignerKey]) -> Note:
        """Return a checkpoint with the stored cosignatures of witnesses behind the log's lines.

        A note has room for 16 lines; what comes after them is left out.

        Args:
            note: of a stored checkpoint.
            witnesses: whose cosignatures are added, in this order; others are not.
        """
        if not witnesses:
            return note
        size = Checkpoint.parse(note.text).size
        rows = self.connection.exec_driver_sql(
            "SELECT name, key_id, line FROM ledger_cosignature WHERE size = ?", (size,)
        )
        lines = {(row[0], bytes(row[1])): row[2] for row in rows}
        for key in witnesses:
            line = lines.get((key.name, key.key_id))
            if line is not None:
                try:
                    note = Note.parse((note.format() + line).encode())
                except Malformed:
                    break
        return note

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


def has_pending(connection: Connection, pointer: bytes) -> bool:
    """Tell whether an entry about a pointer is durable but not yet a leaf."""
    found = run(
        connection,
        "SELECT 1 FROM ledger_pending WHERE substr(entry, 5, 16) = ? LIMIT 1",
        (pointer,),
    ).fetchone()
    return found is not None


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
