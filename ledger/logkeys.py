r"""The keys of a log over its life: which of them must have signed a tree of which size.

A key is good for a range of tree sizes. Every key whose range holds the size of a checkpoint must
have signed it, so a signature line that was taken away proves nothing, and neither does a key that
was stolen after it was retired: it cannot sign a larger tree, and of the size at which it was
retired only the closing checkpoint counts, the last one that it signed. A smaller checkpoint by
a retired key is worth as much as a consistency proof from it to the closing one.

The register is a public file, JSON in UTF-8, two spaces of indentation, a final newline:

    format      "datakluis-log-keys/1"
    keys        array, by first size, within one first size Ed25519 before ML-DSA-44, of
      key         verifier key, C2SP signed-note: type 0x01 or 0x06; its name is the log's origin
      first_size  the smallest tree that it signs, leaves
      last_size   the largest, or null while it is in use
      closing     the three lines of the checkpoint of last_size leaves, or null while in use

No key is in it twice, and no two keys of one algorithm share a size. From size 0 on there is a key
for every size, and keys that were retired at one size have one closing checkpoint. Accepted is only
what would be written. Example, an Ed25519 key that was retired at 2 leaves and its successor:

    {
      "format": "datakluis-log-keys/1",
      "keys": [
        {
          "key": "example.com/log+9be5d3c6+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c",
          "first_size": 0,
          "last_size": 2,
          "closing": "example.com/log\n2\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
        },
        {
          "key": "example.com/log+b07fbc77+AYE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU",
          "first_size": 3,
          "last_size": null,
          "closing": null
        }
      ]
    }

Tested in tests/ledger/test_logkeys.py (PR4, PR6).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Self

from ledger.checkpoint import Checkpoint
from ledger.cosignature import CosignerKey, parse_key
from ledger.errors import BadSignature, Malformed
from ledger.merkle import SIZE_LIMIT
from ledger.note import Note, NoteKey, SignatureType, VerifierKey, verify

FORMAT = "datakluis-log-keys/1"
MAX_REGISTER_BYTES = 1024 * 1024
"""Four hundred rotations of both keys."""


@dataclass(frozen=True, slots=True)
class LogKey:
    """A key of the log and the trees that it signs.

    Attributes:
        key: Ed25519 (note signature) or ML-DSA-44 (cosignature).
        first_size: smallest tree, leaves.
        last_size: largest tree, leaves, or None while it is in use.
        closing: the checkpoint of `last_size` leaves, the last that it signed; None while it is in
            use, or where it is not known.

    Raises:
        ValueError: the range is none, the closing checkpoint is not that of `last_size`, or a log
            signs nothing with such a key.
    """

    key: VerifierKey | CosignerKey
    first_size: int = 0
    last_size: int | None = None
    closing: Checkpoint | None = None

    def __post_init__(self) -> None:
        if self.algorithm not in (SignatureType.ED25519, SignatureType.COSIGNATURE_ML_DSA_44):
            raise ValueError("a log signs nothing with a key of this type")
        last = SIZE_LIMIT - 1 if self.last_size is None else self.last_size
        if not 0 <= self.first_size <= last < SIZE_LIMIT:
            raise ValueError(f"no range of sizes: {self.first_size} to {self.last_size}")
        if self.closing is not None and self.closing.size != self.last_size:
            raise ValueError(f"a closing checkpoint of {self.closing.size} leaves")

    @property
    def algorithm(self) -> SignatureType:
        """The signature type of its lines."""
        return self.key.type if isinstance(self.key, CosignerKey) else SignatureType.ED25519

    def covers(self, size: int) -> bool:
        """Tell whether this key must have signed a tree of `size` leaves."""
        return self.first_size <= size and (self.last_size is None or size <= self.last_size)


@dataclass(frozen=True, slots=True)
class LogKeys:
    """All keys that a log ever signed with.

    Attributes:
        keys: in the order of the register; see this module.

    Raises:
        ValueError: they are not the register of one log.
    """

    keys: tuple[LogKey, ...]

    def __post_init__(self) -> None:
        _require_one_log(self.keys)
        _require_ranges(self.keys)

    @classmethod
    def lone(cls, key: VerifierKey) -> Self:
        """Return the register of a log that has always signed with one Ed25519 key."""
        return cls((LogKey(key),))

    @property
    def current(self) -> tuple[LogKey, ...]:
        """The keys in use."""
        return tuple(one for one in self.keys if one.last_size is None)

    def for_size(self, size: int) -> tuple[NoteKey, ...]:
        """Return the keys that must have signed a tree, Ed25519 first: the order of their lines.

        Args:
            size: leaves, 0 <= size < 2**63.
        """
        found = sorted((one for one in self.keys if one.covers(size)), key=lambda o: o.algorithm)
        return tuple(one.key for one in found)

    def verify(self, note: Note) -> Checkpoint:
        """Return the checkpoint that a note states, signed by every key of its size.

        Raises:
            Malformed: it states none.
            BadSignature: one of these keys did not sign it, or it is not the closing checkpoint
                that there is of its size.
        """
        checkpoint = Checkpoint.parse(note.text)
        for key in self.for_size(checkpoint.size):
            verify(note, key)
        for one in self.keys:
            if one.last_size == checkpoint.size and one.closing != checkpoint:
                raise BadSignature(
                    f"it is not the checkpoint of {checkpoint.size} leaves at which the keys of the"
                    " log were retired"
                )
        return checkpoint

    def succeeded(
        self, closing: Checkpoint, successors: tuple[VerifierKey | CosignerKey, ...]
    ) -> Self:
        """Return the register in which the keys in use are retired and followed by others.

        A key that is to sign larger trees only, and so has signed nothing yet, stays.

        Args:
            closing: the last checkpoint that the retired keys signed.
            successors: sign every larger tree, Ed25519 first.

        Raises:
            ValueError: these are no successors of the keys in use.
        """
        retired = [_retired(one, closing) for one in self.keys]
        added = [LogKey(key, closing.size + 1) for key in successors]
        return type(self)(tuple(sorted(retired + added, key=_place)))

    def continues(self, older: LogKeys) -> bool:
        """Tell whether this register is a later state of another, or the same."""
        here = {(one.key, one.first_size): one for one in self.keys}
        return all(
            found is not None and (one.last_size is None or found == one)
            for one in older.keys
            for found in (here.get((one.key, one.first_size)),)
        )

    def format(self) -> str:
        """Return the text of the register."""
        return (
            json.dumps(
                {"format": FORMAT, "keys": [_document(one) for one in self.keys]},
                indent=2,
                ensure_ascii=False,
            )
            + "\n"
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a register that `format` wrote.

        Raises:
            Malformed: any other bytes.
        """
        if len(data) > MAX_REGISTER_BYTES:
            raise Malformed(f"a register of keys of {len(data)} bytes")
        try:
            keys = cls(tuple(_parse_key(one) for one in json.loads(data)["keys"]))
            is_as_written = keys.format().encode() == data
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Malformed("not a register of the keys of a log") from error
        except Malformed as error:
            raise Malformed(f"not a register of the keys of a log: {error}") from error
        if not is_as_written:
            raise Malformed("not a register of the keys of a log: it would be written otherwise")
        return keys


def _require_one_log(keys: tuple[LogKey, ...]) -> None:
    if not keys:
        raise ValueError("a register without keys")
    names = {one.key.name for one in keys}
    names |= {one.closing.origin for one in keys if one.closing is not None}
    if len(names) != 1:
        raise ValueError("keys of more than one log")
    if len({one.key.key_id for one in keys}) != len(keys):
        raise ValueError("a key, or its key ID, is there twice")
    if list(keys) != sorted(keys, key=_place):
        raise ValueError("keys in another order than by first size and algorithm")


def _require_ranges(keys: tuple[LogKey, ...]) -> None:
    closings: dict[int, Checkpoint] = {}
    for one in keys:
        if one.last_size is None:
            continue
        if one.closing is None or closings.setdefault(one.last_size, one.closing) != one.closing:
            raise ValueError("retired keys without one closing checkpoint")
    # Between these sizes nothing changes.
    for size in {0, *(one.first_size for one in keys), *(size + 1 for size in closings)}:
        algorithms = [one.algorithm for one in keys if one.covers(size)]
        if not algorithms or len(set(algorithms)) != len(algorithms):
            raise ValueError(f"no key, or two of one algorithm, for {size} leaves")


def _place(one: LogKey) -> tuple[int, SignatureType]:
    return one.first_size, one.algorithm


def _retired(one: LogKey, closing: Checkpoint) -> LogKey:
    if one.last_size is not None or one.first_size > closing.size:
        return one
    return replace(one, last_size=closing.size, closing=closing)


def _document(one: LogKey) -> dict[str, object]:
    return {
        "key": str(one.key),
        "first_size": one.first_size,
        "last_size": one.last_size,
        "closing": None if one.closing is None else one.closing.text(),
    }


def _parse_key(document: dict[str, object]) -> LogKey:
    first, last, closing = (document[name] for name in ("first_size", "last_size", "closing"))
    if type(first) is not int or (last is not None and type(last) is not int):
        raise Malformed("a size that is no number")
    key, parsed = document["key"], None
    if not isinstance(key, str) or not isinstance(closing, str | None):
        raise Malformed("a key or a closing checkpoint that is no text")
    if closing is not None:
        parsed = Checkpoint.parse(closing)
    return LogKey(parse_key(key), first, last, parsed)
