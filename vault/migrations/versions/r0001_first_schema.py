"""The first schema: ledger, key tree, records, subject index, imports, holds, anchors.

Written out rather than taken from today's tables, since a revision must stay what it was.
"""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
)

revision = "0001"
down_revision = None

_Int64 = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Make the first schema in an empty database."""
    _ledger()
    _keys()
    _records()
    _anchors()


def _id(name: str = "id", *, counted: bool = True) -> Column[int]:
    return Column(name, _Int64, primary_key=True, autoincrement="auto" if counted else False)


def _int(
    name: str,
    *constraints: ForeignKey,
    nullable: bool = False,
    unique: bool | None = None,
    index: bool | None = None,
) -> Column[int]:
    return Column(name, _Int64, *constraints, nullable=nullable, unique=unique, index=index)


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable)


def _bytes(name: str, size: int | None = None, *, nullable: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary(size), nullable=nullable)


def _ledger() -> None:
    op.create_table("ledger_head", _id(), _text("origin"), _int("size"), _bytes("root", 32))
    op.create_table("ledger_pending", _id(), _bytes("entry"))
    op.create_table("ledger_bundle", _id("number", counted=False), _bytes("entries"))
    op.create_table(
        "ledger_tile",
        _int("level"),
        _int("number"),
        _bytes("hashes"),
        PrimaryKeyConstraint("level", "number"),
    )
    op.create_table(
        "ledger_position",
        _bytes("pointer", 16),
        _int("leaf"),
        PrimaryKeyConstraint("pointer", "leaf"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ledger_checkpoint", _id("size", counted=False), _text("note"), _int("signed_at")
    )


def _keys() -> None:
    op.create_table(
        "vault_tree",
        _id(),
        _bytes("tenant", 16),
        _int("generation"),
        _int("sequence"),
        _int("next_slot"),
    )
    op.create_table(
        "vault_generation", _id("number", counted=False), _text("provider"), _bytes("wrapped")
    )
    op.create_table(
        "vault_node",
        _id(),
        _int("level"),
        _int("number"),
        _bytes("sealed"),
        UniqueConstraint("level", "number"),
    )


def _records() -> None:
    op.create_table(
        "vault_act", _id(), _int("at"), _text("actor"), _text("purpose"), _text("action")
    )
    op.create_table("vault_bucket", _id("number", counted=False), _int("slot", unique=True))
    op.create_table(
        "vault_subject",
        _id(),
        _int("bucket", index=True),
        Column("tag", LargeBinary(16), nullable=False, unique=True),
        _bytes("sealed"),
    )
    op.create_table(
        "vault_import", _id("slot", counted=False), _bytes("tag", 32), _int("lines_done")
    )
    op.create_table(
        "vault_record",
        _id(),
        Column("pointer", LargeBinary(16), nullable=False, unique=True),
        _text("category", nullable=True),
        _text("retention", nullable=True),
        _int("current"),
        _text("record_date", nullable=True),
        _text("brondatum", nullable=True),
        _int("subject_id", ForeignKey("vault_subject.id"), nullable=True, index=True),
        _int("import_slot", nullable=True),
        Column("on_hold", Boolean, nullable=False),
        _bytes("row_tag", 16, nullable=True),
        _text("ground", nullable=True),
        _int("erased_act", ForeignKey("vault_act.id"), nullable=True),
    )
    op.create_table(
        "vault_version",
        _id(),
        _int("record_id", ForeignKey("vault_record.id")),
        _int("number"),
        _int("slot", unique=True),
        _int("birth_generation"),
        _int("erased_generation", nullable=True),
        _int("act_id", ForeignKey("vault_act.id")),
        _bytes("body", nullable=True),
        UniqueConstraint("record_id", "number"),
    )
    op.create_table(
        "vault_hold",
        _id(),
        _int("record_id", ForeignKey("vault_record.id"), index=True),
        _int("version"),
        _bytes("reason"),
        _int("act_id", ForeignKey("vault_act.id")),
    )
    op.create_table(
        "vault_disclosure",
        _id(),
        _int("record_id", ForeignKey("vault_record.id"), index=True),
        _int("version"),
        _int("act_id", ForeignKey("vault_act.id")),
    )


def _anchors() -> None:
    op.create_table(
        "anchor_statement", _id("size", counted=False), _text("statement"), _int("made_at")
    )
    op.create_table(
        "anchor_receipt",
        _id(),
        _int("size", ForeignKey("anchor_statement.size")),
        _text("target"),
        _text("receipt"),
        _int("made_at"),
        UniqueConstraint("size", "target"),
    )
