"""Runs the command line in this process, as `kluis` would run it, and says what it printed."""

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import cli


@dataclass(frozen=True)
class Ran:
    code: int
    out: bytes
    err: str

    @property
    def text(self):
        return self.out.decode()

    @property
    def json(self):
        lines = self.text.splitlines()
        assert len(lines) == 1, f"one object on standard output, not {len(lines)} lines"
        return json.loads(lines[0])


class Kluis:
    """A vault's folder and the command that works in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: object, stdin: bytes = b"") -> Ran:
        return run("-C", self.folder, *arguments, stdin=stdin)


def run(*arguments: object, stdin: bytes = b"") -> Ran:
    saved = sys.stdin, sys.stdout, sys.stderr
    out, err = io.BytesIO(), io.BytesIO()
    # Kept until the bytes are read: a wrapper closes its buffer when it goes.
    wrappers = [
        io.TextIOWrapper(buffer, encoding="utf-8", write_through=True) for buffer in (out, err)
    ]
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    sys.stdout, sys.stderr = wrappers
    try:
        code = cli.run([str(argument) for argument in arguments])
    finally:
        sys.stdin, sys.stdout, sys.stderr = saved
    return Ran(code, out.getvalue(), err.getvalue().decode())
