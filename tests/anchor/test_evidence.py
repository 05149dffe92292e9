"""Evidence files: read as written, refused in any other spelling, silent in a repr."""

import json
import re

import pytest
from anchor_samples import EVIDENCE, TRUST, outcome, world
from hypothesis import given
from hypothesis import strategies as st

from anchor.errors import BadFile
from anchor.evidence import MAX_BYTES, MAX_GROUPS, Evidence, Group, Opening
from anchor.statement import AnchorStatement
from ledger.checkpoint import Checkpoint
from ledger.entry import parse_entry
from ledger.note import Note, sign
from ledger.tlogproof import LogProof

WHOLE = "version, two checkpoints"


def spelt(document: object) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def changed(name: str, **members: object) -> bytes:
    return spelt({**json.loads(EVIDENCE[name]), **members})


GROUPS = json.loads(EVIDENCE[WHOLE])["groups"]
OPENING = json.loads(EVIDENCE[WHOLE])["opening"]
KEY = OPENING["commitment_key"]
ERASURE = json.loads(EVIDENCE["erasure"])["entry"]
OTHER_LOG = json.loads(EVIDENCE[WHOLE].replace(b"example/hoorn", b"example/edams"))["groups"]


def group(**members: object) -> list[dict]:
    return [{**GROUPS[0], **members}]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not JSON in UTF-8; is it whole?"),
        (EVIDENCE[WHOLE][:-4], "is not JSON in UTF-8; is it whole?"),
        (b"[" * 100_000, "is not JSON in UTF-8"),
        (b"[]\n", "is not a JSON object"),
        (b"{}\n", "has another format than 'datakluis-evidence/1'"),
        (changed(WHOLE, format="datakluis-evidence/2"), "has another format"),
        (changed(WHOLE, entry=7), "lacks the text 'entry'"),
        (changed(WHOLE, entry="0A"), "'entry' in the evidence file is not lower-case hex"),
        (changed(WHOLE, entry="0 1"), "'entry' in the evidence file is not lower-case hex"),
        (changed(WHOLE, entry="é"), "lower-case hex"),
        (changed(WHOLE, entry="00"), "does not hold what it should: entry of 1 bytes"),
        (changed(WHOLE, entry=ERASURE[:2] + "07" + ERASURE[4:]), "kind 7"),
        (changed(WHOLE, entry=ERASURE[:2] + "05" + ERASURE[4:]), "under the pointer of a record"),
        (changed(WHOLE, entry=ERASURE[:2] + "03" + ERASURE[4:]), "kind 3 with 0 bytes where 32 go"),
        (changed(WHOLE, entry=ERASURE[:6] + "10" + ERASURE[8:]), "for group 16"),
        (changed(WHOLE, groups={}), "lacks the array of objects 'groups'"),
        (changed(WHOLE, groups=["x"]), "lacks the array of objects 'groups'"),
        (changed(WHOLE, groups=[]), "has 0 groups, not 1 to 64"),
        (changed(WHOLE, groups=GROUPS[:1] * 65), "has 65 groups, not 1 to 64"),
        (changed(WHOLE, groups=GROUPS[::-1]), "not in the order of their checkpoints"),
        (changed(WHOLE, groups=GROUPS[:1] * 2), "not in the order of their checkpoints"),
        (changed(WHOLE, groups=[GROUPS[0], OTHER_LOG[1]]), "mixes the checkpoints of several logs"),
        (changed(WHOLE, groups=group(proof="x")), "not a log proof"),
        (changed(WHOLE, groups=group(statement="x")), "not an anchor statement"),
        (changed(WHOLE, groups=group(anchors=None)), "lacks the array of objects 'anchors'"),
        (changed(WHOLE, groups=group(anchors=[{"target": "moon"}])), "anchor of an unknown kind"),
        (changed(WHOLE, groups=group(anchors=[{"target": "local"}])), "lacks the text 'receipt'"),
        (
            changed(WHOLE, groups=group(anchors=[{"target": "local", "receipt": "x"}])),
            "not a local receipt",
        ),
        (
            changed(WHOLE, groups=group(anchors=GROUPS[0]["anchors"] * 2)),
            "has two anchors of one kind for one checkpoint",
        ),
        (changed(WHOLE, opening=None), "has an opening where none can be"),
        (changed("erasure", opening=OPENING), "has an opening where none can be"),
        (changed("certificate", opening=OPENING), "has an opening where none can be"),
        (changed("shred", opening=OPENING), "has an opening where none can be"),
        (changed(WHOLE, opening={"payload": ""}), "lacks the text 'commitment_key'"),
        (
            changed(WHOLE, opening={"commitment_key": KEY[2:], "payload": ""}),
            "the commitment key in the evidence file has 31 bytes",
        ),
        (
            changed(WHOLE, opening={"commitment_key": KEY, "payload": "AA"}),
            "does not hold what it should: not base64",
        ),
        (changed(WHOLE, comment="x"), "unknown or reordered members"),
        (EVIDENCE[WHOLE] + b"\n", "unknown or reordered members"),
        (EVIDENCE[WHOLE].replace(b"c2sp", b"\\ud800"), "does not hold what it should"),
        (EVIDENCE[WHOLE].replace(b'-statement', b"\\ud800"), "not an anchor statement"),
        (EVIDENCE[WHOLE].replace(b'receipt/1\\n', b"receipt/1\\n\\ud800"), "not a local receipt"),
    ],
)  # fmt: skip
def test_a_bad_file_says_what_is_wrong(data, words):
    with pytest.raises(BadFile, match=re.escape(words)):
        Evidence.parse(data)
    assert outcome(data, TRUST["one"]) == "BadFile"


def test_control_the_file_before_it_was_changed():
    assert outcome(changed(WHOLE), TRUST["one"]) == "verified"


def test_a_file_of_more_than_16_mib_is_not_read():
    with pytest.raises(BadFile, match=f"has {MAX_BYTES + 1} bytes, more than {MAX_BYTES}"):
        Evidence.parse(b" " * (MAX_BYTES + 1))


def test_messages_hold_nothing_of_the_payload():
    """P3: whoever logs an error logs no personal data."""
    data = EVIDENCE[WHOLE].replace(b'"payload": "', b'"payload": "=')
    with pytest.raises(BadFile) as caught:
        Evidence.parse(data)
    assert OPENING["payload"][:8] not in str(caught.value)
    assert "Zoë" not in repr(world.opening(0))
    assert repr(world.evidence(0, [4], opened=True).opening) == "Opening(…)"


@pytest.mark.parametrize("name", EVIDENCE)
def test_files_are_read_and_written(name):
    evidence = Evidence.parse(EVIDENCE[name])
    assert evidence.format() == EVIDENCE[name]
    assert Evidence.parse(evidence.format()) == evidence
    assert evidence.origin == world.ORIGIN


@given(st.binary(max_size=200))
def test_only_what_is_written_is_accepted(data):
    with pytest.raises(BadFile):
        Evidence.parse(data)


@given(st.sampled_from(sorted(EVIDENCE)), st.data())
def test_only_what_is_written_is_accepted_near_evidence(name, data):
    whole = EVIDENCE[name]
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    new = data.draw(
        st.sampled_from([b"", b"\n", b'"', b"\\", b"\\u0041", b" ", b"=", b"0", b"\xff"])
    )
    mutant = whole[:start] + new + whole[end:]
    try:
        evidence = Evidence.parse(mutant)
    except BadFile:
        return
    assert evidence.format() == mutant


@given(st.binary(max_size=300), st.binary(min_size=32, max_size=32))
def test_every_opening_is_read_back(payload, key):
    evidence = world.evidence(0, [4])
    opened = Evidence(evidence.entry, evidence.groups, Opening(key, payload))
    assert Evidence.parse(opened.format()) == opened


def test_the_largest_proof_of_a_small_payload_stays_below_8_kb():
    """One group with the longest audit path there is, its receipt, and a payload of 1 KB."""
    name, key = world.FIRST[0].name, world.FIRST[1]
    text = Checkpoint(world.ORIGIN, 2**63 - 1, bytes(32)).text()
    note = Note(text, (sign(text, name, key),))
    proof = LogProof(2**62, (b"\xff" * 32,) * 63, note)
    opening = Opening(bytes(32), bytes(1024))
    one = Group(proof, AnchorStatement(note), (world.receipt(7),))
    evidence = Evidence(parse_entry(world.LEAVES[0]), (one,), opening)
    assert Evidence.parse(evidence.format()) == evidence
    assert len(evidence.format()) <= 8 * 1024


def test_sixty_four_groups_fit():
    name, key = world.FIRST[0].name, world.FIRST[1]
    groups = []
    for size in range(7, 7 + MAX_GROUPS):
        text = Checkpoint(world.ORIGIN, size, bytes(32)).text()
        note = Note(text, (sign(text, name, key),))
        groups.append(Group(LogProof(2, (), note), AnchorStatement(note), ()))
    evidence = Evidence(parse_entry(world.LEAVES[2]), tuple(groups))
    assert Evidence.parse(evidence.format()) == evidence
