"""`kluis escrow`: the key of records that are kept for ever, in the hands of custodians."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.context import Context, acting, counted, emit_json, json_option, write_output
from commands.exitcodes import ExitCode
from commands.shredding import PROVIDERS, options_option, tell_steps
from policy import Ground

if TYPE_CHECKING:
    from vault.escrow.shares import Share

_GROUNDS = (Ground.LEGAL_DUTY.value, Ground.UNLAWFUL.value)
shares_argument = click.argument(
    "shares", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SHARE..."
)


@click.group()
def escrow() -> None:
    """Share out, rehearse and recover the key of records that are kept for ever.

    Example: kluis escrow drill share-1-1.json share-1-3.json
    """


@escrow.command("make")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--custodian", "custodians", multiple=True, required=True, metavar="NAME")
@click.option("--threshold", required=True, type=int, help="How many of them bring the key back.")
@acting
@json_option
@click.pass_context
def escrow_make(
    ctx: click.Context,
    folder: Path,
    custodians: tuple[str, ...],
    threshold: int,
    purpose: str | None,
    *,
    as_json: bool,
) -> None:
    """Write one share file for each custodian; hand each over and keep none.

    Example: kluis escrow make shares --threshold 2 --custodian Griffier --custodian Notaris
    --custodian Archivaris
    """
    with ctx.ensure_object(Context).open() as vault:
        paths = vault.make_escrow(custodians, threshold, folder, purpose=purpose)
    if as_json:
        emit_json({"threshold": threshold, "shares": [str(path) for path in paths]})
        return
    for name, path in zip(custodians, paths, strict=True):
        click.echo(f"{path}  for {name}")
    click.echo(
        f"Any {threshold} of these open the permanent records' keys. Keep none of them here."
    )


@escrow.command("drill")
@shares_argument
@acting
@json_option
@click.pass_context
def escrow_drill(
    ctx: click.Context, shares: tuple[Path, ...], purpose: str | None, *, as_json: bool
) -> None:
    """Prove that these shares open the permanent keys; changes nothing else.

    Example: kluis escrow drill share-1-1.json share-1-3.json
    """
    with ctx.ensure_object(Context).open() as vault:
        keys = vault.drill_escrow(_read(shares), purpose=purpose)
    if as_json:
        emit_json({"keys": keys, "shares": len(shares)})
    else:
        click.echo(f"{counted(len(shares), 'share')} opened {counted(keys, 'permanent key')}.")


@escrow.command("recover")
@shares_argument
@click.option("--provider", type=click.Choice(PROVIDERS), default="file", help="Its new keeper.")
@options_option
@acting
@json_option
@click.pass_context
def escrow_recover(
    ctx: click.Context,
    shares: tuple[Path, ...],
    provider: str,
    options: tuple[tuple[str, str], ...],
    purpose: str | None,
    *,
    as_json: bool,
) -> None:
    """Give the permanent keys a new root key, where its keeper lost the old one.

    Make a new escrow afterwards: these shares open only what was there until now.

    Example: kluis escrow recover share-1-1.json share-1-3.json --provider file
    """
    from policy.assurance import ProviderKind
    from vault.closing import NewPlace

    place = NewPlace(ProviderKind(provider), dict(options))
    with ctx.ensure_object(Context).open() as vault:
        report = vault.recover_escrow(_read(shares), place, purpose=purpose, on_step=tell_steps())
    has_answered = report is not None and not report.waiting
    if as_json:
        emit_json({"recovered": True, "old_keeper_answered": has_answered})
        return
    click.echo(f"The permanent keys have a new root key at provider {provider}.")
    if not has_answered:
        click.echo("The old keeper does not say that its root key is gone; kluis shred asks again.")
    click.echo("Next: kluis escrow make DIR, and let the custodians destroy the old shares")


@escrow.command("attest")
@click.argument("share", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FILE", help="Write here instead of to standard output.")
def escrow_attest(share: Path, output: str | None) -> None:
    """Sign, as a custodian, that a share is destroyed; this removes the share's file.

    Needs no vault. Destroy every other copy of the share first: this is your statement.

    Example: kluis escrow attest share-1-2.json -o attestation.json
    """
    from vault.escrow.attestation import attest

    (read,) = _read([share])
    if output is not None and Path(output).exists() and Path(output).samefile(share):
        raise click.UsageError("the statement needs another file than the share, which is removed")
    write_output(output, attest(read, int(time.time())).format())
    share.unlink()


@escrow.command("accept")
@click.argument(
    "statements", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@acting
@json_option
@click.pass_context
def escrow_accept(
    ctx: click.Context, statements: tuple[Path, ...], purpose: str | None, *, as_json: bool
) -> None:
    """Take in custodians' statements that their shares are destroyed.

    Example: kluis escrow accept attestation.json
    """
    from vault.escrow.attestation import Attestation

    parsed = [Attestation.parse(_bytes(path)) for path in statements]
    with ctx.ensure_object(Context).open() as vault:
        for one in parsed:
            vault.accept_attestation(one, purpose=purpose)
    if as_json:
        emit_json({"accepted": len(parsed)})
    else:
        click.echo(f"Took in {counted(len(parsed), 'statement')}.")


@escrow.command("break-glass")
@click.argument("pointer")
@click.option("--ground", required=True, type=click.Choice(_GROUNDS), help="Art. 17(1)(e) or (d).")
@click.option("--share", "shares", multiple=True, required=True, type=click.Path(path_type=Path))
@click.option(
    "--approved-by",
    "approvals",
    nargs=2,
    multiple=True,
    required=True,
    metavar="NAME ROLE",
    help="Who decided it; two different persons.",
)
@acting
@json_option
@click.pass_context
def escrow_break_glass(
    ctx: click.Context,
    pointer: str,
    ground: str,
    shares: tuple[Path, ...],
    approvals: tuple[tuple[str, str], ...],
    purpose: str | None,
    *,
    as_json: bool,
) -> None:
    """Erase a record that is kept for ever, on an order (D2b) or as unlawfully collected (D5).

    Takes the shares of as many custodians as the escrow needs. It stays partial until the root
    key's keeper has destroyed it and the custodians have attested that their shares are destroyed.

    Example: kluis escrow break-glass fot2d5nazp4jwibdvshnxksywm --ground legal-duty
    --share share-1-1.json --share share-1-3.json --approved-by "A. Vos" "privacy officer"
    --approved-by "B. Smit" archivist
    """
    from vault import Refused
    from vault.escrowing import Approval

    try:
        with ctx.ensure_object(Context).open() as vault:
            erasure = vault.break_glass(
                pointer,
                Ground(ground),
                _read(shares),
                [Approval(name, role) for name, role in approvals],
                purpose=purpose,
            )
    except Refused as refused:
        click.echo(
            f"kluis: not erased, {refused.decision.code} {refused.decision.article}", err=True
        )
        ctx.exit(ExitCode.REFUSED)
    decision = erasure.decision
    if as_json:
        emit_json({"pointer": pointer, "outcome": "erased", "code": decision.code})
    else:
        click.echo(f"record    {pointer}")
        click.echo(f"outcome   erased, {decision.code}, {decision.article}")
        click.echo("next      kluis shred; until its conditions are met the certificate is partial")


def _read(paths: Sequence[Path]) -> list[Share]:
    from vault.escrow.shares import Share

    return [Share.read(path) for path in paths]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from None
