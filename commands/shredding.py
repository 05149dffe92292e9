"""`kluis shred`, `kluis certificate` and `kluis rootkey`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.context import (
    Context,
    acting,
    counted,
    emit_json,
    json_option,
    local_time,
    write_output,
)
from commands.display import table

if TYPE_CHECKING:
    from vault.closing import OnStep
    from vault.shredding import ShredReport
    from vault.shredstatus import ShredStatus

# As in vault/rootkeys/provider.py; spelt here, so that --help loads no provider.
PROVIDERS = ("file", "pkcs11", "transit", "awskms")

options_option = click.option(
    "--option",
    "options",
    metavar="NAME VALUE",
    nargs=2,
    multiple=True,
    help="Of the provider; secrets are named by files, such as pin_file or token_file, whose paths"
    " are relative to the vault.",
)


@click.command()
@click.option("--status", "only_status", is_flag=True, help="Only say what waits, and for what.")
@click.option(
    "--no-copies-declared-by",
    "declared_by",
    metavar="NAME",
    help="State, in this operator's name, that no copy of any destroyed key file exists.",
)
@click.option(
    "--backup",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep the key backup that is rehearsed, in this new file outside the vault.",
)
@click.option(
    "--wait",
    "patience",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="How long to wait for other processes; a minute if not given.",
)
@acting
@json_option
@click.pass_context
def shred(
    ctx: click.Context,
    declared_by: str | None,
    backup: Path | None,
    patience: float | None,
    purpose: str | None,
    *,
    only_status: bool,
    as_json: bool,
) -> None:
    """Make what was erased irrecoverable in every copy, and issue the certificates.

    Destroys the root keys under which erased records ever lay, after all that lives was moved away
    from them and a backup of its keys was rehearsed. Run again, it finishes what was cut off.

    Example: kluis shred --no-copies-declared-by "J. de Boer"
    """
    from vault.config import checked_actor
    from vault.shredding import PATIENCE_SECONDS

    if declared_by is not None:
        if only_status:
            raise click.UsageError("--status only looks: it does not go with a declaration")
        # Before anything is destroyed.
        checked_actor(declared_by)
    with ctx.ensure_object(Context).open() as vault:
        if only_status:
            _show_status(vault.shred_status(), as_json=as_json)
            return
        report = vault.shred(
            backup=backup,
            declared_by=declared_by,
            patience=PATIENCE_SECONDS if patience is None else patience,
            purpose=purpose,
            on_step=tell_steps(),
        )
        _show_report(report, vault.shred_status(), as_json=as_json)


@click.command()
@click.argument("pointer")
@click.option("-o", "--output", metavar="FILE", help="Write here instead of to standard output.")
@click.option("--pdf", metavar="FILE", help="Write a signed PDF that embeds it, in two languages.")
@click.option("--proof", metavar="FILE", help="Write evidence that the ledger holds its digest.")
@click.option("--group", metavar="NAME", help="Of a field group that was erased by itself.")
@json_option
@click.pass_context
def certificate(
    ctx: click.Context,
    pointer: str,
    output: str | None,
    pdf: str | None,
    proof: str | None,
    group: str | None,
    *,
    as_json: bool,
) -> None:
    """Print the certificate of a record's destruction; exit 5 while there is none.

    It is signed by the organisation's key, which `kluis trust` carries, and `kluis verify` checks
    it offline. Its proof is a file of its own.

    Example: kluis certificate fot2d5nazp4jwibdvshnxksywm -o verklaring.json --pdf verklaring.pdf
    """
    with ctx.ensure_object(Context).open() as vault:
        signed = vault.certificate(pointer, group=group)
        if pdf is not None:
            write_output(pdf, vault.certificate_pdf(signed))
        if proof is not None:
            write_output(proof, vault.prove_certificate(signed).format())
        if output is not None:
            write_output(output, signed.format())
    if as_json:
        stated = signed.certificate
        emit_json(
            {
                "pointer": stated.pointer,
                "status": stated.status,
                "irrecoverability": stated.irrecoverability,
                "erased_at": stated.erased_at.isoformat(),
                "irrecoverable_at": stated.irrecoverable_at and stated.irrecoverable_at.isoformat(),
                "failures": list(stated.failures),
                "digest": signed.digest().hex(),
            }
        )
    elif output is None and pdf is None and proof is None:
        write_output(None, signed.format())


@click.group()
def rootkey() -> None:
    """Show where the root keys are kept, and move them elsewhere.

    Example: kluis rootkey show
    """


@rootkey.command("show")
@json_option
@click.pass_context
def rootkey_show(ctx: click.Context, *, as_json: bool) -> None:
    """Show every generation: its provider, what became of its root key, and what that is worth.

    Example: kluis rootkey show
    """
    with ctx.ensure_object(Context).open() as vault:
        keys = vault.root_keys()
    if as_json:
        emit_json(
            {
                "generations": [
                    {
                        "tree": key.generation.tree.name.lower(),
                        "generation": key.generation.number,
                        "provider": key.provider,
                        "options": key.options,
                        "reference": key.generation.reference,
                        "state": key.generation.state,
                        "response": key.generation.response,
                        "assurance": key.assurance,
                    }
                    for key in keys
                ]
            }
        )
        return
    table(
        "Root keys",
        ("tree", "generation", "provider", "root key", "state", "the provider's answer"),
        [
            (
                key.generation.tree.name.lower(),
                str(key.generation.number),
                key.provider,
                key.generation.reference,
                key.generation.state,
                key.generation.response or "",
            )
            for key in keys
        ],
    )
    for words in sorted({key.assurance for key in keys}):
        click.echo(words)


@rootkey.command("move")
@click.argument("provider", type=click.Choice(PROVIDERS))
@options_option
@click.option("--permanent", is_flag=True, help="Move the keys of records that are kept for ever.")
@acting
@json_option
@click.pass_context
def rootkey_move(
    ctx: click.Context,
    provider: str,
    options: tuple[tuple[str, str], ...],
    purpose: str | None,
    *,
    permanent: bool,
    as_json: bool,
) -> None:
    """Move the vault's root keys to another provider and destroy those it leaves behind.

    The same command after a crash finishes what was begun.

    Example: kluis rootkey move pkcs11 --option module /usr/lib/softhsm/libsofthsm2.so
    --option token kluis --option pin_file pin
    """
    from policy.assurance import ProviderKind
    from vault.closing import NewPlace
    from vault.rootkeys.provider import TreeNumber

    place = NewPlace(ProviderKind(provider), dict(options))
    tree = TreeNumber.PERMANENT if permanent else TreeNumber.ORDINARY
    with ctx.ensure_object(Context).open() as vault:
        report = vault.move_root_keys(place, tree, purpose=purpose, on_step=tell_steps())
        _show_report(report, vault.shred_status(), as_json=as_json)
    if not as_json and not report.gone and not report.waiting:
        click.echo(f"The {tree.name.lower()} keys lie there already.")


def tell_steps() -> OnStep:
    """Return a function that says each step on standard error, where that is a terminal."""
    from commands.display import console

    shown = console(stderr=True)
    if not shown.is_terminal:
        return lambda step: None
    return lambda step: click.echo(f"  {step}", err=True)


def _show_report(report: ShredReport, status: ShredStatus, *, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "gone": [
                    {"tree": tree.name.lower(), "generation": number}
                    for tree, number in report.gone
                ],
                "waiting": [
                    {"tree": tree.name.lower(), "generation": number, "response": response}
                    for tree, number, response in report.waiting
                ],
                "certificates": report.certificates,
                "irrecoverable": report.irrecoverable,
                "declared": report.declared,
                "status": _status_document(status),
            }
        )
        return
    if not report.trees:
        click.echo("Nothing was erased since the last shred.")
    for tree, number in report.gone:
        click.echo(f"gone      generation {number} of the {tree.name.lower()} keys")
    for tree, number, response in report.waiting:
        click.echo(f"waiting   generation {number} of the {tree.name.lower()} keys: {response}")
    if report.certificates:
        click.echo(
            f"issued    {counted(report.certificates, 'certificate')},"
            f" {report.irrecoverable} of irrecoverable erasure"
        )
    if report.declared:
        click.echo(f"declared  no copies of {counted(report.declared, 'key file')}")
    if report.declared and not status.waiting:
        click.echo("Every erasure is irrecoverable.")
    _show_waiting(status)


def _show_status(status: ShredStatus, *, as_json: bool) -> None:
    if as_json:
        emit_json(_status_document(status))
        return
    if not status.waiting:
        click.echo("Every erasure is irrecoverable.")
    _show_waiting(status)
    if status.step is not None:
        waits = f", waits for {status.waits_for}" if status.waits_for else ""
        click.echo(f"under way after the step '{status.step}'{waits}: run 'kluis shred' again")


def _show_waiting(status: ShredStatus) -> None:
    for one in status.waiting:
        overdue = "; OVERDUE" if one.overdue else ""
        click.echo(
            f"waits     {counted(one.erasures, 'erasure')}, the oldest since"
            f" {local_time(one.since)}{overdue}: {one.reason}"
        )


def _status_document(status: ShredStatus) -> Mapping[str, object]:
    return {
        "waiting": [
            {
                "reason": one.reason,
                "erasures": one.erasures,
                "since": one.since,
                "overdue": one.overdue,
            }
            for one in status.waiting
        ],
        "step": status.step,
        "waits_for": status.waits_for,
        "processes": list(status.processes),
    }
