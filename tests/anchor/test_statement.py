"""The anchor statement: one text for one checkpoint and one set of keys, and its digest (LG3)."""

import hashlib
from dataclasses import replace

import pytest
from anchor_samples import golden, world

from anchor.errors import BadFile
from anchor.statement import AnchorStatement
from ledger.errors import BadSignature
from ledger.note import sign

GOLDEN = golden("statement")["statements"]
FIRST, SECOND = world.FIRST[0], world.SECOND[0]


@pytest.mark.parametrize("one", GOLDEN)
def test_what_a_statement_looks_like(one):
    lines = one["statement"].split("\n")
    assert lines[:3] == ["datakluis/anchor-statement/1", world.ORIGIN, str(one["size"])]
    assert lines[4] == ""
    assert all(line.startswith("— ") for line in lines[5:-1])
    assert lines[-1] == ""


def test_cosignatures_of_others_stay_out():
    """The digest does not depend on who answered in time."""
    note = world.checkpoint(7)
    cosigned = replace(
        note,
        signatures=(
            sign(note.text, world.STRANGER[0].name, world.STRANGER[1]),
            *note.signatures,
        ),
    )
    assert AnchorStatement.of(cosigned, [FIRST]) == AnchorStatement.of(note, [FIRST])
    assert AnchorStatement.of(cosigned, [FIRST]).digest() == world.statement(7).digest()


def test_the_order_is_that_of_the_keys():
    note = world.checkpoint(7, "joined")
    turned = replace(note, signatures=note.signatures[::-1])
    for found in (note, turned):
        assert AnchorStatement.of(found, [FIRST, SECOND]) == world.statement(7, "joined")
    assert AnchorStatement.of(note, [SECOND, FIRST]) != world.statement(7, "joined")


@pytest.mark.parametrize("keys", [[], [SECOND], [FIRST, SECOND]])
def test_no_statement_without_the_signature_of_each_key(keys):
    with pytest.raises(BadSignature):
        AnchorStatement.of(world.checkpoint(7), keys)


TEXT = GOLDEN[0]["statement"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT.partition("\n")[2],
        TEXT.replace("statement/1", "statement/2"),
        TEXT.replace("\n", "\r\n"),
        TEXT[:-1],
        TEXT + "\n",
        TEXT.replace("\n4\n", "\n04\n"),
        TEXT.replace("\n4\n", "\n4\nextra\n"),
        TEXT.rpartition("\n\n")[0] + "\n\n",
        TEXT.replace("datakluis.example", "\ud800"),
        " " + TEXT,
    ],
)
def test_other_texts_are_no_statements(text):
    with pytest.raises(BadFile, match="not an anchor statement"):
        AnchorStatement.parse(text)


def test_the_digest_is_that_of_the_file():
    for one in GOLDEN:
        digest = AnchorStatement.parse(one["statement"]).digest()
        assert len(digest) == 32
        assert digest == hashlib.sha256(one["statement"].encode()).digest()
    assert len({one["digest"] for one in GOLDEN}) == 14
