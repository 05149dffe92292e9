"""Entries: the fixed binary leaf data of the ledger.

An entry holds no text, no time and no category; the origin's signature on a checkpoint vouches for
it. All integers are big-endian. Format 1 has six kinds, each a head of 24 bytes and what goes
behind it:

    offset  bytes  version         erasure         certificate       shred
    0       1      format, 0x01    format, 0x01    format, 0x01      format, 0x01
    1       1      kind, 0x01      kind, 0x02      kind, 0x03        kind, 0x04
    2       1      suite, 0x01     0x00            0x00              0x00
    3       1      mark and group  group           group             tree, 0x00 or 0x01
    4       16     pointer         pointer         pointer           name of the tenant
    20      4      version         last version    number            generation
    24      32     commitment      (ends here)     SHA-256 of it     (ends here)

    offset  bytes  governance                      listed erasure
    0       1      format, 0x01                    format, 0x01
    1       1      kind, 0x05                      kind, 0x06
    2       1      0x00                            0x00
    3       1      kind of action, 0x01 to 0x08    group
    4       16     zeroes                          pointer
    20      4      sequence                        last version
    24             action, approvals               sequence of the list (4), index of the item (4),
                   (ledger/action.py)              audit path in the list (32 each, at most 32)

    suite       how the commitment was made (ledger/commitment.py)
    group       field group, 0x00 to 0x0f; 0x00 is the core of a record. Each group is erased alone
    mark        0x80 beside group 0x00 of a version: governed: only a listed erasure erases the core
    tree        key tree of the tenant: 0x00 the ordinary one, 0x01 that of permanent records
    version, last version, number, generation, sequence   from 1

A version entry says: this version of this group of the record existed, under this commitment. A
rectification is the next version entry of the same pointer (RE1). An erasure entry says: every
version of this group of the record up to and including this one was erased (ER9), and that of the
core that every group left went with it; the version entries stay in the tree, so their proofs hold.
A certificate entry says: this is the SHA-256 of the file of the certificate of that erasure, and
which of its issues it is, since a certificate is issued anew when its status moves. A shred entry
says: this generation of this key tree was closed, and the root key that opened it destroyed. A
governance entry changes who decides by which rules, or carries out what they decided. A listed
erasure says what an erasure says, and proves that it stands on a list that was decided upon (GO2).

Examples: version 1 of pointer 00112233445566778899aabbccddeeff under the commitment aa…aa, and the
same of a governed record; the first certificate of its erasure, whose file has the digest bb…bb;
the shred of generation 1 of the ordinary key tree of the tenant cc…cc; and its erasure as the only
item of the list that made state 7:

    01 01 01 00 00112233445566778899aabbccddeeff 00000001 aaaa…aaaa
    01 01 01 80 00112233445566778899aabbccddeeff 00000001 aaaa…aaaa
    01 03 00 00 00112233445566778899aabbccddeeff 00000001 bbbb…bbbb
    01 04 00 00 cccccccccccccccccccccccccccccccc 00000001
    01 06 00 00 00112233445566778899aabbccddeeff 00000001 00000007 00000000

Tested in tests/ledger/test_entry.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from ledger.action import Action, ActionKind
from ledger.approval import Approval, encode_body, parse_body
from ledger.errors import Malformed
from ledger.pointer import POINTER_BYTES

ENTRY_FORMAT = 1
COMMITMENT_BYTES = 32
CORE_GROUP = 0
MAX_GROUP = 15
ORDINARY_TREE = 0
PERMANENT_TREE = 1
MAX_VERSION = 2**32 - 1
DIGEST_BYTES = 32
GOVERNANCE_POINTER = bytes(POINTER_BYTES)
"""Under which the log finds its governance entries; a random pointer is never all zeroes."""
MAX_LIST_PATH = 32

_GOVERNED = 0x80
_MARK = 3
_MEMBERSHIP = struct.Struct(">II")
_HEAD = struct.Struct(">BBBB16sI")
_POINTER = slice(4, 4 + POINTER_BYTES)


class EntryKind(IntEnum):
    """What an entry says about its pointer."""

    VERSION = 1
    ERASURE = 2
    CERTIFICATE = 3
    SHRED = 4
    GOVERNANCE = 5
    LISTED_ERASURE = 6


class CommitmentSuite(IntEnum):
    """How a version entry's commitment was made; NONE in entries that commit to nothing."""

    NONE = 0
    SHA256_HMAC = 1


ERASURES = frozenset({EntryKind.ERASURE, EntryKind.LISTED_ERASURE})
"""The kinds that say that a group of a record was erased."""

# What a kind goes with: its suite, its last group or tree, and the bytes behind its head, None
# where their number varies.
_SHAPES = {
    EntryKind.VERSION: (CommitmentSuite.SHA256_HMAC, MAX_GROUP, COMMITMENT_BYTES),
    EntryKind.ERASURE: (CommitmentSuite.NONE, MAX_GROUP, 0),
    EntryKind.CERTIFICATE: (CommitmentSuite.NONE, MAX_GROUP, DIGEST_BYTES),
    EntryKind.SHRED: (CommitmentSuite.NONE, PERMANENT_TREE, 0),
    EntryKind.GOVERNANCE: (CommitmentSuite.NONE, max(ActionKind), None),
    EntryKind.LISTED_ERASURE: (CommitmentSuite.NONE, MAX_GROUP, None),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One leaf of the ledger.

    Attributes:
        kind: what it says.
        pointer: 16 bytes: of the record; for a shred, the name of the tenant; zeroes for a
            governance entry.
        version: 1 to 2^32 - 1: of the record; for an erasure, the last one erased; for a
            certificate, the number of its issue; for a shred, the generation; for a governance
            entry, the sequence of the state that it makes.
        group: field group, 0 to 15; 0 is the core of a record. For a shred, the key tree: 0 the
            ordinary one, 1 the permanent one. For a governance entry, the kind of the action.
        suite: of the commitment; NONE where there is none.
        body: what stands behind the head: the commitment of a version and the SHA-256 of a
            certificate's file, 32 bytes; action and approvals; the place on a list.
        governed: of a version of a core, whether only a listed erasure can erase it.
    """

    kind: EntryKind
    pointer: bytes
    version: int
    group: int
    suite: CommitmentSuite
    body: bytes
    governed: bool = False

    def encode(self) -> bytes:
        """Return the leaf data."""
        group = self.group | (_GOVERNED if self.governed else 0)
        head = _HEAD.pack(ENTRY_FORMAT, self.kind, self.suite, group, self.pointer, self.version)
        return head + self.body


@dataclass(frozen=True, slots=True)
class Membership:
    """That something stands on an enacted list.

    Attributes:
        sequence: of the state that the list's entry made.
        index: of the item, from 0.
        path: RFC 6962 audit path to the list's root.
    """

    sequence: int
    index: int
    path: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the body of a listed erasure."""
        return _MEMBERSHIP.pack(self.sequence, self.index) + b"".join(self.path)


def encode_version(
    pointer: bytes,
    version: int,
    commitment: bytes,
    group: int = CORE_GROUP,
    *,
    governed: bool = False,
) -> bytes:
    """Return the entry of a version of a field group, without building an `Entry`: the hot path.

    Args:
        pointer: 16 bytes, of the record.
        version: 1 to 2^32 - 1.
        commitment: 32 bytes, made for this pointer, version and group.
        group: field group, 0 to 15.
        governed: whether only a listed erasure can erase it; of a core alone.
    """
    return (
        _HEAD.pack(
            ENTRY_FORMAT,
            EntryKind.VERSION,
            CommitmentSuite.SHA256_HMAC,
            group | _GOVERNED if governed else group,
            pointer,
            version,
        )
        + commitment
    )


def governed(entry: bytes) -> bytes:
    """Return the entry of a version of a core with the governed mark: the hot path."""
    return entry[:_MARK] + bytes([_GOVERNED | CORE_GROUP]) + entry[_MARK + 1 :]


def encode_erasure(pointer: bytes, last_version: int, group: int = CORE_GROUP) -> bytes:
    """Return the entry of the erasure of a field group, up to and including a version."""
    return _encode_bare(EntryKind.ERASURE, group, pointer, last_version)


def encode_certificate(
    pointer: bytes, number: int, digest: bytes, group: int = CORE_GROUP
) -> bytes:
    """Return the entry of a certificate of erasure.

    Args:
        pointer: 16 bytes, of the record that was erased.
        number: of this issue of the certificate, from 1; 1 to 2^32 - 1.
        digest: 32 bytes, SHA-256 of the certificate's file.
        group: field group that was erased, 0 to 15.
    """
    return _encode_bare(EntryKind.CERTIFICATE, group, pointer, number) + digest


def encode_shred(tenant: bytes, tree: int, generation: int) -> bytes:
    """Return the entry of a generation of a key tree that was closed and destroyed.

    Args:
        tenant: 16 bytes that name the tenant; derived from nothing about it.
        tree: 0 the ordinary key tree, 1 that of permanent records.
        generation: from 1; 1 to 2^32 - 1.
    """
    return _encode_bare(EntryKind.SHRED, tree, tenant, generation)


def encode_governance(sequence: int, action: Action, approvals: Iterable[Approval]) -> bytes:
    """Return the entry of an action of governance.

    Args:
        sequence: of the state that it makes, from 1.
        action: what is done.
        approvals: of those who decided it, in any order.
    """
    head = _encode_bare(EntryKind.GOVERNANCE, action.kind, GOVERNANCE_POINTER, sequence)
    return head + encode_body(action, approvals)


def encode_listed_erasure(
    pointer: bytes, last_version: int, membership: Membership, group: int = CORE_GROUP
) -> bytes:
    """Return the entry of an erasure that stands on an enacted list."""
    head = _encode_bare(EntryKind.LISTED_ERASURE, group, pointer, last_version)
    return head + membership.encode()


def parse_membership(body: bytes) -> Membership:
    """Return the place on a list in the body of a listed erasure.

    Raises:
        Malformed: bytes that `Membership.encode` would not have written.
    """
    path = body[_MEMBERSHIP.size :]
    if len(body) < _MEMBERSHIP.size or len(path) % 32 or len(path) > MAX_LIST_PATH * 32:
        raise Malformed(f"a place on a list of {len(body)} bytes")
    sequence, index = _MEMBERSHIP.unpack_from(body)
    if sequence < 1:
        raise Malformed("a place on list 0; lists count from 1")
    return Membership(
        sequence, index, tuple(path[start : start + 32] for start in range(0, len(path), 32))
    )


def is_governance(entry: bytes) -> bool:
    """Tell whether leaf data that this module wrote is a governance entry."""
    return entry[1] == EntryKind.GOVERNANCE


def pointer_of(entry: bytes) -> bytes:
    """Return the pointer of leaf data that this module wrote, without checking the rest."""
    return entry[_POINTER]


def parse_entry(data: bytes) -> Entry:
    """Return the entry that `data` encodes.

    Raises:
        Malformed: bytes that `Entry.encode` would not have written for a valid entry.
    """
    if len(data) < _HEAD.size:
        raise Malformed(f"entry of {len(data)} bytes, at least {_HEAD.size} needed")
    form, kind, suite, group, pointer, version = _HEAD.unpack_from(data)
    if form != ENTRY_FORMAT:
        raise Malformed(f"entry format {form}, this version knows {ENTRY_FORMAT}")
    governed = kind == EntryKind.VERSION and group == _GOVERNED | CORE_GROUP
    group = CORE_GROUP if governed else group
    expected_suite, last_group, expected = _SHAPES.get(kind, (None, 0, 0))
    if suite != expected_suite:
        raise Malformed(f"entry of kind {kind} under suite {suite} is unknown")
    if group > last_group:
        raise Malformed(f"entry of kind {kind} for group {group}, the last one is {last_group}")
    if version < 1:
        raise Malformed("entry of version 0; versions start at 1")
    body = data[_HEAD.size :]
    if expected is not None and len(body) != expected:
        raise Malformed(f"entry of kind {kind} with {len(body)} bytes where {expected} go")
    if kind == EntryKind.GOVERNANCE:
        _check_governance(pointer, group, body)
    elif kind == EntryKind.LISTED_ERASURE:
        parse_membership(body)
    return Entry(EntryKind(kind), pointer, version, group, CommitmentSuite(suite), body, governed)


def _check_governance(pointer: bytes, kind: int, body: bytes) -> None:
    if pointer != GOVERNANCE_POINTER:
        raise Malformed("a governance entry under the pointer of a record")
    parse_body(kind, body)


def _encode_bare(kind: EntryKind, group: int, pointer: bytes, version: int) -> bytes:
    return _HEAD.pack(ENTRY_FORMAT, kind, CommitmentSuite.NONE, group, pointer, version)
