"""The trust file: what an auditor decides to trust. Trust never comes from the evidence.

Format "datakluis-trust/1", schema in anchor/schemas/trust-1.schema.json. Members, in this order:

    format             "datakluis-trust/1"
    origin             the log's origin line
    require            the verification steps that must pass, by name (anchor/steps.py)
    log_keys           the log's keys, one or more, each with
        algorithm          "ed25519" or "ml-dsa-44"
        key                a C2SP verifier key, of a note signature (0x01) or a cosignature (0x06)
        first_size         the smallest tree that it may sign, in leaves
        last_size          the largest, or null while it is in use; both below 2**63
        closing            only with a last size: the three lines of the checkpoint of that size,
                           the last that the key signed (C2SP tlog-checkpoint)
    local_anchor_keys  C2SP verifier keys of local anchors
    organisation_certificates
                       X.509 certificates (RFC 5280) of the keys on P-256 that sign certificates of
                       destruction for the organisation, DER in lower-case hex
    witness_policies   only where there is one: who watches the log, the smallest trees first, each
        first_size         the smallest tree that it is about
        last_size          the largest, or null; no tree is in two
        policy             a C2SP tlog-policy (ledger/witnesspolicy.py), in UTF-8
    governance         only where the log is governed, an object with
        founding           SHA-256 of the leaf data of the founding entry (ledger/action.py), hex

Every log key whose range holds the size of a checkpoint must have signed it, whatever its
algorithm: a stripped signature line proves nothing. What a key signed within a closed range counts
only once it is shown to be the beginning of the closing checkpoint's tree: a stolen retired key
proves nothing either. No step, key and certificate is named twice, and no key of the log is a
witness of it. Written as anchor/strictjson.py says. Tested in tests/anchor/test_trust.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TypeGuard

from anchor.errors import BadFile
from anchor.steps import Step
from anchor.strictjson import (
    JsonObject,
    hex_bytes,
    objects,
    read_json,
    text,
    texts,
    write_json,
)
from ledger.checkpoint import Checkpoint
from ledger.cosignature import CosignerKey
from ledger.entry import DIGEST_BYTES
from ledger.errors import LedgerError
from ledger.logkeys import LogKey
from ledger.merkle import SIZE_LIMIT
from ledger.note import SignatureType, VerifierKey, is_text_line
from ledger.witnesspolicy import WitnessPolicy

FORMAT = "datakluis-trust/1"
MAX_BYTES = 1024 * 1024
# What a fresh trust file requires: the local anchor proves nothing to an outsider.
REQUIRED_AT_FIRST = (Step.LOG_SIGNATURE, Step.INCLUSION)
_WHAT = "the trust file"


class Algorithm(StrEnum):
    """How a log key signs. A trust file names it by these words."""

    ED25519 = "ed25519"
    ML_DSA_44 = "ml-dsa-44"


@dataclass(frozen=True, slots=True)
class WatchedRange:
    """The trees that one witness policy is about.

    Attributes:
        policy: who the witnesses are, and how many of them must have cosigned.
        first_size: smallest tree, leaves.
        last_size: largest tree, leaves, or None for all that follow.
    """

    policy: WitnessPolicy
    first_size: int = 0
    last_size: int | None = None

    def covers(self, size: int) -> bool:
        """Tell whether a tree of `size` leaves is in this range."""
        return self.first_size <= size and (self.last_size is None or size <= self.last_size)


@dataclass(frozen=True, slots=True)
class TrustFile:
    """What an auditor trusts about one log.

    Attributes:
        origin: the log's origin line.
        require: the verification steps that must pass.
        log_keys: one or more.
        local_anchor_keys: of local anchors.
        organisation_certificates: X.509 in DER, of keys on P-256.
        witness_policies: the smallest trees first; no tree is in two.
        founding: SHA-256 of the founding entry, 32 bytes, or None where the log is not governed.
    """

    origin: str
    require: tuple[Step, ...]
    log_keys: tuple[LogKey, ...]
    local_anchor_keys: tuple[VerifierKey, ...]
    organisation_certificates: tuple[bytes, ...] = ()
    witness_policies: tuple[WatchedRange, ...] = ()
    founding: bytes | None = None

    def keys_for(self, size: int) -> list[VerifierKey | CosignerKey]:
        """Return the keys that must have signed a tree, Ed25519 first: the order of their lines.

        Args:
            size: leaves.
        """
        covering = [log_key for log_key in self.log_keys if log_key.covers(size)]
        return [log_key.key for log_key in sorted(covering, key=lambda one: one.algorithm)]

    def closing_for(self, size: int) -> Checkpoint | None:
        """Return the checkpoint whose tree must begin with a tree of `size` leaves.

        None where every key that may sign that size is still in use.
        """
        closings = [one.closing for one in self.log_keys if one.closing and one.covers(size)]
        return min(closings, key=lambda closing: closing.size, default=None)

    def policy_for(self, size: int) -> WitnessPolicy | None:
        """Return the witness policy for a tree of `size` leaves."""
        return next((one.policy for one in self.witness_policies if one.covers(size)), None)

    def format(self) -> bytes:
        """Return the file."""
        document: dict[str, object] = {
            "format": FORMAT,
            "origin": self.origin,
            "require": list(self.require),
            "log_keys": [_log_key_document(log_key) for log_key in self.log_keys],
            "local_anchor_keys": [str(key) for key in self.local_anchor_keys],
            "organisation_certificates": [der.hex() for der in self.organisation_certificates],
        }
        if self.witness_policies:
            document["witness_policies"] = [
                {
                    "first_size": one.first_size,
                    "last_size": one.last_size,
                    "policy": one.policy.format().decode(),
                }
                for one in self.witness_policies
            ]
        if self.founding is not None:
            document["governance"] = {"founding": self.founding.hex()}
        return write_json(document)

    @classmethod
    def parse(cls, data: bytes) -> TrustFile:
        """Return what a trust file says.

        Raises:
            BadFile: any bytes that `format` would not have written.
        """
        document = read_json(data, _WHAT, MAX_BYTES)
        if document.get("format") != FORMAT:
            raise BadFile(
                f"{_WHAT} has another format than {FORMAT!r}: bring what 'kluis trust' wrote"
            )
        try:
            trust = cls(
                text(document, "origin", _WHAT),
                tuple(Step(name) for name in texts(document, "require", _WHAT)),
                tuple(_parse_log_key(one) for one in objects(document, "log_keys", _WHAT)),
                tuple(map(VerifierKey.parse, texts(document, "local_anchor_keys", _WHAT))),
                tuple(map(bytes.fromhex, texts(document, "organisation_certificates", _WHAT))),
                _parse_witness_policies(document),
                _parse_founding(document),
            )
        except (LedgerError, ValueError) as cause:
            raise BadFile(f"{_WHAT} does not hold what it should: {cause}") from cause
        trust._check()
        if trust.format() != data:
            raise BadFile(
                f"{_WHAT} is not as this software writes it: unknown or reordered members"
            )
        return trust

    def _check(self) -> None:
        keys = [log_key.key for log_key in self.log_keys]
        if not keys or not is_text_line(self.origin):
            raise BadFile(f"{_WHAT} lacks an origin or a log key")
        certificates = self.organisation_certificates
        for named in (self.require, keys, self.local_anchor_keys, certificates):
            if len(set(named)) != len(named):
                raise BadFile(f"{_WHAT} names a step, key or certificate twice")
        if not all(map(_is_certificate, certificates)):
            raise BadFile(f"{_WHAT} has a certificate that is no X.509 of a key on P-256")
        self._check_closings()
        self._check_policies()

    def _check_closings(self) -> None:
        closings: dict[int, Checkpoint] = {}
        for log_key in self.log_keys:
            if log_key.closing is None:
                continue
            if (log_key.closing.origin, log_key.closing.size) != (self.origin, log_key.last_size):
                raise BadFile(
                    f"{_WHAT} has a closing checkpoint of another log or size than its key"
                )
            if closings.setdefault(log_key.closing.size, log_key.closing) != log_key.closing:
                raise BadFile(f"{_WHAT} has two closing checkpoints of {log_key.last_size} leaves")

    def _check_policies(self) -> None:
        for before, after in pairwise(self.witness_policies):
            if before.last_size is None or before.last_size >= after.first_size:
                raise BadFile(f"{_WHAT} has witness policies that overlap or are out of order")
        own = {log_key.key.public_key for log_key in self.log_keys}
        for watched in self.witness_policies:
            if own & {key.public_key for key in watched.policy.witness_keys()}:
                raise BadFile(f"{_WHAT} names a key of the log as its witness")


def require_at_first(witness_policies: Sequence[WatchedRange]) -> tuple[Step, ...]:
    """Return what a fresh trust file requires."""
    if not witness_policies:
        return REQUIRED_AT_FIRST
    return (Step.LOG_SIGNATURE, Step.WITNESSES, Step.INCLUSION)


def _is_certificate(der: bytes) -> bool:
    # Slow to load, and a trust file without certificates needs none of it.

    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.utils import CryptographyDeprecationWarning
    from cryptography.x509 import InvalidVersion, load_der_x509_certificate

    try:
        # What the library only warns of, a later one refuses.
        with warnings.catch_warnings(action="error", category=CryptographyDeprecationWarning):
            key = load_der_x509_certificate(der).public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidVersion, CryptographyDeprecationWarning):
        return False
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < SIZE_LIMIT


def _range_of(document: JsonObject, what: str) -> tuple[int, int | None]:
    first, last = document.get("first_size"), document.get("last_size")
    if not _is_size(first) or not (last is None or (_is_size(last) and first <= last)):
        raise BadFile(f"{_WHAT} has a {what} without the range of sizes it may sign")
    return first, last


def _parse_founding(document: JsonObject) -> bytes | None:
    if "governance" not in document:
        return None
    governance = document["governance"]
    if not isinstance(governance, dict):
        raise BadFile(f"{_WHAT} has a governance that is no object")
    founding = hex_bytes(governance, "founding", _WHAT)
    if len(founding) != DIGEST_BYTES:
        raise BadFile(f"{_WHAT} has a founding entry without a SHA-256")
    return founding


def _log_key_document(log_key: LogKey) -> JsonObject:
    is_ed25519 = log_key.algorithm is SignatureType.ED25519
    document: dict[str, object] = {
        "algorithm": Algorithm.ED25519 if is_ed25519 else Algorithm.ML_DSA_44,
        "key": str(log_key.key),
        "first_size": log_key.first_size,
        "last_size": log_key.last_size,
    }
    if log_key.closing is not None:
        document["closing"] = log_key.closing.text()
    return document


def _parse_log_key(document: JsonObject) -> LogKey:
    algorithm = document.get("algorithm")
    if algorithm not in list(Algorithm):
        raise BadFile(f"{_WHAT} has a log key of an unknown algorithm")
    first, last = _range_of(document, "log key")
    if ("closing" in document) != (last is not None):
        raise BadFile(f"{_WHAT} has a closing checkpoint without a last size, or the other way")
    closing = Checkpoint.parse(text(document, "closing", _WHAT)) if last is not None else None
    return LogKey(_parse_key(document, algorithm), first, last, closing)


def _parse_key(document: JsonObject, algorithm: object) -> VerifierKey | CosignerKey:
    spelt = text(document, "key", _WHAT)
    if algorithm == Algorithm.ED25519:
        return VerifierKey.parse(spelt)
    key = CosignerKey.parse(spelt)
    if key.type is not SignatureType.COSIGNATURE_ML_DSA_44:
        raise BadFile(f"{_WHAT} has a log key of another algorithm than it says")
    return key


def _parse_witness_policies(document: JsonObject) -> tuple[WatchedRange, ...]:
    if "witness_policies" not in document:
        return ()
    return tuple(
        WatchedRange(
            WitnessPolicy.parse(text(one, "policy", _WHAT).encode()),
            *_range_of(one, "witness policy"),
        )
        for one in objects(document, "witness_policies", _WHAT)
    )
