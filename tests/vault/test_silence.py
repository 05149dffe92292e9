"""Nothing outside the sealed blobs holds or confirms a person (P3, PR2, PR3, PR5).

The people are the whole official test range of citizen service numbers, so every guess that a
curious reader could make about one of them is made here.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import hmac
import json
import logging
import math
import random
import traceback
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from guarantees_scan import all_files, guesses, hits, spellings, windows
from guarantees_vault import CATEGORY, GROUND, erase, new_vault, open_vault, put, query

import commands.lifelike as lifelike
import ledger.integrator
from ledger.commitment import Committer
from ledger.pointer import format_pointer, parse_pointer
from vault import ImportOrder, NewRecord, Vault, keynode
from vault.erasing import MAX_REASON_BYTES
from vault.keynode import SlotState
from vault.keytree import ROOT_LEVEL, KeyTree
from vault.preparing import MAX_PAYLOAD_BYTES
from vault.rootkeys.provider import TreeNumber
from vault.subjects import BucketKeys, SubjectIndex, bucket_of

RANGE = [str(number) for number in range(999_990_000, 1_000_000_000)]
PEOPLE = [number for number in RANGE if lifelike.bsn_check(number)]
NAMES = [
    f"{first} {last}"
    for first in ("Hildegonda", "Wubbegien", "Sjoukje-Renée", "Özgür", "Małgorzata")
    for last in ("van Wassenaer", "Núñez-Postma", "Crèvecoeur", "in 't Veld", "Öztürk", "Wójcik")
]
ERASED = 60


def name_of(number: str) -> str:
    return NAMES[int(number) % len(NAMES)]


def payload_of(number: str) -> bytes:
    """Return what a person's record says; anybody who knows the person could write it."""
    document = {"bsn": number, "naam": name_of(number), "regeling": "Zwemles"}
    return json.dumps(document, ensure_ascii=False).encode()


def fill(vault: Vault, numbers: list[str]) -> dict[str, str]:
    """Store a record about each person and return the pointers by person."""
    pointers: list[str] = []
    records = [NewRecord(payload_of(number), number) for number in numbers]
    vault.put_many(records, category=CATEGORY, on_batch=pointers.extend)
    return dict(zip(numbers, pointers, strict=True))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Vault, dict[str, str]]]:
    """A vault with everybody in it, of whom some were erased; signed, anchored and proven."""
    folder = new_vault(tmp_path_factory.mktemp("town") / "vault")
    with open_vault(folder) as vault:
        pointers = fill(vault, PEOPLE)
        vault.anchor()
        for number in PEOPLE[:: len(PEOPLE) // ERASED][:ERASED]:
            erase(vault, pointers.pop(number))
        living = list(pointers.items())
        for number, pointer in living[:5]:
            vault.rectify(pointer, payload_of(number) + b" ")
            vault.place_hold(pointer, f"appeal of {name_of(number)}")
        vault.anchor()
        put(vault, payload_of(PEOPLE[0]), PEOPLE[0])  # Stays pending.
        yield vault, pointers


def test_no_file_of_a_vault_holds_a_person(
    town: tuple[Vault, dict[str, str]], tmp_path: Path
) -> None:
    vault, pointers = town
    files = all_files(vault.folder)
    assert any(name.endswith("-wal") for name in files), "the log of the database is looked at too"
    evidence = vault.prove(next(iter(pointers.values()))).format()
    files |= {"evidence": evidence, "trust": vault.trust().format()}
    # Every number of the range begins alike, so that beginning says of all of them at once.
    texts = ["99999", *NAMES, "Zwemles", "appeal of"]
    found = {name: hits(data, texts) for name, data in files.items()}
    found = {name: texts for name, texts in found.items() if texts}
    size = sum(map(len, files.values()))
    print(f"\n{len(PEOPLE)} people, {len(NAMES)} names, {len(files)} files of {size} bytes:"
          f" {sum(map(len, found.values()))} hits")  # fmt: skip
    assert found == {}


def test_control_the_scan_finds_everybody_in_every_spelling() -> None:
    everything = b"\n".join(payload_of(number) for number in PEOPLE)
    assert hits(everything, [*PEOPLE, *NAMES]) == [*PEOPLE, *NAMES]
    missed = [
        (text, spelling)
        for text in ("99999", PEOPLE[7], *NAMES)
        for spelling in spellings(text)
        if not hits(b"\x00before" + spelling + b"after\xff", [text])
    ]
    print(f"\ncontrol: {len(PEOPLE) + len(NAMES)} of {len(PEOPLE) + len(NAMES)} found in the plain")
    assert missed == []
    # In the middle of something longer that was coded as a whole.
    for behind in range(6):
        longer = b"x" * behind + payload_of(PEOPLE[7])
        for coded in (base64.b64encode(longer), base64.b32encode(longer), longer.hex().encode()):
            assert hits(coded, [PEOPLE[7]]) == [PEOPLE[7]]


def ledger_bytes(vault: Vault, pointers: list[str]) -> bytes:
    """Return every byte of the ledger and of what is published of it."""
    parts: list[bytes] = []
    for sql in (
        "SELECT entries FROM ledger_bundle",
        "SELECT hashes FROM ledger_tile",
        "SELECT entry FROM ledger_pending",
        "SELECT CAST(note AS BLOB) FROM ledger_checkpoint",
        "SELECT root FROM ledger_head",
        "SELECT CAST(statement AS BLOB) FROM anchor_statement",
        "SELECT CAST(receipt AS BLOB) FROM anchor_receipt",
        "SELECT pointer FROM ledger_position",
    ):
        parts += [bytes(row[0]) for row in query(vault, sql)]
    parts += [vault.prove(pointer).format() for pointer in pointers]
    parts.append(vault.trust().format())
    return b"\0".join(parts)


def brute_force(vault: Vault, pointers: list[str], numbers: list[str]) -> list[str]:
    """Return the people of whom a guess lies in the ledger."""
    there = windows(ledger_bytes(vault, pointers[:20]))
    [(tenant,)] = query(vault, "SELECT DISTINCT tenant FROM vault_tree")
    salts = [b"", vault.origin.encode(), bytes(tenant), bytes(32)]
    some = random.Random(1).sample(pointers, min(6, len(pointers)))
    salts += [parse_pointer(pointer) for pointer in some]
    return [
        number
        for number in numbers
        if any(guess[:16] in there for guess in guesses(number, payload_of(number), salts))
    ]


def test_no_guess_at_anybody_is_confirmed_by_the_ledger(
    town: tuple[Vault, dict[str, str]],
) -> None:
    vault, pointers = town
    confirmed = brute_force(vault, list(pointers.values()), RANGE)
    print(f"\nbrute force: {len(RANGE)} numbers, {len(confirmed)} confirmed")
    assert confirmed == []


def test_no_guess_is_confirmed_with_a_persons_own_pointer(
    town: tuple[Vault, dict[str, str]],
) -> None:
    vault, pointers = town
    there = windows(ledger_bytes(vault, list(pointers.values())[:5]))
    confirmed = [
        number
        for number, pointer in pointers.items()
        for guess in guesses(number, payload_of(number), [parse_pointer(pointer)])
        if guess[:16] in there
    ]
    assert confirmed == []


def unblinded(_: Committer, key: bytes, pointer: bytes, version: int, payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()


def constant_key(_: Committer, key: bytes, pointer: bytes, version: int, payload: bytes) -> bytes:
    return hmac.digest(bytes(32), hashlib.sha256(payload).digest(), "sha256")


@pytest.mark.parametrize("commit", [unblinded, constant_key])
def test_control_an_unblinded_ledger_confirms_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commit: Callable[..., bytes]
) -> None:
    monkeypatch.setattr(Committer, "commit", commit)
    with open_vault(new_vault(tmp_path / "vault")) as vault:
        pointers = fill(vault, PEOPLE)
        vault.checkpoint()
        erase(vault, pointers[PEOPLE[3]])
        confirmed = brute_force(vault, list(pointers.values()), PEOPLE)
    print(f"\ncontrol ({commit.__name__}): {len(confirmed)} of {len(PEOPLE)} confirmed")
    assert confirmed == PEOPLE


def index_of(vault: Vault) -> list[tuple[int, bytes, bytes]]:
    """Return (bucket, tag, sealed) of each subject: what a copy of the database keeps."""
    rows = query(vault, "SELECT bucket, tag, sealed FROM vault_subject")
    return [(row[0], bytes(row[1]), bytes(row[2])) for row in rows]


def nodes_of(vault: Vault) -> dict[tuple[int, int], bytes]:
    """Return the plaintext of each node of a vault's ordinary key tree."""
    tree = KeyTree(TreeNumber.ORDINARY, vault._core.providers)
    with vault._core.database.read() as connection:
        state = tree.state(connection)
        names = connection.exec_driver_sql(
            "SELECT level, number FROM vault_node WHERE number >> (8 * (3 - level)) = 0"
        ).all()
        return {(row[0], row[1]): tree.node(connection, state, (row[0], row[1])) for row in names}


def keys_of(vault: Vault) -> list[bytes]:
    """Return every key that lives in a vault's key tree, those of inner nodes included."""
    return [
        keynode.key_at(node, position)
        for node in nodes_of(vault).values()
        for position in range(keynode.FANOUT)
        if keynode.state_at(node, position) is SlotState.LIVE
    ]


def slots_in(vault: Vault, state: SlotState) -> set[int]:
    """Return the slots that are in a state."""
    return {
        number * keynode.FANOUT + position
        for (level, number), node in nodes_of(vault).items()
        for position in range(keynode.FANOUT)
        if level == 0 and keynode.state_at(node, position) is state
    }


def confirmed_in(
    index: list[tuple[int, bytes, bytes]], keys: list[bytes], numbers: list[str], buckets: int
) -> list[str]:
    """Return the people whose tag or sealed row some key confirms."""
    found = set()
    tags = {tag for _, tag, _ in index}
    for key in keys:
        by_bucket = [BucketKeys.derive(number, key) for number in range(buckets)]
        for number in numbers:
            if by_bucket[0].tag_of(number.encode()) in tags:
                found.add(number)
    return sorted(found)


def erase_some(vault: Vault, pointers: dict[str, str]) -> tuple[list[str], list[str], int]:
    """Erase three people of two buckets; return them, who shares no bucket with them, and N."""
    [(buckets,)] = query(vault, "SELECT count(*) FROM vault_bucket")
    gone = [number for number in pointers if bucket_of(number.encode(), buckets) == 0][:2]
    gone += [number for number in pointers if bucket_of(number.encode(), buckets) == 1][:1]
    others = [number for number in pointers if bucket_of(number.encode(), buckets) > 1]
    for number in gone:
        erase(vault, pointers[number])
    return gone, others, buckets


@pytest.fixture
def indexed(tmp_path: Path) -> Iterator[tuple[Vault, dict[str, str]]]:
    with open_vault(new_vault(tmp_path / "vault")) as vault:
        yield vault, fill(vault, PEOPLE)


def test_an_old_index_confirms_nobody_who_was_erased(
    indexed: tuple[Vault, dict[str, str]],
) -> None:
    vault, pointers = indexed
    old_index = index_of(vault)
    old_nodes = query(vault, "SELECT level, number, sealed FROM vault_node")
    erased_before = slots_in(vault, SlotState.ERASED)
    gone, others, buckets = erase_some(vault, pointers)
    keys = keys_of(vault)
    confirmed = confirmed_in(old_index, keys, gone, 1)
    opened = {
        (level, number)
        for level, number, sealed in old_nodes
        if opens(vault, sealed, keys, level, number)
    }
    slots = [slot for (slot,) in query(vault, "SELECT slot FROM vault_bucket")]
    with vault._core.database.read() as connection:
        read_key = vault._core.read_key(connection)
        bucket_keys = [read_key(slot) for slot in slots]
    living = confirmed_in(old_index, bucket_keys, others, 1)
    now = confirmed_in(index_of(vault), bucket_keys, list(pointers), 1)
    print(f"\nold index, {len(keys)} keys that live now, {buckets} buckets: {len(confirmed)} of"
          f" {len(gone)} erased people confirmed, {len(living)} of {len(others)} living ones;"
          f" in today's index {len(now)} of {len(pointers) - len(gone)}")  # fmt: skip
    assert confirmed == []
    assert living == sorted(others)
    assert now == sorted(set(pointers) - set(gone))
    rekeyed = {(0, slot >> 8) for slot in slots_in(vault, SlotState.ERASED) - erased_before}
    leaves = {(level, number) for level, number, _ in old_nodes if level == 0}
    assert opened == leaves - rekeyed, "of a path that was re-keyed, no old node opens"
    assert opened


def opens(vault: Vault, sealed: bytes, keys: list[bytes], level: int, number: int) -> bool:
    """Tell whether some key that lives opens an old node; the root's is not among them."""
    with vault._core.database.read() as connection:
        tenant = vault._core.tree.state(connection).tenant
    for key in keys:
        try:
            keynode.open_node(bytes(sealed), key, tenant, level, number)
        except Exception:
            continue
        return level != ROOT_LEVEL
    return False


def test_control_an_index_that_keeps_its_bucket_keys_confirms_the_erased(
    indexed: tuple[Vault, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, pointers = indexed
    old_index = index_of(vault)
    monkeypatch.setattr(SubjectIndex, "_reindex", lambda *_: None)
    gone, _, _ = erase_some(vault, pointers)
    confirmed = confirmed_in(old_index, keys_of(vault), gone, 1)
    print(f"\ncontrol: {len(confirmed)} of {len(gone)} erased people confirmed")
    assert confirmed == sorted(gone)


CROWD, OWN, FIRST = 10_000, 100, 4_200  # the subject's own records were put one after another


def linked_by(positions: list[int], size: int) -> list[str]:
    """Return the statistics by which leaves of one subject, in the order of putting, stand out.

    Each has a chance below one in a million for positions that are random.
    """
    found = []
    ordered = sorted(positions)
    neighbours = sum(two - one == 1 for one, two in pairwise(ordered))
    # Poisson with a mean of OWN * (OWN - 1) / size, here about 1: P(12 or more) < 1e-9.
    if neighbours >= 12:
        found.append(f"{neighbours} neighbours")
    distance = max(
        abs(bisect.bisect_right(ordered, at) / len(ordered) - (at + 1) / size) for at in ordered
    )
    # Kolmogorov and Smirnov: P(distance > d) < 2 exp(-2 n d^2).
    if distance > math.sqrt(math.log(2e6) / 2 / len(ordered)):
        found.append(f"distance {distance:.2f}")
    ranks = [bisect.bisect_left(ordered, at) for at in positions]
    middle = (len(ranks) - 1) / 2
    spread = sum((n - middle) ** 2 for n in range(len(ranks)))
    correlation = sum((n - middle) * (r - middle) for n, r in enumerate(ranks)) / spread
    # Of random ranks the deviation is 1 / sqrt(n - 1); five times that.
    if abs(correlation) > 5 / math.sqrt(len(ranks) - 1):
        found.append(f"correlation {correlation:.2f}")
    return found


def crowd(folder: Path) -> tuple[list[int], list[str], Vault]:
    """Put one subject's records among many and integrate all at once."""
    vault = open_vault(new_vault(folder))
    pointers: list[str] = []
    records = [
        NewRecord(b"%d" % n, "one" if FIRST <= n < FIRST + OWN else f"other {n % 500}")
        for n in range(CROWD)
    ]
    vault.put_many(records, category=CATEGORY, on_batch=pointers.extend)
    vault.checkpoint()
    leaves = {
        bytes(p): leaf for p, leaf in query(vault, "SELECT pointer, leaf FROM ledger_position")
    }
    own = pointers[FIRST : FIRST + OWN]
    return [leaves[parse_pointer(pointer)] for pointer in own], own, vault


def test_the_records_of_one_subject_stand_anywhere(tmp_path: Path) -> None:
    positions, own, vault = crowd(tmp_path / "vault")
    with vault:
        found = linked_by(positions, CROWD)
        print(f"\n{OWN} records of one subject among {CROWD}: linked by {found or 'nothing'}")
        assert found == []
        values = sorted(parse_pointer(pointer) for pointer in own)
        assert all(one[:6] != two[:6] for one, two in pairwise(values)), (
            "pointers share a beginning"
        )
        ones = sum(int.from_bytes(value, "big").bit_count() for value in values)
        assert abs(ones - 64 * OWN) < 5 * math.sqrt(32 * OWN), "the bits of pointers are not even"
        assert vault.find("one") == own


def test_control_a_batch_in_its_own_order_links_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger.integrator, "permuted", lambda entries: entries)
    positions, _, vault = crowd(tmp_path / "vault")
    vault.close()
    found = linked_by(positions, CROWD)
    print(f"\ncontrol, batches in order of putting: linked by {', '.join(found)}")
    assert len(found) == 3


def test_the_order_of_each_pointer_is_kept(tmp_path: Path) -> None:
    with open_vault(new_vault(tmp_path / "vault")) as vault:
        pointers = list(fill(vault, PEOPLE[:200]).values())
        for number in range(3):
            for pointer in pointers[:40]:
                vault.rectify(pointer, b"correction %d" % number)
        for pointer in pointers[:20]:
            erase(vault, pointer)
        vault.checkpoint()
        orders = 0
        for pointer in pointers[:40]:
            leaves = [info.leaf for info in vault.history(pointer)]
            if pointer in pointers[:20]:
                leaves.append(vault.erasure_index(pointer))
            assert leaves == sorted(leaves)
            orders += 1
        assert vault.audit().faults == []
    print(f"\n{orders} of {orders} pointers in their own order")


SECRET_BSN, SECRET_NAME = "999990019", "Hildegonda van Wassenaer"
SECRET = f'{{"bsn":"{SECRET_BSN}","naam":"{SECRET_NAME}"}}'.encode()
SECRETS = [SECRET_BSN, SECRET_NAME, "opening-key-material"]


def failing_calls(vault: Vault, folder: Path) -> list[tuple[str, Callable[[], object]]]:
    """Return calls that fail, each with personal data in what it is given or what is stored."""
    kept = vault.put(SECRET, category="kindpakket", subject=SECRET_BSN)
    gone = put(vault, SECRET, SECRET_BSN)
    erase(vault, gone)
    damaged, mistyped, lost = (put(vault, SECRET, SECRET_BSN) for _ in range(3))
    with vault._core.database.write() as connection:
        for sql, pointer in (
            ("UPDATE vault_version SET body = zeroblob(80) WHERE record_id ="
             " (SELECT id FROM vault_record WHERE pointer = ?)", damaged),
            (f"UPDATE vault_record SET category = CAST(CAST('{SECRET_NAME}' AS BLOB) || x'ff'"
             " AS TEXT) WHERE pointer = ?", mistyped),
            ("DELETE FROM vault_version WHERE record_id ="
             " (SELECT id FROM vault_record WHERE pointer = ?)", lost),
        ):  # fmt: skip
            connection.exec_driver_sql(sql, (parse_pointer(pointer),))
    lines = folder / "lines.jsonl"
    lines.write_bytes(SECRET + b"\n" + SECRET[:-1] + b"\n" + SECRET.replace(b"bsn", b"nr") + b"\n")
    text = SECRET.decode()

    def store(payload: object = SECRET, subject: object = SECRET_BSN, **more: object) -> object:
        return vault.put(payload, **{"category": CATEGORY, "subject": subject, **more})

    return [
        ("unknown category", lambda: store(category="paspoort")),
        ("unregistered purpose", lambda: store(purpose="marketing")),
        ("payload too large", lambda: store(SECRET * (MAX_PAYLOAD_BYTES // len(SECRET) + 1))),
        ("payload is a text", lambda: store(text)),
        ("payload is nothing", lambda: store(None)),
        ("subject too long", lambda: store(subject=SECRET_BSN * 40)),
        ("subject with half a character", lambda: store(subject=f"{SECRET_NAME}\ud800")),
        ("subject is a number", lambda: store(subject=int(SECRET_BSN))),
        ("actor with a newline", lambda: store(actor=f"{SECRET_NAME}\n")),
        ("get by number", lambda: vault.get(SECRET_BSN)),
        ("get by name", lambda: vault.get(SECRET_NAME)),
        ("get of nobody", lambda: vault.get(format_pointer(bytes(16)))),
        ("get of an erased record", lambda: vault.get(gone)),
        ("get of a damaged blob", lambda: vault.get(damaged)),
        ("get of a damaged row", lambda: vault.get(mistyped)),
        ("get of a record without versions", lambda: vault.get(lost)),
        ("history by number", lambda: vault.history(SECRET_BSN)),
        ("find of a long subject", lambda: vault.find(SECRET_NAME * 20)),
        ("rectify of an erased record", lambda: vault.rectify(gone, SECRET)),
        ("rectify with a text", lambda: vault.rectify(kept, text)),
        ("rectify by number", lambda: vault.rectify(SECRET_BSN, SECRET)),
        ("rectify of a damaged row", lambda: vault.rectify(mistyped, SECRET)),
        ("erase of a kept record", lambda: vault.erase(kept, GROUND)),
        ("erase twice", lambda: vault.erase(gone, GROUND)),
        ("erase by number", lambda: vault.erase(SECRET_BSN, GROUND)),
        ("hold with a long reason", lambda: vault.place_hold(kept, SECRET_NAME * MAX_REASON_BYTES)),
        ("hold with half a character", lambda: vault.place_hold(kept, f"{SECRET_NAME}\ud800")),
        ("proof of an erased payload", lambda: vault.prove(gone, disclose=True)),
        ("proof by number", lambda: vault.prove(SECRET_BSN)),
        ("import of bad lines", lambda: vault.import_jsonl(ImportOrder(lines, CATEGORY, "/bsn"))),
    ]


def test_no_error_tells_a_person(tmp_path: Path) -> None:
    told: list[str] = []
    silent: list[str] = []
    with open_vault(new_vault(tmp_path / "vault")) as vault:
        calls = failing_calls(vault, tmp_path)
        for what, call in calls:
            try:
                call()
            except Exception as error:
                if any(secret in words for words in said_of(error) for secret in SECRETS):
                    told.append(f"{what}: {type(error).__name__}")
            else:
                silent.append(what)
        faults = vault.audit().faults
        told += [f"audit: {fault}" for fault in faults if hits(str(fault).encode(), SECRETS)]
    print(
        f"\n{len(calls)} calls that fail, {len(faults)} audit faults: {len(told)} tell of a person"
    )
    assert silent == [], "these were meant to fail"
    assert told == []
    assert faults


def test_no_log_line_tells_a_person(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="sqlalchemy")  # Every statement and every row.
    lines = tmp_path / "lines.jsonl"
    lines.write_bytes(SECRET + b"\n")
    with open_vault(new_vault(tmp_path / "vault")) as vault:
        pointer = put(vault, SECRET, SECRET_BSN)
        vault.import_jsonl(ImportOrder(lines, CATEGORY, "/bsn"))
        assert vault.get(pointer) == SECRET
        vault.rectify(pointer, SECRET + b" ")
        vault.anchor()
        vault.prove(pointer, disclose=True)
        for found in vault.find(SECRET_BSN):
            erase(vault, found)
        held = put(vault, SECRET, SECRET_BSN)
        vault.place_hold(held, f"appeal of {SECRET_NAME}")
        assert vault.audit().faults == []
    told = [one.name for one in caplog.records if hits(one.getMessage().encode(), SECRETS)]
    print(f"\n{len(caplog.records)} log lines, {len(told)} tell of a person")
    assert told == []
    assert len(caplog.records) > 200, "nothing was logged, so nothing was looked at"


def said_of(error: BaseException) -> list[str]:
    """Return what a program would print or report of an error."""
    # The lines of source that a traceback quotes are this file's own; they hold no values.
    shown = "".join(traceback.format_exception(error))
    words = [shown, str(error), repr(error)]
    for value in vars(error).values():
        words += [str(value), repr(value)]
    return words


def test_control_an_error_that_tells_is_seen() -> None:
    told = [
        any(secret in words for words in said_of(error) for secret in SECRETS)
        for error in (ValueError(f"no record of {SECRET_NAME}"), KeyError(SECRET_BSN))
    ]
    assert told == [True, True]
