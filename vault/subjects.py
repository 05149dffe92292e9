"""The subject index: finds all records of a person without storing who that is (PR2, PR5).

Subjects are spread over N buckets, 128 on average and at least 64 expected in each once there are
so many:

    h = first 8 bytes of SHA-256(subject in UTF-8), big-endian
    bucket = h mod 2^k if that is below N, else h mod 2^(k-1), where 2^(k-1) < N <= 2^k

N starts at 1 and grows by one when there are more than 128 subjects per bucket: bucket N - 2^(k-1)
is split in two (linear hashing, Litwin 1980), so N doubles without ever stopping the house. Each
bucket has a key of 32 bytes in a slot of the key tree, from which

    K_tag || K_seal = HKDF-Expand(bucket key, "datakluis/subject/1", 64 bytes)
    tag    = first 16 bytes of HMAC-SHA-256(K_tag, subject)
    sealed = nonce, 12 random bytes || AES-256-GCM(K_seal, nonce, subject) || tag, 16 bytes;
             associated data = format 0x01 || bucket number, 8 || row number, 8, big-endian

When a subject's last record goes, its row goes, its bucket gets a new key in a new slot, the old
slot is erased, and the others of the bucket are indexed anew. So an old copy of the index confirms
nobody who was erased, with any key that still lives. Tested in tests/vault/test_subjects.py.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from sqlalchemy import Connection

from ledger.driver import run, run_many
from vault.errors import Damaged, InvalidInput
from vault.keynode import KEY_BYTES
from vault.keytree import TreeEdit

MAX_SUBJECT_BYTES = 256
SUBJECTS_PER_BUCKET = 128
_LABEL = b"datakluis/subject/1"
_TAG_BYTES = 16
_NONCE_BYTES = 12
_FORMAT = b"\x01"
_SHA256 = hashes.SHA256()
# SQLite takes at most 999 parameters in old builds.
_QUERY_PARAMETERS = 500

ReadKey = Callable[[int], bytes]  # slot -> the key in it


def encode_subject(subject: str) -> bytes:
    """Return an identifier's bytes.

    Raises:
        InvalidInput: empty, longer than 256 bytes in UTF-8, or not encodable. It is not repeated.
    """
    try:
        encoded = subject.encode()
    except UnicodeEncodeError:
        raise InvalidInput("the subject is not valid Unicode text") from None
    if not 1 <= len(encoded) <= MAX_SUBJECT_BYTES:
        raise InvalidInput(f"a subject is 1 to {MAX_SUBJECT_BYTES} bytes, this has {len(encoded)}")
    return encoded


def bucket_of(subject: bytes, buckets: int) -> int:
    """Return the number of the bucket in which a subject lies.

    Args:
        subject: its bytes.
        buckets: N, at least 1.
    """
    spread = int.from_bytes(hashlib.sha256(subject).digest()[:8], "big")
    bits = (buckets - 1).bit_length()
    number = spread & ((1 << bits) - 1)
    return number if number < buckets else spread & ((1 << (bits - 1)) - 1)


class BucketKeys:
    """What a bucket's key is expanded to, ready for use. Its repr shows no key.

    Args:
        number: of the bucket.
        tag: K_tag, 32 bytes.
        seal: K_seal, 32 bytes.
    """

    __slots__ = ("_aead", "_associated", "_mac", "number")

    def __init__(self, number: int, tag: bytes, seal: bytes) -> None:
        self.number = number
        # Keying a cipher costs more than a subject takes, so it is done once for a bucket.
        self._mac = HMAC(tag, _SHA256)
        self._aead = AESGCM(seal)
        self._associated = _FORMAT + number.to_bytes(8, "big")

    def __repr__(self) -> str:
        return f"BucketKeys({self.number})"

    @classmethod
    def derive(cls, number: int, key: bytes) -> BucketKeys:
        """Expand the 32 bytes of a bucket's slot."""
        okm = HKDFExpand(_SHA256, 64, _LABEL).derive(key)
        return cls(number, okm[:32], okm[32:])

    def tag_of(self, subject: bytes) -> bytes:
        """Return the 16 bytes under which a subject is found."""
        mac = self._mac.copy()
        mac.update(subject)
        return mac.finalize()[:_TAG_BYTES]

    def seal_subject(self, row: int, subject: bytes, nonce: bytes) -> bytes:
        """Return the sealed form of a subject, which re-indexing opens again.

        Args:
            row: the number of its row, to which records refer.
            subject: its bytes.
            nonce: 12 fresh random bytes.
        """
        return nonce + self._aead.encrypt(nonce, subject, self._associated + row.to_bytes(8, "big"))

    def open_subject(self, row: int, sealed: bytes) -> bytes:
        """Return the subject.

        Raises:
            Damaged: it was not sealed for this bucket and row.
        """
        nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._aead.decrypt(nonce, body, self._associated + row.to_bytes(8, "big"))
        except (InvalidTag, ValueError, OverflowError):
            raise Damaged(f"subject row {row} in bucket {self.number} does not open") from None


class BucketCache:
    """Keys of buckets, for one state of the key tree alone: erased keys go with their state."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._label = (0, 0)
        self._keys: dict[int, BucketKeys] = {}

    def keys(self, label: tuple[int, int]) -> dict[int, BucketKeys]:
        """Return the keys by slot for a state of the tree; whoever reads more of them adds them."""
        with self._lock:
            if label > self._label:
                self._label, self._keys = label, {}
            # A reader in an older snapshot goes without the cache.
            return self._keys if label == self._label else {}

    def clear(self) -> None:
        """Forget all keys; those of erased buckets are among them."""
        with self._lock:
            self._label, self._keys = (0, 0), {}

    def adopt(self, before: tuple[int, int], index: SubjectIndex) -> None:
        """Follow a change of the tree that this process has committed."""
        with self._lock:
            if before == self._label:
                self._label = (before[0], before[1] + 1)
                # A new one, so that a reader of the older state cannot put an erased key back.
                self._keys = self._keys | index.made
                for slot in index.erased:
                    self._keys.pop(slot, None)


class SubjectIndex:
    """The index as one transaction sees it.

    Args:
        connection: with a transaction open.
        read_key: returns the key in a slot, as that transaction sees the tree.
        known: keys by slot, true for the state of the tree that this transaction reads.
    """

    def __init__(
        self, connection: Connection, read_key: ReadKey, known: dict[int, BucketKeys]
    ) -> None:
        self._connection = connection
        self._read_key = read_key
        self._known = known
        self._made: dict[int, BucketKeys] = {}
        self._erased: list[int] = []
        self._slots: dict[int, int] = {}
        self._births: dict[int, int] = {}
        last_bucket, last_subject = run(
            connection,
            "SELECT (SELECT max(number) FROM vault_bucket), (SELECT max(id) FROM vault_subject)",
        ).fetchone()
        self._count = 0 if last_bucket is None else last_bucket + 1
        self._last_subject = last_subject or 0

    @property
    def bucket_count(self) -> int:
        """N, the number of buckets."""
        return self._count

    def keys(self, number: int) -> BucketKeys:
        """Return the keys of a bucket."""
        slot = self._slot(number)
        keys = self._made.get(slot) or self._known.get(slot)
        if keys is None:
            keys = self._known[slot] = BucketKeys.derive(number, self._read_key(slot))
        return keys

    def find(self, subject: bytes) -> int | None:
        """Return the id of a subject, or None when no living record is about it.

        Raises:
            Damaged: the row that was found is not this subject's.
        """
        if not self._count:
            return None
        keys = self.keys(bucket_of(subject, self._count))
        row = run(
            self._connection,
            "SELECT id, sealed FROM vault_subject WHERE tag = ?",
            (keys.tag_of(subject),),
        ).fetchone()
        if row is None:
            return None
        # A tag is only a place; what is sealed under the row's own number says whose it is.
        if keys.open_subject(row[0], bytes(row[1])) != subject:
            raise Damaged(f"subject row {row[0]} is not where its subject would be found")
        return int(row[0])

    @property
    def made(self) -> dict[int, BucketKeys]:
        """Keys by slot that this transaction has made."""
        return self._made

    @property
    def erased(self) -> list[int]:
        """Slots of bucket keys that this transaction has erased."""
        return self._erased

    def ensure(self, edit: TreeEdit, subjects: Iterable[bytes]) -> dict[bytes, int]:
        """Return the id of each subject, adding rows for those that are new.

        Args:
            edit: of the same transaction, under the writer lock.
            subjects: may repeat.
        """
        if not self._count:
            self._add_bucket(edit)
        places = {subject: bucket_of(subject, self._count) for subject in dict.fromkeys(subjects)}
        self._load_slots(set(places.values()))
        tags = {subject: self.keys(place).tag_of(subject) for subject, place in places.items()}
        known = self._ids(list(tags.values()))
        missing = [
            (subject, places[subject], tag) for subject, tag in tags.items() if tag not in known
        ]
        ids = {subject: known[tag] for subject, tag in tags.items() if tag in known}
        if missing:
            ids |= self._insert(missing)
            self._grow(edit)
        return ids

    def forget(self, edit: TreeEdit, subject_id: int) -> int:
        """Drop a subject whose last record went, and re-key its bucket.

        Returns:
            The generation of the oldest key under which it ever lay here.
        """
        row = run(
            self._connection, "SELECT bucket, since FROM vault_subject WHERE id = ?", (subject_id,)
        ).fetchone()
        if row is None:
            raise Damaged("a record names a subject that the index does not have")
        number, since = row
        self._connection.exec_driver_sql("DELETE FROM vault_subject WHERE id = ?", (subject_id,))
        self._reindex(edit, number)
        return int(since)

    def members(self, number: int) -> list[tuple[int, bytes, bytes]]:
        """Return (id, tag, sealed) of each subject in a bucket."""
        rows = run(
            self._connection,
            "SELECT id, tag, sealed FROM vault_subject WHERE bucket = ?",
            (number,),
        )
        return [(row[0], bytes(row[1]), bytes(row[2])) for row in rows]

    def _ids(self, tags: list[bytes]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for start in range(0, len(tags), _QUERY_PARAMETERS):
            some = tags[start : start + _QUERY_PARAMETERS]
            marks = ",".join("?" * len(some))
            rows = run(
                self._connection,
                f"SELECT tag, id FROM vault_subject WHERE tag IN ({marks})",  # noqa: S608
                tuple(some),
            )
            found.update((bytes(row[0]), row[1]) for row in rows)
        return found

    def _insert(self, missing: list[tuple[bytes, int, bytes]]) -> dict[bytes, int]:
        """Add rows for subjects, given with bucket and tag, and return their ids."""
        first = self._last_subject + 1
        nonces = _nonces(len(missing))
        run_many(
            self._connection,
            "INSERT INTO vault_subject (id, bucket, tag, sealed, since) VALUES (?, ?, ?, ?, ?)",
            [
                (
                    first + offset,
                    place,
                    tag,
                    self.keys(place).seal_subject(first + offset, subject, nonce),
                    self._births[place],
                )
                for offset, ((subject, place, tag), nonce) in enumerate(
                    zip(missing, nonces, strict=True)
                )
            ],
        )
        self._last_subject += len(missing)
        return {subject: first + offset for offset, (subject, _, _) in enumerate(missing)}

    def _grow(self, edit: TreeEdit) -> None:
        # The highest id is never below the count, so mostly no count is needed. It may be far above
        # it where subjects come and go, and smaller buckets would tell more of their members.
        if self._last_subject <= SUBJECTS_PER_BUCKET * self._count:
            return
        subjects = self._connection.exec_driver_sql("SELECT count(*) FROM vault_subject").scalar()
        while (subjects or 0) > SUBJECTS_PER_BUCKET * self._count:
            split = self._count - (1 << (self._count.bit_length() - 1))
            self._add_bucket(edit)
            self._reindex(edit, split)

    def _add_bucket(self, edit: TreeEdit) -> None:
        number, slot = self._count, self._fresh_slot(edit, self._count)
        self._connection.exec_driver_sql(
            "INSERT INTO vault_bucket (number, slot, birth) VALUES (?, ?, ?)",
            (number, slot, self._births[number]),
        )
        self._count += 1

    def _fresh_slot(self, edit: TreeEdit, number: int) -> int:
        key = os.urandom(KEY_BYTES)
        slot = edit.add([key])
        self._slots[number] = slot
        self._births[number] = edit.state.generation
        self._made[slot] = BucketKeys.derive(number, key)
        return slot

    def _slot(self, number: int) -> int:
        if number not in self._slots:
            self._load_slots({number})
        if number not in self._slots:
            raise Damaged(f"bucket {number} of the subject index is missing")
        return self._slots[number]

    def _load_slots(self, numbers: set[int]) -> None:
        wanted = sorted(numbers - self._slots.keys())
        for start in range(0, len(wanted), _QUERY_PARAMETERS):
            some = wanted[start : start + _QUERY_PARAMETERS]
            marks = ",".join("?" * len(some))
            rows = run(
                self._connection,
                f"SELECT number, slot, birth FROM vault_bucket WHERE number IN ({marks})",  # noqa: S608
                tuple(some),
            )
            for number, slot, birth in rows:
                self._slots[number], self._births[number] = slot, birth

    def _reindex(self, edit: TreeEdit, number: int) -> None:
        """Give a bucket a new key and place its members by today's N."""
        old_keys, old_slot = self.keys(number), self._slot(number)
        new_slot = self._fresh_slot(edit, number)
        edit.erase([old_slot])
        self._erased.append(old_slot)
        self._connection.exec_driver_sql(
            "UPDATE vault_bucket SET slot = ?, birth = ? WHERE number = ?",
            (new_slot, edit.state.generation, number),
        )
        members = self.members(number)
        rows = []
        for (subject_id, _, sealed), nonce in zip(members, _nonces(len(members)), strict=True):
            subject = old_keys.open_subject(subject_id, sealed)
            place = bucket_of(subject, self._count)
            keys = self.keys(place)
            resealed = keys.seal_subject(subject_id, subject, nonce)
            rows.append((place, keys.tag_of(subject), resealed, subject_id))
        if rows:
            run_many(
                self._connection,
                "UPDATE vault_subject SET bucket = ?, tag = ?, sealed = ? WHERE id = ?",
                rows,
            )


def _nonces(count: int) -> list[bytes]:
    # One read of the operating system's randomness; a read for each costs as much as the sealing.
    randomness = os.urandom(_NONCE_BYTES * count)
    return [
        randomness[start : start + _NONCE_BYTES]
        for start in range(0, len(randomness), _NONCE_BYTES)
    ]
