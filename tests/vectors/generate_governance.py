"""Makes the golden vector of a governed ledger: `python generate_governance.py`.

It shares no code with `ledger`: entries and states are put together byte by byte as the docstrings
of ledger/action.py, ledger/entry.py and ledger/governancestate.py say, signatures are PyNaCl's.
Keys come from fixed texts and Ed25519 is deterministic, so every run writes the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from nacl.signing import SigningKey

ORIGIN = "datakluis.example/hoorn"
NAMES = {"operator": 1, "officer": 2, "archivist": 3, "auditor": 4, "second officer": 2}
KEYS = {name: SigningKey(hashlib.sha256(f"the {name}".encode()).digest()) for name in NAMES}
RULES = bytes.fromhex("02070001 02070001 02070001 02060601 02070401 010f0001 02070001")
ONE, OTHER = (hashlib.sha256(f"record {n}".encode()).digest()[:16] for n in (1, 2))


def public(name: str) -> bytes:
    return bytes(KEYS[name].verify_key)


def member(name: str) -> bytes:
    return hashlib.sha256(b"gemeente").digest()[:16] + bytes([NAMES[name]]) + public(name)


def head(kind: int, suite: int, group: int, pointer: bytes, number: int) -> bytes:
    return bytes([1, kind, suite, group]) + pointer + number.to_bytes(4, "big")


def governance(sequence: int, kind: int, parameters: bytes, names: str, expiry: int) -> bytes:
    approvals = []
    for name in names.split(", "):
        message = b"".join(
            (
                b"datakluis/approval/1\n",
                len(ORIGIN).to_bytes(2, "big") + ORIGIN.encode(),
                sequence.to_bytes(4, "big"),
                hashlib.sha256(b"datakluis/action/1\n" + bytes([kind]) + parameters).digest(),
                expiry.to_bytes(8, "big"),
            )
        )
        signature = KEYS[name].sign(message).signature
        approvals.append(public(name) + expiry.to_bytes(8, "big") + signature)
    start = head(5, 0, kind, bytes(16), sequence) + parameters
    return start + bytes([len(approvals)]) + b"".join(sorted(approvals))


def state(
    sequence: int,
    stopped: int,
    minimum: int,
    members: list[str],
    rules: bytes,
    lists: list[bytes],
    changes: list[tuple[int, bytes]],
) -> bytes:
    """Return the digest of a state."""
    rows = sorted(map(member, members), key=lambda row: row[17:])
    return hashlib.sha256(
        b"".join(
            (
                b"datakluis/governance-state/1\n",
                sequence.to_bytes(4, "big") + bytes([stopped]) + minimum.to_bytes(8, "big"),
                bytes([len(rows)]) + b"".join(rows),
                bytes([len(rules) // 4]) + rules,
                len(lists).to_bytes(4, "big") + b"".join(lists),
                len(changes).to_bytes(4, "big"),
                *(leaf.to_bytes(8, "big") + before for leaf, before in changes),
            )
        )
    ).digest()


def ledger() -> list[tuple[str, bytes, bytes]]:
    """What is done, the entry, and the digest of the state after it."""
    four = ["operator", "officer", "archivist", "auditor"]
    five = [*four, "second officer"]
    rows = sorted(map(member, four), key=lambda row: row[17:])
    commitment = hashlib.sha256(b"commitment").digest()
    items = [hashlib.sha256(b"\0" + pointer + b"\0").digest() for pointer in (ONE, OTHER)]
    root = hashlib.sha256(b"\1" + b"".join(items)).digest()
    stricter = bytes.fromhex("03070001")
    rules = RULES[:8] + stricter + RULES[12:]
    listed = b"\0\0\0\4" + root + b"\0\0\0\2"
    empty = state(0, 0, 0, [], b"", [], [])
    changes: list[tuple[int, bytes]] = []
    made = []

    def add(what: str, entry: bytes, *after: object) -> None:
        """Put an entry; where it changes the state, `after` is that state without its changes."""
        before = made[-1][2] if made else empty
        if after:
            sequence, stopped, minimum, *rest = after
            changes.append((len(made), before))
            kept = [(leaf, digest) for leaf, digest in changes if leaf >= minimum]
            before = state(sequence, stopped, minimum, *rest, kept)
        made.append((what, entry, before))

    add("a governed record", head(1, 1, 0x80, ONE, 1) + commitment)
    add("found", governance(1, 1, bytes([4]) + b"".join(rows) + RULES, ", ".join(four), 2**63 - 1),
        1, 0, 0, four, RULES, [])  # fmt: skip
    joined = "operator, officer, second officer"
    add("add a member", governance(2, 2, member("second officer"), joined, 9),
        2, 0, 0, five, RULES, [])  # fmt: skip
    add("set a rule", governance(3, 4, bytes([4]) + stricter, "operator, officer, archivist", 9),
        3, 0, 0, five, rules, [])  # fmt: skip
    add("enact a list", governance(4, 5, root + b"\0\0\0\2", "archivist, second officer", 9),
        4, 0, 0, five, rules, [listed])  # fmt: skip
    add("a listed erasure", head(6, 0, 0, ONE, 1) + b"\0\0\0\4" + b"\0\0\0\0" + items[1])
    rest = (["operator", "archivist", "auditor", "second officer"], rules, [listed])
    those = "operator, archivist, second officer"
    add("remove a member", governance(5, 3, public("officer"), those, 9),
        5, 0, 0, *rest)  # fmt: skip
    add("stop", governance(6, 7, b"", "auditor", 9), 6, 1, 0, *rest)
    add("resume", governance(7, 8, b"", "operator, second officer", 9), 7, 0, 0, *rest)
    add("prune", governance(8, 6, (5).to_bytes(8, "big") + made[4][2], "operator, archivist", 10),
        8, 0, 5, *rest)  # fmt: skip
    return made


def files() -> dict[str, str]:
    """File name to content."""
    entries = [
        {"what": what, "entry": entry.hex(), "state": digest.hex()}
        for what, entry, digest in ledger()
    ]
    vector = {"origin": ORIGIN, "entries": entries}
    return {"ledger_governance.json": json.dumps(vector, ensure_ascii=False, indent=1) + "\n"}


if __name__ == "__main__":
    for name, content in files().items():
        (Path(__file__).parent / name).write_text(content, encoding="utf-8")
