"""Running a web application (ASGI) until this process is told to stop.

uvicorn speaks HTTP/1.1 with keep-alive. It says nothing by itself: no line per request, and no line
when it starts. SIGTERM and SIGINT end it in order: no new connection is taken, what is being
answered is answered for at most five seconds, and `serve` returns. It needs the extra `serve`.

Tested in tests/ledger/test_serving.py.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ledger.errors import NotServed

if TYPE_CHECKING:
    import uvicorn

STOP_SECONDS = 5
"""Seconds that answers under way get when the server is told to stop."""

EXTRA = "serving needs the libraries starlette and uvicorn: pip install 'datakluis[serve]'"
"""What a command says where the extra is not installed."""

_BACKLOG = 2048
_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Serving:
    """One server on one address.

    Args:
        app: an ASGI application without a lifespan of its own.
        host: name or IP address to listen on.
        port: 0 takes a free one.

    Attributes:
        url: where it listens, with the port that it got.

    Raises:
        NotServed: the address cannot be listened on, or the extra is not installed.
    """

    def __init__(self, app: Callable[..., Any], host: str, port: int) -> None:
        try:
            import uvicorn
        except ModuleNotFoundError as cause:
            raise NotServed(EXTRA) from cause
        self._socket = _listen(host, port)
        bound = self._socket.getsockname()
        self.url = f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )

    def run(self) -> None:
        """Answer until `stop`, SIGTERM or SIGINT. Connections are taken since this was made."""
        with self._socket, _quiet_signals(self._server):
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Let `run` return; from any thread."""
        self._server.should_exit = True


def serve(
    app: Callable[..., Any], host: str, port: int, started: Callable[[str], None] | None = None
) -> None:
    """Run an application on an address until SIGTERM or SIGINT.

    Args:
        app: an ASGI application without a lifespan of its own.
        host: name or IP address to listen on.
        port: 0 takes a free one.
        started: is told the URL once connections are taken.

    Raises:
        NotServed: see `Serving`.
    """
    serving = Serving(app, host, port)
    if started is not None:
        started(serving.url)
    serving.run()


def parse_listen(text: str) -> tuple[str, int]:
    """Read the address of `--listen`: HOST:PORT, an IPv6 address in brackets.

    Raises:
        NotServed: any other text.
    """
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = len(host) == len(bare) + 2
    if not bare or not port.isdecimal() or not port.isascii() or (":" in bare) != bracketed:
        raise NotServed("an address to listen on is HOST:PORT, such as 127.0.0.1:8080")
    if int(port) > 65_535:
        raise NotServed("a port is at most 65535")
    return bare, int(port)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) else "not a host name"
        raise NotServed(f"{host}:{port} cannot be listened on: {reason}") from cause


@contextmanager
def _quiet_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let a signal that stopped the server end with that: uvicorn raises it anew when it is done.

    Between here and the server's own handlers a signal must not be lost either.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
