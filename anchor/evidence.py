"""Evidence: one JSON file from which anyone can verify that an entry is in the ledger.

Format "datakluis-evidence/1", schema in anchor/schemas/evidence-1.schema.json. Members, in this
order:

    format     "datakluis-evidence/1"
    entry      the leaf data (ledger/entry.py), lower-case hex
    groups     1 to 64, one object per checkpoint that is proven, the smallest tree first, each with
        proof      a C2SP tlog-proof text: leaf index, audit path, signed checkpoint; the log's own
                   signature lines first, then those of witnesses
        statement  the anchor statement about that checkpoint (anchor/statement.py)
        anchors    objects with `target` ("local") and `receipt` (anchor/receipt.py), none or one
        consistency
                   only where the checkpoint is of a closed range of the log's keys: the RFC 6962
                   consistency proof from it to the closing checkpoint, base64, 1 to 64 hashes
    opening    only when the payload of a version entry is disclosed, an object with
        commitment_key   K_commit, 32 bytes, lower-case hex
        payload          the payload, base64 (RFC 4648 section 4)
    state      only with a governance entry or a listed erasure: the governance entries before it,
               from the founding one on, so that its authorisation can be judged; objects with
        entry      the leaf data, lower-case hex
        proof      the lines of a C2SP tlog-proof down to its empty line. The checkpoint that goes
                   behind that is the first group's, byte for byte

The file is written as anchor/strictjson.py says and has one spelling. No digest stands in it: all
are recomputed. No member only informs: each byte is checked against another or under a signature.
Whoever holds a file with an opening can confirm the payload for ever, also after the record was
erased. Tested in tests/anchor/test_evidence.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from anchor.errors import AnchorError, BadFile
from anchor.receipt import LOCAL_NAME, LocalReceipt
from anchor.statement import AnchorStatement
from anchor.strictjson import (
    JsonObject,
    hex_bytes,
    objects,
    read_json,
    text,
    texts,
    write_json,
)
from ledger.checkpoint import Checkpoint
from ledger.commitment import COMMITMENT_KEY_BYTES
from ledger.entry import Entry, EntryKind, parse_entry
from ledger.errors import LedgerError
from ledger.merkle import HASH_SIZE
from ledger.note import decode_base64, encode_base64
from ledger.tlogproof import LogProof

FORMAT = "datakluis-evidence/1"
MAX_BYTES = 16 * 1024 * 1024
MAX_GROUPS = 64
MAX_CONSISTENCY_HASHES = 64
"""Hashes of the longest consistency proof in a tree of fewer than 2**63 leaves."""
GOVERNED_KINDS = frozenset({EntryKind.GOVERNANCE, EntryKind.LISTED_ERASURE})
"""Entries that governance must have decided."""
_WHAT = "the evidence file"


@dataclass(frozen=True, slots=True)
class Opening:
    """What opens a commitment. Its repr shows neither key nor payload.

    Attributes:
        commitment_key: 32 bytes.
        payload: the payload, byte for byte.
    """

    commitment_key: bytes
    payload: bytes

    def __repr__(self) -> str:
        return "Opening(…)"


@dataclass(frozen=True, slots=True)
class Group:
    """The proof against one checkpoint, and who vouches for that.

    Attributes:
        proof: leaf index, audit path and signed checkpoint.
        statement: about that checkpoint.
        receipts: of the local anchor, none or one.
        consistency: hashes of 32 bytes that lead from that checkpoint to the closing one of its
            range of log keys; none where the range is open or this is the closing one.
    """

    proof: LogProof
    statement: AnchorStatement
    receipts: tuple[LocalReceipt, ...]
    consistency: tuple[bytes, ...] = ()

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint that the proof leads to."""
        return Checkpoint.parse(self.proof.checkpoint.text)


@dataclass(frozen=True, slots=True)
class StateEntry:
    """A governance entry before the one that the evidence is about.

    Attributes:
        entry: the leaf.
        proof: to the checkpoint of the first group.
    """

    entry: Entry
    proof: LogProof


@dataclass(frozen=True, slots=True)
class Evidence:
    """One evidence file.

    Attributes:
        entry: the leaf.
        groups: 1 to 64, all of one log, the smallest tree first.
        opening: None unless the payload is disclosed.
        state: governance entries in the order of the log, from the founding one on; none unless
            the entry is one that governance must have decided.
    """

    entry: Entry
    groups: tuple[Group, ...]
    opening: Opening | None = None
    state: tuple[StateEntry, ...] = ()

    @property
    def origin(self) -> str:
        """The log that the evidence is of."""
        return self.groups[0].checkpoint().origin

    def format(self) -> bytes:
        """Return the file."""
        document: dict[str, object] = {
            "format": FORMAT,
            "entry": self.entry.encode().hex(),
            "groups": [_group_document(group) for group in self.groups],
        }
        if self.opening is not None:
            document["opening"] = {
                "commitment_key": self.opening.commitment_key.hex(),
                "payload": encode_base64(self.opening.payload),
            }
        if self.state:
            document["state"] = [
                {"entry": one.entry.encode().hex(), "proof": _head_of(one.proof)}
                for one in self.state
            ]
        return write_json(document)

    @classmethod
    def parse(cls, data: bytes) -> Evidence:
        """Return the evidence in a file. Nothing is verified.

        Raises:
            BadFile: any bytes that `format` would not have written.
        """
        document = read_json(data, _WHAT, MAX_BYTES)
        if document.get("format") != FORMAT:
            raise BadFile(
                f"{_WHAT} has another format than {FORMAT!r}: bring what 'kluis prove' wrote"
            )
        try:
            entry = parse_entry(hex_bytes(document, "entry", _WHAT))
            groups = tuple(_parse_group(one) for one in objects(document, "groups", _WHAT))
            if not 1 <= len(groups) <= MAX_GROUPS:
                raise BadFile(f"{_WHAT} has {len(groups)} groups, not 1 to {MAX_GROUPS}")
            opening = _parse_opening(document, entry)
            evidence = cls(entry, groups, opening, _parse_state(document, entry, groups[0]))
        except (LedgerError, UnicodeEncodeError) as cause:
            raise BadFile(f"{_WHAT} does not hold what it should: {cause}") from cause
        if len({group.checkpoint().origin for group in groups}) != 1:
            raise BadFile(f"{_WHAT} mixes the checkpoints of several logs")
        sizes = [group.checkpoint().size for group in groups]
        if sizes != sorted(set(sizes)):
            raise BadFile(f"{_WHAT} has groups that are not in the order of their checkpoints")
        if evidence.format() != data:
            raise BadFile(
                f"{_WHAT} is not as this software writes it: unknown or reordered members"
            )
        return evidence


def _group_document(group: Group) -> JsonObject:
    document: dict[str, object] = {
        "proof": group.proof.format(),
        "statement": group.statement.format(),
        "anchors": [
            {"target": LOCAL_NAME, "receipt": receipt.format()} for receipt in group.receipts
        ],
    }
    if group.consistency:
        document["consistency"] = list(map(encode_base64, group.consistency))
    return document


def _parse_group(document: JsonObject) -> Group:
    proof = LogProof.parse(text(document, "proof", _WHAT).encode())
    Checkpoint.parse(proof.checkpoint.text)
    receipts = []
    for anchor in objects(document, "anchors", _WHAT):
        if anchor.get("target") != LOCAL_NAME:
            raise BadFile(f"{_WHAT} has an anchor of an unknown kind")
        receipts.append(LocalReceipt.parse(text(anchor, "receipt", _WHAT)))
    if len(receipts) > 1:
        raise BadFile(f"{_WHAT} has two anchors of one kind for one checkpoint")
    statement = AnchorStatement.parse(text(document, "statement", _WHAT))
    consistency = parse_hashes(document, _WHAT) if "consistency" in document else ()
    return Group(proof, statement, tuple(receipts), consistency)


def parse_hashes(document: JsonObject, what: str, key: str = "consistency") -> tuple[bytes, ...]:
    """Return a consistency proof: 1 to 64 hashes in base64.

    Raises:
        BadFile, Malformed: it holds anything else.
    """
    hashes = tuple(map(decode_base64, texts(document, key, what)))
    if not 1 <= len(hashes) <= MAX_CONSISTENCY_HASHES:
        raise BadFile(f"{what} has a consistency proof of {len(hashes)} hashes")
    if any(len(value) != HASH_SIZE for value in hashes):
        raise BadFile(f"{what} has a hash in {key!r} that is not {HASH_SIZE} bytes")
    return hashes


def _head_of(proof: LogProof) -> str:
    return proof.format().partition("\n\n")[0] + "\n"


def _parse_state(document: JsonObject, entry: Entry, first: Group) -> tuple[StateEntry, ...]:
    if "state" not in document:
        return ()
    if entry.kind not in GOVERNED_KINDS:
        raise BadFile(f"{_WHAT} has a state of governance where none can be")
    note = first.proof.checkpoint.format()
    found = []
    for one in objects(document, "state", _WHAT):
        data = hex_bytes(one, "entry", _WHAT)
        proof = LogProof.parse(f"{text(one, 'proof', _WHAT)}\n{note}".encode())
        found.append(StateEntry(parse_entry(data), proof))
    return tuple(found)


def _parse_opening(document: JsonObject, entry: Entry) -> Opening | None:
    if "opening" not in document:
        return None
    opening = document["opening"]
    if not isinstance(opening, dict) or entry.kind is not EntryKind.VERSION:
        raise BadFile(f"{_WHAT} has an opening where none can be")
    key = hex_bytes(opening, "commitment_key", _WHAT)
    if len(key) != COMMITMENT_KEY_BYTES:
        raise BadFile(f"the commitment key in {_WHAT} has {len(key)} bytes")
    return Opening(key, decode_base64(text(opening, "payload", _WHAT)))


__all__ = ["FORMAT", "AnchorError", "Evidence", "Group", "Opening"]
