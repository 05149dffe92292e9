"""Putting records: in batches, from two processes, one at a time, and from sixteen threads."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bench import floor
from bench.measure import Aim, Row, each_ms, in_turn, median, percentile, rate
from bench.workshop import CATEGORY, Pair, Record, Worker, Workshop
from vault import Vault

_BATCH = 1_000


def put_many(workshop: Workshop) -> list[Row]:
    """Batches of 1,000 records of about 1 KiB."""
    sizes, pair = workshop.sizes, workshop.pair(0)
    count = sizes.batches * _BATCH

    def datakluis() -> list[float]:
        records = [record.for_vault() for record in workshop.more_records(pair, count)]
        return rate(count, lambda: pair.vault.put_many(records, category=CATEGORY))

    def straight() -> list[float]:
        records = [record.for_floor() for record in workshop.more_records(pair, count)]
        starts = range(0, count, _BATCH)
        return rate(count, lambda: [floor.put(pair.store, records[n : n + _BATCH]) for n in starts])

    ours, theirs = in_turn(sizes.rounds, datakluis, straight)
    return [
        Row(
            "put-many",
            "put_many, batches of 1,000, 1 KiB",
            "/s",
            median(ours),
            median(theirs),
            Aim(ratio_from=0.67),
            "the same cryptography and rows, one transaction per batch",
        )
    ]


def put_many_two(workshop: Workshop) -> list[Row]:
    """Batches of 1,000 records from two processes at once, against one process."""
    sizes = workshop.sizes
    folder = workshop.new_folder()
    count = sizes.batches * _BATCH
    with Worker("put", folder, 0, count) as one, Worker("put", folder, 10**8, count) as two:
        for worker in (one, two):
            worker.answer()
        ours, theirs = in_turn(
            sizes.rounds, lambda: _all_put([one, two], count), lambda: _all_put([one], count)
        )
    return [
        Row(
            "put-many-two",
            "put_many, two processes at once",
            "/s",
            median(ours),
            median(theirs),
            Aim(ratio_from=1.2),
            "Datakluis itself in one process",
        )
    ]


def put(workshop: Workshop) -> list[Row]:
    """One record, one durable transaction."""
    sizes, pair = workshop.sizes, workshop.pair(0)

    def datakluis() -> list[float]:
        records = workshop.more_records(pair, sizes.puts)
        return each_ms(lambda record: _put_one(pair.vault, record), records)

    def straight() -> list[float]:
        records = workshop.more_records(pair, sizes.puts)
        return each_ms(lambda record: floor.put(pair.store, [record.for_floor()]), records)

    ours, theirs = in_turn(sizes.rounds, datakluis, straight)
    floor_is = "the same cryptography and rows in one transaction"
    return [
        Row(
            "put-p50",
            "put, durable, p50",
            "ms",
            median(ours),
            median(theirs),
            Aim(ratio_to=1.5),
            floor_is,
        ),
        Row(
            "put-p99",
            "put, durable, p99",
            "ms",
            percentile(ours, 99),
            percentile(theirs, 99),
            Aim(value_to=4.0),
            floor_is,
        ),
    ]


def put_at_once(workshop: Workshop) -> list[Row]:
    """Single puts from several threads on one open vault."""
    sizes, pair = workshop.sizes, workshop.pair(0)
    count = sizes.putters * sizes.puts_each

    def straight() -> list[float]:
        records = [record.for_floor() for record in workshop.more_records(pair, count)]
        starts = range(0, count, sizes.putters)
        return rate(
            count, lambda: [floor.put(pair.store, records[n : n + sizes.putters]) for n in starts]
        )

    with ThreadPoolExecutor(sizes.putters) as threads:
        ours, theirs = in_turn(
            sizes.rounds, lambda: _put_at_once(workshop, pair, threads, count), straight
        )
    return [
        Row(
            "put-at-once",
            f"put, {sizes.putters} threads on one vault",
            "/s",
            median(ours),
            median(theirs),
            Aim(value_from=6_000),
            f"one thread, {sizes.putters} records per transaction: what group commit can give",
        )
    ]


def _put_one(vault: Vault, record: Record) -> str:
    return vault.put(record.payload, category=CATEGORY, subject=record.subject)


def _put_at_once(
    workshop: Workshop, pair: Pair, threads: ThreadPoolExecutor, count: int
) -> list[float]:
    records = workshop.more_records(pair, count)
    putters = workshop.sizes.putters

    def put_own(putter: int) -> None:
        for record in records[putter::putters]:
            _put_one(pair.vault, record)

    return rate(count, lambda: list(threads.map(put_own, range(putters))))


def _all_put(workers: list[Worker], count: int) -> list[float]:
    # The records are made before the clock starts.
    for worker in workers:
        worker.go()
        worker.answer()
    started = time.perf_counter()
    for worker in workers:
        worker.go()
    for worker in workers:
        worker.answer()
    return [len(workers) * count / (time.perf_counter() - started)]
