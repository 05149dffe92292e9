"""The tables that the anchoring job owns. It is handed a connection; it opens no database."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# SQLite's row numbers are 64-bit integers under the plain name.
_Int64 = BigInteger().with_variant(Integer, "sqlite")

# Anchor statements, stored before they are submitted anywhere.
statement = Table(
    "anchor_statement",
    metadata,
    Column("size", _Int64, primary_key=True, autoincrement=False),  # leaves in its checkpoint
    Column("statement", Text, nullable=False),
    Column("made_at", _Int64, nullable=False),  # Unix seconds, UTC
)

# What a target answered: proof that it has the statement's digest.
receipt = Table(
    "anchor_receipt",
    metadata,
    Column("id", _Int64, primary_key=True),
    Column("size", _Int64, ForeignKey("anchor_statement.size"), nullable=False),
    Column("target", Text, nullable=False),
    Column("receipt", Text, nullable=False),
    Column("made_at", _Int64, nullable=False),  # Unix seconds, UTC
    UniqueConstraint("size", "target"),
)
