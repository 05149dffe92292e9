"""Reading a file of JSON lines strictly: which lines are records, and which are bad and why.

A line is a record when it is UTF-8, one JSON text (RFC 8259) without duplicated keys, NaN or
infinity, at most 8 MiB, and its subject field (an RFC 6901 JSON Pointer) leads to a string of 1 to
256 bytes. The payload is the line's bytes without the newline. Reasons never repeat what a line
holds. Tested in tests/vault/test_jsonlines.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from vault.errors import InvalidInput
from vault.preparing import MAX_PAYLOAD_BYTES
from vault.subjects import encode_subject

_ARRAY_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class GoodLine:
    """A line that is a record."""

    number: int
    payload: bytes = field(repr=False)
    subject: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not, and why."""

    number: int
    reason: str


class _Bad(Exception):
    pass


class SubjectField:
    """An RFC 6901 JSON Pointer to the subject of each line.

    Args:
        pointer: such as "/persoon/0/burgerservicenummer".

    Raises:
        InvalidInput: it does not start with "/", or has a broken escape.
    """

    def __init__(self, pointer: str) -> None:
        if not pointer.startswith("/") or re.search(r"~(?![01])", pointer):
            raise InvalidInput(f"{pointer!r} is not a JSON Pointer such as /persoon/bsn (RFC 6901)")
        self.pointer = pointer
        self._steps = [
            step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/")
        ]

    def read(self, document: object) -> str:
        """Return the subject in a parsed line."""
        value = document
        for step in self._steps:
            if isinstance(value, dict) and step in value:
                value = value[step]
            elif (
                isinstance(value, list) and _ARRAY_INDEX.fullmatch(step) and int(step) < len(value)
            ):
                value = value[int(step)]
            else:
                raise _Bad(f"has no field {self.pointer}")
        if not isinstance(value, str):
            raise _Bad(f"field {self.pointer} is not a text")
        try:
            encode_subject(value)
        except InvalidInput as error:
            raise _Bad(str(error)) from None
        return value


def read_lines(path: Path, field: SubjectField) -> Iterator[GoodLine | BadLine]:
    """Yield each line of a file; memory stays bounded whatever its length.

    Raises:
        InvalidInput: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_PAYLOAD_BYTES + 2):
                number += 1
                complete = line.endswith(b"\n") or len(line) <= MAX_PAYLOAD_BYTES
                payload = line.removesuffix(b"\n")
                if not complete or len(payload) > MAX_PAYLOAD_BYTES:
                    while not line.endswith(b"\n") and (line := file.readline(MAX_PAYLOAD_BYTES)):
                        pass
                    yield BadLine(number, f"is longer than {MAX_PAYLOAD_BYTES} bytes")
                    continue
                yield _parse(number, payload, field)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None


def _parse(number: int, payload: bytes, field: SubjectField) -> GoodLine | BadLine:
    try:
        text = payload.decode()
        if not text.strip():
            raise _Bad("is empty")
        document = json.loads(
            text, object_pairs_hook=_unique_members, parse_constant=_refuse_constant
        )
        return GoodLine(number, payload, field.read(document))
    except _Bad as bad:
        return BadLine(number, str(bad))
    except UnicodeDecodeError:
        return BadLine(number, "is not UTF-8")
    except (ValueError, RecursionError):
        return BadLine(number, "is not JSON")


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise _Bad("has a duplicated key")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise _Bad(f"holds {name}, which is not JSON")
