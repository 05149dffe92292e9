"""Sources: a file by its name and nothing else, from a folder and from servers of every kind."""

import http.server
import os
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_fixtures import NaiveTree, Records, log_keys
from published_logs import expected_files, memory_log, signed_checkpoint

from ledger.errors import (
    BadPublication,
    BadSignature,
    LedgerError,
    Malformed,
    SourceMissing,
    SourceUnreachable,
)
from ledger.net.source import HttpSource
from ledger.replay import read_entries
from ledger.source import MAX_BUNDLE_BYTES, MAX_TILE_BYTES, FolderSource, size_limit

KEYS = log_keys()
ENTRIES = Records(seed=21, every_kind=True).take(600)
FILES = memory_log(ENTRIES).files
LATE = 0.5
"""Seconds after which the tests take a server for late."""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "published"
    for path, data in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (tmp_path / "secret").write_bytes(b"not published")
    (folder / "other").write_bytes(b"not of the log")
    return folder


# Names


BAD_PATHS = [
    "", "/", ".", "..", "../secret", "tile/../../secret", "/etc/passwd", "other", "checkpoint/",
    "Checkpoint", "checkpoint\n", "checkpoint\x00", "./checkpoint", "tile", "tile/0", "tile/0/",
    "tile/0/0", "tile/0/0000", "tile/00/000", "tile/64/000", "tile/-1/000", "tile/0/000.p/0",
    "tile/0/000.p/256", "tile/0/000.p/08", "tile/0/000.p/8/../../001", "tile/entries/x000/000",
    "tile/entries/000 ", "tile/entries/٠٠٠", "tile\\0\\000", "tile/0/000?x", "tile/0/000#x",
    "tile/0/000.new", "%63heckpoint", "http://127.0.0.1/checkpoint",
]  # fmt: skip


@pytest.mark.parametrize("path", BAD_PATHS, ids=ascii)
def test_no_other_name_is_read(folder, path):
    for source in (FolderSource(folder), HttpSource("http://127.0.0.1:9")):
        with pytest.raises(Malformed):
            source.read(path)


@given(st.one_of(st.text(max_size=30), st.from_regex(r"tile/[0-9x/.entrisp]{1,20}")))
def test_a_name_that_is_read_stays_in_the_folder(path):
    try:
        size_limit(path)
    except Malformed:
        return
    parts = Path(path).parts
    assert not Path(path).is_absolute()
    assert ".." not in parts
    assert re.fullmatch("checkpoint|tile/[0-9a-z/.]+", path)


# A folder


def test_a_folder_gives_each_file_and_says_which_it_has_not(folder):
    source = FolderSource(folder)
    for path, data in FILES.items():
        assert source.read(path) == data
    for path in ("tile/0/007", "tile/entries/003", "tile/0/002.p/87", "tile/5/000"):
        with pytest.raises(SourceMissing, match=path) as caught:
            source.read(path)
        assert caught.value.path == path
    with pytest.raises(SourceMissing):
        FolderSource(folder / "nowhere").read("checkpoint")
    with pytest.raises(SourceMissing):
        FolderSource(folder / "other").read("checkpoint")


def test_a_folder_in_the_place_of_a_file_cannot_be_read(folder):
    (folder / "tile/0/007").mkdir()
    with pytest.raises(SourceUnreachable) as caught:
        FolderSource(folder).read("tile/0/007")
    assert caught.value.path == "tile/0/007"


@pytest.mark.parametrize(
    ("path", "limit"),
    [("checkpoint", 524_288), ("tile/0/007", 8_192), ("tile/0/007.p/9", 8_192),
     ("tile/entries/007", 16_777_472)],
)  # fmt: skip
def test_a_file_has_a_largest_size(folder, path, limit):
    assert size_limit(path) == limit
    assert limit in {524_288, MAX_TILE_BYTES, MAX_BUNDLE_BYTES}
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    with (folder / path).open("wb") as file:
        file.truncate(limit)
    assert len(FolderSource(folder).read(path)) == limit
    with (folder / path).open("wb") as file:
        file.truncate(1 << 40)  # Sparse: a terabyte that nobody reads.
    with pytest.raises(BadPublication, match=f"more than {limit} bytes") as caught:
        FolderSource(folder).read(path)
    assert caught.value.path == path


# A web server


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: Callable[..., object]) -> Iterator[str]:
    """Serve on a free port of this machine and yield the address."""
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        running = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        running.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            running.join()


def test_a_log_on_a_web_server_reads_like_one_in_a_folder(folder):
    with serving(partial(Quiet, directory=folder.parent)) as url:
        for address in (f"{url}/published", f"{url}/published/"):
            source = HttpSource(address)
            for path, data in FILES.items():
                assert source.read(path) == data
            for path in ("tile/0/007", "tile/entries/003"):
                with pytest.raises(SourceMissing) as caught:
                    source.read(path)
                assert caught.value.path == path
            found = read_entries(source, KEYS)
            assert list(found.entries()) == ENTRIES
            assert list(found.faults()) == []


@pytest.mark.parametrize("url", [
    "", "x", "file:///etc/passwd", "ftp://host/x", "data:,x", "//host/x", "http://", "http:///x",
    "https://user:password@host/x", "http://user@host/", "http://host/x?key=1", "http://host/#x",
    "http://host:port/", "http://host:99999/", "http://ho st/", "http://host/\r\nX: y",
    "http://host/\x00", "http://hóst/", "javascript:1", "HTTP ://host/", "http://[::1/",
], ids=ascii)  # fmt: skip
def test_other_addresses_are_refused_and_not_repeated(url):
    with pytest.raises(Malformed) as caught:
        HttpSource(url)
    assert "password" not in str(caught.value)
    assert not url.strip() or url not in str(caught.value) or len(url) < 3


@pytest.mark.parametrize(
    "url", ["http://host", "HTTPS://host/", "http://[::1]:8080/a/b", "http://h:1/x/"]
)
def test_addresses_that_are_taken(url):
    HttpSource(url)


# Hostile servers: each a function from the connection to what it does with it.


def answer(sock: socket.socket, *parts: bytes) -> None:
    for part in parts:
        sock.sendall(part)


def head(status: str, *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode()


def drip(sock: socket.socket, data: bytes, each: float) -> None:
    for place in range(len(data)):
        sock.sendall(data[place : place + 1])
        time.sleep(each)


def endless(sock: socket.socket, start: bytes, part: bytes) -> None:
    sock.sendall(start)
    while True:
        sock.sendall(part)


NAME = "J. Jansen 999999990"
BODY = FILES["checkpoint"]
LENGTH = f"Content-Length: {len(BODY)}"
HOSTILE: dict[str, tuple[Callable[[socket.socket], object], str]] = {
    "says nothing": (lambda s: time.sleep(5), "no whole answer within 0.5 seconds"),
    "drips its head": (lambda s: drip(s, head("200 OK", *["A: b"] * 99), 0.05), "no whole answer"),
    "drips its body": (
        lambda s: (answer(s, head("200 OK", LENGTH)), drip(s, BODY, 0.05)), "no whole answer"),
    "drips a chunk": (
        lambda s: (answer(s, head("200 OK", "Transfer-Encoding: chunked")),
                   drip(s, b"1\r\na\r\n" * 99, 0.05)), "no whole answer"),
    "stops in its body": (
        lambda s: (answer(s, head("200 OK", LENGTH), BODY[:9]), time.sleep(5)), "no whole answer"),
    "hangs up": (lambda s: None, "breaks off"),
    "hangs up in its head": (lambda s: answer(s, head("200 OK", LENGTH)[:-4]), "breaks off"),
    "hangs up in its body": (
        lambda s: answer(s, head("200 OK", LENGTH), BODY[:-1]), "breaks off"),
    "hangs up in a chunk": (
        lambda s: answer(s, head("200 OK", "Transfer-Encoding: chunked"), b"64\r\nabc"),
        "breaks off"),
    "speaks no HTTP": (lambda s: answer(s, f"SSH-2.0 {NAME}\r\n".encode()), "not HTTP"),
    "sends zeroes": (lambda s: endless(s, b"", bytes(4096)), "not HTTP"),
    "has no end of heads": (
        lambda s: endless(s, b"HTTP/1.1 200 OK\r\n", f"X: {NAME}\r\n".encode()), "not HTTP"),
    "has a head without end": (
        lambda s: endless(s, b"HTTP/1.1 200 OK\r\nX: ", b"x" * 4096), "not HTTP"),
    "has a chunk of no size": (
        lambda s: answer(s, head("200 OK", "Transfer-Encoding: chunked"), f"{NAME}\r\n".encode()),
        "breaks off"),
    "fails": (lambda s: answer(s, head(f"500 {NAME}", "Content-Length: 0")), "has status 500"),
    "forbids": (lambda s: answer(s, head(f"403 {NAME}", "Content-Length: 0")), "has status 403"),
    "asks for a password": (
        lambda s: answer(s, head("401 x", f'WWW-Authenticate: Basic realm="{NAME}"')),
        "has status 401"),
    "has no content": (lambda s: answer(s, head("204 No Content")), "has status 204"),
    "sends a part": (lambda s: answer(s, head("206 Partial", LENGTH), BODY), "has status 206"),
    "says that nothing changed": (lambda s: answer(s, head("304 x")), "has status 304"),
    "redirects to a file": (
        lambda s: answer(s, head("302 x", "Location: file:///etc/passwd")), "has status 302"),
    "redirects to another server": (
        lambda s: answer(s, head("301 x", "Location: http://127.0.0.1:9/x")), "has status 301"),
    "redirects to itself": (
        lambda s: answer(s, head("307 x", "Location: /checkpoint")), "has status 307"),
}  # fmt: skip


def hostile(act: Callable[[socket.socket], object]) -> type[socketserver.BaseRequestHandler]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                asked = self.request.recv(65_536)
                assert asked.startswith(b"GET /checkpoint HTTP/1.1\r\n")
                act(self.request)
                self.request.shutdown(socket.SHUT_WR)
                self.request.recv(1)
            except OSError:
                pass  # The reader has hung up, as it should.

    return Handler


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_is_no_answer_and_soon(name):
    act, words = HOSTILE[name]
    with serving(hostile(act)) as url:
        began = time.monotonic()
        with pytest.raises(SourceUnreachable, match=words) as caught:
            HttpSource(url, timeout=LATE).read("checkpoint")
        took = time.monotonic() - began
    error = caught.value
    assert error.path == "checkpoint"
    assert took < 2 * LATE + 0.5
    assert NAME not in str(error)
    assert error.__cause__ is None or NAME not in repr(error.__cause__)


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
def test_a_file_that_is_not_there(status):
    act = hostile(lambda s: answer(s, head(status, "Content-Length: 0")))
    with serving(act) as url, pytest.raises(SourceMissing):
        HttpSource(url).read("checkpoint")


@pytest.mark.parametrize(
    "start",
    [head("200 OK", f"Content-Length: {1 << 60}"), head("200 OK"),
     head("200 OK", "Content-Length: -1"),
     head("200 OK", "Transfer-Encoding: chunked") + b"fffffffff\r\n"],
)  # fmt: skip
def test_a_file_that_is_too_large_is_not_read_to_its_end(start):
    sent = []

    def act(sock: socket.socket) -> None:
        sock.sendall(start)
        while True:
            sent.append(sock.send(bytes(16_384)))

    with serving(hostile(act)) as url, pytest.raises(BadPublication, match="more than 524288"):
        HttpSource(url, timeout=5).read("checkpoint")
    # What the system's buffers took in between is all that came above the limit.
    print(f"{sum(sent)} bytes sent")
    assert sum(sent) < 30_000_000


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SourceUnreachable, match="no connection"):
        HttpSource(f"http://127.0.0.1:{port}").read("checkpoint")
    with pytest.raises(SourceUnreachable, match="no connection"):
        HttpSource("http://nowhere.invalid", timeout=5).read("checkpoint")


def test_a_patient_reader_takes_a_slow_server():
    """Control: what the late servers send is right, and only late."""
    act = HOSTILE["drips its body"][0]
    with serving(hostile(act)) as url:
        with pytest.raises(SourceUnreachable):
            HttpSource(url, timeout=LATE).read("checkpoint")
        slow = hostile(lambda s: (answer(s, head("200 OK", LENGTH)), drip(s, BODY, 0.001)))
    with serving(slow) as url:
        assert HttpSource(url, timeout=20).read("checkpoint") == BODY


# Wrong answers are the reader's to find.


def wrong_logs() -> dict[str, tuple[dict[str, bytes], type[LedgerError]]]:
    other = Records(seed=22).take(600)
    tree = NaiveTree(other)
    bundle = FILES["tile/entries/001"]
    return {
        "another log's bundle": (
            FILES | {"tile/entries/001": memory_log(other).files["tile/entries/001"]},
            BadPublication,
        ),
        "two bundles for one another": (
            FILES | {"tile/entries/001": FILES["tile/entries/000"], "tile/entries/000": bundle},
            BadPublication,
        ),
        "a checkpoint by a stranger": (
            expected_files(other, signed_checkpoint(600, tree.root(600), name="vreemde.example")),
            BadSignature,
        ),
        "a larger checkpoint": (
            FILES | {"checkpoint": signed_checkpoint(601, bytes(32)).format().encode()},
            SourceMissing,
        ),
        "a web page": (FILES | {"checkpoint": b"<html>404</html>"}, Malformed),
        "a web page as a bundle": (FILES | {"tile/entries/000": b"<html></html>"}, BadPublication),
        "nothing": ({}, SourceMissing),
    }


@pytest.mark.parametrize("name", wrong_logs())
def test_a_server_with_another_log_is_found_out(tmp_path, name):
    files, raised = wrong_logs()[name]
    for path, data in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    with serving(partial(Quiet, directory=tmp_path)) as url:
        for source in (HttpSource(url), FolderSource(tmp_path)):
            with pytest.raises(raised):
                read_entries(source, KEYS)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A key and a certificate for 127.0.0.1 that nobody but its holder vouches for."""
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_a_server_must_prove_its_name(folder, certificate, monkeypatch):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    class Encrypted(Quiet):
        def setup(self) -> None:
            self.request.settimeout(5)
            try:
                self.request = context.wrap_socket(self.request, server_side=True)
            except OSError:
                self.close_connection = True
            super().setup()

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                pass
            finally:
                self.request.close()

    with serving(partial(Encrypted, directory=folder)) as url:
        source = HttpSource(url.replace("http:", "https:"), timeout=5)
        with pytest.raises(SourceUnreachable, match="no connection"):
            source.read("checkpoint")
        # Control: once the certificate is trusted, the log is read.
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert list(read_entries(source, KEYS).entries()) == ENTRIES


def test_a_proxy_of_the_environment_is_asked(folder, monkeypatch):
    asked = []

    class Proxy(Quiet):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.path = self.path.removeprefix("http://log.invalid")
            super().do_GET()

    with serving(partial(Proxy, directory=folder)) as url:
        monkeypatch.delenv("no_proxy")
        monkeypatch.setenv("http_proxy", url)
        assert HttpSource("http://log.invalid").read("checkpoint") == FILES["checkpoint"]
    assert asked == ["http://log.invalid/checkpoint"]
    assert os.environ["http_proxy"] == url
