"""The check of what the anchoring job stored names each fault."""

import pytest
from anchor_samples import world

from anchor.local import LocalTarget
from ledger.note import Note, sign

NOW = 1


@pytest.fixture
def two_anchors(anchored_ledger):
    for _ in range(2):
        anchored_ledger.add(2)
        anchored_ledger.sign()
        anchored_ledger.run()
    return anchored_ledger


def change(ledger, statement: str, *values: object) -> None:
    with ledger.write() as connection:
        assert connection.exec_driver_sql(statement, values).rowcount > 0


NOT_KEPT = "is not in the local anchor's file"
STATEMENT = "anchor statement of 4 leaves: does not hold: "
RECEIPT = "local receipt for 4 leaves: "


def test_all_is_well(two_anchors):
    assert two_anchors.faults() == []


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE anchor_statement SET statement = 'x' WHERE size = 4", "not an anchor statement"),
        ("UPDATE anchor_statement SET statement = x'00ff' WHERE size = 4", "not an anchor"),
        (
            "UPDATE anchor_statement SET statement = statement || ' ' WHERE size = 4",
            "not an anchor statement",
        ),
        (
            "UPDATE anchor_statement SET statement = (SELECT statement FROM anchor_statement"
            " WHERE size = 2) WHERE size = 4",
            "it is not about the checkpoint of that size",
        ),
        ("DELETE FROM ledger_checkpoint WHERE size = 4", "there is no checkpoint of that size"),
        ("UPDATE ledger_checkpoint SET note = 'x' WHERE size = 4", "not a signed note"),
        (
            "UPDATE ledger_checkpoint SET note = replace(note, char(10) || '4' || char(10),"
            " char(10) || '5' || char(10)) WHERE size = 4",
            "does not verify",
        ),
    ],
)  # fmt: skip
def test_a_statement_that_does_not_hold(two_anchors, statement, fault):
    change(two_anchors, statement)
    (found,) = two_anchors.faults()
    assert found.startswith(STATEMENT)
    assert fault in found


def test_a_checkpoint_that_a_stranger_signed(two_anchors):
    text = Note.parse(
        two_anchors.rows("SELECT note FROM ledger_checkpoint WHERE size = 4")[0][0].encode()
    ).text
    name, key = world.STRANGER[0].name, world.STRANGER[1]
    note = Note(text, (sign(text, name, key),)).format()
    change(two_anchors, "UPDATE ledger_checkpoint SET note = ? WHERE size = 4", note)
    (found,) = two_anchors.faults()
    assert found.startswith(f"{STATEMENT}no signature of {world.ORIGIN}")


@pytest.mark.parametrize(
    ("statement", "faults"),
    [
        (
            "UPDATE anchor_receipt SET receipt = 'x' WHERE size = 4",
            [f"{RECEIPT}not a local receipt: not a signed note"],
        ),
        (
            "UPDATE anchor_receipt SET receipt = x'ff' WHERE size = 4",
            [f"{RECEIPT}not a local receipt"],
        ),
        (
            "UPDATE anchor_receipt SET receipt = (SELECT receipt FROM anchor_receipt"
            " WHERE size = 2) WHERE size = 4",
            [f"{RECEIPT}is for another statement"],
        ),
        (
            "UPDATE anchor_receipt SET target = 'moon' WHERE size = 4",
            ["unknown receipt for 4 leaves: is of a target that this version does not know"],
        ),
        (
            "DELETE FROM anchor_statement WHERE size = 4",
            [f"{RECEIPT}is for a statement that is gone"],
        ),
    ],
)
def test_a_receipt_that_does_not_hold(two_anchors, statement, faults):
    change(two_anchors, statement)
    found = two_anchors.faults()
    assert len(found) == len(faults)
    for one, expected in zip(found, faults, strict=True):
        assert one.startswith(expected)


def test_a_receipt_that_another_key_signed(two_anchors, tmp_path):
    digest = two_anchors.receipts()[1].digest
    other = LocalTarget(tmp_path / "x" / "y", world.ORIGIN, world.STRANGER[1], NOW)
    change(
        two_anchors, "UPDATE anchor_receipt SET receipt = ? WHERE size = 4", other.submit(digest)
    )
    (found,) = two_anchors.faults()
    assert found.startswith(f"{RECEIPT}no signature of {world.ORIGIN}/local-anchor")


def test_a_receipt_that_the_file_lacks(two_anchors, tmp_path):
    """The right key, the right digest, and yet never given by this anchor."""
    digest = two_anchors.receipts()[1].digest
    other = LocalTarget(tmp_path / "x" / "y", world.ORIGIN, world.ANCHOR[1], NOW)
    change(
        two_anchors, "UPDATE anchor_receipt SET receipt = ? WHERE size = 4", other.submit(digest)
    )
    assert two_anchors.faults() == [RECEIPT + NOT_KEPT]


def test_the_file_is_gone(two_anchors):
    two_anchors.path.unlink()
    assert two_anchors.faults() == [
        f"local receipt for 2 leaves: {NOT_KEPT}",
        f"local receipt for 4 leaves: {NOT_KEPT}",
    ]


def test_the_file_lost_its_end(two_anchors):
    """A cut that looks like a crash: what was given out is missed all the same."""
    two_anchors.path.write_bytes(two_anchors.path.read_bytes()[:-1])
    assert two_anchors.faults() == [RECEIPT + NOT_KEPT]


def test_the_file_was_changed(two_anchors):
    two_anchors.path.write_bytes(two_anchors.path.read_bytes().replace(b"\n0\n", b"\n1\n", 1))
    found = two_anchors.faults()
    assert found[0] == f"local anchor: receipt 0 in {two_anchors.path} was changed"
    assert len(found) == 3


def test_receipts_that_only_the_file_knows_are_no_fault(two_anchors):
    """A crash between the answer and its storing leaves them; running again takes them over."""
    change(two_anchors, "DELETE FROM anchor_receipt WHERE size = 4")
    assert two_anchors.faults() == []
    two_anchors.run()
    assert len(two_anchors.receipts()) == 2
    assert two_anchors.faults() == []
