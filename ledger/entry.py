"""Entries: the fixed binary leaf data of the ledger.

An entry holds no text, no time and no category; the origin's signature on a checkpoint vouches for
it. All integers are big-endian. Format 1 has two kinds:

    offset  bytes  version entry                      erasure entry
    0       1      format, 0x01                       format, 0x01
    1       1      kind, 0x01                         kind, 0x02
    2       1      commitment suite, 0x01             0x00
    3       1      field group, 0x00 the core         field group, 0x00 the core
    4       16     pointer                            pointer
    20      4      version, from 1                    last version erased, from 1
    24      32     commitment                         (ends here: 24 bytes)
    56             (ends here: 56 bytes)

A version entry says: this version of this record existed, under this commitment. A rectification is
the next version entry of the same pointer (RE1). An erasure entry says: every version of the record
up to and including this one was erased (ER9); the version entries stay in the tree, so their proofs
hold.

Example, version 1 of pointer 00112233445566778899aabbccddeeff under the commitment aa…aa:

    01 01 01 00 00112233445566778899aabbccddeeff 00000001 aaaa…aaaa

Tested in tests/ledger/test_entry.py.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from ledger.errors import Malformed
from ledger.pointer import POINTER_BYTES

ENTRY_FORMAT = 1
COMMITMENT_BYTES = 32
CORE_GROUP = 0
MAX_VERSION = 2**32 - 1

_HEAD = struct.Struct(">BBBB16sI")
_POINTER = slice(4, 4 + POINTER_BYTES)


class EntryKind(IntEnum):
    """What an entry says about its pointer."""

    VERSION = 1
    ERASURE = 2


class CommitmentSuite(IntEnum):
    """How a version entry's commitment was made; NONE in entries that commit to nothing."""

    NONE = 0
    SHA256_HMAC = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One leaf of the ledger.

    Attributes:
        kind: what it says.
        pointer: 16 bytes.
        version: 1 to 2^32 - 1.
        group: field group, 0 to 255; 0 is the core of a record.
        suite: of the commitment; NONE for an erasure.
        commitment: 32 bytes; empty for an erasure.
    """

    kind: EntryKind
    pointer: bytes
    version: int
    group: int
    suite: CommitmentSuite
    commitment: bytes

    def encode(self) -> bytes:
        """Return the leaf data."""
        head = _HEAD.pack(
            ENTRY_FORMAT, self.kind, self.suite, self.group, self.pointer, self.version
        )
        return head + self.commitment


def encode_version(pointer: bytes, version: int, commitment: bytes) -> bytes:
    """Return the version entry of a record's core, without building an `Entry`: the hot path."""
    return (
        _HEAD.pack(
            ENTRY_FORMAT,
            EntryKind.VERSION,
            CommitmentSuite.SHA256_HMAC,
            CORE_GROUP,
            pointer,
            version,
        )
        + commitment
    )


def encode_erasure(pointer: bytes, last_version: int) -> bytes:
    """Return the erasure entry of a record's core."""
    return _HEAD.pack(
        ENTRY_FORMAT,
        EntryKind.ERASURE,
        CommitmentSuite.NONE,
        CORE_GROUP,
        pointer,
        last_version,
    )


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
    if group != CORE_GROUP:
        raise Malformed(f"field group {group} in an entry, this version knows {CORE_GROUP}")
    if version < 1:
        raise Malformed("entry of version 0; versions start at 1")
    commitment = data[_HEAD.size :]
    expected = {
        (EntryKind.VERSION, CommitmentSuite.SHA256_HMAC): COMMITMENT_BYTES,
        (EntryKind.ERASURE, CommitmentSuite.NONE): 0,
    }.get((kind, suite))
    if expected is None:
        raise Malformed(f"entry of kind {kind} under suite {suite} is unknown")
    if len(commitment) != expected:
        raise Malformed(f"entry of kind {kind} with {len(commitment)} bytes where {expected} go")
    return Entry(EntryKind(kind), pointer, version, group, CommitmentSuite(suite), commitment)
