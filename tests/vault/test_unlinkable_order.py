"""PR5: the place of an entry in the log says nothing about whose record it is.

A hundred records of one person among ten thousand are put one after another and later erased
together. Three statistics hold their places against chance, each with a limit that chance passes
less than once in 10^8 runs, so that a failure is never bad luck:

    spread     the largest distance between the distribution of the places and the even one, the
               statistic of Kolmogorov and Smirnov. P(D > d) <= 2 exp(-2 n d²) (Massart 1990; for
               draws without replacement too), so for n = 100 the limit is 0.32
    order      the rank correlation (Spearman) of the places with the order in which the records
               were put, and of the places of the versions with those of the erasures. Of
               independent orders it is about normal with deviation 1/sqrt(n - 1), so 0.6 is six
               deviations
    neighbours pairs of places next to one another, on average n (n - 1) / N, one among ten thousand
               and about two among four thousand; at most 16 (Poisson)

Whoever knows the pointers, as an auditor with evidence does, could compute all three. The controls
run the same on a log whose batches are not permuted, and on one whose pointers' own order is lost.
"""

import math
import random
from dataclasses import dataclass

from ledger import integrator
from ledger.entry import EntryKind, parse_entry
from ledger.log import Log
from ledger.pointer import parse_pointer
from vault import Ground, NewRecord

RECORDS = 10_000
OF_ONE = 100
BESIDE_ERASURES = 4_000
RECTIFIED = 40
SUBJECT = "999990019"

MAX_SPREAD = 0.32
MAX_ORDER = 0.6
MAX_NEIGHBOURS = 16


@dataclass(frozen=True)
class Story:
    """What went into a log and where it lies.

    Attributes:
        entries: the log, parsed.
        put: pointers of the one subject in the order in which they were put.
        before_erasure: leaves of the log before the person was erased.
    """

    entries: list
    put: list[bytes]
    before_erasure: int

    def places(self, kind: EntryKind) -> list[int]:
        """The leaf of each of the subject's records, in the order in which they were put."""
        found = {
            entry.pointer: leaf
            for leaf, entry in enumerate(self.entries)
            if entry.kind is kind and (kind is not EntryKind.VERSION or entry.version == 1)
        }
        return [found[pointer] for pointer in self.put]

    def statistics(self) -> dict[str, float]:
        versions, erasures = self.places(EntryKind.VERSION), self.places(EntryKind.ERASURE)
        first, last = range(self.before_erasure), range(self.before_erasure, len(self.entries))
        return {
            "spread of versions": spread(versions, first),
            "spread of erasures": spread(erasures, last),
            "order of versions": abs(rank_correlation(versions)),
            "order of erasures": abs(rank_correlation(erasures)),
            "order of both": abs(rank_correlation(by_rank(erasures, versions))),
            "neighbours of versions": neighbours(versions),
            "neighbours of erasures": neighbours(erasures),
        }


def spread(places: list[int], among: range) -> float:
    count = len(places)
    shares = [(place - among.start + 0.5) / len(among) for place in sorted(places)]
    return max(max((n + 1) / count - share, share - n / count) for n, share in enumerate(shares))


def by_rank(values: list[int], order: list[int]) -> list[int]:
    """The values in the order of others that go with them."""
    return [value for _, value in sorted(zip(order, values, strict=True))]


def rank_correlation(values: list[int]) -> float:
    """Spearman's rho of distinct values with their order of appearance."""
    count = len(values)
    ranks = {value: rank for rank, value in enumerate(sorted(values))}
    distance = sum((n - ranks[value]) ** 2 for n, value in enumerate(values))
    return 1 - 6 * distance / (count * (count**2 - 1))


def neighbours(places: list[int]) -> int:
    taken = set(places)
    return sum(place + 1 in taken for place in taken)


def rejected(statistics: dict[str, float]) -> set[str]:
    """The statistics that chance does not explain."""
    limits = {"spread": MAX_SPREAD, "order": MAX_ORDER, "neighbours": MAX_NEIGHBOURS}
    return {name for name, value in statistics.items() if value > limits[name.split()[0]]}


def tell(vault) -> Story:
    """Put, correct, erase and integrate, through the vault's own doors."""

    def add(count: int, subject: str | None = None) -> list[str]:
        pointers: list[str] = []
        vault.put_many(
            [NewRecord(b"{}", subject or f"neighbour {n}") for n in range(count)],
            category="nieuwsbrief",
            on_batch=pointers.extend,
        )
        return pointers

    others = add((RECORDS - OF_ONE) // 2)
    put = add(OF_ONE, SUBJECT)
    others += add((RECORDS - OF_ONE) // 2)
    for pointer in random.Random(5).sample(others, RECTIFIED):
        for version in range(3):
            vault.rectify(pointer, b"%d" % version)
    vault.checkpoint()
    before = size_of(vault)
    add(BESIDE_ERASURES // 2)
    done = vault.erase_person(SUBJECT, Ground.CONSENT_WITHDRAWN)
    assert done.is_complete
    add(BESIDE_ERASURES // 2)
    vault.checkpoint()
    with vault._core.database.read() as connection:
        log = Log(connection)
        size = log.head().size
        entries = [
            parse_entry(entry) for number in range(-(-size // 256)) for entry in log.bundle(number)
        ]
    return Story(entries, [parse_pointer(one) for one in put], before)


def size_of(vault) -> int:
    with vault._core.database.read() as connection:
        return Log(connection).head().size


def out_of_order(story: Story) -> int:
    """Entries that stand before one that they follow: a version's predecessor, or any version."""
    wrong, seen = 0, {}
    for entry in story.entries:
        if entry.kind is EntryKind.VERSION:
            wrong += seen.get(entry.pointer, 0) != entry.version - 1
            seen[entry.pointer] = entry.version
        elif entry.kind is EntryKind.ERASURE:
            wrong += seen.get(entry.pointer, 0) != entry.version
    return wrong


def shown(statistics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in statistics.items())


def test_pr5_the_places_of_one_persons_entries_are_those_of_chance(vault):
    story = tell(vault)
    statistics = story.statistics()
    versions = sum(entry.kind is EntryKind.VERSION for entry in story.entries)
    print(f"{versions} versions, {len(story.put)} erasures: {shown(statistics)}")
    assert versions == RECORDS + BESIDE_ERASURES + 3 * RECTIFIED
    assert rejected(statistics) == set()
    assert out_of_order(story) == 0
    assert vault.audit().faults == []


def test_control_without_the_permutation_each_statistic_tells(vault, monkeypatch):
    monkeypatch.setattr(integrator, "permuted", list)
    story = tell(vault)
    statistics = story.statistics()
    print(f"not permuted: {shown(statistics)}")
    assert rejected(statistics) == set(statistics)
    assert out_of_order(story) == 0


def test_control_a_permutation_that_loses_the_order_of_a_pointer_is_seen(vault, monkeypatch):
    monkeypatch.setattr(
        integrator, "permuted", lambda entries: random.Random(7).sample(entries, len(entries))
    )
    story = tell(vault)
    wrong = out_of_order(story)
    print(f"order of the pointers lost: {wrong} entries stand too early")
    assert wrong >= RECTIFIED
    assert rejected(story.statistics()) == set()


def test_the_statistics_know_chance_from_order():
    """200 random draws pass each limit; a cluster, a sorted draw and a run of pairs do not."""
    draws = random.Random(11)
    worst = {"spread": 0.0, "order": 0.0, "neighbours": 0.0}
    for _ in range(200):
        places = draws.sample(range(RECORDS), OF_ONE)
        worst["spread"] = max(worst["spread"], spread(places, range(RECORDS)))
        worst["order"] = max(worst["order"], abs(rank_correlation(places)))
        worst["neighbours"] = max(worst["neighbours"], neighbours(places))
    print(f"the worst of 200 random draws: {worst}")
    assert worst["spread"] < MAX_SPREAD
    assert worst["order"] < MAX_ORDER
    assert worst["neighbours"] < MAX_NEIGHBOURS
    assert 2 * math.exp(-2 * OF_ONE * MAX_SPREAD**2) < 1e-8
    assert spread(list(range(4_000, 5_000, 10)), range(RECORDS)) > MAX_SPREAD
    assert rank_correlation(sorted(draws.sample(range(RECORDS), OF_ONE))) == 1
    assert neighbours([place + n for place in range(0, 5_000, 100) for n in (0, 1)]) > 16
