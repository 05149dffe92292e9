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


AnyStep = Step | ConsistencyStep


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

    step: AnyStep
    state: StepState
    detail: str


def passed(step: AnyStep, detail: str) -> StepResult:
    """Return a step that holds."""
    return StepResult(step, StepState.PASSED, detail)


def failed(step: AnyStep, detail: str) -> StepResult:
    """Return a step that does not hold."""
    return StepResult(step, StepState.FAILED, detail)


def not_checked(step: AnyStep, detail: str) -> StepResult:
    """Return a step that nothing was brought for."""
    return StepResult(step, StepState.NOT_CHECKED, detail)


def worst(step: AnyStep, results: Sequence[StepResult]) -> StepResult:
    """Return what a step comes to that must hold several times: the first that does not pass."""
    for state in (StepState.FAILED, StepState.NOT_CHECKED):
        for result in results:
            if result.state is state:
                return result
    return passed(step, "; ".join(result.detail for result in results))
