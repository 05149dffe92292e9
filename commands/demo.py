"""`kluis demo`: the whole life of municipal records, told step by step on a vault of its own.

It uses the SDK as any application would. Two bytes are changed behind the vault's back, one in its
database and one in an evidence file, to show who notices; both are put back.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
import shlex
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.display import console, progress, table

if TYPE_CHECKING:
    from anchor.evidence import Evidence
    from anchor.trust import TrustFile
    from commands.lifelike import LifelikeRecord
    from policy import Decision
    from vault import Vault

DEFAULT_RECORDS = 2_000
_SEED = 2019
# Where a file of the user's is likely to say whom a record is about, most telling first.
_SUBJECT_NAMES = ("burgerservicenummer", "bsn", "subject", "id")


@dataclass(frozen=True, slots=True)
class Cast:
    """The records on which the demo acts.

    Attributes:
        kept: must be kept until a date, so its erasure is refused.
        consented: rests on consent, so it is erased.
        count: how many were stored.
    """

    kept: str
    consented: str
    count: int


@click.command()
@click.option(
    "--records",
    type=click.IntRange(min=10),
    default=DEFAULT_RECORDS,
    show_default=True,
    metavar="N",
    help="How many lifelike records to make.",
)
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path),
    metavar="FILE.jsonl",
    help="Use these records instead.",
)
def demo(records: int, source: Path | None) -> None:
    """Show the whole life of municipal records, in under a minute.

    Works in a new temporary folder, with lifelike records of nobody or with a JSONL file of yours.

    Example: kluis demo --records 500
    """
    from vault import Vault

    folder = Path(tempfile.mkdtemp(prefix="kluis-demo-"))
    passphrase = secrets.token_urlsafe(24)
    passphrase_file = folder / "passphrase"
    passphrase_file.touch(mode=0o600)
    passphrase_file.write_text(passphrase + "\n", encoding="utf-8")
    _say(1, "A vault of its own", f"in {folder / 'vault'}, keys sealed under a passphrase")
    with Vault.create(folder / "vault", passphrase) as vault:
        cast = _store(vault, records) if source is None else _import(vault, source)
        _commit_and_anchor(vault, cast)
        _rectify(vault, cast.kept)
        _refuse(vault, cast.kept)
        backup = _copy_everything(vault, folder)
        _erase(vault, cast.consented)
        _shred(vault, cast.consented, backup, passphrase)
        vault.anchor()
        evidence = _prove(vault, cast.kept, folder).format()
        _tamper_with_database(vault, cast.kept)
        _tamper_with_evidence(vault.trust(), evidence)
    _farewell(folder, passphrase_file, cast)


def _store(vault: Vault, count: int) -> Cast:
    from commands.lifelike import lifelike_records
    from vault import NewRecord

    today = dt.date.today()
    made = sorted(lifelike_records(count, _SEED, today), key=lambda record: record.category)
    pointers: dict[str, list[str]] = {}
    stored = 0
    with progress("Sealing records") as advance:
        for category, group in groupby(made, key=lambda record: record.category):
            own = pointers.setdefault(category, [])
            for batch in _pieces(group):
                vault.put_many(
                    (
                        NewRecord(record.payload, record.subject, record.brondatum)
                        for record in batch
                    ),
                    category=category,
                    on_batch=own.extend,
                )
                stored += len(batch)
                advance(stored, count)
    kept_index = next(
        n
        for n, record in enumerate(r for r in made if r.category == "kindpakket")
        if record.brondatum is not None
    )
    rows = [(name, str(len(own)), _duty(vault, name)) for name, own in pointers.items()]
    _say(2, f"{stored} records stored", "each encrypted under a key of its own, off the chain")
    table("Records by category", ("category", "records", "duty to keep"), rows)
    return Cast(pointers["kindpakket"][kept_index], pointers["nieuwsbrief"][0], stored)


def _import(vault: Vault, source: Path) -> Cast:
    from vault import ImportOrder
    from vault.jsonlines import GoodLine, SubjectField, read_lines

    field = _guess_subject_field(source)
    # Any day of last year will do: the point is that the term has started and has not ended.
    brondatum = dt.date.today() - dt.timedelta(days=365)
    order = ImportOrder(source, "kindpakket", field, brondatum, skip_bad=True)
    with progress("Sealing records") as advance:
        report = vault.import_jsonl(order, on_progress=advance)
    first = next(
        (line for line in read_lines(source, SubjectField(field)) if isinstance(line, GoodLine)),
        None,
    )
    if first is None:
        raise click.UsageError(f"{source} has no line with a text at {field}")
    kept = vault.find(first.subject)[0]
    consented = vault.put(first.payload, category="nieuwsbrief", subject=first.subject)
    bad = f", {report.bad.count} bad lines left out" if report.bad.count else ""
    _say(2, f"{report.records} records stored", f"their subject is at {field}{bad}")
    return Cast(kept, consented, report.records + 1)


def _guess_subject_field(source: Path) -> str:
    """Return a JSON Pointer to the likeliest subject in the first line of a file."""
    try:
        with source.open("rb") as file:
            document = json.loads(file.readline())
    except (OSError, ValueError):
        raise click.UsageError(f"{source} does not start with a line of JSON") from None
    if not isinstance(document, dict):
        raise click.UsageError(f"{source}: the demo takes lines that are JSON objects")
    places = dict(_text_members(document, ""))
    for name in _SUBJECT_NAMES:
        for pointer in places:
            if pointer.rsplit("/", 1)[-1] == name:
                return pointer
    raise click.UsageError(
        f"{source}: no member of the first line is called {' or '.join(_SUBJECT_NAMES)};"
        " use 'kluis import --subject-field'"
    )


def _text_members(value: object, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, dict):
        for name, member in value.items():
            escaped = name.replace("~", "~0").replace("/", "~1")
            yield from _text_members(member, f"{pointer}/{escaped}")
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _text_members(member, f"{pointer}/{index}")


def _commit_and_anchor(vault: Vault, cast: Cast) -> None:
    anchored = vault.anchor()[0]
    _say(
        3,
        "Committed and anchored",
        f"the ledger {vault.origin} holds {anchored.size} entries, of 56 bytes each;"
        f" what leaves the house is {anchored.digest.hex()}",
    )
    console().print(
        "[dim]The local anchor is for development: it proves no date to an outsider.[/dim]"
    )


def _rectify(vault: Vault, pointer: str) -> None:
    document = json.loads(vault.get(pointer))
    document["correctie"] = "telefoonnummer verbeterd op verzoek van de inwoner"
    number = vault.rectify(pointer, json.dumps(document, ensure_ascii=False).encode())
    _say(4, "Rectified", f"record {pointer} now has version {number}; the first stays provable")


def _refuse(vault: Vault, pointer: str) -> None:
    from vault import Ground, Refused

    try:
        vault.erase(pointer, Ground.NOT_NEEDED)
    except Refused as refused:
        _say(5, "An erasure refused", "nothing was changed")
        _show_decision(refused.decision)


def _erase(vault: Vault, pointer: str) -> None:
    from vault import Erased, Ground

    erasure = vault.erase(pointer, Ground.CONSENT_WITHDRAWN)
    _say(6, "An erasure done", "key zeroed, path to the root re-keyed, blob gone, read back")
    _show_decision(erasure.decision)
    try:
        vault.get(pointer)
    except Erased as erased:
        console().print(f"Reading it now: {erased}.")


def _copy_everything(vault: Vault, folder: Path) -> Path:
    """Return a copy of the vault's folder, as somebody may have made it before the erasure."""
    copy = folder / "copy"
    shutil.copytree(vault.folder, copy, ignore=shutil.ignore_patterns("leases"))
    return copy


def _shred(vault: Vault, pointer: str, copy: Path, passphrase: str) -> None:
    from vault import KeyGone, Vault

    with Vault.open(copy, passphrase) as old:
        old.get(pointer)
    report = vault.shred()
    certificate = vault.certificate(pointer).certificate
    _say(
        7,
        "Shredded",
        f"every root key under which it lay is destroyed; {report.certificates} certificate issued",
    )
    console().print(
        f"The certificate says {certificate.status}, irrecoverable: {certificate.irrecoverability};"
        " key files can be copied, so an operator must state that nobody did."
    )
    # The copy's own key file goes too: what it was is what an operator must find and destroy.
    shutil.rmtree(copy / "keys")
    shutil.copytree(vault.folder / "keys", copy / "keys")
    try:
        Vault.open(copy, passphrase)
    except KeyGone as gone:
        console().print(f"The copy made before, beside today's root keys: {gone}.")


def _show_decision(decision: Decision) -> None:
    rows = [
        ("decision", f"{decision.code}, {decision.outcome}"),
        ("article", decision.article),
        ("date", decision.date.isoformat() if decision.date else "none"),
        ("to the citizen", decision.sentence_nl),
        ("in English", decision.sentence_en),
    ]
    table("Decision", ("", ""), rows)


def _prove(vault: Vault, pointer: str, folder: Path) -> Evidence:
    from anchor.verify import verify

    evidence = vault.prove(pointer)
    (folder / "evidence.json").write_bytes(evidence.format())
    (folder / "trust.json").write_bytes(vault.trust().format())
    report = verify(evidence, vault.trust())
    size = len(evidence.format())
    _say(8, "Proven", f"an auditor verifies {size} bytes offline, without the vault")
    table(
        "Verification",
        ("step", "", "result", "found"),
        [
            (str(number), result.step, result.state, result.detail)
            for number, result in enumerate(report.steps, 1)
        ],
    )
    console().print(report.sentence)
    return evidence


def _tamper_with_database(vault: Vault, pointer: str) -> None:
    from ledger.pointer import parse_pointer

    with sqlite3.connect(vault.folder / "vault.db") as database:
        row, body = database.execute(
            "SELECT v.id, v.body FROM vault_version v JOIN vault_record r ON r.id = v.record_id"
            " WHERE r.pointer = ? AND v.number = r.current",
            (parse_pointer(pointer),),
        ).fetchone()
        changed = bytes([*body[:40], body[40] ^ 1, *body[41:]])
        update = "UPDATE vault_version SET body = ? WHERE id = ?"
        database.execute(update, (changed, row))
        database.commit()
        with progress("Auditing") as advance:
            report = vault.audit(lambda _: advance(0, 0))
        database.execute(update, (body, row))
    database.close()
    _say(9, "One byte changed in the database", "the audit names it")
    rows = [(fault.where, fault.what) for fault in report.faults]
    table("Audit", ("where", "what"), rows)


def _tamper_with_evidence(trust: TrustFile, data: bytes) -> None:
    from anchor.evidence import Evidence
    from anchor.verify import verify

    # A digit in the middle of the entry, which is hex.
    place = data.index(b'"entry"') + 60
    digit = b"1" if data[place : place + 1] == b"0" else b"0"
    changed = Evidence.parse(data[:place] + digit + data[place + 1 :])
    report = verify(changed, trust)
    _say(10, "One byte changed in the evidence", report.sentence.rstrip("."))
    rows = [
        (str(number), result.step, result.detail)
        for number, result in enumerate(report.steps, 1)
        if result.state == "failed"
    ]
    table("Verification", ("step", "", "found"), rows)


def _farewell(folder: Path, passphrase_file: Path, cast: Cast) -> None:
    vault = shlex.quote(str(folder / "vault"))
    evidence, trust = (shlex.quote(str(folder / name)) for name in ("evidence.json", "trust.json"))
    # `make demo` runs a command that is not on the reader's path.
    kluis = "kluis" if shutil.which("kluis") else shlex.quote(sys.argv[0])
    click.echo()
    click.echo(f"Everything is in {folder}. Try next:")
    click.echo(f"  export KLUIS_PASSPHRASE_FILE={shlex.quote(str(passphrase_file))}")
    click.echo(f"  {kluis} -C {vault} audit")
    click.echo(f"  {kluis} -C {vault} erase {cast.kept} --ground not-needed --dry-run")
    click.echo(f"  {kluis} verify {evidence} --trust {trust}")


def _duty(vault: Vault, category: str) -> str:
    from vault.config import load_config

    result = load_config(vault.folder).category(category).result
    if result is None:
        return "none: rests on consent"
    return f"{result.code} {result.omschrijving}, {result.bewaartermijn}"


def _pieces(records: Iterable[LifelikeRecord]) -> Iterator[list[LifelikeRecord]]:
    piece: list[LifelikeRecord] = []
    for record in records:
        piece.append(record)
        if len(piece) == 100:
            yield piece
            piece = []
    if piece:
        yield piece


def _say(number: int, title: str, detail: str) -> None:
    console().print(f"\n[bold]{number}  {title}[/bold]: {detail}.", soft_wrap=True)
