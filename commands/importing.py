"""`kluis import`."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.context import Context, acting, counted, dates_options, emit_json, json_option
from commands.display import progress

if TYPE_CHECKING:
    from vault.importing import BadList


@click.command("import")
@click.argument("file", metavar="FILE.jsonl", type=click.Path(path_type=Path))
@click.option("--category", required=True, metavar="C", help="Record category, as configured.")
@click.option(
    "--subject-field",
    required=True,
    metavar="/JSON/POINTER",
    help="Where each line says whom it is about (RFC 6901).",
)
@dates_options
@click.option("--skip-bad", is_flag=True, help="Leave bad lines out instead of stopping.")
@acting
@json_option
@click.pass_obj
def import_(
    context: Context,
    file: Path,
    category: str,
    subject_field: str,
    brondatum: dt.date | None,
    record_date: dt.date | None,
    purpose: str | None,
    *,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Import a file of JSON lines, one record each.

    The whole file is checked first; a bad line stops the import with nothing stored. The same
    command after a crash goes on where it stopped and doubles nothing.

    Example: kluis import persons.jsonl --category kindpakket --subject-field /bsn
    """
    from vault import BadLines, ImportOrder

    order = ImportOrder(file, category, subject_field, brondatum, record_date, skip_bad)
    try:
        with context.open() as vault, progress(f"Importing {file.name}") as advance:
            report = vault.import_jsonl(order, purpose=purpose, on_progress=advance)
    except BadLines as error:
        if as_json:
            _emit(0, 0, error.bad)
        raise
    if as_json:
        _emit(report.records, report.already, report.bad)
        return
    for line in report.bad.first:
        click.echo(f"line {line.number} {line.reason}: left out", err=True)
    before = f", {report.already} lines had been dealt with before" if report.already else ""
    stored = counted(report.records, "record")
    click.echo(f"Stored {stored}, left out {counted(report.bad.count, 'bad line')}{before}.")


def _emit(records: int, already: int, bad: BadList) -> None:
    emit_json(
        {
            "records": records,
            "already": already,
            "rejected": bad.count,
            "bad_lines": [{"line": line.number, "reason": line.reason} for line in bad.first],
        }
    )
