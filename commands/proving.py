"""`kluis prove`, `trust` and `verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from commands.context import (
    Context,
    acting,
    emit_json,
    json_option,
    read_input,
    write_output,
)
from commands.exitcodes import ExitCode

if TYPE_CHECKING:
    from anchor.verify import Report


@click.command()
@click.argument("pointer")
@click.option("-o", "--output", metavar="FILE", help="Write the evidence here.")
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="Which version; newest.")
@click.option("--disclose", is_flag=True, help="Put the payload and the key that opens it in.")
@acting
@click.pass_obj
def prove(
    context: Context,
    pointer: str,
    output: str | None,
    version: int | None,
    purpose: str | None,
    *,
    disclose: bool,
) -> None:
    """Print evidence that a record is in the ledger, for `kluis verify`.

    Evidence with --disclose lets whoever has it confirm the payload for ever, also after the record
    was erased; it is recorded as a disclosure.

    Example: kluis prove fot2d5nazp4jwibdvshnxksywm -o evidence.json
    """
    with context.open() as vault:
        evidence = vault.prove(pointer, version=version, disclose=disclose, purpose=purpose)
    # Whoever reads a disclosed payload has it for ever.
    write_output(output, evidence.format(), private=disclose)


@click.command()
@click.option("-o", "--output", metavar="FILE", help="Write the trust file here.")
@click.pass_obj
def trust(context: Context, output: str | None) -> None:
    """Print the public keys and the origin that an auditor needs, as one file.

    Hand it over by another way than the evidence: whoever can change both can prove anything.

    Example: kluis trust -o trust.json
    """
    with context.open() as vault:
        trusted = vault.trust()
    write_output(output, trusted.format())


@click.command()
@click.argument("file")
@click.option("--trust", "trust_path", required=True, metavar="FILE", help="The trust file.")
@json_option
@click.pass_context
def verify(ctx: click.Context, file: str, trust_path: str, *, as_json: bool) -> None:
    """Verify evidence, offline and without a vault.

    Exit 0 means verified, 1 that a step failed, 7 that a step which the trust file requires could
    not be checked, 2 that a file is unreadable or of another ledger.

    Example: kluis verify evidence.json --trust trust.json
    """
    from anchor import evidence as evidence_file
    from anchor import trust as trust_format
    from anchor.steps import Verdict
    from anchor.verify import verify as verify_evidence

    evidence = evidence_file.Evidence.parse(read_input(file, evidence_file.MAX_BYTES))
    trusted = trust_format.TrustFile.parse(read_input(trust_path, trust_format.MAX_BYTES))
    report = verify_evidence(evidence, trusted)
    _show(report, as_json=as_json)
    codes = {Verdict.FAILED: ExitCode.FAULT, Verdict.INCOMPLETE: ExitCode.INCOMPLETE}
    code = codes.get(report.verdict, ExitCode.DONE)
    if code is not ExitCode.DONE:
        click.echo(f"kluis: {file}: {report.sentence}", err=True)
    ctx.exit(code)


def _show(report: Report, *, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "verdict": report.verdict,
                "sentence": report.sentence,
                "steps": [
                    {
                        "number": number,
                        "step": result.step,
                        "state": result.state,
                        "detail": result.detail,
                    }
                    for number, result in enumerate(report.steps, 1)
                ],
                "not_proven": list(report.not_proven),
            }
        )
        return
    for number, result in enumerate(report.steps, 1):
        click.echo(f"{number} {result.step:<14} {result.state:<12} {result.detail}")
    click.echo(report.sentence)
    click.echo("Not proven: " + "; ".join(report.not_proven) + ".")
