"""What may follow what: the order of the entries about one field group, or one key tree.

    version      of a core counts from 1 without a gap; of another field group it rises, since such
                 a group has those versions of its record in which it changed
    erasure      names the last version of a core, or a later one for another group; of a group of
                 which there is a version; nothing but certificates follows it
    certificate  of what was erased; numbered from 1 without a gap
    shred        of a key tree; the generation rises

Where the rules of governance come in is in ledger/governance.py. Run by fsck and by the monitor.
Tested in tests/ledger/test_sequence.py.
"""

from __future__ import annotations

from ledger.entry import CORE_GROUP, ERASURES, Entry, EntryKind
from ledger.pointer import format_pointer


def group_name(entry: Entry) -> str:
    """Return how a reader is told which field group an entry is about."""
    name = format_pointer(entry.pointer)
    return (
        f"record {name}" if entry.group == CORE_GROUP else f"group {entry.group} of record {name}"
    )


def record_fault(entry: Entry, before: Entry | None) -> str | None:
    """Return what is wrong about a version or an erasure, or None.

    Args:
        entry: to be judged.
        before: the newest earlier version or erasure of the same group.
    """
    if before is not None and before.kind in ERASURES:
        return f"follows the erasure of {group_name(entry)}"
    if before is None and entry.kind in ERASURES:
        return f"is the erasure of {group_name(entry)}, of which there is no version"
    least = 1 if before is None else before.version + (entry.kind is EntryKind.VERSION)
    if entry.version == least or (entry.group != CORE_GROUP and entry.version > least):
        return None
    later = "" if entry.group == CORE_GROUP else " or later"
    return f"says version {entry.version} of {group_name(entry)}, not {least}{later}"


def certificate_fault(entry: Entry, state: Entry | None, issued: int) -> str | None:
    """Return what is wrong about a certificate, or None.

    Args:
        entry: to be judged.
        state: the newest earlier version or erasure of the same group.
        issued: number of the newest earlier certificate of it; 0 for none.
    """
    if state is None or state.kind not in ERASURES:
        return f"is a certificate of {group_name(entry)}, which was not erased"
    if entry.version != issued + 1:
        return f"is certificate {entry.version} of {group_name(entry)}, not {issued + 1}"
    return None


def shred_fault(entry: Entry, destroyed: int) -> str | None:
    """Return what is wrong about a shred, or None.

    Args:
        entry: to be judged.
        destroyed: generation of the newest earlier shred of the same key tree; 0 for none.
    """
    if entry.version <= destroyed:
        name = format_pointer(entry.pointer)
        return f"destroys generation {entry.version} of tenant {name} after {destroyed}"
    return None
