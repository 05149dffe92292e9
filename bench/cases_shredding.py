"""Erasing very many records in one epoch, closing the epoch, and certifying the erasures.

One subject's records go through `Vault.erase_person`; or single records of different subjects go
one by one. Then the epoch is closed. Its time is taken apart: what the provider of the root keys
takes for itself, what the certificates take, and the rest, which is what the aim is about.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from bench import floor, floor_shredding
from bench.cases_erasing import erase, growth
from bench.measure import Aim, Row, in_turn, median, rate, rate_over
from bench.providers import openbao, own_time, softhsm
from bench.workshop import CATEGORY, PASSPHRASE, Pair, Workshop
from vault import Ground, NewPlace, NewRecord, ProviderKind, ShredStep, Vault

_CLOSED = Aim(value_to=2_000.0)
_CLOSING_IS = "root re-sealed, nodes opened, copied and opened in a new process"
_CERTIFYING_IS = "JSON, ECDSA, parsed again, a row and an entry each"
_OPERATOR = "bench"
_BATCH = 1_000
_CHUNKS = 10


@dataclass(slots=True)
class _Samples:
    """What closing epochs took, in milliseconds, and certificates a second.

    Attributes:
        erased: erasing a person.
        whole: without certificates, with the provider's own time.
        own: the provider's own time in that.
        beside: the difference.
        certified: certificates a second.
    """

    erased: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    certified: list[float] = field(default_factory=list)


def epoch_large(workshop: Workshop) -> list[Row]:
    """A person with very many records, in the larger vault."""
    return _epoch(workshop, "large", workshop.sizes.large)


def epoch_huge(workshop: Workshop) -> list[Row]:
    """The same in the largest vault, and how much it has grown."""
    sizes = workshop.sizes
    if not sizes.huge:
        return []
    rows = _epoch(workshop, "huge", sizes.huge)
    smaller = {row.name: row.datakluis for row in _epoch(workshop, "large", sizes.large)}
    grown = [row for row in rows if row.name in ("erase-person-huge", "shred-huge")]
    return rows + [
        growth(row, smaller[row.name.replace("huge", "large")], sizes.large, sizes.huge)
        for row in grown
    ]


def many_large(workshop: Workshop) -> list[Row]:
    """Single records of different subjects, one erasure after the other, then a shred."""
    return _many(workshop, "large", workshop.sizes.large)


def many_huge(workshop: Workshop) -> list[Row]:
    """The same in the largest vault."""
    sizes = workshop.sizes
    return _many(workshop, "huge", sizes.huge) if sizes.huge else []


def shred_softhsm(workshop: Workshop) -> list[Row]:
    """Closing an epoch with root keys in a SoftHSM token."""
    return _at_provider(workshop, "softhsm", "SoftHSM", softhsm)


def shred_openbao(workshop: Workshop) -> list[Row]:
    """Closing an epoch with root keys in OpenBao's transit engine."""
    return _at_provider(workshop, "openbao", "OpenBao", openbao)


def _epoch(workshop: Workshop, name: str, count: int) -> list[Row]:
    sizes, pair = workshop.sizes, workshop.pair(count)
    ours, theirs = _Samples(), _Samples()
    # What other benchmarks have erased is certified here.
    pair.vault.shred(declared_by=_OPERATOR)
    for _ in range(sizes.epochs):
        _datakluis_epoch(workshop, pair.vault, ProviderKind.FILE, ours)
        _floor_epoch(workshop, pair, theirs)
    erasures = f"{sizes.epoch:,} erasures"
    return [
        Row(
            f"erase-person-{name}",
            f"erase a person's {sizes.epoch:,} records, of {count:,}",
            "ms",
            median(ours.erased),
            median(theirs.erased),
            None,
            "one transaction, each node on the paths re-keyed once",
        ),
        Row(
            f"shred-{name}",
            f"shred {erasures} of {count:,}, without provider",
            "ms",
            median(ours.beside),
            median(theirs.beside),
            _CLOSED,
            _CLOSING_IS,
        ),
        _with_provider(f"shred-{name}", ours, "file"),
        Row(
            f"certify-{name}",
            f"certify {erasures} of {count:,}",
            "/s",
            median(ours.certified),
            median(theirs.certified),
            None,
            _CERTIFYING_IS,
        ),
    ]


def _with_provider(name: str, samples: _Samples, provider: str) -> Row:
    return Row(
        f"{name}-whole",
        f"the same with its provider, {provider}",
        "ms",
        median(samples.whole),
        median(samples.own),
        None,
        "the provider's own time",
    )


def _datakluis_epoch(
    workshop: Workshop, vault: Vault, kind: ProviderKind, samples: _Samples
) -> None:
    count = workshop.sizes.epoch
    subject = _put_person(workshop, vault)
    started = time.perf_counter()
    vault.erase_person(subject, Ground.CONSENT_WITHDRAWN)
    samples.erased.append((time.perf_counter() - started) * 1_000)
    _shred(vault, kind, count, samples)


def _shred(vault: Vault, kind: ProviderKind, count: int, samples: _Samples) -> None:
    moments: dict[ShredStep, float] = {}
    own: dict[ShredStep, float] = {}
    with own_time(kind) as spent:

        def note(step: ShredStep) -> None:
            moments[step], own[step] = time.perf_counter(), spent.seconds

        started = time.perf_counter()
        report = vault.shred(declared_by=_OPERATOR, on_step=note)
    if report.certificates != count or report.waiting:
        raise RuntimeError("the epoch was not closed as it should be")
    whole = moments[ShredStep.TRIED] - started
    samples.whole.append(whole * 1_000)
    samples.own.append(own[ShredStep.TRIED] * 1_000)
    samples.beside.append((whole - own[ShredStep.TRIED]) * 1_000)
    samples.certified.append(count / (moments[ShredStep.CERTIFIED] - moments[ShredStep.TRIED]))


def _put_person(workshop: Workshop, vault: Vault) -> str:
    count = workshop.sizes.epoch
    subject = workshop.new_name("persoon")
    records = workshop.records(0, count)
    vault.put_many((NewRecord(one.payload, subject) for one in records), category=CATEGORY)
    return subject


def _floor_epoch(workshop: Workshop, pair: Pair, samples: _Samples) -> None:
    count = workshop.sizes.epoch
    subject = workshop.new_name("persoon").encode()
    records = [(one.payload, subject) for one in workshop.records(0, count)]
    for start in range(0, count, _BATCH):
        floor.put(pair.store, records[start : start + _BATCH])
    started = time.perf_counter()
    erased = floor_shredding.erase_subject(pair.store, subject)
    samples.erased.append((time.perf_counter() - started) * 1_000)
    started = time.perf_counter()
    floor_shredding.close_epoch(pair.store, workshop.path("floor-backup.db"))
    samples.beside.append((time.perf_counter() - started) * 1_000)
    samples.certified += rate(count, lambda: _certify_floor(pair, erased))


def _certify_floor(pair: Pair, erased: list[tuple[int, bytes]]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    floor_shredding.certify(pair.store, erased, _statement(pair.vault), key)


def _statement(vault: Vault) -> dict[str, object]:
    """Return what a certificate of this vault says, as a shape for the floor's."""
    with vault._core.database.read() as connection:
        document = connection.exec_driver_sql(
            "SELECT document FROM vault_certificate ORDER BY id DESC LIMIT 1"
        ).scalar_one()
    statement: dict[str, object] = json.loads(document)["certificate"]
    return statement


def _many(workshop: Workshop, name: str, count: int) -> list[Row]:
    sizes, pair = workshop.sizes, workshop.pair(count)
    pair.vault.shred(declared_by=_OPERATOR)
    each = max(1, sizes.epoch // _CHUNKS)
    chosen = [pair.living(each) for _ in range(_CHUNKS)]
    ours_left, theirs_left = chosen.copy(), chosen.copy()
    erased: list[tuple[int, bytes]] = []

    def straight() -> list[float]:
        numbers = theirs_left.pop()
        erased.extend((number + 1, pair.floor_pointers[number]) for number in numbers)
        pointers = [pair.floor_pointers[number] for number in numbers]
        return rate_over(lambda one: floor.erase(pair.store, one), pointers)

    def datakluis() -> list[float]:
        pointers = [pair.pointers[number] for number in ours_left.pop()]
        return rate_over(lambda one: erase(pair, one), pointers)

    ours, theirs = in_turn(_CHUNKS, datakluis, straight)
    samples = _Samples()
    _shred(pair.vault, ProviderKind.FILE, each * _CHUNKS, samples)
    floor_shredding.close_epoch(pair.store, workshop.path("floor-backup.db"))
    certified = rate(len(erased), lambda: _certify_floor(pair, erased))
    return [
        Row(
            f"erase-many-{name}",
            f"erase {each * _CHUNKS:,} one by one, of {count:,}",
            "/s",
            median(ours),
            median(theirs),
            None,
            "a transaction each; different subjects",
        ),
        Row(
            f"certify-many-{name}",
            f"certify {each * _CHUNKS:,} erased so, of {count:,}",
            "/s",
            median(samples.certified),
            median(certified),
            None,
            _CERTIFYING_IS,
        ),
    ]


def _at_provider(
    workshop: Workshop,
    name: str,
    words: str,
    start: Callable[[Path], AbstractContextManager[NewPlace | None]],
) -> list[Row]:
    sizes = workshop.sizes
    if not sizes.providers:
        return []
    ours, theirs = _Samples(), _Samples()
    pair = workshop.pair(sizes.small)
    with start(workshop.path(name)) as place:
        if place is None:
            return []
        with Vault.open(workshop.new_folder(), PASSPHRASE) as vault:
            records = [one.for_vault() for one in workshop.records(0, sizes.small)]
            vault.put_many(records, category=CATEGORY)
            vault.move_root_keys(place)
            for _ in range(sizes.epochs):
                _datakluis_epoch(workshop, vault, place.kind, ours)
                started = time.perf_counter()
                floor_shredding.close_epoch(pair.store, workshop.path("floor-backup.db"))
                theirs.beside.append((time.perf_counter() - started) * 1_000)
    return [
        Row(
            f"shred-{name}",
            f"shred {sizes.epoch:,} erasures of {sizes.small:,}, without {words}",
            "ms",
            median(ours.beside),
            median(theirs.beside),
            _CLOSED,
            _CLOSING_IS,
        ),
        _with_provider(f"shred-{name}", ours, words),
    ]
