"""Erasing one record, durably: in vaults of several sizes, and a subject's last one."""

from __future__ import annotations

from bench import floor
from bench.measure import Aim, Item, Row, each_ms, in_turn, median
from bench.workshop import RECORDS_PER_SUBJECT, Pair, Workshop
from vault import Ground

_AIM = Aim(value_to=2.5)
_GROWTH = Aim(ratio_to=1.5)


def erase_small(workshop: Workshop) -> list[Row]:
    """One of a subject's records, in the smaller vault."""
    return [_erase_any(workshop, "erase-small", workshop.sizes.small)]


def erase_large(workshop: Workshop) -> list[Row]:
    """One of a subject's records, in the larger vault."""
    return [_erase_any(workshop, "erase-large", workshop.sizes.large)]


def erase_huge(workshop: Workshop) -> list[Row]:
    """One of a subject's records, in the largest vault."""
    sizes = workshop.sizes
    return [_erase_any(workshop, "erase-huge", sizes.huge)] if sizes.huge else []


def erase_growth(workshop: Workshop) -> list[Row]:
    """How much longer an erasure takes in a vault that is ten times or more as large."""
    sizes = workshop.sizes
    less, more = (sizes.large, sizes.huge) if sizes.huge else (sizes.small, sizes.large)
    ours, theirs = in_turn(
        sizes.rounds, lambda: _erase_some(workshop, more), lambda: _erase_some(workshop, less)
    )
    row = Row("erase", "erase, p50", "ms", median(ours), median(theirs), None, "")
    return [growth(row, row.floor, less, more)]


def growth(row: Row, smaller: float, less: int, more: int) -> Row:
    """Return how much more an operation takes in a larger vault.

    Args:
        row: measured in the larger vault.
        smaller: its figure in the smaller one.
        less: records of that.
        more: records of the larger one.
    """
    return Row(
        f"{row.name}-growth",
        f"growth, {more:,} to {less:,}: {row.operation}",
        row.unit,
        row.datakluis,
        smaller,
        _GROWTH,
        f"Datakluis itself with {less:,}",
    )


def erase_last(workshop: Workshop) -> list[Row]:
    """The last record of a subject, so that its bucket gets a new key."""
    sizes = workshop.sizes
    pair = workshop.pair(sizes.small)
    subjects = sizes.last_erasures * sizes.rounds
    pointers, floor_pointers = _of_whole_subjects(pair, subjects)
    ours, theirs = in_turn(
        sizes.rounds,
        lambda: _erase_subjects(pair, pointers, sizes.last_erasures),
        lambda: _erase_floor_subjects(pair, floor_pointers, sizes.last_erasures),
    )
    return [
        Row(
            "erase-last",
            f"erase a subject's last record, of {sizes.small:,}, p50",
            "ms",
            median(ours),
            median(theirs),
            _AIM,
            "as erase, and the subject's bucket re-keyed and indexed anew",
        )
    ]


def _erase_any(workshop: Workshop, name: str, count: int) -> Row:
    sizes, pair = workshop.sizes, workshop.pair(count)
    chosen = pair.living(sizes.erasures * sizes.rounds)
    pointers = [pair.pointers[number] for number in chosen]
    floor_pointers = [pair.floor_pointers[number] for number in chosen]
    ours, theirs = in_turn(
        sizes.rounds,
        lambda: each_ms(lambda one: erase(pair, one), _take(pointers, sizes.erasures)),
        lambda: each_ms(
            lambda one: floor.erase(pair.store, one), _take(floor_pointers, sizes.erasures)
        ),
    )
    return Row(
        name,
        f"erase, one of {count:,}, p50",
        "ms",
        median(ours),
        median(theirs),
        _AIM,
        "slot zeroed, path re-keyed, rows and entry in one transaction",
    )


def _erase_some(workshop: Workshop, count: int) -> list[float]:
    pair = workshop.pair(count)
    chosen = pair.living(workshop.sizes.erasures)
    return each_ms(lambda number: erase(pair, pair.pointers[number]), chosen)


def _of_whole_subjects(pair: Pair, subjects: int) -> tuple[list[str], list[bytes]]:
    # From the end: `Pair.living` chooses in the first half.
    last = len(pair.pointers) // RECORDS_PER_SUBJECT
    first = (last - subjects) * RECORDS_PER_SUBJECT
    end = last * RECORDS_PER_SUBJECT
    return pair.pointers[first:end], pair.floor_pointers[first:end]


def erase(pair: Pair, pointer: str) -> None:
    """Erase a record of the vault."""
    pair.vault.erase(pointer, Ground.CONSENT_WITHDRAWN)


def _erase_subjects(pair: Pair, pointers: list[str], subjects: int) -> list[float]:
    samples = []
    for _ in range(subjects):
        *others, last = _take(pointers, RECORDS_PER_SUBJECT)
        for pointer in others:
            erase(pair, pointer)
        samples += each_ms(lambda one: erase(pair, one), [last])
    return samples


def _erase_floor_subjects(pair: Pair, pointers: list[bytes], subjects: int) -> list[float]:
    samples = []
    for _ in range(subjects):
        *others, last = _take(pointers, RECORDS_PER_SUBJECT)
        for pointer in others:
            floor.erase(pair.store, pointer)
        samples += each_ms(lambda one: floor.erase(pair.store, one), [last])
    return samples


def _take(items: list[Item], count: int) -> list[Item]:
    taken = items[:count]
    del items[:count]
    return taken
