"""What the benchmarks work on: sizes, lifelike records, and vaults that several of them share.

A record is a lifelike newsletter subscription of about 1 KiB (commands/lifelike.py with fewer
editions); every subject has three of them in a row, so a third of the records of a batch bring a
new subject. The category carries no duty to keep, so each record may be erased.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import floor
from commands.lifelike import lifelike_records
from vault import NewRecord, Vault

PASSPHRASE = "bench"
CATEGORY = "nieuwsbrief"
RECORDS_PER_SUBJECT = 3
_PAYLOAD_BYTES = 1_100
_POOL = 200
_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each benchmark does.

    Attributes:
        rounds: how often both sides take their turn.
        batches: of 1,000 records, a round.
        puts: single puts a round.
        putters: threads that put at once.
        puts_each: puts of each of them a round.
        gets: a round.
        small: records in the smaller vault.
        large: records in the larger vault, and leaves of its ledger.
        erasures: a round.
        last_erasures: of a subject's last record, a round.
        entries: integrated a round.
        integrations: rounds of that.
        proofs: a round.
        checkpoints: a round.
        opens: a round.
        imported: records whose import is watched for its memory.
        epoch: erasures in one epoch.
        epochs: closed, a benchmark.
        backups: after how many more erasures a key backup is continued, in their order.
        huge: records in the largest vault; 0 for none.
        providers: whether providers outside this process are started.
    """

    rounds: int = 5
    batches: int = 4
    puts: int = 100
    putters: int = 16
    puts_each: int = 25
    gets: int = 10_000
    small: int = 10_000
    large: int = 100_000
    erasures: int = 40
    last_erasures: int = 10
    entries: int = 100_000
    integrations: int = 3
    proofs: int = 1_000
    checkpoints: int = 20
    opens: int = 1
    imported: int = 200_000
    epoch: int = 10_000
    epochs: int = 3
    backups: tuple[int, ...] = (1, 10, 100, 1_000)
    huge: int = 0
    providers: bool = True


DEFAULT = Sizes()
FULL = Sizes(rounds=9, imported=1_000_000, huge=1_000_000)
QUICK = Sizes(
    rounds=3,
    batches=1,
    puts=40,
    puts_each=5,
    gets=2_000,
    small=2_000,
    large=8_000,
    erasures=10,
    last_erasures=3,
    entries=8_000,
    integrations=2,
    proofs=200,
    checkpoints=5,
    imported=10_000,
    epoch=300,
    epochs=1,
    backups=(1, 10, 100),
    providers=False,
)


@dataclass(slots=True)
class Pair:
    """A vault and a floor that hold the same number of records.

    Attributes:
        vault: open.
        pointers: of the records it was filled with, in that order; some may be erased by now.
        store: the floor's.
        floor_pointers: likewise.
        next_record: number of the first record that neither has.
        to_erase: numbers of records that no benchmark has erased and that leave their subject
            another one; see `living`.
    """

    vault: Vault
    pointers: list[str]
    store: floor.Store
    floor_pointers: list[bytes]
    next_record: int
    to_erase: list[int] = field(default_factory=list)

    def living(self, count: int) -> list[int]:
        """Return so many records to erase, by number: of different subjects, as long as they last.

        They are of the first half of the subjects; none is its subject's last.
        """
        chosen = self.to_erase[:count]
        del self.to_erase[:count]
        if len(chosen) < count:
            raise RuntimeError("the vault has too few records for these benchmarks")
        return chosen


@dataclass(frozen=True, slots=True)
class Record:
    """A record as each side takes it."""

    payload: bytes
    subject: str

    def for_vault(self) -> NewRecord:
        """Return it for `Vault.put_many`."""
        return NewRecord(self.payload, self.subject)

    def for_floor(self) -> tuple[bytes, bytes]:
        """Return it for `floor.put`."""
        return self.payload, self.subject.encode()


class Workshop:
    """Makes vaults and floors in one folder and closes them at the end.

    Args:
        folder: empty; the caller removes it.
        sizes: of this run.
    """

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder = folder
        self.sizes = sizes
        self._payloads = _payload_pool()
        self._pairs: dict[int, Pair] = {}
        self._template: Path | None = None
        self._made = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pair in self._pairs.values():
            pair.vault.close()
            pair.store.connection.close()

    def records(self, first: int, count: int) -> list[Record]:
        """Return records by their number; the same number gives the same record."""
        pool = self._payloads
        return [
            Record(pool[number % len(pool)], f"inwoner-{number // RECORDS_PER_SUBJECT:09}")
            for number in range(first, first + count)
        ]

    def more_records(self, pair: Pair, count: int) -> list[Record]:
        """Return records that neither side of a pair has yet."""
        records = self.records(pair.next_record, count)
        pair.next_record += count
        return records

    def new_name(self, word: str) -> str:
        """Return a name that nothing else has."""
        self._made += 1
        return f"{word}-{self._made}"

    def path(self, name: str) -> Path:
        """Return a path in the folder that nothing else uses."""
        self._made += 1
        return self.folder / f"{self._made}-{name}"

    def new_folder(self) -> Path:
        """Return the folder of an empty vault that nothing else uses.

        All are copies of one, since making the key files of each costs several Argon2id runs.
        """
        if self._template is None:
            self._template = self.path("template")
            Vault.create(self._template, PASSPHRASE, origin=floor.ORIGIN.decode()).close()
        folder = self.path("vault")
        shutil.copytree(self._template, folder)
        return folder

    def pair(self, count: int) -> Pair:
        """Return the vault and floor that were filled with `count` records; made once per run."""
        if count not in self._pairs:
            vault = Vault.open(self.new_folder(), PASSPHRASE)
            store = floor.create(self.path("floor.db"), max(count, 20_000) // RECORDS_PER_SUBJECT)
            pair = self._pairs[count] = Pair(vault, [], store, [], 0)
            for first in range(0, count, _BATCH):
                batch = self.more_records(pair, min(_BATCH, count - first))
                vault.put_many(
                    [record.for_vault() for record in batch],
                    category=CATEGORY,
                    on_batch=pair.pointers.extend,
                )
                pair.floor_pointers += floor.put(store, [record.for_floor() for record in batch])
            pair.to_erase += _order_of_erasing(count)
        return self._pairs[count]

    def write_lines(self, count: int) -> Path:
        """Write a file of JSON lines whose subject field is `/inwoner`, and return its path."""
        path = self.path("records.jsonl")
        with path.open("wb") as file:
            file.writelines(self._lines(count))
        return path

    def _lines(self, count: int) -> Iterator[bytes]:
        for number in range(count):
            payload = self._payloads[number % len(self._payloads)]
            subject = f'{{"inwoner":"inwoner-{number // RECORDS_PER_SUBJECT:09}",'
            yield subject.encode() + payload[1:] + b"\n"


class Worker:
    """A process of its own that works on a vault when told to (bench/worker.py)."""

    def __init__(self, *arguments: str | Path | int) -> None:
        # The list holds this interpreter and values that the benchmark made itself.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", *map(str, arguments)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def answer(self) -> str:
        """Wait for the worker's next line and return it."""
        if self._process.stdout is None or not (line := self._process.stdout.readline()):
            raise RuntimeError("a worker of the benchmark stopped early")
        return line.strip()

    def go(self) -> None:
        """Tell the worker to do its work once."""
        if self._process.stdin is not None:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()


def _order_of_erasing(count: int) -> list[int]:
    subjects = list(range(count // RECORDS_PER_SUBJECT // 2))
    random.Random(1).shuffle(subjects)
    return [
        RECORDS_PER_SUBJECT * subject + place
        for place in range(RECORDS_PER_SUBJECT - 1)
        for subject in subjects
    ]


def _payload_pool() -> list[bytes]:
    day = dt.date(2025, 6, 2)
    lifelike = lifelike_records(6 * _POOL, 1, day)
    chosen = [record.payload for record in lifelike if record.category == CATEGORY][:_POOL]
    return [_shortened(payload) for payload in chosen]


def _shortened(payload: bytes) -> bytes:
    document = json.loads(payload)
    while len(payload) > _PAYLOAD_BYTES and document["verzendingen"]:
        document["verzendingen"].pop()
        payload = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return payload
