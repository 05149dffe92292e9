"""`kluis prove`, `trust` and `verify`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

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
    from anchor.steps import Report
    from anchor.trust import TrustFile

_PDF = b"%PDF"
# Also in another spelling or of a later version, so that the message is about a certificate.
_CERTIFICATE = re.compile(rb'\s*\{\s*"format"\s*:\s*"datakluis-certificate/')
_GROWTH = re.compile(rb'\s*\{\s*"format"\s*:\s*"datakluis-consistency/')


@click.command()
@click.argument("pointer", required=False)
@click.option("-o", "--output", metavar="FILE", help="Write the evidence here.")
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="Which version; newest.")
@click.option("--disclose", is_flag=True, help="Put the payload and the key that opens it in.")
@click.option("--erasure", is_flag=True, help="Prove that the record was erased instead.")
@click.option("--group", metavar="NAME", help="Of this field group of the record instead.")
@click.option(
    "--governance",
    type=click.IntRange(min=1),
    metavar="N",
    help="Prove the N-th governance entry, and how it was decided, instead of a record.",
)
@acting
@click.pass_obj
def prove(
    context: Context,
    pointer: str | None,
    output: str | None,
    version: int | None,
    governance: int | None,
    group: str | None,
    purpose: str | None,
    *,
    disclose: bool,
    erasure: bool,
) -> None:
    """Print evidence that a record is in the ledger, for `kluis verify`.

    With --erasure or --governance it is about another entry than that of the record.

    Evidence with --disclose lets whoever has it confirm the payload for ever, also after the record
    was erased; it is recorded as a disclosure.

    Example: kluis prove fot2d5nazp4jwibdvshnxksywm -o evidence.json
    """
    if (pointer is None) == (governance is None):
        raise click.UsageError("name a POINTER, or a governance entry with --governance")
    if (erasure or governance is not None) and (disclose or version is not None):
        raise click.UsageError("--version and --disclose go with a version of a record alone")
    if group is not None and governance is not None:
        raise click.UsageError("--group goes with a record, not with --governance")
    with context.open() as vault:
        if governance is not None:
            evidence = vault.prove_governance(governance)
        elif erasure:
            evidence = vault.prove_erasure(cast(str, pointer), group=group, purpose=purpose)
        else:
            evidence = vault.prove(
                cast(str, pointer), version=version, group=group, disclose=disclose, purpose=purpose
            )
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
@click.option(
    "--proof", "proof_path", metavar="FILE", help="Evidence that a certificate is in the ledger."
)
@click.option(
    "--consistency",
    "grown_paths",
    metavar="FILE",
    multiple=True,
    help="That a checkpoint of a retired key leads to a later one, for evidence; repeatable.",
)
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    file: str,
    trust_path: str,
    proof_path: str | None,
    grown_paths: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Verify evidence, offline and without a vault.

    FILE may also be a certificate of destruction, as JSON or as PDF; --proof then brings the
    evidence of its own entry. Or what `kluis ledger consistency` wrote.

    Exit 0 means verified, 1 that a step failed, 7 that a step which is required could not be
    checked, 2 that a file is unreadable or of another ledger.

    Example: kluis verify evidence.json --trust trust.json
    """
    from anchor.evidence import MAX_BYTES
    from anchor.steps import Verdict

    data = read_input(file, MAX_BYTES)
    is_certificate, is_growth = _is_certificate(data), _GROWTH.match(data) is not None
    if proof_path is not None and not is_certificate:
        raise click.UsageError(f"--proof goes with a certificate, which {file} is not")
    if grown_paths and (is_certificate or is_growth):
        raise click.UsageError(f"--consistency goes with evidence, which {file} is not")
    report: Report
    if is_certificate:
        report = _check_certificate(data, trust_path, proof_path)
    elif is_growth:
        report = _check_growth(data, trust_path)
    else:
        report = _check_evidence(data, trust_path, grown_paths)
    _show(report, as_json=as_json)
    codes = {Verdict.FAILED: ExitCode.FAULT, Verdict.INCOMPLETE: ExitCode.INCOMPLETE}
    code = codes.get(report.verdict, ExitCode.DONE)
    if code is not ExitCode.DONE:
        click.echo(f"kluis: {file}: {report.sentence}", err=True)
    ctx.exit(code)


def _is_certificate(data: bytes) -> bool:
    return data.startswith(_PDF) or _CERTIFICATE.match(data) is not None


def _check_evidence(data: bytes, trust_path: str, grown_paths: Sequence[str]) -> Report:
    from anchor.consistency import MAX_BYTES, ConsistencyFile
    from anchor.evidence import Evidence
    from anchor.verify import verify as verify_evidence

    evidence = Evidence.parse(data)
    grown = [ConsistencyFile.parse(read_input(path, MAX_BYTES)) for path in grown_paths]
    proven = {group.proof.checkpoint.text for group in evidence.groups}
    for path, one in zip(grown_paths, grown, strict=True):
        if one.old.text not in proven:
            raise click.UsageError(f"{path} does not start at a checkpoint of the evidence")
    return verify_evidence(evidence, _read_trust(trust_path), grown)


def _check_growth(data: bytes, trust_path: str) -> Report:
    from anchor.consistency import ConsistencyFile, verify_growth

    return verify_growth(ConsistencyFile.parse(data), _read_trust(trust_path))


def _check_certificate(data: bytes, trust_path: str, proof_path: str | None) -> Report:
    from anchor.evidence import MAX_BYTES, Evidence
    from commands.checking import check_certificate
    from policy.certificate import SignedCertificate

    trusted = _read_trust(trust_path)
    fault = None
    if data.startswith(_PDF):
        data, fault = _open_pdf(data, trusted)
    signed = SignedCertificate.parse(data)
    proof = None if proof_path is None else Evidence.parse(read_input(proof_path, MAX_BYTES))
    return check_certificate(signed, trusted, proof, fault)


def _read_trust(path: str) -> TrustFile:
    from anchor.trust import MAX_BYTES, TrustFile

    return TrustFile.parse(read_input(path, MAX_BYTES))


def _open_pdf(data: bytes, trusted: TrustFile) -> tuple[bytes, str]:
    try:
        from vault.certificate_reading import read_pdf
    except ModuleNotFoundError as missing:
        raise click.UsageError(
            f"a PDF takes {missing.name}, which is not installed: pip install 'datakluis[pdf]',"
            " or verify the JSON file that is attached to it"
        ) from None
    content = read_pdf(data, trusted.organisation_certificates)
    return content.attachment, content.fault


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
