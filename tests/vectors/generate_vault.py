"""Makes the golden vectors of the vault's formats: `python tests/vectors/generate_vault.py`.

It shares no code with `vault`: keys are expanded by RFC 5869 written out over hashlib, associated
data and blobs are put together here byte by byte, and the key file's Argon2id is libsodium's.
Secrets and nonces come from fixed seeds, so every run writes the same bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from nacl import pwhash

TENANT = hashlib.sha256(b"vault vector tenant").digest()[:16]
POINTER = bytes.fromhex("00112233445566778899aabbccddeeff")
PAYLOADS = (b"", b"{}", '{"naam":"Zoë"}'.encode(), bytes(range(256)))
PASSPHRASE = "correct horse battery staple"


def seeded(label: str, size: int) -> bytes:
    return hashlib.shake_256(b"vault vector " + label.encode()).digest(size)


def expand(key: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand with SHA-256, RFC 5869 section 2.3."""
    block, okm, counter = b"", b"", 1
    while len(okm) < size:
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha256).digest()
        okm += block
        counter += 1
    return okm[:size]


def associated_data(kind: int, version: int, group: int) -> bytes:
    return bytes([kind, 1]) + TENANT + POINTER + version.to_bytes(4, "big") + bytes([group])


def statement(current: int, subject: int, held: bool, *texts: str) -> bytes:
    head = POINTER + current.to_bytes(4, "big") + subject.to_bytes(8, "big") + bytes([held])
    return head + b"\x00".join(text.encode() for text in texts)


def blob(
    keys: bytes, nonce: bytes, kind: int, version: int, plaintext: bytes, group: int = 0
) -> bytes:
    sealed = AESGCM(keys[:32]).encrypt(nonce, plaintext, associated_data(kind, version, group))
    return b"\x01" + nonce + sealed


def cipher_vectors() -> dict[str, object]:
    slot_key = seeded("slot key", 32)
    okm = expand(slot_key, b"datakluis/record/1", 96)
    blobs = []
    for number, payload in enumerate(PAYLOADS):
        for kind in (1, 2):
            nonce, version = seeded(f"nonce {number} {kind}", 12), number + 1
            blobs.append(
                {
                    "kind": kind,
                    "version": version,
                    "nonce": nonce.hex(),
                    "plaintext": payload.hex(),
                    "blob": blob(okm, nonce, kind, version, payload).hex(),
                }
            )
    parts = []
    for group in (1, 15):
        nonce, content = seeded(f"nonce of group {group}", 12), b"content of group %d" % group
        parts.append(
            {
                "group": group,
                "version": 2,
                "nonce": nonce.hex(),
                "plaintext": content.hex(),
                "blob": blob(okm, nonce, 1, 2, content, group).hex(),
            }
        )
    rows: list[tuple[int, int, bool, str, str, str, str]] = [
        (1, 1, False, "nieuwsbrief", "", "2026-03-02", ""),
        (2, 2**40, True, "kindpakket", "2020 8.1.7 eigenschap", "2020-01-01", "2025-12-31"),
        (2**32 - 1, 2**63 - 1, False, "a-b_9", "2020 1.1.1 -", "9999-12-31", "0001-01-01"),
    ]
    return {
        "tenant": TENANT.hex(),
        "pointer": POINTER.hex(),
        "slot_key": slot_key.hex(),
        "keys": {
            "encryption": okm[:32].hex(),
            "commitment": okm[32:64].hex(),
            "row": okm[64:].hex(),
        },
        "blobs": blobs,
        "parts": parts,
        "row_tags": [
            {
                "row": list(row),
                "statement": statement(*row).hex(),
                "tag": hmac.new(okm[64:], statement(*row), hashlib.sha256).digest()[:16].hex(),
            }
            for row in rows
        ],
    }


def node_vectors() -> dict[str, object]:
    states = bytes([1, 2, 0, 3]) + bytes(252)
    slots = [seeded("slot 0", 32), bytes(32), bytes(32), seeded("slot 3", 32)] + [bytes(32)] * 252
    plaintext = states + b"".join(slots)
    nodes = []
    for level, index in ((0, 0), (0, 2**24 - 1), (1, 258), (3, 0)):
        key, nonce = seeded(f"node key {level} {index}", 32), seeded(f"nonce {level} {index}", 12)
        associated = b"\x01" + TENANT + bytes([level]) + index.to_bytes(4, "big")
        sealed = nonce + AESGCMSIV(key).encrypt(nonce, plaintext, associated)
        nodes.append(
            {
                "level": level,
                "index": index,
                "key": key.hex(),
                "nonce": nonce.hex(),
                "sha256": hashlib.sha256(sealed).hexdigest(),
                "first": sealed[:44].hex(),
                "tag": sealed[-16:].hex(),
                "sealed_bytes": len(sealed),
            }
        )
    return {
        "tenant": TENANT.hex(),
        "states": states[:4].hex(),
        "slots": [slot.hex() for slot in slots[:4]],
        "nodes": nodes,
    }


def epoch_vectors() -> dict[str, object]:
    root_key, epoch_key = seeded("root key", 32), seeded("epoch key", 32)
    wrapped = []
    for tree, generation in itertools.product((0, 1), (1, 2, 2**56 - 1)):
        nonce = seeded(f"epoch nonce {generation}" + " permanent" * tree, 12)
        place = bytes([tree]) + generation.to_bytes(7, "big")
        associated = b"datakluis/epoch/1" + TENANT + place
        sealed = nonce + AESGCMSIV(root_key).encrypt(nonce, epoch_key, associated)
        wrapped.append(
            {
                "tree": tree,
                "generation": generation,
                "context": associated.hex(),
                "wrapped": sealed.hex(),
            }
        )
    return {
        "tenant": TENANT.hex(),
        "root_key": root_key.hex(),
        "epoch_key": epoch_key.hex(),
        "wrapped": wrapped,
    }


def subject_vectors() -> dict[str, object]:
    subjects = ["999990019", "Zoë", "x" * 256]
    key = seeded("bucket key", 32)
    okm = expand(key, b"datakluis/subject/1", 64)
    entries = []
    for number, subject in enumerate(subjects):
        nonce = seeded(f"subject nonce {number}", 12)
        sealed = AESGCM(okm[32:]).encrypt(
            nonce,
            subject.encode(),
            b"\x01" + number.to_bytes(8, "big") + (number + 7).to_bytes(8, "big"),
        )
        spread = int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "big")
        entries.append(
            {
                "subject": subject,
                "bucket": number,
                "row": number + 7,
                "tag": hmac.new(okm[:32], subject.encode(), hashlib.sha256).digest()[:16].hex(),
                "sealed": (nonce + sealed).hex(),
                "bucket_of": {str(n): linear_hash(spread, n) for n in (1, 2, 3, 5, 8, 1000)},
            }
        )
    return {"key": key.hex(), "subjects": entries}


def linear_hash(spread: int, buckets: int) -> int:
    """Litwin 1980: the smallest power of two that is not below N, or half of it."""
    power = 1
    while power < buckets:
        power *= 2
    return spread % power if spread % power < buckets else spread % (power // 2)


def key_file_vectors() -> dict[str, object]:
    secret, salt, nonce = seeded("secret", 32), seeded("salt", 16), seeded("file nonce", 12)
    memory_kib, iterations, lanes = 64, 3, 1  # libsodium has one lane
    key = pwhash.argon2id.kdf(
        32, PASSPHRASE.encode(), salt, opslimit=iterations, memlimit=memory_kib * 1024
    )
    document = {
        "format": "datakluis-keyfile/1",
        "label": "root key",
        "kdf": {
            "name": "argon2id",
            "memory_kib": memory_kib,
            "iterations": iterations,
            "lanes": lanes,
            "salt": salt.hex(),
        },
        "nonce": nonce.hex(),
        "sealed": AESGCM(key).encrypt(nonce, secret, b"datakluis-keyfile/1\0root key").hex(),
    }
    return {
        "passphrase": PASSPHRASE,
        "label": "root key",
        "secret": secret.hex(),
        "file": json.dumps(document, indent=2) + "\n",
    }


def files() -> dict[str, str]:
    """File name to content of all vectors."""
    vectors = {
        "vault_cipher.json": cipher_vectors(),
        "vault_keynode.json": node_vectors(),
        "vault_epoch.json": epoch_vectors(),
        "vault_subjects.json": subject_vectors(),
        "vault_keyfile.json": key_file_vectors(),
    }
    return {
        name: json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        for name, content in vectors.items()
    }


if __name__ == "__main__":
    for file_name, content in files().items():
        (Path(__file__).parent / file_name).write_text(content, encoding="utf-8")
