"""A ledger in a temporary SQLite file, records to fill it with, and what its tests hold it against.

Nothing here calls the code under test to say what is right: the tree is the recursion of RFC 6962
section 2.1 as it is written, and a history is right when each note in it states that tree.
"""

from __future__ import annotations

import hashlib
import importlib.util
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

from nacl.signing import SigningKey
from sqlalchemy import Connection, create_engine, event

from ledger import integrator, log, tables
from ledger.checkpoint import Checkpoint
from ledger.cosignature import NO_TIME, MlDsaCosigner
from ledger.fault import Fault
from ledger.fsck import Fsck
from ledger.log import Log
from ledger.logkeys import LogKey, LogKeys
from ledger.note import Note, sign
from ledger.signer import NoteSigner, Signer, SignerMemory, store_checkpoint

ORIGIN = "datakluis.example/gemeente"
KEY = SigningKey(hashlib.sha256(b"the log's key in tests").digest())
OTHER_KEY = SigningKey(hashlib.sha256(b"somebody else's key").digest())
VECTORS = Path(__file__).parents[1] / "vectors"
SIGNED_AT = 1_780_000_000


def private_keys(key: SigningKey = KEY, origin: str = ORIGIN) -> tuple[NoteSigner, MlDsaCosigner]:
    """An Ed25519 key, and an ML-DSA-44 key that the tests find by it."""
    seed = hashlib.sha256(b"the ML-DSA-44 key beside " + bytes(key)).digest()
    return NoteSigner(origin, key), MlDsaCosigner(origin, seed)


@cache
def log_keys(key: SigningKey = KEY, origin: str = ORIGIN) -> LogKeys:
    """The register of a log that has always signed with both keys."""
    return LogKeys(tuple(LogKey(one.verifier) for one in private_keys(key, origin)))


def signer_of(folder: Path, key: SigningKey = KEY, origin: str = ORIGIN) -> Signer:
    memory = SignerMemory(folder, log_keys(key, origin))
    return Signer(memory, lambda: private_keys(key, origin))


def sign_with_both(checkpoint: Checkpoint, key: SigningKey = KEY, name: str = ORIGIN) -> Note:
    """What a log signs, or what someone signs who stole its keys."""
    _, ml_dsa = private_keys(key, name)
    text = checkpoint.text()
    return Note(text, (sign(text, name, key), ml_dsa.cosign(checkpoint, NO_TIME)))


class Injected(Exception):
    """The failure that a test put in the way."""


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_entry", VECTORS / "generate_entry.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pointer(number: int) -> bytes:
    return hashlib.sha256(b"pointer %d" % number).digest()[:16]


def version_entry(of: bytes, version: int = 1, group: int = 0) -> bytes:
    committed = hashlib.sha256(of + version.to_bytes(4, "big") + bytes(group)).digest()
    return b"\x01\x01\x01" + bytes([group]) + of + version.to_bytes(4, "big") + committed


def erasure_entry(of: bytes, version: int = 1, group: int = 0) -> bytes:
    return b"\x01\x02\x00" + bytes([group]) + of + version.to_bytes(4, "big")


def certificate_entry(of: bytes, number: int = 1, group: int = 0) -> bytes:
    digest = hashlib.sha256(b"certificate" + of + number.to_bytes(4, "big")).digest()
    return b"\x01\x03\x00" + bytes([group]) + of + number.to_bytes(4, "big") + digest


def shred_entry(tenant: bytes, tree: int = 0, generation: int = 1) -> bytes:
    return b"\x01\x04\x00" + bytes([tree]) + tenant + generation.to_bytes(4, "big")


class Records:
    """An endless source of valid entries: new records, later versions, erasures.

    With `every_kind` also field groups, certificates, and generations of two key trees.
    """

    def __init__(self, seed: int, later_share: float = 0.3, *, every_kind: bool = False) -> None:
        self._random = random.Random(seed)
        self._later_share = later_share
        self._alive: list[tuple[bytes, int]] = []
        self._made = 0
        self._seed = seed
        self._every_kind = every_kind
        self._follow_ups: list[bytes] = []

    def take(self, count: int) -> list[bytes]:
        return [self._any() if self._every_kind else self._next() for _ in range(count)]

    def _any(self) -> bytes:
        if self._follow_ups:
            return self._follow_ups.pop(0)
        entry = self._next()
        of, version = entry[4:20], int.from_bytes(entry[20:24], "big")
        if entry[1] == 2:
            self._follow_ups = [certificate_entry(of), certificate_entry(of, 2)]
        elif version == 1 and self._made % 5 == 0:
            group = self._made % 15 + 1
            self._follow_ups = [version_entry(of, 1, group), erasure_entry(of, 1, group)]
        elif version == 1 and self._made % 7 == 0:
            generation = self._made // 7
            self._follow_ups = [shred_entry(pointer(1 << 99), generation % 2, generation)]
        return entry

    def _next(self) -> bytes:
        if self._alive and self._random.random() < self._later_share:
            place = self._random.randrange(len(self._alive))
            of, version = self._alive[place]
            if self._random.random() < 0.2:
                self._alive[place] = self._alive[-1]
                self._alive.pop()
                return erasure_entry(of, version)
            self._alive[place] = of, version + 1
            return version_entry(of, version + 1)
        self._made += 1
        of = pointer(self._seed << 40 | self._made)
        self._alive.append((of, 1))
        return version_entry(of)


class NaiveTree:
    """RFC 6962 section 2.1 as it is written."""

    def __init__(self, leaves: Iterable[bytes]) -> None:
        self._hashes = [hashlib.sha256(b"\x00" + data).digest() for data in leaves]
        self._mth = cache(self._range)

    def root(self, size: int) -> bytes:
        return self._mth(0, size) if size else hashlib.sha256(b"").digest()

    def tile(self, level: int, number: int, size: int) -> bytes:
        """C2SP tlog-tiles: hash i of tile n is the root over 256**level leaves."""
        span = 256**level
        places = range(256 * number, min(256 * (number + 1), size // span))
        return b"".join(self._mth(i * span, (i + 1) * span) for i in places)

    def _range(self, start: int, end: int) -> bytes:
        if end - start == 1:
            return self._hashes[start]
        k = 1
        while k * 2 < end - start:
            k *= 2
        pair = self._mth(start, start + k) + self._mth(start + k, end)
        return hashlib.sha256(b"\x01" + pair).digest()


class Ledger:
    """One log in a folder: its database, its signer, and the steps in the order of their use.

    `on_commit` is told "before" and "after" each commit; what it raises is what the caller sees.
    """

    def __init__(self, folder: Path, key: SigningKey = KEY, *, new: bool = True) -> None:
        self.folder = folder
        self.signer_folder = folder / "signer"
        self.on_commit: Callable[[str], None] = lambda moment: None
        self.engine = create_engine(
            f"sqlite:///{folder / 'ledger.db'}",
            connect_args={"timeout": 30, "isolation_level": None},
        )
        event.listen(self.engine, "connect", _set_up)
        event.listen(self.engine, "begin", _begin)
        self._writer = self.engine.execution_options(begin="BEGIN IMMEDIATE")
        self.signer = signer_of(self.signer_folder, key)
        if new:
            self.signer_folder.mkdir(parents=True)
            with self.write() as connection:
                tables.metadata.create_all(connection)
                log.create(connection, ORIGIN)
                self.signer.begin(Log(connection).head().checkpoint())

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.dispose()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self._writer.connect() as connection:
            with connection.begin():
                yield connection
                self.on_commit("before")
            self.on_commit("after")

    @contextmanager
    def read(self) -> Iterator[Log]:
        with self.engine.connect() as connection, connection.begin():
            yield Log(connection)

    def put(self, entries: list[bytes]) -> None:
        with self.write() as connection:
            log.append_pending(connection, entries)

    def integrate(self) -> int:
        """Turn all that waits into leaves, one transaction per batch."""
        total = 0
        while True:
            with self.write() as connection:
                integrated = integrator.integrate(connection)
            total += integrated
            if integrated < integrator.BATCH_ENTRIES:
                return total

    def sign(self) -> Note:
        with self.write() as connection:
            seen = Log(connection)
            note, checkpoint = self.signer.sign_head(seen)
            store_checkpoint(seen, note, checkpoint, SIGNED_AT)
        return note

    def checkpoint(self, entries: list[bytes] | None = None) -> Note:
        if entries:
            self.put(entries)
        self.integrate()
        return self.sign()

    def sql(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        with self.write() as connection:
            result = connection.exec_driver_sql(statement, parameters)
            return [tuple(row) for row in result] if result.returns_rows else []

    def faults(self) -> list[Fault]:
        with self.read() as seen:
            return list(Fsck(seen, self.signer.memory).run())

    def wheres(self) -> list[str]:
        return [fault.where for fault in self.faults()]

    def entries(self) -> list[bytes]:
        with self.read() as seen:
            size = seen.head().size
            return [entry for n in range(-(-size // 256)) for entry in seen.bundle(n)]

    def pending(self) -> list[bytes]:
        rows = self.sql("SELECT entry FROM ledger_pending ORDER BY id")
        return [bytes(row[0]) for row in rows]

    def dump(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of every table."""
        return {name: sorted(self.sql(f"SELECT * FROM {name}")) for name in tables.metadata.tables}


def checkpoint_of(note: Note, key: SigningKey = KEY) -> Checkpoint:
    """The statement of a note, once its signatures are verified."""
    return log_keys(key).verify(note)


def off_history(notes: Iterable[Note], entries: list[bytes]) -> list[int]:
    """The sizes of those notes that do not state the tree over these entries."""
    tree = NaiveTree(entries)
    signed = [checkpoint_of(note) for note in notes]
    return [
        one.size
        for one in signed
        if one.size > len(entries) or one.root != tree.root(one.size) or one.origin != ORIGIN
    ]


def orders(entries: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """The entries of each pointer, in their order."""
    found: dict[bytes, list[bytes]] = {}
    for entry in entries:
        found.setdefault(entry[4:20], []).append(entry)
    return found


def _set_up(connection, _record) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
