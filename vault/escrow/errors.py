"""Errors of the escrow. None carries a key, a word of a share or a custodian's name."""

from __future__ import annotations

from vault.errors import InvalidInput, VaultError


class EscrowRefused(InvalidInput):
    """An escrow that would not protect: too few custodians, or one of them twice."""


class BadEscrowFile(InvalidInput):
    """Not a share, attestation or escrow file as this software writes it; no byte may differ."""


class TooFewShares(InvalidInput):
    """Fewer shares than the threshold: they tell nothing of use about the key.

    Attributes:
        given: how many there are.
        threshold: how many it takes.
    """

    def __init__(self, given: int, threshold: int) -> None:
        self.given = given
        self.threshold = threshold
        super().__init__(
            f"{given} of the {threshold} shares that it takes: bring {self.missing} more"
        )

    @property
    def missing(self) -> int:
        """How many shares are still to come, at least 1."""
        return self.threshold - self.given


class OtherEscrow(InvalidInput):
    """Shares that were not made together, or a share or attestation of another escrow."""


class DuplicateShare(InvalidInput):
    """One custodian's share, given twice.

    Attributes:
        number: the share's, from 1.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"share {number} is there twice: each custodian counts once")
        self.number = number


class DamagedShare(InvalidInput):
    """Words that are not those that were handed out.

    Attributes:
        numbers: of the shares among which the damage lies, ascending.
    """

    def __init__(self, numbers: tuple[int, ...]) -> None:
        which = ", ".join(map(str, numbers))
        super().__init__(
            f"the words of share {which} are not those that were handed out"
            if len(numbers) == 1
            else f"the words of shares {which} do not fit together: at least one was changed"
        )
        self.numbers = numbers


class AttestationRefused(VaultError):
    """An attestation that is well written and proves nothing here.

    Attributes:
        number: of the share that it names, from 1.
    """

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"the attestation of share {number} does not count: {reason}")
        self.number = number
