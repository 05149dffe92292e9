"""A second verifier, written from the descriptions of the formats alone.

It imports nothing of `ledger`, `anchor` or `vault`: Python's standard library and, of one library,
Ed25519, ML-DSA-44 and the reading of X.509 certificates. What the product's own verifier accepts or
refuses must be what this one does. Run by itself it is also a way to check evidence without
trusting the product:

    python tests/anchor/independent_verifier.py EVIDENCE TRUST

EVIDENCE may also be a consistency file.
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
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

MEBIBYTE = 1024 * 1024
CHECKED_STEPS = ("origin", "log-signature", "inclusion", "statement")
STEPS = (
    *("origin", "log-signature", "witnesses", "inclusion", "statement", "local-anchor"),
    *("public-anchor", "opening", "authorisation"),
)


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


# Length of a public key by signature type: note signature, and cosignatures.
ED25519, COSIGNATURE, ML_DSA = 1, 4, 6
KEY_LENGTHS = {ED25519: 32, COSIGNATURE: 32, ML_DSA: 1312}


@dataclass(frozen=True)
class Key:
    name: str
    id: bytes
    type: int
    public: bytes

    def signed(self, text: str, signature: bytes) -> bool:
        try:
            if self.type == ED25519:
                Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
            else:
                self.check_cosignature(text, signature[:8], signature[8:])
        except (InvalidSignature, ValueError):
            return False
        return True

    def check_cosignature(self, text: str, timestamp: bytes, signature: bytes) -> None:
        time = int.from_bytes(timestamp, "big")
        demand(len(timestamp) == 8 and time < 2**63, "a cosignature without a time")
        if self.type == COSIGNATURE:
            message = f"cosignature/v1\ntime {time}\n{text}".encode()
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
            return
        origin, size, root = text.split("\n")[:3]
        name, log = self.name.encode(), origin.encode()
        demand(1 <= len(name) <= 255 and 1 <= len(log) <= 255, "a name that is too long")
        message = b"subtree/v1\n\0" + bytes([len(name)]) + name + timestamp
        message += bytes([len(log)]) + log + bytes(8) + int(size).to_bytes(8, "big")
        message += base64.b64decode(root)
        MLDSA44PublicKey.from_public_bytes(self.public).verify(signature, message)


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
    demand(len(typed) > 0 and KEY_LENGTHS.get(typed[0]) == len(typed) - 1, "an unknown key")
    demand(typed[0] == ED25519 or len(name.encode()) <= 255, "a name that is too long")
    expected = hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4]
    demand(key_id == expected, "the key ID is that of another key")
    return Key(name, key_id, typed[0], typed[1:])


def read_ed25519(value: object) -> Key:
    key = read_key(value)
    demand(key.type == ED25519, "not an Ed25519 key")
    return key


def read_note(text: str) -> Note:
    demand(len(text.encode()) <= 524_288, "a note of more than 524,288 bytes")
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
    demand(len(lines) <= 100, "more than 100 signatures")
    demand(len({line[:2] for line in lines}) == len(lines), "two signatures of one key")
    return Note(body + "\n", lines)


# --- trust file -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LogKey:
    key: Key
    first: int  # smallest and largest tree
    last: int
    closing: str | None  # text of the checkpoint at which it was retired

    def covers(self, size: int) -> bool:
        return self.first <= size <= self.last


@dataclass(frozen=True)
class Policy:
    first: int
    last: int
    witnesses: dict[str, Key]
    groups: dict[str, tuple[int, list[str]]]
    quorum: str

    def reached(self, name: str, signed: set[Key]) -> bool:
        """Tell whether a witness or a group has cosigned, by the definition of tlog-policy."""
        if name == "none":
            return True
        if name in self.witnesses:
            return self.witnesses[name] in signed
        needed, names = self.groups[name]
        return sum(self.reached(one, signed) for one in names) >= needed


@dataclass(frozen=True)
class Trust:
    origin: str
    require: list[str]
    log_keys: list[LogKey]
    anchor_keys: list[Key]
    policies: list[Policy]
    founding: bytes | None

    def keys_for(self, size: int) -> list[Key]:
        keys = [one.key for one in self.log_keys if one.covers(size)]
        return sorted(keys, key=lambda key: key.type)

    def closing_for(self, size: int) -> str | None:
        found = [one for one in self.log_keys if one.closing is not None and one.covers(size)]
        return min(found, key=lambda one: one.last).closing if found else None

    def policy_for(self, size: int) -> Policy | None:
        return next((one for one in self.policies if one.first <= size <= one.last), None)


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


def read_range(found: dict[str, object]) -> tuple[int, int]:
    first = size_of(found["first_size"])
    last = 2**63 - 1 if found["last_size"] is None else size_of(found["last_size"])
    demand(first <= last, "an empty range of sizes")
    return first, last


def read_log_key(value: object, origin: str) -> LogKey:
    is_closed = isinstance(value, dict) and "closing" in value
    names = ("algorithm", "key", "first_size", "last_size", *(("closing",) if is_closed else ()))
    found = members(value, *names)
    key = read_key(found["key"])
    algorithm = {ED25519: "ed25519", ML_DSA: "ml-dsa-44"}.get(key.type)
    demand(algorithm is not None and found["algorithm"] == algorithm, "an unknown algorithm")
    first, last = read_range(found)
    demand(is_closed == (found["last_size"] is not None), "a range that is half closed")
    closing = None
    if is_closed:
        closing = text_of(found["closing"])
        named, size, _ = read_checkpoint(closing)
        demand((named, size) == (origin, last), "a closing checkpoint of another tree")
    return LogKey(key, first, last, closing)


def read_policy(value: object) -> Policy:
    found = members(value, "first_size", "last_size", "policy")
    first, last = read_range(found)
    witnesses: dict[str, Key] = {}
    groups: dict[str, tuple[int, list[str]]] = {}
    quorum: list[str] = []
    text = text_of(found["policy"])
    demand(text.endswith("\n"), "a policy without a final newline")
    for line in text[:-1].split("\n"):
        demand(all(c >= " " or c == "\t" for c in line) and "\x7f" not in line, "a control code")
        items = [item for item in re.split("[ \t]+", line) if item]
        if not items or items[0].startswith("#") or items[0] == "log":
            continue
        demand(len(items) > 1 and items[0] in ("witness", "group", "quorum"), "an unknown line")
        name, known = items[1], {*witnesses, *groups}
        if items[0] == "quorum":
            demand(len(items) == 2 and (name in known or name == "none"), "an undefined quorum")
            quorum.append(name)
            continue
        demand(name not in known and name != "none", "a name that is defined twice")
        if items[0] == "witness":
            demand(len(items) in (3, 4), "not a witness")
            witnesses[name] = read_key(items[2])
            demand(witnesses[name].type != ED25519, "not the key of a witness")
        else:
            named = items[3:]
            demand(len(named) > 0 and set(named) <= known, "an undefined member")
            taken = [one for _, others in groups.values() for one in others]
            demand(len({*taken, *named}) == len(taken) + len(named), "a member of two groups")
            needed = {"any": 1, "all": len(named)}.get(items[2])
            if needed is None:
                demand(re.fullmatch("[1-9][0-9]*", items[2]) is not None, "not a threshold")
                needed = int(items[2])
            demand(1 <= needed <= len(named), "a threshold that nobody reaches")
            groups[name] = needed, named
    demand(len(quorum) == 1, "not one quorum")
    publics = [key.public for key in witnesses.values()]
    demand(len(set(publics)) == len(publics), "a witness twice")
    policy = Policy(first, last, witnesses, groups, quorum[0])
    for name, (needed, named) in groups.items():
        behind = [names_behind(policy, one) for one in named]
        together = set().union(*behind)
        demand(
            needed < 2 or len(together) == 1 or len(together) == sum(map(len, behind)),
            f"a witness would count twice in {name}",
        )
    return policy


def names_behind(policy: Policy, name: str) -> set[str]:
    if name in policy.witnesses:
        return {policy.witnesses[name].name}
    return set().union(*(names_behind(policy, one) for one in policy.groups[name][1]))


def read_founding(value: object) -> bytes:
    founding = from_hex(members(value, "founding")["founding"])
    demand(len(founding) == 32, "not a SHA-256")
    return founding


@cache
def read_trust(data: bytes) -> Trust:
    document = read_json(data, MEBIBYTE)
    optional = [name for name in ("witness_policies", "governance") if name in document]
    found = members(
        document,
        *("format", "origin", "require", "log_keys", "local_anchor_keys"),
        "organisation_certificates",
        *optional,
    )
    demand(found["format"] == "datakluis-trust/1", "another format")
    origin = text_of(found["origin"])
    demand(origin != "" and is_clean(origin), "not an origin")
    trust = Trust(
        origin,
        [text_of(step) for step in list_of(found["require"])],
        [read_log_key(key, origin) for key in list_of(found["log_keys"])],
        [read_ed25519(key) for key in list_of(found["local_anchor_keys"])],
        [read_policy(one) for one in list_of(found.get("witness_policies", []))],
        read_founding(found["governance"]) if "governance" in found else None,
    )
    demand(found.get("witness_policies") != [], "an empty list of policies")
    demand(set(trust.require) <= set(STEPS), "an unknown step")
    demand(len(trust.log_keys) > 0, "no log key")
    certificates = [from_hex(value) for value in list_of(found["organisation_certificates"])]
    log_keys = [one.key for one in trust.log_keys]
    for named in (trust.require, log_keys, trust.anchor_keys, certificates):
        demand(len(set(named)) == len(named), "a step, key or certificate twice")
    for der in certificates:
        demand(curve_of(der) == "secp256r1", "a certificate of another kind of key")
    closed = [one for one in trust.log_keys if one.closing is not None]
    demand(
        len({one.last for one in closed}) == len({one.closing for one in closed}),
        "two closing checkpoints of one size",
    )
    ranges = [(one.first, one.last) for one in trust.policies]
    demand(all(a[1] < b[0] for a, b in pairwise(ranges)), "they overlap")
    watching = {key.public for one in trust.policies for key in one.witnesses.values()}
    demand(not watching & {key.public for key in log_keys}, "a log that is its own witness")
    return trust


# --- evidence -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    data: bytes

    @property
    def kind(self) -> int:
        return self.data[1]

    @property
    def group(self) -> int:
        return self.data[3] & 0x7F

    @property
    def pointer(self) -> bytes:
        return self.data[4:20]

    @property
    def version(self) -> int:
        return int.from_bytes(self.data[20:24], "big")

    @property
    def body(self) -> bytes:
        return self.data[24:]


VERSION, GOVERNANCE, LISTED = 1, 5, 6


def read_entry(value: object) -> Entry:
    data = from_hex(value)
    entry = Entry(data)
    # Format, kind and suite; then the length, and how many groups, trees or actions there are.
    kinds = {
        b"\x01\x01\x01": (range(56, 57), range(16)),
        b"\x01\x02\x00": (range(24, 25), range(16)),
        b"\x01\x03\x00": (range(56, 57), range(16)),
        b"\x01\x04\x00": (range(24, 25), range(2)),
        b"\x01\x05\x00": (range(25, 65_536), range(1, 9)),
        b"\x01\x06\x00": (range(32, 32 + 32 * 32 + 1, 32), range(16)),
    }
    lengths, groups = kinds.get(data[:3], (range(0), range(0)))
    demand(len(data) in lengths, "an entry of an unknown kind")
    is_marked = data[:4] == b"\x01\x01\x01\x80"
    demand(data[3] in groups or is_marked, "an entry of an unknown group")
    demand(entry.version > 0, "version 0")
    if entry.kind == GOVERNANCE:
        demand(entry.pointer == bytes(16), "governance of a record")
        read_action(entry)
    if entry.kind == LISTED:
        demand(data[24:28] != bytes(4), "list 0")
    return entry


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


def grown(old: int, new: int, known: bytes | None, path: list[bytes]) -> tuple[bytes, bytes]:
    """Return both roots of a consistency proof, by the definition of RFC 6962 2.1.2.

    `known` is the older root while the older tree is the whole of what is looked at.
    """
    if old == new:
        if known is not None:
            demand(path == [], "a consistency proof that is too long")
            return known, known
        demand(len(path) == 1, "a consistency proof of another length")
        return path[0], path[0]
    demand(path != [], "a consistency proof that is too short")
    rest, last = path[:-1], path[-1]
    half = 1 << (new - 1).bit_length() - 1
    if old <= half:
        before, after = grown(old, half, known, rest)
        return before, hashlib.sha256(b"\x01" + after + last).digest()
    before, after = grown(old - half, new - half, None, rest)
    left = b"\x01" + last
    return hashlib.sha256(left + before).digest(), hashlib.sha256(left + after).digest()


def check_growth(older: str, newer: str, path: list[bytes]) -> None:
    """Check that the tree of one checkpoint is the beginning of another's, larger one."""
    _, old, old_root = read_checkpoint(older)
    _, new, new_root = read_checkpoint(newer)
    demand(0 < old < new, "a tree that did not grow")
    demand(grown(old, new, old_root, path) == (old_root, new_root), "a tree that was changed")


def read_path(value: object) -> list[bytes]:
    path = [from_base64(one) for one in list_of(value)]
    demand(1 <= len(path) <= 64 and all(len(one) == 32 for one in path), "not a list of hashes")
    return path


def read_checkpoint(text: str) -> tuple[str, int, bytes]:
    """Return origin, size and root."""
    lines = text.split("\n")
    demand(len(lines) == 4 and lines[0] != "" and lines[3] == "", "not a checkpoint")
    demand(is_clean(lines[0]), "a control character")
    root = from_base64(lines[2])
    demand(len(root) == 32, "not a root")
    return lines[0], decimal(lines[1]), root


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
    origin, size, root = read_checkpoint(note.text)
    index = decimal(lines[1].removeprefix("index "))
    return Proof(index, path, note, note_text, origin, size, root)


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


def check_lines(note: Note, trust: Trust) -> tuple[int, bool]:
    """Check who signed; return how many lines are the log's, and if witnesses are enough."""
    _, size, _ = read_checkpoint(note.text)
    keys = trust.keys_for(size)
    demand(len(keys) > 0, "no log key for this size")
    demand(len(keys) <= len(note.lines), "fewer signatures than keys")
    policy = trust.policy_for(size)
    witnesses = [] if policy is None else list(policy.witnesses.values())
    others = note.lines[len(keys) :]
    wanted = {line[:2] for line in others}
    cosigners = [key for key in witnesses if (key.name, key.id) in wanted]
    demand(len(keys) + len(cosigners) == len(note.lines), "a signature of somebody else")
    for key, (name, key_id, signature) in zip([*keys, *cosigners], note.lines, strict=True):
        demand((key.name, key.id) == (name, key_id), "a signature of another key")
        demand(key.signed(note.text, signature), "a bad signature")
        demand(key not in witnesses or signature[:8] != bytes(8), "a witness without a time")
    is_watched = policy is not None and policy.reached(policy.quorum, set(cosigners))
    return len(keys), is_watched


def check_group(group: dict[str, object], entry: Entry, trust: Trust) -> tuple[int, set[str]]:
    """Check one group and return the size of its tree, and which steps passed."""
    proof = read_proof(text_of(group["proof"]))
    demand(proof.origin == trust.origin, "the evidence is of another log")
    passed = {"origin", "inclusion", "statement"}
    own, is_watched = check_lines(proof.note, trust)
    if is_watched:
        passed.add("witnesses")
    closing = trust.closing_for(proof.size)
    if "consistency" in group:
        demand(closing is not None, "a consistency proof to nothing")
        check_growth(proof.note.text, text_of(closing), read_path(group["consistency"]))
    if closing is None or closing == proof.note.text or "consistency" in group:
        passed.add("log-signature")
    else:
        demand(read_checkpoint(closing)[1] > proof.size, "not the closing checkpoint")
    check_inclusion(entry, proof)
    statement = text_of(group["statement"])
    signatures = "".join(one + "\n" for one in proof.note_text.split("\n")[4 : 4 + own])
    expected = f"datakluis/anchor-statement/1\n{proof.note.text}\n{signatures}"
    demand(statement == expected, "another statement")
    anchors = list_of(group["anchors"])
    demand(len(anchors) <= 1, "two anchors of one kind")
    for anchor in anchors:
        check_receipt(anchor, statement, trust)
        passed.add("local-anchor")
    return proof.size, passed


def check_inclusion(entry: Entry, proof: Proof) -> None:
    demand(proof.index < proof.size, "an index outside the tree")
    leaf = hashlib.sha256(b"\x00" + entry.data).digest()
    found = root_of(leaf, proof.index, proof.size, proof.path)
    demand(found == proof.root, "the entry is not in the tree")


# --- governance -----------------------------------------------------------------------------------

FOUND, ADD, REMOVE, RULE, LIST, PRUNE, STOP, RESUME = range(1, 9)
RULED = range(2, 9)
PARAMETERS = {ADD: 49, REMOVE: 32, RULE: 5, LIST: 36, PRUNE: 40, STOP: 0, RESUME: 0}


@dataclass(frozen=True)
class Act:
    kind: int
    parameters: bytes
    approvals: list[tuple[bytes, int, bytes]]  # key, expiry, signature


@dataclass
class State:
    sequence: int
    members: dict[bytes, bytes]  # key to all 49 bytes
    rules: dict[int, bytes]
    lists: list[bytes]
    stopped: bool
    minimum: int
    changes: list[tuple[int, bytes]]

    def digest(self) -> bytes:
        members, rules = sorted(self.members.items()), sorted(self.rules.items())
        parts = [
            b"datakluis/governance-state/1\n",
            self.sequence.to_bytes(4, "big") + bytes([self.stopped]),
            self.minimum.to_bytes(8, "big"),
            bytes([len(members)]) + b"".join(member for _, member in members),
            bytes([len(rules)]) + b"".join(rule for _, rule in rules),
            len(self.lists).to_bytes(4, "big") + b"".join(self.lists),
            len(self.changes).to_bytes(4, "big"),
            *(leaf.to_bytes(8, "big") + before for leaf, before in self.changes),
        ]
        return hashlib.sha256(b"".join(parts)).digest()


def rows(data: bytes, width: int) -> list[bytes]:
    return [data[at : at + width] for at in range(0, len(data), width)]


def check_member(member: bytes) -> None:
    demand(len(member) == 49 and 1 <= member[16] <= 4, "not a member")


def check_rule(rule: bytes) -> None:
    demand(len(rule) == 4, "not a rule")
    count, may, must, organisations = rule
    demand(count > 0 and organisations > 0, "a rule that asks for nobody")
    demand(0 < may < 16 and must & ~may == 0, "a rule that nobody can meet")


def read_action(entry: Entry) -> Act:
    kind, body = entry.group, entry.body
    length = 1 + body[0] * 49 + 28 if kind == FOUND else PARAMETERS[kind]
    parameters, rest = body[:length], body[length:]
    demand(len(parameters) == length and len(rest) > 0, "an action that breaks off")
    demand(len(rest) == 1 + rest[0] * 104, "another number of approvals")
    if kind == FOUND:
        check_founding(parameters)
    elif kind == ADD:
        check_member(parameters)
    elif kind == RULE:
        demand(parameters[0] in RULED, "a rule for nothing")
        check_rule(parameters[1:])
    elif kind == LIST:
        demand(parameters[32:] != bytes(4), "an empty list")
    elif kind == PRUNE:
        demand(0 < int.from_bytes(parameters[:8], "big") < 2**63, "a prune to nowhere")
    approvals = [(r[:32], int.from_bytes(r[32:40], "big"), r[40:]) for r in rows(rest[1:], 104)]
    keys = [key for key, _, _ in approvals]
    demand(keys == sorted(set(keys)), "approvals in another order")
    demand(all(expiry < 2**63 for _, expiry, _ in approvals), "an expiry that no tree reaches")
    return Act(kind, parameters, approvals)


def check_founding(parameters: bytes) -> None:
    named, ruled = parameters[1:-28], parameters[-28:]
    keys = [member[17:] for member in rows(named, 49)]
    demand(keys == sorted(set(keys)) and len(keys) <= 100, "members in another order")
    for member in rows(named, 49):
        check_member(member)
    for rule in rows(ruled, 4):
        check_rule(rule)


# The field of Ed25519, its curve and the order of its large group (RFC 8032 section 5.1).
FIELD = 2**255 - 19
CURVE = -121665 * pow(121666, -1, FIELD) % FIELD
ORDER = 2**252 + 27742317777372353535851937790883648493
Point = tuple[int, int]


def added(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    product = CURVE * x1 * x2 * y1 * y2 % FIELD
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, FIELD)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, FIELD)
    return x % FIELD, y % FIELD


@cache
def is_sound(key: bytes) -> bool:
    """Tell whether a key is the one encoding of a point of the large group, and not of another."""
    number = int.from_bytes(key, "little")
    y, sign = number % 2**255, number >> 255
    if y >= FIELD:
        return False
    square = (y * y - 1) * pow(CURVE * y * y + 1, -1, FIELD) % FIELD
    x = pow(square, (FIELD + 3) // 8, FIELD)
    if x * x % FIELD != square:
        x = x * pow(2, (FIELD - 1) // 4, FIELD) % FIELD
    if x * x % FIELD != square or x == 0:
        return False
    point = x if x % 2 == sign else FIELD - x, y
    total, power = (0, 1), point
    for bit in range(ORDER.bit_length()):
        if ORDER >> bit & 1:
            total = added(total, power)
        power = added(power, power)
    return total == (0, 1)


def approves(origin: str, sequence: int, act: Act, key: bytes, expiry: int, by: bytes) -> bool:
    digest = hashlib.sha256(b"datakluis/action/1\n" + bytes([act.kind]) + act.parameters).digest()
    name = origin.encode()
    message = b"datakluis/approval/1\n" + len(name).to_bytes(2, "big") + name
    message += sequence.to_bytes(4, "big") + digest + expiry.to_bytes(8, "big")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(by, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def has_quorum(state: State, kind: int, keys: set[bytes]) -> bool:
    count, may, must, organisations = state.rules[kind]
    eligible = [one for one in state.members.values() if may >> one[16] - 1 & 1]
    counted = [one for one in eligible if one[17:] in keys]
    if kind != STOP:
        count = max(count, 2, len(eligible) // 2 + 1)
    roles = {one[16] for one in counted}
    return (
        len(counted) >= count
        and all(role in roles for role in range(1, 5) if must >> role - 1 & 1)
        and len({one[:16] for one in counted}) >= organisations
    )


def apply(origin: str, state: State, entry: Entry, index: int) -> None:
    """Change the state by a governance entry at an index."""
    act, digest = read_action(entry), state.digest()
    demand(entry.version == state.sequence + 1, "a governance entry of another state")
    keys = {key for key, _, _ in act.approvals}
    joining: set[bytes] = set()
    if act.kind == FOUND:
        joining = {member[17:] for member in rows(act.parameters[1:-28], 49)}
    elif act.kind == ADD:
        joining = {act.parameters[17:]}
    known = joining | set(state.members)
    demand(all(map(is_sound, joining)), "a key of which nobody knows what it signed")
    for key, expiry, signature in act.approvals:
        demand(key in known and index < expiry, "an approval of a stranger, or one that expired")
        holds = approves(origin, entry.version, act, key, expiry, signature)
        demand(holds, "an approval of something else")
    if act.kind == FOUND:
        demand(keys == known and state.sequence == 0, "a founding without all, or a second one")
    else:
        demand(state.sequence > 0 and has_quorum(state, act.kind, keys), "no quorum")
        demand(act.kind != ADD or act.parameters[17:] in keys, "a new member without its own word")
    change(state, act, index)
    for kind in RULED:
        demand(has_quorum(state, kind, set(state.members)), "a rule that can never be met")
    state.sequence += 1
    state.changes.append((index, digest))
    state.changes = [one for one in state.changes if one[0] >= state.minimum]


def change(state: State, act: Act, index: int) -> None:
    given = act.parameters
    if act.kind == FOUND:
        state.members = {member[17:]: member for member in rows(given[1:-28], 49)}
        state.rules = dict(zip(RULED, rows(given[-28:], 4), strict=True))
    elif act.kind == ADD:
        demand(given[17:] not in state.members and len(state.members) < 100, "a member twice")
        state.members[given[17:]] = given
    elif act.kind == REMOVE:
        demand(given in state.members, "no member")
        del state.members[given]
    elif act.kind == RULE:
        state.rules[given[0]] = given[1:]
    elif act.kind == LIST:
        state.lists.append((state.sequence + 1).to_bytes(4, "big") + given)
    elif act.kind == PRUNE:
        minimum = int.from_bytes(given[:8], "big")
        demand(not state.stopped and state.minimum < minimum <= index, "a prune to elsewhere")
        at = next((before for leaf, before in state.changes if leaf >= minimum), state.digest())
        demand(at == given[8:], "a prune in another state")
        state.minimum = minimum
    else:
        demand(state.stopped is (act.kind == RESUME), "a stop of what is stopped")
        state.stopped = act.kind == STOP


def check_state(document: dict[str, object], entry: Entry, trust: Trust) -> bool:
    """Check who decided an entry; tell whether that was theirs to decide."""
    is_first = entry.kind == GOVERNANCE and entry.version == 1
    if "state" in document:
        demand(entry.kind in (GOVERNANCE, LISTED), "a state where none can be")
        demand(document["state"] != [], "an empty state")
    elif not is_first:
        return False
    group = members(list_of(document["groups"])[0])
    own = read_proof(text_of(group["proof"]))
    state, before, first = State(0, {}, {}, [], False, 0, []), -1, entry
    for number, one in enumerate(list_of(document.get("state", []))):
        found = members(one, "entry", "proof")
        stated = read_entry(found["entry"])
        head = text_of(found["proof"])
        demand(head.endswith("\n") and "\n\n" not in head, "not the head of a proof")
        proof = read_proof(f"{head}\n{own.note_text}")
        demand(stated.kind == GOVERNANCE and before < proof.index < own.index, "another order")
        check_inclusion(stated, proof)
        apply(trust.origin, state, stated, proof.index)
        before, first = proof.index, stated if number == 0 else first
    if entry.kind == GOVERNANCE:
        apply(trust.origin, state, entry, own.index)
    else:
        check_listed(state, entry)
    if trust.founding is None:
        return False
    demand(hashlib.sha256(first.data).digest() == trust.founding, "another founding")
    return True


def check_listed(state: State, entry: Entry) -> None:
    sequence, place = entry.body[:4], int.from_bytes(entry.body[4:8], "big")
    demand(state.sequence == int.from_bytes(sequence, "big"), "another state than that of the list")
    listed = next((one for one in state.lists if one[:4] == sequence), None)
    if listed is None:
        raise Refused("a list that was not enacted")
    count = int.from_bytes(listed[36:], "big")
    demand(place < count, "a place behind the list")
    leaf = hashlib.sha256(b"\x00" + entry.pointer + bytes([entry.group])).digest()
    demand(root_of(leaf, place, count, rows(entry.body[8:], 32)) == listed[4:36], "not on the list")


# --- the whole ------------------------------------------------------------------------------------


def check_opening(value: object, entry: Entry, trust: Trust) -> None:
    opening = members(value, "commitment_key", "payload")
    key, payload = from_hex(opening["commitment_key"]), from_base64(opening["payload"])
    demand(entry.kind == VERSION and len(key) == 32, "an opening where none can be")
    fields = (
        b"datakluis/commitment/1",
        b"\x01",
        trust.origin.encode(),
        entry.pointer,
        entry.version.to_bytes(4, "big"),
        bytes([entry.group]),
        hashlib.sha256(payload).digest(),
    )
    message = b"".join(len(field).to_bytes(2, "big") + field for field in fields)
    found = hmac.new(key, message, hashlib.sha256).digest()
    demand(hmac.compare_digest(found, entry.body), "the opening is another payload's")


def check(evidence: bytes, trusted: bytes) -> None:
    """Raise `Refused` unless the evidence verifies."""
    trust = read_trust(trusted)
    document = read_json(evidence, 16 * MEBIBYTE)
    if document.get("format") == "datakluis-consistency/1":
        demand(len(evidence) <= MEBIBYTE // 4, "too large")
        check_consistency(document, trust)
        return
    optional = [name for name in ("opening", "state") if name in document]
    members(document, "format", "entry", "groups", *optional)
    demand(document["format"] == "datakluis-evidence/1", "another format")
    entry = read_entry(document["entry"])
    groups = [read_group(one) for one in list_of(document["groups"])]
    demand(1 <= len(groups) <= 64, "not 1 to 64 groups")
    checked = [check_group(group, entry, trust) for group in groups]
    sizes = [size for size, _ in checked]
    demand(sizes == sorted(set(sizes)), "groups in another order")
    passed = set.intersection(*(steps for _, steps in checked))
    if "opening" in document:
        check_opening(document["opening"], entry, trust)
        passed.add("opening")
    if check_state(document, entry, trust):
        passed.add("authorisation")
    demand(set(trust.require) <= passed, "a required step was not checked")


def read_group(value: object) -> dict[str, object]:
    tied = ("consistency",) if isinstance(value, dict) and "consistency" in value else ()
    return members(value, "proof", "statement", "anchors", *tied)


def check_consistency(document: dict[str, object], trust: Trust) -> None:
    members(document, "format", "old", "proof", "new")
    old, new = read_note(text_of(document["old"])), read_note(text_of(document["new"]))
    for note in (old, new):
        demand(read_checkpoint(note.text)[0] == trust.origin, "another log")
        _, is_watched = check_lines(note, trust)
    check_growth(old.text, new.text, read_path(document["proof"]))
    closing = trust.closing_for(read_checkpoint(new.text)[1])
    demand(closing is None or closing == new.text, "a retired key, and not its last word")
    demand(is_watched or "witnesses" not in trust.require, "a required step was not checked")


if __name__ == "__main__":
    refusal = why_refused(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]).read_bytes())
    print("accepted" if refusal is None else f"rejected: {refusal}")
    sys.exit(refusal is not None)
