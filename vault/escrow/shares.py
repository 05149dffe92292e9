"""Shares: an epoch key of 32 bytes in N parts, of which any M bring it back (ST6, OP5).

The key is split by SLIP-0039, one group, M of N members, 2 <= M <= N <= 16, extendable, without a
passphrase and with iteration exponent 0: there is no passphrase to stretch. So 33 English words
are a share, and any other program for SLIP-0039 combines M of them without this one. The library
shamir-mnemonic splits and combines; its randomness is the operating system's.

Fewer than M shares: SLIP-0039 carries 4 bytes of digest within the polynomial, so M-1 custodians
together still face 2^224 keys, and M-2 face 2^256. Nothing else in a file tells about the key but
the key check, HKDF-Expand(epoch key, "datakluis/escrow-check/1", 16 bytes), RFC 5869, which
confirms a guess of the whole 32 bytes only.

The *escrow* is the public part, the vault's to keep: file "datakluis-escrow/1" with the members

    format       "datakluis-escrow/1"
    tenant       16 bytes, hex
    generation   of the permanent tree, 1 to 2^56 - 1
    threshold    M
    created_at   time of making, as 2026-03-02T10:00:00Z
    key_check    16 bytes, hex
    custodians   N objects, by number from 1, each with
        number       1 to N
        name         printable, 1 to 128 bytes of UTF-8, no space at an end
        public_key   32 bytes, hex: Ed25519 (RFC 8032), for attestations

Its id is the SHA-256 of that file. As the custodians' keys are fresh, no two escrows share an id,
and as the id covers their keys, whoever keeps the id knows whose attestations count.

A *share* is one custodian's, and secret: file "datakluis-share/1", written with mode 0600, with

    format         "datakluis-share/1"
    tenant         16 bytes, hex
    generation     as in the escrow
    escrow         the escrow's id, 32 bytes, hex
    custodian      the custodian's name
    number         1 to N; in the words it is one less
    threshold      M
    total          N
    words          33 words, lower case, one space between them
    custodian_key  32 bytes, hex: seed of the Ed25519 key that signs the attestation
    digest         SHA-256 of the file without this member, hex: no changed byte goes unnoticed

Both are written as anchor/strictjson.py says. A share file that parses is one that combines: its
words have been decoded. Whoever made the shares saw every seed for a moment, so an attestation
proves that it came from a holder of the share file. Tested in tests/vault/test_escrow_shares.py,
with goldens of another implementation in tests/vectors/escrow.json.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from nacl.signing import SigningKey

from anchor.strictjson import JsonObject, objects, write_json
from vault.errors import ConfigurationError
from vault.escrow import members
from vault.escrow.errors import (
    BadEscrowFile,
    DamagedShare,
    DuplicateShare,
    EscrowRefused,
    OtherEscrow,
    TooFewShares,
)
from vault.escrow.members import Members
from vault.rootkeys.provider import EPOCH_KEY_BYTES

SHARE_FORMAT = "datakluis-share/1"
ESCROW_FORMAT = "datakluis-escrow/1"
KEY_CHECK_BYTES = 16

_CHECK_LABEL = b"datakluis/escrow-check/1"
_SEED_BYTES = 32
_ITERATION_EXPONENT = 0
_MAX_SHARE_BYTES = 4_096
_MAX_ESCROW_BYTES = 16_384
_SHARE = "the share file"
_ESCROW = "the escrow file"


@dataclass(frozen=True, slots=True)
class Custodian:
    """Someone to whom a share was handed.

    Attributes:
        number: of the share, from 1.
        name: printable, 1 to 128 bytes.
        public_key: 32 bytes, Ed25519; verifies this custodian's attestation.
    """

    number: int
    name: str = field(repr=False)
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Escrow:
    """The public part of one escrow. It holds no secret, but it names people.

    Attributes:
        tenant: 16 bytes.
        generation: of the permanent tree, 1 to 2^56 - 1.
        threshold: shares that it takes to bring the key back (M), 2 to 16.
        created_at: Unix seconds.
        key_check: 16 bytes; see `confirms`.
        custodians: all N, by number from 1.
    """

    tenant: bytes
    generation: int
    threshold: int
    created_at: int
    key_check: bytes
    custodians: tuple[Custodian, ...]

    @property
    def escrow_id(self) -> bytes:
        """The 32 bytes by which shares and attestations name this escrow."""
        return members.digest(self._document())

    @property
    def total(self) -> int:
        """Shares that were made (N), 2 to 16."""
        return len(self.custodians)

    def confirms(self, epoch_key: bytes) -> bool:
        """Tell, in constant time, whether this is the key that was shared out."""
        return hmac.compare_digest(_key_check(epoch_key), self.key_check)

    def format(self) -> bytes:
        """Return the file."""
        return write_json(self._document())

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read an escrow file.

        Raises:
            BadEscrowFile: any bytes that `format` would not have written.
        """
        escrow = members.parse_file(data, _ESCROW, _MAX_ESCROW_BYTES, ESCROW_FORMAT, cls._build)
        members.require_same(escrow.format(), data, _ESCROW)
        return escrow

    @classmethod
    def _build(cls, file: Members) -> Self:
        listed = [Members(one, _ESCROW) for one in objects(file.document, "custodians", _ESCROW)]
        custodians = tuple(
            Custodian(
                one.integer("number", members.NUMBERS),
                one.custodian("name"),
                one.fixed_bytes("public_key", members.KEY_BYTES),
            )
            for one in listed
        )
        threshold = file.integer("threshold", members.THRESHOLDS)
        if len(custodians) not in members.TOTALS or threshold > len(custodians):
            raise file.bad("custodians", "has fewer or more of them than the threshold allows")
        if [one.number for one in custodians] != list(range(1, len(custodians) + 1)):
            raise file.bad("custodians", "is not numbered from 1")
        names = {members.fold_name(one.name) for one in custodians}
        keys = {one.public_key for one in custodians}
        if not len(names) == len(keys) == len(custodians):
            raise file.bad("custodians", "has a name or a key twice")
        return cls(
            file.fixed_bytes("tenant", members.TENANT_BYTES),
            file.integer("generation", members.GENERATIONS),
            threshold,
            file.moment("created_at"),
            file.fixed_bytes("key_check", KEY_CHECK_BYTES),
            custodians,
        )

    def _document(self) -> JsonObject:
        return {
            "format": ESCROW_FORMAT,
            "tenant": self.tenant.hex(),
            "generation": self.generation,
            "threshold": self.threshold,
            "created_at": members.format_moment(self.created_at),
            "key_check": self.key_check.hex(),
            "custodians": [
                {
                    "number": one.number,
                    "name": one.name,
                    "public_key": one.public_key.hex(),
                }
                for one in self.custodians
            ],
        }


@dataclass(frozen=True, slots=True)
class Share:
    """One custodian's part of the key, and the key with which to attest that it is destroyed.

    Attributes:
        tenant: 16 bytes.
        generation: of the permanent tree, 1 to 2^56 - 1.
        escrow_id: 32 bytes.
        custodian: the custodian's name.
        number: from 1.
        threshold: shares that it takes (M), 2 to 16.
        total: shares that were made (N), 2 to 16.
        words: 33 words of SLIP-0039.
        custodian_key: 32 bytes, seed of an Ed25519 key.
    """

    tenant: bytes
    generation: int
    escrow_id: bytes
    custodian: str = field(repr=False)
    number: int
    threshold: int
    total: int
    words: str = field(repr=False)
    custodian_key: bytes = field(repr=False)

    def format(self) -> bytes:
        """Return the file. It is secret."""
        document = self._document()
        return write_json({**document, "digest": members.digest(document).hex()})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a share file.

        Raises:
            BadEscrowFile: any bytes that `format` would not have written.
            DamagedShare: its words are not those of this share.
            ConfigurationError: the library that reads the words is not installed.
        """
        share = members.parse_file(data, _SHARE, _MAX_SHARE_BYTES, SHARE_FORMAT, cls._build)
        members.require_same(share.format(), data, _SHARE)
        _require_words(_library(), share)
        return share

    def write(self, path: Path) -> None:
        """Write the file, for its owner alone.

        Args:
            path: must not exist yet.

        Raises:
            ConfigurationError: it exists.
        """
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as cause:
            raise ConfigurationError(f"{path} exists already") from cause
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.format())
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a share from the file that `write` made.

        Raises:
            BadEscrowFile: it cannot be read, or see `parse`.
            DamagedShare: see `parse`.
            ConfigurationError: see `parse`.
        """
        try:
            data = path.read_bytes()
        except OSError as cause:
            raise BadEscrowFile(f"share file {path} cannot be read") from cause
        return cls.parse(data)

    @classmethod
    def _build(cls, file: Members) -> Self:
        total = file.integer("total", members.TOTALS)
        return cls(
            file.fixed_bytes("tenant", members.TENANT_BYTES),
            file.integer("generation", members.GENERATIONS),
            file.fixed_bytes("escrow", members.ID_BYTES),
            file.custodian("custodian"),
            file.integer("number", range(1, total + 1)),
            file.integer("threshold", range(2, total + 1)),
            total,
            file.phrase("words"),
            file.fixed_bytes("custodian_key", _SEED_BYTES),
        )

    def _document(self) -> dict[str, object]:
        return {
            "format": SHARE_FORMAT,
            "tenant": self.tenant.hex(),
            "generation": self.generation,
            "escrow": self.escrow_id.hex(),
            "custodian": self.custodian,
            "number": self.number,
            "threshold": self.threshold,
            "total": self.total,
            "words": self.words,
            "custodian_key": self.custodian_key.hex(),
        }


def make_shares(
    epoch_key: bytes,
    tenant: bytes,
    generation: int,
    custodians: Sequence[str],
    threshold: int,
    *,
    created_at: int,
) -> tuple[Escrow, tuple[Share, ...]]:
    """Share out an epoch key.

    Args:
        epoch_key: 32 bytes.
        tenant: 16 bytes.
        generation: of the permanent tree, 1 to 2^56 - 1.
        custodians: 2 to 16 names, no two alike.
        threshold: shares that it takes to bring the key back, 2 to the number of custodians.
        created_at: Unix seconds.

    Returns:
        The public part, and a share for each custodian in the order of their names given.

    Raises:
        EscrowRefused: such an escrow would not protect.
        ConfigurationError: the library that splits is not installed.
        ValueError: another argument is out of its range.
    """
    _require_escrow(custodians, threshold)
    sizes = (len(epoch_key), len(tenant))
    if sizes != (EPOCH_KEY_BYTES, members.TENANT_BYTES):
        raise ValueError("an epoch key or a tenant of another size")
    if generation not in members.GENERATIONS or created_at not in members.MOMENTS:
        raise ValueError("a generation or a time out of range")
    (phrases,) = _library().generate_mnemonics(
        1,
        [(threshold, len(custodians))],
        epoch_key,
        extendable=True,
        iteration_exponent=_ITERATION_EXPONENT,
    )
    seeds = [os.urandom(_SEED_BYTES) for _ in custodians]
    escrow = Escrow(
        tenant,
        generation,
        threshold,
        created_at,
        _key_check(epoch_key),
        tuple(
            Custodian(number, name, bytes(SigningKey(seed).verify_key))
            for number, (name, seed) in enumerate(zip(custodians, seeds, strict=True), 1)
        ),
    )
    parts = zip(escrow.custodians, phrases, seeds, strict=True)
    return escrow, tuple(
        Share(
            tenant,
            generation,
            escrow.escrow_id,
            one.name,
            one.number,
            threshold,
            escrow.total,
            words,
            seed,
        )
        for one, words, seed in parts
    )


def combine(shares: Sequence[Share]) -> bytes:
    """Return the epoch key. Every share given is tried, also those beyond the threshold.

    Args:
        shares: of one escrow, in any order.

    Raises:
        EscrowRefused: there is none.
        OtherEscrow: they are of more than one escrow or generation.
        DuplicateShare: a custodian is there twice.
        TooFewShares: see there for how many more it takes.
        DamagedShare: words are not those that were handed out.
        ConfigurationError: the library that combines is not installed.
    """
    _require_together(shares)
    threshold = shares[0].threshold
    if len(shares) < threshold:
        raise TooFewShares(len(shares), threshold)
    library = _library()
    for share in shares:
        _require_words(library, share)
    first, further = list(shares[:threshold]), shares[threshold:]
    epoch_key = _recover(library, first)
    if epoch_key is None:
        raise DamagedShare(tuple(sorted(share.number for share in first)))
    for share in further:
        if _recover(library, [*first[1:], share]) != epoch_key:
            raise DamagedShare((share.number,))
    return epoch_key


def _require_escrow(custodians: Sequence[str], threshold: int) -> None:
    if len(custodians) not in members.TOTALS:
        raise EscrowRefused(f"{len(custodians)} custodians: it takes 2 to 16")
    if threshold not in members.THRESHOLDS or threshold > len(custodians):
        raise EscrowRefused(
            f"a threshold of {threshold}: it takes at least 2, so that no one has the key alone,"
            f" and no more than the {len(custodians)} custodians"
        )
    for number, name in enumerate(custodians, 1):
        if not members.is_custodian_name(name):
            raise EscrowRefused(f"custodian {number} has no name of 1 to 128 printable bytes")
    if len({members.fold_name(name) for name in custodians}) != len(custodians):
        raise EscrowRefused("a custodian is named twice: one person would hold two shares")


def _require_together(shares: Sequence[Share]) -> None:
    if not shares:
        raise EscrowRefused("no share was given")
    if len({share.escrow_id for share in shares}) > 1:
        raise OtherEscrow("the shares are of different escrows: bring those of one")
    headers = {(share.tenant, share.generation, share.threshold, share.total) for share in shares}
    if len(headers) > 1:
        raise OtherEscrow("the shares differ in tenant, generation, threshold or total")
    numbers: set[int] = set()
    names: set[str] = set()
    for share in shares:
        name = members.fold_name(share.custodian)
        if share.number in numbers or name in names:
            raise DuplicateShare(share.number)
        numbers.add(share.number)
        names.add(name)


def _require_words(library: ModuleType, share: Share) -> None:
    """Refuse words that are not this share's by their checksum, numbers or spelling."""
    damaged = DamagedShare((share.number,))
    try:
        decoded = library.Share.from_mnemonic(share.words)
    except library.MnemonicError:
        decoded = None
    # Outside the handler: the library's own error quotes words.
    if decoded is None or decoded.mnemonic() != share.words:
        raise damaged
    found = (
        decoded.extendable,
        decoded.iteration_exponent,
        (decoded.group_index, decoded.group_threshold, decoded.group_count),
        (decoded.index, decoded.member_threshold),
        len(decoded.value),
    )
    numbers = (share.number - 1, share.threshold)
    if found != (True, _ITERATION_EXPONENT, (0, 1, 1), numbers, EPOCH_KEY_BYTES):
        raise damaged


def _recover(library: ModuleType, shares: Sequence[Share]) -> bytes | None:
    """Return what exactly M shares combine to, or None when they do not fit together."""
    try:
        return bytes(library.combine_mnemonics([share.words for share in shares]))
    except library.MnemonicError:
        return None


def _key_check(epoch_key: bytes) -> bytes:
    return HKDFExpand(hashes.SHA256(), KEY_CHECK_BYTES, _CHECK_LABEL).derive(epoch_key)


def _library() -> ModuleType:
    try:
        import shamir_mnemonic
    except ImportError:
        raise ConfigurationError(
            "escrow needs the library shamir-mnemonic: pip install 'datakluis[escrow]'"
        ) from None
    library: ModuleType = shamir_mnemonic  # it carries no types
    return library
