"""`kluis erase`: one record, one field group of it, or all records of a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from commands.context import (
    Context,
    acting,
    counted,
    emit_json,
    json_option,
    local_time,
    read_subject,
)
from commands.display import table
from commands.exitcodes import ExitCode
from policy import Decision, Ground, Outcome

if TYPE_CHECKING:
    from vault import Erasure, PersonErasure, Vault

_ERASED = "erased"


@dataclass(frozen=True, slots=True)
class _Request:
    """What is to be erased, why, and how the answer is shown."""

    ground: Ground
    purpose: str | None
    dry_run: bool
    as_json: bool


@click.command()
@click.argument("pointer", required=False)
@click.option(
    "--subject", metavar="ID", help="All records of this subject; - reads it from standard input."
)
@click.option("--group", metavar="NAME", help="Only this field group of the record.")
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
    pointer: str | None,
    subject: str | None,
    group: str | None,
    ground: str,
    purpose: str | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Erase a record where law and policy allow it, and print the decision either way.

    Exit 3 means refused, with the article and the date; exit 4 that it was erased before. With
    --subject, every record of a person is decided by itself, and exit 3 means that one or more
    were refused. A record that was to be kept until a day that has passed goes only by a
    destruction list that was enacted. `kluis shred` then makes it irrecoverable.

    Example: kluis erase fot2d5nazp4jwibdvshnxksywm --ground consent-withdrawn --dry-run
    """
    if (pointer is None) == (subject is None) or (subject is not None and group is not None):
        raise click.UsageError("name one record, with or without --group, or one --subject")
    request = _Request(Ground(ground), purpose, dry_run, as_json)
    with ctx.ensure_object(Context).open() as vault:
        if pointer is not None:
            code = _erase_record(vault, pointer, group, request)
        elif subject is not None:
            code = _erase_person(vault, read_subject(subject), request)
    ctx.exit(code)


@dataclass(frozen=True, slots=True)
class _Answer:
    outcome: str
    decision: Decision
    index: int | None = None
    files_clean: bool | None = None
    versions: int | None = None
    erased_at: int | None = None
    pruned: str | None = None


def _erase_record(vault: Vault, pointer: str, group: str | None, request: _Request) -> ExitCode:
    if request.dry_run:
        decision = vault.decide(pointer, request.ground, group=group, purpose=request.purpose)
        answer = _Answer(decision.outcome, decision, vault.erasure_index(pointer))
    else:
        answer = _erase(vault, pointer, group, request)
    _show(pointer, answer, request)
    decision = answer.decision
    # What was queued is done where it stood on a destruction list.
    code = ExitCode.DONE if answer.outcome == _ERASED else _exit_code(decision.outcome)
    if code is ExitCode.REFUSED:
        advice = decision.needs or "tell the applicant the sentence above"
        click.echo(f"kluis: not erased, {decision.code} {decision.article}: {advice}", err=True)
    elif code is ExitCode.ERASED:
        what = f"; {answer.pruned}" if answer.pruned else ""
        click.echo(f"kluis: record {pointer} was erased before, nothing to do{what}", err=True)
    return code


def _erase(vault: Vault, pointer: str, group: str | None, request: _Request) -> _Answer:
    from vault import Erased, Refused

    try:
        if group is None:
            erasure = _erase_whole(vault, pointer, request)
        else:
            erasure = vault.erase_group(pointer, group, request.ground, purpose=request.purpose)
    except Refused as refused:
        return _Answer(refused.decision.outcome, refused.decision)
    except Erased as erased:
        if erased.decision is None:
            raise
        return _Answer(
            erased.decision.outcome,
            erased.decision,
            erased.leaf,
            erased_at=erased.erased_at,
            pruned=erased.pruned,
        )
    return _Answer(
        _ERASED,
        erasure.decision,
        files_clean=erasure.files_clean,
        versions=erasure.versions,
        erased_at=erasure.erased_at,
    )


def _erase_whole(vault: Vault, pointer: str, request: _Request) -> Erasure:
    """Erase a record; one whose time has come goes by the destruction list on which it stands."""
    from vault import ListNeeded, Refused

    try:
        return vault.erase(pointer, request.ground, purpose=request.purpose)
    except Refused as refused:
        if refused.decision.outcome is not Outcome.QUEUED:
            raise
        try:
            return vault.erase_listed(pointer, request.ground, purpose=request.purpose)
        except ListNeeded:
            raise refused from None


def _erase_person(vault: Vault, subject: str, request: _Request) -> ExitCode:
    call = vault.decide_person if request.dry_run else vault.erase_person
    person = call(subject, request.ground, purpose=request.purpose)
    _show_person(person, request)
    if person.is_complete:
        return ExitCode.DONE
    outcomes = [one.decision.outcome for one in person.records.values()]
    refused = sum(outcome is not Outcome.ALLOWED for outcome in outcomes)
    click.echo(
        f"kluis: {refused} of {counted(len(outcomes), 'record')} not erased: tell the applicant"
        " the sentence of each",
        err=True,
    )
    return ExitCode.REFUSED


def _show_person(person: PersonErasure, request: _Request) -> None:
    if request.as_json:
        emit_json(
            {
                "records": [
                    {
                        "pointer": pointer,
                        **_decision_document(answer.decision, request),
                        "groups": [
                            {"name": name, **_decision_document(decision, request)}
                            for name, decision in answer.groups.items()
                        ],
                    }
                    for pointer, answer in person.records.items()
                ],
                "erased_at": person.erased_at,
                "files_clean": person.files_clean,
                "dry_run": request.dry_run,
            }
        )
        return
    rows = []
    for pointer, answer in person.records.items():
        rows.append((pointer, answer.decision))
        rows += [(f"  {name}", decision) for name, decision in answer.groups.items()]
    table(
        "Dry run: nothing was changed" if request.dry_run else "Records of this person",
        ("record", "outcome", "decision", "date"),
        [
            (
                name,
                _person_outcome(decision, dry_run=request.dry_run),
                decision.code,
                decision.date.isoformat() if decision.date else "",
            )
            for name, decision in rows
        ],
    )
    # Below the table, in which they would not leave a pointer on one line.
    for decision in dict.fromkeys(decision for _, decision in rows):
        click.echo(f"{decision.code}, {decision.article}")
        click.echo(f"  nl  {decision.sentence_nl}")
        click.echo(f"  en  {decision.sentence_en}")


def _decision_document(decision: Decision, request: _Request) -> dict[str, object]:
    return {
        "outcome": _person_outcome(decision, dry_run=request.dry_run),
        "code": decision.code,
        "article": decision.article,
        "date": decision.date.isoformat() if decision.date else None,
        "needs": decision.needs,
        "sentence_nl": decision.sentence_nl,
        "sentence_en": decision.sentence_en,
        "rule_version": decision.rule_version,
    }


def _person_outcome(decision: Decision, *, dry_run: bool) -> str:
    if decision.outcome is Outcome.ALLOWED and not dry_run:
        return _ERASED
    return decision.outcome


def _exit_code(outcome: Outcome) -> ExitCode:
    return {
        Outcome.ALLOWED: ExitCode.DONE,
        Outcome.ALREADY_ERASED: ExitCode.ERASED,
    }.get(outcome, ExitCode.REFUSED)


def _show(pointer: str, answer: _Answer, request: _Request) -> None:
    decision = answer.decision
    date = decision.date.isoformat() if decision.date else None
    if request.as_json:
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
                "dry_run": request.dry_run,
                "needs": decision.needs,
                "sentence_nl": decision.sentence_nl,
                "sentence_en": decision.sentence_en,
                "rule_version": decision.rule_version,
            }
        )
        return
    rehearsed = " (dry run: nothing was changed)" if request.dry_run else ""
    click.echo(f"record    {pointer}")
    click.echo(f"outcome   {answer.outcome}{rehearsed}")
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
