"""A second verifier, written from the descriptions of the formats alone.

It imports nothing of `ledger`, `anchor` or `vault`: Python's standard library and, of one library,
Ed25519 and the reading of X.509 certificates. What the product's own verifier accepts or refuses
must be what this one does. Run by itself it is also a way to check evidence without trusting the
product:

    python tests/anchor/independent_verifier.py EVIDENCE TRUST
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import sys
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MEBIBYTE = 1024 * 1024
CHECKED_STEPS = ("origin", "log-signature", "inclusion", "statement")
STEPS = (*CHECKED_STEPS, "local-anchor", "public-anchor", "opening")


class Refused(Exception):
    """Why a file is not accepted."""


def accepts(evidence: bytes, trust: bytes) -> bool:
    """Tell whether evidence verifies under a trust file, with all that it requires."""
    return why_refused(evidence, trust) is None


def why_refused(evidence: bytes, trust: bytes) -> str | None:
    """Return None for evidence that verifies, or the first reason why it does not."""
    try:
        check(evidence, trust)
    except Refused as reason:
        return str(reason)
    return None


def demand(holds: bool, reason: str) -> None:
    if not holds:
        raise Refused(reason)


# --- JSON with one spelling -----------------------------------------------------------------------

STRING = re.compile(r'"((?:[^"\\\x00-\x1f]|\\(?:["\\bfnrt]|u00[01][0-9a-f]))*)"')
ESCAPE = re.compile(r"\\(u00..|.)")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,99})")
SHORT_ESCAPES = {'"': '"', "\\": "\\", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Reader:
    """Reads a text from left to right and refuses all that is not spelt as it must be."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def sees(self, expected: str) -> bool:
        return self.text.startswith(expected, self.at)

    def take(self, expected: str) -> None:
        demand(self.sees(expected), f"JSON: {expected!r} expected at character {self.at}")
        self.at += len(expected)

    def document(self) -> object:
        value = self.value(0)
        self.take("\n")
        demand(self.at == len(self.text), "JSON: something follows the document")
        return value

    def value(self, level: int) -> object:
        demand(level < 8, "JSON: nested too deeply")
        if self.sees('"'):
            return self.string()
        if self.sees("{"):
            return self.object(level)
        if self.sees("["):
            return self.array(level)
        if self.sees("null"):
            return self.take("null")
        match = NUMBER.match(self.text, self.at)
        if match is None:
            raise Refused(f"JSON: no value at character {self.at}")
        self.at = match.end()
        demand(match[0] != "-0", "JSON: minus zero")
        return int(match[0])

    def string(self) -> str:
        match = STRING.match(self.text, self.at)
        if match is None:
            raise Refused(f"JSON: no text at character {self.at}")
        self.at = match.end()
        return ESCAPE.sub(lambda found: self.unescape(found[1]), match[1])

    @staticmethod
    def unescape(escape: str) -> str:
        if len(escape) == 1:
            return SHORT_ESCAPES[escape]
        character = chr(int(escape[1:], 16))
        demand(character not in SHORT_ESCAPES.values(), "JSON: a longer escape than needed")
        return character

    def object(self, level: int) -> dict[str, object]:
        found: dict[str, object] = {}
        self.take("{")
        while True:
            self.take("\n" + "  " * (level + 1))
            key = self.string()
            demand(key not in found, "JSON: a key twice")
            self.take(": ")
            found[key] = self.value(level + 1)
            if not self.sees(","):
                break
            self.take(",")
        self.take("\n" + "  " * level + "}")
        return found

    def array(self, level: int) -> list[object]:
        if self.sees("[]"):
            self.take("[]")
            return []
        found = []
        self.take("[")
        while True:
            self.take("\n" + "  " * (level + 1))
            found.append(self.value(level + 1))
            if not self.sees(","):
                break
            self.take(",")
        self.take("\n" + "  " * level + "]")
        return found


def read_json(data: bytes, limit: int) -> dict[str, object]:
    demand(len(data) <= limit, "JSON: too large")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Refused("not UTF-8") from None
    return members(Reader(text).document())


def members(value: object, *names: str) -> dict[str, object]:
    """Return an object that has exactly these members in this order; any, if none is named."""
    if not isinstance(value, dict):
        raise Refused("an object was expected")
    demand(not names or tuple(value) == names, f"an object with other members than {names}")
    return value


def text_of(value: object) -> str:
    if not isinstance(value, str):
        raise Refused("a text was expected")
    return value


def list_of(value: object) -> list[object]:
    if not isinstance(value, list):
        raise Refused("an array was expected")
    return value


def from_hex(value: object) -> bytes:
    text = text_of(value)
    demand(re.fullmatch("(?:[0-9a-f]{2})*", text) is not None, "not lower-case hex")
    return bytes.fromhex(text)


def from_base64(value: object) -> bytes:
    text = text_of(value)
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Refused("not base64") from None
    demand(base64.b64encode(data).decode() == text, "base64 with another spelling")
    return data


def decimal(text: str) -> int:
    demand(re.fullmatch("0|[1-9][0-9]{0,18}", text) is not None, "not a decimal number")
    demand(int(text) < 2**63, "a number of 2**63 or more")
    return int(text)


# --- keys and notes -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    name: str
    id: bytes
    public: bytes

    def signed(self, text: str, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class Note:
    text: str
    lines: list[tuple[str, bytes, bytes]]  # key name, key ID, signature


def is_clean(text: str) -> bool:
    return all(character >= " " for character in text)


def check_name(name: str) -> None:
    ordinary = is_clean(name) and not any(c.isspace() or c == "+" for c in name)
    demand(name != "" and ordinary, "not the name of a key")


def read_key(value: object) -> Key:
    match = re.fullmatch("([^+]*)\\+([0-9a-f]{8})\\+(.*)", text_of(value), re.DOTALL)
    if match is None:
        raise Refused("not a verifier key")
    name, key_id, typed = match[1], bytes.fromhex(match[2]), from_base64(match[3])
    check_name(name)
    demand(len(typed) == 33 and typed[0] == 1, "not an Ed25519 key")
    expected = hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4]
    demand(key_id == expected, "the key ID is that of another key")
    return Key(name, key_id, typed[1:])


def read_note(text: str) -> Note:
    demand(len(text.encode()) <= 65_536, "a note of more than 65,536 bytes")
    body, separator, signatures = text.rpartition("\n\n")
    demand(separator != "" and signatures.endswith("\n"), "not a signed note")
    demand(is_clean(body.replace("\n", "")), "a control character")
    lines = []
    for line in signatures[:-1].split("\n"):
        match = re.fullmatch("— ([^ ]+) ([^ ]+)", line)
        if match is None:
            raise Refused("not a signature line")
        check_name(match[1])
        signature = from_base64(match[2])
        demand(len(signature) > 4, "a signature line without signature")
        lines.append((match[1], signature[:4], signature[4:]))
    demand(len(lines) <= 16, "more than 16 signatures")
    demand(len({line[:2] for line in lines}) == len(lines), "two signatures of one key")
    return Note(body + "\n", lines)


# --- trust file -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trust:
    origin: str
    require: list[str]
    log_keys: list[tuple[Key, int, int]]  # key, smallest and largest tree
    anchor_keys: list[Key]


def curve_of(der: bytes) -> str | None:
    """Return the curve of the key in an X.509 certificate."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            certificate = x509.load_der_x509_certificate(der)
            key, serial = certificate.public_key(), certificate.serial_number
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as reason:
        raise Refused("not a certificate") from reason
    demand(serial > 0, "a serial number that RFC 5280 does not allow")
    return key.curve.name if isinstance(key, EllipticCurvePublicKey) else None


def size_of(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise Refused("not a tree size")
    return value


def read_log_key(value: object) -> tuple[Key, int, int]:
    found = members(value, "algorithm", "key", "first_size", "last_size")
    demand(found["algorithm"] == "ed25519", "an unknown algorithm")
    first = size_of(found["first_size"])
    last = 2**63 - 1 if found["last_size"] is None else size_of(found["last_size"])
    demand(first <= last, "an empty range of sizes")
    return read_key(found["key"]), first, last


@cache
def read_trust(data: bytes) -> Trust:
    found = members(
        read_json(data, MEBIBYTE // 16),
        *("format", "origin", "require", "log_keys", "local_anchor_keys"),
        "organisation_certificates",
    )
    demand(found["format"] == "datakluis-trust/1", "another format")
    origin = text_of(found["origin"])
    demand(origin != "" and is_clean(origin), "not an origin")
    trust = Trust(
        origin,
        [text_of(step) for step in list_of(found["require"])],
        [read_log_key(key) for key in list_of(found["log_keys"])],
        [read_key(key) for key in list_of(found["local_anchor_keys"])],
    )
    demand(set(trust.require) <= set(STEPS), "an unknown step")
    demand(len(trust.log_keys) > 0, "no log key")
    certificates = [from_hex(value) for value in list_of(found["organisation_certificates"])]
    log_keys = [key for key, _, _ in trust.log_keys]
    for named in (trust.require, log_keys, trust.anchor_keys, certificates):
        demand(len(set(named)) == len(named), "a step, key or certificate twice")
    for der in certificates:
        demand(curve_of(der) == "secp256r1", "a certificate of another kind of key")
    return trust


# --- evidence -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    data: bytes
    is_version: bool

    @property
    def group(self) -> bytes:
        return self.data[3:4]

    @property
    def pointer(self) -> bytes:
        return self.data[4:20]

    @property
    def version(self) -> bytes:
        return self.data[20:24]

    @property
    def commitment(self) -> bytes:
        return self.data[24:]


def read_entry(value: object) -> Entry:
    data = from_hex(value)
    # Format, kind and suite; then the length, and how many groups or trees there are.
    kinds = {
        b"\x01\x01\x01": (56, 16),
        b"\x01\x02\x00": (24, 16),
        b"\x01\x03\x00": (56, 16),
        b"\x01\x04\x00": (24, 2),
    }
    length, groups = kinds.get(data[:3], (-1, 0))
    demand(length == len(data), "an entry of an unknown kind")
    demand(data[3] < groups, "an entry of an unknown group")
    demand(data[20:24] != bytes(4), "version 0")
    return Entry(data, data[1] == 1)


def root_of(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """Return the root to which an audit path leads, by the definition of RFC 6962 2.1.1."""
    if size == 1:
        demand(path == [], "an audit path that is too long")
        return leaf
    demand(path != [], "an audit path that is too short")
    below, sibling = path[:-1], path[-1]
    half = 1 << (size - 1).bit_length() - 1
    if index < half:
        left, right = root_of(leaf, index, half, below), sibling
    else:
        left, right = sibling, root_of(leaf, index - half, size - half, below)
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class Proof:
    index: int
    path: list[bytes]
    note: Note
    note_text: str
    origin: str
    size: int
    root: bytes


def read_proof(text: str) -> Proof:
    head, separator, note_text = text.partition("\n\n")
    lines = head.split("\n")
    demand(separator != "" and len(lines) >= 2, "not a log proof")
    demand(lines[0] == "c2sp.org/tlog-proof@v1", "another kind of proof")
    demand(lines[1].startswith("index "), "no index")
    path = [from_base64(line) for line in lines[2:]]
    demand(len(path) <= 63 and all(len(one) == 32 for one in path), "not an audit path")
    note = read_note(note_text)
    checkpoint = note.text.split("\n")
    demand(len(checkpoint) == 4 and checkpoint[0] != "", "not a checkpoint")
    root = from_base64(checkpoint[2])
    demand(len(root) == 32, "not a root")
    index, size = decimal(lines[1].removeprefix("index ")), decimal(checkpoint[1])
    return Proof(index, path, note, note_text, checkpoint[0], size, root)


RECEIPT = re.compile(
    "datakluis/local-receipt/1\n(?:0|[1-9][0-9]{0,17})\n([0-9a-f]{64})\n[0-9a-f]{64}\n"
    "(?:0|[1-9][0-9]{0,10})\n"
)


def check_receipt(value: object, statement: str, trust: Trust) -> None:
    anchor = members(value, "target", "receipt")
    demand(anchor["target"] == "local", "an unknown kind of anchor")
    note = read_note(text_of(anchor["receipt"]))
    match = RECEIPT.fullmatch(note.text)
    if match is None or len(note.lines) != 1:
        raise Refused("not a receipt")
    demand(match[1] == hashlib.sha256(statement.encode()).hexdigest(), "another digest")
    name, key_id, signature = note.lines[0]
    demand(
        any(
            (key.name, key.id) == (name, key_id) and key.signed(note.text, signature)
            for key in trust.anchor_keys
        ),
        "no trusted local anchor signed the receipt",
    )


def check_group(group: dict[str, object], entry: Entry, trust: Trust) -> int:
    """Check one group and return the size of its tree."""
    proof = read_proof(text_of(group["proof"]))
    demand(proof.origin == trust.origin, "the evidence is of another log")
    keys = [key for key, first, last in trust.log_keys if first <= proof.size <= last]
    demand(len(keys) > 0, "no log key for this size")
    demand(len(keys) == len(proof.note.lines), "other signatures than those of the log's keys")
    for key, (name, key_id, signature) in zip(keys, proof.note.lines, strict=True):
        demand((key.name, key.id) == (name, key_id), "a signature of another key")
        demand(key.signed(proof.note.text, signature), "a bad signature")
    demand(proof.index < proof.size, "an index outside the tree")
    leaf = hashlib.sha256(b"\x00" + entry.data).digest()
    found = root_of(leaf, proof.index, proof.size, proof.path)
    demand(found == proof.root, "the entry is not in the tree")
    statement = text_of(group["statement"])
    expected = "datakluis/anchor-statement/1\n" + proof.note_text
    demand(statement == expected, "another statement")
    anchors = list_of(group["anchors"])
    demand(len(anchors) <= 1, "two anchors of one kind")
    for anchor in anchors:
        check_receipt(anchor, statement, trust)
    return proof.size


def check_opening(value: object, entry: Entry, trust: Trust) -> None:
    opening = members(value, "commitment_key", "payload")
    key, payload = from_hex(opening["commitment_key"]), from_base64(opening["payload"])
    demand(entry.is_version and len(key) == 32, "an opening where none can be")
    fields = (
        b"datakluis/commitment/1",
        b"\x01",
        trust.origin.encode(),
        entry.pointer,
        entry.version,
        entry.group,
        hashlib.sha256(payload).digest(),
    )
    message = b"".join(len(field).to_bytes(2, "big") + field for field in fields)
    found = hmac.new(key, message, hashlib.sha256).digest()
    demand(hmac.compare_digest(found, entry.body), "the opening is another payload's")


def check(evidence: bytes, trusted: bytes) -> None:
    """Raise `Refused` unless the evidence verifies."""
    trust = read_trust(trusted)
    document = read_json(evidence, 16 * MEBIBYTE)
    names = ("format", "entry", "groups", *(("opening",) if "opening" in document else ()))
    members(document, *names)
    demand(document["format"] == "datakluis-evidence/1", "another format")
    entry = read_entry(document["entry"])
    groups = [members(one, "proof", "statement", "anchors") for one in list_of(document["groups"])]
    demand(1 <= len(groups) <= 64, "not 1 to 64 groups")
    sizes = [check_group(group, entry, trust) for group in groups]
    demand(sizes == sorted(set(sizes)), "groups in another order")
    passed = set(CHECKED_STEPS)
    if all(group["anchors"] for group in groups):
        passed.add("local-anchor")
    if "opening" in document:
        check_opening(document["opening"], entry, trust)
        passed.add("opening")
    demand(set(trust.require) <= passed, "a required step was not checked")


if __name__ == "__main__":
    refusal = why_refused(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]).read_bytes())
    print("accepted" if refusal is None else f"rejected: {refusal}")
    sys.exit(refusal is not None)
