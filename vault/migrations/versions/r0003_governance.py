"""Governance, witnesses and pruning: cosignatures, state, proposals, lists, holders, kept proofs.

Nothing that was there changes.
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

revision = "0003"
down_revision = "0002"

_Int64 = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Bring a database of schema 0002 to 0003."""
    _witnesses()
    _governance()
    _pruning()
    _vault()


def _int(name: str, *constraints: ForeignKey) -> Column[int]:
    return Column(name, _Int64, *constraints, nullable=False)


def _counted(name: str) -> Column[int]:
    return Column(name, _Int64, primary_key=True, autoincrement=False)


def _bytes(name: str, length: int | None = None) -> Column[bytes]:
    return Column(name, LargeBinary(length), nullable=False)


def _witnesses() -> None:
    op.create_table(
        "ledger_cosignature",
        _int("size"),
        Column("name", Text, nullable=False),
        _bytes("key_id", 4),
        Column("line", Text, nullable=False),
        _int("received_at"),
        PrimaryKeyConstraint("size", "name", "key_id"),
    )


def _governance() -> None:
    op.create_table(
        "ledger_governance",
        Column("id", _Int64, primary_key=True),
        _bytes("state"),
        Column("stopped", Boolean, nullable=False),
    )
    op.create_table(
        "ledger_proposal",
        Column("id", _Int64, primary_key=True),
        _int("sequence"),
        _int("kind"),
        _bytes("parameters"),
        _int("proposed_at"),
        Column("outcome", Text),
    )
    op.create_table(
        "ledger_approval",
        _int("proposal_id", ForeignKey("ledger_proposal.id")),
        _bytes("key", 32),
        _bytes("approval", 104),
        PrimaryKeyConstraint("proposal_id", "key"),
    )


def _pruning() -> None:
    op.create_table(
        "ledger_prune", _counted("minimum"), _int("leaf"), _bytes("state"), _int("pruned_at")
    )
    op.create_table("ledger_kept", _counted("leaf"), _bytes("entry"), _int("size"), _bytes("path"))


def _vault() -> None:
    op.create_table(
        "vault_proposed",
        _int("proposal_id"),
        _int("place"),
        _bytes("pointer", 16),
        _int("field_group"),
        PrimaryKeyConstraint("proposal_id", "place"),
    )
    op.create_table("vault_list", _counted("sequence"), Column("approvers", Text, nullable=False))
    op.create_table(
        "vault_listed",
        _int("sequence"),
        _int("place"),
        _bytes("pointer", 16),
        _int("field_group"),
        PrimaryKeyConstraint("sequence", "place"),
        UniqueConstraint("sequence", "pointer", "field_group"),
    )
    op.create_table(
        "vault_holder", Column("key", LargeBinary(32), primary_key=True), _bytes("pointer", 16)
    )
