"""Every parser of ledger/ and anchor/, the way it writes, its one error, and what it starts from.

`attempt` is the one property that Hypothesis (test_parsers.py) and the coverage-guided runs
(run.py) hold against each of them: bytes are refused by the parser's own error, or they are exactly
those that the writer makes of what was read.

Seeds are the texts and byte strings in the golden vectors that a parser takes, and for what no
vector holds a few that are written here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from nacl.signing import SigningKey

from anchor.consistency import ConsistencyFile
from anchor.errors import BadFile
from anchor.evidence import Evidence
from anchor.receipt import LocalReceipt
from anchor.statement import AnchorStatement
from anchor.trust import TrustFile
from ledger.action import (
    RULED,
    AddMember,
    EnactList,
    Found,
    Member,
    Prune,
    RemoveMember,
    Resume,
    Role,
    SetRule,
    Stop,
    parse_action,
)
from ledger.approval import Approval, approve, encode_body, parse_body
from ledger.checkpoint import Checkpoint, parse_decimal
from ledger.cosignature import CosignerKey, SignatureType, parse_key
from ledger.entry import (
    Membership,
    encode_governance,
    encode_listed_erasure,
    encode_version,
    parse_entry,
    parse_membership,
)
from ledger.errors import Malformed
from ledger.governance import DEFAULT_RULES, judge
from ledger.governancestate import GovernanceState
from ledger.logkeys import LogKeys
from ledger.note import Note, VerifierKey, decode_base64, encode_base64
from ledger.pointer import format_pointer, parse_pointer
from ledger.tiles import TilePath, encode_bundle, entries_path, parse_bundle, parse_path, tile_path
from ledger.tlogproof import LogProof
from ledger.witness import Request
from ledger.witnesspolicy import WitnessPolicy

VECTORS = Path(__file__).parents[1] / "vectors"
ORIGIN = "datakluis.example/hoorn"
KEYS = tuple(SigningKey(sha256(b"member %d" % number).digest()) for number in range(4))


@dataclass(frozen=True)
class Parser:
    """One parser.

    Attributes:
        parse: takes the bytes of a file.
        write: gives back the bytes that are stored for what was read.
        error: what the parser may raise, and nothing else.
        made: seeds that no golden vector holds.
    """

    parse: Callable[[bytes], object]
    write: Callable[..., bytes]
    error: type[Exception]
    made: tuple[bytes, ...] = ()


class Disagrees(Exception):
    """A parser took bytes that its writer does not make."""


def attempt(parser: Parser, data: bytes) -> bool:
    """Return whether a parser takes these bytes.

    Raises:
        Disagrees: it does, and would write others.
        Exception: it raised something that is not its error.
    """
    try:
        found = parser.parse(data)
    except parser.error:
        return False
    if parser.write(found) != data:
        raise Disagrees(data.hex())
    return True


def of_text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    """Return a parser of texts as one of bytes: those that are no UTF-8 are nobody's."""

    def parse_bytes(data: bytes) -> object:
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise _NoText from error
        return parse(text)

    return parse_bytes


class _NoText(Malformed, BadFile):
    """Bytes that are no text, of which a parser of texts is never told."""


def _body(kind: int) -> Callable[[bytes], object]:
    return lambda data: parse_body(kind, data)


def _parameters(kind: int) -> Callable[[bytes], object]:
    return lambda data: parse_action(kind, data)


def _write_path(path: TilePath) -> bytes:
    if path.level is None:
        return entries_path(path.index, path.width).encode()
    return tile_path(path.level, path.index, path.width).encode()


def _written(found: object) -> bytes:
    return found.format() if isinstance(found.format(), bytes) else found.format().encode()


def _text_of(found: object) -> bytes:
    return str(found).encode()


MEMBERS = tuple(
    sorted(
        Member(bytes(key.verify_key), bytes([number]) * 16, role)
        for number, (key, role) in enumerate(zip(KEYS, Role, strict=True))
    )
)
FOUND = Found(MEMBERS, tuple(DEFAULT_RULES[kind] for kind in RULED))
ACTIONS = (
    FOUND,
    AddMember(MEMBERS[0]),
    RemoveMember(MEMBERS[0].key),
    SetRule(RULED[3], DEFAULT_RULES[RULED[3]]),
    EnactList(b"r" * 32, 3),
    Prune(7, b"s" * 32),
    Stop(),
    Resume(),
)


def _approvals(action: object, sequence: int) -> list[Approval]:
    return [approve(key, ORIGIN, sequence, action, 99) for key in KEYS]


@cache
def _states() -> tuple[bytes, ...]:
    """Return the states of a small ledger: founded, with a list, stopped, resumed, pruned."""
    states = [GovernanceState()]
    for index, action in enumerate((FOUND, ACTIONS[4], Stop(), Resume()), 1):
        entry = encode_governance(index, action, _approvals(action, index))
        states.append(judge(ORIGIN, states[-1], parse_entry(entry), index, None))
    prune = Prune(3, states[-1].digest_at(3))
    entry = encode_governance(5, prune, _approvals(prune, 5))
    states.append(judge(ORIGIN, states[-1], parse_entry(entry), 5, None))
    return tuple(state.encode() for state in states)


COSIGNER = CosignerKey(
    "getuige.example/w", bytes(KEYS[0].verify_key), SignatureType.COSIGNATURE_ED25519
)
LOG_KEY = VerifierKey(ORIGIN, bytes(KEYS[1].verify_key))
POLICY = (
    f"log {LOG_KEY}\nwitness w1 {COSIGNER}\ngroup g any w1\nquorum g\n".encode(),
    b"# none\nquorum none\n",
)
BODIES = tuple(encode_body(action, _approvals(action, 1)) for action in ACTIONS)

PARSERS = {
    "entry": Parser(parse_entry, lambda found: found.encode(), Malformed, (
        encode_version(b"p" * 16, 1, b"c" * 32, governed=True),
        encode_listed_erasure(b"p" * 16, 1, Membership(7, 1, (b"h" * 32, b"i" * 32))),
        *(encode_governance(1, action, _approvals(action, 1)) for action in ACTIONS))),
    "membership": Parser(parse_membership, lambda found: found.encode(), Malformed,
                         (Membership(7, 1, (b"h" * 32,)).encode(), Membership(1, 0, ()).encode())),
    "approval": Parser(Approval.parse, lambda found: found.encode(), Malformed,
                       (BODIES[6][1:105],)),
    "governance state": Parser(GovernanceState.parse, lambda found: found.encode(), Malformed,
                               _states()),
    "pointer": Parser(of_text(parse_pointer), lambda found: format_pointer(found).encode(),
                      Malformed),
    "decimal": Parser(of_text(parse_decimal), _text_of, Malformed, (b"0", b"9223372036854775807")),
    "base64": Parser(of_text(decode_base64), lambda found: encode_base64(found).encode(),
                     Malformed, (b"", b"Zg==", b"Zm9v")),
    "checkpoint": Parser(of_text(Checkpoint.parse), lambda found: found.text().encode(),
                         Malformed),
    "verifier key": Parser(of_text(VerifierKey.parse), _text_of, Malformed),
    "cosigner key": Parser(of_text(CosignerKey.parse), _text_of, Malformed,
                           (str(COSIGNER).encode(),)),
    "key": Parser(of_text(parse_key), _text_of, Malformed, (str(COSIGNER).encode(),)),
    "note": Parser(Note.parse, _written, Malformed),
    "tlog proof": Parser(LogProof.parse, _written, Malformed),
    "tile path": Parser(of_text(parse_path), _write_path, Malformed,
                        (b"tile/0/x001/234.p/7", b"tile/entries/067", b"tile/2/000.p/1")),
    "entry bundle": Parser(parse_bundle, encode_bundle, Malformed,
                           (b"\0\x01a\0\0", encode_bundle([b"x"] * 256))),
    "witness policy": Parser(WitnessPolicy.parse, _written, Malformed, POLICY),
    "log keys": Parser(LogKeys.parse, _written, Malformed,
                       (LogKeys.lone(LOG_KEY).format().encode(),)),
    "witness request": Parser(Request.parse, _written, Malformed),
    "consistency": Parser(ConsistencyFile.parse, _written, BadFile),
    "evidence": Parser(Evidence.parse, _written, BadFile),
    "trust": Parser(TrustFile.parse, _written, BadFile),
    "receipt": Parser(of_text(LocalReceipt.parse), _written, BadFile),
    "statement": Parser(of_text(AnchorStatement.parse), _written, BadFile),
}  # fmt: skip
for _action, _whole in zip(ACTIONS, BODIES, strict=True):
    _name = _action.kind.name.lower().replace("_", " ")
    PARSERS[f"body, {_name}"] = Parser(
        _body(_action.kind), lambda found: encode_body(*found), Malformed, (_whole,)
    )
    PARSERS[f"parameters, {_name}"] = Parser(
        _parameters(_action.kind),
        lambda found: found.parameters(),
        Malformed,
        (_action.parameters(),),
    )
"""By the name that a run is given."""


@cache
def vectors() -> tuple[bytes, ...]:
    """Return every text in the golden vectors, and what those hold that are hexadecimal or JSON."""
    names = sorted([*VECTORS.glob("entry*.json"), *VECTORS.glob("ledger_*.json"),
                    *VECTORS.glob("anchor_*.json")])  # fmt: skip
    found = set()
    for name in names:
        for text in _texts(json.loads(name.read_text(encoding="utf-8"))):
            found.add(text.encode())
            try:
                found.add(bytes.fromhex(text))
            except ValueError:
                continue
    return tuple(sorted(found))


def _texts(document: object) -> Iterator[str]:
    if isinstance(document, dict | list):
        values = document.values() if isinstance(document, dict) else document
        for value in values:
            yield from _texts(value)
    elif isinstance(document, str):
        yield document
        if document.startswith("{"):
            yield from _texts(json.loads(document))


@cache
def seeds(name: str) -> tuple[bytes, ...]:
    """Return what a parser starts from: up to 40 of the golden texts that it takes, and its own."""
    parser = PARSERS[name]
    made = list(parser.made)
    if name == "witness request":
        proofs = [b"", b"".join(encode_base64(bytes([n]) * 32).encode() + b"\n" for n in range(3))]
        notes = [one for one in vectors() if attempt(PARSERS["note"], one)][:5]
        made += [b"old 4\n" + proof + b"\n" + note for proof in proofs for note in notes]
    taken = [one for one in vectors() if attempt(parser, one)]
    return tuple(dict.fromkeys([*made, *taken[:40]]))
