"""`kluis ledger export` and `ledger serve`, which commands/ledgering.py puts into their group."""

from __future__ import annotations

from pathlib import Path

import click

from commands.context import Context, counted, emit_json, json_option


@click.command("export")
@click.argument("target", metavar="DIR|s3://BUCKET/PREFIX")
@json_option
@click.pass_obj
def ledger_export(context: Context, target: str, *, as_json: bool) -> None:
    """Write checkpoint, tiles and entries as files that any web server or bucket can serve.

    Only what is new is written, and a file that is full never changes. For a bucket, endpoint and
    credentials come from where other S3 tools find them (AWS_ENDPOINT_URL_S3, AWS_PROFILE).
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


@click.command("serve")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:8000",
    show_default=True,
    help="Address to listen on; port 0 takes a free one.",
)
def ledger_serve(folder: Path, listen: str) -> None:
    """Serve a folder that `kluis ledger export` wrote over HTTP, read-only, until interrupted.

    Neither vault nor passphrase is needed: only the published files are read, and new exports are
    seen at once. Put a web server with TLS before it where others are to read.

    Example: kluis ledger serve /srv/ledger --listen 127.0.0.1:8000
    """
    from ledger.net.logserver import LogServer
    from ledger.net.serving import parse_listen, serve

    host, port = parse_listen(listen)
    serve(LogServer(folder), host, port, lambda url: click.echo(f"Serving {folder} at {url}"))
