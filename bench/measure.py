"""Measuring two sides in turn: what a sample is, a row of the table, and an aim.

Absolute figures of a shared machine mean little, ratios within one run more. So both sides of a row
run in turn (A B A B ...) on inputs of the same shape, and the row keeps the medians.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")
Side = Callable[[], list[float]]


@dataclass(frozen=True, slots=True)
class Aim:
    """What a row should reach; exactly one bound is given.

    Attributes:
        ratio_from: least ratio to the floor, for rates.
        ratio_to: greatest ratio to the floor, for times.
        value_from: least figure of Datakluis itself.
        value_to: greatest figure of Datakluis itself.
    """

    ratio_from: float | None = None
    ratio_to: float | None = None
    value_from: float | None = None
    value_to: float | None = None

    def met(self, value: float, ratio: float) -> bool:
        """Tell whether a row reaches it."""
        return (
            (self.ratio_from is None or ratio >= self.ratio_from)
            and (self.ratio_to is None or ratio <= self.ratio_to)
            and (self.value_from is None or value >= self.value_from)
            and (self.value_to is None or value <= self.value_to)
        )

    def text(self, unit: str) -> str:
        """Return the aim as the table shows it."""
        if self.ratio_from is not None:
            return f"ratio ≥ {self.ratio_from:g}"
        if self.ratio_to is not None:
            return f"ratio ≤ {self.ratio_to:g}"
        if self.value_from is not None:
            return f"≥ {figure(self.value_from, unit)}"
        return f"≤ {figure(self.value_to or 0.0, unit)}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: stable, for machines.
        operation: for people, with the sizes of this run.
        unit: "/s", where more is better, or "ms", "B", "KB" or "MB", where less is.
        datakluis: the median, or the percentile that the operation names.
        floor: the same of the floor.
        aim: None where there is none.
        floor_is: what the floor does.
    """

    name: str
    operation: str
    unit: str
    datakluis: float
    floor: float
    aim: Aim | None
    floor_is: str

    @property
    def ratio(self) -> float:
        """Datakluis divided by the floor."""
        return self.datakluis / self.floor

    @property
    def met(self) -> bool | None:
        """Whether the aim is reached; None without one."""
        return None if self.aim is None else self.aim.met(self.datakluis, self.ratio)


def in_turn(rounds: int, datakluis: Side, floor: Side) -> tuple[list[float], list[float]]:
    """Run both sides in turn and return the samples of each."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        for side, samples in ((datakluis, ours), (floor, theirs)):
            gc.collect()
            samples += side()
    return ours, theirs


def rate(count: int, act: Callable[[], object]) -> list[float]:
    """Return one sample: how many things a second, when one call does `count` of them."""
    started = time.perf_counter()
    act()
    return [count / (time.perf_counter() - started)]


def rate_over(act: Callable[[Item], object], items: Sequence[Item]) -> list[float]:
    """Return one sample: how many calls a second."""
    started = time.perf_counter()
    for item in items:
        act(item)
    return [len(items) / (time.perf_counter() - started)]


def each_ms(act: Callable[[Item], object], items: Sequence[Item]) -> list[float]:
    """Return one sample per call: its milliseconds."""
    samples = []
    for item in items:
        started = time.perf_counter()
        act(item)
        samples.append((time.perf_counter() - started) * 1_000)
    return samples


def median(samples: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(samples)


def percentile(samples: Sequence[float], percent: int) -> float:
    """Return the smallest sample that `percent` of all samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def figure(value: float, unit: str) -> str:
    """Return a figure with its unit, in three digits or more."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}{'' if unit == '/s' else ' '}{unit}"
