"""The SDK: encrypted records, their keys and the operations on them."""

from policy import Decision, DecisionCode, Ground, Outcome
from vault.erasing import Erasure
from vault.errors import (
    Busy,
    ConfigurationError,
    Damaged,
    Erased,
    Incomplete,
    InvalidInput,
    KeyLost,
    NewerSchema,
    NotFound,
    PurposeRefused,
    Refused,
    TreeMoved,
    VaultError,
    WrongPassphrase,
)
from vault.importing import BadLines, ImportOrder, ImportReport
from vault.reading import VersionInfo
from vault.sdk import Vault
from vault.writing import NewRecord

__all__ = [
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
    "KeyLost",
    "NewRecord",
    "NewerSchema",
    "NotFound",
    "Outcome",
    "PurposeRefused",
    "Refused",
    "TreeMoved",
    "Vault",
    "VaultError",
    "VersionInfo",
    "WrongPassphrase",
]
