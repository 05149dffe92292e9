"""A process of its own for a benchmark: it works when a line comes in, and answers with one.

python -m bench.worker put FOLDER FIRST COUNT    ready; then for each line: COUNT records put
python -m bench.worker import FOLDER FILE        imports FILE and prints its peak memory in MB
"""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path

from bench.workshop import CATEGORY, PASSPHRASE, Sizes, Workshop
from vault import ImportOrder, Vault

_STATUS = Path("/proc/self/status")


def main(arguments: list[str]) -> None:
    """Do what the arguments say."""
    if arguments[0] == "put":
        _put(Path(arguments[1]), int(arguments[2]), int(arguments[3]))
    else:
        _import(Path(arguments[1]), Path(arguments[2]))


def _put(folder: Path, first: int, count: int) -> None:
    with tempfile.TemporaryDirectory() as unused, Vault.open(folder, PASSPHRASE) as vault:
        workshop = Workshop(Path(unused), Sizes())
        print("ready", flush=True)
        for _ in sys.stdin:
            records = [record.for_vault() for record in workshop.records(first, count)]
            first += count
            print("set", flush=True)
            sys.stdin.readline()
            vault.put_many(records, category=CATEGORY)
            print("done", flush=True)


def _import(folder: Path, file: Path) -> None:
    with Vault.open(folder, PASSPHRASE) as vault:
        vault.import_jsonl(ImportOrder(file, CATEGORY, "/inwoner"))
    print(f"{_peak_megabytes():.1f}", flush=True)


def _peak_megabytes() -> float:
    """Return the most memory that this process ever held.

    `ru_maxrss` would be wrong where it can be helped: Linux hands the parent's peak on to a child.
    """
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1_000 * 1.024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1_000_000 if sys.platform == "darwin" else peak * 1.024 / 1_000


if __name__ == "__main__":
    main(sys.argv[1:])
