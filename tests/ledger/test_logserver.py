"""The published folder over HTTP: a real server, asked byte by byte for what it must not give."""

import gzip
import hashlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kluis_command import run
from ledger_fixtures import Ledger, Records, log_keys
from published_logs import memory_log, publish, published_files

from ledger.errors import Malformed, NotServed, SourceMissing
from ledger.net import logserver
from ledger.net.logserver import LogServer
from ledger.net.serving import Serving
from ledger.net.source import HttpSource
from ledger.replay import read_entries

KEYS = log_keys()
ENTRIES = Records(seed=31, every_kind=True).take(600)
FILES = memory_log(ENTRIES).files
SECRET = b"not published"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A published log, with things beside it and in it that are not for readers."""
    top = tmp_path_factory.mktemp("served")
    folder = top / "published"
    for path, data in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (top / "secret").write_bytes(SECRET)
    (top / "tiles").mkdir()
    (top / "tiles" / "001").write_bytes(SECRET)
    (folder / "secret").write_bytes(SECRET)
    (folder / "tile/0/000.new").write_bytes(SECRET)
    (folder / "tile/0/900").symlink_to(top / "secret")
    (folder / "tile/0/901").symlink_to(folder / "tile/0/000")
    (folder / "tile/5").symlink_to(top / "tiles")
    (folder / "tile/0/902").mkdir()
    os.mkfifo(folder / "tile/0/903")
    (folder / "tile/0/904").write_bytes(bytes(8_193))
    return folder


@pytest.fixture(scope="module")
def address(folder):
    serving = Serving(LogServer(folder), "127.0.0.1", 0)
    thread = threading.Thread(target=serving.run)
    thread.start()
    yield urllib.parse.urlsplit(serving.url).netloc
    serving.stop()
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.body = response.read()
        self.headers = {name.lower(): value for name, value in response.getheaders()}


def ask(address: str, target: str, method: str = "GET", **headers: str) -> Answer:
    """Send a target as it stands: http.client would refuse or mend some of them."""
    host, port = address.split(":")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {address}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        return Answer(response)


def etag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()}"'


# What is served


def test_every_file_with_its_headers(address):
    for path, data in FILES.items():
        answer = ask(address, f"/{path}")
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers["etag"] == etag(data)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-length"] == str(len(data))
        assert "server" not in answer.headers
        assert "content-encoding" not in answer.headers
        kind = (answer.headers["content-type"], answer.headers["cache-control"])
        if path == "checkpoint":
            assert kind == ("text/plain; charset=utf-8", "no-cache")
        else:
            assert kind == ("application/octet-stream", "public, max-age=31536000, immutable")


def test_head_says_what_get_would(address):
    for path in FILES:
        got, headed = ask(address, f"/{path}"), ask(address, f"/{path}", "HEAD")
        assert headed.body == b""
        assert headed.status == got.status
        assert headed.headers | {"date": ""} == got.headers | {"date": ""}


def test_the_reader_over_http_reads_the_whole_log(address):
    found = read_entries(HttpSource(f"http://{address}"), KEYS)
    assert list(found.entries()) == ENTRIES
    with pytest.raises(SourceMissing):
        HttpSource(f"http://{address}").read("tile/0/007")


def test_what_the_client_holds_is_not_sent_again(address):
    sent = Counter()
    for path, data in FILES.items():
        for held, status in [
            (etag(data), 304), (f'"other", W/{etag(data)}', 304), ("*", 304),
            ('"other"', 200), (etag(data)[1:-1], 200), ("", 200), (f"{etag(data)[:-2]}\"", 200),
        ]:  # fmt: skip
            answer = ask(address, f"/{path}", if_none_match=held)
            assert answer.status == status, held
            assert answer.body == (b"" if status == 304 else data)
            assert answer.headers["etag"] == etag(data)
            assert "cache-control" in answer.headers
            sent[status] += 1
    print(f"conditional requests: {dict(sent)}")


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("gzip, deflate, br", True), ("br;q=1, GZIP;q=0.5", True),
     ("identity", False), ("", False), ("gzip;q=0", False), ("gzip;q=0.000", False),
     ("x-gzip", False), ("*", False)],
)  # fmt: skip
def test_bundles_are_packed_for_whom_asks_for_it(address, accepted, packed):
    for path, data in FILES.items():
        answer = ask(address, f"/{path}", accept_encoding=accepted)
        is_bundle = path.startswith("tile/entries/")
        assert ("vary" in answer.headers) == is_bundle
        assert answer.headers.get("content-encoding") == ("gzip" if packed and is_bundle else None)
        if packed and is_bundle:
            assert gzip.decompress(answer.body) == data
            assert answer.headers["etag"] == etag(answer.body) != etag(data)
            held = answer.headers["etag"]
            again = ask(address, f"/{path}", accept_encoding=accepted, if_none_match=held)
            assert again.status == 304
        else:
            assert answer.body == data


def test_a_new_export_is_seen_at_once(tmp_path):
    (tmp_path / "ledger").mkdir()
    records = Records(seed=32)
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.checkpoint(records.take(10))
        publish(ledger, tmp_path / "published")
        serving = Serving(LogServer(tmp_path / "published"), "127.0.0.1", 0)
        thread = threading.Thread(target=serving.run)
        thread.start()
        try:
            source = HttpSource(serving.url)
            assert read_entries(source, KEYS).size == 10
            ledger.checkpoint(records.take(290))
            publish(ledger, tmp_path / "published")
            assert list(read_entries(source, KEYS).entries()) == ledger.entries()
        finally:
            serving.stop()
            thread.join(20)


# What is not


NOT_SERVED = [
    "/", "//", "/.", "/..", "/secret", "/../secret", "/tile/../../secret", "/tile/../checkpoint",
    "/%2e%2e/secret", "/..%2fsecret", "/%2fetc%2fpasswd", "//etc/passwd", "/etc/passwd",
    "/checkpoint/", "//checkpoint", "/checkpoint?x", "/checkpoint?x=1", "/checkpoin%74",
    "/Checkpoint", "/checkpoint%00", "/checkpoint%0a", "/checkpoint;x", "/./checkpoint",
    "/tile", "/tile/", "/tile/0", "/tile/0/", "/tile/0/000/", "/tile//0/000", "/tile/0/0",
    "/tile/00/000", "/tile/0/%30%30%30", "/tile/0/000.p/0", "/tile/0/000.p/256", "/tile/0/000.new",
    "/tile/0/000?x", "/tile/0/x000/000", "/tile/64/000", "/tile/-1/000", "/tile/entries",
    "/tile/entries/../0/000", "/tile\\0\\000", "/tile/0/..%5c000", "*", "checkpoint",
    "http://127.0.0.1/checkpoint", "/tile/0/900", "/tile/0/901", "/tile/5/001", "/tile/0/902",
    "/tile/0/903", "/tile/0/904", "/tile/0/777", "/tile/9/000", "/tile/0/\xd9\xa0\xd9\xa0\xd9\xa0",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_else_is_there(address, method):
    statuses: Counter[int] = Counter()
    for target in NOT_SERVED:
        answer = ask(address, target, method)
        # A target that is no HTTP at all never gets as far as the application.
        assert answer.status in (400, 404), target
        assert SECRET not in answer.body
        if answer.status == 404:
            assert answer.body == b""
            assert answer.headers["cache-control"] == "no-cache"
            assert "server" not in answer.headers
        statuses[answer.status] += 1
    print(f"{method}: {len(NOT_SERVED)} other targets refused: {dict(statuses)}")
    assert statuses[404] >= len(NOT_SERVED) - 3


@given(st.text(alphabet="/.%2eftilencrsxp0139checko?", max_size=24))
def test_only_the_paths_of_a_log_are_served(address, text):
    answer = ask(address, f"/{text}")
    # An empty query cannot be told from none.
    assert answer.status == (200 if text.removesuffix("?") in FILES else 404)
    assert SECRET not in answer.body


def test_control_a_server_that_joins_and_follows_gives_the_secret_away(folder, monkeypatch):
    """Without the check of names and links, those targets lead out of the folder."""
    out = [path for path in ("../secret", "tile/0/900", "tile/5/001")
           if (folder / path).read_bytes() == SECRET]  # fmt: skip
    assert len(out) == 3
    for path in out[1:]:
        with pytest.raises(SourceMissing):
            logserver._read(folder, path)
    with pytest.raises(Malformed):
        logserver._read(folder, out[0])
    monkeypatch.setattr(logserver, "size_limit", lambda path: 100)
    assert logserver._read(folder, "../secret") == SECRET
    monkeypatch.setattr(os, "O_NOFOLLOW", 0)
    assert [logserver._read(folder, path) for path in out] == [SECRET] * 3


@pytest.mark.parametrize("target", ["/checkpoint", "/tile/0/000", "/secret", "/"])
def test_other_methods_are_refused(address, target):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get"):
        answer = ask(address, target, method)
        assert answer.status == 405, method
        assert answer.headers["allow"] == "GET, HEAD"
        assert answer.body == b""


def test_nothing_was_changed_by_all_that(address, folder):
    """Runs last in this module, over the folder that all of it asked for."""
    found = {path: data for path, data in published_files(folder).items() if path in FILES}
    assert found == FILES


# The command


def test_a_folder_without_a_checkpoint_is_not_served(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotServed, match="holds no published ledger"):
            LogServer(folder)
        refused = run("ledger", "serve", folder, "--listen", "127.0.0.1:0")
        assert refused.code != 0
        assert "holds no published ledger" in refused.err
        assert refused.err.count("\n") == 1


def test_the_command_serves_until_it_is_told_to_stop(folder, tmp_path):
    """In a process of its own, with neither vault nor passphrase."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "cli", "ledger", "serve", str(folder)]
    server = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"], cwd=tmp_path, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = server.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)[0]
        assert list(read_entries(HttpSource(url), KEYS).entries()) == ENTRIES
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=20)
    finally:
        server.kill()
        server.wait()
    assert (server.returncode, out, err) == (0, "", "")
