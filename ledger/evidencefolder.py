"""Evidence in a folder: what shows a fault, written once and never changed.

    evidence-<16 hex digits>/fault     what is wrong, one line
    evidence-<16 hex digits>/<name>    what shows it, bytes as they were found

The digits are the first of SHA-256 over, for each file in the order of their names, the length of
the name in decimal, a space, the name, a space, the length of the data in decimal, a newline, and
the data. So the same fault found again is the same folder. The folder is written under another
name, flushed, and renamed. Tested in tests/ledger/test_monitor.py.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from ledger.files import flush


def write_evidence(folder: Path, what: str, evidence: Mapping[str, bytes]) -> Path:
    """Write what shows a fault, durably, and return the folder that holds it.

    Args:
        folder: of the monitor.
        what: the fault, in one line.
        evidence: names of files, and their bytes.
    """
    files = {"fault": f"{what}\n".encode(), **evidence}
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(b"%d %s %d\n" % (len(name), name.encode(), len(data)) + data)
    target = folder / f"evidence-{digest.hexdigest()[:16]}"
    if target.is_dir():
        return target
    temporary = target.with_suffix(".new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for name, data in files.items():
        (temporary / name).write_bytes(data)
        flush(temporary / name)
    flush(temporary)
    temporary.replace(target)
    flush(folder)
    return target
