"""Published logs for the tests: laid out by the letter of C2SP tlog-tiles, without the product."""

from __future__ import annotations

from pathlib import Path

from ledger_fixtures import KEY, ORIGIN, Ledger, NaiveTree, sign_with_both
from nacl.signing import SigningKey

from ledger.checkpoint import Checkpoint
from ledger.destination import FolderDestination
from ledger.errors import SourceMissing
from ledger.note import Note
from ledger.publish import ExportReport, export


def numbered(number: int) -> str:
    """The index in groups of three digits, all but the last behind an x."""
    text = f"{number:03}"
    text = text.rjust(-(-len(text) // 3) * 3, "0")
    groups = [text[at : at + 3] for at in range(0, len(text), 3)]
    return "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])


def names(folder: str, count: int) -> list[tuple[str, int, int]]:
    """Path, number and width of each file that holds `count` hashes or entries."""
    found = [(f"{folder}/{numbered(n)}", n, 256) for n in range(count // 256)]
    if count % 256:
        path = f"{folder}/{numbered(count // 256)}.p/{count % 256}"
        found.append((path, count // 256, count % 256))
    return found


def bundle_of(entries: list[bytes]) -> bytes:
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def signed_checkpoint(
    size: int, root: bytes, origin: str = ORIGIN, key: SigningKey = KEY, name: str = ORIGIN
) -> Note:
    return sign_with_both(Checkpoint(origin, size, root), key, name)


def expected_files(entries: list[bytes], note: Note) -> dict[str, bytes]:
    """Every file of the log of these entries."""
    size, tree, files = len(entries), NaiveTree(entries), {}
    for path, number, width in names("tile/entries", size):
        files[path] = bundle_of(entries[256 * number : 256 * number + width])
    for level in range(4):
        for path, number, width in names(f"tile/{level}", size >> 8 * level):
            files[path] = tree.tile(level, number, size)
            assert len(files[path]) == 32 * width
    return files | {"checkpoint": note.format().encode()}


def published_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def publish(ledger: Ledger, folder: Path, minimum: int = 0) -> ExportReport:
    with ledger.read() as log:
        return export(log, FolderDestination(folder), minimum)


class MemorySource:
    """A published log in a dictionary. `reads` counts what was asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.reads: list[str] = []

    def read(self, path: str) -> bytes:
        self.reads.append(path)
        if path not in self.files:
            raise SourceMissing(path)
        return self.files[path]


def memory_log(entries: list[bytes], key: SigningKey = KEY, origin: str = ORIGIN) -> MemorySource:
    """The signed log of these entries."""
    root = NaiveTree(entries).root(len(entries))
    return MemorySource(expected_files(entries, signed_checkpoint(len(entries), root, origin, key)))
