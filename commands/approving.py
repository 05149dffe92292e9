"""`kluis approve`, and what every command that acts with a role key shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from commands.actionwords import decision_words, describe, key_label
from commands.context import (
    KEY_PASSPHRASE_FILE,
    STDIN,
    Context,
    acting,
    emit_json,
    json_option,
    read_passphrase,
    write_output,
)
from commands.exitcodes import ExitCode

if TYPE_CHECKING:
    from ledger.action import Action
    from vault import Vault
    from vault.governing import ProposalView
    from vault.rolekeys import RoleKey

Command = TypeVar("Command", bound=Callable[..., Any])
Parsed = TypeVar("Parsed")

_MAX_ITEMS = 100


def key_file_option(command: Command) -> Command:
    """Add --key-file and --expires, which go with every action of a member."""
    for option in (
        click.option(
            "--expires",
            type=click.IntRange(min=1),
            default=100_000,
            show_default=True,
            metavar="N",
            help="Leaves after which this approval expires.",
        ),
        key_file_alone,
    ):
        command = option(command)
    return command


def key_file_alone(command: Command) -> Command:
    """Add --key-file, which is needed."""
    return click.option(
        "--key-file",
        required=True,
        type=click.Path(path_type=Path),
        help=f"Role key of whoever acts; its passphrase: {KEY_PASSPHRASE_FILE}, or a prompt.",
    )(command)


def read_key_passphrase(*, confirm: bool = False) -> str:
    """Return the passphrase of a role key."""
    return read_passphrase(
        confirm=confirm, variable=KEY_PASSPHRASE_FILE, prompt="Passphrase of the role key"
    )


def open_role_key(vault: Vault, key_file: Path) -> RoleKey:
    """Open the role key of whoever acts in a vault."""
    return vault.role_key(key_file, read_key_passphrase())


def finish(ctx: click.Context, view: ProposalView, *, as_json: bool) -> None:
    """Say what became of a proposal; exit 7 where it waits for approvals."""
    if as_json:
        emit_json(proposal_document(view))
    else:
        show_proposal(view)
    if view.is_open:
        number = view.proposal.id
        click.echo(
            f"kluis: proposal {number} waits for {view.missing}: 'kluis approve {number}"
            " --key-file FILE'",
            err=True,
        )
        ctx.exit(ExitCode.INCOMPLETE)


def proposal_document(view: ProposalView) -> dict[str, object]:
    """Return a proposal as JSON has it."""
    from vault.ruling import kind_name

    proposal = view.proposal
    return {
        "proposal": proposal.id,
        "outcome": _outcome(view),
        "kind": kind_name(proposal.action.kind),
        "sequence": proposal.sequence,
        "digest": view.digest.hex(),
        "missing": view.missing,
        "approvals": [
            {
                "key": one.approval.key.hex(),
                "role": one.member.role.name.lower() if one.member else None,
                "expiry": one.approval.expiry,
                "counts": one.counts,
            }
            for one in view.signed
        ],
    }


def show_proposal(view: ProposalView) -> None:
    """Print a proposal in plain words."""
    proposal = view.proposal
    click.echo(f"proposal  {proposal.id}, {_outcome(view)}")
    show_action(proposal.action, proposal.sequence, view.digest)
    for one in view.signed:
        role = one.member.role.name.lower() if one.member else "no member"
        until = f"expires at {one.approval.expiry} leaves"
        counts = "" if one.counts or not view.is_open else ", does not count any more"
        click.echo(f"approved  {role} {key_label(one.approval.key)}, {until}{counts}")
    if view.missing is not None:
        click.echo(f"missing   {view.missing}; the ledger has {view.index} leaves")


def show_action(action: Action, sequence: int, digest: bytes) -> None:
    """Print what an action does, in plain words, and what people compare."""
    first, *rest = describe(action)
    click.echo(f"action    {first}")
    for line in rest:
        click.echo(f"          {line}")
    click.echo(f"state     {sequence} of governance, if it is enacted")
    click.echo(f"digest    {digest.hex()}")


def _outcome(view: ProposalView) -> str:
    return "open" if view.proposal.outcome is None else view.proposal.outcome


@click.command()
@click.argument("proposal", type=int, required=False)
@click.option("--key-file", type=click.Path(path_type=Path), help="Role key that approves.")
@click.option("--yes", is_flag=True, help="Do not ask before signing.")
@click.option(
    "--list",
    "listed",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Propose a destruction list: one pointer on each line.",
)
@click.option("--export", "exported", metavar="FILE", help="Write the proposal for an approver.")
@click.option(
    "--file",
    "brought",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Approve an exported proposal; needs no vault.",
)
@click.option(
    "--add",
    "added",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take in an approval that was signed so.",
)
@click.option("-o", "--output", metavar="FILE", help="Where that approval goes.")
@click.option("--all", "show_all", is_flag=True, help="List enacted and stale proposals too.")
@click.option(
    "--expires",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    metavar="N",
    help="Leaves after which an approval expires.",
)
@acting
@json_option
@click.pass_context
def approve(
    ctx: click.Context,
    proposal: int | None,
    key_file: Path | None,
    listed: Path | None,
    exported: str | None,
    brought: Path | None,
    added: Path | None,
    output: str | None,
    expires: int,
    purpose: str | None,
    *,
    yes: bool,
    show_all: bool,
    as_json: bool,
) -> None:
    """Show what waits for approval, and approve it with a role key.

    Without a number, lists the open proposals. With one and --key-file, shows it, asks, and signs;
    the last approval that is needed enacts it, exit 7 says what is still missing. Who has no access
    to the vault gets a file by --export, signs it by --file, and it comes back by --add.

    Example: kluis approve 3 --key-file archivist.key
    """
    ways = [way for way in (listed, exported, brought, added) if way is not None]
    if len(ways) > 1:
        raise click.UsageError("--list, --export, --file and --add go one by one")
    if (listed is not None or brought is not None) == (proposal is not None) and ways:
        raise click.UsageError("--export and --add take the number of a proposal, the others none")
    if brought is not None:
        _sign_file(brought, _needed(key_file), output, yes=yes)
        return
    with ctx.ensure_object(Context).open() as vault:
        if listed is not None:
            key = open_role_key(vault, _needed(key_file))
            pointers = _lines(listed)
            view = vault.propose_list(pointers, key, expires=expires, purpose=purpose)
            finish(ctx, view, as_json=as_json)
        elif proposal is None:
            _show_all(vault.proposals(), show_all=show_all, as_json=as_json)
        elif exported is not None:
            written = vault.proposal_file(proposal, expires=expires)
            write_output(exported, written.format(), private=True)
        elif added is not None:
            finish(ctx, _take_in(vault, proposal, added, purpose), as_json=as_json)
        elif key_file is None:
            shown = vault.proposal(proposal)
            _show_all([shown], show_all=True, as_json=as_json)
            _show_items(vault, shown, purpose, wanted=not as_json)
        else:
            shown = vault.proposal(proposal)
            _show_items(vault, shown, purpose, wanted=not yes, err=True)
            _confirm(shown, yes=yes)
            key = open_role_key(vault, key_file)
            view = vault.approve(proposal, key, expires=expires, shown=shown, purpose=purpose)
            finish(ctx, view, as_json=as_json)


def _needed(key_file: Path | None) -> Path:
    if key_file is None:
        raise click.UsageError("name the role key that signs with --key-file")
    return key_file


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise click.UsageError(f"{path} cannot be read as lines of text") from None


def _bytes(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from None


def _parsed(path: Path, parse: Callable[[bytes], Parsed], limit: int, made_by: str) -> Parsed:
    """Read a file of ours, naming it and what makes one where it is something else."""
    from anchor.errors import BadFile

    try:
        return parse(_bytes(path, limit))
    except BadFile as error:
        raise BadFile(f"{path}: {error}; bring what 'kluis approve {made_by}' wrote") from None


def _take_in(vault: Vault, proposal: int, path: Path, purpose: str | None) -> ProposalView:
    from vault.proposalfile import MAX_APPROVAL_BYTES, ApprovalFile

    signed = _parsed(path, ApprovalFile.parse, MAX_APPROVAL_BYTES, "--file FILE -o FILE")
    return vault.add_approval(proposal, signed.approval, purpose=purpose)


def _confirm(view: ProposalView, *, yes: bool) -> None:
    """Show a proposal before it is signed, and ask."""
    if yes or not view.is_open:
        return
    first, *rest = describe(view.proposal.action)
    for line in (first, *rest, f"digest {view.digest.hex()}"):
        click.echo(line, err=True)
    _ask()


def _ask() -> None:
    if not click.confirm("Approve this?", err=True):
        click.echo("kluis: not approved: nothing was signed", err=True)
        raise click.exceptions.Exit(ExitCode.BAD_INPUT)


def _show_items(
    vault: Vault, view: ProposalView, purpose: str | None, *, wanted: bool, err: bool = False
) -> None:
    """Print what an open list would destroy, and what of it the law would not let go today."""
    from ledger.action import EnactList
    from ledger.pointer import format_pointer
    from vault import Erased, Ground, NotFound, PurposeRefused

    if not wanted or not view.is_open or not isinstance(view.proposal.action, EnactList):
        return
    items = vault.proposal_file(view.proposal.id).items
    for item in items[:_MAX_ITEMS]:
        pointer = format_pointer(item.pointer)
        try:
            words = decision_words(vault.decide(pointer, Ground.NOT_NEEDED, purpose=purpose))
        except (Erased, NotFound):
            words = "erased already"
        except PurposeRefused:
            words = "not shown for this purpose"
        part = f", field group {item.group} alone" if item.group else ""
        click.echo(f"item      {pointer}{part}: {words}", err=err)
    if len(items) > _MAX_ITEMS:
        rest = len(items) - _MAX_ITEMS
        click.echo(f"item      and {rest} more, which --export writes down", err=err)


def _sign_file(path: Path, key_file: Path, output: str | None, *, yes: bool) -> None:
    from ledger.action import action_digest
    from ledger.pointer import format_pointer
    from vault.proposalfile import MAX_PROPOSAL_BYTES, ProposalFile
    from vault.rolekeys import RoleKey

    if output is None:
        raise click.UsageError("say with -o where the approval goes")
    brought = _parsed(path, ProposalFile.parse, MAX_PROPOSAL_BYTES, "ID --export FILE")
    click.echo(f"ledger    {brought.origin}")
    show_action(brought.action, brought.sequence, action_digest(brought.action))
    click.echo(f"expires   at {brought.expiry} leaves")
    for item in brought.items:
        part = f", field group {item.group} alone" if item.group else ""
        click.echo(f"item      {format_pointer(item.pointer)}{part}")
    if not yes:
        _ask()
    key = RoleKey.read(key_file, read_key_passphrase())
    write_output(output, brought.sign(key).format())
    if output != STDIN:
        click.echo(f"Signed, in {output}; in the vault: kluis approve ID --add {output}")


def _show_all(views: Sequence[ProposalView], *, show_all: bool, as_json: bool) -> None:
    shown = [view for view in views if view.is_open or show_all]
    if as_json:
        emit_json({"proposals": [proposal_document(view) for view in shown]})
        return
    for place, view in enumerate(shown):
        if place:
            click.echo()
        show_proposal(view)
    if not shown:
        click.echo("Nothing waits for approval.")
