"""Asking witnesses: real ones over HTTP, and servers that are down, slow, lying or senseless."""

import http.client
import os
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from ledger_fixtures import ORIGIN
from witness_fixtures import (
    NOW,
    MadeLog,
    cosigners,
    leaves,
    new_witness,
    policy_of,
    running,
    running_witness,
)

from ledger.cosignature import CosignerKey
from ledger.net.witnessclient import MAX_REQUESTS, Asked, Outcome, request_cosignatures
from ledger.net.witnessserver import witness_app
from ledger.note import Note
from ledger.witness import MAX_BODY_BYTES, TLOG_SIZE
from ledger.witnesspolicy import WitnessPolicy
from ledger.witnessstate import DATABASE, Contradiction, origin_hash

LOG = MadeLog(leaves(40))
FORK = MadeLog(leaves(40, forked_at=10))
NAME = "witness.example/w1"
LATE = 0.6
PATIENT = 10.0


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def policy_for(*places: tuple[str, str]) -> WitnessPolicy:
    """A policy of (key name, URL) that asks for all keys of every witness."""
    lines = [
        (f"{name}-{i}", url, key.verifier)
        for name, url in places
        for i, key in enumerate(cosigners(name))
    ]
    members = " ".join(name for name, *_ in lines)
    return policy_of(*lines, quorum=f"group all any {members}\nquorum all\n")


def ask(
    policy: WitnessPolicy,
    size: int,
    log: MadeLog = LOG,
    remembered: dict[CosignerKey, int] | None = None,
    seconds: float = PATIENT,
) -> list[Asked]:
    return request_cosignatures(
        log.note(size), policy.witnesses, remembered or {}, log.proof, seconds
    )


def test_witnesses_cosign_with_both_keys_in_one_request(tmp_path):
    names = [f"witness.example/{i}" for i in range(3)]
    with ExitStack() as stack:
        urls = [
            stack.enter_context(running_witness(new_witness(tmp_path / str(i), name)))
            for i, name in enumerate(names)
        ]
        policy = policy_for(*zip(names, urls, strict=True))
        for size in (0, 1, 8, 8, 33):
            asked = ask(policy, size)
            assert [one.witness for one in asked] == names
            assert {one.outcome for one in asked} == {Outcome.COSIGNED}, asked
            note = LOG.note(size)
            lines = [line for one in asked for _, line in one.lines]
            both = Note(note.text, (*note.signatures, *lines))
            assert policy.cosigners(both) == policy.witness_keys()


def test_what_is_remembered_saves_a_request(tmp_path):
    counted = []
    witness = new_witness(tmp_path)
    add = witness.add_checkpoint
    witness.add_checkpoint = lambda body, now: counted.append(body) or add(body, now)
    with running_witness(witness) as url:
        policy = policy_for((NAME, url))
        key = policy.witness_keys()[0]
        for remembered, size, requests in ((0, 8, 1), (8, 20, 1), (8, 30, 2), (35, 33, 2)):
            counted.clear()
            (asked,) = ask(policy, size, remembered={key: remembered})
            assert asked.outcome is Outcome.COSIGNED
            assert len(counted) == requests


def test_a_witness_that_saw_more_or_another_history_is_told(tmp_path):
    witness = new_witness(tmp_path)
    with running_witness(witness) as url:
        policy = policy_for((NAME, url))
        ask(policy, 20)
        (asked,) = ask(policy, 12)
        assert asked.outcome is Outcome.REFUSED
        assert "20 leaves of this log, more than the 12" in asked.detail
        for size in (20, 33):
            (asked,) = ask(policy, size, log=FORK)
            assert (asked.outcome, asked.detail) == (
                Outcome.REFUSED,
                "it answered with status 422",
            )
    kinds = [one.kind for one in witness._state.evidence()]
    assert kinds == [Contradiction.SPLIT_VIEW, Contradiction.UNPROVEN]
    # Who runs the log can be shown by anybody with its public keys.
    for one in witness._state.evidence():
        assert {note.signatures[0].name for note in (one.cosigned, one.refused)} == {ORIGIN}


# Hostile servers


def answer(sock: socket.socket, status: str, body: bytes, *headers: str) -> None:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def read_request(sock: socket.socket) -> bytes:
    """The whole request, so that closing does not reset what was answered."""
    file = sock.makefile("rb")
    file.readline()
    headers = http.client.parse_headers(file)
    return file.read(int(headers["Content-Length"]))


@contextmanager
def hostile(act: Callable[[socket.socket, bytes], object]) -> Iterator[str]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                act(self.request, read_request(self.request))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def lines_of(name: str, size: int = 20, at: int = NOW, log: MadeLog = LOG) -> bytes:
    return b"".join(
        key.cosign(log.checkpoint(size), at).format().encode() for key in cosigners(name)
    )


def drip(sock: socket.socket, body: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
    for at in range(len(body)):
        sock.sendall(body[at : at + 1])
        time.sleep(0.05)


GOOD = lines_of(NAME)
WRONG = GOOD[:-8] + (b"AAAAAAA\n" if GOOD[-8:] != b"AAAAAAA\n" else b"BBBBBBB\n")
SECRET = "SeCrEt-WoRdS"
ACTS: dict[str, tuple[Callable[[socket.socket, bytes], object], Outcome, str]] = {
    "says nothing": (lambda s, _: time.sleep(3), Outcome.UNREACHABLE, "within"),
    "hangs up": (lambda s, _: None, Outcome.UNREACHABLE, "not HTTP|no connection"),
    "drips": (lambda s, _: drip(s, GOOD), Outcome.UNREACHABLE, "within"),
    "breaks off": (
        lambda s, _: s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + GOOD[:50]),
        Outcome.UNREACHABLE,
        "breaks off",
    ),
    "speaks no HTTP": (
        lambda s, _: s.sendall(SECRET.encode() * 9),
        Outcome.UNREACHABLE,
        "not HTTP|no connection",
    ),
    "redirects": (
        lambda s, _: answer(s, "307 Moved", b"", f"Location: http://127.0.0.1:9/{SECRET}"),
        Outcome.REFUSED,
        "status 307",
    ),
    "has an error": (
        lambda s, _: answer(s, f"500 {SECRET}", SECRET.encode()),
        Outcome.REFUSED,
        "status 500",
    ),
    "does not know us": (lambda s, _: answer(s, "404 No", b""), Outcome.REFUSED, "status 404"),
    "answers a page": (
        lambda s, _: answer(s, "200 OK", f"<p>{SECRET}".encode()),
        Outcome.LYING,
        "not signature lines",
    ),
    "answers nothing": (lambda s, _: answer(s, "200 OK", b""), Outcome.LYING, "not signature"),
    "answers bytes": (
        lambda s, _: answer(s, "200 OK", os.urandom(500)),
        Outcome.LYING,
        "not signature lines",
    ),
    "answers too much": (
        lambda s, _: answer(s, "200 OK", bytes(10_000_000)),
        Outcome.LYING,
        "not signature lines",
    ),
    "answers another note": (
        lambda s, _: answer(s, "200 OK", FORK.note(20).format().encode()),
        Outcome.LYING,
        "not signature lines|line of its own",
    ),
    "signs another tree": (
        lambda s, _: answer(s, "200 OK", lines_of(NAME, log=FORK)),
        Outcome.LYING,
        "does not verify",
    ),
    "signs wrongly": (
        lambda s, _: answer(s, "200 OK", WRONG),
        Outcome.LYING,
        "does not verify|not signature lines",
    ),
    "says no time": (
        lambda s, _: answer(s, "200 OK", lines_of(NAME, at=0)),
        Outcome.LYING,
        "says no time",
    ),
    "is another": (
        lambda s, _: answer(s, "200 OK", lines_of("witness.example/other")),
        Outcome.LYING,
        "without a line of its own",
    ),
    "never agrees": (
        lambda s, body: answer(
            s,
            "409 No",
            b"5\n" if body.startswith(b"old 3\n") else b"3\n",
            f"Content-Type: {TLOG_SIZE}",
        ),
        Outcome.REFUSED,
        "each size with another",
    ),
    "disagrees in words": (
        lambda s, _: answer(s, "409 No", SECRET.encode(), f"Content-Type: {TLOG_SIZE}"),
        Outcome.LYING,
        "without a size",
    ),
    "disagrees as text": (
        lambda s, _: answer(s, "409 No", b"5\n", "Content-Type: text/plain"),
        Outcome.LYING,
        "without a size",
    ),
}


@pytest.mark.parametrize("name", ACTS)
def test_a_hostile_witness_is_told_and_delays_nothing(name):
    act, outcome, words = ACTS[name]
    with hostile(act) as url:
        begun = time.monotonic()
        (asked,) = ask(policy_for((NAME, url)), 20, seconds=LATE)
        took = time.monotonic() - begun
    assert asked.outcome is outcome, asked
    assert not asked.lines
    assert took < LATE + 0.5
    assert re.search(words, asked.detail), asked.detail
    assert SECRET not in asked.detail


def test_hostile_witnesses_do_not_delay_good_ones_beyond_the_deadline(tmp_path):
    with ExitStack() as stack:
        places = [
            (f"witness.example/{i}", stack.enter_context(hostile(act)))
            for i, (act, *_) in enumerate(ACTS.values())
        ]
        good = stack.enter_context(running_witness(new_witness(tmp_path)))
        policy = policy_for(*places, (NAME, good), ("witness.example/down", "http://127.0.0.1:9"))
        begun = time.monotonic()
        asked = ask(policy, 20, seconds=2 * LATE)
        took = time.monotonic() - begun
    counts = {outcome: sum(one.outcome is outcome for one in asked) for outcome in Outcome}
    print(f"{len(asked)} witnesses in {took:.2f} s: {counts}")
    assert [one.witness for one in asked if one.lines] == [NAME]
    assert took < 2 * LATE + 1
    assert MAX_REQUESTS == 3


def test_a_good_answer_by_hand_is_taken():
    """Control: what the hostile servers bend is right before it is bent."""
    other = lines_of("witness.example/other")
    for body in (GOOD, GOOD.splitlines(keepends=True)[1], other + GOOD):
        with hostile(lambda s, _, body=body: answer(s, "200 OK", body)) as url:
            (asked,) = ask(policy_for((NAME, url)), 20)
        assert asked.outcome is Outcome.COSIGNED


def test_a_witness_without_an_address_is_not_asked():
    name, keys = "witness.example/far", cosigners("witness.example/far")
    policy = WitnessPolicy.parse(f"witness w {keys[0].verifier}\nquorum w\n".encode())
    assert ask(policy, 20) == []
    bad = policy_for((name, "ftp://user:pass@host/"))
    (asked,) = ask(bad, 20)
    assert asked.outcome is Outcome.UNREACHABLE
    assert "pass" not in asked.detail


# The server


def test_the_server_speaks_the_protocol(tmp_path):
    witness = new_witness(tmp_path)
    with running_witness(witness) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)

        def ask_for(method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
            connection.request(method, path, body)
            got = connection.getresponse()
            return got.status, got.headers.get("Content-Type", ""), got.read()

        path = f"/{origin_hash(ORIGIN)}/checkpoint"
        assert ask_for("GET", path)[0] == 404
        assert ask_for("POST", "/add-checkpoint", LOG.request(0, 20))[0] == 200
        status, kind, body = ask_for("POST", "/add-checkpoint", LOG.request(0, 30))
        assert (status, kind, body) == (409, "text/x.tlog.size", b"20\n")
        status, _, body = ask_for("GET", path)
        assert Note.parse(body).text == LOG.note(20).text
        for method, other in (("GET", "/add-checkpoint"), ("POST", path), ("GET", "/../x")):
            assert ask_for(method, other)[0] in (404, 405)
        # One connection for all of this: keep-alive.
        too_long = b"old 0\n\n" + bytes(MAX_BODY_BYTES)
        assert ask_for("POST", "/add-checkpoint", too_long)[0] == 400
        connection.close()


def test_a_witness_out_of_order_says_no_more_than_that(tmp_path):
    witness, failures = new_witness(tmp_path), []
    with running(witness_app(witness, lambda: NOW, failures.append)) as url:
        (tmp_path / DATABASE).write_bytes(b"damaged" * 1000)
        (asked,) = ask(policy_for((NAME, url)), 20)
    assert asked.detail == "it answered with status 503"
    assert len(failures) == 1
    assert DATABASE in failures[0]
