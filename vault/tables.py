"""The tables that the vault owns, beside those of the ledger and the anchors in the same database.

Integer primary keys throughout: a random pointer as the clustered key makes inserts far slower.
No table holds an identifier of a person, a name or a payload in the clear.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from ledger.columns import Int64

metadata = MetaData()

# A key tree: one row. `sequence` rises with every change of the tree and is its compare-and-swap.
tree = Table(
    "vault_tree",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("tenant", LargeBinary(16), nullable=False),
    Column("generation", Int64, nullable=False),
    Column("sequence", Int64, nullable=False),
    Column("next_slot", Int64, nullable=False),
)

# The epoch key of each generation, wrapped by the root key provider.
generation = Table(
    "vault_generation",
    metadata,
    Column("number", Int64, primary_key=True, autoincrement=False),
    Column("provider", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
)

# Sealed nodes of the key tree (vault/keynode.py).
node = Table(
    "vault_node",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("level", Int64, nullable=False),
    Column("number", Int64, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    UniqueConstraint("level", "number"),
)

# Who did something, when and for which purpose: one row per call, shared by all that it wrote.
act = Table(
    "vault_act",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("at", Int64, nullable=False),  # Unix seconds, UTC
    Column("actor", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("action", Text, nullable=False),
)

# Buckets of the subject index; each has a key of its own in the key tree.
bucket = Table(
    "vault_bucket",
    metadata,
    Column("number", Int64, primary_key=True, autoincrement=False),
    Column("slot", Int64, nullable=False, unique=True),
)

# Subjects with at least one living record (vault/subjects.py).
subject = Table(
    "vault_subject",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("bucket", Int64, nullable=False, index=True),
    Column("tag", LargeBinary(16), nullable=False, unique=True),
    Column("sealed", LargeBinary, nullable=False),
)

# Bulk imports and how far they came (vault/importing.py).
import_run = Table(
    "vault_import",
    metadata,
    # Its slot is its name: slots are never reused, and records keep the name of their run.
    Column("slot", Int64, primary_key=True, autoincrement=False),
    Column("tag", LargeBinary(32), nullable=False),
    Column("lines_done", Int64, nullable=False),
)

# Records. After an erasure only the tombstone columns are left: id, pointer, current, ground and
# erased_act.
record = Table(
    "vault_record",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("pointer", LargeBinary(16), nullable=False, unique=True),
    Column("category", Text),
    Column("retention", Text),  # policy.RetentionRule as text; NULL for no duty
    Column("current", Int64, nullable=False),  # number of the newest version, from 1
    Column("record_date", Text),  # ISO 8601 date
    Column("brondatum", Text),  # ISO 8601 date
    Column("subject_id", Int64, ForeignKey("vault_subject.id"), index=True),
    Column("import_slot", Int64),
    Column("on_hold", Boolean, nullable=False),
    Column("row_tag", LargeBinary(16)),
    Column("ground", Text),
    Column("erased_act", Int64, ForeignKey("vault_act.id")),
)

# Versions of records; `body` is the sealed payload and goes when the record is erased.
version = Table(
    "vault_version",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("record_id", Int64, ForeignKey("vault_record.id"), nullable=False),
    Column("number", Int64, nullable=False),
    Column("slot", Int64, nullable=False, unique=True),
    Column("birth_generation", Int64, nullable=False),
    Column("erased_generation", Int64),
    Column("act_id", Int64, ForeignKey("vault_act.id"), nullable=False),
    Column("body", LargeBinary),
    UniqueConstraint("record_id", "number"),
)

# Legal holds; the reason is sealed under the record's own key.
hold = Table(
    "vault_hold",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("record_id", Int64, ForeignKey("vault_record.id"), nullable=False, index=True),
    Column("version", Int64, nullable=False),  # whose key seals the reason
    Column("reason", LargeBinary, nullable=False),
    Column("act_id", Int64, ForeignKey("vault_act.id"), nullable=False),
)

# Openings that left the vault inside an evidence file: whoever has one can open the commitment.
disclosure = Table(
    "vault_disclosure",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("record_id", Int64, ForeignKey("vault_record.id"), nullable=False, index=True),
    Column("version", Int64, nullable=False),
    Column("act_id", Int64, ForeignKey("vault_act.id"), nullable=False),
)
