"""Goldens, keys and both verifiers for the tests of this folder."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path

from anchor.errors import AnchorError
from anchor.evidence import Evidence
from anchor.trust import TrustFile
from anchor.verify import Report, verify

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
SCHEMAS = ROOT / "anchor" / "schemas"


def load_generator():
    spec = importlib.util.spec_from_file_location("generate_anchor", VECTORS / "generate_anchor.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


world = load_generator()


def golden(name: str) -> dict:
    return json.loads((VECTORS / f"anchor_{name}.json").read_text(encoding="utf-8"))


TRUST = {name: text.encode() for name, text in golden("trust")["files"].items()}
EVIDENCE = {one["name"]: one["evidence"].encode() for one in golden("evidence")["files"]}
CONSISTENCY = {one["name"]: one["file"].encode() for one in golden("consistency")["files"]}
# Which trust file goes with which evidence and consistency file.
TRUST_OF = {one["name"]: one["trust"] for one in golden("evidence")["files"]}


GROWTH_TRUST_OF = {one["name"]: one["trust"] for one in golden("consistency")["files"]}


def report(evidence: bytes, trust: bytes) -> Report:
    return verify(Evidence.parse(evidence), read_trust(trust))


@cache
def read_trust(trust: bytes) -> TrustFile:
    return TrustFile.parse(trust)


def outcome(evidence: bytes, trust: bytes) -> str:
    """The verdict on two files, or the name of the error that refuses them."""
    try:
        return report(evidence, trust).verdict.value
    except AnchorError as error:
        return type(error).__name__
