"""Golden certificates of destruction, their key, and ways to change them."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from policy.certificate import Certificate, SignedCertificate
from policy.certificate_parts import Generation

VECTORS = Path(__file__).parent / "vectors"


def load_generator(name: str):
    spec = importlib.util.spec_from_file_location(name, VECTORS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = load_generator("generate_certificate")
VECTOR = json.loads((VECTORS / "certificate.json").read_text(encoding="utf-8"))
FILES = {one["name"]: one["certificate"].encode() for one in VECTOR["files"]}
SIGNED = {name: SignedCertificate.parse(data) for name, data in FILES.items()}
WHOLE = SIGNED["irrecoverable"].certificate


def sign(data: bytes) -> bytes:
    return generator.KEY.sign(data, ec.ECDSA(hashes.SHA256()))


def with_generation(one: Certificate, number: int = 0, **changes: object) -> Certificate:
    """A certificate with one of its generations changed."""
    generations = list(one.generations)
    generations[number] = replace(generations[number], **changes)
    return replace(one, generations=tuple(generations))


def generations(*numbers: int) -> tuple[Generation, ...]:
    return tuple(replace(WHOLE.generations[0], number=number) for number in numbers)
