"""Audit of the subject index."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from ledger.fault import Fault
from vault.audit.tree import TreeAudit
from vault.core import Core
from vault.errors import Damaged
from vault.subjects import SubjectIndex, bucket_of


def audit_subjects(core: Core, connection: Connection, tree: TreeAudit) -> Iterator[Fault]:
    """Yield what is wrong with the subject index.

    Each row must open under its bucket's key, lie in the bucket that its subject belongs to, be
    found under its tag, and be the subject of at least one living record; each living record must
    have a subject.
    """
    # Keys from stored bytes, not from what this process remembers.
    index = SubjectIndex(connection, tree.key, {})
    rows = connection.exec_driver_sql("SELECT number FROM vault_bucket ORDER BY number")
    numbers = [row[0] for row in rows]
    if numbers != list(range(len(numbers))):
        # How many there are decides where each subject lies, so there is nothing to compare with.
        yield Fault("subject index", "a bucket is missing")
        return
    for number in numbers:
        try:
            keys = index.keys(number)
        except Damaged as error:
            yield Fault(f"subject bucket {number}", str(error))
            continue
        for subject_id, tag, sealed in index.members(number):
            where = f"subject row {subject_id}"
            try:
                subject = keys.open_subject(subject_id, sealed)
            except Damaged as error:
                yield Fault(where, str(error))
                continue
            if bucket_of(subject, index.bucket_count) != number or keys.tag_of(subject) != tag:
                yield Fault(where, "is not where its subject would be found")
    yield from _links(connection, index.bucket_count)


def _links(connection: Connection, bucket_count: int) -> Iterator[Fault]:
    checks = (
        (
            "subject row {} is about no living record",
            "SELECT s.id FROM vault_subject s WHERE NOT EXISTS"
            " (SELECT 1 FROM vault_record r WHERE r.subject_id = s.id)",
            (),
        ),
        (
            "record row {} has no subject",
            "SELECT id FROM vault_record WHERE subject_id IS NULL AND erased_act IS NULL",
            (),
        ),
        (
            # What certificates of erasures to come will count from.
            "subject row {} was not indexed since a generation that there was",
            "SELECT s.id FROM vault_subject s JOIN vault_bucket b ON b.number = s.bucket"
            " WHERE NOT s.since BETWEEN 1 AND b.birth",
            (),
        ),
        (
            "bucket {} has a key of a generation that there is not",
            "SELECT number FROM vault_bucket WHERE NOT birth BETWEEN 1 AND"
            " (SELECT generation FROM vault_tree WHERE id = 1)",
            (),
        ),
        (
            "subject row {} lies in no bucket",
            "SELECT id FROM vault_subject WHERE bucket NOT BETWEEN 0 AND ?",
            (bucket_count - 1,),
        ),
    )
    for message, query, parameters in checks:
        for (number,) in connection.exec_driver_sql(query, parameters):
            yield Fault("subject index", message.format(number))
