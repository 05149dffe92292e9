"""Processes that work on a vault and tell on a pipe what they begin and what was acknowledged.

They are forked from a server that has loaded the vault's modules and nothing else, so that each
starts within milliseconds and shares no open file with the tests.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

from guarantees_vault import CATEGORY, GROUND, open_vault

from vault import Erased, ImportOrder, NewRecord, Vault

Operation = tuple[Any, ...]
Message = tuple[Any, ...]

PATIENCE_SECONDS = 60.0
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["guarantees_worker", "vault.sdk", "anchor.job", "anchor.local"])


class Worker:
    """A process that runs one of the functions below."""

    def __init__(self, work: Callable[..., None], *args: object) -> None:
        self.pipe, theirs = _forks.Pipe()
        self.process = _forks.Process(target=work, args=(theirs, *args), daemon=True)
        self.process.start()
        theirs.close()

    def receive(self) -> Message:
        """Return the next message."""
        if not self.pipe.poll(PATIENCE_SECONDS):
            raise TimeoutError("the worker says nothing")
        return self.pipe.recv()  # type: ignore[no-any-return]

    def rest(self) -> list[Message]:
        """Return what is left on the pipe, until the other end is closed."""
        messages = []
        try:
            while True:
                messages.append(self.receive())
        except (EOFError, OSError):
            # A message that was cut short was never received, so nothing was acknowledged by it.
            return messages

    def kill(self) -> list[Message]:
        """Kill the process with SIGKILL and return what it had said before."""
        os.kill(self.process.pid or 0, signal.SIGKILL)
        messages = self.rest()
        self.end()
        return messages

    def end(self) -> int | None:
        """Wait for the end of the process and return its exit code."""
        self.process.join(PATIENCE_SECONDS)
        code = self.process.exitcode
        self.process.close()
        self.pipe.close()
        return code


def operate(pipe: Connection, folder: Path, operations: list[Operation]) -> None:
    """Run operations, each announced before and acknowledged after it."""
    with open_vault(folder) as vault:
        for number, operation in enumerate(operations):
            pipe.send(("begin", number))
            began = time.perf_counter()
            result = run(vault, operation, lambda batch, n=number: pipe.send(("batch", n, batch)))
            pipe.send(("done", number, result, time.perf_counter() - began))
        pipe.poll(None)  # Stays to be killed, also by a kill that comes after the last operation.


def run(vault: Vault, operation: Operation, on_batch: Callable[[list[str]], None]) -> object:
    """Run one operation."""
    kind, *rest = operation
    if kind == "put":
        subject, payloads = rest
        records = [NewRecord(payload, subject) for payload in payloads]
        return vault.put_many(records, category=CATEGORY, on_batch=on_batch)
    if kind == "rectify":
        return vault.rectify(*rest)
    if kind == "erase":
        vault.erase(rest[0], GROUND)
        return None
    return vault.checkpoint()


def import_lines(pipe: Connection, folder: Path, order: ImportOrder) -> None:
    """Import a file and tell how far it is."""
    with open_vault(folder) as vault:
        report = vault.import_jsonl(
            order, on_progress=lambda done, total: pipe.send(("progress", done, total))
        )
    pipe.send(("report", report.records, report.already))
    pipe.poll(None)  # Stays to be killed.


def die_at(pipe: Connection, folder: Path, operation: Operation, module: str, name: str,
           when: str) -> None:  # fmt: skip
    """Run an operation and end at once before or after one function in it."""
    owner: Any = importlib.import_module(module)
    *path, attribute = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    original = getattr(owner, attribute)

    def dying(*args: object, **kwargs: object) -> None:
        if when == "after":
            original(*args, **kwargs)
        os._exit(77)

    with open_vault(folder) as vault, patch.object(owner, attribute, dying):
        if operation == ("anchor",):
            vault.anchor()
        else:
            run(vault, operation, lambda batch: None)
    pipe.send(("survived",))


def append_half(self: Any, file: Any, *_: object) -> None:
    """Stand in for the local anchor's append: write half a receipt and end."""
    file.seek(0, os.SEEK_END)
    file.write(b"datakluis/local-receipt/1\n0\n")
    file.flush()
    os._exit(77)


def die_in_append(pipe: Connection, folder: Path) -> None:
    """Anchor, and end with half a receipt in the local anchor's file."""
    from anchor.local import LocalTarget

    with open_vault(folder) as vault, patch.object(LocalTarget, "_append", append_half):
        vault.anchor()
    pipe.send(("survived",))


def share(pipe: Connection, folder: Path, name: str, operations: list[Operation]) -> None:
    """Run operations on a vault that another process works on too, and tell when each ran.

    The times are of the machine's one monotonic clock, so those of two processes compare.
    """
    log: list[Message] = []
    with open_vault(folder) as vault:
        for pointer in {operation[1] for operation in operations if operation[0] != "put"}:
            vault.get(pointer)  # Its key is cached before the other process changes anything.
        pipe.send(("ready", name))
        pipe.recv()
        for kind, *rest in operations:
            began = time.monotonic()
            result: object
            try:
                if kind == "put":
                    result = vault.put(rest[1], category=CATEGORY, subject=rest[0])
                elif kind == "get":
                    result = vault.get(rest[0])
                elif kind == "rectify":
                    result = vault.rectify(*rest)
                else:
                    vault.erase(rest[0], GROUND)
                    result = "done"
            except Erased:
                result = "erased"
            except Exception as error:
                result = error
            log.append((kind, rest, result, began, time.monotonic()))
        pipe.send(("log", log))
