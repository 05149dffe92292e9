"""`kluis member`, `stop` and `resume`: who governs the ledger, and whether it takes new records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.actionwords import key_label, rule_words
from commands.approving import finish, key_file_option, open_role_key, read_key_passphrase
from commands.context import (
    KEY_PASSPHRASE_FILE,
    PASSPHRASE_FILE,
    Context,
    acting,
    counted,
    emit_json,
    json_option,
    read_passphrase,
    read_subject,
)

if TYPE_CHECKING:
    from ledger.action import Role, Rule
    from ledger.governancestate import GovernanceState
    from vault import Vault
    from vault.sdk_governing import ListInfo

_ROLES = ("operator", "officer", "archivist", "auditor")
_KINDS = ("add-member", "remove-member", "set-rule", "list", "prune", "stop", "resume")


@click.group()
def member() -> None:
    """Make role keys, found the governance of the ledger, and change its members and rules.

    Example: kluis member list
    """


@member.command("key")
@click.option("--role", required=True, type=click.Choice(_ROLES), help="What the key is for.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE")
def member_key(role: str, output: Path) -> None:
    """Make a role key in a file of its own, and print what to hand over: role and public key.

    Needs no vault. The passphrase is the holder's own, not the vault's: it comes from a prompt or
    from the file that KLUIS_KEY_PASSPHRASE_FILE names.

    Example: kluis member key --role archivist -o archivist.key
    """
    import hmac
    import os

    from vault.rolekeys import RoleKey

    passphrase = read_key_passphrase(confirm=True)
    if os.environ.get(PASSPHRASE_FILE):
        of_vault = read_passphrase(confirm=False)
        if hmac.compare_digest(of_vault.encode(), passphrase.encode()):
            raise click.UsageError(
                f"a role key needs a passphrase of its own: {KEY_PASSPHRASE_FILE} and"
                f" {PASSPHRASE_FILE} hold the same one"
            )
    key = RoleKey.make(output, passphrase)
    click.echo(f"{role}:{key.public.hex()}")


@member.command("found")
@click.option(
    "--member",
    "members",
    multiple=True,
    required=True,
    metavar="ROLE:KEY[:ORGANISATION]",
    help="A founding member; organisation is 32 digits of hex. Repeatable.",
)
@click.option("--rules", type=click.Path(path_type=Path), metavar="FILE", help="Rules, in TOML.")
@key_file_option
@acting
@json_option
@click.pass_context
def member_found(
    ctx: click.Context,
    members: tuple[str, ...],
    rules: Path | None,
    key_file: Path,
    expires: int,
    purpose: str | None,
    *,
    as_json: bool,
) -> None:
    """Propose who governs the ledger and by which rules; every founding member approves.

    Members without an organisation are of one, whose name is made up at random; `openssl rand -hex
    16` makes one up for another. The rules file has a table for each kind of action that is to
    differ from the default, such as [list] with count = 2, may = ["officer", "archivist"], must =
    ["archivist"] and organisations = 2.

    Example: kluis member found --member officer:KEY --member archivist:KEY --key-file officer.key
    """
    from vault.ruling import parse_rules

    named = [_member(text) for text in members]
    ruled = parse_rules("" if rules is None else _text(rules))
    with ctx.ensure_object(Context).open() as vault:
        key = open_role_key(vault, key_file)
        view = vault.found(named, ruled, key, expires=expires, purpose=purpose)
        finish(ctx, view, as_json=as_json)


@member.command("add")
@click.argument("joining", metavar="ROLE:KEY[:ORGANISATION]")
@click.option("--holder", metavar="NAME|-", help="Who holds it: kept as a record, off the ledger.")
@key_file_option
@acting
@json_option
@click.pass_context
def member_add(
    ctx: click.Context,
    joining: str,
    holder: str | None,
    key_file: Path,
    expires: int,
    purpose: str | None,
    *,
    as_json: bool,
) -> None:
    """Propose a new member, whose own key has to approve as well.

    Without an organisation, it is that of the member who proposes it. The holder's name goes into
    an ordinary record of the category that [governance] holders configures; erasing that record
    erases the name.

    Example: kluis member add auditor:KEY --key-file officer.key --holder -
    """
    role, public, organisation = _member(joining)
    name = None if holder is None else read_subject(holder)
    with ctx.ensure_object(Context).open() as vault:
        if name is not None:
            # Before anything is proposed: can it be stored at all?
            vault.holders_category()
        view = vault.add_member(
            role,
            public,
            open_role_key(vault, key_file),
            organisation=organisation,
            expires=expires,
            purpose=purpose,
        )
        if name is not None:
            vault.set_holder(public, name, purpose=purpose)
        finish(ctx, view, as_json=as_json)


@member.command("remove")
@click.argument("public", metavar="KEY")
@key_file_option
@acting
@json_option
@click.pass_context
def member_remove(
    ctx: click.Context,
    public: str,
    key_file: Path,
    expires: int,
    purpose: str | None,
    *,
    as_json: bool,
) -> None:
    """Propose that a member leaves; KEY is its public key.

    Example: kluis member remove KEY --key-file officer.key
    """
    from ledger.action import RemoveMember
    from vault.rolekeys import parse_public_key

    action = RemoveMember(parse_public_key(public))
    with ctx.ensure_object(Context).open() as vault:
        key = open_role_key(vault, key_file)
        finish(ctx, vault.propose(action, key, expires=expires, purpose=purpose), as_json=as_json)


@member.command("rule")
@click.argument("kind", type=click.Choice(_KINDS))
@click.option("--count", required=True, type=int, help="Least number of approvals.")
@click.option("--may", required=True, multiple=True, type=click.Choice(_ROLES))
@click.option("--must", multiple=True, type=click.Choice(_ROLES))
@click.option("--organisations", type=int, default=1, show_default=True)
@key_file_option
@acting
@json_option
@click.pass_context
def member_rule(
    ctx: click.Context,
    kind: str,
    count: int,
    may: tuple[str, ...],
    must: tuple[str, ...],
    organisations: int,
    key_file: Path,
    expires: int,
    purpose: str | None,
    *,
    as_json: bool,
) -> None:
    """Propose another rule for a kind of action.

    For everything but a stop, two approvals and more than half of the members who may approve are
    needed, whatever the rule says.

    Example: kluis member rule list --count 3 --may officer --may archivist --must archivist
    --key-file officer.key
    """
    from ledger.action import SetRule
    from vault.ruling import KINDS, make_rule

    action = SetRule(KINDS[kind], make_rule(count, may, must, organisations))
    with ctx.ensure_object(Context).open() as vault:
        key = open_role_key(vault, key_file)
        finish(ctx, vault.propose(action, key, expires=expires, purpose=purpose), as_json=as_json)


@member.command("list")
@acting
@json_option
@click.pass_context
def member_list(ctx: click.Context, purpose: str | None, *, as_json: bool) -> None:
    """Print members, rules, lists, and whether the ledger is stopped.

    Example: kluis member list --json
    """
    with ctx.ensure_object(Context).open() as vault:
        state, lists = vault.governance(), vault.lists()
        holders = _holders(vault, state, purpose)
    if as_json:
        emit_json(_state_document(state, holders, lists))
    else:
        _show_state(state, holders, lists)


def _holders(
    vault: Vault, state: GovernanceState, purpose: str | None
) -> dict[bytes, tuple[str, str] | None]:
    return {one.key: vault.holder(one.key, purpose=purpose) for one in state.members}


def _state_document(
    state: GovernanceState,
    holders: dict[bytes, tuple[str, str] | None],
    lists: list[ListInfo],
) -> dict[str, object]:
    from ledger.action import RULED
    from vault.ruling import kind_name

    members = []
    for one in state.members:
        pointer, name = holders[one.key] or (None, None)
        members.append(
            {
                "role": one.role.name.lower(),
                "key": one.key.hex(),
                "organisation": one.organisation.hex(),
                "holder": name,
                "holder_pointer": pointer,
            }
        )
    rules = {
        kind_name(kind): _rule_document(rule)
        for kind, rule in zip(RULED, state.rules, strict=False)
    }
    return {
        "founded": state.founded,
        "sequence": state.sequence,
        "stopped": state.stopped,
        "minimum": state.minimum,
        "members": members,
        "rules": rules,
        "lists": [
            {"sequence": one.sequence, "items": one.items, "erased": one.erased} for one in lists
        ],
    }


def _rule_document(rule: Rule) -> dict[str, object]:
    return {
        "count": rule.count,
        "may": [role.name.lower() for role in sorted(rule.may)],
        "must": [role.name.lower() for role in sorted(rule.must)],
        "organisations": rule.organisations,
    }


def _show_state(
    state: GovernanceState,
    holders: dict[bytes, tuple[str, str] | None],
    lists: list[ListInfo],
) -> None:
    from ledger.action import RULED
    from vault.ruling import kind_name

    if not state.founded:
        click.echo("This ledger is not governed: 'kluis member found' names the first members.")
        return
    click.echo(f"state     {state.sequence}, {'stopped' if state.stopped else 'running'}")
    if state.minimum:
        click.echo(f"minimum   {state.minimum}: entries below may be gone")
    for one in state.members:
        held = holders[one.key]
        who = "" if held is None else f", held by {held[1]} (record {held[0]})"
        click.echo(f"member    {one.role.name.lower()} {one.key.hex()}{who}")
        click.echo(f"          {key_label(one.key)}, organisation {one.organisation.hex()}")
    for kind, rule in zip(RULED, state.rules, strict=True):
        click.echo(f"rule      {kind_name(kind)}: {rule_words(rule)}")
    for listed in lists:
        items = counted(listed.items, "item")
        click.echo(f"list      {listed.sequence}: {items}, {listed.erased} erased")


@click.command()
@key_file_option
@acting
@json_option
@click.pass_context
def stop(
    ctx: click.Context, key_file: Path, expires: int, purpose: str | None, *, as_json: bool
) -> None:
    """Stop the ledger: no new record is stored until it is resumed.

    What was stored before stays and gets its place in the ledger. Reading, correcting, erasing,
    holds, proofs and all verification go on.

    Example: kluis stop --key-file officer.key
    """
    from ledger.action import Stop

    with ctx.ensure_object(Context).open() as vault:
        key = open_role_key(vault, key_file)
        finish(ctx, vault.propose(Stop(), key, expires=expires, purpose=purpose), as_json=as_json)


@click.command()
@key_file_option
@acting
@json_option
@click.pass_context
def resume(
    ctx: click.Context, key_file: Path, expires: int, purpose: str | None, *, as_json: bool
) -> None:
    """Let a stopped ledger take new records again.

    Example: kluis resume --key-file officer.key
    """
    from ledger.action import Resume

    with ctx.ensure_object(Context).open() as vault:
        key = open_role_key(vault, key_file)
        finish(ctx, vault.propose(Resume(), key, expires=expires, purpose=purpose), as_json=as_json)


def _member(written: str) -> tuple[Role, bytes, bytes | None]:
    """Return role, public key and organisation, None where that is not given."""
    from ledger.action import ORGANISATION_BYTES
    from vault.rolekeys import parse_public_key
    from vault.ruling import ROLES

    role, _, rest = written.partition(":")
    key, colon, home = rest.partition(":")
    if role not in ROLES:
        raise click.UsageError(f"a member is ROLE:KEY, and ROLE one of {', '.join(ROLES)}")
    if not colon:
        return ROLES[role], parse_public_key(key), None
    try:
        organisation = bytes.fromhex(home)
    except ValueError:
        organisation = b""
    if len(organisation) != ORGANISATION_BYTES:
        raise click.UsageError(
            "an organisation is 32 digits of hex: as 'kluis member list' says, or for a new one"
            " made up at random with 'openssl rand -hex 16'"
        )
    return ROLES[role], parse_public_key(key), organisation


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise click.UsageError(f"{path} cannot be read as text") from None
