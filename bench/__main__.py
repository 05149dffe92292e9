"""`python -m bench`: measures each operation beside its floor and prints the table.

What each floor does and leaves out stands in bench/floor.py, bench/floor_ledger.py and
bench/floor_shredding.py. Everything happens in a temporary folder that is removed; no network is
touched, except that an OpenBao server on this machine is asked over its loopback address.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import (
    cases_erasing,
    cases_ledger,
    cases_publishing,
    cases_reading,
    cases_shredding,
    cases_sizes,
    cases_writing,
)
from bench.measure import Row, figure
from bench.workshop import DEFAULT, FULL, QUICK, Sizes, Workshop

Case = Callable[[Workshop], list[Row]]

CASES: Mapping[str, Case] = {
    "put-many": cases_writing.put_many,
    "put-many-two": cases_writing.put_many_two,
    "put": cases_writing.put,
    "put-at-once": cases_writing.put_at_once,
    "get": cases_reading.get,
    "erase-small": cases_erasing.erase_small,
    "erase-large": cases_erasing.erase_large,
    "erase-last": cases_erasing.erase_last,
    "erase-huge": cases_erasing.erase_huge,
    "erase-growth": cases_erasing.erase_growth,
    "epoch-large": cases_shredding.epoch_large,
    "epoch-huge": cases_shredding.epoch_huge,
    "many-large": cases_shredding.many_large,
    "many-huge": cases_shredding.many_huge,
    "shred-softhsm": cases_shredding.shred_softhsm,
    "shred-openbao": cases_shredding.shred_openbao,
    "room": cases_sizes.per_record,
    "key-backups": cases_sizes.incremental,
    "integrate": cases_ledger.integrate,
    "path": cases_ledger.paths,
    "prove": cases_ledger.prove,
    "verify": cases_ledger.verify,
    "checkpoint": cases_ledger.checkpoint,
    "published": cases_publishing.published,
    "growth": cases_publishing.growth,
    "witness": cases_publishing.witness,
    "peer": cases_publishing.peer,
    "open": cases_reading.open_vault,
    "import-memory": cases_reading.memory,
}
_WIDTH = 150


def run(
    sizes: Sizes, only: Sequence[str] = (), tell: Callable[[str], None] = lambda name: None
) -> list[Row]:
    """Run the benchmarks and return their rows.

    Args:
        sizes: how much each does.
        only: names of those to run; all for an empty sequence.
        tell: told the name of each before it runs.
    """
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="datakluis-bench-") as folder,
        Workshop(Path(folder), sizes) as workshop,
    ):
        for name, case in CASES.items():
            if not only or name in only:
                tell(name)
                rows += case(workshop)
    return rows


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the table."""
    table = Table(title="Datakluis beside its floor", title_justify="left", header_style="bold")
    table.add_column("operation")
    for column in ("datakluis median", "floor median", "ratio"):
        table.add_column(column, justify="right")
    table.add_column("aim")
    table.add_column("what the floor is")
    for row in rows:
        table.add_row(
            row.operation,
            figure(row.datakluis, row.unit),
            figure(row.floor, row.unit),
            f"{row.ratio:.2f}",
            _aim(row),
            row.floor_is,
        )
    console.print(table)


def busy_note(load: float, processors: int) -> str:
    """Return what to think of the figures, given the load average before the run."""
    note = f"{processors} processors, load average {load:.1f} before the run."
    if load > processors / 4:
        note += " The machine was busy: times with a flush of the disk mostly say how busy."
    return note


def as_json(rows: Sequence[Row]) -> str:
    """Return the rows for machines."""
    return json.dumps(
        [
            {**dataclasses.asdict(row), "ratio": row.ratio, "met": row.met, "aim": _aim_text(row)}
            for row in rows
        ],
        indent=2,
        ensure_ascii=False,
    )


def _aim_text(row: Row) -> str | None:
    return None if row.aim is None else row.aim.text(row.unit)


def _aim(row: Row) -> Text:
    text = _aim_text(row)
    if text is None:
        return Text("")
    return Text(f"{text} ✓", style="green") if row.met else Text(f"{text} ✗", style="red")


@click.command()
@click.option("--quick", is_flag=True, help="Small numbers, below 20 seconds.")
@click.option("--full", is_flag=True, help="More rounds, and a vault of 1,000,000 records.")
@click.option("--only", multiple=True, type=click.Choice(list(CASES)), help="Run this one alone.")
@click.option("--json", "wants_json", is_flag=True, help="Print JSON instead of the table.")
def main(*, quick: bool, full: bool, only: tuple[str, ...], wants_json: bool) -> None:
    """Measure Datakluis beside a straight-line floor."""
    if quick and full:
        raise click.UsageError("--quick and --full exclude each other")
    load = os.getloadavg()[0]
    sizes = QUICK if quick else FULL if full else DEFAULT
    rows = run(sizes, only, lambda name: print(f"{name} ...", file=sys.stderr, flush=True))
    if wants_json:
        print(as_json(rows))
    else:
        console = Console()
        show(rows, console if console.is_terminal else Console(width=_WIDTH))
        print(busy_note(load, os.cpu_count() or 1))


if __name__ == "__main__":
    main(prog_name="python -m bench")
