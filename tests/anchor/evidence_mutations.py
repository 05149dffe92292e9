"""Makes wrong evidence files out of right ones, each with a word that says what was done to it.

What a mutation turns into another genuine file (the same proof without its receipt, say) is left
out by `is_genuine`: that file is true and must verify.
"""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Callable, Iterator
from itertools import combinations, product

from anchor_samples import EVIDENCE, world

from anchor.evidence import Evidence
from ledger.entry import parse_entry
from ledger.note import sign

Mutant = tuple[str, bytes]
Path = tuple[str | int, ...]
ORDER_OF_ED25519 = 2**252 + 27742317777372353535851937790883648493


# Of which trees the files here are made.
PROVEN_SIZES = dict.fromkeys(world.SIGNERS, world.SIZES[:3]) | {"century": (7, 12, 16)}


def genuine_files() -> set[bytes]:
    """Every file that this log could have given out."""
    found = set()
    for regime, leaf, opened in product(world.SIGNERS, range(len(world.LEAVES)), (False, True)):
        groups = [
            [world.group(leaf, size, regime, anchored=anchored) for anchored in (False, True)]
            for size in PROVEN_SIZES[regime]
            if size > leaf
        ]
        if opened and leaf not in world.OPENED:
            continue
        for count in range(1, len(groups) + 1):
            for chosen in combinations(groups, count):
                for each in product(*chosen):
                    opening = world.opening(leaf) if opened else None
                    entry = parse_entry(world.LEAVES[leaf])
                    first = each[0].checkpoint().size
                    state = world.state(leaf, first, regime)
                    for stated in {state, ()}:
                        found.add(Evidence(entry, tuple(each), opening, stated).format())
    return found


GENUINE = genuine_files()


def is_genuine(data: bytes) -> bool:
    return data in GENUINE


def spell(document: object) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def paths(node: object, path: Path = ()) -> Iterator[Path]:
    """Every place in a document, itself included."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node)  # type: ignore[arg-type]
    if isinstance(node, (dict, list)):
        for key, child in items:
            yield from paths(child, (*path, key))


def at(document: object, path: Path) -> object:
    for part in path:
        document = document[part]  # type: ignore[index]
    return document


def replaced(document: object, path: Path, value: object) -> object:
    if not path:
        return value
    document = copy.deepcopy(document)
    at(document, path[:-1])[path[-1]] = value  # type: ignore[index]
    return document


def bit_flips(whole: bytes) -> Iterator[Mutant]:
    for place in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        yield f"bit {place}", bytes(changed)


def one_bit_of_each_byte(whole: bytes) -> Iterator[Mutant]:
    for place, byte in enumerate(whole):
        changed = bytes([byte ^ 1 << place % 8])
        yield f"bit of byte {place}", whole[:place] + changed + whole[place + 1 :]


def byte_changes(whole: bytes) -> Iterator[Mutant]:
    """One byte at a time: flipped in one bit, left out, doubled, and replaced by a like one."""
    yield from one_bit_of_each_byte(whole)
    for place, byte in enumerate(whole):
        before, after = whole[:place], whole[place + 1 :]
        yield f"without byte {place}", before + after
        yield f"byte {place} twice", before + bytes([byte, byte]) + after
        like = b"1" if chr(byte).isdigit() and byte != 49 else b"a" if byte != 97 else b"b"
        yield f"byte {place} as {like!r}", before + like + after


def truncations(whole: bytes) -> Iterator[Mutant]:
    for length in range(len(whole)):
        yield f"first {length} bytes", whole[:length]
        yield f"without the first {length + 1} bytes", whole[length + 1 :]


def parts(document: dict) -> dict[str, tuple[Path, Callable[[str], tuple[str, str, str]]]]:
    """Name to the place of each part that can be swapped, and how to cut it out of its text."""

    def whole(text: str) -> tuple[str, str, str]:
        return "", text, ""

    def cut(pattern: str) -> Callable[[str], tuple[str, str, str]]:
        def by(text: str) -> tuple[str, str, str]:
            match = re.fullmatch(pattern, text, re.DOTALL)
            return match.groups() if match else ("", text, "")

        return by

    found: dict[str, tuple[Path, Callable[[str], tuple[str, str, str]]]] = {}
    for path in paths(document):
        name = "/".join(map(str, path))
        if path:
            found[name] = (path, whole)
        if path[-1:] == ("proof",):
            found[f"{name} index"] = (path, cut(r"(.*?\nindex )(\d+)(\n.*)"))
            found[f"{name} audit path"] = (path, cut(r"(.*?\nindex \d+\n)(.*?)(\n\n?.*)"))
            found[f"{name} note"] = (path, cut(r"(.*?\n\n)(.*)()"))
            found[f"{name} checkpoint"] = (path, cut(r"(.*?\n\n)(.*?)(\n\n.*)"))
            found[f"{name} root"] = (path, cut(r"(.*?\n\n[^\n]*\n\d+\n)([^\n]*)(.*)"))
        if path[-1:] in {("proof",), ("statement",), ("receipt",)}:
            found[f"{name} signatures"] = (path, cut(r"(.*\n\n)(.*?)()"))
        if path[-1:] == ("receipt",):
            for line in range(1, 5):
                found[f"{name} line {line}"] = (path, cut(rf"((?:[^\n]*\n){{{line}}})([^\n]*)(.*)"))
    return found


def splices(whole: bytes, other: bytes) -> Iterator[Mutant]:
    """Each part of one file in the place of the same part of another."""
    document, donor = json.loads(whole), json.loads(other)
    donated = parts(donor)
    for name, (path, cut) in parts(document).items():
        if name not in donated:
            continue
        value, foreign = at(document, path), at(donor, donated[name][0])
        if isinstance(value, str) and isinstance(foreign, str):
            before, _, after = cut(value)
            foreign = before + donated[name][1](foreign)[1] + after
        yield f"{name} of another", spell(replaced(document, path, foreign))
    if "opening" in donor and "opening" not in document:
        yield "opening of another", spell({**document, "opening": donor["opening"]})


def rearrangements(whole: bytes) -> Iterator[Mutant]:
    """Members reordered, left out, added and doubled, and values of other types."""
    document = json.loads(whole)
    for path in paths(document):
        node = at(document, path)
        others: list[object] = [
            None,
            True,
            0,
            -1,
            10**40,
            1.5,
            "",
            "x",
            [],
            {},
            [node],
            {"x": node},
        ]
        if isinstance(node, dict):
            others += _other_objects(node)
        if isinstance(node, list):
            first = node[0] if node else {}
            others += [node * 2, [*node, first], node[::-1], node * 65]
        for value in others:
            yield f"{value!r:.30} at {path}", spell(replaced(document, path, value))
    yield from _doubled_members(whole.decode().split("\n"))


def _other_objects(node: dict[str, object]) -> list[dict[str, object]]:
    members = list(node.items())
    extras: list[dict[str, object]] = [{"note": "x"}, {"": None}, {"Format": 1}, {"opening ": {}}]
    return [
        dict(members[::-1]),
        *(dict(members[turn:] + members[:turn]) for turn in range(1, len(members))),
        *({name: value for name, value in members if name != key} for key in node),
        *({**node, **extra} for extra in extras),
        *({**extra, **node} for extra in extras),
    ]


def _doubled_members(lines: list[str]) -> Iterator[Mutant]:
    for number, line in enumerate(lines):
        if '": ' in line and not line.endswith(("{", "[")):
            for again in (line.rstrip(",") + ",", line.partition(": ")[0] + ': "",'):
                doubled = [*lines[:number], again, *lines[number:]]
                yield f"line {number} twice", "\n".join(doubled).encode()


def respellings(whole: bytes) -> Iterator[Mutant]:
    """The same document in other words: white space, escapes, encodings, hex, base64, numbers."""
    document, text = json.loads(whole), whole.decode()
    lines = text.split("\n")
    for number, line in enumerate(lines):
        for how in (line + " ", " " + line, "\t" + line.lstrip(" "), line + "\r", "\n" + line):
            spelt = "\n".join([*lines[:number], how, *lines[number + 1 :]])
            yield f"white space in line {number}", spelt.encode()
    for indent in (None, 0, 1, 3, 4, "\t"):
        yield f"indent {indent!r}", (json.dumps(document, indent=indent) + "\n").encode()
    compact = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    yield "compact", compact.encode()
    yield "sorted", (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
    yield "only ASCII", (json.dumps(document, indent=2) + "\n").encode()
    yield "no final newline", whole[:-1]
    yield "two final newlines", whole + b"\n"
    yield "final NUL", whole + b"\0"
    yield "second document", whole + whole
    yield "byte order mark", b"\xef\xbb\xbf" + whole
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-32-be"):
        yield encoding, text.encode(encoding)
    yield "latin", text.replace("—", "-").encode("latin-1")
    yield "bad UTF-8", whole.replace("—".encode(), b"\xe2\x80")
    for path in paths(document):
        value = at(document, path)
        if isinstance(value, str) and value:
            yield from _respelt_text(document, path, value)


def _respelt_text(document: object, path: Path, value: str) -> Iterator[Mutant]:
    marked = spell(replaced(document, path, "@@")).decode()
    quoted = json.dumps(value, ensure_ascii=False)[1:-1]
    for escaped in (
        f"\\u{ord(value[0]):04x}" + quoted[1:],
        quoted.replace("/", "\\/"),
        quoted.replace("\\n", "\\u000a"),
        quoted.replace("—", "\\u2014"),
        quoted.replace("—", "\\ud83d"),
        quoted + "\\u0000",
        quoted.replace("\\n", "\n"),
        quoted.replace("\\n", "\\r\\n"),
    ):
        if escaped != quoted:
            yield f"escape in {path}", marked.replace("@@", escaped).encode()
    for changed in {
        value.upper(),
        value.swapcase(),
        value + "\n",
        value + " ",
        " " + value,
        value.rstrip("="),
        value + "=",
        value.replace("=", ""),
        value.replace("+", "-").replace("/", "_"),
        value.replace("=\n", "\n"),
        value.replace("\n\n", "\n"),
        value.replace("\n", "\n\n", 1),
        value[1:],
        value[:-1],
    } - {value}:
        yield f"other spelling of {path}", spell(replaced(document, path, changed))
    yield from _changed_lines(document, path, value)


def _changed_lines(document: object, path: Path, value: str) -> Iterator[Mutant]:
    """Numbers that are huge or led by zeroes, and base64 whose unused bits are set."""
    for match in re.finditer(r"(?m)^(?:index )?(\d+)$", value):
        more, wrapped = str(int(match[1]) + 1), str(2**64 + int(match[1]))
        for number in ("0" + match[1], "+" + match[1], "-1", str(2**63), wrapped, "9" * 5000,
                       match[1] + ".0", "1e3", "٤", more):  # fmt: skip
            start, end = match.span(1)
            changed = value[:start] + number + value[end:]
            yield f"number {number:.30} in {path}", spell(replaced(document, path, changed))
    for match in re.finditer(r"([A-Za-z0-9+/])(={1,2})(?=\n|$)", value):
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        next_one = alphabet[alphabet.index(match[1]) ^ 1]
        changed = value[: match.start()] + next_one + value[match.start() + 1 :]
        yield f"unused bits in {path}", spell(replaced(document, path, changed))


def consistent_changes(whole: bytes) -> Iterator[Mutant]:
    """The same change at every place where a line stands, so that parts still agree."""
    text = whole.decode()
    found = set(
        re.findall(r"(?<=\\n)[A-Za-z0-9+/]{43}=|(?<=\\n)\d+|(?<= )[A-Za-z0-9+/]{80,}={0,2}", text)
    )
    for line in sorted(found):
        for other in (line[:-3] + ("AA=" if line[-3:] != "AA=" else "BA="), line[::-1], "1" + line):
            yield f"{line:.12} everywhere", text.replace(line, other).encode()
    for line in sorted(one for one in found if len(one) > 80):
        raw = base64.b64decode(line)
        for other in malleated(raw):
            changed = base64.b64encode(other).decode()
            yield f"signature {line:.12} otherwise", text.replace(line, changed).encode()
    for name in (b"datakluis.example/hoorn", b"hoorn"):
        for other in (b"datakluis.example/Hoorn", b"h\xc3\xb6\xc3\xb6rn", b"x"):
            yield "another origin everywhere", whole.replace(name, other)


def malleated(signed: bytes) -> Iterator[bytes]:
    """Other signatures that a careless verifier takes for the same (RFC 8032 section 5.1.7)."""
    if len(signed) != 68:
        yield from _malleated_cosignature(signed)
        return
    key_id, r, s = signed[:4], signed[4:36], int.from_bytes(signed[36:], "little")
    for times in range(1, 9):
        if s + times * ORDER_OF_ED25519 < 2**256:
            yield key_id + r + (s + times * ORDER_OF_ED25519).to_bytes(32, "little")
    yield key_id + r + (ORDER_OF_ED25519 - s).to_bytes(32, "little")
    yield key_id + r[:31] + bytes([r[31] ^ 128]) + signed[36:]
    yield key_id + bytes(32) + bytes(32)
    yield key_id + b"\1" + bytes(31) + bytes(32)
    yield signed + b"\0"
    yield signed[:-1]


def _malleated_cosignature(signed: bytes) -> Iterator[bytes]:
    """Another time, and the ends of an ML-DSA signature, where its hints are."""
    key_id, time, signature = signed[:4], signed[4:12], signed[12:]
    for other in (
        bytes(8),
        b"\x80" + time[1:],
        (int.from_bytes(time, "big") + 1).to_bytes(8, "big"),
    ):
        if other != time:
            yield key_id + other + signature
    for place in (0, 31, 32, len(signature) // 2, -5, -1):
        changed = bytearray(signature)
        changed[place] ^= 1
        yield key_id + time + bytes(changed)
    yield signed + b"\0"
    yield signed[:-1]
    yield key_id + signature


def extra_signatures(whole: bytes) -> Iterator[Mutant]:
    """Signature lines of others under the proof's checkpoint, the statement and the receipt."""
    document = json.loads(whole)
    texts = [
        path
        for path in paths(document)
        if path[:1] == ("groups",) and path[-1:] in {("proof",), ("statement",), ("receipt",)}
    ]
    for path in texts:
        value = at(document, path)
        body = str(value).rpartition("\n\n")[0] + "\n"
        signed = body.partition("\n\n")[2] or body.removeprefix("datakluis/anchor-statement/1\n")
        lines = [
            sign(signed, verifier.name, key).format()
            for verifier, key in (world.STRANGER, world.SECOND, world.ANCHOR)
        ]
        if path[-1] == "proof":
            lines.append(world.cosign(world.UNKNOWN, signed, world.FIRST_TIME).format())
        lines += ["— x AAAAAAA=\n", lines[0].replace("vreemde", "andere")]
        for line in lines:
            before, _, after = str(value).rpartition("\n\n")
            for changed in (f"{before}\n\n{after}{line}", f"{before}\n\n{line}{after}"):
                yield f"extra signature at {path}", spell(replaced(document, path, changed))
                everywhere = json.loads(whole)
                for group in everywhere["groups"]:
                    for key in ("proof", "statement"):
                        before_too, _, after_too = group[key].rpartition("\n\n")
                        group[key] = f"{before_too}\n\n{after_too}{line}"
                yield "extra signature everywhere", spell(everywhere)


def oddities() -> Iterator[Mutant]:
    """Files that were never evidence."""
    yield from (
        ("nothing", b""),
        ("a newline", b"\n"),
        ("an array", b"[]\n"),
        ("a text", b'"datakluis-evidence/1"\n'),
        ("null", b"null\n"),
        ("deep arrays", b"[" * 200_000),
        ("deep objects", b'{"a":' * 100_000),
        ("a number of 10,000 digits", b'{"format": ' + b"9" * 10_000 + b"}\n"),
        ("infinity", b'{"format": 1e999999}\n'),
        ("not a number", b'{"format": NaN}\n'),
        ("more than 16 MiB", b'{"format": "' + b"a" * (16 * 1024 * 1024) + b'"}\n'),
        ("only its format", b'{\n  "format": "datakluis-evidence/1"\n}\n'),
    )


def all_structural(name: str) -> Iterator[Mutant]:
    """Everything but the changes of single bytes."""
    whole = EVIDENCE[name]
    for make in (rearrangements, respellings, consistent_changes, extra_signatures):
        for what, data in make(whole):
            yield f"{make.__name__}: {what}", data
    for other in EVIDENCE:
        for what, data in splices(whole, EVIDENCE[other]):
            yield f"splices: {what} ({other})", data
