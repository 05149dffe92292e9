"""`kluis ledger prune`, which commands/ledgering.py puts into its group."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.approving import finish, open_role_key
from commands.context import (
    KEY_PASSPHRASE_FILE,
    Context,
    acting,
    counted,
    emit_json,
    iso_date,
    json_option,
    local_time,
)

if TYPE_CHECKING:
    from vault import Vault
    from vault.pruning import PrunePlan, PruneReport

_NOT_CLEAN = (
    "Somebody reads an older state, so the write-ahead log still has what went: it goes when the"
    " last of them closes the vault, and with the next erasure."
)


@click.command("prune")
@click.option(
    "--before",
    type=iso_date,
    metavar="DATE",
    help="What was signed before this day ages out.",
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help=f"Role key that proposes it; its passphrase: {KEY_PASSPHRASE_FILE}, or a prompt.",
)
@click.option(
    "--expires",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    metavar="N",
    help="Leaves after which this approval expires.",
)
@acting
@json_option
@click.pass_context
def ledger_prune(
    ctx: click.Context,
    before: dt.date | None,
    key_file: Path | None,
    expires: int,
    purpose: str | None,
    *,
    as_json: bool,
) -> None:
    """Age out the oldest entries of the ledger, once enough members decided so.

    With --before, shows what would go and what would stay; with --key-file as well, proposes it,
    and others agree with `kluis approve`. Without --before, carries out what was enacted: entries
    and hashes below the index go for ever. Entries of living records, certificates and governance
    stay, each with its proof. Then `kluis ledger export` removes what is published of the rest.

    Example: kluis ledger prune --before 2016-01-01 --key-file archivist.key
    """
    if before is None and key_file is not None:
        raise click.UsageError("--key-file goes with --before: it proposes a prune")
    with ctx.ensure_object(Context).open() as vault:
        if before is None:
            _show_report(vault.prune(purpose=purpose), as_json=as_json)
            return
        plan = vault.plan_prune(before)
        if key_file is None:
            _show_plan(plan, as_json=as_json)
            return
        _propose(ctx, vault, plan, key_file, expires, purpose, as_json=as_json)


def _propose(
    ctx: click.Context,
    vault: Vault,
    plan: PrunePlan,
    key_file: Path,
    expires: int,
    purpose: str | None,
    *,
    as_json: bool,
) -> None:
    if not as_json:
        _show_plan(plan, as_json=False)
    key = open_role_key(vault, key_file)
    view = vault.propose_prune(plan.minimum, key, expires=expires, purpose=purpose)
    finish(ctx, view, as_json=as_json)
    if not as_json:
        click.echo("next      'kluis ledger prune' carries it out")


def _show_plan(plan: PrunePlan, *, as_json: bool) -> None:
    from ledger.entry import EntryKind

    kept = {kind.name.lower(): plan.kept[kind] for kind in EntryKind if plan.kept[kind]}
    if as_json:
        emit_json(
            {
                "minimum": plan.minimum,
                "signed_at": plan.signed_at,
                "entries": plan.going.entries,
                "bundles": plan.going.bundles,
                "tiles": plan.going.tiles,
                "bytes": plan.going.size,
                "kept": kept,
            }
        )
        return
    going = plan.going
    click.echo(f"minimum   {plan.minimum}, the checkpoint signed at {local_time(plan.signed_at)}")
    click.echo(
        f"goes      {counted(going.bundles, 'bundle')} of {going.entries} entries and"
        f" {counted(going.tiles, 'tile')}, {going.size} bytes"
    )
    for kind, number in kept.items():
        click.echo(f"stays     {number} below it of kind {kind.replace('_', ' ')}, with proof")


def _show_report(report: PruneReport, *, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "minimum": report.minimum,
                "index": report.leaf,
                "bundles": report.going.bundles,
                "tiles": report.going.tiles,
                "bytes": report.going.size,
                "kept": report.kept,
                "cleaned": report.cleaned,
            }
        )
    else:
        click.echo(
            f"The ledger was pruned to {report.minimum} by entry {report.leaf}:"
            f" {counted(report.going.bundles, 'bundle')} and {counted(report.going.tiles, 'tile')}"
            f" went, {report.kept} entries below it stay with their proofs."
        )
        if not report.cleaned:
            click.echo(_NOT_CLEAN)
