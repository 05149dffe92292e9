"""The tables that the ledger owns. It is handed a connection; it opens no database of its own."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from ledger.columns import Int64

metadata = MetaData()

# One row: the tree as integrated so far.
head = Table(
    "ledger_head",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("origin", Text, nullable=False),
    Column("size", Int64, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
)

# Entries that are durable but not yet leaves, in the order of their transactions.
pending = Table(
    "ledger_pending",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("entry", LargeBinary, nullable=False),
)

# Entry bundles (C2SP tlog-tiles); the last one may be partial and grows in place.
bundle = Table(
    "ledger_bundle",
    metadata,
    Column("number", Int64, primary_key=True, autoincrement=False),
    Column("entries", LargeBinary, nullable=False),
)

# Hash tiles (C2SP tlog-tiles); the last of each level may be partial and grows in place.
tile = Table(
    "ledger_tile",
    metadata,
    Column("level", Int64, nullable=False),
    Column("number", Int64, nullable=False),
    Column("hashes", LargeBinary, nullable=False),
    PrimaryKeyConstraint("level", "number"),
)

# Which leaves speak of a pointer. Derived from the bundles; says nothing that they do not say.
position = Table(
    "ledger_position",
    metadata,
    Column("pointer", LargeBinary(16), nullable=False),
    Column("leaf", Int64, nullable=False),
    PrimaryKeyConstraint("pointer", "leaf"),
    sqlite_with_rowid=False,
)

# Signed checkpoints, as the note that was signed. The signing time stays off the chain.
checkpoint = Table(
    "ledger_checkpoint",
    metadata,
    Column("size", Int64, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    Column("signed_at", Int64, nullable=False),
)
