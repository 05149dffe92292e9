"""`kluis ledger export` and `ledger serve`, which commands/ledgering.py puts into their group."""

from __future__ import annotations

import click

from commands.context import Context, counted, emit_json, json_option


@click.command("export")
@click.argument("target", metavar="DIR|s3://BUCKET/PREFIX")
@json_option
@click.pass_obj
def ledger_export(context: Context, target: str, *, as_json: bool) -> None:
    """Write checkpoint, tiles and entries as files that any web server or bucket can serve.

    Only what is new is written, and a file that is full never changes. For a bucket, endpoint and
    credentials come from where other S3 tools find them, such as AWS_ENDPOINT_URL_S3 and AWS_PROFILE.
    `kluis restore --ledger` reads what is published to replay what was erased since a backup.

    Example: kluis ledger export /srv/ledger
    """
    with context.open() as vault:
        report = vault.export_ledger(target)
    if as_json:
        emit_json({"size": report.size, "written": report.written, "kept": report.kept})
    else:
        click.echo(
            f"{report.size} entries in"
            f" {target}: {counted(report.written, 'file')} written, {report.kept} kept."
        )
