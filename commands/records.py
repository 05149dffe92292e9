"""`kluis put`, `get`, `history`, `find` and `rectify`."""

from __future__ import annotations

import datetime as dt

import click

from commands.context import (
    STDIN,
    Context,
    acting,
    dates_options,
    emit_json,
    json_option,
    local_time,
    read_input,
    read_subject,
    write_output,
)


@click.command()
@click.argument("file", metavar="FILE|-")
@click.option("--category", required=True, metavar="C", help="Record category, as configured.")
@click.option("--subject", required=True, metavar="ID|-", help="Whom it is about; - reads it.")
@dates_options
@click.option("--wait", is_flag=True, help="Return when a signed checkpoint includes it.")
@acting
@json_option
@click.pass_obj
def put(
    context: Context,
    file: str,
    category: str,
    subject: str,
    brondatum: dt.date | None,
    record_date: dt.date | None,
    purpose: str | None,
    *,
    wait: bool,
    as_json: bool,
) -> None:
    """Store one record and print its pointer, alone.

    With --subject - the identifier is read from standard input, so that it stays out of process
    lists.

    Example: kluis put besluit.json --category wmo --subject - --brondatum 2026-03-31
    """
    from vault.preparing import MAX_PAYLOAD_BYTES

    if file == STDIN and subject == STDIN:
        raise click.UsageError("payload and subject cannot both come from standard input")
    payload = read_input(file, MAX_PAYLOAD_BYTES)
    with context.open() as vault:
        pointer = vault.put(
            payload,
            category=category,
            subject=read_subject(subject),
            brondatum=brondatum,
            record_date=record_date,
            purpose=purpose,
        )
        # First, so that nobody stores it again when the checkpoint fails.
        if as_json:
            emit_json({"pointer": pointer})
        else:
            click.echo(pointer)
        if wait:
            vault.checkpoint()


@click.command()
@click.argument("pointer")
@acting
@click.pass_obj
def get(context: Context, pointer: str, purpose: str | None) -> None:
    """Print the payload of a record, byte for byte.

    Example: kluis get fot2d5nazp4jwibdvshnxksywm --purpose inzage
    """
    with context.open() as vault:
        payload = vault.get(pointer, purpose=purpose)
    write_output(None, payload)


@click.command()
@click.argument("pointer")
@acting
@json_option
@click.pass_obj
def history(context: Context, pointer: str, purpose: str | None, *, as_json: bool) -> None:
    """Print the versions of a record: when, by whom, and where the ledger says so.

    Example: kluis history fot2d5nazp4jwibdvshnxksywm
    """
    with context.open() as vault:
        versions = vault.history(pointer, purpose=purpose)
    if as_json:
        emit_json(
            {
                "pointer": pointer,
                "versions": [
                    {
                        "version": version.number,
                        "at": version.at,
                        "actor": version.actor,
                        "purpose": version.purpose,
                        "erased": version.erased,
                        "index": version.leaf,
                    }
                    for version in versions
                ],
            }
        )
        return
    for version in versions:
        where = "pending" if version.leaf is None else f"entry {version.leaf}"
        state = "erased" if version.erased else "readable"
        click.echo(
            f"version {version.number}  {local_time(version.at)}  {version.actor}"
            f"  {version.purpose}  {state}  {where}"
        )


@click.command()
@click.option("--subject", required=True, metavar="ID|-", help="Whom to look for; - reads it.")
@acting
@json_option
@click.pass_obj
def find(context: Context, subject: str, purpose: str | None, *, as_json: bool) -> None:
    """Print the pointers of all living records about a subject, one on each line.

    Example: echo 999990019 | kluis find --subject -
    """
    with context.open() as vault:
        pointers = vault.find(read_subject(subject), purpose=purpose)
    if as_json:
        emit_json({"pointers": pointers})
        return
    for pointer in pointers:
        click.echo(pointer)


@click.command()
@click.argument("pointer")
@click.argument("file", metavar="FILE|-")
@acting
@json_option
@click.pass_obj
def rectify(
    context: Context, pointer: str, file: str, purpose: str | None, *, as_json: bool
) -> None:
    """Append a corrected version of a record; earlier ones stay in its history.

    Example: kluis rectify fot2d5nazp4jwibdvshnxksywm corrected.json
    """
    from vault.preparing import MAX_PAYLOAD_BYTES

    payload = read_input(file, MAX_PAYLOAD_BYTES)
    with context.open() as vault:
        version = vault.rectify(pointer, payload, purpose=purpose)
    if as_json:
        emit_json({"pointer": pointer, "version": version})
    else:
        click.echo(f"Record {pointer} now has version {version}.")
