"""Every changed byte that is alive is found and named (LG1, P1, P5).

One small vault stays open while single bytes of it are changed behind its back; each time it is
audited and the byte put back. The audit must name the part, whatever the byte became, and must not
break off. `guarantees_bytes.UNBOUND` lists the columns that nothing can vouch for today; a column
that is in no list fails a test, so a new one has to be decided on.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from guarantees_bytes import (
    GOVERNED,
    UNBOUND,
    Bytes,
    columns,
    dump,
    flip,
    other_values,
    rich_vault,
)
from guarantees_vault import chosen_seed, open_vault

import anchor.errors
import vault.audit
from anchor.evidence import Evidence
from anchor.steps import Verdict
from anchor.verify import verify
from ledger import merkle
from ledger.fsck import Fsck
from ledger.tiles import encode_bundle, hash_reader, parse_bundle
from vault import ConfigurationError, Damaged, NewerSchema
from vault.audit.records import RecordsAudit

FLIPS = 200

# Class, table, column and the parts that one of the faults must name.
CLASSES = [
    ("blob bodies", "vault_version", "body", r"record [a-z2-7]{26}: version \d"),
    ("key nodes", "vault_node", "sealed", r"key node \d+ at level \d"),
    ("tiles", "ledger_tile", "hashes", r"tile \d+ at level \d"),
    ("entry bundles", "ledger_bundle", "entries", r"(entry|entry bundle|tile) \d+"),
    ("checkpoints", "ledger_checkpoint", "note", r"checkpoint of \d+ leaves"),
    ("anchor statements", "anchor_statement", "statement", r"anchor statement of \d+ leaves"),
    ("receipts", "anchor_receipt", "receipt", r"local receipt for \d+ leaves"),
    ("positions", "ledger_position", "pointer", r"entry \d+"),
    ("pointers", "vault_record", "pointer", r"record [a-z2-7]{26}"),
    ("row tags", "vault_record", "row_tag", r"record [a-z2-7]{26}: .*row of record"),
    ("subject rows", "vault_subject", "sealed", r"subject row \d+"),
    ("subject tags", "vault_subject", "tag", r"subject row \d+"),
    ("pending entries", "ledger_pending", "entry",
     r"(pending entry \d+|record [a-z2-7]{26}|generation )"),
    ("wrapped epoch keys", "vault_generation", "wrapped", r"wrapped epoch key of generation \d"),
    ("tenant", "vault_tree", "tenant", r"wrapped epoch key of generation \d"),
    ("ledger head", "ledger_head", "root", r"ledger head"),
    ("origin", "ledger_head", "origin", r"(signer|checkpoint of \d+ leaves|ledger)"),
    ("certificates", "vault_certificate", "document", r"record [a-z2-7]{26}: certificate \d"),
    ("bodies of field groups", "vault_part", "body", r"record [a-z2-7]{26}: version 1, field"),
    ("reasons of holds", "vault_hold", "reason", r"record [a-z2-7]{26}: the reason of its hold"),
]  # fmt: skip

# Columns of numbers and short texts, and the parts that are named.
SMALL = [
    ("vault_record", "category", r"record "),
    ("vault_record", "retention", r"record "),
    ("vault_record", "brondatum", r"record "),
    ("vault_record", "record_date", r"record "),
    ("vault_record", "on_hold", r"(record |table vault_record)"),
    ("vault_record", "current", r"record "),
    ("vault_record", "subject_id", r"(record |database)"),
    ("vault_record", "id", r"(record|database)"),
    ("vault_version", "number", r"record "),
    ("vault_version", "slot", r"(record |slot )"),
    ("vault_version", "record_id", r"(record|database)"),
    ("vault_version", "birth_generation", r"record "),
    ("vault_version", "erased_generation", r"record "),
    ("vault_node", "level", r"key node "),
    ("vault_node", "number", r"key node "),
    ("vault_tree", "next_slot", r"(slot |key )"),
    ("vault_tree", "generation", r"(key |generation )"),
    ("vault_generation", "number", r"(key |generation)"),
    ("vault_generation", "tree", r"(key |generation)"),
    ("vault_generation", "state", r"(key |generation)"),
    ("vault_generation", "provider_id", r"(key |generation|database)"),
    ("vault_declaration", "tree", r"generation "),
    ("vault_declaration", "generation", r"generation "),
    ("vault_shred", "tree", r"(generation |shred )"),
    ("vault_shred", "opened", r"(generation |shred )"),
    ("vault_shred", "act_id", r"(shred |database)"),
    ("vault_erasure", "record_id", r"(record |database)"),
    ("vault_erasure", "field_group", r"record "),
    ("vault_erasure", "tree", r"record "),
    ("vault_erasure", "born", r"record "),
    ("vault_erasure", "erased", r"record "),
    ("vault_part", "record_id", r"(record |database)"),
    ("vault_part", "number", r"record "),
    ("vault_part", "field_group", r"record "),
    ("vault_part", "slot", r"(records?: |record |slot )"),
    ("vault_part", "birth_generation", r"record "),
    ("vault_part", "erased_generation", r"record "),
    ("vault_certificate", "erasure_id", r"(record |database)"),
    ("vault_certificate", "number", r"record "),
    ("vault_certificate", "status", r"record "),
    ("vault_certificate", "irrecoverability", r"record "),
    ("vault_bucket", "number", r"subject "),
    ("vault_bucket", "slot", r"(subject |slot )"),
    ("vault_subject", "id", r"(subject |database)"),
    ("vault_subject", "bucket", r"subject "),
    ("vault_import", "slot", r"slot "),
    ("vault_hold", "record_id", r"(record |database)"),
    ("vault_hold", "version", r"record "),
    ("ledger_position", "leaf", r"entry "),
    ("ledger_bundle", "number", r"entry bundle "),
    ("ledger_tile", "level", r"tile "),
    ("ledger_tile", "number", r"tile "),
    ("ledger_head", "size", r"(entry bundle|ledger head|signer)"),
    ("ledger_head", "id", r"ledger"),
    ("ledger_checkpoint", "size", r"checkpoint of "),
    ("anchor_statement", "size", r"(anchor statement |database)"),
    ("anchor_receipt", "size", r"(local receipt |database)"),
    ("anchor_receipt", "target", r".* receipt for "),
    ("vault_act", "id", r"database"),
]


# Rows that nothing vouches for in these columns: of an erased record the key is gone that would,
# and to a declaration's act nothing refers.
UNVOUCHED = {
    ("vault_version", "slot"): "SELECT id FROM vault_version WHERE erased_generation IS NOT NULL",
    ("vault_part", "slot"): "SELECT id FROM vault_part WHERE erased_generation IS NOT NULL",
    ("vault_act", "id"): "SELECT id FROM vault_act WHERE action = 'declare'",
}


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rich_vault(tmp_path_factory.mktemp("rich") / "vault")


@pytest.fixture(scope="module")
def seed() -> int:
    return chosen_seed()


@pytest.fixture(scope="module")
def target(rich: Path, seed: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bytes]:
    folder = tmp_path_factory.mktemp("tamper") / "vault"
    shutil.copytree(rich, folder)
    print(f"\nseed {seed}")
    with open_vault(folder) as opened:
        found = Bytes(opened, random.Random(seed))
        assert found.faults() == []
        yield found
        assert found.faults() == [], "a byte was not put back"
        found.raw.close()


def count_named(target: Bytes, table: str, column: str, part: str, flips: int) -> list[str]:
    """Flip bytes of a column and return those that no fault named."""
    unnamed = []
    for _ in range(flips):
        with target.flipped(table, column) as what:
            faults = target.faults()
        named = re.compile(f"({part}|.*{part}|table {table}: .* {column})")
        if not any(map(named.match, faults)):
            unnamed.append(f"{what}: {faults}")
    return unnamed


@pytest.mark.parametrize(("name", "table", "column", "part"), CLASSES, ids=[c[0] for c in CLASSES])
def test_every_flip_is_named(target: Bytes, name: str, table: str, column: str, part: str) -> None:
    unnamed = count_named(target, table, column, part, FLIPS)
    print(f"\n{name}: {FLIPS - len(unnamed)} of {FLIPS} named")
    assert unnamed == []


@pytest.mark.parametrize(("table", "column", "part"), SMALL, ids=[f"{t}.{c}" for t, c, _ in SMALL])
def test_changed_numbers_and_texts_are_named(
    target: Bytes, table: str, column: str, part: str
) -> None:
    unnamed, tried = [], 0
    unvouched = target.raw.execute(UNVOUCHED.get((table, column), "SELECT NULL")).fetchall()
    for key, value in target.cells(table, column):
        if key in unvouched:
            continue
        for other, kind in other_values(value, target.draws):
            try:
                with target.changed(table, column, key, other, kind):
                    faults = target.faults()
            except sqlite3.IntegrityError:
                continue  # The database itself refused: a key that is there, or no row number.
            tried += 1
            named = re.compile(f"({part}|table {table}: .* {column})")
            if not any(map(named.match, faults)):
                unnamed.append(f"{column} of {key} became {other!r}: {faults}")
    print(f"\n{table}.{column}: {tried - len(unnamed)} of {tried} named")
    assert unnamed == []
    assert tried


def test_every_column_is_flipped_or_listed_as_unbound(target: Bytes) -> None:
    flipped = {(t, c) for _, t, c, _ in CLASSES} | {(t, c) for t, c, _ in (*SMALL, *GOVERNED)}
    unbound = {(table, column) for table, names in UNBOUND.items() for column in names}
    there = {
        (table, column)
        for table, names in columns(target.vault.folder / "vault.db").items()
        for column in names
    }
    assert there == flipped | unbound
    assert not flipped & unbound


def test_every_flip_of_the_signers_memory_is_named(target: Bytes) -> None:
    path = target.vault.folder / "signer" / "last-checkpoint"
    unnamed = flip_file(target, path, r"signer: ")
    print(f"\nlast checkpoint of the signer: {FLIPS - len(unnamed)} of {FLIPS} named")
    assert unnamed == []


def test_every_flip_of_the_local_anchors_file_is_named(target: Bytes) -> None:
    path = target.vault.folder / "anchors" / "local-anchor"
    unnamed = flip_file(target, path, r"(local anchor: |local receipt for \d+ leaves: )")
    print(f"\nlocal anchor's file: {FLIPS - len(unnamed)} of {FLIPS} named")
    assert unnamed == []


def flip_file(target: Bytes, path: Path, part: str) -> list[str]:
    kept, unnamed = path.read_bytes(), []
    for _ in range(FLIPS):
        path.write_bytes(flip(kept, target.draws))
        faults = target.faults()
        if not any(re.match(part, fault) for fault in faults):
            unnamed.append(str(faults))
    path.write_bytes(kept)
    return unnamed


@pytest.mark.parametrize("disclose", [False, True])
def test_every_flip_of_an_evidence_file_is_refused(target: Bytes, disclose: bool) -> None:
    trust = target.vault.trust()
    pointer = target.vault.find("subject 0")[0]
    with open_vault(target.vault.folder) as other:
        evidence = other.prove(pointer, version=1, disclose=disclose).format()
    assert verify(Evidence.parse(evidence), trust).verdict is Verdict.VERIFIED
    accepted, ways = [], Counter()
    for _ in range(FLIPS):
        changed = flip(evidence, target.draws)
        try:
            verdict = verify(Evidence.parse(changed), trust).verdict
        except anchor.errors.AnchorError as error:
            ways[type(error).__name__] += 1
            continue
        ways[verdict] += 1
        if verdict is not Verdict.FAILED:
            accepted.append(changed)
    print(f"\nevidence file: {FLIPS - len(accepted)} of {FLIPS} refused ({dict(ways)})")
    assert accepted == []


def test_flips_in_the_file_itself_are_named(rich: Path, tmp_path: Path, seed: int) -> None:
    """Flip bytes of the database file, where a flip of live bytes shows in a dump of all tables."""
    draws = random.Random(seed)
    pristine = tmp_path / "pristine"
    shutil.copytree(rich, pristine)
    with sqlite3.connect(pristine / "vault.db") as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    before, names = dump(pristine / "vault.db"), columns(pristine / "vault.db")
    data = (pristine / "vault.db").read_bytes()
    used = [place for place, byte in enumerate(data) if byte]  # Free space is zeroed.
    folder = tmp_path / "vault"
    shutil.copytree(pristine, folder)
    missed: list[str] = []
    ends: Counter[str] = Counter()
    live = dead = tries = 0
    while live < FLIPS and tries < 3_000:
        tries += 1
        place = draws.choice(used)
        changed = data[place] ^ draws.randrange(1, 256)
        for leftover in ("vault.db-wal", "vault.db-shm"):
            (folder / leftover).unlink(missing_ok=True)
        (folder / "vault.db").write_bytes(data[:place] + bytes([changed]) + data[place + 1 :])
        try:
            cells = different_cells(before, dump(folder / "vault.db"), names)
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            cells = {"unreadable"}
        end = look(folder)
        ends[end.split(":")[0]] += 1
        if not cells or all(cell in unbound_cells() for cell in cells):
            dead += 1
            continue
        live += 1
        if end == "nothing":
            missed.append(f"byte {place}: {sorted(cells)}")
    print(f"\nfile flips: {live - len(missed)} of {live} named, {dead} more in bytes that are not"
          f" live or that nothing vouches for ({dict(ends)})")  # fmt: skip
    assert missed == []
    assert live >= FLIPS


def unbound_cells() -> set[str]:
    return {f"{table}.{column}" for table, own in UNBOUND.items() for column in own}


def different_cells(
    before: dict[str, list[tuple[object, ...]]],
    after: dict[str, list[tuple[object, ...]]],
    names: dict[str, list[str]],
) -> set[str]:
    """Return the columns in which two dumps differ."""
    if before.keys() != after.keys():
        return {"sqlite_schema"}
    found = set()
    for table, rows in before.items():
        if len(rows) != len(after[table]):
            found.add(table)
        for row, other in zip(rows, after[table], strict=False):
            if len(row) != len(other):
                found.add(table)
            found |= {
                f"{table}.{name}"
                for name, one, two in zip(names[table], row, other, strict=False)
                if one != two
            }
    return found


def look(folder: Path) -> str:
    """Open and audit a vault; return what is said of it. No other kind of error may come out."""
    try:
        with open_vault(folder) as opened:
            faults = opened.audit().faults
    except (Damaged, ConfigurationError, NewerSchema) as error:
        return f"{type(error).__name__}: {error}"
    return f"faults: {faults[0]}" if faults else "nothing"


def removed(table: str, where: str = "") -> list[str]:
    return [f"DELETE FROM {table} WHERE rowid = (SELECT max(rowid) FROM {table} {where})"]


REMOVALS = [
    ("a record and its versions", [
        "DELETE FROM vault_version WHERE record_id = 4", "DELETE FROM vault_record WHERE id = 4",
    ], r"(records|slot )"),
    ("a record alone", removed("vault_record"), r"database"),
    ("an erased record", [
        "DELETE FROM vault_version WHERE record_id = 2", "DELETE FROM vault_record WHERE id = 2",
    ], r"records"),
    ("the newest version of a record", [
        "DELETE FROM vault_version WHERE record_id = 1 AND number = 2",
    ], r"record [a-z2-7]{26}"),
    ("an old version of a record", [
        "DELETE FROM vault_version WHERE record_id = 1 AND number = 1",
    ], r"record [a-z2-7]{26}"),
    ("the version of an erased record", [
        "DELETE FROM vault_version WHERE record_id = 2",
    ], r"record [a-z2-7]{26}"),
    ("a body", ["UPDATE vault_version SET body = NULL WHERE id = 1"], r"record .*LOST"),
    ("a bundle", removed("ledger_bundle"), r"entry bundle 0: is missing"),
    ("a tile", ["DELETE FROM ledger_tile"], r"tile 0 at level 0: is missing"),
    ("a position", ["DELETE FROM ledger_position WHERE leaf = 3"], r"entry 3"),
    ("a pending entry", removed("ledger_pending"), r"record [a-z2-7]{26}"),
    ("a pending entry twice", [
        "INSERT INTO ledger_pending (entry) SELECT entry FROM ledger_pending LIMIT 1",
    ], r"record [a-z2-7]{26}"),
    ("an anchored checkpoint", ["DELETE FROM ledger_checkpoint"], r"anchor statement"),
    ("a statement", ["DELETE FROM anchor_statement"], r"database"),
    ("a subject", removed("vault_subject"), r"database"),
    ("a bucket", ["DELETE FROM vault_bucket"], r"(subject|slot)"),
    ("a hold's reason", ["DELETE FROM vault_hold"], r"record .*hold"),
    ("a hold", [
        "DELETE FROM vault_hold", "UPDATE vault_record SET on_hold = 0",
    ], r"record [a-z2-7]{26}"),
    ("a leaf node", ["DELETE FROM vault_node WHERE level = 0"], r"key node 0 at level 0"),
    ("the root node", ["DELETE FROM vault_node WHERE level = 3"], r".*level 3 is missing"),
    ("the wrapped epoch key", ["DELETE FROM vault_generation"], r"(key node|generation)"),
    ("the tree", ["DELETE FROM vault_tree"], r"key tree"),
    ("the head", ["DELETE FROM ledger_head"], r"ledger"),
    ("an act that a row names", ["DELETE FROM vault_act WHERE id = 1"], r"database"),
    ("two records' bodies swapped", [
        "UPDATE vault_version SET body = (SELECT body FROM vault_version o WHERE o.id ="
        " CASE vault_version.id WHEN 1 THEN 3 ELSE 1 END) WHERE id IN (1, 3)",
    ], r"record .*version 1"),
    ("an erasure forged", [
        "UPDATE vault_version SET body = NULL, erased_generation = 1 WHERE record_id = 4",
        "UPDATE vault_record SET erased_act = 1, ground = 'not-needed', record_date = NULL,"
        " brondatum = NULL, subject_id = NULL, row_tag = NULL WHERE id = 4",
    ], r"record .*differ on whether it was erased"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "statements", "part"), REMOVALS, ids=[r[0] for r in REMOVALS])
def test_rows_that_go_or_change_places_are_named(
    rich: Path, tmp_path: Path, what: str, statements: list[str], part: str
) -> None:
    shutil.copytree(rich, tmp_path / "vault")
    with open_vault(tmp_path / "vault") as opened:
        opened.audit()
        with sqlite3.connect(tmp_path / "vault" / "vault.db") as raw:
            changed = sum(raw.execute(statement).rowcount for statement in statements)
        raw.close()
        faults = [str(fault) for fault in opened.audit().faults]
    assert changed, f"{what}: the statements change nothing"
    assert any(re.match(part, fault) for fault in faults), faults


def rewrite_bundle(target: Bytes, change: object) -> list[str]:
    [(key, raw)] = target.cells("ledger_bundle", "entries")
    entries = parse_bundle(bytes(raw))
    change(entries)
    with target.changed("ledger_bundle", "entries", key, encode_bundle(entries)):
        return target.faults()


def test_entries_that_are_swapped_dropped_or_doubled_are_named(target: Bytes) -> None:
    """LG1: flip, reorder, delete."""
    [(_, raw)] = target.cells("ledger_bundle", "entries")
    size = len(parse_bundle(bytes(raw)))
    pairs = [(one, two) for one in range(size) for two in range(one)]

    def swap(entries: list[bytes], one: int, two: int) -> None:
        entries[one], entries[two] = entries[two], entries[one]

    for one, two in pairs:
        faults = rewrite_bundle(target, lambda entries, a=one, b=two: swap(entries, a, b))
        assert any(re.match(rf"(entry ({one}|{two})|tile 0)", fault) for fault in faults), faults
    for leaf in range(size):
        faults = rewrite_bundle(target, lambda entries, n=leaf: entries.pop(n))
        assert any(fault.startswith("entry bundle 0") for fault in faults), faults
        faults = rewrite_bundle(target, lambda entries, n=leaf: entries.insert(n, entries[n]))
        assert any(fault.startswith("entry bundle 0") for fault in faults), faults
    print(f"\nentries: {len(pairs)} swaps, {size} deletions and {size} doublings named")


def test_a_rewritten_ledger_is_named(target: Bytes) -> None:
    """Whoever changes an entry and everything that is derived from it meets the signature."""
    [(key, raw)] = target.cells("ledger_bundle", "entries")
    entries = parse_bundle(bytes(raw))
    entries[0] = entries[0][:-1] + bytes([entries[0][-1] ^ 1])
    hashes = [merkle.leaf_hash(entry) for entry in entries]
    root = merkle.root(len(hashes), hash_reader(lambda level, number: b"".join(hashes)))
    [(head, _)] = target.cells("ledger_head", "root")
    [(tile, _)] = target.cells("ledger_tile", "hashes")
    with (
        target.changed("ledger_bundle", "entries", key, encode_bundle(entries)),
        target.changed("ledger_tile", "hashes", tile, b"".join(hashes)),
        target.changed("ledger_head", "root", head, root),
    ):
        faults = target.faults()
    assert any(fault.startswith("checkpoint of") for fault in faults), faults
    assert any(fault.startswith("signer: ") for fault in faults), faults


# A part of the audit that is taken out, and a class that nothing else sees.
CONTROLS = [
    (RecordsAudit, "_living", "vault_version", "body"),
    (RecordsAudit, "_living", "vault_record", "row_tag"),
    (RecordsAudit, "_holds", "vault_hold", "reason"),
    (Fsck, "_derived", "ledger_tile", "hashes"),
    (Fsck, "_checkpoints", "ledger_checkpoint", "note"),
    (Fsck, "_entry", "ledger_position", "pointer"),
    (vault.audit, "audit_subjects", "vault_subject", "sealed"),
    (vault.audit, "check_anchors", "anchor_receipt", "receipt"),
]


@pytest.mark.parametrize(("owner", "method", "table", "column"), CONTROLS)
def test_control_an_audit_without_a_part_misses_its_class(
    target: Bytes, monkeypatch: pytest.MonkeyPatch, owner: object, method: str, table: str,
    column: str,
) -> None:  # fmt: skip
    part = next(part for _, t, c, part in CLASSES if (t, c) == (table, column))
    monkeypatch.setattr(owner, method, lambda *_, **__: iter(()))
    missed = count_named(target, table, column, part, 20)
    print(f"\ncontrol: without {method}, {len(missed)} of 20 flips in {table}.{column} missed")
    assert missed
