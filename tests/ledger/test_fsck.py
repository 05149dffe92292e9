"""fsck: each way to damage a ledger is named, and each of its parts is the one that sees it.

A case of `CAUSES` damages one thing, says which faults a reader is shown, and names the code that
must see it: with that code taken out, the fault goes unseen. LG1 is the part on entries.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import governance_entries
import pytest
from governance_entries import FOUNDING, Listed
from ledger_fixtures import (
    KEY,
    ORIGIN,
    OTHER_KEY,
    SIGNED_AT,
    Ledger,
    NaiveTree,
    Records,
    certificate_entry,
    erasure_entry,
    pointer,
    shred_entry,
    sign_with_both,
    signer_of,
    version_entry,
)

from ledger import fsck as fsck_module
from ledger import governing, log
from ledger.action import Stop
from ledger.checkpoint import Checkpoint
from ledger.entry import (
    EntryKind,
    Membership,
    encode_listed_erasure,
    encode_version,
    parse_entry,
)
from ledger.errors import NotValid
from ledger.fsck import Fsck
from ledger.governance import judge
from ledger.governancestate import GovernanceState
from ledger.log import Log
from ledger.note import Note, sign
from ledger.pointer import format_pointer
from ledger.signer import LAST_CHECKPOINT
from ledger.tiles import TILE_WIDTH

SIZE = 600
SIGNED = (256, 520, SIZE)
RECORDS = Records(seed=41, every_kind=True)


@pytest.fixture
def ledger(tmp_path):
    """600 leaves in three bundles, signed three times; two entries wait.

    Leaves 8 and 599 are the only ones of their records.
    """
    records = Records(seed=40)
    entries = records.take(SIZE - 2)
    entries.insert(8, version_entry(pointer(1 << 61)))
    entries.append(version_entry(pointer(1 << 62)))
    tree = NaiveTree(entries)
    folder = tmp_path / "ledger"
    folder.mkdir()
    with Ledger(folder) as ledger:
        build(ledger, entries)
        for size in SIGNED[:-1]:
            note = signed_note(size, tree.root(size)).format()
            ledger.sql("INSERT INTO ledger_checkpoint VALUES (?, ?, ?)", size, note, SIGNED_AT)
        ledger.put(records.take(2))
        yield ledger


@pytest.fixture
def small(tmp_path):
    """Six leaves: a record with two versions and its erasure, and three others."""
    folder = tmp_path / "small"
    folder.mkdir()
    with Ledger(folder) as ledger:
        build(ledger, SMALL)
        yield ledger


SMALL = [
    version_entry(pointer(0)),
    version_entry(pointer(1)),
    version_entry(pointer(0), 2),
    version_entry(pointer(2)),
    erasure_entry(pointer(0), 2),
    version_entry(pointer(3)),
]


def bundle_of(entries: list[bytes]) -> bytes:
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def build(ledger: Ledger, entries: list[bytes], widths: tuple[int, ...] | None = None) -> None:
    """Lay a whole ledger over these entries, as right as it can be, and have the log sign it.

    So what is wrong about the entries themselves is all that is wrong.
    """
    size, tree = len(entries), NaiveTree(entries)
    bundles, tiles, rest, level = [], [], entries, 0
    while rest:
        width = widths[len(bundles)] if widths else TILE_WIDTH
        bundles.append((len(bundles), bundle_of(rest[:width])))
        rest = rest[width:]
    while hashes := size >> 8 * level:
        numbers = range(-(-hashes // TILE_WIDTH))
        tiles += [(level, number, tree.tile(level, number, size)) for number in numbers]
        level += 1
    note = signed_note(size, tree.root(size))
    rows = {
        "bundle": bundles,
        "tile": tiles,
        "position": [(entry[4:20], leaf) for leaf, entry in enumerate(entries)],
        "checkpoint": [(size, note.format(), SIGNED_AT)],
        "pending": [],
    }
    with ledger.write() as connection:
        for table, values in rows.items():
            connection.exec_driver_sql(f"DELETE FROM ledger_{table}")
            if values:
                places = ", ".join("?" * len(values[0]))
                connection.exec_driver_sql(f"INSERT INTO ledger_{table} VALUES ({places})", values)
        connection.exec_driver_sql(
            "UPDATE ledger_head SET size = ?, root = ?", (size, tree.root(size))
        )
    ledger.signer.memory.remember(note)


def signed_note(size: int, root: bytes, origin: str = ORIGIN, key=KEY) -> Note:
    return sign_with_both(Checkpoint(origin, size, root), key)


def set_bundle(ledger: Ledger, number: int, raw: bytes) -> None:
    ledger.sql("UPDATE ledger_bundle SET entries = ? WHERE number = ?", raw, number)


def set_note(ledger: Ledger, size: int, text: str) -> None:
    ledger.sql("UPDATE ledger_checkpoint SET note = ? WHERE size = ?", text, size)


def root_at(ledger: Ledger, size: int) -> bytes:
    return NaiveTree(ledger.entries()).root(size)


def flip_blob(table: str, column: str, where: str, at: int = 0) -> Callable[[Ledger], None]:
    def damage(ledger: Ledger) -> None:
        ((raw,),) = ledger.sql(f"SELECT {column} FROM {table} WHERE {where}")
        raw = bytes(raw)
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        ledger.sql(f"UPDATE {table} SET {column} = ? WHERE {where}", changed)

    return damage


def run_sql(statement: str, *parameters: object) -> Callable[[Ledger], None]:
    return lambda ledger: ledger.sql(statement, *parameters)


def rebuilt(*entries: bytes, widths: tuple[int, ...] | None = None) -> Callable[[Ledger], None]:
    return lambda ledger: build(ledger, list(entries), widths)


# 1 bundles


def one_bundle_too_narrow(ledger: Ledger) -> None:
    """257 leaves in bundles of 255 and 2: every hash is right, the bundles are no bundles."""
    build(ledger, [version_entry(pointer(n)) for n in range(257)], widths=(255, 2))


def unreadable_entry(ledger: Ledger) -> None:
    build(ledger, [*SMALL, b"\x02" + version_entry(pointer(9))[1:]])


# 2 positions


def move_position(ledger: Ledger) -> None:
    """Leaf 8 is filed under a pointer of which there is no entry."""
    ledger.sql("UPDATE ledger_position SET pointer = ? WHERE leaf = 8", pointer(1 << 60))


# 6 checkpoints


def other_tree_signed(ledger: Ledger) -> None:
    """With the log's own key: the key was stolen, or the log once held another tree."""
    set_note(ledger, 520, signed_note(520, b"\x5a" * 32).format())


def signed_by_another(ledger: Ledger) -> None:
    set_note(ledger, 520, signed_note(520, root_at(ledger, 520), key=OTHER_KEY).format())


def broken_signature(ledger: Ledger) -> None:
    note = signed_note(520, root_at(ledger, 520))
    line = note.signatures[0]
    broken = type(line)(line.name, line.key_id, line.signature[:-1] + b"\x00")
    set_note(ledger, 520, Note(note.text, (broken, *note.signatures[1:])).format())


def stripped_line(ledger: Ledger) -> None:
    """Each of both signatures is required."""
    note = signed_note(520, root_at(ledger, 520))
    set_note(ledger, 520, Note(note.text, note.signatures[:1]).format())


def checkpoint_of_another_log(ledger: Ledger) -> None:
    note = signed_note(520, root_at(ledger, 520), origin="datakluis.example/elders")
    set_note(ledger, 520, note.format())


def checkpoint_in_the_wrong_row(ledger: Ledger) -> None:
    set_note(ledger, 520, signed_note(256, root_at(ledger, 256)).format())


def checkpoint_beyond_the_tree(ledger: Ledger) -> None:
    note = signed_note(601, b"\x5a" * 32).format()
    ledger.sql("INSERT INTO ledger_checkpoint VALUES (601, ?, ?)", note, SIGNED_AT)


def signed_text_is_no_checkpoint(ledger: Ledger) -> None:
    text = "no checkpoint\n"
    set_note(ledger, 520, Note(text, (sign(text, ORIGIN, KEY),)).format())


# 8 signer


def forget(ledger: Ledger) -> None:
    (ledger.signer_folder / LAST_CHECKPOINT).unlink()


def remember_more(ledger: Ledger) -> None:
    ledger.signer.memory.remember(signed_note(SIZE + 1, b"\x5a" * 32))


def remember_another_tree(ledger: Ledger) -> None:
    ledger.signer.memory.remember(signed_note(520, b"\x5a" * 32))


def remember_another_log(ledger: Ledger) -> None:
    root = root_at(ledger, 520)
    ledger.signer.memory.remember(signed_note(520, root, origin="datakluis.example/elders"))


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong.

    Attributes:
        part: of fsck, 1 to 8.
        name: what is wrong.
        damage: does it.
        shown: the places that fsck names, in order.
        without: the code that sees it, taken out in the control.
    """

    part: int
    name: str
    damage: Callable[[Ledger], object]
    shown: list[str]
    without: tuple[str, ...]


FIRST_TILE = "level = 0 AND number = 0"
OF = pointer(0)

CAUSES = [
    Cause(1, "partial bundle before the last", one_bundle_too_narrow, ["entry bundle 0"],
          ("_bundles",)),
    Cause(1, "bundle left over", run_sql("INSERT INTO ledger_bundle VALUES (3, ?)",
          bundle_of(SMALL)), ["entry bundle 3"], ("_bundles",)),
    Cause(1, "bundle left over far away", run_sql("INSERT INTO ledger_bundle VALUES (9, ?)",
          bundle_of(SMALL)), ["entry bundle 3"], ("_bundles",)),
    Cause(1, "bundle left over that does not parse",
          run_sql("INSERT INTO ledger_bundle VALUES (3, ?)", b"\x00"), ["entry bundle 3"],
          ("_bundles",)),
    Cause(1, "entry that does not parse", unreadable_entry, ["entry 6"], ("_entry",)),
    Cause(2, "position missing", run_sql("DELETE FROM ledger_position WHERE leaf = 599"),
          ["entry 599", "positions"], ("_entry", "_derived")),
    Cause(2, "position of no entry", run_sql("INSERT INTO ledger_position VALUES (?, 600)",
          pointer(1 << 60)), ["positions"], ("_derived",)),
    Cause(2, "position under another pointer", move_position, ["entry 8"], ("_entry",)),
    Cause(3, "first version is not 1", rebuilt(version_entry(OF, 2)), ["entry 0"],
          ("_sequence",)),
    Cause(3, "version left out", rebuilt(version_entry(OF), version_entry(OF, 3)), ["entry 1"],
          ("_sequence",)),
    Cause(3, "version twice", rebuilt(version_entry(OF), version_entry(OF)), ["entry 1"],
          ("_sequence",)),
    Cause(3, "version goes back",
          rebuilt(version_entry(OF), version_entry(OF, 2), version_entry(OF)), ["entry 2"],
          ("_sequence",)),
    Cause(3, "version after the erasure",
          rebuilt(version_entry(OF), erasure_entry(OF), version_entry(OF, 2)), ["entry 2"],
          ("_sequence", "_judged")),
    Cause(3, "erased twice", rebuilt(version_entry(OF), erasure_entry(OF), erasure_entry(OF)),
          ["entry 2"], ("_sequence",)),
    Cause(3, "erasure of fewer versions",
          rebuilt(version_entry(OF), version_entry(OF, 2), erasure_entry(OF)), ["entry 2"],
          ("_sequence",)),
    Cause(3, "erasure of more versions", rebuilt(version_entry(OF), erasure_entry(OF, 2)),
          ["entry 1"], ("_sequence",)),
    Cause(3, "erasure of nothing", rebuilt(erasure_entry(OF)), ["entry 0"],
          ("_sequence", "_judged")),
    Cause(3, "group's version twice", rebuilt(version_entry(OF, 1, 1), version_entry(OF, 1, 1)),
          ["entry 1"], ("_sequence",)),
    Cause(3, "group's version goes back",
          rebuilt(version_entry(OF, 3, 1), version_entry(OF, 2, 1)), ["entry 1"], ("_sequence",)),
    Cause(3, "group's version after its erasure",
          rebuilt(version_entry(OF, 1, 1), erasure_entry(OF, 1, 1), version_entry(OF, 2, 1)),
          ["entry 2"], ("_sequence",)),
    Cause(3, "group's erasure of fewer versions",
          rebuilt(version_entry(OF, 2, 1), erasure_entry(OF, 1, 1)), ["entry 1"], ("_sequence",)),
    Cause(3, "erasure of a group that is not there",
          rebuilt(version_entry(OF), erasure_entry(OF, 1, 1)), ["entry 1"], ("_sequence",)),
    Cause(3, "certificate of a living record", rebuilt(version_entry(OF), certificate_entry(OF)),
          ["entry 1"], ("_sequence",)),
    Cause(3, "certificate of nothing", rebuilt(certificate_entry(OF)), ["entry 0"],
          ("_sequence",)),
    Cause(3, "certificate of another group", rebuilt(version_entry(OF), version_entry(OF, 1, 1),
          erasure_entry(OF, 1, 1), certificate_entry(OF)), ["entry 3"], ("_sequence",)),
    Cause(3, "first certificate is not 1", rebuilt(version_entry(OF), erasure_entry(OF),
          certificate_entry(OF, 2)), ["entry 2"], ("_sequence",)),
    Cause(3, "certificate left out", rebuilt(version_entry(OF), erasure_entry(OF),
          certificate_entry(OF), certificate_entry(OF, 3)), ["entry 3"], ("_sequence",)),
    Cause(3, "certificate twice", rebuilt(version_entry(OF), erasure_entry(OF),
          certificate_entry(OF), certificate_entry(OF)), ["entry 3"], ("_sequence",)),
    Cause(3, "version after the certificate", rebuilt(version_entry(OF), erasure_entry(OF),
          certificate_entry(OF), version_entry(OF, 2)), ["entry 3"], ("_sequence", "_judged")),
    Cause(3, "generation destroyed twice", rebuilt(shred_entry(OF), shred_entry(OF)),
          ["entry 1"], ("_sequence",)),
    Cause(3, "generation destroyed too late",
          rebuilt(shred_entry(OF, 1, 2), shred_entry(OF, 0, 1), shred_entry(OF, 1, 1)),
          ["entry 2"], ("_sequence",)),
    Cause(4, "hash changed", flip_blob("ledger_tile", "hashes", FIRST_TILE, at=40),
          ["tile 0 at level 0"], ("_derived",)),
    Cause(4, "hash left out", run_sql("UPDATE ledger_tile SET hashes = substr(hashes, 1, 8160)"
          f" WHERE {FIRST_TILE}"), ["tile 0 at level 0"], ("_derived",)),
    Cause(4, "tile missing", run_sql(f"DELETE FROM ledger_tile WHERE {FIRST_TILE}"),
          ["tile 0 at level 0"], ("_derived",)),
    Cause(4, "tile left over", run_sql("INSERT INTO ledger_tile VALUES (0, 3, ?)", bytes(32)),
          ["tile 3 at level 0"], ("_derived",)),
    Cause(4, "tile left over on a new level",
          run_sql("INSERT INTO ledger_tile VALUES (2, 0, ?)", bytes(32)), ["tile 0 at level 2"],
          ("_derived",)),
    # The signer compares these two with what it signed, so it sees them as well.
    Cause(4, "hash changed in the level above",
          flip_blob("ledger_tile", "hashes", "level = 1 AND number = 0"),
          ["tile 0 at level 1", "signer"], ("_derived", "_signer")),
    Cause(5, "root changed", flip_blob("ledger_head", "root", "id = 1"),
          ["ledger head", "signer"], ("_derived", "_signer")),
    Cause(6, "another tree signed by the log's key", other_tree_signed,
          ["checkpoint of 520 leaves"], ("_checkpoints",)),
    Cause(6, "signed by another key", signed_by_another, ["checkpoint of 520 leaves"],
          ("_checkpoints",)),
    Cause(6, "a signature line stripped", stripped_line, ["checkpoint of 520 leaves"],
          ("_checkpoints",)),
    Cause(6, "signature broken", broken_signature, ["checkpoint of 520 leaves"],
          ("_checkpoints",)),
    Cause(6, "another log's", checkpoint_of_another_log, ["checkpoint of 520 leaves"],
          ("_checkpoints",)),
    Cause(6, "in the row of another size", checkpoint_in_the_wrong_row,
          ["checkpoint of 520 leaves"], ("_checkpoints",)),
    Cause(6, "beyond the tree", checkpoint_beyond_the_tree, ["checkpoint of 601 leaves"],
          ("_checkpoints",)),
    Cause(6, "no note", lambda ledger: set_note(ledger, 520, "no note"),
          ["checkpoint of 520 leaves"], ("_checkpoints",)),
    Cause(6, "no checkpoint in the note", signed_text_is_no_checkpoint,
          ["checkpoint of 520 leaves"], ("_checkpoints",)),
    Cause(7, "waiting entry does not parse",
          run_sql("UPDATE ledger_pending SET entry = x'00' WHERE id = (SELECT max(id) FROM"
                  " ledger_pending)"), ["pending entry 2"], ("_pending",)),
    Cause(8, "memory missing", forget, ["signer"], ("_signer",)),
    Cause(8, "signed more than there is", remember_more, ["signer"], ("_signer",)),
    Cause(8, "signed another tree", remember_another_tree, ["signer"], ("_signer",)),
    Cause(8, "signed for another log", remember_another_log, ["signer"], ("_signer",)),
]  # fmt: skip


def lax_bundles(self: Fsck, head):
    """Part 1 taken out: the first entries that can be read, cut anew, whatever holds them."""
    rows = self._connection.exec_driver_sql("SELECT entries FROM ledger_bundle ORDER BY number")
    entries: list[bytes] = []
    for (raw,) in rows:
        raw = bytes(raw)
        while len(raw) > 2:
            length = 2 + int.from_bytes(raw[:2], "big")
            entries.append(raw[2:length])
            raw = raw[length:]
    for start in range(0, head.size, TILE_WIDTH):
        yield entries[start : min(start + TILE_WIDTH, head.size)]


def take_out(patch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    for name in names:
        hollow = {
            "_bundles": lax_bundles,
            "_sequence": lambda self, *rest: None,
            "_judged": lambda self, *rest: None,
        }
        patch.setattr(Fsck, name, hollow.get(name, lambda self, *rest: iter(())))


def test_a_sound_ledger_has_no_fault(ledger, small):
    assert ledger.faults() == []
    assert small.faults() == []
    with small.read() as seen:
        fsck = Fsck(seen, small.signer.memory)
        assert list(fsck.run()) == []
    assert list(fsck.counts.values()) == [5, 1, 0, 0, 0, 0]


def test_er5_a_sound_ledger_with_every_kind_of_entry(small):
    """A group that joins late, misses versions, goes alone, and is erased at a later version."""
    of, tenant = pointer(0), pointer(1 << 63)
    build(
        small,
        [
            version_entry(of),
            version_entry(of, 1, 1),
            version_entry(of, 2),
            version_entry(of, 2, 15),
            version_entry(of, 3),
            version_entry(of, 3, 1),
            erasure_entry(of, 3, 15),
            shred_entry(tenant),
            certificate_entry(of, 1, 15),
            shred_entry(tenant, 1, 2),
            certificate_entry(of, 2, 15),
            version_entry(of, 4),
            erasure_entry(of, 4),
            erasure_entry(of, 4, 1),
            certificate_entry(of),
            shred_entry(tenant, 0, 3),
            certificate_entry(of, 2),
            certificate_entry(of, 1, 1),
        ],
    )
    with small.read() as seen:
        fsck = Fsck(seen, small.signer.memory)
        assert list(fsck.run()) == []
    assert list(fsck.counts.values()) == [7, 3, 5, 3, 0, 0]


def test_a_random_ledger_with_every_kind_of_entry_is_sound(tmp_path):
    with Ledger(tmp_path) as ledger:
        for _ in range(4):
            ledger.checkpoint(RECORDS.take(300))
        kinds = Counter(entry[1] for entry in ledger.entries())
        print(f"1,200 entries by kind: {dict(kinds)}, 0 faults")
        assert ledger.faults() == []
        assert set(kinds) == {1, 2, 3, 4}
        with ledger.read() as seen:
            fsck = Fsck(seen, ledger.signer.memory)
            assert list(fsck.run()) == []
        assert +Counter(fsck.counts) == kinds


def test_every_part_has_a_cause():
    described = [
        line.split()[:2]
        for line in fsck_module.__doc__.splitlines()
        if line.startswith("    ") and line.split()[0].isdigit()
    ]
    numbers = {cause.part for cause in CAUSES}
    print(f"{len(CAUSES)} causes for {len(described)} parts")
    assert [int(number) for number, _ in described] == [*sorted(numbers), 9]
    assert sorted(numbers) == list(range(1, 9))  # What part 9 sees is in a table of its own.


@pytest.mark.parametrize("cause", CAUSES, ids=[f"{c.part} {c.name}" for c in CAUSES])
def test_each_cause_is_named_by_its_part_alone(ledger, monkeypatch, cause):
    cause.damage(ledger)
    faults = ledger.faults()
    assert [fault.where for fault in faults] == cause.shown
    assert all(str(fault) == f"{fault.where}: {fault.what}" for fault in faults)
    # Control: without the code that is to see it, it goes unseen.
    with monkeypatch.context() as patch:
        take_out(patch, cause.without)
        assert ledger.faults() == []
    # And each part of that code is needed.
    if len(cause.without) > 1:
        for kept in cause.without:
            with monkeypatch.context() as patch:
                take_out(patch, tuple(name for name in cause.without if name != kept))
                assert ledger.faults() != []


# 9 governance


def governed_ledger(ledger: Ledger, entries: list[bytes]) -> None:
    """Lay a ledger over these entries, with the state that the valid ones among them make."""
    state = GovernanceState()
    for index, data in enumerate(entries):
        entry = parse_entry(data)
        if entry.kind is EntryKind.GOVERNANCE:
            try:
                state = judge(ORIGIN, state, entry, index, None)
            except NotValid:
                break
    ledger.sql("DELETE FROM ledger_governance")
    if state.founded:
        ledger.sql("INSERT INTO ledger_governance VALUES (1, ?, ?)", state.encode(), state.stopped)
    build(ledger, entries)


GOVERNED = encode_version(OF, 1, b"c" * 32, governed=True)
LIST = Listed(OF)
ENACTED = governance_entries.entry(LIST.action(), 2, "officer", "archivist")
STOPPED = governance_entries.entry(Stop(), 2, "auditor")
PLACE = encode_listed_erasure(OF, 1, Membership(2, 0, ()))
NOT_VALID = [
    ([FOUNDING, governance_entries.entry(LIST.action(), 2, "officer")],
     "lacks 1 more of 2 approvals by officer or archivist"),
    ([FOUNDING, ENACTED, ENACTED], "makes state 2, after state 2"),
    ([FOUNDING, version_entry(OF), governance_entries.entry(Stop(), 2, "officer", expiry=2)],
     "carries an approval that expired at 2 leaves"),
    ([FOUNDING, governance_entries.entry(Stop(), 2, "officer", origin="datakluis.example/elders")],
     "carries an approval that does not hold for it"),
    ([FOUNDING, governance_entries.entry(Stop(), 2, "stranger")],
     "carries an approval by a key that is no member's"),
    ([GOVERNED, erasure_entry(OF)], "erases what only an enacted list can have erased"),
    ([GOVERNED, version_entry(OF, 2)], "changes whether its record can be erased without a list"),
    ([GOVERNED, FOUNDING, PLACE], "names list 2, which was not enacted"),
    ([version_entry(pointer(5)), FOUNDING, ENACTED,
      encode_listed_erasure(pointer(5), 1, Membership(2, 0, ()))],
     "does not prove its place on list 2"),
    ([FOUNDING, STOPPED, version_entry(OF)], "is a new record in a ledger that is stopped"),
    ([version_entry(OF), erasure_entry(OF), version_entry(OF, 1, 1)],
     "is a version of a record that was erased"),
    ([version_entry(bytes(16))], "stands under the pointer of governance entries"),
]  # fmt: skip


@pytest.mark.parametrize(("entries", "words"), NOT_VALID, ids=[words for _, words in NOT_VALID])
def test_go2_the_first_entry_that_the_rules_do_not_allow_is_named(
    small, monkeypatch, entries, words
):
    governed_ledger(small, entries)
    (fault,) = small.faults()
    assert str(fault) == f"entry {len(entries) - 1}: {words}"
    # Control: without the rules it goes unseen.
    with monkeypatch.context() as patch:
        take_out(patch, ("_judged", "_stored_governance"))
        assert small.faults() == []


def test_behind_a_governance_entry_that_is_not_valid_no_rule_is_checked(small):
    bad = governance_entries.entry(LIST.action(), 2, "officer")
    governed_ledger(small, [FOUNDING, bad, GOVERNED, PLACE, STOPPED])
    assert small.wheres() == ["entry 1"]


def test_a_governed_ledger_without_fault_and_its_counts(small):
    entries = [GOVERNED, FOUNDING, ENACTED, PLACE, version_entry(pointer(3))]
    entries += [governance_entries.entry(Stop(), 3, "auditor"), version_entry(pointer(3), 2)]
    governed_ledger(small, entries)
    with small.read() as seen:
        fsck = Fsck(seen, small.signer.memory)
        assert list(fsck.run()) == []
    assert +Counter(fsck.counts) == {1: 3, 5: 3, 6: 1}


def test_go3_what_waits_is_judged_behind_what_waits_before_it(small):
    governed_ledger(small, [FOUNDING, GOVERNED])
    waiting = [ENACTED, PLACE, version_entry(pointer(4)), version_entry(pointer(4), 2)]
    with small.write() as connection:
        governing.append_governance(connection, ORIGIN, waiting[0])
    small.put(waiting[1:])
    assert small.faults() == []
    small.put([version_entry(pointer(4), 3), erasure_entry(pointer(9)), version_entry(OF, 2)])
    assert [str(fault) for fault in small.faults()] == [
        "pending entry 6: erases a record of which there is no version",
        "pending entry 7: is a version of a record that was erased",
    ]
    small.put([STOPPED])
    assert "pending entry 8: makes state 2, after state 2" in map(str, small.faults())


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ledger_governance",
        "UPDATE ledger_governance SET stopped = 1",
        "UPDATE ledger_governance SET state = x'00'",
    ],
)
def test_another_stored_state_is_named(small, monkeypatch, statement):
    governed_ledger(small, [FOUNDING, GOVERNED])
    small.sql(statement)
    assert [str(fault) for fault in small.faults()] == [
        "governance: the stored state is not that of the entries"
    ]
    take_out(monkeypatch, ("_stored_governance",))
    assert small.faults() == []


def test_a_stored_state_of_an_ungoverned_ledger_is_named(small):
    governed_ledger(small, [FOUNDING])
    build(small, SMALL)
    assert small.wheres() == ["governance"]


def test_a_fault_says_what_is_wrong_and_names_the_record(ledger):
    rebuilt(version_entry(OF), version_entry(OF, 3))(ledger)
    (fault,) = ledger.faults()
    name = format_pointer(OF)
    assert str(fault) == f"entry 1: says version 3 of record {name}, not 2"


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([version_entry(OF, 2, 3), version_entry(OF, 2, 3)],
         "says version 2 of group 3 of {}, not 3 or later"),
        ([erasure_entry(OF)], "is the erasure of {}, of which there is no version"),
        ([version_entry(OF), erasure_entry(OF), erasure_entry(OF)], "follows the erasure of {}"),
        ([version_entry(OF), certificate_entry(OF)],
         "is a certificate of {}, which was not erased"),
        ([version_entry(OF), erasure_entry(OF), certificate_entry(OF, 3)],
         "is certificate 3 of {}, not 1"),
    ],
)  # fmt: skip
def test_what_a_fault_says_about_each_kind(small, entries, words):
    build(small, entries)
    (fault,) = small.faults()
    assert fault.where == f"entry {len(entries) - 1}"
    record = f"record {format_pointer(OF)}"
    assert fault.what.replace(record, "{}") == words


def test_what_a_fault_says_about_a_generation(small):
    build(small, [shred_entry(OF, 0, 4), shred_entry(OF, 0, 3)])
    (fault,) = small.faults()
    assert fault.what == f"destroys generation 3 of tenant {format_pointer(OF)} after 4"


def test_a_missing_bundle_is_named(ledger):
    for number in (0, 1, 2):
        ((raw,),) = ledger.sql("SELECT entries FROM ledger_bundle WHERE number = ?", number)
        ledger.sql("DELETE FROM ledger_bundle WHERE number = ?", number)
        assert ledger.wheres() == [f"entry bundle {number}"]
        ledger.sql("INSERT INTO ledger_bundle VALUES (?, ?)", number, raw)
    assert ledger.faults() == []


@pytest.mark.parametrize("size", [0, 1, 255, 256, 599, 601, 768, 769, 2**62])
def test_a_head_of_another_size_is_named(ledger, size):
    ledger.sql("UPDATE ledger_head SET size = ?", size)
    faults = ledger.faults()
    assert len(faults) == 1
    assert faults[0].where.startswith("entry bundle")


def test_one_fault_does_not_hide_the_others(ledger):
    """Damage in six parts at once: each is named."""
    flip_blob("ledger_tile", "hashes", FIRST_TILE)(ledger)
    flip_blob("ledger_head", "root", "id = 1")(ledger)
    ledger.sql("DELETE FROM ledger_position WHERE leaf = 599")
    other_tree_signed(ledger)
    ledger.sql("UPDATE ledger_pending SET entry = x''")
    forget(ledger)
    assert ledger.wheres() == [
        "entry 599",
        "positions",
        "tile 0 at level 0",
        "ledger head",
        "checkpoint of 520 leaves",
        "pending entry 1",
        "pending entry 2",
        "signer",
    ]


# LG1: an edit of the entries.


def test_lg1_every_flipped_bit_of_an_entry_is_detected(small):
    """In the length, head, pointer, version or commitment: all bits of two, one per byte of all."""
    whole = bundle_of(SMALL)
    starts = [len(bundle_of(SMALL[:leaf])) for leaf in range(len(SMALL) + 1)]
    flipped = named = 0
    for place in range(len(whole)):
        leaf = next(n for n, end in enumerate(starts[1:]) if place < end)
        for bit in range(8) if leaf in (2, 4) else [place % 8]:
            changed = bytes([whole[place] ^ 1 << bit])
            set_bundle(small, 0, whole[:place] + changed + whole[place + 1 :])
            wheres = small.wheres()
            assert wheres, (place, bit)
            flipped += 1
            named += {f"entry {leaf}", "entry bundle 0", "tile 0 at level 0"} & set(wheres) != set()
    print(f"{flipped} flipped bits, {named} named by entry, bundle or tile")
    assert named == flipped > len(whole)
    set_bundle(small, 0, whole)
    assert small.faults() == []


@pytest.mark.parametrize("field", [(0, "format"), (1, "kind"), (2, "suite"), (3, "group")])
def test_lg1_a_version_after_an_entry_that_does_not_parse_is_checked_on(small, field):
    """The damaged entry is named, and fsck goes on to the end of the ledger."""
    place, _ = field
    broken = bytearray(SMALL[0])
    broken[place] ^= 0x40
    set_bundle(small, 0, bundle_of([bytes(broken), *SMALL[1:]]))
    forget(small)
    wheres = small.wheres()
    assert wheres[0] == "entry 0"
    assert wheres[-4:] == [
        "tile 0 at level 0",
        "ledger head",
        "checkpoint of 6 leaves",
        "signer",
    ]


@pytest.mark.parametrize("leaf", [-1, 10**9])
def test_a_position_far_outside_the_tree_is_named(small, leaf):
    small.sql("INSERT INTO ledger_position VALUES (?, ?)", pointer(0), leaf)
    assert "positions" in small.wheres()


def reorder(entries: list[bytes]) -> list[bytes]:
    return [entries[1], entries[0], *entries[2:]]


EDITS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "flipped": (lambda e: [e[0][:-1] + bytes([e[0][-1] ^ 1]), *e[1:]], "tile 0 at level 0"),
    "reordered": (reorder, "entry 0"),
    "two versions of a record reordered": (lambda e: [e[2], e[1], e[0], *e[3:]], "entry 0"),
    "first deleted": (lambda e: e[1:], "entry bundle 0"),
    "last deleted": (lambda e: e[:-1], "entry bundle 0"),
    "duplicated": (lambda e: [e[0], *e], "entry bundle 0"),
    "added": (lambda e: [*e, version_entry(pointer(8))], "entry bundle 0"),
    "replaced": (lambda e: [*e[:-1], version_entry(pointer(8))], "entry 5"),
}


@pytest.mark.parametrize(("edit", "named"), EDITS.values(), ids=list(EDITS))
def test_lg1_an_edited_entry_is_detected_and_named(small, edit, named):
    set_bundle(small, 0, bundle_of(edit(SMALL)))
    assert small.wheres()[0] == named


@pytest.mark.parametrize(("edit", "named"), EDITS.values(), ids=list(EDITS))
def test_lg1_an_edit_that_also_moved_the_head_is_named(small, edit, named):
    """The head's size is made to fit; the entries that are no longer where they were are named."""
    entries = edit(SMALL)
    set_bundle(small, 0, bundle_of(entries))
    small.sql("UPDATE ledger_head SET size = ?", len(entries))
    wheres = small.wheres()
    assert any(where.startswith(("entry ", "tile")) for where in wheres)
    assert "ledger head" in wheres


@pytest.mark.parametrize(("edit", "named"), EDITS.values(), ids=list(EDITS))
def test_lg1_an_edit_that_rewrote_everything_derived_is_caught_by_the_signature(
    small, edit, named, monkeypatch
):
    """Bundles, tiles, positions and head all agree with the edit; the signed checkpoint does not.

    Rewriting needs the origin's key. Control: without the two parts on signatures all edits pass,
    but for those that break the sequence of a record.
    """
    checkpoints = small.sql("SELECT * FROM ledger_checkpoint")
    remembered = (small.signer_folder / LAST_CHECKPOINT).read_bytes()
    build(small, edit(SMALL))
    small.sql("DELETE FROM ledger_checkpoint")
    small.sql("INSERT INTO ledger_checkpoint VALUES (?, ?, ?)", *checkpoints[0])
    (small.signer_folder / LAST_CHECKPOINT).write_bytes(remembered)
    wheres = small.wheres()
    assert wheres[-2:] == ["checkpoint of 6 leaves", "signer"] or (
        # What only adds behind the signed tree keeps it, and is for the next signature to take.
        wheres == [] and edit(SMALL)[: len(SMALL)] == SMALL
    )
    take_out(monkeypatch, ("_checkpoints", "_signer", "_sequence"))
    assert small.faults() == []


@pytest.mark.parametrize("seed", range(3))
def test_lg1_random_edits_of_a_larger_ledger_are_all_detected(ledger, seed):
    draws = random.Random(seed)
    entries = ledger.entries()
    raws = {n: bundle_of(entries[256 * n : 256 * (n + 1)]) for n in range(3)}
    for _ in range(15):
        number = draws.randrange(3)
        own = entries[256 * number : 256 * (number + 1)]
        place, other = draws.sample(range(len(own)), 2)
        changed = own.copy()
        kind = draws.choice(["swap", "drop", "copy", "flip"])
        if kind == "swap":
            changed[place], changed[other] = own[other], own[place]
        elif kind == "drop":
            del changed[place]
        elif kind == "copy":
            changed[place] = own[other]
        else:
            at = draws.randrange(len(own[place]))
            changed[place] = own[place][:at] + bytes([own[place][at] ^ 4]) + own[place][at + 1 :]
        set_bundle(ledger, number, bundle_of(changed))
        wheres = ledger.wheres()
        leaves = {f"entry {256 * number + n}" for n in (place, other)}
        assert set(wheres) & (leaves | {f"entry bundle {number}", f"tile {number} at level 0"})
        set_bundle(ledger, number, raws[number])
    assert ledger.faults() == []


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 513, 1_000])
def test_the_recomputed_tree_is_that_of_the_specification(size):
    """fsck's own tree, against the recursion of RFC 6962 and the formula of C2SP tlog-tiles."""
    entries = [version_entry(pointer(n)) for n in range(size)]
    tree, expected = fsck_module._Recomputed(), NaiveTree(entries)
    for count, entry in enumerate(entries, 1):
        tree.append(fsck_module.leaf_hash(entry))
        if count % 37 == 0 or count > size - 3:
            assert tree.root() == expected.root(count)
    assert tree.size == size
    places = {(0, n) for n in range(-(-size // 256))} | {
        (1, n) for n in range(-(-(size // 256) // 256))
    }
    assert dict(tree.finished()) == {
        place: fsck_module._digest(expected.tile(*place, size)) for place in places
    }


def test_an_empty_ledger_is_sound_and_its_damage_is_seen(tmp_path):
    with Ledger(tmp_path) as ledger:
        assert ledger.faults() == []
        ledger.sql("INSERT INTO ledger_tile VALUES (0, 0, ?)", bytes(32))
        assert ledger.wheres() == ["tile 0 at level 0"]
        ledger.sql("DELETE FROM ledger_tile")
        ledger.sql("UPDATE ledger_head SET root = ?", bytes(32))
        assert ledger.wheres() == ["ledger head", "signer"]
        ledger.sql("UPDATE ledger_head SET root = ?, size = -1", NaiveTree([]).root(0))
        assert ledger.wheres() == ["ledger head", "signer"]


def test_fsck_writes_nothing(ledger):
    before = ledger.dump()
    ledger.faults()
    flip_blob("ledger_tile", "hashes", FIRST_TILE)(ledger)
    damaged = ledger.dump()
    assert damaged != before
    ledger.faults()
    assert ledger.dump() == damaged


def test_fsck_checks_one_picture_while_the_log_grows(ledger):
    with ledger.read() as seen:
        run = Fsck(seen, signer_of(ledger.signer_folder).memory).run()
        Log(seen.connection).head()
        with ledger.write() as connection:
            log.append_pending(connection, [version_entry(pointer(1 << 55))])
        ledger.integrate()
        assert list(run) == []
    assert ledger.faults() == []
