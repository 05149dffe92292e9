"""The tables that the ledger owns. It is handed a connection; it opens no database of its own."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
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

# Cosignatures that witnesses gave for a checkpoint, each as its line of a note.
cosignature = Table(
    "ledger_cosignature",
    metadata,
    Column("size", Int64, nullable=False),  # leaves in the checkpoint
    Column("name", Text, nullable=False),
    Column("key_id", LargeBinary(4), nullable=False),
    Column("line", Text, nullable=False),
    Column("received_at", Int64, nullable=False),
    PrimaryKeyConstraint("size", "name", "key_id"),
)

# At most one row: the state of governance after all entries, pending ones included.
governance = Table(
    "ledger_governance",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("state", LargeBinary, nullable=False),  # ledger/governance.py
    Column("stopped", Boolean, nullable=False),  # as the state says: for every put to see
)

# Actions that wait for approvals, and what became of them.
proposal = Table(
    "ledger_proposal",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("sequence", Int64, nullable=False),  # of the state that it would make
    Column("kind", Int64, nullable=False),
    Column("parameters", LargeBinary, nullable=False),  # ledger/action.py
    Column("proposed_at", Int64, nullable=False),
    Column("outcome", Text),  # NULL while it is open
)

# Approvals of proposals that wait.
approval = Table(
    "ledger_approval",
    metadata,
    Column("proposal_id", Int64, ForeignKey("ledger_proposal.id"), nullable=False),
    Column("key", LargeBinary(32), nullable=False),
    Column("approval", LargeBinary(104), nullable=False),
    PrimaryKeyConstraint("proposal_id", "key"),
)

# Prunes that were carried out, and the governance state from which replaying goes on.
prune = Table(
    "ledger_prune",
    metadata,
    Column("minimum", Int64, primary_key=True, autoincrement=False),
    Column("leaf", Int64, nullable=False),  # of the prune entry
    Column("state", LargeBinary, nullable=False),  # at the minimum index
    Column("pruned_at", Int64, nullable=False),
)

# Entries below the minimum index that something living still needs, each with its proof.
kept = Table(
    "ledger_kept",
    metadata,
    Column("leaf", Int64, primary_key=True, autoincrement=False),
    Column("entry", LargeBinary, nullable=False),
    Column("size", Int64, nullable=False),  # leaves in the checkpoint that the proof leads to
    Column("path", LargeBinary, nullable=False),  # hashes of 32 bytes
)
