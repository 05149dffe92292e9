"""`kluis monitor`: watches a published ledger from outside, for whoever does not run it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from commands.context import emit_json, json_option, local_time, read_input
from commands.exitcodes import ExitCode, exit_code_of

if TYPE_CHECKING:
    from ledger.monitor import Monitor, RoundReport

_LEAST_SECONDS = 1


@click.command()
@click.argument("source", metavar="URL|DIR|s3://BUCKET/PREFIX")
@click.option("--trust", "trust_path", required=True, metavar="FILE", help="The trust file.")
@click.option(
    "--state",
    "folder",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keeps what was seen, and evidence.",
)
@click.option(
    "--every",
    type=click.IntRange(min=_LEAST_SECONDS),
    metavar="SECONDS",
    help="Go on until something is wrong, with this long between two looks.",
)
@click.option("--witnesses", is_flag=True, help="Also compare what the ledger's witnesses show.")
@json_option
@click.pass_context
def monitor(
    ctx: click.Context,
    source: str,
    trust_path: str,
    folder: Path,
    every: int | None,
    *,
    witnesses: bool,
    as_json: bool,
) -> None:
    """Watch a published ledger from outside: that it only grows, and keeps its own rules.

    Needs no vault. Exit 0 means that all was well, 1 that the ledger did what it must not, with the
    evidence in the folder; 7 that what is published does not suffice to judge it; 8 that it cannot
    be reached, which is no fault of the ledger.

    Example: kluis monitor https://ledger.hoorn.example --trust trust.json --state watch --every 60
    """
    from anchor.monitoring import TrustedByFile, watchers
    from anchor.trust import MAX_BYTES, TrustFile
    from ledger.monitor import Monitor, View
    from ledger.monitorstate import MonitorState
    from ledger.net.places import source_at

    trust = TrustFile.parse(read_input(trust_path, MAX_BYTES))
    published = source_at(source)
    watched = list(watchers(trust, source_at)) if witnesses else []
    if witnesses and not watched:
        raise click.UsageError(f"{trust_path} names no witness with an address")
    with MonitorState(folder, trust.origin) as state:
        looking = Monitor(published, TrustedByFile(trust), state, folder, watched)
        if every is not None:
            _follow(looking, every, as_json=as_json)
        report = looking.round(int(time.time()))
    _show(report, as_json=as_json)
    if any(one.view is not View.AGREES for one in report.witnesses):
        click.echo("kluis: not every witness could be compared", err=True)
        ctx.exit(ExitCode.INCOMPLETE)


def _follow(looking: Monitor, every: int, *, as_json: bool) -> NoReturn:
    """Look again and again; only an error ends it."""
    from ledger.errors import LedgerError

    since: int | None = None
    while True:
        now = int(time.time())
        try:
            _show(looking.round(now), as_json=as_json)
            since = None
        except LedgerError as error:
            if exit_code_of(error) not in (ExitCode.INCOMPLETE, ExitCode.BUSY):
                raise
            since = now if since is None else since
            click.echo(f"kluis: {error}; so it is since {local_time(since)}", err=True)
        time.sleep(every)


def _show(report: RoundReport, *, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "size": report.size,
                "judged": report.judged,
                "stopped": report.stopped,
                "minimum": report.minimum,
                "witnesses": [
                    {"witness": one.witness, "view": one.view.name.lower(), "size": one.size}
                    for one in report.witnesses
                ],
            }
        )
        return
    stopped = " The ledger is stopped." if report.stopped else ""
    click.echo(f"{_entries(report.size)}, grown as they must; {report.judged} judged now.{stopped}")
    for one in report.witnesses:
        size = "" if one.size is None else f", {one.size} leaves"
        click.echo(f"witness {one.witness.partition('+')[0]}: {one.view}{size}")


def _entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"
