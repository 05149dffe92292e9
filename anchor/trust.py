"""The trust file: what an auditor decides to trust. Trust never comes from the evidence.

Format "datakluis-trust/1", schema in anchor/schemas/trust-1.schema.json. Members, in this order:

    format             "datakluis-trust/1"
    origin             the log's origin line
    require            the verification steps that must pass, by name (anchor/steps.py)
    log_keys           the log's keys, one or more, each with
        algorithm          "ed25519"
        key                a C2SP verifier key
        first_size         the smallest tree that it may sign, in leaves
        last_size          the largest, or null while it is in use; both below 2**63
    local_anchor_keys  C2SP verifier keys of local anchors
    organisation_certificates
                       X.509 certificates (RFC 5280) of the keys on P-256 that sign certificates of
                       destruction for the organisation, DER in lower-case hex

Every log key whose range holds the size of a checkpoint must have signed it: a stripped signature
line or a retired key proves nothing. No step, key and certificate is named twice. Written
as anchor/strictjson.py says. Tested in tests/anchor/test_trust.py.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TypeGuard

from anchor.errors import BadFile
from anchor.steps import Step
from anchor.strictjson import JsonObject, objects, read_json, text, texts, write_json
from ledger.errors import LedgerError
from ledger.merkle import SIZE_LIMIT
from ledger.note import VerifierKey, is_text_line

FORMAT = "datakluis-trust/1"
MAX_BYTES = 64 * 1024
ALGORITHM = "ed25519"
# What a fresh trust file requires: the local anchor proves nothing to an outsider.
REQUIRED_AT_FIRST = (Step.LOG_SIGNATURE, Step.INCLUSION)
_WHAT = "the trust file"


@dataclass(frozen=True, slots=True)
class LogKey:
    """A key of the log and the trees that it may sign.

    Attributes:
        key: to verify with.
        first_size: smallest tree, leaves.
        last_size: largest tree, leaves, or None while it is in use.
    """

    key: VerifierKey
    first_size: int = 0
    last_size: int | None = None

    def covers(self, size: int) -> bool:
        """Tell whether this key must have signed a tree of `size` leaves."""
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
    """

    origin: str
    require: tuple[Step, ...]
    log_keys: tuple[LogKey, ...]
    local_anchor_keys: tuple[VerifierKey, ...]
    organisation_certificates: tuple[bytes, ...] = ()

    def keys_for(self, size: int) -> list[VerifierKey]:
        """Return the keys that must have signed a tree of `size` leaves, in their fixed order."""
        return [log_key.key for log_key in self.log_keys if log_key.covers(size)]

    def format(self) -> bytes:
        """Return the file."""
        return write_json(
            {
                "format": FORMAT,
                "origin": self.origin,
                "require": list(self.require),
                "log_keys": [
                    {
                        "algorithm": ALGORITHM,
                        "key": str(log_key.key),
                        "first_size": log_key.first_size,
                        "last_size": log_key.last_size,
                    }
                    for log_key in self.log_keys
                ],
                "local_anchor_keys": [str(key) for key in self.local_anchor_keys],
                "organisation_certificates": [der.hex() for der in self.organisation_certificates],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> TrustFile:
        """Return what a trust file says.

        Raises:
            BadFile: any bytes that `format` would not have written.
        """
        document = read_json(data, _WHAT, MAX_BYTES)
        if document.get("format") != FORMAT:
            raise BadFile(f"{_WHAT} has another format than {FORMAT!r}")
        try:
            trust = cls(
                text(document, "origin", _WHAT),
                tuple(Step(name) for name in texts(document, "require", _WHAT)),
                tuple(_parse_log_key(one) for one in objects(document, "log_keys", _WHAT)),
                tuple(map(VerifierKey.parse, texts(document, "local_anchor_keys", _WHAT))),
                tuple(map(bytes.fromhex, texts(document, "organisation_certificates", _WHAT))),
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


def _parse_log_key(document: JsonObject) -> LogKey:
    if document.get("algorithm") != ALGORITHM:
        raise BadFile(f"{_WHAT} has a log key of an unknown algorithm")
    first, last = document.get("first_size"), document.get("last_size")
    if not _is_size(first) or not (last is None or (_is_size(last) and first <= last)):
        raise BadFile(f"{_WHAT} has a log key without the range of sizes it may sign")
    return LogKey(VerifierKey.parse(text(document, "key", _WHAT)), first, last)
