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
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from ledger.columns import Int64

metadata = MetaData()

# Key trees: one row for the ordinary one (1) and one for records that are kept for ever (2).
# `sequence` rises with every change of the tree; with the generation it is its compare-and-swap.
tree = Table(
    "vault_tree",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("tenant", LargeBinary(16), nullable=False),
    Column("generation", Int64, nullable=False),
    Column("sequence", Int64, nullable=False),
    Column("next_slot", Int64, nullable=False),
)

# Where root keys are kept: a provider and its options, of which none is a secret.
provider = Table(
    "vault_provider",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("options", Text, nullable=False),  # JSON object of texts
)

# Generations of the trees and what became of their root keys (vault/generations.py).
generation = Table(
    "vault_generation",
    metadata,
    Column("tree", Int64, nullable=False),
    Column("number", Int64, nullable=False),
    Column("provider_id", Int64, ForeignKey("vault_provider.id"), nullable=False),
    Column("reference", Text, nullable=False),
    Column("wrapped", LargeBinary),
    Column("state", Text, nullable=False),
    Column("response", Text),
    Column("asked_at", Int64),
    Column("gone_at", Int64),
    Column("closed_at", Int64),
    Column("destroyed_at", Int64),
    PrimaryKeyConstraint("tree", "number"),
)

# What operators declared that software cannot test: that no copy of a key file exists.
declaration = Table(
    "vault_declaration",
    metadata,
    Column("tree", Int64, nullable=False),
    Column("generation", Int64, nullable=False),
    Column("name", Text, nullable=False),
    Column("at", Int64, nullable=False),
    PrimaryKeyConstraint("tree", "generation"),
)

# Epochs that were closed, or are being closed (vault/shredding.py).
shred = Table(
    "vault_shred",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("tree", Int64, nullable=False),
    Column("opened", Int64, nullable=False),  # the generation to which the tree moves
    Column("act_id", Int64, ForeignKey("vault_act.id"), nullable=False),
    Column("step", Text, nullable=False),  # the last one that was reached
    Column("waits_for", Text),  # in words, where it could not go on
    Column("finished_at", Int64),
    UniqueConstraint("tree", "opened"),
)

# Sealed nodes of the key trees (vault/keynode.py).
node = Table(
    "vault_node",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("level", Int64, nullable=False),
    Column("number", Int64, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    # The tree's sequence with which it was written last.
    Column("changed", Int64, nullable=False, server_default="0"),
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
    Column("birth", Int64, nullable=False, server_default="1"),  # generation of its present key
)

# Subjects with at least one living record (vault/subjects.py).
subject = Table(
    "vault_subject",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("bucket", Int64, nullable=False, index=True),
    Column("tag", LargeBinary(16), nullable=False, unique=True),
    Column("sealed", LargeBinary, nullable=False),
    # Generation of the oldest key under which it ever lay in the index.
    Column("since", Int64, nullable=False, server_default="1"),
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
    Column("field_group", Int64, nullable=False, server_default="0"),  # 0 for the core
)

# What a certificate will say of an erasure; no content, no subject. One row for a record, and one
# for each of its field groups that went before it.
erasure = Table(
    "vault_erasure",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("record_id", Int64, ForeignKey("vault_record.id"), nullable=False),
    Column("field_group", Int64, nullable=False),  # 0 for the whole record
    Column("tree", Int64, nullable=False),
    Column("born", Int64, nullable=False),  # generation of its oldest key
    Column("erased", Int64, nullable=False, index=True),  # generation in which the keys went
    # Of a permanent record, the ordinary tree's generations under which its subject was indexed.
    Column("index_born", Int64),
    Column("index_erased", Int64),
    Column("act_id", Int64, ForeignKey("vault_act.id"), nullable=False),
    Column("ground", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("article", Text, nullable=False),
    Column("rule_version", Text, nullable=False),
    Column("category", Text),
    Column("retention", Text),
    Column("archiefactiedatum", Text),
    Column("approvers", Text),  # JSON list of [name, role]; NULL for none
    UniqueConstraint("record_id", "field_group"),
)

# Certificates of destruction, the newest of each erasure last (policy/certificate.py).
certificate = Table(
    "vault_certificate",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("erasure_id", Int64, ForeignKey("vault_erasure.id"), nullable=False),
    Column("number", Int64, nullable=False),  # of this record, from 1
    Column("status", Text, nullable=False),
    Column("irrecoverability", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("issued_at", Int64, nullable=False),
    UniqueConstraint("erasure_id", "number"),
)

# Optional field groups of versions, each sealed under a key of its own (ER5, vault/groups.py).
part = Table(
    "vault_part",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("record_id", Int64, ForeignKey("vault_record.id"), nullable=False),
    Column("number", Int64, nullable=False),  # of the version
    Column("field_group", Int64, nullable=False),  # 1 to 15
    Column("name", Text, nullable=False),
    Column("slot", Int64, nullable=False, unique=True),
    Column("birth_generation", Int64, nullable=False),
    Column("erased_generation", Int64),
    Column("body", LargeBinary),
    UniqueConstraint("record_id", "number", "field_group"),
)

# Escrows of a generation of the permanent tree: the public part of each (vault/escrow/shares.py).
escrow = Table(
    "vault_escrow",
    metadata,
    Column("id", LargeBinary(32), primary_key=True),
    Column("generation", Int64, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("act_id", Int64, ForeignKey("vault_act.id"), nullable=False),
)

# Statements of custodians that their share is destroyed (vault/escrow/attestation.py).
attestation = Table(
    "vault_attestation",
    metadata,
    Column("escrow_id", LargeBinary(32), ForeignKey("vault_escrow.id"), nullable=False),
    Column("number", Int64, nullable=False),  # of the share
    Column("document", LargeBinary, nullable=False),
    PrimaryKeyConstraint("escrow_id", "number"),
)

# Rehearsed restores and what they found.
drill = Table(
    "vault_drill",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("act_id", Int64, ForeignKey("vault_act.id"), nullable=False),
    Column("data_digest", LargeBinary(32), nullable=False),
    Column("keys_digest", LargeBinary(32), nullable=False),
    Column("outcome", Text, nullable=False),
)

# Pointers whose entries a restored ledger has but whose records no backup held.
lost = Table(
    "vault_lost",
    metadata,
    Column("pointer", LargeBinary(16), primary_key=True),
    Column("act_id", Int64, ForeignKey("vault_act.id"), nullable=False),
)

# What a list would hold that was proposed and not yet enacted.
proposed = Table(
    "vault_proposed",
    metadata,
    Column("proposal_id", Int64, nullable=False),  # of ledger_proposal
    Column("place", Int64, nullable=False),
    Column("pointer", LargeBinary(16), nullable=False),
    Column("field_group", Int64, nullable=False),
    PrimaryKeyConstraint("proposal_id", "place"),
)

# Lists that were enacted, and which role keys approved them.
list_ = Table(
    "vault_list",
    metadata,
    # Of the governance state that the list made.
    Column("sequence", Int64, primary_key=True, autoincrement=False),
    Column("approvers", Text, nullable=False),  # JSON list of [key, role], as in certificates
)

# What stands on a list that was enacted: items in the order of the list's tree.
listed = Table(
    "vault_listed",
    metadata,
    Column("sequence", Int64, nullable=False),  # of the governance state that the list made
    Column("place", Int64, nullable=False),
    Column("pointer", LargeBinary(16), nullable=False),
    Column("field_group", Int64, nullable=False),
    PrimaryKeyConstraint("sequence", "place"),
    UniqueConstraint("sequence", "pointer", "field_group"),
)

# Who holds a role key: the record in which that is written, which can be erased (PR4).
holder = Table(
    "vault_holder",
    metadata,
    Column("key", LargeBinary(32), primary_key=True),
    Column("pointer", LargeBinary(16), nullable=False),
)
