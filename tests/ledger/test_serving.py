"""Running an application: it takes connections, and ends in order when it is told to."""

import http.client
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from witness_fixtures import running

from ledger.errors import NotServed
from ledger.net.serving import Serving, parse_listen

PROGRAM = """
import sys, asyncio
sys.path.insert(0, {root!r})
from ledger.net.serving import serve
async def app(scope, receive, send):
    await asyncio.sleep(0.5)
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"whole"}})
serve(app, "127.0.0.1", 0, lambda url: print(url, flush=True))
print("ended", flush=True)
"""


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def get(url: str) -> bytes:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    connection.request("GET", "/")
    body = connection.getresponse().read()
    connection.close()
    return body


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number):
    program = PROGRAM.format(root=str(Path(__file__).parents[2]))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        url = server.stdout.readline().strip()
        answers = []
        asking = threading.Thread(target=lambda: answers.append(get(url)))
        asking.start()
        time.sleep(0.25)
        server.send_signal(number)
        asking.join()
        out, err = server.communicate(timeout=10)
    # What was being answered was answered, and nothing else was said.
    assert answers == [b"whole"]
    assert (out, err, server.returncode) == ("ended\n", "", 0)


def test_a_thread_can_run_and_stop_it(capfd):
    with running(hello) as url:
        assert [get(url) for _ in range(3)] == [b"hello"] * 3
    with pytest.raises(ConnectionError):
        get(url)
    assert capfd.readouterr() == ("", "")


def test_a_taken_address_is_said(capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotServed, match=f"127.0.0.1:{port} cannot be listened on"):
            Serving(hello, "127.0.0.1", port)
    with pytest.raises(NotServed, match="cannot be listened on"):
        Serving(hello, "nowhere.invalid", 1)


def test_a_missing_library_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(NotServed, match=r"pip install 'datakluis\[serve\]'"):
        Serving(hello, "127.0.0.1", 0)


def test_addresses_to_listen_on():
    assert parse_listen("127.0.0.1:8080") == ("127.0.0.1", 8080)
    assert parse_listen("[::1]:0") == ("::1", 0)
    assert parse_listen("localhost:65535") == ("localhost", 65535)
    for text in ("", ":80", "8080", "a:", "a:-1", "a:65536", "::1:80", "[]:80", "a:٨", "a:8 "):
        with pytest.raises(NotServed):
            parse_listen(text)
