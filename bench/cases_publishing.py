"""The published ledger: export, fsck, monitor, witness, room on disk, and proofs beside pymerkle.

The floors, each straight down and on bytes of the same shape:

    export      the same files from memory: temporary file, write, fsync, rename; folders flushed
    fsck        every leaf and node hash of RFC 6962 anew, from entries in memory
    monitor     every published file read, every leaf and node hash anew
    witness     one Ed25519 verification of the log, an Ed25519 and an ML-DSA-44 signature, one
                durable transaction
    room        the entry and 32.2 bytes, its share of a tree of hashes 256 wide
    pymerkle    a peer, not a floor: the library's tree in memory, with its own cache

With `--full` there are a million entries.
"""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import tracemalloc
from functools import partial
from pathlib import Path

from nacl.signing import SigningKey

from bench import floor_ledger
from bench.cases_ledger import _entries, _integrate_all
from bench.measure import Aim, Row, in_turn, median, rate, rate_over
from bench.workshop import Workshop
from ledger import log as ledger_log
from ledger import merkle, tiles
from ledger.checkpoint import Checkpoint
from ledger.cosignature import Ed25519Cosigner, MlDsaCosigner
from ledger.destination import FolderDestination
from ledger.fsck import Fsck
from ledger.log import Log, append_pending
from ledger.logkeys import LogKeys
from ledger.monitor import Monitor
from ledger.monitorstate import MonitorState
from ledger.note import Note, VerifierKey, sign
from ledger.publish import export
from ledger.signer import NoteSigner, Signer, SignerMemory, store_checkpoint
from ledger.source import FolderSource
from ledger.tilecache import TileCache
from ledger.witness import Request, Witness
from ledger.witnessstate import WitnessState
from vault.database import Database

ORIGIN = floor_ledger.ORIGIN
_TREE_BYTES = 32 * 256 / 255 + 0.07
_KEY = SigningKey(hashlib.sha256(b"the benchmarks' log").digest())
_NAME = "witness.example/bench"


class _Trusted:
    """What the monitor trusts here: one Ed25519 key."""

    origin = ORIGIN
    closings: tuple[Checkpoint, ...] = ()
    founding: bytes | None = None
    _keys = LogKeys.lone(VerifierKey(ORIGIN, bytes(_KEY.verify_key)))

    def verify(self, note: Note) -> Checkpoint:
        """Return the checkpoint of a note that the key signed."""
        return self._keys.verify(note)

    verify_any = verify

    def lacking(self, note: Note) -> None:
        """Lack nothing: nobody watches."""


class _Made:
    """A signed ledger of entries that each stand alone."""

    def __init__(self, workshop: Workshop) -> None:
        self.folder = workshop.path("ledger")
        self.folder.mkdir()
        self.entries = _entries(workshop.sizes.huge or workshop.sizes.entries)
        self.database = Database.create(self.folder / "ledger.db")
        self.memory = SignerMemory(self.folder, _Trusted._keys)
        signer = Signer(self.memory, lambda: [NoteSigner(ORIGIN, _KEY)])
        with self.database.write() as connection:
            ledger_log.create(connection, ORIGIN)
            signer.begin(Log(connection).head().checkpoint())
            append_pending(connection, self.entries)
        _integrate_all(self.database)
        with self.database.write() as connection:
            log = Log(connection)
            note, checkpoint = signer.sign_head(log)
            store_checkpoint(log, note, checkpoint, 0)

    @property
    def count(self) -> int:
        """How many entries there are."""
        return len(self.entries)

    def export(self, folder: Path) -> None:
        """Publish it."""
        with self.database.read() as connection:
            export(Log(connection), FolderDestination(folder))

    def fsck(self) -> None:
        """Check it."""
        with self.database.read() as connection:
            if any(Fsck(Log(connection), self.memory).run()):
                raise RuntimeError("the benchmark's ledger is damaged")

    def room(self) -> int:
        """Return the bytes on disk, with nothing left in the write-ahead log."""
        with self.database.write() as connection:
            connection.exec_driver_sql("SELECT 1")
        self.database.close()
        return sum(path.stat().st_size for path in self.folder.glob("ledger.db*"))


def published(workshop: Workshop) -> list[Row]:
    """Export, fsck, a monitor from the first entry on, and the room that all of it takes."""
    made = _Made(workshop)
    count, public = made.count, workshop.path("public")
    ours = rate(count, lambda: made.export(public))
    files = {str(path.relative_to(public)): path.read_bytes() for path in _files(public)}
    straight = workshop.path("straight")
    theirs = rate(count, lambda: _write_all(straight, files))
    rows = [
        Row(
            "export",
            f"export {count:,} entries to a folder",
            "/s",
            median(ours),
            median(theirs),
            None,
            "the same files written: write, fsync, rename",
        )
    ]
    ours, theirs = in_turn(
        1, lambda: rate(count, made.fsck), lambda: rate(count, lambda: _hash_all(made.entries))
    )
    rows.append(
        Row(
            "fsck",
            f"fsck of {count:,} entries",
            "/s",
            median(ours),
            median(theirs),
            None,
            "leaf and node hashes, entries in memory",
        )
    )
    rows += _monitor(workshop, public, count)
    entry = len(made.entries[0])
    rows.append(
        Row(
            "ledger-room",
            f"ledger on disk an entry, {count:,} entries",
            "B",
            made.room() / count,
            entry + _TREE_BYTES,
            None,
            f"the entry, {entry} bytes, and 32.2 of tree",
        )
    )
    return rows


def _monitor(workshop: Workshop, public: Path, count: int) -> list[Row]:
    folder = workshop.path("watch")

    def follow() -> None:
        with MonitorState(folder, ORIGIN) as state:
            report = Monitor(FolderSource(public), _Trusted(), state, folder).round(0)
        if report.judged != count:
            raise RuntimeError("the monitor did not judge every entry")

    def read() -> None:
        entries = []
        for path in sorted(_files(public)):
            data = path.read_bytes()
            if "entries" in path.parts:
                entries += tiles.parse_bundle(data)
        _hash_all(entries)

    ours, theirs = in_turn(1, lambda: rate(count, follow), lambda: rate(count, read))
    return [
        Row(
            "monitor",
            f"monitor from 0 to {count:,} entries",
            "/s",
            median(ours),
            median(theirs),
            None,
            "every file read, every hash anew",
        )
    ]


def growth(workshop: Workshop) -> list[Row]:
    """The memory that one more batch of entries takes, in a small ledger and in a large one."""
    count = workshop.sizes.entries
    database = Database.create(workshop.path("growing.db"))
    with database.write() as connection:
        ledger_log.create(connection, ORIGIN)
    peaks = []
    for step in (count // 10, count // 10 * 8, count // 10):
        with database.write() as connection:
            append_pending(connection, _entries(step))
        tracemalloc.start()
        _integrate_all(database)
        peaks.append(tracemalloc.get_traced_memory()[1] / 1_000_000)
        tracemalloc.stop()
    database.close()
    return [
        Row(
            "growth",
            f"memory to integrate {count // 10:,} more entries after {count // 10 * 9:,}",
            "MB",
            peaks[2],
            peaks[0],
            Aim(ratio_to=1.2),
            "the same into an empty ledger",
        )
    ]


def witness(workshop: Workshop) -> list[Row]:
    """Checkpoints that a witness cosigns by both algorithms, each of one entry more."""
    count = workshop.sizes.proofs
    leaves = [merkle.leaf_hash(entry) for entry in _entries(count)]
    cached = tiles.extend(0, leaves, lambda level, number: b"")
    read = TileCache().reader(count, lambda level, number: cached[level, number])
    checkpoints = [Checkpoint(ORIGIN, n, merkle.root(n, read)) for n in range(1, count + 1)]
    notes = [Note(one.text(), (sign(one.text(), ORIGIN, _KEY),)) for one in checkpoints]
    bodies = [
        Request(size, tuple(merkle.consistency_proof(size, size + 1, read)), note).format()
        for size, note in enumerate(notes)
    ]
    seed = os.urandom(32)
    cosigners = Ed25519Cosigner(_NAME, SigningKey(seed)), MlDsaCosigner(_NAME, seed)
    folder = workshop.path("witness")
    folder.mkdir()
    state = WitnessState.create(folder)
    state.register(ORIGIN, (VerifierKey(ORIGIN, bytes(_KEY.verify_key)),))
    watching = Witness(state, cosigners)

    def cosign(body: bytes) -> None:
        if watching.add_checkpoint(body, 1).status != 200:
            raise RuntimeError("the witness does not cosign")

    connection = sqlite3.connect(workshop.path("floor-witness.db"), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE log (origin TEXT PRIMARY KEY, size INTEGER, note BLOB)")

    def straight(number: int) -> None:
        note, checkpoint = notes[number], checkpoints[number]
        _KEY.verify_key.verify(note.text.encode(), note.signatures[0].signature)
        lines = [one.cosign(checkpoint, 1).format() for one in cosigners]
        row = (ORIGIN, checkpoint.size, (note.format() + "".join(lines)).encode())
        connection.execute("INSERT OR REPLACE INTO log VALUES (?, ?, ?)", row)

    ours, theirs = rate_over(cosign, bodies), rate_over(straight, range(count))
    connection.close()
    return [
        Row(
            "witness",
            f"witness cosigns, {count:,} checkpoints",
            "/s",
            median(ours),
            median(theirs),
            None,
            "verify Ed25519, sign by both algorithms, one durable transaction",
        )
    ]


def peer(workshop: Workshop) -> list[Row]:
    """Inclusion proofs, made and verified, beside pymerkle in the same run."""
    from pymerkle import InmemoryTree  # type: ignore[import-untyped]
    from pymerkle import verify_inclusion as verify_theirs

    size = workshop.sizes.huge or workshop.sizes.entries
    entries = _entries(size)
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    cached = tiles.extend(0, leaves, lambda level, number: b"")
    read = TileCache().reader(size, lambda level, number: cached[level, number])
    root = merkle.root(size, read)
    tree = InmemoryTree(algorithm="sha256")
    for entry in entries:
        tree.append_entry(entry)
    if tree.get_root() != root:
        raise RuntimeError("pymerkle makes another tree")
    draw = random.Random(4)
    chosen = [draw.randrange(size) for _ in range(workshop.sizes.proofs)]
    made = {leaf: merkle.inclusion_proof(leaf, size, read) for leaf in chosen}
    peers = {leaf: tree.prove_inclusion(leaf + 1, size) for leaf in chosen}

    def prove_ours(leaf: int) -> None:
        merkle.inclusion_proof(leaf, size, read)

    def prove_theirs(leaf: int) -> None:
        tree.prove_inclusion(leaf + 1, size)

    def check_ours(leaf: int) -> None:
        merkle.verify_inclusion(leaves[leaf], leaf, size, made[leaf], root)

    def check_theirs(leaf: int) -> None:
        verify_theirs(leaves[leaf], root, peers[leaf])

    pairs = (("prove", prove_ours, prove_theirs), ("verify", check_ours, check_theirs))
    rows = []
    for what, ours, theirs in pairs:
        here, there = in_turn(
            workshop.sizes.rounds,
            partial(rate_over, ours, chosen),
            partial(rate_over, theirs, chosen),
        )
        rows.append(
            Row(
                f"peer-{what}",
                f"{what} inclusion at {size:,}, tiles cached",
                "/s",
                median(here),
                median(there),
                None,
                "pymerkle's tree in memory: a peer",
            )
        )
    return rows


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _write_all(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with (temporary := target.with_name(f"{target.name}.new")).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    for one in {target.parent for target in _files(folder)}:
        descriptor = os.open(one, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _hash_all(entries: list[bytes]) -> None:
    levels: floor_ledger.Levels = []
    floor_ledger.extend(levels, list(map(merkle.leaf_hash, entries)))
