"""`kluis backup` and `kluis restore`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.context import (
    Context,
    acting,
    counted,
    emit_json,
    json_option,
    read_passphrase,
)
from commands.exitcodes import ExitCode

if TYPE_CHECKING:
    from ledger.source import Source
    from vault.backup.building import Materials, RestoreReport
    from vault.backup.drill import DrillReport


@click.group()
def backup() -> None:
    """Back up data and keys, apart from each other.

    Any copy of vault.db itself counts as a key backup.

    Example: kluis backup data /backup/data-2026-11-24.kluis
    """


@backup.command("data")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def backup_data(context: Context, out: Path, *, as_json: bool) -> None:
    """Write everything but keys into a new file: records stay sealed in it.

    Example: kluis backup data /backup/data-2026-11-24.kluis
    """
    with context.open() as vault:
        report = vault.backup_data(out)
    if as_json:
        emit_json(
            {
                "records": report.records,
                "erased": report.erased,
                "versions": report.versions,
                "leaves": report.leaves,
                "bytes": report.size,
            }
        )
    else:
        click.echo(
            f"{out}: {counted(report.records, 'record')}, {report.erased} erased,"
            f" {report.leaves} ledger entries, {report.size} bytes; no keys."
        )


@backup.command("keys")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--since",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Only what changed since this key backup; restore names both, in order.",
)
@json_option
@click.pass_obj
def backup_keys(context: Context, out: Path, since: Path | None, *, as_json: bool) -> None:
    """Write the sealed keys into a new file, without any root key.

    Keep it apart from data backups, and no longer than your certificates say.

    Example: kluis backup keys /safe/keys-2026-11-24.kluis
    """
    with context.open() as vault:
        vault.backup_keys(out, since=since)
    size = out.stat().st_size
    if as_json:
        emit_json({"bytes": size, "since": None if since is None else str(since)})
    else:
        click.echo(f"{out}: {size} bytes of sealed keys; the root keys stay where they are.")


@click.command()
@click.argument("folder", metavar="NEWDIR", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--keys",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A full key backup, then those that continue it.",
)
@click.option(
    "--rootkey",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Root key file, or a folder of them, where root keys lie in files.",
)
@click.option("--ledger", metavar="DIR|URL", help="The newest published ledger there is.")
@click.option(
    "--signer",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder signer/ of the vault that is lost; without it, nothing is signed.",
)
@click.option("--drill", is_flag=True, help="Only rehearse it, beside the vault of -C.")
@acting
@json_option
@click.pass_context
def restore(
    ctx: click.Context,
    folder: Path,
    data: Path,
    keys: tuple[Path, ...],
    rootkey: Path | None,
    ledger: str | None,
    signer: Path | None,
    purpose: str | None,
    *,
    drill: bool,
    as_json: bool,
) -> None:
    """Make a vault out of backups, erasing again what was erased since they were made.

    Exit 1 where the keys are older than the last shred; then no folder is made. With --drill,
    NEWDIR is not made either: the backups are restored beside the living vault, compared with it,
    and thrown away; the result is written to the vault's log.

    Example: kluis restore nieuw --data data.kluis --keys keys.kluis --rootkey oud/keys
    --signer oud/signer --ledger https://ledger.example
    """
    from vault.backup.building import Materials

    context = ctx.ensure_object(Context)
    materials = Materials(data, keys, None if ledger is None else _source(ledger))
    if drill:
        with context.open() as vault:
            report = vault.drill_restore(materials, purpose=purpose)
        _show_drill(report, as_json=as_json)
        if not report.passed:
            reason = report.refusal or "records are missing or back"
            click.echo(f"kluis: the drill did not pass: {reason}", err=True)
        ctx.exit(ExitCode.DONE if report.passed else ExitCode.FAULT)
    _show_restore(
        folder, _restore(folder, materials, rootkey, signer, context.actor), as_json=as_json
    )


def _restore(
    folder: Path,
    materials: Materials,
    rootkey: Path | None,
    signer: Path | None,
    actor: str | None,
) -> RestoreReport:
    from vault.backup.restore import RestoreOrder, restore
    from vault.clock import SystemClock

    order = RestoreOrder(folder, materials, rootkey, signer, actor)
    return restore(order, read_passphrase(confirm=False), SystemClock())


def _source(named: str) -> Source:
    from ledger.net.places import source_at

    return source_at(named)


def _show_restore(folder: Path, report: RestoreReport, *, as_json: bool) -> None:
    replayed = report.replayed
    if as_json:
        emit_json(
            {
                "folder": str(folder),
                "records": report.records,
                "versions": report.versions,
                "replayed": asdict(replayed),
                "findings": None if report.findings is None else str(report.findings),
                "leaves": report.leaves,
                "leaves_added": report.leaves_added,
                "generations": list(report.generations),
                "signs": report.signs,
            }
        )
        return
    click.echo(f"Made a vault in {folder}: {counted(report.records, 'living record')}.")
    for name, count in asdict(replayed).items():
        if count:
            click.echo(f"{name.replace('_', ' '):<10} {count}")
    click.echo(f"ledger     {report.leaves} entries, {report.leaves_added} newer than the data")
    if report.findings is not None:
        click.echo(f"look at    {report.findings}: what the backups did not hold, by pointer")
    if not report.signs:
        click.echo("signer     missing: bring the folder signer/ before anything can be signed")


def _show_drill(report: DrillReport, *, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "passed": report.passed,
                "records": report.records,
                "readable": report.readable,
                "unreadable": report.unreadable,
                "resurrected": report.resurrected,
                "newer": report.newer,
                "replayed": report.replayed,
                "refusal": report.refusal,
            }
        )
        return
    if report.refusal is not None:
        click.echo("refused    nothing was restored")
        return
    click.echo(f"restored   {counted(report.records, 'record')}, {report.readable} readable")
    click.echo(f"erased     {report.replayed} erased again, {report.resurrected} resurrected")
    click.echo(f"unreadable {report.unreadable}; {report.newer} newer than the backup")
    if report.passed:
        click.echo("The drill passed.")
