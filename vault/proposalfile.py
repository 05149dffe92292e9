"""Files by which somebody approves without a vault: a proposal that goes out, an approval back.

Both are strict JSON (anchor/strictjson.py) with one spelling. A proposal, "datakluis-proposal/1":

    format      "datakluis-proposal/1"
    origin      of the ledger
    sequence    of the state that the action would make
    kind        of the action, as `ledger.action.ActionKind` names it, in lower case
    parameters  of the action (ledger/action.py), lower-case hex
    expiry      the index by which an approval of this file expires
    items       of a list, each its pointer, a slash and the field group; none for other actions.
                They give the root that stands in the parameters, or the file is refused

An approval, "datakluis-approval/1":

    format      "datakluis-approval/1"
    origin, sequence, digest   of the action, as they were signed; for people to compare
    approval    104 bytes (ledger/approval.py), lower-case hex

Neither holds a secret. Whoever signs sees what is signed, not what the file calls it: the words are
made from the parameters. Tested in tests/vault/test_proposal_files.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from anchor.errors import BadFile
from anchor.strictjson import JsonObject, hex_bytes, read_json, text, texts, write_json
from ledger.action import Action, ActionKind, EnactList, action_digest, parse_action
from ledger.approval import Approval
from ledger.errors import LedgerError
from ledger.note import is_key_name
from ledger.pointer import format_pointer, parse_pointer
from vault.listing import Item, ItemTree
from vault.rolekeys import RoleKey

PROPOSAL_FORMAT = "datakluis-proposal/1"
APPROVAL_FORMAT = "datakluis-approval/1"
MAX_PROPOSAL_BYTES = 64 * 1024 * 1024
MAX_APPROVAL_BYTES = 4_096
_PROPOSAL = "the proposal file"
_APPROVAL = "the approval file"
_SIZE_LIMIT = 2**63
_SEQUENCE_LIMIT = 2**32
_MAX_ORIGIN_BYTES = 2**16 - 1


@dataclass(frozen=True, slots=True)
class ProposalFile:
    """A proposal as it goes to somebody who has no vault.

    Attributes:
        origin: of the ledger.
        sequence: of the state that the action would make, from 1.
        action: what is proposed.
        expiry: by which index an approval expires.
        items: of a list; none for another action.
    """

    origin: str
    sequence: int
    action: Action
    expiry: int
    items: tuple[Item, ...] = ()

    def format(self) -> bytes:
        """Return the file's bytes."""
        return write_json(
            {
                "format": PROPOSAL_FORMAT,
                "origin": self.origin,
                "sequence": self.sequence,
                "kind": self.action.kind.name.lower(),
                "parameters": self.action.parameters().hex(),
                "expiry": self.expiry,
                "items": [f"{format_pointer(item.pointer)}/{item.group}" for item in self.items],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> ProposalFile:
        """Return the proposal in a file.

        Raises:
            BadFile: `format` would not have written it.
        """
        document = read_json(data, _PROPOSAL, MAX_PROPOSAL_BYTES)
        try:
            kind = ActionKind[text(document, "kind", _PROPOSAL).upper()]
            action = parse_action(kind, hex_bytes(document, "parameters", _PROPOSAL))
            items = tuple(map(_item, texts(document, "items", _PROPOSAL)))
            proposal = cls(
                text(document, "origin", _PROPOSAL),
                _number(document, "sequence", _PROPOSAL, _SEQUENCE_LIMIT),
                action,
                _number(document, "expiry", _PROPOSAL),
                items,
            )
            is_same = proposal.format() == data
        except (KeyError, LedgerError, ValueError) as error:
            raise BadFile(f"{_PROPOSAL} does not hold what it should") from error
        if not is_same:
            raise BadFile(f"{_PROPOSAL} is not written as this software writes it")
        if not is_key_name(proposal.origin) or len(proposal.origin.encode()) > _MAX_ORIGIN_BYTES:
            raise BadFile(f"{_PROPOSAL} is of a ledger that there cannot be")
        _check_items(action, items)
        return proposal

    def sign(self, key: RoleKey) -> ApprovalFile:
        """Return an approval of exactly this."""
        approval = key.approve(self.origin, self.sequence, self.action, self.expiry)
        return ApprovalFile(self.origin, self.sequence, action_digest(self.action), approval)


@dataclass(frozen=True, slots=True)
class ApprovalFile:
    """An approval as it comes back.

    Attributes:
        origin: of the ledger.
        sequence: of the state that the action would make.
        digest: of the action, 32 bytes.
        approval: signed over these.
    """

    origin: str
    sequence: int
    digest: bytes
    approval: Approval

    def format(self) -> bytes:
        """Return the file's bytes."""
        return write_json(
            {
                "format": APPROVAL_FORMAT,
                "origin": self.origin,
                "sequence": self.sequence,
                "digest": self.digest.hex(),
                "approval": self.approval.encode().hex(),
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> ApprovalFile:
        """Return the approval in a file; it is not verified.

        Raises:
            BadFile: `format` would not have written it.
        """
        document = read_json(data, _APPROVAL, MAX_APPROVAL_BYTES)
        try:
            approval = cls(
                text(document, "origin", _APPROVAL),
                _number(document, "sequence", _APPROVAL, _SEQUENCE_LIMIT),
                hex_bytes(document, "digest", _APPROVAL),
                Approval.parse(hex_bytes(document, "approval", _APPROVAL)),
            )
            is_same = approval.format() == data
        except (LedgerError, ValueError) as error:
            raise BadFile(f"{_APPROVAL} does not hold what it should") from error
        if not is_same:
            raise BadFile(f"{_APPROVAL} is not written as this software writes it")
        return approval


def _item(written: str) -> Item:
    pointer, _, group = written.partition("/")
    return Item(parse_pointer(pointer), int(group))


def _number(document: JsonObject, key: str, what: str, limit: int = _SIZE_LIMIT) -> int:
    value = document.get(key)
    if type(value) is not int or not 1 <= value < limit:
        raise BadFile(f"{what} lacks the number {key!r}")
    return value


def _check_items(action: Action, items: tuple[Item, ...]) -> None:
    if isinstance(action, EnactList):
        if any(not 0 <= item.group <= 15 for item in items):
            raise BadFile(f"{_PROPOSAL} lists a field group that there cannot be")
        tree = ItemTree(items)
        if (tree.root, tree.count) != (action.root, action.count):
            raise BadFile(f"{_PROPOSAL} lists other items than it would enact")
    elif items:
        raise BadFile(f"{_PROPOSAL} has items without a list")
