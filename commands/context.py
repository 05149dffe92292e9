"""What the commands share: the vault to work in, who acts, options and output."""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from vault import Vault

PASSPHRASE_FILE = "KLUIS_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable
KEY_PASSPHRASE_FILE = "KLUIS_KEY_PASSPHRASE_FILE"  # noqa: S105 - likewise
STDIN = "-"
_MAX_STDIN_BYTES = 16 * 1024 * 1024

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(slots=True)
class Context:
    """Where and as whom a command works.

    Attributes:
        folder: of the vault.
        actor: None takes the vault's configured one.
    """

    folder: Path
    actor: str | None = None

    def open(self) -> Vault:
        """Open the vault."""
        from vault import Vault
        from vault.config import load_config

        # Before anybody is asked for a passphrase: is there a vault at all?
        load_config(self.folder)
        return Vault.open(self.folder, read_passphrase(confirm=False), actor=self.actor)


def iso_date(text: str) -> dt.date:
    """Return the day that a text names as YYYY-MM-DD and no other way.

    Raises:
        click.BadParameter: it names none so.
    """
    try:
        date = dt.date.fromisoformat(text)
    except ValueError:
        date = None
    if date is None or date.isoformat() != text:
        raise click.BadParameter("not a date; write it as 2026-12-31")
    return date


def acting(command: Command) -> Command:
    """Add --actor and --purpose, which default to the vault's configuration."""
    for option in (
        click.option("--purpose", metavar="P", help="Registered purpose of this call."),
        actor_option,
    ):
        command = option(command)
    return command


def actor_option(command: Command) -> Command:
    """Add --actor, which overrides the configured actor."""

    def remember(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.ensure_object(Context).actor = value

    return click.option(
        "--actor", metavar="NAME", help="Who acts.", expose_value=False, callback=remember
    )(command)


def json_option(command: Command) -> Command:
    """Add --json: one object on standard output."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def dates_options(command: Command) -> Command:
    """Add --brondatum and --record-date."""
    for option in (
        click.option(
            "--record-date",
            type=iso_date,
            metavar="DATE",
            help="Day on which it was made or received; today if not given.",
        ),
        click.option(
            "--brondatum",
            type=iso_date,
            metavar="DATE",
            help="Day on which the retention term starts.",
        ),
    ):
        command = option(command)
    return command


def emit_json(document: Mapping[str, object]) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(document, ensure_ascii=False))


def read_passphrase(
    *, confirm: bool, variable: str = PASSPHRASE_FILE, prompt: str = "Passphrase"
) -> str:
    """Return a passphrase, from the file that the environment names or from a prompt.

    Args:
        confirm: whether it is to be typed twice.
        variable: of the environment, which names the file.
        prompt: shown where there is no such variable.

    Raises:
        click.ClickException: there is neither, or the file cannot be read.
    """
    named = os.environ.get(variable)
    if named:
        try:
            passphrase = Path(named).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise click.UsageError(f"{named}, named by {variable}, cannot be read") from None
        if not passphrase:
            raise click.UsageError(f"{named}, named by {variable}, is empty")
        return passphrase
    if not _has_terminal():
        raise click.UsageError(
            f"no passphrase: let {variable} name a file that holds it, or use a terminal"
        )
    prompted: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return prompted


def _has_terminal() -> bool:
    # The prompt uses the terminal itself, also where standard input is something else.
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


def read_input(source: str, limit: int) -> bytes:
    """Return the bytes of a file, or of standard input for "-".

    Args:
        source: path, or "-".
        limit: read no more than one byte beyond this many.

    Raises:
        click.UsageError: the file cannot be read.
    """
    if source == STDIN:
        return sys.stdin.buffer.read(limit + 1)
    try:
        with Path(source).open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise click.UsageError(f"{source} cannot be read: {error.strerror}") from None


def read_subject(subject: str) -> str:
    """Return a subject; "-" reads it from standard input, so that no process list shows it."""
    if subject != STDIN:
        return subject
    try:
        return sys.stdin.buffer.read(_MAX_STDIN_BYTES).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.UsageError("the subject on standard input is not UTF-8") from None


def write_output(target: str | None, data: bytes, *, private: bool = False) -> None:
    """Write to a file, or to standard output for None and "-".

    Args:
        target: path, "-" or None.
        data: the bytes.
        private: whether a file is for its owner alone.

    Raises:
        click.UsageError: the file cannot be written.
    """
    if target is None or target == STDIN:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        path = Path(target)
        if private:
            path.touch(mode=0o600)
            path.chmod(0o600)
        path.write_bytes(data)
    except OSError as error:
        raise click.UsageError(f"{target} cannot be written: {error.strerror}") from None


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the right form."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def local_time(at: int) -> str:
    """Return Unix seconds as people here read them."""
    return dt.datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="seconds")
