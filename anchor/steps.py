"""The numbered steps of a verification and what can become of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """What is verified, in this order. A trust file names steps by these words."""

    ORIGIN = "origin"
    LOG_SIGNATURE = "log-signature"
    INCLUSION = "inclusion"
    STATEMENT = "statement"
    LOCAL_ANCHOR = "local-anchor"
    PUBLIC_ANCHOR = "public-anchor"
    OPENING = "opening"


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

    step: Step
    state: StepState
    detail: str
