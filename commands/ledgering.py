"""`kluis checkpoint`, `anchor run`, `anchor status` and the group `ledger`."""

from __future__ import annotations

import click

from commands.context import Context, emit_json, json_option, local_time, write_output
from commands.pruning import ledger_prune
from commands.publishing import ledger_export, ledger_serve

_LOCAL_WARNING = (
    "The local anchor is for development: it proves nothing to anybody outside this machine."
)


@click.command()
@json_option
@click.pass_obj
def checkpoint(context: Context, *, as_json: bool) -> None:
    """Make leaves of all pending entries, sign the tree and print the signed note.

    The witnesses of the policy, if there is one, are asked to cosign it. Exit 7 means that it is
    signed and stored, and that too few of them did.

    Example: kluis checkpoint > checkpoint.txt
    """
    from vault.errors import QuorumMissing

    with context.open() as vault:
        vault.checkpoint()
        witnessed = vault.witness()
    note = witnessed.note
    if as_json:
        origin, size, root = note.text.splitlines()
        emit_json(
            {
                "origin": origin,
                "size": int(size),
                "root": root,
                "note": note.format(),
                "missing": witnessed.missing,
            }
        )
    else:
        click.echo(note.format(), nl=False)
    told = [f"witness {one.witness}: {one.outcome}, {one.detail}" for one in witnessed.failed]
    if witnessed.missing is not None:
        then = "; ".join([*told, "run 'kluis checkpoint' again"])
        raise QuorumMissing(witnessed.size, witnessed.missing, then)
    for line in told:
        click.echo(line, err=True)


@click.group()
def anchor() -> None:
    """Anchor checkpoints, and see how far the anchors are.

    Example: kluis anchor run
    """


@anchor.command("run")
@json_option
@click.pass_obj
def anchor_run(context: Context, *, as_json: bool) -> None:
    """Sign a checkpoint over all entries and anchor it at every configured target.

    Example: kluis anchor run
    """
    with context.open() as vault:
        done = vault.anchor()
    if as_json:
        emit_json(
            {
                "anchors": [
                    {
                        "target": one.target,
                        "size": one.size,
                        "digest": one.digest.hex(),
                        "new": one.is_new,
                    }
                    for one in done
                ]
            }
        )
        return
    for one in done:
        what = "anchored now" if one.is_new else "was anchored before"
        click.echo(f"{one.target}: the checkpoint of size {one.size} {what}.")
    if not done:
        click.echo("Nothing to anchor: the ledger is empty.")
    click.echo(_LOCAL_WARNING, err=True)


@anchor.command("status")
@json_option
@click.pass_obj
def anchor_status(context: Context, *, as_json: bool) -> None:
    """Print how far each anchor target is behind.

    Example: kluis anchor status --json
    """
    with context.open() as vault:
        targets = vault.anchor_status()
    if as_json:
        emit_json(
            {
                "targets": [
                    {
                        "name": one.target,
                        "size": one.size,
                        "anchored_at": one.anchored_at,
                        "backlog": one.backlog,
                    }
                    for one in targets
                ]
            }
        )
        return
    for one in targets:
        when = local_time(one.anchored_at) if one.anchored_at else "never"
        click.echo(
            f"{one.target}: {one.size} entries, last {when}; {one.backlog} not yet anchored."
        )
    click.echo(_LOCAL_WARNING, err=True)


@click.group()
def ledger() -> None:
    """Publish the ledger, and replace the keys that sign it.

    Example: kluis ledger export /srv/ledger
    """


@ledger.command("rotate")
@json_option
@click.pass_obj
def ledger_rotate(context: Context, *, as_json: bool) -> None:
    """Sign a closing checkpoint, retire the keys that sign the ledger, and make new ones.

    Both keys go at once, Ed25519 and ML-DSA-44. Auditors need a trust file that names the new keys;
    what the old ones signed stays verifiable.

    Example: kluis ledger rotate
    """
    with context.open() as vault:
        rotation = vault.rotate_log_keys()
    size, keys = rotation.closing.size, [str(one.key) for one in rotation.keys]
    if as_json:
        emit_json({"closing_size": size, "keys": keys, "rotated": rotation.is_new})
        return
    if not rotation.is_new:
        click.echo(
            f"The keys in use have signed nothing yet, so they stay. They sign from {size + 1} on."
        )
        return
    click.echo(f"The old keys are retired at {size} leaves. From {size + 1} on these sign:")
    for key in keys:
        click.echo(key)
    click.echo(
        "Make a new trust file for auditors and witnesses, and a new data backup: the earlier ones"
        " do not know these keys.",
        err=True,
    )


@ledger.command("consistency")
@click.argument("old", type=click.IntRange(min=1))
@click.argument("new", type=click.IntRange(min=2))
@click.option("-o", "--output", metavar="FILE", help="Write the proof here.")
@click.pass_obj
def ledger_consistency(context: Context, old: int, new: int, output: str | None) -> None:
    """Print the proof that the ledger only grew between two of its signed checkpoints.

    OLD and NEW are their numbers of entries. `kluis verify` checks the file offline; with
    --consistency it shows that what a retired key signed still counts.

    Example: kluis ledger consistency 4 7 -o consistency.json
    """
    with context.open() as vault:
        proof = vault.consistency(old, new)
    write_output(output, proof.format())


ledger.add_command(ledger_export)
ledger.add_command(ledger_prune)
ledger.add_command(ledger_serve)
