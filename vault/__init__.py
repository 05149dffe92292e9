"""The SDK: encrypted records, their keys and the operations on them.

Names are loaded when they are first used, so that reading an error type or verifying evidence does
not load the database and the ciphers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ledger.action import Role
    from policy import Decision, DecisionCode, Ground, Outcome
    from policy.assurance import ProviderKind
    from policy.certificate import SignedCertificate
    from vault.closing import NewPlace, ShredStep
    from vault.erasing import Erasure
    from vault.erasing_person import PersonErasure
    from vault.errors import (
        Busy,
        ConfigurationError,
        Damaged,
        Erased,
        Incomplete,
        InvalidInput,
        KeyGone,
        KeyLost,
        ListNeeded,
        NewerSchema,
        NotAllowed,
        NotFound,
        ProviderDenied,
        ProviderFailed,
        ProviderUnreachable,
        PurposeRefused,
        Refused,
        Stopped,
        TreeMoved,
        VaultError,
        WrongPassphrase,
    )
    from vault.escrowing import Approval
    from vault.importing import BadLines, ImportOrder, ImportReport
    from vault.preparing import NewRecord
    from vault.reading import VersionInfo
    from vault.rolekeys import RoleKey
    from vault.rootkeys.provider import TreeNumber
    from vault.sdk import Vault
    from vault.shredding import ShredReport
    from vault.shredstatus import RootKey, ShredStatus

__all__ = [
    "Approval",
    "BadLines",
    "Busy",
    "ConfigurationError",
    "Damaged",
    "Decision",
    "DecisionCode",
    "Erased",
    "Erasure",
    "Ground",
    "ImportOrder",
    "ImportReport",
    "Incomplete",
    "InvalidInput",
    "KeyGone",
    "KeyLost",
    "ListNeeded",
    "NewPlace",
    "NewRecord",
    "NewerSchema",
    "NotAllowed",
    "NotFound",
    "Outcome",
    "PersonErasure",
    "ProviderDenied",
    "ProviderFailed",
    "ProviderKind",
    "ProviderUnreachable",
    "PurposeRefused",
    "Refused",
    "Role",
    "RoleKey",
    "RootKey",
    "ShredReport",
    "ShredStatus",
    "ShredStep",
    "SignedCertificate",
    "Stopped",
    "TreeMoved",
    "TreeNumber",
    "Vault",
    "VaultError",
    "VersionInfo",
    "WrongPassphrase",
]

_HOMES = {
    "vault.erasing_person": ("PersonErasure",),
    "vault.closing": (
        "NewPlace",
        "ShredStep",
    ),
    "vault.shredding": ("ShredReport",),
    "vault.shredstatus": (
        "RootKey",
        "ShredStatus",
    ),
    "vault.escrowing": ("Approval",),
    "vault.rootkeys.provider": (
        "ProviderKind",
        "TreeNumber",
    ),
    "policy.certificate": ("SignedCertificate",),
    "policy": ("Decision", "DecisionCode", "Ground", "Outcome"),
    "vault.erasing": ("Erasure",),
    "vault.importing": ("BadLines", "ImportOrder", "ImportReport"),
    "vault.reading": ("VersionInfo",),
    "vault.sdk": ("Vault",),
    "vault.preparing": ("NewRecord",),
    "vault.rolekeys": ("RoleKey",),
    "ledger.action": ("Role",),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'vault' has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "vault.errors")
    return getattr(import_module(home), name)
