"""`kluis put`, `get`, `history`, `find` and `rectify`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, TypeVar

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

Command = TypeVar("Command", bound=Callable[..., Any])


def _pairs(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if not all(name and file for name, _, file in pairs):
        raise click.BadParameter("NAME=FILE is expected, such as contact=contact.json")
    groups = {name: file for name, _, file in pairs}
    if len(groups) != len(pairs):
        raise click.BadParameter("a field group is given twice")
    return groups


def _groups_option(command: Command) -> Command:
    return click.option(
        "--group",
        "groups",
        multiple=True,
        metavar="NAME=FILE",
        callback=_pairs,
        help="An optional field group of the category, and its content; repeatable.",
    )(command)


def _read_groups(groups: dict[str, str], *others: str) -> dict[str, bytes]:
    """Return the content of field groups; `others` is what else may come from standard input."""
    from vault.preparing import MAX_PAYLOAD_BYTES

    if [*groups.values(), *others].count(STDIN) > 1:
        raise click.UsageError("only one of these can come from standard input")
    return {name: read_input(file, MAX_PAYLOAD_BYTES) for name, file in groups.items()}


@click.command()
@click.argument("file", metavar="FILE|-")
@click.option("--category", required=True, metavar="C", help="Record category, as configured.")
@click.option("--subject", required=True, metavar="ID|-", help="Whom it is about; - reads it.")
@dates_options
@_groups_option
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
    groups: dict[str, str],
    purpose: str | None,
    *,
    wait: bool,
    as_json: bool,
) -> None:
    """Store one record and print its pointer, alone.

    With --subject - the identifier is read from standard input, so that it stays out of process
    lists. A field group, such as --group contact=contact.json, is data that no duty keeps: `kluis
    erase --group contact` erases it while the record stays.

    Example: kluis put besluit.json --category wmo --subject - --brondatum 2026-03-31
    """
    from vault.preparing import MAX_PAYLOAD_BYTES

    if file == STDIN and subject == STDIN:
        raise click.UsageError("payload and subject cannot both come from standard input")
    contents = _read_groups(groups, file, subject)
    payload = read_input(file, MAX_PAYLOAD_BYTES)
    with context.open() as vault:
        pointer = vault.put(
            payload,
            category=category,
            subject=read_subject(subject),
            brondatum=brondatum,
            record_date=record_date,
            groups=contents,
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
@click.option("--group", metavar="NAME", help="The newest content of this field group instead.")
@acting
@click.pass_obj
def get(context: Context, pointer: str, group: str | None, purpose: str | None) -> None:
    """Print the payload of a record, byte for byte.

    Example: kluis get fot2d5nazp4jwibdvshnxksywm --purpose inzage
    """
    with context.open() as vault:
        payload = vault.get(pointer, group, purpose=purpose)
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
                        "pruned": version.pruned,
                        "groups": list(version.groups),
                    }
                    for version in versions
                ],
            }
        )
        return
    for version in versions:
        where = "pending" if version.leaf is None else f"entry {version.leaf}"
        where = "entry pruned" if version.pruned else where
        state = "erased" if version.erased else "readable"
        groups = f"  with {', '.join(version.groups)}" if version.groups else ""
        click.echo(
            f"version {version.number}  {local_time(version.at)}  {version.actor}"
            f"  {version.purpose}  {state}  {where}{groups}"
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
@_groups_option
@acting
@json_option
@click.pass_obj
def rectify(
    context: Context,
    pointer: str,
    file: str,
    groups: dict[str, str],
    purpose: str | None,
    *,
    as_json: bool,
) -> None:
    """Append a corrected version of a record; earlier ones stay in its history.

    A field group that is not given keeps its newest content.

    Example: kluis rectify fot2d5nazp4jwibdvshnxksywm corrected.json
    """
    from vault.preparing import MAX_PAYLOAD_BYTES

    contents = _read_groups(groups, file)
    payload = read_input(file, MAX_PAYLOAD_BYTES)
    with context.open() as vault:
        version = vault.rectify(pointer, payload, groups=contents, purpose=purpose)
    if as_json:
        emit_json({"pointer": pointer, "version": version})
    else:
        click.echo(f"Record {pointer} now has version {version}.")
