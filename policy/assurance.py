"""What can be said of a root key and of its keeper: the words that a certificate and a vault share.

Source: `policy/certificate.py`, format "datakluis-certificate/1". Rows: ER2, ST12.
Proof: `tests/policy/test_certificate.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ProviderKind(StrEnum):
    """The keepers of root keys that this software knows."""

    FILE = "file"
    PKCS11 = "pkcs11"
    TRANSIT = "transit"
    AWSKMS = "awskms"


class AssuranceClass(StrEnum):
    """Who says that a destroyed root key is gone."""

    DECLARED = "declared"
    TOKEN = "token"  # noqa: S105 - a cryptographic token
    SERVICE = "service"
    MANAGED = "managed"


class Presence(StrEnum):
    """What is left of a root key."""

    PRESENT = "present"
    SCHEDULED = "scheduled"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Assurance:
    """What a provider's word is worth.

    Attributes:
        class_: who says that a destroyed key is gone; the member `class`.
        nl: what someone with the provider's own backups could still do, in Dutch.
        en: the same in English.
    """

    class_: AssuranceClass
    nl: str
    en: str
