"""Makes the golden vectors of the escrow: `python tests/vectors/generate_escrow.py`.

It shares no code with `vault` and none with the library that splits there: SLIP-0039 is written out
below from its text (shares in GF(256), the Feistel cipher over PBKDF2, the RS1024 checksum), HKDF
is RFC 5869 over hashlib, and the signatures are those of `cryptography`. Only the list of 1,024
words is read from the library's file, once its digest is that of the standard. Secrets come from
fixed seeds, so every run writes the same bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

TENANT = hashlib.sha256(b"escrow vector tenant").digest()[:16]
CREATED_AT = "2026-03-02T10:00:00Z"
DESTROYED_AT = "2031-12-31T23:59:59Z"
STATEMENT_EN = (
    "I have destroyed this share and every copy of it, on paper and on every medium."
    " Nobody else has it from me."
)
STATEMENT_NL = (
    "Ik heb dit deel en elke kopie ervan vernietigd, op papier en op elke drager."
    " Niemand anders heeft het van mij."
)
# Generation, threshold, custodians.
ESCROWS = (
    (1, 2, ["A. de Archivaris", 'Zoë "van" der Plas\\Gemeente']),
    (2, 3, [f"bewaarder {letter}" for letter in "abcde"]),
    (2**56 - 1, 16, [f"{number:02}" + "é" * 63 for number in range(16)]),
)

WORDS_SHA256 = "bcc4555340332d169718aed8bf31dd9d5248cb7da6e5d355140ef4f1e601eec3"
SECRET_AT, DIGEST_AT = 255, 254


def seeded(label: str, size: int) -> bytes:
    return hashlib.shake_256(b"escrow vector " + label.encode()).digest(size)


def expand(key: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand with SHA-256, RFC 5869 section 2.3, for one block."""
    return hmac.new(key, info + b"\x01", hashlib.sha256).digest()[:size]


def write_json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


# SLIP-0039, from its text.


def word_list() -> list[str]:
    spec = importlib.util.find_spec("shamir_mnemonic")
    content = Path(spec.origin).with_name("wordlist.txt").read_bytes()
    if hashlib.sha256(content).hexdigest() != WORDS_SHA256:
        raise SystemExit("the list of words is not that of the standard")
    return content.decode().split()


def multiply(a: int, b: int) -> int:
    """Product in GF(256) modulo x^8 + x^4 + x^3 + x + 1."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def invert(a: int) -> int:
    """a^254, the inverse of a."""
    power = 1
    for _ in range(254):
        power = multiply(power, a)
    return power


def interpolate(points: dict[int, bytes], x: int) -> bytes:
    """Value at x of the polynomial of the least degree through points, byte by byte."""
    result = bytes(len(next(iter(points.values()))))
    for i, value in points.items():
        basis = 1
        for j in points:
            if j != i:
                basis = multiply(basis, multiply(x ^ j, invert(i ^ j)))
        result = bytes(r ^ multiply(basis, v) for r, v in zip(result, value, strict=True))
    return result


def feistel(
    secret: bytes, rounds: Iterable[int], salt: bytes, exponent: int, passphrase: bytes = b""
) -> bytes:
    """Four rounds, in one order to encrypt and in the other to decrypt."""
    left, right = secret[: len(secret) // 2], secret[len(secret) // 2 :]
    for i in rounds:
        key = hashlib.pbkdf2_hmac(
            "sha256", bytes([i]) + passphrase, salt + right, 2_500 << exponent, dklen=len(right)
        )
        left, right = right, bytes(a ^ b for a, b in zip(left, key, strict=True))
    return right + left


def checksum(values: Sequence[int]) -> int:
    """RS1024 over 10-bit words."""
    generators = (0xE0E040, 0x1C1C080, 0x3838100, 0x7070200, 0xE0E0009)
    generators += (0x1C0C2412, 0x38086C24, 0x3090FC48, 0x21B1F890, 0x3F3F120)
    state = 1
    for value in values:
        top = state >> 20
        state = (state & 0xFFFFF) << 10 ^ value
        for bit, generator in enumerate(generators):
            state ^= generator if top >> bit & 1 else 0
    return state


def split(
    secret: bytes, threshold: int, total: int, identifier: int, random: Sequence[bytes]
) -> list[str]:
    """Phrases of a single group, extendable, exponent 0.

    Args:
        secret: 32 bytes.
        threshold: M.
        total: N.
        identifier: 15 bits.
        random: the first M-2 shares, 32 bytes each, and the 28 bytes beside the digest.
    """
    encrypted = feistel(secret, range(4), b"", 0)
    digest = hmac.new(random[-1], encrypted, hashlib.sha256).digest()[:4]
    points = {SECRET_AT: encrypted, DIGEST_AT: digest + random[-1]}
    points |= dict(enumerate(random[:-1]))
    words = word_list()
    phrases = []
    for index in range(total):
        bits = f"{identifier:015b}1{0:04b}" + f"{0:04b}{0:04b}{0:04b}{index:04b}{threshold - 1:04b}"
        value = points.get(index) or interpolate(points, index)
        bits += "0000" + "".join(f"{byte:08b}" for byte in value)
        numbers = [int(bits[i : i + 10], 2) for i in range(0, len(bits), 10)]
        check = checksum([*b"shamir_extendable", *numbers, 0, 0, 0]) ^ 1
        numbers += [check >> 20, check >> 10 & 1023, check & 1023]
        phrases.append(" ".join(words[number] for number in numbers))
    return phrases


def combine(phrases: Sequence[str], passphrase: bytes = b"") -> bytes:
    """Secret of M phrases of a single group, of any exponent and size.

    Raises:
        ValueError: they are not that.
    """
    words, points, seen = word_list(), {}, set()
    for phrase in phrases:
        numbers = [words.index(word) for word in phrase.split()]
        bits = "".join(f"{number:010b}" for number in numbers)
        extendable = bits[15] == "1"
        custom = b"shamir_extendable" if extendable else b"shamir"
        value = bits[40:-30]
        padding = len(value) % 16
        if checksum([*custom, *numbers]) != 1 or padding > 8 or "1" in value[:padding]:
            raise ValueError("checksum or padding")
        seen.add((bits[:32], bits[36:40]))
        points[int(bits[32:36], 2)] = int(value, 2).to_bytes((len(value) - padding) // 8, "big")
    ((head, threshold),) = seen
    if head[20:] != "0" * 12 or not len(phrases) == len(points) == int(threshold, 2) + 1:
        raise ValueError("not one group, or not as many phrases as its threshold")
    salt = b"" if extendable else b"shamir" + int(head[:15], 2).to_bytes(2, "big")
    if threshold == "0000":
        (encrypted,) = points.values()
    else:
        encrypted, digest = (interpolate(points, x) for x in (SECRET_AT, DIGEST_AT))
        if hmac.new(digest[4:], encrypted, hashlib.sha256).digest()[:4] != digest[:4]:
            raise ValueError("digest")
    return feistel(encrypted, reversed(range(4)), salt, int(head[16:20], 2), passphrase)


# The files.


def escrow_vector(number: int, generation: int, threshold: int, names: list[str]) -> dict:
    total = len(names)
    epoch_key = seeded(f"epoch key {number}", 32)
    random = [seeded(f"random {number} {i}", 32) for i in range(threshold - 2)]
    random.append(seeded(f"random {number} beside the digest", 28))
    drawn = seeded(f"identifier {number}", 2)
    phrases = split(epoch_key, threshold, total, int.from_bytes(drawn, "big") & 0x7FFF, random)
    seeds = [seeded(f"custodian {number} {i}", 32) for i in range(total)]
    keys = [Ed25519PrivateKey.from_private_bytes(seed) for seed in seeds]
    escrow = write_json(
        {
            "format": "datakluis-escrow/1",
            "tenant": TENANT.hex(),
            "generation": generation,
            "threshold": threshold,
            "created_at": CREATED_AT,
            "key_check": expand(epoch_key, b"datakluis/escrow-check/1", 16).hex(),
            "custodians": [
                {"number": i, "name": name, "public_key": key.public_key().public_bytes_raw().hex()}
                for i, (name, key) in enumerate(zip(names, keys, strict=True), 1)
            ],
        }
    )
    escrow_id = hashlib.sha256(escrow.encode()).hexdigest()
    shares, attestations = [], []
    for i, (name, phrase) in enumerate(zip(names, phrases, strict=True)):
        share = {
            "format": "datakluis-share/1",
            "tenant": TENANT.hex(),
            "generation": generation,
            "escrow": escrow_id,
            "custodian": name,
            "number": i + 1,
            "threshold": threshold,
            "total": total,
            "words": phrase,
            "custodian_key": seeds[i].hex(),
        }
        digest = hashlib.sha256(write_json(share).encode()).hexdigest()
        shares.append(write_json(share | {"digest": digest}))
        statement = {
            "format": "datakluis-share-destroyed/1",
            "escrow": escrow_id,
            "tenant": TENANT.hex(),
            "generation": generation,
            "custodian": name,
            "number": i + 1,
            "destroyed_at": DESTROYED_AT,
            "statement_en": STATEMENT_EN,
            "statement_nl": STATEMENT_NL,
        }
        signature = keys[i].sign(write_json(statement).encode()).hex()
        attestations.append(write_json(statement | {"signature": signature}))
    return {
        "tenant": TENANT.hex(),
        "generation": generation,
        "threshold": threshold,
        "custodians": names,
        "created_at": 1_772_445_600,
        "destroyed_at": 1_956_527_999,
        "epoch_key": epoch_key.hex(),
        "random": [drawn.hex(), *(piece.hex() for piece in random)],
        "seeds": [seed.hex() for seed in seeds],
        "escrow_id": escrow_id,
        "escrow": escrow,
        "shares": shares,
        "attestations": attestations,
    }


def files() -> dict[str, str]:
    """File name to content of all vectors."""
    vectors = [escrow_vector(number, *one) for number, one in enumerate(ESCROWS)]
    return {"escrow.json": json.dumps(vectors, indent=1, ensure_ascii=False) + "\n"}


if __name__ == "__main__":
    for file_name, content in files().items():
        (Path(__file__).parent / file_name).write_text(content, encoding="utf-8")
