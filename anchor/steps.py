"""The numbered steps of a verification and what can become of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """What is verified, in this order. A trust file names steps by these words."""

    ORIGIN = "origin"
    LOG_SIGNATURE = "log-signature"
    WITNESSES = "witnesses"
    INCLUSION = "inclusion"
    STATEMENT = "statement"
    LOCAL_ANCHOR = "local-anchor"
    PUBLIC_ANCHOR = "public-anchor"
    OPENING = "opening"
    AUTHORISATION = "authorisation"


class ConsistencyStep(StrEnum):
    """What of a consistency file is verified, in this order."""

    ORIGIN = "origin"
    LOG_SIGNATURE = "log-signature"
    WITNESSES = "witnesses"
    CONSISTENCY = "consistency"


class StepState(StrEnum):
    """What became of a step."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


class Verdict(StrEnum):
    """What the steps amount to."""

    VERIFIED = "verified"
    FAILED = "failed"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step of a verification.

    Attributes:
        step: which.
        state: what became of it.
        detail: what was found; where it failed, what was expected as well; where it was not
            checked, what would be needed.
    """

    step: StrEnum
    state: StepState
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found.

    Attributes:
        verdict: the outcome.
        sentence: the verdict in words.
        steps: one result per step, in order.
        not_proven: what a reader might take for proven and is not.
    """

    verdict: Verdict
    sentence: str
    steps: tuple[StepResult, ...]
    not_proven: tuple[str, ...]


def passed(step: StrEnum, detail: str) -> StepResult:
    """Return a step that holds."""
    return StepResult(step, StepState.PASSED, detail)


def failed(step: StrEnum, detail: str) -> StepResult:
    """Return a step that does not hold."""
    return StepResult(step, StepState.FAILED, detail)


def not_checked(step: StrEnum, detail: str) -> StepResult:
    """Return a step that nothing was brought for."""
    return StepResult(step, StepState.NOT_CHECKED, detail)


def worst(step: StrEnum, results: Sequence[StepResult]) -> StepResult:
    """Return what a step comes to that must hold several times: the first that does not pass."""
    for state in (StepState.FAILED, StepState.NOT_CHECKED):
        for result in results:
            if result.state is state:
                return result
    return passed(step, "; ".join(result.detail for result in results))
