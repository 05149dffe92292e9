"""`kluis erase`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from commands.context import Context, acting, emit_json, json_option
from commands.exitcodes import ExitCode
from policy import Decision, Ground, Outcome

if TYPE_CHECKING:
    from vault import Vault

_ERASED = "erased"


@click.command()
@click.argument("pointer")
@click.option(
    "--ground",
    required=True,
    type=click.Choice([ground.value for ground in Ground]),
    help="Ground of the request, GDPR art. 17(1).",
)
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@acting
@json_option
@click.pass_context
def erase(
    ctx: click.Context,
    pointer: str,
    ground: str,
    purpose: str | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Erase a record where law and policy allow it, and print the decision either way.

    Exit 3 means refused, with the article and the date; exit 4 that it was erased before.

    Example: kluis erase fot2d5nazp4jwibdvshnxksywm --ground consent-withdrawn --dry-run
    """
    with ctx.ensure_object(Context).open() as vault:
        if dry_run:
            outcome, decision, index = _rehearse(vault, pointer, Ground(ground), purpose)
        else:
            outcome, decision, index = _erase(vault, pointer, Ground(ground), purpose)
    _show(pointer, outcome, decision, index, dry_run=dry_run, as_json=as_json)
    code = _exit_code(decision.outcome)
    if code is ExitCode.REFUSED:
        advice = decision.needs or "tell the applicant the sentence above"
        click.echo(f"kluis: not erased, {decision.code} {decision.article}: {advice}", err=True)
    elif code is ExitCode.ERASED:
        click.echo(f"kluis: record {pointer} was erased before, nothing to do", err=True)
    ctx.exit(code)


def _rehearse(
    vault: Vault, pointer: str, ground: Ground, purpose: str | None
) -> tuple[str, Decision, int | None]:
    decision = vault.decide(pointer, ground, purpose=purpose)
    return decision.outcome, decision, vault.erasure_index(pointer)


def _erase(
    vault: Vault, pointer: str, ground: Ground, purpose: str | None
) -> tuple[str, Decision, int | None]:
    from vault import Erased, Refused

    try:
        return _ERASED, vault.erase(pointer, ground, purpose=purpose).decision, None
    except Refused as refused:
        return refused.decision.outcome, refused.decision, None
    except Erased as erased:
        if erased.decision is None:
            raise
        return erased.decision.outcome, erased.decision, erased.leaf


def _exit_code(outcome: Outcome) -> ExitCode:
    return {
        Outcome.ALLOWED: ExitCode.DONE,
        Outcome.ALREADY_ERASED: ExitCode.ERASED,
    }.get(outcome, ExitCode.REFUSED)


def _show(
    pointer: str,
    outcome: str,
    decision: Decision,
    index: int | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    date = decision.date.isoformat() if decision.date else None
    if as_json:
        emit_json(
            {
                "pointer": pointer,
                "outcome": outcome,
                "code": decision.code,
                "article": decision.article,
                "date": date,
                "index": index,
                "dry_run": dry_run,
                "needs": decision.needs,
                "sentence_nl": decision.sentence_nl,
                "sentence_en": decision.sentence_en,
                "rule_version": decision.rule_version,
            }
        )
        return
    click.echo(f"record    {pointer}")
    click.echo(f"outcome   {outcome}{' (dry run: nothing was changed)' if dry_run else ''}")
    click.echo(f"decision  {decision.code}, {decision.article}")
    if date:
        click.echo(f"date      {date} (archiefactiedatum)")
    if index is not None:
        click.echo(f"entry     {index} of the ledger")
    click.echo(f"nl        {decision.sentence_nl}")
    click.echo(f"en        {decision.sentence_en}")
