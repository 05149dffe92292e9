"""What an anchor target is to the job: one small interface, one module per kind of target."""

from __future__ import annotations

from typing import Protocol


class Target(Protocol):
    """Keeps digests where others can see that they existed."""

    name: str

    def submit(self, digest: bytes) -> str:
        """Hand over a digest of 32 bytes and return the receipt.

        Submitting a digest again returns the receipt that there is, so a job that crashed before it
        stored one runs again without doubling the anchor.
        """
        ...
