"""The organisation key: made once, sealed, self-certified, and bound to its certificate."""

import datetime as dt
import json
import shutil
import subprocess

import pytest
from certificate_samples import WHOLE
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from anchor.trust import TrustFile
from vault import organisation
from vault.errors import ConfigurationError, WrongPassphrase
from vault.keyfile import read_key_file
from vault.organisation import MAX_NAME, OrganisationKey, create, read_certificate

ORIGIN = "datakluis.example/hoorn"
NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)
PASSPHRASE = "a passphrase for tests"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "signer").mkdir()
    create(tmp_path, PASSPHRASE, ORIGIN, NOW)
    return tmp_path


@pytest.fixture
def key(folder):
    return OrganisationKey.open(folder, PASSPHRASE)


def test_the_certificate_says_whose_key_it_is_and_for_what(key):
    certificate = x509.load_der_x509_certificate(key.certificate_der)
    assert certificate.subject.rfc4514_string() == f"CN={ORIGIN}"
    assert certificate.issuer == certificate.subject
    assert certificate.not_valid_before_utc == NOW
    assert certificate.not_valid_after_utc >= NOW.replace(year=NOW.year + 30)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.content_commitment
    others = ("key_cert_sign", "crl_sign", "key_encipherment", "data_encipherment")
    assert not any(getattr(usage.value, other) for other in others)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert not constraints.value.ca
    certificate.verify_directly_issued_by(certificate)


def test_the_key_file_holds_the_scalar(folder, key):
    secret = read_key_file(folder / "signer" / "organisation.key", "organisation key", PASSPHRASE)
    private_key = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())
    assert private_key.public_key() == key.certificate.public_key()
    assert len(secret) == 32


def test_what_it_signs_verifies_and_what_was_changed_does_not(key):
    public_key = key.certificate.public_key()
    signature = key.sign(b"verklaring")
    public_key.verify(signature, b"verklaring", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public_key.verify(signature, b"verklaring.", ec.ECDSA(hashes.SHA256()))
    assert WHOLE.sign(key.sign).verify_signature(public_key)


def test_openssl_reads_the_certificate(folder, missing_part):
    openssl = shutil.which("openssl") or missing_part("openssl is not installed")
    path = folder / "signer" / "organisation.pem"
    done = subprocess.run(
        [openssl, "x509", "-in", path, "-noout", "-text"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"Subject: CN = {ORIGIN}" in done.stdout or f"Subject: CN={ORIGIN}" in done.stdout
    assert "Digital Signature, Non Repudiation" in done.stdout
    assert "prime256v1" in done.stdout


def test_the_trust_file_takes_the_certificate(key):
    trust = {"format": "datakluis-trust/1", "origin": ORIGIN, "require": []}
    trust["log_keys"] = [
        {
            "algorithm": "ed25519",
            "key": "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "first_size": 0,
            "last_size": None,
        }
    ]
    trust["local_anchor_keys"] = []
    trust["organisation_certificates"] = [key.certificate_der.hex()]
    parsed = TrustFile.parse((json.dumps(trust, indent=2) + "\n").encode())
    assert parsed.organisation_certificates == (key.certificate_der,)


def test_the_certificate_is_read_without_the_passphrase(folder, key):
    assert read_certificate(folder).public_bytes(Encoding.DER) == key.certificate_der


def test_two_vaults_have_two_keys(folder, tmp_path, key):
    other = tmp_path / "other"
    (other / "signer").mkdir(parents=True)
    create(other, PASSPHRASE, ORIGIN, NOW)
    assert OrganisationKey.open(other, PASSPHRASE).certificate_der != key.certificate_der


def test_no_secret_is_shown(folder, key):
    secret = read_key_file(folder / "signer" / "organisation.key", "organisation key", PASSPHRASE)
    for shown in (repr(key), str(key), repr(key.__dict__["certificate"])):
        assert secret.hex() not in shown
        assert str(int.from_bytes(secret, "big")) not in shown
    assert repr(key) == "OrganisationKey(…)"


def test_another_passphrase_does_not_open_it(folder):
    with pytest.raises(WrongPassphrase):
        OrganisationKey.open(folder, "another passphrase")


def test_a_key_is_never_made_twice(folder):
    before = (folder / "signer" / "organisation.key").read_bytes()
    with pytest.raises(ConfigurationError, match="exists already"):
        create(folder, PASSPHRASE, ORIGIN, NOW)
    assert (folder / "signer" / "organisation.key").read_bytes() == before


@pytest.mark.parametrize("name", ["organisation.key", "organisation.pem"])
def test_a_missing_or_damaged_file_is_named(folder, name):
    path = folder / "signer" / name
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(ConfigurationError, match=name):
        OrganisationKey.open(folder, PASSPHRASE)
    path.unlink()
    with pytest.raises(ConfigurationError, match=name):
        OrganisationKey.open(folder, PASSPHRASE)


def test_key_and_certificate_belong_together(folder, tmp_path):
    other = tmp_path / "other"
    (other / "signer").mkdir(parents=True)
    create(other, PASSPHRASE, ORIGIN, NOW)
    shutil.copy(other / "signer" / "organisation.pem", folder / "signer")
    with pytest.raises(ConfigurationError, match="is of another key"):
        OrganisationKey.open(folder, PASSPHRASE)


@pytest.mark.parametrize("scalar", [bytes(32), b"\xff" * 32])
def test_a_scalar_that_is_no_key_is_refused(folder, scalar, monkeypatch):
    monkeypatch.setattr(organisation, "read_key_file", lambda *_: scalar)
    with pytest.raises(ConfigurationError, match="holds no key on P-256"):
        OrganisationKey.open(folder, PASSPHRASE)


def test_the_longest_origin(tmp_path):
    (tmp_path / "signer").mkdir()
    create(tmp_path, PASSPHRASE, "x" + "é" * 90, NOW)
    name = read_certificate(tmp_path).subject.rfc4514_string()
    assert name == "CN=x" + "é" * 31
    assert len(name.encode()) <= len("CN=") + MAX_NAME
