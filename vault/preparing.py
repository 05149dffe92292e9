"""Preparing records: everything about a new record that needs no lock.

Keys, blob, commitment and entry depend on nothing that the writer lock protects. Under the lock a
prepared record only gets its slot, its row numbers and its row tag (vault/writing.py).
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ledger.entry import encode_version
from ledger.pointer import POINTER_BYTES
from policy import InvalidPolicy, RecordCategory, Waardering, archiefactiedatum, retention_rule
from vault.cipher import NONCE_BYTES, SLOT_KEY_BYTES, RecordKeys, derive_record_keys
from vault.core import Core
from vault.errors import InvalidInput
from vault.groups import NewPart, make_parts
from vault.rootkeys.provider import TreeNumber
from vault.subjects import encode_subject

MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
_RANDOM_BYTES = POINTER_BYTES + SLOT_KEY_BYTES + NONCE_BYTES


@dataclass(frozen=True, slots=True)
class NewRecord:
    """One record to store.

    Attributes:
        payload: at most 8 MiB, kept byte for byte.
        subject: whom it is about: any text of 1 to 256 bytes in UTF-8.
        brondatum: the day on which its retention term starts, or None while that is unknown.
        record_date: the day on which it was made or received; None means today (ST2).
        groups: its optional field groups by name, each at most 8 MiB; None for none (ER5).
    """

    payload: bytes = field(repr=False)
    subject: str = field(repr=False)
    brondatum: dt.date | None = None
    record_date: dt.date | None = None
    groups: Mapping[str, bytes] | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """How many bytes it holds, with its field groups."""
        size = len(self.payload)
        return size + sum(map(len, self.groups.values())) if self.groups else size


class PreparedRecord(NamedTuple):
    """A record that only waits for the writer lock. Its repr shows no key."""

    pointer: bytes
    slot_key: bytes
    keys: RecordKeys
    body: bytes
    entry: bytes
    subject: bytes
    category: str
    retention: str | None
    record_date: str
    brondatum: str | None
    tree: TreeNumber
    parts: tuple[NewPart, ...] = ()

    def __repr__(self) -> str:
        return "PreparedRecord(…)"


class Preparer:
    """Prepares records of one category; holds what is the same for each.

    Args:
        core: of the open vault.
        category: of the records.
    """

    def __init__(self, core: Core, category: RecordCategory) -> None:
        self._core = core
        self._category = category
        self._duties: dict[tuple[dt.date, dt.date | None], tuple[str | None, TreeNumber]] = {}

    def prepare(self, batch: Sequence[NewRecord]) -> list[PreparedRecord]:
        """Return the prepared records of a batch.

        Raises:
            InvalidInput: a payload or subject is out of bounds, or the category lacks a group.
            ListNotCarried: a record's date calls for a selection list that is not carried.
        """
        # One read of the operating system's randomness for the batch; it is used up here.
        randomness = os.urandom(_RANDOM_BYTES * len(batch))
        today = self._core.clock.today()
        return [
            self._prepare(record, today, randomness[start : start + _RANDOM_BYTES])
            for record, start in zip(batch, range(0, len(randomness), _RANDOM_BYTES), strict=True)
        ]

    def _prepare(self, record: NewRecord, today: dt.date, randomness: bytes) -> PreparedRecord:
        payload = record.payload
        check_payload(payload)
        record_date = record.record_date or today
        dates = (record_date, record.brondatum)
        if dates not in self._duties:
            self._duties[dates] = _duty(self._category, *dates)
        retention, tree = self._duties[dates]
        pointer = randomness[:POINTER_BYTES]
        slot_key = randomness[POINTER_BYTES:-NONCE_BYTES]
        keys = derive_record_keys(slot_key)
        body = self._core.cipher.seal(keys, pointer, 1, payload, randomness[-NONCE_BYTES:])
        commitment = self._core.committer.commit(keys.commitment, pointer, 1, payload)
        parts: tuple[NewPart, ...] = ()
        if record.groups:
            parts = checked_parts(self._core, self._category, pointer, 1, record.groups)
        return PreparedRecord(
            pointer,
            slot_key,
            keys,
            body,
            encode_version(pointer, 1, commitment),
            encode_subject(record.subject),
            self._category.name,
            retention,
            record_date.isoformat(),
            record.brondatum.isoformat() if record.brondatum else None,
            tree,
            parts,
        )


def check_payload(payload: bytes) -> None:
    """Raise InvalidInput for a payload over the limit."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise InvalidInput(f"a payload has at most {MAX_PAYLOAD_BYTES} bytes; this one has more")


def checked_parts(
    core: Core,
    category: RecordCategory,
    pointer: bytes,
    version: int,
    groups: Mapping[str, bytes] | None,
) -> tuple[NewPart, ...]:
    """Return the sealed field groups that come with a version.

    Raises:
        InvalidInput: one is over the limit, or the category has no such group.
    """
    if not groups:
        return ()
    for content in groups.values():
        check_payload(content)
    return make_parts(core, category, pointer, version, groups)


def _duty(
    category: RecordCategory, record_date: dt.date, brondatum: dt.date | None
) -> tuple[str | None, TreeNumber]:
    """Return the rule by which a record must be kept, as it is stored, and the tree for its keys.

    Rows: ST1, ST2, ST3; ST6 for the tree.

    Refuses what no decision could be made about later.
    """
    if isinstance(record_date, dt.datetime) or isinstance(brondatum, dt.datetime):
        raise InvalidInput("record_date and brondatum are days, without a time")
    rule = retention_rule(category, record_date)
    if rule is None:
        return None, TreeNumber.ORDINARY
    try:
        archiefactiedatum(brondatum, rule.result)
    except InvalidPolicy as error:
        raise InvalidInput(f"brondatum: {error}") from None
    permanent = rule.result.waardering is Waardering.BLIJVEND_BEWAREN
    return str(rule), TreeNumber.PERMANENT if permanent else TreeNumber.ORDINARY
