"""Reading the options of root key providers: numbers, names, addresses, and files with secrets.

Every refusal names the option. What a file with a secret holds is never repeated.
Tested in tests/vault/test_rootkeys.py.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from vault.errors import ConfigurationError, InvalidInput
from vault.rootkeys.provider import Options

_MAX_SECRET_BYTES = 4_096


def number(options: Options, name: str, allowed: range, default: int | None = None) -> int:
    """Return a whole number in its only decimal form.

    Raises:
        InvalidInput: it is another text, or out of range.
    """
    text = options.get(name, "" if default is None else str(default))
    if not re.fullmatch("0|[1-9][0-9]{0,18}", text) or int(text) not in allowed:
        raise InvalidInput(
            f"option {name} must be a whole number from {allowed[0]} to {allowed[-1]}"
        )
    return int(text)


def name_like(options: Options, name: str, pattern: str, default: str) -> str:
    """Return a text that matches a pattern as a whole.

    Raises:
        InvalidInput: it does not match.
    """
    text = options.get(name, default)
    if not re.fullmatch(pattern, text):
        raise InvalidInput(f"option {name} must match {pattern}")
    return text


def address(options: Options, name: str) -> str:
    """Return an https address, or an http address of this machine, without a slash at its end.

    Epoch keys travel to it, so plain http may not leave the machine.

    Raises:
        InvalidInput: it is another address, or holds a user, a query or a fragment.
    """
    text = options[name]
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidInput(f"option {name} is not an address") from None
    plain = not (parts.username or parts.password or parts.query or parts.fragment)
    if not (plain and parts.hostname and port != 0 and _is_private(parts)):
        raise InvalidInput(f"option {name} must be https://host, or http://127.0.0.1, and no more")
    return text.rstrip("/")


def file_path(folder: Path, options: Options, name: str) -> Path:
    """Return the path of a file that must be there.

    Args:
        folder: what a relative path is relative to.
        options: of the provider.
        name: of the option.

    Raises:
        ConfigurationError: it is not there.
    """
    path = folder / options[name]
    if not path.is_file():
        raise ConfigurationError(f"option {name}: {path} is not a file")
    return path


def read_secret(path: Path, name: str) -> str:
    """Return the secret that a file holds: one line of printable ASCII.

    Read at each use, because an agent may renew it.

    Args:
        path: of the file.
        name: of the option that named it.

    Raises:
        ConfigurationError: it cannot be read or holds something else.
    """
    try:
        raw = path.read_bytes()
    except OSError:
        raise ConfigurationError(f"option {name}: {path} cannot be read") from None
    secret = raw.removesuffix(b"\n").removesuffix(b"\r").decode("latin-1")
    if not (0 < len(secret) <= _MAX_SECRET_BYTES and secret.isascii() and secret.isprintable()):
        raise ConfigurationError(f"option {name}: {path} must hold one line of printable ASCII")
    return secret


def _is_private(parts: SplitResult) -> bool:
    if parts.scheme == "https":
        return True
    host = parts.hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return parts.scheme == "http" and local
