"""Logs that are honest or fork, witnesses of them, and servers that run on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ledger_fixtures import KEY, ORIGIN, NaiveTree, log_keys, sign_with_both
from nacl.signing import SigningKey

from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.cosignature import Cosigner, CosignerKey, Ed25519Cosigner, MlDsaCosigner
from ledger.net.serving import Serving
from ledger.net.witnessserver import witness_app
from ledger.note import Note, VerifierKey
from ledger.witness import Request, Witness
from ledger.witnesspolicy import WitnessPolicy
from ledger.witnessstate import WitnessState

NOW = 1_780_000_000
LOG_KEYS = tuple(one.key for one in log_keys().keys)


class MadeLog:
    """A log by its leaves: it can sign any size, and prove what is true of it."""

    def __init__(self, leaves: Iterable[bytes], origin: str = ORIGIN, key: SigningKey = KEY):
        self._tree = NaiveTree(leaves)
        self._origin = origin
        self._sign = cache(self._signed)
        self._key = key

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(self._origin, size, self._tree.root(size))

    def note(self, size: int) -> Note:
        return self._sign(size)

    def _signed(self, size: int) -> Note:
        return sign_with_both(self.checkpoint(size), self._key, self._origin)

    def proof(self, old: int, new: int) -> list[bytes]:
        def read(level: int, index: int) -> bytes:
            return self._tree._range(index << level, index + 1 << level)

        return merkle.consistency_proof(old, new, read) if 0 < old < new else []

    def request(self, old: int, new: int) -> bytes:
        return Request(old, tuple(self.proof(old, new)), self.note(new)).format()


def leaves(count: int, forked_at: int | None = None) -> list[bytes]:
    """Leaves of one history, or of one that leaves it at an index."""
    return [
        b"leaf %d%s" % (i, b" forked" if forked_at is not None and i >= forked_at else b"")
        for i in range(count)
    ]


def cosigners(name: str = "witness.example/w1") -> tuple[Ed25519Cosigner, MlDsaCosigner]:
    seed = hashlib.sha256(name.encode()).digest()
    return Ed25519Cosigner(name, SigningKey(seed)), MlDsaCosigner(name, seed)


def new_witness(
    folder: Path,
    name: str = "witness.example/w1",
    keys: tuple[VerifierKey | CosignerKey, ...] = LOG_KEYS,
    origin: str = ORIGIN,
    signing: tuple[Cosigner, ...] | None = None,
) -> Witness:
    folder.mkdir(parents=True, exist_ok=True)
    state = WitnessState.create(folder)
    state.register(origin, keys)
    return Witness(state, cosigners(name) if signing is None else signing)


def policy_of(*witnesses: tuple[str, str, CosignerKey], quorum: str) -> WitnessPolicy:
    """A policy of (name, URL, key), whose last lines are given."""
    lines = "".join(f"witness {name} {key} {url}\n" for name, url, key in witnesses)
    return WitnessPolicy.parse(f"{lines}{quorum}".encode())


@contextmanager
def running(app: Callable[..., object]) -> Iterator[str]:
    serving = Serving(app, "127.0.0.1", 0)
    thread = threading.Thread(target=serving.run)
    thread.start()
    try:
        yield serving.url
    finally:
        serving.stop()
        thread.join()


@contextmanager
def running_witness(witness: Witness, now: Callable[[], int] = lambda: NOW) -> Iterator[str]:
    failures: list[str] = []
    with running(witness_app(witness, now, failures.append)) as url:
        yield url
    assert failures == []
