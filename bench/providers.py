"""Root key providers that a benchmark can start for itself, and how long their own work took.

A SoftHSM token, and an OpenBao server that keeps its storage in memory (`bao server -dev`), so that
its own time is that of the engine and not of its disk. A provider that this machine lacks is left
out and said so on standard error. AWS is not measured: it would cost money.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.error import URLError
from urllib.request import Request, urlopen

from vault import NewPlace, ProviderKind
from vault.rootkeys.opening import provider_class

_METHODS = ("make_key", "wrap", "unwrap", "destroy", "report")
_SOFTHSM = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)
_PATIENCE_SECONDS = 30.0


class Spent:
    """How long something took in all.

    Attributes:
        seconds: so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def watch(self, act: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and is counted; what it calls is counted once."""

        def watched(*arguments: object) -> object:
            started = time.perf_counter()
            self._depth += 1
            try:
                return act(*arguments)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - started

        return watched


@contextmanager
def own_time(kind: ProviderKind) -> Iterator[Spent]:
    """Count how long the providers of a kind take in this process."""
    made_by: Any = provider_class(kind)
    spent = Spent()
    with ExitStack() as stack:
        for name in _METHODS:
            watched = spent.watch(getattr(made_by, name))
            stack.enter_context(patch.object(made_by, name, watched))
        yield spent


@contextmanager
def softhsm(folder: Path) -> Iterator[NewPlace | None]:
    """Make a SoftHSM token in an empty folder; None where the machine lacks what that takes."""
    library = next((path for path in _SOFTHSM if Path(path).exists()), None)
    program = shutil.which("softhsm2-util")
    if library is None or program is None or find_spec("pkcs11") is None:
        _left_out("SoftHSM")
        yield None
        return
    (folder / "tokens").mkdir(parents=True)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    pin_file = folder / "pin"
    pin_file.write_text(secrets.token_hex(8) + "\n")
    pin = pin_file.read_text().strip()
    # Read by this process and by the one that rehearses the key backup.
    with patch.dict(os.environ, SOFTHSM2_CONF=str(configuration)):
        command = [program, "--init-token", "--free", "--label", "bench", "--pin", pin]
        subprocess.run([*command, "--so-pin", pin], check=True, capture_output=True)
        options = {"module": library, "token": "bench", "pin_file": str(pin_file)}
        yield NewPlace(ProviderKind.PKCS11, options)


@contextmanager
def openbao(folder: Path) -> Iterator[NewPlace | None]:
    """Start an OpenBao server with a transit engine; None where the machine lacks it."""
    program = shutil.which("bao", path=str(Path(sys.executable).parent)) or shutil.which("bao")
    if program is None or find_spec("hvac") is None:
        _left_out("OpenBao")
        yield None
        return
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
    token_file = folder / "token"
    token_file.write_text(secrets.token_hex(16) + "\n")
    token = token_file.read_text().strip()
    arguments = [f"-dev-root-token-id={token}", f"-dev-listen-address={address}"]
    server = subprocess.Popen(
        [program, "server", "-dev", "-dev-no-store-token", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HOME": str(folder)},
    )
    try:
        _enable_transit(f"http://{address}", token)
        options = {"url": f"http://{address}", "token_file": str(token_file)}
        yield NewPlace(ProviderKind.TRANSIT, options)
    finally:
        server.kill()
        server.wait()


def _enable_transit(url: str, token: str) -> None:
    request = Request(
        f"{url}/v1/sys/mounts/transit",
        data=b'{"type": "transit"}',
        headers={"X-Vault-Token": token, "Content-Type": "application/json"},
    )
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            urlopen(request, timeout=_PATIENCE_SECONDS).close()
        except (URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _left_out(name: str) -> None:
    print(f"{name} is not installed here: left out", file=sys.stderr)
