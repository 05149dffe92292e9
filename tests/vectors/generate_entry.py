"""Makes the golden vectors of pointers, entries and commitments: `python generate_entry.py`.

It shares no code with `ledger`: base32 is arithmetic on one big number, entries are put together
byte by byte, and the commitment is the formula in the docstring of `ledger.commitment`, over the
standard library's HMAC. Every value comes from fixed texts, so every run writes the same bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
DOMAIN = b"datakluis/commitment/1"
ORIGINS = ("datakluis.example/gemeente", "getuige.example/één")
PAYLOADS = (b"", b"\x00", b'{"naam": "Zo\xc3\xab"}', b"999999990", bytes(range(256)) * 300)
VERSIONS = (1, 2, 255, 256, 65_536, 2**32 - 1)


def sample(label: str, size: int) -> bytes:
    return hashlib.sha256(label.encode()).digest()[:size]


def pointers() -> list[bytes]:
    edges = [bytes(16), b"\xff" * 16, bytes.fromhex("00112233445566778899aabbccddeeff")]
    return edges + [sample(f"pointer {number}", 16) for number in range(8)]


def base32(pointer: bytes) -> str:
    """128 bits, then two zero bits, five at a time from the left."""
    number = int.from_bytes(pointer, "big") << 2
    return "".join(ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def field(value: bytes) -> bytes:
    return bytes([len(value) >> 8, len(value) & 255]) + value


def commitment(
    key: bytes,
    origin: str,
    pointer: bytes,
    version: int,
    payload: bytes,
    *,
    domain: bytes = DOMAIN,
    suite: int = 1,
    group: int = 0,
) -> bytes:
    """The docstring of `ledger.commitment`, term by term."""
    message = b"".join(
        map(
            field,
            (
                domain,
                bytes([suite]),
                origin.encode("utf-8"),
                pointer,
                version.to_bytes(4, "big"),
                bytes([group]),
                hashlib.sha256(payload).digest(),
            ),
        )
    )
    return hmac.new(key, message, hashlib.sha256).digest()


def version_entry(pointer: bytes, version: int, committed: bytes, group: int = 0) -> bytes:
    return b"\x01\x01\x01" + bytes([group]) + pointer + version.to_bytes(4, "big") + committed


def erasure_entry(pointer: bytes, version: int, group: int = 0) -> bytes:
    return b"\x01\x02\x00" + bytes([group]) + pointer + version.to_bytes(4, "big")


def certificate_entry(pointer: bytes, number: int, digest: bytes, group: int = 0) -> bytes:
    return b"\x01\x03\x00" + bytes([group]) + pointer + number.to_bytes(4, "big") + digest


def shred_entry(tenant: bytes, tree: int, generation: int) -> bytes:
    return b"\x01\x04\x00" + bytes([tree]) + tenant + generation.to_bytes(4, "big")


def entry_vectors() -> list[dict[str, object]]:
    vectors = []
    for pointer in pointers()[2:5]:
        for version in VERSIONS:
            committed = sample(f"commitment {version}", 32)
            vectors += [
                {
                    "kind": "version",
                    "pointer": pointer.hex(),
                    "version": version,
                    "commitment": committed.hex(),
                    "entry": version_entry(pointer, version, committed).hex(),
                },
                {
                    "kind": "erasure",
                    "pointer": pointer.hex(),
                    "version": version,
                    "commitment": "",
                    "entry": erasure_entry(pointer, version).hex(),
                },
            ]
    return vectors + group_vectors() + shred_vectors()


def group_vectors() -> list[dict[str, object]]:
    """Each kind about a record, in the first and last field groups; a certificate of the core."""
    pointer, vectors = pointers()[3], []
    for number, group in enumerate((0, 1, 2, 15)):
        version, committed = VERSIONS[number], sample(f"commitment of group {group}", 32)
        digest = sample(f"certificate of group {group}", 32)
        made = {
            "certificate": (digest, certificate_entry(pointer, version, digest, group)),
            "version": (committed, version_entry(pointer, version, committed, group)),
            "erasure": (b"", erasure_entry(pointer, version, group)),
        }
        vectors += [
            {
                "kind": kind,
                "pointer": pointer.hex(),
                "version": version,
                "commitment": commits.hex(),
                "entry": entry.hex(),
                "group": group,
            }
            for kind, (commits, entry) in made.items()
            if group or kind == "certificate"
        ]
    return vectors


def shred_vectors() -> list[dict[str, object]]:
    return [
        {
            "kind": "shred",
            "pointer": tenant.hex(),
            "version": generation,
            "commitment": "",
            "entry": shred_entry(tenant, tree, generation).hex(),
            "group": tree,
        }
        for tenant in pointers()[:1] + pointers()[4:5]
        for tree in (0, 1)
        for generation in (1, 2, 2**32 - 1)
    ]


def commitment_vectors() -> list[dict[str, object]]:
    vectors = []
    for number, payload in enumerate(PAYLOADS):
        for origin in ORIGINS:
            key, pointer = sample(f"key {number}", 32), sample(f"pointer {number}", 16)
            version = VERSIONS[number]
            vectors.append(
                {
                    "key": key.hex(),
                    "origin": origin,
                    "pointer": pointer.hex(),
                    "version": version,
                    # The last one is long, so it is given as 256 byte values, 300 times over.
                    "payload": payload[:256].hex(),
                    "repeat": max(1, len(payload) // 256),
                    "commitment": commitment(key, origin, pointer, version, payload).hex(),
                }
            )
    key, pointer, payload = sample("key of a group", 32), pointers()[2], PAYLOADS[2]
    for group in (1, 2, 15):
        committed = commitment(key, ORIGINS[0], pointer, group, payload, group=group)
        vectors.append(
            {
                "key": key.hex(),
                "origin": ORIGINS[0],
                "pointer": pointer.hex(),
                "version": group,
                "payload": payload.hex(),
                "repeat": 1,
                "commitment": committed.hex(),
                "group": group,
            }
        )
    return vectors


def files() -> dict[str, str]:
    """File name to content of all vectors."""
    vectors = {
        "entry_pointer.json": [{"bytes": p.hex(), "text": base32(p)} for p in pointers()],
        "entry.json": entry_vectors(),
        "entry_commitment.json": commitment_vectors(),
    }
    return {
        name: json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        for name, content in vectors.items()
    }


if __name__ == "__main__":
    for file_name, content in files().items():
        (Path(__file__).parent / file_name).write_text(content, encoding="utf-8")
