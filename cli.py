"""The command `kluis`: parse, call, print. Errors become one line and an exit code.

Commands are loaded when they are used, so that `kluis --help` answers at once. Exit codes are in
commands/exitcodes.py. Tested in tests/test_cli.py.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from commands.context import Context

# What shells expect of a command that was interrupted, or whose reader went away.
_INTERRUPTED = 130
_READER_LEFT = 141

# Messages that would repeat what was typed, which may be an identifier in the wrong place.
_REPEATS_INPUT = {
    "Got unexpected extra argument": "too many arguments",
    "No such command": "no such command",
}

# Name, module, attribute and the first line of the help; a test compares the last with the command.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "init": ("making", "init", "Make a vault: configuration, keys, database and ledger."),
    "import": ("importing", "import_", "Import a file of JSON lines, one record each."),
    "put": ("records", "put", "Store one record and print its pointer, alone."),
    "get": ("records", "get", "Print the payload of a record, byte for byte."),
    "history": (
        "records",
        "history",
        "Print the versions of a record: when, by whom, and where the ledger says so.",
    ),
    "find": (
        "records",
        "find",
        "Print the pointers of all living records about a subject, one on each line.",
    ),
    "rectify": (
        "records",
        "rectify",
        "Append a corrected version of a record; earlier ones stay in its history.",
    ),
    "erase": (
        "erasing",
        "erase",
        "Erase a record where law and policy allow it, and print the decision either way.",
    ),
    "shred": (
        "shredding",
        "shred",
        "Make what was erased irrecoverable in every copy, and issue the certificates.",
    ),
    "certificate": (
        "shredding",
        "certificate",
        "Print the certificate of a record's destruction; exit 5 while there is none.",
    ),
    "rootkey": (
        "shredding",
        "rootkey",
        "Show where the root keys are kept, and move them elsewhere.",
    ),
    "escrow": (
        "escrowing",
        "escrow",
        "Share out, rehearse and recover the key of records that are kept for ever.",
    ),
    "member": (
        "governing",
        "member",
        "Make role keys, found the governance of the ledger, and change its members and rules.",
    ),
    "approve": (
        "approving",
        "approve",
        "Show what waits for approval, and approve it with a role key.",
    ),
    "stop": (
        "governing",
        "stop",
        "Stop the ledger: no new record is stored until it is resumed.",
    ),
    "resume": ("governing", "resume", "Let a stopped ledger take new records again."),
    "backup": ("backups", "backup", "Back up data and keys, apart from each other."),
    "restore": (
        "backups",
        "restore",
        "Make a vault out of backups, erasing again what was erased since they were made.",
    ),
    "checkpoint": (
        "ledgering",
        "checkpoint",
        "Make leaves of all pending entries, sign the tree and print the signed note.",
    ),
    "anchor": ("ledgering", "anchor", "Anchor checkpoints, and see how far the anchors are."),
    "ledger": ("ledgering", "ledger", "Publish the ledger, and replace the keys that sign it."),
    "witness": (
        "witnessing",
        "witness",
        "Watch logs: cosign what extends the last checkpoint, keep what contradicts it.",
    ),
    "monitor": (
        "monitoring",
        "monitor",
        "Watch a published ledger from outside: that it only grows, and keeps its own rules.",
    ),
    "prove": (
        "proving",
        "prove",
        "Print evidence that a record is in the ledger, for `kluis verify`.",
    ),
    "trust": (
        "proving",
        "trust",
        "Print the public keys and the origin that an auditor needs, as one file.",
    ),
    "verify": ("proving", "verify", "Verify evidence, offline and without a vault."),
    "audit": (
        "auditing",
        "audit",
        "Check everything: rows, blobs, key tree, ledger, checkpoints, anchors.",
    ),
    "demo": ("demo", "demo", "Show the whole life of municipal records, in under a minute."),
}


class LazyGroup(click.Group):
    """A group that loads a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load and return a command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(import_module(f"commands.{module}"), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{attribute} in commands.{module} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup)
@click.option(
    "-C",
    "folder",
    metavar="DIR",
    envvar="KLUIS_DIR",
    default=".",
    type=click.Path(path_type=Path),
    help="Work in this vault; KLUIS_DIR says the same.",
)
@click.option("--actor", metavar="NAME", help="Who acts, instead of the configured actor.")
@click.version_option(package_name="datakluis", prog_name="kluis")
@click.pass_context
def kluis(ctx: click.Context, folder: Path, actor: str | None) -> None:
    """Keep records provable and erasable.

    Personal data lies encrypted in a vault, each record under a key of its own; a ledger holds only
    commitments. The passphrase comes from a prompt or from the file that KLUIS_PASSPHRASE_FILE
    names, never from the command line.

    Example: kluis -C hoorn audit
    """
    ctx.obj = Context(folder, actor)


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; whatever goes wrong becomes one line."""
    try:
        with kluis.make_context("kluis", list(arguments)) as ctx:
            kluis.invoke(ctx)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        return _fail(_usage_message(error), 2)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted; what was acknowledged is stored", _INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_LEFT
    except Exception as error:
        return _fail_with(error)
    return 0


def _usage_message(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split())
    for start, told in _REPEATS_INPUT.items():
        if message.startswith(start):
            message = told
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    where = ctx.command_path if ctx else "kluis"
    return f"{message} (see '{where} --help')"


def _fail_with(error: Exception) -> int:
    from commands.exitcodes import advice_for, exit_code_of

    if isinstance(error, OSError):
        return _fail(_os_message(error), 8)
    room = type(error).__module__.partition(".")[0]
    if room not in ("vault", "ledger", "anchor", "policy"):
        # The message of an unforeseen error may hold anything, so only its kind is shown.
        return _fail(f"unforeseen {type(error).__name__}; please report what you did", 1)
    advice = advice_for(error)
    return _fail(f"{error}; {advice}" if advice else str(error), exit_code_of(error))


def _os_message(error: OSError) -> str:
    if error.filename is None:
        return f"writing failed: {error.strerror}; look what was stored before you repeat this"
    return f"{error.filename}: {error.strerror}; mend that and try again"


def _fail(message: str, code: int) -> int:
    click.echo("kluis: " + " ".join(message.split()), err=True)
    return int(code)


if __name__ == "__main__":
    main()
