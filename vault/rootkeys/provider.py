"""The interface of a root key provider: wrap, unwrap, make, destroy and report one root key.

Every generation of a key tree has a root key of its own at a provider, and a random epoch key of 32
bytes that this root key has wrapped once. Destroying the root key is what makes everything that was
ever sealed in that generation unreadable, in whatever copy. So `destroy` never takes a service's
word for it: `report` asks again, and the caller tries to open what must not open any more.

A *reference* names one root key at its provider: the name of a key file, the label of a PKCS#11
object, "key:version" in a transit engine, a key ARN. It is stored with the generation and printed
on certificates, so it holds no secret.

What the wrapped form looks like is the provider's own; every provider binds the context, 41 bytes:

    "datakluis/epoch/1" || tenant, 16 bytes || tree, 1 byte || generation, 7 bytes big-endian

where the tree is 0 for the ordinary one and 1 for records that are kept for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from policy.assurance import Assurance, Presence, ProviderKind

EPOCH_KEY_BYTES = 32
_DOMAIN = b"datakluis/epoch/1"


class TreeNumber(IntEnum):
    """The key trees of a vault (ST6)."""

    ORDINARY = 0
    PERMANENT = 1


@dataclass(frozen=True, slots=True)
class KeyReport:
    """What a provider says about one root key.

    Attributes:
        presence: whether it can still unwrap.
        response: the provider's answer in its own words, at most 200 printable characters.
        gone_at: Unix seconds at which a scheduled destruction is due; None otherwise.
    """

    presence: Presence
    response: str
    gone_at: int | None = None


class KeyContext(NamedTuple):
    """What a root key is for.

    Attributes:
        tenant: 16 bytes.
        tree: which of the vault's key trees.
        generation: from 1.
    """

    tenant: bytes
    tree: TreeNumber
    generation: int

    def encode(self) -> bytes:
        """Return the associated data that every provider binds."""
        return _DOMAIN + self.tenant + bytes([self.tree]) + self.generation.to_bytes(7, "big")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What providers may use of the vault that opens them.

    Attributes:
        folder: of the vault; relative paths in options are relative to it.
        passphrase: of the vault's key files.
    """

    folder: Path
    passphrase: str = field(repr=False)


class RootKeyProvider(Protocol):
    """Keeps root keys. All methods may raise what is named here.

    Raises:
        ProviderUnreachable: it does not answer, in time or at all; nothing is known to be changed.
        ProviderDenied: it refuses this vault's role what was asked.
        ProviderFailed: it answers something that it should not.
        ConfigurationError: a file that its options name, or its library, is missing.
        Damaged: the reference is none of this provider's.
    """

    kind: ProviderKind
    assurance: Assurance

    def make_key(self, context: KeyContext) -> str:
        """Make the root key of a generation and return its reference.

        A key that an interrupted call made for the same context is taken, not made again. A root
        key of the permanent tree is made so that this vault's role cannot destroy it, where the
        provider can do that (ST6).
        """
        ...

    def wrap(self, reference: str, context: KeyContext, epoch_key: bytes) -> bytes:
        """Return an epoch key of 32 bytes, wrapped.

        Raises:
            KeyGone: the root key is not there, or is about to be destroyed.
        """
        ...

    def unwrap(self, reference: str, context: KeyContext, wrapped: bytes) -> bytes:
        """Return the epoch key.

        Raises:
            KeyGone: the root key is not there, or is about to be destroyed.
            Damaged: it was not wrapped under this root key for this context.
        """
        ...

    def destroy(self, reference: str) -> KeyReport:
        """Destroy a root key and report what is left; one that is gone already is reported so."""
        ...

    def report(self, reference: str) -> KeyReport:
        """Ask afresh what is left of a root key."""
        ...


# The option in which a vault tells a transit engine with which of its generations it came there.
FIRST_GENERATION = "first_generation"

# Option names to texts, as `kluis rootkey move` takes them. Secrets are named by files, not given.
Options = Mapping[str, str]
