"""The organisation key: signs certificates of destruction in the name of the organisation.

    signer/organisation.key   ECDSA key on P-256: its private scalar, 32 bytes big-endian, in a key
                              file (vault/keyfile.py) with the label "organisation key"
    signer/organisation.pem   its X.509 certificate (RFC 5280), in PEM

The certificate is signed by the key itself: trust comes from the trust file that names it, not from
an authority. Subject and issuer are the origin of the ledger as common name; the key is for digital
signatures and non-repudiation (content commitment) and for nothing else. It holds for thirty years,
so that a certificate of destruction can be issued anew for as long as a municipality has to answer
for it. Like all of `signer/` the two belong in no backup.

Tested in tests/vault/test_organisation.py.
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ledger.files import flush
from vault.errors import ConfigurationError
from vault.keyfile import SECRET_BYTES, read_key_file, write_key_file

KEY = Path("signer") / "organisation.key"
CERTIFICATE = Path("signer") / "organisation.pem"
VALIDITY = dt.timedelta(days=30 * 365 + 8)
MAX_NAME = 64
"""Bytes in UTF-8 of the longest common name (RFC 5280, ub-common-name)."""

_LABEL = "organisation key"


class OrganisationKey:
    """The opened organisation key.

    Args:
        private_key: on P-256.
        certificate: its own.
    """

    def __init__(
        self, private_key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
    ) -> None:
        self._private_key = private_key
        self.certificate = certificate

    def __repr__(self) -> str:
        return "OrganisationKey(…)"

    @classmethod
    def open(cls, folder: Path, passphrase: str) -> OrganisationKey:
        """Open the key of the vault in a folder.

        Raises:
            ConfigurationError: a file is missing or damaged, or the two do not belong together.
            WrongPassphrase: the key file does not open.
        """
        certificate = read_certificate(folder)
        scalar = int.from_bytes(read_key_file(folder / KEY, _LABEL, passphrase), "big")
        try:
            private_key = ec.derive_private_key(scalar, ec.SECP256R1())
        except ValueError:
            raise ConfigurationError(f"{folder / KEY} holds no key on P-256") from None
        if certificate.public_key() != private_key.public_key():
            raise ConfigurationError(f"{folder / CERTIFICATE} is of another key than {KEY.name}")
        return cls(private_key, certificate)

    @property
    def certificate_der(self) -> bytes:
        """The X.509 certificate, DER."""
        return self.certificate.public_bytes(Encoding.DER)

    def sign(self, data: bytes) -> bytes:
        """Return an ECDSA signature with SHA-256 over data, DER."""
        return self._private_key.sign(data, ec.ECDSA(hashes.SHA256()))


def create(folder: Path, passphrase: str, origin: str, now: dt.datetime) -> None:
    """Make the organisation key of a new vault.

    Args:
        folder: of the vault; its `signer/` exists.
        passphrase: seals the key.
        origin: of the vault's ledger.
        now: UTC; the certificate holds from here on.

    Raises:
        ConfigurationError: there is an organisation key already.
    """
    private_key = ec.generate_private_key(ec.SECP256R1())
    scalar = private_key.private_numbers().private_value.to_bytes(SECRET_BYTES, "big")
    write_key_file(folder / KEY, _LABEL, scalar, passphrase)
    pem = _self_signed(private_key, _common_name(origin), now).public_bytes(Encoding.PEM)
    with (folder / CERTIFICATE).open("xb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    flush(folder / CERTIFICATE.parent)


def _common_name(origin: str) -> str:
    """Return an origin as far as a certificate can name it; the key is trusted, not its name."""
    return origin.encode()[:MAX_NAME].decode(errors="ignore")


def read_certificate(folder: Path) -> x509.Certificate:
    """Return the organisation's X.509 certificate; this needs no passphrase.

    Raises:
        ConfigurationError: it is missing or no certificate.
    """
    path = folder / CERTIFICATE
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as cause:
        raise ConfigurationError(f"{path} cannot be read") from cause
    except ValueError:
        raise ConfigurationError(f"{path} is not a certificate in PEM") from None


def _self_signed(
    private_key: ec.EllipticCurvePrivateKey, origin: str, now: dt.datetime
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, origin)])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    public_key = private_key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .sign(private_key, hashes.SHA256())
    )
