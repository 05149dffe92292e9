"""`kluis erase`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from commands.context import Context, acting, counted, emit_json, json_option, local_time
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
            answer = _rehearse(vault, pointer, Ground(ground), purpose)
        else:
            answer = _erase(vault, pointer, Ground(ground), purpose)
    _show(pointer, answer, dry_run=dry_run, as_json=as_json)
    decision = answer.decision
    code = _exit_code(decision.outcome)
    if code is ExitCode.REFUSED:
        advice = decision.needs or "tell the applicant the sentence above"
        click.echo(f"kluis: not erased, {decision.code} {decision.article}: {advice}", err=True)
    elif code is ExitCode.ERASED:
        click.echo(f"kluis: record {pointer} was erased before, nothing to do", err=True)
    ctx.exit(code)


@dataclass(frozen=True, slots=True)
class _Answer:
    outcome: str
    decision: Decision
    index: int | None = None
    files_clean: bool | None = None
    versions: int | None = None
    erased_at: int | None = None


def _rehearse(vault: Vault, pointer: str, ground: Ground, purpose: str | None) -> _Answer:
    decision = vault.decide(pointer, ground, purpose=purpose)
    return _Answer(decision.outcome, decision, vault.erasure_index(pointer))


def _erase(vault: Vault, pointer: str, ground: Ground, purpose: str | None) -> _Answer:
    from vault import Erased, Refused

    try:
        erasure = vault.erase(pointer, ground, purpose=purpose)
    except Refused as refused:
        return _Answer(refused.decision.outcome, refused.decision)
    except Erased as erased:
        if erased.decision is None:
            raise
        return _Answer(
            erased.decision.outcome, erased.decision, erased.leaf, erased_at=erased.erased_at
        )
    return _Answer(
        _ERASED,
        erasure.decision,
        files_clean=erasure.files_clean,
        versions=erasure.versions,
        erased_at=erasure.erased_at,
    )


def _exit_code(outcome: Outcome) -> ExitCode:
    return {
        Outcome.ALLOWED: ExitCode.DONE,
        Outcome.ALREADY_ERASED: ExitCode.ERASED,
    }.get(outcome, ExitCode.REFUSED)


def _show(pointer: str, answer: _Answer, *, dry_run: bool, as_json: bool) -> None:
    decision = answer.decision
    date = decision.date.isoformat() if decision.date else None
    if as_json:
        emit_json(
            {
                "pointer": pointer,
                "outcome": answer.outcome,
                "code": decision.code,
                "article": decision.article,
                "date": date,
                "index": answer.index,
                "files_clean": answer.files_clean,
                "versions": answer.versions,
                "erased_at": answer.erased_at,
                "dry_run": dry_run,
                "needs": decision.needs,
                "sentence_nl": decision.sentence_nl,
                "sentence_en": decision.sentence_en,
                "rule_version": decision.rule_version,
            }
        )
        return
    click.echo(f"record    {pointer}")
    click.echo(f"outcome   {answer.outcome}{' (dry run: nothing was changed)' if dry_run else ''}")
    click.echo(f"decision  {decision.code}, {decision.article}")
    if date:
        click.echo(f"date      {date} (archiefactiedatum)")
    if answer.index is not None:
        click.echo(f"entry     {answer.index} of the ledger")
    if answer.erased_at is not None:
        count = "" if answer.versions is None else f", {counted(answer.versions, 'version')}"
        click.echo(f"erased    {local_time(answer.erased_at)}{count}")
    click.echo(f"nl        {decision.sentence_nl}")
    click.echo(f"en        {decision.sentence_en}")
    if answer.files_clean is False:
        click.echo(
            "note      another process reads an older state; the database's files hold a sealed"
            " former copy until it ends"
        )
