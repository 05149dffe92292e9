"""The tables that the anchoring job owns. It is handed a connection; it opens no database."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ForeignKey,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from ledger.columns import Int64

metadata = MetaData()

# Anchor statements, stored before they are submitted anywhere.
statement = Table(
    "anchor_statement",
    metadata,
    Column("size", Int64, primary_key=True, autoincrement=False),  # leaves in its checkpoint
    Column("statement", Text, nullable=False),
    Column("made_at", Int64, nullable=False),  # Unix seconds, UTC
)

# What a target answered: proof that it has the statement's digest.
receipt = Table(
    "anchor_receipt",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("size", Int64, ForeignKey("anchor_statement.size"), nullable=False),
    Column("target", Text, nullable=False),
    Column("receipt", Text, nullable=False),
    Column("made_at", Int64, nullable=False),  # Unix seconds, UTC
    UniqueConstraint("size", "target"),
)
