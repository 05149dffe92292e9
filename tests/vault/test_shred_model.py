"""The protocol of erasing and shredding, proved on a small model (tests/vault/shred_model.py).

Nothing here touches the product. What holds in every interleaving within the bounds: no survivor is
lost, no erased record comes back or is served, no live reader is refused a survivor, what is
certified is out of the adversary's reach, nothing is certified twice, and from every state a new
process that runs the shred again ends with each erased record certified.

Each control takes one rule out and shows the shortest way to the damage. The traces are printed:
pytest -s tests/vault/test_shred_model.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from shred_model import Action, Damage, Exploration, Model, Move, Scenario, Without, explore

SMALL = [
    Scenario(puts=1, crashes=1),
    Scenario(sleeps=1),
    Scenario(gets=1),
    Scenario(erasures=2),
    Scenario(processes=3),
    Scenario(processes=1, erasures=2, crashes=1, shreds=2),
    Scenario(shreds=2),
]
LARGE = [
    Scenario(gets=1, latecomers=1),
    Scenario(crashes=1, sleeps=1),
    Scenario(erasures=2, crashes=1),
    Scenario(gets=1, crashes=1),
    Scenario(gets=1, sleeps=1),
    Scenario(puts=1, gets=1),
    Scenario(processes=3, crashes=1),
    Scenario(erasures=2, shreds=2),
    Scenario(crashes=2, sleeps=1, shreds=2),
]


@dataclass(frozen=True)
class Control:
    """Rules taken out, and what must come of it.

    Attributes:
        through: damage on the way there that does not end the search.
    """

    without: frozenset[Without]
    damage: Damage
    scenario: Scenario
    through: frozenset[Damage] = frozenset()

    def __str__(self) -> str:
        return f"{names(self.without)}-{self.damage.name.lower()}"


def control(*without: Without, damage: Damage, through: tuple[Damage, ...] = (), **bounds: int):
    return Control(frozenset(without), damage, Scenario(**bounds), frozenset(through))


CONTROLS = [
    # Two writers
    control(Without.SWAP, damage=Damage.LOST, puts=2, erasures=0),
    control(Without.SWAP, damage=Damage.RESURRECTED, erasures=2),
    control(Without.CACHE_LABEL, damage=Damage.SERVED, gets=2, shreds=0),
    # The fence
    control(Without.SWAP_GENERATION, Without.CLOSED_CHECK, damage=Damage.LOST),
    # Shredding
    control(Without.RESEAL_FIRST, damage=Damage.GONE),
    control(Without.RECORD_ONCE, damage=Damage.LOST, erasures=0),
    control(Without.REKEY, damage=Damage.RECOVERABLE, processes=1),
    control(Without.OLDEST_FIRST, damage=Damage.RECOVERABLE, processes=1, crashes=1, shreds=2),
    control(Without.ERASED_BOUND, damage=Damage.RECOVERABLE),
    control(Without.CERTIFY_ONCE, damage=Damage.CERTIFIED_TWICE),
    # Leases
    control(Without.LEASE_WAIT, damage=Damage.RECOVERABLE),
    control(Without.LEASE_FIRST, damage=Damage.RECOVERABLE, gets=1, latecomers=1),
    control(Without.RENEWAL_FORGETS, damage=Damage.RECOVERABLE, sleeps=1),
    control(Without.ACKNOWLEDGE_EPOCH_KEYS, damage=Damage.RECOVERABLE, processes=1),
    control(Without.ACKNOWLEDGE_NODES, damage=Damage.RECOVERABLE, gets=1),
    control(Without.ACKNOWLEDGE_SETTLED, damage=Damage.RECOVERABLE, gets=1),
    control(Without.ACKNOWLEDGE_SETTLED, damage=Damage.REFUSED, gets=1),
    # What the certificate rests on, and no protocol can give
    control(Without.SLEEPERS_UNREACHED, damage=Damage.RECOVERABLE, sleeps=1),
    # What fails outside the protocol, and the step that would have seen it left out
    control(Without.DESTRUCTION, Without.TRY, damage=Damage.RECOVERABLE, processes=1),
    control(
        Without.RESEAL_SOUND,
        Without.READ_BACK,
        Without.BACKUP,
        damage=Damage.GONE,
        through=(Damage.LOST,),
    ),
]

# Rules that another one makes superfluous, as long as nothing fails outside the protocol.
SUPERFLUOUS = [
    {Without.CLOSED_CHECK},
    {Without.SWAP_GENERATION},
    {Without.CLOSED_CHECK, Without.SWAP_GENERATION, Without.RESEAL_KEEPS_SEQUENCE},
    {Without.READ_BACK, Without.BACKUP, Without.TRY},
]


def names(rules: Iterable[Without]) -> str:
    return " and ".join(sorted(rule.name.lower() for rule in rules)) or "none"


def told(exploration: Exploration, what: str) -> None:
    """Print what a search found."""
    print(f"\n{what}\n  {exploration}")
    for number, move in enumerate(exploration.trace, 1):
        print(f"  {number:2}. {move}")


def assert_undamaged(scenario: Scenario, without: frozenset[Without] = frozenset()) -> None:
    exploration = explore(Model(scenario, without))
    told(exploration, str(scenario))
    assert exploration.complete
    assert not exploration.counts


@pytest.mark.parametrize("scenario", SMALL, ids=str)
def test_every_interleaving_is_safe(scenario: Scenario) -> None:
    assert_undamaged(scenario)


@pytest.mark.soak
@pytest.mark.parametrize("scenario", LARGE, ids=str)
def test_every_longer_interleaving_is_safe(scenario: Scenario) -> None:
    assert_undamaged(scenario)


@pytest.mark.parametrize("control", CONTROLS, ids=str)
def test_without_the_rule_the_damage_is_found(control: Control) -> None:
    exploration = explore(
        Model(control.scenario, control.without), until=control.damage, beyond=control.through
    )
    told(exploration, "; ".join(sorted(rule.value for rule in control.without)))
    assert exploration.counts[control.damage] == 1


@pytest.mark.parametrize("without", SUPERFLUOUS, ids=names)
def test_what_another_rule_covers_is_a_second_line(without: set[Without]) -> None:
    """Each half of the fence is enough, and reading back matters only where something fails."""
    assert_undamaged(Scenario(crashes=1), frozenset(without))


@pytest.mark.parametrize("skipped", [(), (Without.READ_BACK,), (Without.BACKUP,)], ids=names)
def test_reading_back_keeps_the_old_root_key_when_the_reseal_went_wrong(
    skipped: tuple[Without, ...],
) -> None:
    """The database cannot be read, but an older copy still can: nothing was destroyed."""
    model = Model(Scenario(crashes=1), frozenset({Without.RESEAL_SOUND, *skipped}))
    exploration = explore(model, beyond=frozenset({Damage.LOST}))
    assert exploration.complete
    assert set(exploration.counts) == {Damage.LOST, Damage.STUCK}


def test_trying_the_old_root_key_keeps_a_certificate_back_that_would_lie() -> None:
    model = Model(Scenario(crashes=1), frozenset({Without.DESTRUCTION}))
    exploration = explore(model)
    assert exploration.complete
    assert set(exploration.counts) == {Damage.STUCK}


def taking(*actions: Action) -> Callable[..., None]:
    """Return a rule that takes one of the steps that are possible now."""

    @precondition(lambda machine: any(move.action in actions for move, _ in machine.moves))
    @rule(choice=st.integers(0, 7))
    def take(machine: Interleavings, choice: int) -> None:
        machine.take([pair for pair in machine.moves if pair[0].action in actions], choice)

    return take


class Interleavings(RuleBasedStateMachine):
    """Walks that are longer than the explorer can exhaust; the adversary copies every commit."""

    model = Model(
        Scenario(processes=3, records=3, puts=3, erasures=4, gets=4, crashes=2, sleeps=2, shreds=3)
    )

    def __init__(self) -> None:
        super().__init__()
        self.state = self.model.initial()
        self.moves = list(self.model.moves(self.state))

    def take(self, possible: list[tuple[Move, object]], choice: int) -> None:
        move, self.state = possible[choice % len(possible)]
        note(str(move))
        self.moves = list(self.model.moves(self.state))

    begin_change = taking(Action.BEGIN_PUT, Action.BEGIN_ERASURE)
    commit = taking(Action.COMMIT)
    begin_get = taking(Action.BEGIN_GET)
    serve = taking(Action.SERVE)
    acknowledge = taking(Action.ACKNOWLEDGE)
    begin_shred = taking(Action.BEGIN_SHRED)
    shred = taking(Action.SHRED)
    fail = taking(Action.CRASH, Action.SLEEP)
    return_to_work = taking(Action.LEASE_ENDS, Action.JOIN)

    @precondition(lambda machine: not machine.moves)
    @rule()
    def rest(self) -> None:
        """Everything that may happen has happened."""

    @invariant()
    def nothing_is_damaged(self) -> None:
        damage = self.model.damage(self.state)
        assert damage is None, damage.name


QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much]


class TestInterleavings(Interleavings.TestCase):
    settings = settings(
        max_examples=100, stateful_step_count=60, deadline=None, suppress_health_check=QUIET
    )


@pytest.mark.soak
def test_many_long_walks_are_safe() -> None:
    run_state_machine_as_test(
        Interleavings,
        settings=settings(
            max_examples=1_000, stateful_step_count=120, deadline=None, suppress_health_check=QUIET
        ),
    )


@pytest.mark.parametrize(
    ("rules", "damage"),
    [
        ({Without.SWAP}, "LOST|RESURRECTED"),
        ({Without.SWAP_GENERATION, Without.CLOSED_CHECK}, "LOST"),
        ({Without.RESEAL_FIRST}, "GONE|STUCK"),
        pytest.param({Without.LEASE_WAIT}, "RECOVERABLE|REFUSED", marks=pytest.mark.soak),
        pytest.param({Without.ERASED_BOUND}, "RECOVERABLE", marks=pytest.mark.soak),
    ],
    ids=lambda value: value if isinstance(value, str) else names(value),
)
def test_walks_find_the_damage_too(rules: set[Without], damage: str) -> None:
    class Damaged(Interleavings):
        model = Model(Interleavings.model.scenario, frozenset(rules))

    with pytest.raises(AssertionError, match=damage):
        run_state_machine_as_test(
            Damaged,
            settings=settings(
                max_examples=2_000,
                stateful_step_count=60,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                verbosity=Verbosity.quiet,
                suppress_health_check=QUIET,
            ),
        )
