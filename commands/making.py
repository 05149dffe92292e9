"""`kluis init`."""

from __future__ import annotations

from pathlib import Path

import click

from commands.context import emit_json, json_option, read_passphrase


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--origin", metavar="NAME", help="Origin line of the ledger; random if not given.")
@json_option
def init(folder: Path, origin: str | None, *, as_json: bool) -> None:
    """Make a vault: configuration, keys, database and ledger.

    Asks for a passphrase, or reads it from the file that KLUIS_PASSPHRASE_FILE names. Without
    it, nobody can open the vault again.

    Example: kluis init hoorn
    """
    from vault import Vault
    from vault.config import FILE_NAME

    if (folder / FILE_NAME).exists():
        raise click.UsageError(f"{folder} is a vault already; choose another folder")
    with Vault.create(folder, read_passphrase(confirm=True), origin=origin) as vault:
        if as_json:
            emit_json({"folder": str(folder), "origin": vault.origin})
            return
        click.echo(f"Made a vault in {folder}, with the ledger {vault.origin}.")
        click.echo(f"Its categories and purposes are in {folder / FILE_NAME}.")
        click.echo(f"Next: kluis -C {folder} put FILE --category wmo --subject -")
