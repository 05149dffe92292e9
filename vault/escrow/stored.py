"""Escrows and attestations as the database keeps them. Tested in tests/vault/test_escrowing.py."""

from __future__ import annotations

from sqlalchemy import Connection

from ledger.driver import run
from vault.escrow.attestation import Attestation, attested_numbers
from vault.escrow.shares import Escrow


def insert_escrow(connection: Connection, escrow: Escrow, act_id: int) -> None:
    """Store the public part of an escrow."""
    run(
        connection,
        "INSERT INTO vault_escrow (id, generation, document, act_id) VALUES (?, ?, ?, ?)",
        (escrow.escrow_id, escrow.generation, escrow.format(), act_id),
    )


def delete_escrow(connection: Connection, escrow_id: bytes) -> None:
    """Forget an escrow of which no share was handed out."""
    run(connection, "DELETE FROM vault_escrow WHERE id = ?", (escrow_id,))


def load_escrow(connection: Connection, escrow_id: bytes) -> Escrow | None:
    """Return an escrow, or None when this vault made no such one."""
    row = run(connection, "SELECT document FROM vault_escrow WHERE id = ?", (escrow_id,)).fetchone()
    return None if row is None else Escrow.parse(bytes(row[0]))


def insert_attestation(connection: Connection, attestation: Attestation) -> None:
    """Store an attestation, once for each share."""
    run(
        connection,
        "INSERT INTO vault_attestation (escrow_id, number, document) VALUES (?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (attestation.escrow_id, attestation.number, attestation.format()),
    )


def escrows(connection: Connection, first: int, last: int) -> list[tuple[Escrow, int]]:
    """Return the escrows of a range of generations, each with its number of valid attestations."""
    rows = run(
        connection,
        "SELECT id, document FROM vault_escrow WHERE generation BETWEEN ? AND ?"
        " ORDER BY generation, id",
        (first, last),
    ).fetchall()
    found = []
    for escrow_id, document in rows:
        escrow = Escrow.parse(bytes(document))
        stored = run(
            connection, "SELECT document FROM vault_attestation WHERE escrow_id = ?", (escrow_id,)
        )
        attestations = [Attestation.parse(bytes(row[0])) for row in stored]
        found.append((escrow, len(attested_numbers(escrow, attestations))))
    return found
