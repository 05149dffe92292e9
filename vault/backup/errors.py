"""Errors of a restore: what was brought makes no vault that may be used, so none was made."""

from __future__ import annotations

from vault.errors import VaultError
from vault.rootkeys.provider import TreeNumber


class RestoreRefused(VaultError):
    """What was brought does not make a vault that may be used; nothing was made."""


class KeysDestroyed(RestoreRefused):
    """The key backup is of a generation whose root key was destroyed by a shred.

    Attributes:
        tree: whose keys they are.
        generation: of the keys that were brought.
    """

    def __init__(self, tree: TreeNumber, generation: int, words: str) -> None:
        super().__init__(
            f"these keys are of generation {generation} of the {tree.name.lower()} key tree, which"
            f" was destroyed by a shred ({words}): bring a key backup made after it"
        )
        self.tree = tree
        self.generation = generation


class KeysTooOld(RestoreRefused):
    """The key backup is older than the data backup: some of the data has no key in it.

    Attributes:
        count: of the keys that it lacks; 0 where a whole generation is missing.
    """

    def __init__(self, count: int, what: str) -> None:
        super().__init__(
            f"the key backup is older than the data backup: {what}; bring a key backup that was"
            " made with the data or after it"
        )
        self.count = count
