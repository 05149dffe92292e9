"""The ledger: integrating, checkpoints, paths, evidence and its verification."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

from nacl.signing import SigningKey

from anchor.evidence import Evidence
from anchor.steps import Verdict
from anchor.verify import verify as verify_evidence
from bench import floor_ledger
from bench.measure import Aim, Row, each_ms, in_turn, median, rate, rate_over
from bench.workshop import CATEGORY, Workshop
from ledger import log as ledger_log
from ledger import merkle, tiles
from ledger.entry import encode_version
from ledger.integrator import BATCH_ENTRIES
from ledger.integrator import integrate as integrate_batch
from ledger.log import append_pending
from ledger.tilecache import TileCache
from vault.database import Database


def integrate(workshop: Workshop) -> list[Row]:
    """Pending entries of new records into leaves."""
    count = workshop.sizes.entries
    entries = _entries(count)

    def datakluis() -> list[float]:
        database = Database.create(workshop.path("ledger.db"))
        with database.write() as connection:
            ledger_log.create(connection, floor_ledger.ORIGIN)
            append_pending(connection, entries)
        sample = rate(count, lambda: _integrate_all(database))
        database.close()
        database.path.unlink()
        return sample

    def straight() -> list[float]:
        path = workshop.path("floor-ledger.db")
        connection = floor_ledger.create(path, entries)
        sample = rate(count, lambda: floor_ledger.integrate(connection, []))
        connection.close()
        path.unlink()
        return sample

    ours, theirs = in_turn(workshop.sizes.integrations, datakluis, straight)
    return [
        Row(
            "integrate",
            f"integrate {count:,} entries",
            "/s",
            median(ours),
            median(theirs),
            Aim(ratio_from=0.67),
            "leaf and node hashes, tiles, bundles, positions, head in one transaction",
        )
    ]


def paths(workshop: Workshop) -> list[Row]:
    """Audit paths and consistency proofs out of tiles that were expanded before."""
    sizes = workshop.sizes
    size = sizes.large
    leaves = [merkle.leaf_hash(entry) for entry in _entries(size)]
    cached = tiles.extend(0, leaves, lambda level, number: b"")
    read = TileCache().reader(size, lambda level, number: cached[level, number])
    levels: floor_ledger.Levels = []
    floor_ledger.extend(levels, leaves)
    draw = random.Random(1)
    numbers = [draw.randrange(1, size) for _ in range(sizes.proofs)]
    audits = _path_samples(
        sizes.rounds,
        numbers,
        lambda leaf: merkle.inclusion_proof(leaf, size, read),
        lambda leaf: floor_ledger.audit_path(levels, leaf, size),
    )
    consistencies = _path_samples(
        sizes.rounds,
        numbers,
        lambda old: merkle.consistency_proof(old, size, read),
        lambda old: floor_ledger.consistency_path(levels, old, size),
    )
    floor_is = "look-ups in a list of every node, in memory"
    return [
        Row(
            "path",
            f"audit path at {size:,}, tiles cached",
            "/s",
            *audits,
            Aim(value_from=15_000),
            floor_is,
        ),
        Row(
            "consistency",
            f"consistency proof at {size:,}, tiles cached",
            "/s",
            *consistencies,
            Aim(value_from=12_000),
            floor_is,
        ),
    ]


def prove(workshop: Workshop) -> list[Row]:
    """Evidence files, made from an open vault."""
    sizes, pair = workshop.sizes, workshop.pair(workshop.sizes.large)
    entries = _entries(sizes.large)
    connection = floor_ledger.create(workshop.path("floor-ledger.db"), entries)
    levels: floor_ledger.Levels = []
    floor_ledger.checkpoint(connection, levels, SigningKey.generate(), workshop.folder)
    pair.vault.checkpoint()
    draw = random.Random(2)
    chosen = [draw.randrange(sizes.large) for _ in range(sizes.proofs)]
    pointers = [pair.pointers[n % len(pair.pointers)] for n in chosen]
    floor_pointers = [entries[n][4:20] for n in chosen]
    # Once without a clock, so that every tile is in memory.
    rate_over(pair.vault.prove, pointers)
    ours, theirs = in_turn(
        sizes.rounds,
        lambda: rate_over(lambda one: pair.vault.prove(one).format(), pointers),
        lambda: rate_over(lambda one: floor_ledger.prove(connection, levels, one), floor_pointers),
    )
    connection.close()
    return [
        Row(
            "prove",
            f"prove, evidence file, {sizes.large:,} leaves",
            "/s",
            median(ours),
            median(theirs),
            None,
            "four SELECTs, path from every node in memory, JSON",
        )
    ]


def verify(workshop: Workshop) -> list[Row]:
    """Evidence files, verified from their bytes."""
    sizes, pair = workshop.sizes, workshop.pair(workshop.sizes.large)
    trust = pair.vault.trust()
    public_key = trust.log_keys[0].key.public_key
    pointers = random.Random(3).choices(pair.pointers, k=sizes.proofs)
    files = [pair.vault.prove(pointer).format() for pointer in pointers]
    for file in files:
        if verify_evidence(Evidence.parse(file), trust).verdict is not Verdict.VERIFIED:
            raise RuntimeError("the vault's own evidence does not verify")
        if not floor_ledger.verify(file, public_key):
            raise RuntimeError("the floor does not verify the vault's evidence")
    ours, theirs = in_turn(
        sizes.rounds,
        lambda: rate_over(lambda file: verify_evidence(Evidence.parse(file), trust), files),
        lambda: rate_over(lambda file: floor_ledger.verify(file, public_key), files),
    )
    return [
        Row(
            "verify",
            f"verify an evidence file, {sizes.large:,} leaves",
            "/s",
            median(ours),
            median(theirs),
            None,
            "JSON parsed, one Ed25519 verification, path hashed",
        )
    ]


def checkpoint(workshop: Workshop) -> list[Row]:
    """One waiting entry into a signed checkpoint."""
    sizes, pair = workshop.sizes, workshop.pair(workshop.sizes.small)
    pair.vault.checkpoint()
    key = SigningKey.generate()
    connection = floor_ledger.create(workshop.path("floor-ledger.db"), _entries(sizes.small))
    levels: floor_ledger.Levels = []
    floor_ledger.checkpoint(connection, levels, key, workshop.folder)

    def datakluis() -> list[float]:
        samples = []
        for record in workshop.more_records(pair, sizes.checkpoints):
            pair.vault.put(record.payload, category=CATEGORY, subject=record.subject)
            samples += each_ms(lambda _: pair.vault.checkpoint(), [None])
        return samples

    def straight() -> list[float]:
        samples = []
        for entry in _entries(sizes.checkpoints):
            floor_ledger.add_pending(connection, [entry])
            samples += each_ms(
                lambda _: floor_ledger.checkpoint(connection, levels, key, workshop.folder), [None]
            )
        return samples

    ours, theirs = in_turn(sizes.rounds, datakluis, straight)
    connection.close()
    return [
        Row(
            "checkpoint",
            "checkpoint of one new entry, p50",
            "ms",
            median(ours),
            median(theirs),
            None,
            "integrate, sign, remember with two fsyncs, store: two transactions",
        )
    ]


def _entries(count: int) -> list[bytes]:
    randomness = os.urandom(48 * count)
    return [
        encode_version(randomness[at : at + 16], 1, randomness[at + 16 : at + 48])
        for at in range(0, len(randomness), 48)
    ]


def _integrate_all(database: Database) -> None:
    while True:
        with database.write() as connection:
            if integrate_batch(connection) < BATCH_ENTRIES:
                return


def _path_samples(
    rounds: int,
    numbers: list[int],
    datakluis: Callable[[int], list[bytes]],
    straight: Callable[[int], list[bytes]],
) -> tuple[float, float]:
    # Before the clock starts, so that every tile is in memory.
    if [datakluis(number) for number in numbers] != [straight(number) for number in numbers]:
        raise RuntimeError("the floor makes other proofs than the ledger")
    ours, theirs = in_turn(
        rounds, lambda: rate_over(datakluis, numbers), lambda: rate_over(straight, numbers)
    )
    return median(ours), median(theirs)
