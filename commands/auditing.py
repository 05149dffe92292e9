"""`kluis audit`."""

from __future__ import annotations

import click

from commands.context import Context, counted, emit_json, json_option
from commands.display import table
from commands.exitcodes import ExitCode


@click.command()
@json_option
@click.pass_context
def audit(ctx: click.Context, *, as_json: bool) -> None:
    """Check everything: rows, blobs, key tree, ledger, checkpoints, anchors.

    Changes nothing. Exit 1 when something is wrong, with each fault on a line.

    Example: kluis audit
    """
    faults, counts, pruned = _run(ctx.ensure_object(Context))
    if as_json:
        emit_json(
            {
                "faults": [{"where": where, "what": what} for where, what in faults],
                "counts": counts,
                "pruned": None if pruned is None else {"minimum": pruned[0], "index": pruned[1]},
            }
        )
    else:
        table("Audit", ("checked", "number"), [(name, str(n)) for name, n in counts.items()])
        for where, what in faults:
            click.echo(f"{where}: {what}")
        if pruned is not None:
            click.echo(f"The ledger was pruned to {pruned[0]} by entry {pruned[1]}.")
        if not faults:
            click.echo("Everything is as it was written.")
    if faults:
        where, what = faults[0]
        click.echo(
            f"kluis: {counted(len(faults), 'fault')}, the first in {where}: keep the files as they"
            " are and compare with a backup",
            err=True,
        )
        ctx.exit(ExitCode.FAULT)


def _run(
    context: Context,
) -> tuple[list[tuple[str, str]], dict[str, int], tuple[int, int] | None]:
    from ledger.errors import LedgerError
    from vault import Damaged

    try:
        with context.open() as vault:
            report = vault.audit()
    except (Damaged, LedgerError) as error:
        # A vault too damaged to be opened is what an audit is there to report.
        return [("vault", str(error))], {}, None
    faults = [(fault.where, fault.what) for fault in report.faults]
    return faults, dict(report.counts), report.pruned
