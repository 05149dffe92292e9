"""Attestations: a custodian signs that a share is destroyed (D2b, D5).

An erased record of the permanent tree is beyond recovery only when the old epoch key is gone, and
M shares would bring it back. Once N-M+1 custodians have destroyed theirs, at most M-1 are left.

An attestation is a file "datakluis-share-destroyed/1" with these members and no others, written as
anchor/strictjson.py says:

    format        "datakluis-share-destroyed/1"
    escrow        the escrow's id, 32 bytes, hex
    tenant        16 bytes, hex
    generation    of the permanent tree, 1 to 2^56 - 1
    custodian     the custodian's name
    number        the share's, from 1
    destroyed_at  as 2026-03-02T10:00:00Z
    statement_en  the fixed statement below
    statement_nl  the same in Dutch
    signature     64 bytes, hex: Ed25519 (RFC 8032) over the file without this member

The key is the share's own, so sign before the file is destroyed, or from memory after: who has lost
a share cannot attest it. A signature proves who says so, not that no copy was kept. Tested in
tests/vault/test_escrow_attestation.py, with goldens in tests/vectors/escrow.json.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Self

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from anchor.strictjson import write_json
from vault.escrow import members
from vault.escrow.errors import AttestationRefused
from vault.escrow.members import Members
from vault.escrow.shares import Escrow, Share

FORMAT = "datakluis-share-destroyed/1"
STATEMENT_EN = (
    "I have destroyed this share and every copy of it, on paper and on every medium."
    " Nobody else has it from me."
)
STATEMENT_NL = (
    "Ik heb dit deel en elke kopie ervan vernietigd, op papier en op elke drager."
    " Niemand anders heeft het van mij."
)

_SIGNATURE_BYTES = 64
_MAX_BYTES = 4_096
_WHAT = "the attestation"


@dataclass(frozen=True, slots=True)
class Attestation:
    """A custodian's word that a share is destroyed. Trust it once it was verified.

    Attributes:
        escrow_id: 32 bytes.
        tenant: 16 bytes.
        generation: of the permanent tree, 1 to 2^56 - 1.
        custodian: the custodian's name.
        number: of the share, 1 to 16.
        destroyed_at: Unix seconds, by the custodian's clock.
        signature: 64 bytes.
    """

    escrow_id: bytes
    tenant: bytes
    generation: int
    custodian: str = field(repr=False)
    number: int
    destroyed_at: int
    signature: bytes

    def format(self) -> bytes:
        """Return the file."""
        return write_json({**self._document(), "signature": self.signature.hex()})

    @property
    def signed(self) -> bytes:
        """The bytes that are signed: the file without its last member."""
        return write_json(self._document())

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read an attestation. Its signature is not verified.

        Raises:
            BadEscrowFile: any bytes that `format` would not have written.
        """
        attestation = members.parse_file(data, _WHAT, _MAX_BYTES, FORMAT, cls._build)
        members.require_same(attestation.format(), data, _WHAT)
        return attestation

    def verify(self, public_key: bytes) -> None:
        """Verify the signature, and nothing else; `attested_numbers` does the rest.

        Args:
            public_key: 32 bytes, the custodian's in the escrow.

        Raises:
            AttestationRefused: another key signed, or another text.
        """
        try:
            VerifyKey(public_key).verify(self.signed, self.signature)
        except (BadSignatureError, ValueError):
            raise AttestationRefused(self.number, "its signature does not verify") from None

    @classmethod
    def _build(cls, file: Members) -> Self:
        return cls(
            file.fixed_bytes("escrow", members.ID_BYTES),
            file.fixed_bytes("tenant", members.TENANT_BYTES),
            file.integer("generation", members.GENERATIONS),
            file.custodian("custodian"),
            file.integer("number", members.NUMBERS),
            file.moment("destroyed_at"),
            file.fixed_bytes("signature", _SIGNATURE_BYTES),
        )

    def _document(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "escrow": self.escrow_id.hex(),
            "tenant": self.tenant.hex(),
            "generation": self.generation,
            "custodian": self.custodian,
            "number": self.number,
            "destroyed_at": members.format_moment(self.destroyed_at),
            "statement_en": STATEMENT_EN,
            "statement_nl": STATEMENT_NL,
        }


def attest(share: Share, at: int) -> Attestation:
    """Sign, with a share's own key, that the share is destroyed.

    Args:
        share: the one that is destroyed.
        at: Unix seconds.

    Raises:
        ValueError: the time is out of range.
    """
    if at not in members.MOMENTS:
        raise ValueError("a time out of range")
    unsigned = Attestation(
        share.escrow_id,
        share.tenant,
        share.generation,
        share.custodian,
        share.number,
        at,
        bytes(_SIGNATURE_BYTES),
    )
    signature = SigningKey(share.custodian_key).sign(unsigned.signed).signature
    return replace(unsigned, signature=signature)


def attested_numbers(escrow: Escrow, attestations: Iterable[Attestation]) -> frozenset[int]:
    """Return the numbers of the shares of an escrow that are attested to be destroyed.

    A custodian who attests twice counts once.

    Raises:
        AttestationRefused: one is of another escrow, names someone else than the custodian with
            its number, is dated before the escrow, or does not verify.
    """
    numbers = set()
    for one in attestations:
        _require_valid(escrow, one)
        numbers.add(one.number)
    return frozenset(numbers)


def attestations_needed(total: int, threshold: int) -> int:
    """Return how many of `total` shares must be destroyed so that fewer than `threshold` are left.

    Raises:
        ValueError: no escrow has these numbers.
    """
    if total not in members.TOTALS or threshold not in range(2, total + 1):
        raise ValueError(f"no escrow of {threshold} of {total}")
    return total - threshold + 1


def is_irrecoverable(total: int, threshold: int, attested: int) -> bool:
    """Tell whether so few shares are left that nobody can bring the key back.

    Args:
        total: shares that were made (N).
        threshold: shares that it takes (M).
        attested: distinct custodians whose attestation was verified.

    Raises:
        ValueError: no escrow has these numbers, or more are attested than were made.
    """
    if attested not in range(total + 1):
        raise ValueError(f"{attested} shares attested of {total}")
    return attested >= attestations_needed(total, threshold)


def _require_valid(escrow: Escrow, attestation: Attestation) -> None:
    number = attestation.number
    named = (attestation.escrow_id, attestation.tenant, attestation.generation)
    if named != (escrow.escrow_id, escrow.tenant, escrow.generation):
        raise AttestationRefused(number, "it is of another escrow")
    custodian = next((one for one in escrow.custodians if one.number == number), None)
    if custodian is None or custodian.name != attestation.custodian:
        raise AttestationRefused(number, "the escrow has no such custodian")
    if attestation.destroyed_at < escrow.created_at:
        raise AttestationRefused(number, "it is dated before the share was made")
    attestation.verify(custodian.public_key)
