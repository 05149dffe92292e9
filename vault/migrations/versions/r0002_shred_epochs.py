"""Shred epochs: providers, generations with an end, erasures, certificates, escrow, restores.

What 0001 kept of a generation moves to the new table: its root key was the file keys/root.key. What
it kept of an erasure is enough for a certificate without retention, which was not kept.
"""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
)

revision = "0002"
down_revision = "0001"

_Int64 = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Bring a database of schema 0001 to 0002."""
    _generations()
    _shreds()
    _erasures()
    _parts()
    _escrows()


def _id() -> Column[int]:
    return Column("id", _Int64, primary_key=True)


def _int(name: str, *constraints: ForeignKey, nullable: bool = False) -> Column[int]:
    return Column(name, _Int64, *constraints, nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable)


def _generations() -> None:
    op.create_table("vault_provider", _id(), _text("kind"), _text("options"))
    op.execute("INSERT INTO vault_provider (id, kind, options) VALUES (1, 'file', '{}')")
    op.rename_table("vault_generation", "vault_generation_0001")
    op.create_table(
        "vault_generation",
        _int("tree"),
        _int("number"),
        _int("provider_id", ForeignKey("vault_provider.id")),
        _text("reference"),
        Column("wrapped", LargeBinary),
        _text("state"),
        _text("response", nullable=True),
        _int("asked_at", nullable=True),
        _int("gone_at", nullable=True),
        _int("closed_at", nullable=True),
        _int("destroyed_at", nullable=True),
        PrimaryKeyConstraint("tree", "number"),
    )
    op.execute(
        "INSERT INTO vault_generation (tree, number, provider_id, reference, wrapped, state)"
        " SELECT 0, number, 1, 'root.key', wrapped, 'open' FROM vault_generation_0001"
    )
    op.drop_table("vault_generation_0001")
    op.add_column("vault_node", Column("changed", _Int64, nullable=False, server_default="0"))
    # There was one generation until now.
    op.add_column("vault_bucket", Column("birth", _Int64, nullable=False, server_default="1"))
    op.add_column("vault_subject", Column("since", _Int64, nullable=False, server_default="1"))


def _shreds() -> None:
    op.create_table(
        "vault_declaration",
        _int("tree"),
        _int("generation"),
        _text("name"),
        _int("at"),
        PrimaryKeyConstraint("tree", "generation"),
    )
    op.create_table(
        "vault_shred",
        _id(),
        _int("tree"),
        _int("opened"),
        _int("act_id", ForeignKey("vault_act.id")),
        _text("step"),
        _text("waits_for", nullable=True),
        _int("finished_at", nullable=True),
        UniqueConstraint("tree", "opened"),
    )


def _erasures() -> None:
    op.create_table(
        "vault_erasure",
        _id(),
        _int("record_id", ForeignKey("vault_record.id")),
        _int("field_group"),
        _int("tree"),
        _int("born"),
        _int("erased"),
        _int("index_born", nullable=True),
        _int("index_erased", nullable=True),
        _int("act_id", ForeignKey("vault_act.id")),
        _text("ground"),
        _text("code"),
        _text("article"),
        _text("rule_version"),
        _text("category", nullable=True),
        _text("retention", nullable=True),
        _text("archiefactiedatum", nullable=True),
        _text("approvers", nullable=True),
        UniqueConstraint("record_id", "field_group"),
    )
    op.create_index("ix_vault_erasure_erased", "vault_erasure", ["erased"])
    # Only records without a duty to keep could be erased so far.
    op.execute(
        "INSERT INTO vault_erasure (record_id, field_group, tree, born, erased, act_id, ground,"
        " code, article, rule_version)"
        " SELECT r.id, 0, 0, min(v.birth_generation), max(v.erased_generation), r.erased_act,"
        " r.ground, 'D10', 'Art. 17(1) GDPR', 'erasure-1'"
        " FROM vault_record r JOIN vault_version v ON v.record_id = r.id"
        " WHERE r.erased_act IS NOT NULL GROUP BY r.id"
    )
    op.create_table(
        "vault_certificate",
        _id(),
        _int("erasure_id", ForeignKey("vault_erasure.id")),
        _int("number"),
        _text("status"),
        _text("irrecoverability"),
        Column("document", LargeBinary, nullable=False),
        _int("issued_at"),
        UniqueConstraint("erasure_id", "number"),
    )


def _parts() -> None:
    op.create_table(
        "vault_part",
        _id(),
        _int("record_id", ForeignKey("vault_record.id")),
        _int("number"),
        _int("field_group"),
        _text("name"),
        Column("slot", _Int64, nullable=False, unique=True),
        _int("birth_generation"),
        _int("erased_generation", nullable=True),
        Column("body", LargeBinary),
        UniqueConstraint("record_id", "number", "field_group"),
    )
    op.add_column(
        "vault_disclosure", Column("field_group", _Int64, nullable=False, server_default="0")
    )


def _escrows() -> None:
    op.create_table(
        "vault_escrow",
        Column("id", LargeBinary(32), primary_key=True),
        _int("generation"),
        Column("document", LargeBinary, nullable=False),
        _int("act_id", ForeignKey("vault_act.id")),
    )
    op.create_table(
        "vault_attestation",
        Column("escrow_id", LargeBinary(32), ForeignKey("vault_escrow.id"), nullable=False),
        _int("number"),
        Column("document", LargeBinary, nullable=False),
        PrimaryKeyConstraint("escrow_id", "number"),
    )
    op.create_table(
        "vault_drill",
        _id(),
        _int("act_id", ForeignKey("vault_act.id")),
        Column("data_digest", LargeBinary(32), nullable=False),
        Column("keys_digest", LargeBinary(32), nullable=False),
        _text("outcome"),
    )
    op.create_table(
        "vault_lost",
        Column("pointer", LargeBinary(16), primary_key=True),
        _int("act_id", ForeignKey("vault_act.id")),
    )
