"""Checkpoints: the specification's example, and no second spelling of a tree head."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import checkpoint as checkpoint_module
from ledger.checkpoint import Checkpoint, parse_decimal
from ledger.errors import Malformed
from ledger.note import Note, decode_base64

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "vectors" / "ledger_checkpoint.json").read_text(encoding="utf-8")
)
EXAMPLE = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
"""
SIGNED_EXAMPLE = (
    EXAMPLE
    + """
— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
"""  # noqa: E501 - a signature line cannot be broken
)
ORIGINS = st.text(
    st.characters(exclude_categories=["Cs"], min_codepoint=0x20), min_size=1, max_size=20
)
CHECKPOINTS = st.builds(
    Checkpoint, ORIGINS, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32)
)


def twin(old: str, new: str) -> str:
    assert old in EXAMPLE
    return EXAMPLE.replace(old, new)


TWINS = {
    "nothing": "",
    "one line": "example.com\n",
    "no origin": twin("example.com/behind-the-sofa", ""),
    "control character in the origin": twin("behind", "be\thind"),
    "carriage returns": twin("\n", "\r\n"),
    "no final newline": EXAMPLE[:-1],
    "two final newlines": EXAMPLE + "\n",
    "extension line": EXAMPLE + "extension\n",
    "unfinished extension line": EXAMPLE + "extension",
    "extension lines": EXAMPLE + "one\ntwo\nthree\n",
    "leading zero": twin("2085", "02085"),
    "plus": twin("2085", "+2085"),
    "minus": twin("2085", "-2085"),
    "underscore": twin("20852163", "20_852_163"),
    "space": twin("20852163", " 20852163"),
    "fraction": twin("20852163", "20852163.0"),
    "hexadecimal": twin("20852163", "0x13e2dc3"),
    "other digits": twin("20852163", "٢٠٨٥٢١٦٣"),
    "no size": twin("20852163", ""),
    "size 2**63": twin("20852163", str(2**63)),
    "size of 20 digits": twin("20852163", "9" * 20),
    "size of 5000 digits": twin("20852163", "9" * 5000),
    "root without padding": twin("q2I=", "q2I"),
    "root with unused bits": twin("q2I=", "q2J="),
    "root of 31 bytes": twin("q2I=", "qw=="),
    "root of 33 bytes": twin("q2I=", "q2IA"),
    "root with a space": twin("CsUY", "Cs UY"),
    "url-safe root": twin("om/X", "om_X"),
    "no root": twin("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=", ""),
}


def accepted(parse, names=TWINS) -> list[str]:
    taken = []
    for name in names:
        try:
            parse(TWINS[name])
        except Malformed:
            continue
        taken.append(name)
    return taken


def test_the_example_of_the_specification():
    checkpoint = Checkpoint.parse(EXAMPLE)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert checkpoint.text() == EXAMPLE
    note = Note.parse(SIGNED_EXAMPLE.encode())
    assert Checkpoint.parse(note.text) == checkpoint
    assert note.format() == SIGNED_EXAMPLE


def test_the_example_of_the_module():
    indented = "".join(f"    {line}\n" for line in EXAMPLE.splitlines())
    assert indented in checkpoint_module.__doc__


@pytest.mark.parametrize("golden", GOLDEN["checkpoints"])
def test_goldens(golden):
    checkpoint = Checkpoint(golden["origin"], golden["size"], bytes.fromhex(golden["root"]))
    assert checkpoint.text() == golden["text"]
    assert Checkpoint.parse(golden["text"]) == checkpoint


@pytest.mark.parametrize("name", TWINS)
def test_other_spellings_are_malformed(name):
    assert accepted(Checkpoint.parse, [name]) == []


def test_control_a_lax_parser_is_seen():
    def lax(text: str) -> Checkpoint:
        origin, size, root, *_ = text.splitlines()
        try:
            return Checkpoint(origin, int(size), decode_base64(root))
        except ValueError as error:
            raise Malformed from error

    names = [name for name in TWINS if name not in ("nothing", "one line")]
    taken = accepted(lax, names)
    assert {
        "extension line",
        "leading zero",
        "plus",
        "underscore",
        "space",
        "other digits",
        "carriage returns",
        "no final newline",
    } <= set(taken)


@given(CHECKPOINTS)
def test_every_checkpoint_is_read_back(checkpoint):
    assert Checkpoint.parse(checkpoint.text()) == checkpoint


@given(
    st.one_of(
        st.text(),
        st.from_regex(r"\A[a-z \n]{0,3}\n[0-9 ]{0,20}\n[A-Za-z0-9+/]{42,43}=\n{0,2}\Z"),
    )
)
def test_only_what_is_written_is_accepted(text):
    try:
        checkpoint = Checkpoint.parse(text)
    except Malformed:
        return
    assert checkpoint.text() == text


@pytest.mark.parametrize(
    "fields",
    [
        ("", 0, bytes(32)),
        ("a\nb", 0, bytes(32)),
        ("a\ud800", 0, bytes(32)),
        ("a", -1, bytes(32)),
        ("a", 2**63, bytes(32)),
        ("a", 0, bytes(31)),
        ("a", 0, bytes(33)),
    ],
)
def test_no_checkpoint_is_made_that_could_not_be_read_back(fields):
    with pytest.raises(ValueError, match=r"origin|tree size|root"):
        Checkpoint(*fields)


def test_the_largest_number():
    assert parse_decimal("9223372036854775807") == 2**63 - 1
    for text in ("9223372036854775808", "9999999999999999999"):
        with pytest.raises(Malformed, match=r"below 2\*\*63"):
            parse_decimal(text)


@given(st.one_of(st.text(max_size=5), st.from_regex(r"\A[0-9]{1,20}\Z"), st.integers().map(str)))
def test_decimal_numbers_have_one_spelling(text):
    try:
        number = parse_decimal(text)
    except Malformed:
        return
    assert str(number) == text
    assert 0 <= number < 2**63
