"""Getting records, opening a vault, and the memory of an import."""

from __future__ import annotations

import random

from bench import floor, floor_ledger
from bench.measure import Aim, Row, each_ms, in_turn, median, rate_over
from bench.workshop import PASSPHRASE, Worker, Workshop
from vault import Vault

_FEW = 1_000


def get(workshop: Workshop) -> list[Row]:
    """Payloads in random order."""
    sizes, pair = workshop.sizes, workshop.pair(workshop.sizes.small)
    draw = random.Random(1)
    order = [draw.randrange(len(pair.pointers)) for _ in range(sizes.gets)]
    pointers = [pair.pointers[n] for n in order]
    floor_pointers = [pair.floor_pointers[n] for n in order]
    # Once without a clock: both sides then have the key tree in memory.
    rate_over(pair.vault.get, pointers)
    rate_over(lambda pointer: floor.get(pair.store, pointer), floor_pointers)
    ours, theirs = in_turn(
        sizes.rounds,
        lambda: rate_over(pair.vault.get, pointers),
        lambda: rate_over(lambda pointer: floor.get(pair.store, pointer), floor_pointers),
    )
    return [
        Row(
            "get",
            f"get, random order of {sizes.small:,}",
            "/s",
            median(ours),
            median(theirs),
            Aim(ratio_from=0.67),
            "one SELECT, HKDF, AES-GCM open, key in memory",
        )
    ]


def open_vault(workshop: Workshop) -> list[Row]:
    """Opening a vault: one Argon2id run, the database, the root node."""
    sizes = workshop.sizes
    folder = workshop.new_folder()
    tries = range(sizes.opens)
    ours, theirs = in_turn(
        sizes.rounds,
        lambda: each_ms(lambda _: Vault.open(folder, PASSPHRASE).close(), tries),
        lambda: each_ms(lambda _: floor_ledger.open_vault(folder, PASSPHRASE), tries),
    )
    return [
        Row(
            "open",
            "open",
            "ms",
            median(ours),
            median(theirs),
            None,
            "Argon2id, SQLite connection, root node opened",
        )
    ]


def memory(workshop: Workshop) -> list[Row]:
    """Peak resident memory of a process that imports JSON lines."""
    count = workshop.sizes.imported
    few = min(count, _FEW)
    return [
        Row(
            "import-memory",
            f"peak memory, import of {count:,}",
            "MB",
            _import_peak(workshop, count),
            _import_peak(workshop, few),
            Aim(value_to=300.0),
            f"the same process importing {few:,}",
        )
    ]


def _import_peak(workshop: Workshop, count: int) -> float:
    folder = workshop.new_folder()
    lines = workshop.write_lines(count)
    try:
        with Worker("import", folder, lines) as worker:
            return float(worker.answer())
    finally:
        lines.unlink()
