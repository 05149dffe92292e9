"""Key files: one secret of 32 bytes sealed under a passphrase.

A key file is one JSON object with these members and no others, written with mode 0600:

    format      "datakluis-keyfile/1"
    label       what the key is for; a file cannot be opened as another one
    kdf         {"name": "argon2id", "memory_kib": 65536, "iterations": 3, "lanes": 4, "salt": hex}
    nonce       12 bytes, hex
    sealed      AES-256-GCM of the 32 bytes, 48 bytes, hex

The key that seals is Argon2id (RFC 9106) over the passphrase in UTF-8 with the header's parameters;
the associated data is "datakluis-keyfile/1", a zero byte and the label. Whoever copies the file and
learns the passphrase has the key for ever. Tested in tests/vault/test_keyfile.py.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from vault.errors import ConfigurationError, InvalidInput, WrongPassphrase

FORMAT = "datakluis-keyfile/1"
SECRET_BYTES = 32
_MEMORY_KIB = 65_536
_ITERATIONS = 3
_LANES = 4
_SALT_BYTES = 16
_NONCE_BYTES = 12
_MAX_FILE_BYTES = 4_096
# What a header may ask of this machine: a crafted file must not exhaust it.
_MEMORY_RANGE = range(8 * _LANES, 1_048_577)
_ITERATION_RANGE = range(1, 17)
_LANE_RANGE = range(1, 17)
# OpenSSL shares its lanes among all threads: two runs at once wait for each other, or fail.
_one_at_a_time = threading.Lock()


def write_key_file(path: Path, label: str, secret: bytes, passphrase: str) -> None:
    """Seal a secret into a new file.

    Args:
        path: must not exist yet.
        label: what the key is for.
        secret: 32 bytes.
        passphrase: any non-empty text.

    Raises:
        ConfigurationError: the file exists.
        InvalidInput: the passphrase is empty or not encodable.
    """
    encoded = encode_passphrase(passphrase)
    salt = os.urandom(_SALT_BYTES)
    nonce = os.urandom(_NONCE_BYTES)
    key = _derive(encoded, salt, _MEMORY_KIB, _ITERATIONS, _LANES)
    document = {
        "format": FORMAT,
        "label": label,
        "kdf": {
            "name": "argon2id",
            "memory_kib": _MEMORY_KIB,
            "iterations": _ITERATIONS,
            "lanes": _LANES,
            "salt": salt.hex(),
        },
        "nonce": nonce.hex(),
        "sealed": AESGCM(key).encrypt(nonce, secret, _associated(label)).hex(),
    }
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as cause:
        raise ConfigurationError(f"{path} exists already") from cause
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(document, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_key_file(path: Path, label: str, passphrase: str) -> bytes:
    """Return the 32 bytes that a file seals.

    Raises:
        ConfigurationError: the file is missing or is no key file of this label.
        InvalidInput: the passphrase is empty or not encodable.
        WrongPassphrase: it does not open.
    """
    encoded = encode_passphrase(passphrase)
    try:
        raw = path.read_bytes()
    except OSError as cause:
        raise ConfigurationError(f"key file {path} cannot be read") from cause
    try:
        salt, nonce, sealed, cost = _parse(raw, label)
        memory, iterations, lanes = cost
        key = _derive(encoded, salt, memory, iterations, lanes)
    except (ValueError, KeyError, TypeError, RecursionError) as cause:
        raise ConfigurationError(f"{path} is not a key file for the {label}") from cause
    try:
        return AESGCM(key).decrypt(nonce, sealed, _associated(label))
    except InvalidTag:
        raise WrongPassphrase(f"{path} does not open: wrong passphrase, or changed file") from None


def encode_passphrase(passphrase: str) -> bytes:
    """Return a passphrase's bytes.

    Raises:
        InvalidInput: it is empty or not encodable. It is not repeated.
    """
    try:
        encoded = passphrase.encode()
    except UnicodeEncodeError:
        raise InvalidInput("the passphrase is not valid Unicode text") from None
    if not encoded:
        raise InvalidInput("the passphrase is empty")
    return encoded


def _parse(raw: bytes, label: str) -> tuple[bytes, bytes, bytes, tuple[int, int, int]]:
    if len(raw) > _MAX_FILE_BYTES:
        raise ValueError("too large")
    document = json.loads(raw)
    kdf = document["kdf"]
    salt, nonce, sealed = (
        bytes.fromhex(text) for text in (kdf["salt"], document["nonce"], document["sealed"])
    )
    cost = (kdf["memory_kib"], kdf["iterations"], kdf["lanes"])
    rewritten = {
        "format": FORMAT,
        "label": label,
        "kdf": {
            "name": "argon2id",
            "memory_kib": cost[0],
            "iterations": cost[1],
            "lanes": cost[2],
            "salt": salt.hex(),
        },
        "nonce": nonce.hex(),
        "sealed": sealed.hex(),
    }
    if raw.decode() != json.dumps(rewritten, indent=2) + "\n":
        raise ValueError("not as written")
    if len(nonce) != _NONCE_BYTES:
        raise ValueError("nonce of another length")
    ranges = (_MEMORY_RANGE, _ITERATION_RANGE, _LANE_RANGE)
    if any(
        type(value) is not int or value not in allowed
        for value, allowed in zip(cost, ranges, strict=True)
    ):
        raise ValueError("cost out of range")
    return salt, nonce, sealed, cost


def _derive(passphrase: bytes, salt: bytes, memory: int, iterations: int, lanes: int) -> bytes:
    kdf = Argon2id(
        salt=salt, length=SECRET_BYTES, iterations=iterations, lanes=lanes, memory_cost=memory
    )
    with _one_at_a_time:
        return kdf.derive(passphrase)


def _associated(label: str) -> bytes:
    return f"{FORMAT}\0{label}".encode()
