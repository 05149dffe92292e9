"""The witness policy: which witnesses must have cosigned a checkpoint before it counts.

Implements C2SP tlog-policy. The file is written by people and kept verbatim, comments included; it
is read, never rewritten. It holds lines that each end in a newline. Their items are separated by
spaces and tabs; empty lines, and lines whose first item starts with `#`, say nothing:

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> <k>|any|all <name>...
    quorum <name>|none

There is exactly one quorum. A name is any bytes; witnesses and groups share one namespace, and a
group or the quorum can only name what a line above defines. A name is a member of one group at
most. `any` is 1 of the members, `all` is all of them. Bytes are tab, newline, 0x20 to 0x7E and 0x80
to 0xFF. No two logs, and no two witnesses, have the same public key.

Stricter than C2SP, so that a quorum counts organisations and not keys:

- a witness is its key name. Several keys under one key name are one witness: where a group asks
  for two or more of its members, no key name can stand behind two of them, unless it stands behind
  all (`all` of the keys of one witness, which is then one witness)
- a log cannot be a witness: no public key is on a log line and on a witness line

Limits: 1 MiB, 256 logs, 256 witnesses, 256 groups.

Example, of which the keys are cut short here (tests/ledger/test_witnesspolicy.py has it whole):

    log datakluis.example/hoorn+6ee9ee0a+ARo…
    witness gouda witness.example/gouda+32b3a4b8+BGm… https://witness.example/gouda
    witness edam witness.example/edam+d2a49a41+BCf…
    group buren any gouda edam
    quorum buren
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Self

from ledger.cosignature import NO_TIME, CosignerKey, parse_key, timestamp_of
from ledger.errors import BadSignature, Malformed
from ledger.note import Note, VerifierKey

MAX_POLICY_BYTES = 1024 * 1024
MAX_DEFINED = 256
"""Logs, witnesses and groups, of each."""

_NONE = b"none"
_OCTETS = re.compile(rb"[\t\n\x20-\x7e\x80-\xff]*")
_DECIMAL = re.compile(rb"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class PolicyLog:
    """A log that the policy accepts.

    Attributes:
        key: by which it signs; the key's name is the log's origin.
        url: of the log, or None.
    """

    key: VerifierKey | CosignerKey
    url: str | None


@dataclass(frozen=True, slots=True)
class PolicyWitness:
    """One key of a witness.

    Attributes:
        name: within the policy alone.
        key: by which it cosigns.
        url: its submission prefix (C2SP tlog-witness), or None.
    """

    name: bytes
    key: CosignerKey
    url: str | None


@dataclass(frozen=True, slots=True)
class PolicyGroup:
    """Members of which a number must have cosigned.

    Attributes:
        name: within the policy alone.
        threshold: members that are needed, 1 to all of them.
        members: names of witnesses and groups.
    """

    name: bytes
    threshold: int
    members: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """What a policy file says. Only `parse` makes one, having checked it.

    Attributes:
        data: the file, verbatim.
        logs: in the order of the file.
        witnesses: in the order of the file, one for each key.
        groups: in the order of the file, so that each stands after its members.
        quorum: name of the witness or group that is needed; None for none.
    """

    data: bytes = field(repr=False)
    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[PolicyGroup, ...]
    quorum: bytes | None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a policy file.

        Raises:
            Malformed: it says what no policy can say; the line is numbered.
        """
        if len(data) > MAX_POLICY_BYTES:
            raise Malformed(f"a witness policy of more than {MAX_POLICY_BYTES} bytes")
        reading = _Reading()
        lines = data.split(b"\n")
        for number, line in enumerate(lines[:-1], 1):
            try:
                reading.line(line)
            except Malformed as cause:
                raise Malformed(f"line {number} of the witness policy: {cause}") from cause
        if lines[-1]:
            raise Malformed(f"line {len(lines)} of the witness policy does not end in a newline")
        if reading.quorum is None:
            raise Malformed("the witness policy has no quorum line")
        return cls(
            data,
            tuple(reading.logs),
            tuple(reading.witnesses.values()),
            tuple(reading.groups.values()),
            None if reading.quorum == _NONE else reading.quorum,
        )

    def format(self) -> bytes:
        """Return the file as it was read."""
        return self.data

    def witness_keys(self) -> tuple[CosignerKey, ...]:
        """Return the witnesses' keys in the order of the file."""
        return tuple(one.key for one in self.witnesses)

    def missing(self, signed: Collection[CosignerKey]) -> str | None:
        """Tell what a checkpoint lacks.

        Args:
            signed: keys of which the checkpoint carries a cosignature that was verified.

        Returns:
            None when the quorum is reached, otherwise words that name what is missing.
        """
        if self.quorum is None:
            return None
        lacking = {one.name: f"{_shown(one.name)} did not cosign" for one in self.witnesses}
        for one in self.witnesses:
            if one.key in signed:
                del lacking[one.name]
        for group in self.groups:
            absent = [name for name in group.members if name in lacking]
            present = len(group.members) - len(absent)
            if present < group.threshold:
                lacking[group.name] = (
                    f"{_shown(group.name)} has {present} of the {group.threshold} that it needs"
                    f" ({', '.join(map(_shown, absent))} missing)"
                )
        return self._explained(lacking) if self.quorum in lacking else None

    def _explained(self, lacking: dict[bytes, str]) -> str:
        """Return the reason of the quorum, then those of the groups below it that lack something.

        A group's own line names its witnesses that are missing, so those get no words of their own.
        """
        if self.quorum is None or self.quorum not in lacking:
            return ""
        groups = {group.name: group for group in self.groups}
        reasons, waiting = [], [self.quorum]
        while waiting:
            name = waiting.pop(0)
            reasons.append(lacking[name])
            if name in groups:
                members = groups[name].members
                waiting += [one for one in members if one in lacking and one in groups]
        return "; ".join(reasons)

    def cosigners(self, note: Note) -> tuple[CosignerKey, ...]:
        """Return the witnesses' keys that cosigned a note, in the order of the file.

        Lines of other keys are passed over (C2SP signed-note).

        Raises:
            BadSignature: a line of one of these keys does not verify, or says no time, which a
                witness must not do: the note is malformed.
        """
        lines = {(line.name, line.key_id): line for line in note.signatures}
        found = []
        for key in self.witness_keys():
            line = lines.get((key.name, key.key_id))
            if line is None:
                continue
            key.check(note.text, line.signature)
            if timestamp_of(line, key) == NO_TIME:
                raise BadSignature(f"the cosignature of witness {key.name} says no time")
            found.append(key)
        return tuple(found)


class _Reading:
    """A policy as far as it has been read."""

    def __init__(self) -> None:
        self.logs: list[PolicyLog] = []
        self.witnesses: dict[bytes, PolicyWitness] = {}
        self.groups: dict[bytes, PolicyGroup] = {}
        self.quorum: bytes | None = None
        # What each public key is for: log or witness.
        self._roles: dict[bytes, str] = {}
        self._members: set[bytes] = set()
        # The key names that can stand behind a witness or a group.
        self._behind: dict[bytes, frozenset[str]] = {}

    def line(self, line: bytes) -> None:
        if _OCTETS.fullmatch(line) is None:
            raise Malformed("has a control character")
        items = [item for item in re.split(rb"[ \t]+", line) if item]
        if not items or items[0].startswith(b"#"):
            return
        readers: dict[bytes, Callable[[list[bytes]], None]] = {
            b"log": self._log,
            b"witness": self._witness,
            b"group": self._group,
            b"quorum": self._quorum,
        }
        if items[0] not in readers:
            raise Malformed("starts with none of log, witness, group and quorum")
        readers[items[0]](items[1:])

    def _log(self, items: list[bytes]) -> None:
        if len(items) not in (1, 2):
            raise Malformed("a log is 'log <vkey> [<url>]'")
        key = _key(items[0])
        self._claim(key, "log")
        self.logs.append(PolicyLog(key, _url(items[1:])))
        _require_room(self.logs, "logs")

    def _witness(self, items: list[bytes]) -> None:
        if len(items) not in (2, 3):
            raise Malformed("a witness is 'witness <name> <vkey> [<url>]'")
        name, key = items[0], _key(items[1])
        if not isinstance(key, CosignerKey):
            raise Malformed("a witness needs the key of a cosigner, of type 4 or 6")
        self._claim(key, "witness")
        self._define(name, frozenset({key.name}))
        self.witnesses[name] = PolicyWitness(name, key, _url(items[2:]))
        _require_room(self.witnesses, "witnesses")

    def _group(self, items: list[bytes]) -> None:
        if len(items) < 3:
            raise Malformed("a group is 'group <name> <k>|any|all <name>...'")
        name, threshold, members = items[0], items[1], tuple(items[2:])
        for member in members:
            self._require_defined(member)
            if member in self._members:
                raise Malformed(f"{_shown(member)} is a member already")
            self._members.add(member)
        needed = _threshold(threshold, len(members))
        names = [self._behind[member] for member in members]
        behind = frozenset[str]().union(*names)
        if needed >= 2 and len(behind) != 1 and len(behind) != sum(map(len, names)):
            raise Malformed("one witness would count twice: its keys stand behind two members")
        self._define(name, behind)
        self.groups[name] = PolicyGroup(name, needed, members)
        _require_room(self.groups, "groups")

    def _quorum(self, items: list[bytes]) -> None:
        if len(items) != 1:
            raise Malformed("a quorum is 'quorum <name>' or 'quorum none'")
        if self.quorum is not None:
            raise Malformed("a second quorum")
        if items[0] != _NONE:
            self._require_defined(items[0])
        self.quorum = items[0]

    def _claim(self, key: VerifierKey | CosignerKey, role: str) -> None:
        before = self._roles.get(key.public_key)
        if before == role:
            raise Malformed(f"its public key is that of another {role}")
        if before is not None:
            raise Malformed("its public key is that of a log and of a witness")
        self._roles[key.public_key] = role

    def _define(self, name: bytes, behind: frozenset[str]) -> None:
        if name == _NONE or name in self._behind:
            raise Malformed(f"{_shown(name)} is defined already")
        self._behind[name] = behind

    def _require_defined(self, name: bytes) -> None:
        if name not in self._behind:
            raise Malformed(f"{_shown(name)} is not defined on a line above")


def _key(item: bytes) -> VerifierKey | CosignerKey:
    try:
        return parse_key(item.decode())
    except UnicodeDecodeError as cause:
        raise Malformed("a verifier key that is not UTF-8") from cause


def _url(items: list[bytes]) -> str | None:
    return items[0].decode(errors="surrogateescape") if items else None


def _threshold(item: bytes, members: int) -> int:
    if item in (b"any", b"all"):
        return 1 if item == b"any" else members
    if _DECIMAL.fullmatch(item) is None or int(item) > members:
        raise Malformed(f"a threshold is any, all or a number from 1 to {members}")
    return int(item)


def _require_room(defined: Collection[object], what: str) -> None:
    if len(defined) > MAX_DEFINED:
        raise Malformed(f"more than {MAX_DEFINED} {what}")


def _shown(name: bytes) -> str:
    """Return a name for people: what is not printable text is escaped."""
    text = name.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
