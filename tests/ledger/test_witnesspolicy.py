"""Witness policies: C2SP's example, every rule broken once, and quorums against a plain count."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from witness_fixtures import LOG_KEYS, MadeLog, cosigners, leaves

from ledger.errors import BadSignature, Malformed
from ledger.note import Note, SignatureLine
from ledger.witnesspolicy import MAX_DEFINED, WitnessPolicy

NAMES = ("X1", "X2", "X3", "Y1", "Y2", "Y3")
KEYS = {name: cosigners(f"witness.example/{name}")[0].verifier for name in NAMES}
LOG = LOG_KEYS[0]
# C2SP tlog-policy, "Example policy", with keys in the place of <vkey>.
EXAMPLE = f"""log {LOG}

witness X1 {KEYS["X1"]}
witness X2 {KEYS["X2"]}
witness X3 {KEYS["X3"]}
group X-witnesses 2 X1 X2 X3

witness Y1 {KEYS["Y1"]}
witness Y2 {KEYS["Y2"]}
witness Y3 {KEYS["Y3"]}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""
TWO = {f"{name}{i}": key.verifier for name in "AB" for i, key in enumerate(cosigners(name))}
TWICE = "".join(f"witness {name} {key}\n" for name, key in TWO.items())


def parse(text: str) -> WitnessPolicy:
    return WitnessPolicy.parse(text.encode())


def test_the_example_of_the_specification():
    policy = parse(EXAMPLE)
    assert policy.witness_keys() == tuple(KEYS.values())
    assert [one.key for one in policy.logs] == [LOG]
    assert policy.format() == EXAMPLE.encode()
    assert policy.missing([KEYS["X1"], KEYS["X3"], KEYS["Y2"]]) is None
    missing = policy.missing([KEYS["X1"], KEYS["Y2"]])
    assert missing == (
        "X-and-Y has 1 of the 2 that it needs (X-witnesses missing);"
        " X-witnesses has 1 of the 2 that it needs (X2, X3 missing)"
    )


@given(st.sets(st.sampled_from(sorted(KEYS))))
def test_the_quorum_of_the_example_is_a_count(names):
    reached = len(names & {"X1", "X2", "X3"}) >= 2 and len(names & {"Y1", "Y2", "Y3"}) >= 1
    assert (parse(EXAMPLE).missing({KEYS[name] for name in names}) is None) == reached


def test_whitespace_comments_and_names_are_what_the_specification_allows():
    key, name = KEYS["X1"], b"\xe2\x84\xaa\xff"
    text = b"\t # a comment \xc3\xa9\xff\n \n\twitness \t" + name + b" " + str(key).encode()
    policy = WitnessPolicy.parse(text + b" https://w.example/\xff \n quorum  " + name + b"\t\n")
    assert policy.witnesses[0].name == name
    assert policy.quorum == name
    assert policy.missing([]) == "\u212a\\xff did not cosign"
    assert parse("quorum none\n").missing([]) is None
    # Opaque: the Kelvin sign is not K.
    with pytest.raises(Malformed, match="not defined"):
        WitnessPolicy.parse(text + b"\nquorum K\n")


W1, W2 = f"witness a {KEYS['X1']}\n", f"witness b {KEYS['X2']}\n"
BROKEN = {
    "no quorum": (W1, "no quorum line"),
    "two quorums": (W1 + "quorum a\nquorum a\n", "line 3.*second quorum"),
    "an unknown quorum": (W1 + "quorum b\n", "b is not defined"),
    "a quorum before its witness": ("quorum a\n" + W1, "line 1.*not defined"),
    "a group before its member": (W1 + "group g all a b\n" + W2 + "quorum g\n", "line 2"),
    "a group of itself": (W1 + "group g any a g\nquorum g\n", "g is not defined"),
    "none as a member": (W1 + "group g any a none\nquorum g\n", "none is not defined"),
    "none as a name": (f"witness none {KEYS['X1']}\nquorum none\n", "none is defined already"),
    "one name twice": (W1 + f"witness a {KEYS['X2']}\nquorum a\n", "a is defined already"),
    "a group named as a witness": (W1 + "group a any a\nquorum a\n", "a is defined already"),
    "one key twice": (W1 + f"witness b {KEYS['X1']}\nquorum a\n", "another witness"),
    "one log twice": (f"log {LOG}\nlog {LOG}\nquorum none\n", "another log"),
    "a log as a witness": (
        f"log {LOG_KEYS[1]}\nwitness a {LOG_KEYS[1]}\nquorum a\n",
        "of a log and of a witness",
    ),
    "a log's key as a witness": (f"witness a {LOG}\nquorum a\n", "type 4 or 6"),
    "a member twice": (W1 + W2 + "group g 2 a a\nquorum g\n", "a is a member already"),
    "a member of two groups": (
        W1 + W2 + "group g any a b\ngroup h any a\nquorum h\n",
        "a is a member already",
    ),
    "a group of nobody": (W1 + "group g any\nquorum g\n", "a group is"),
    "a threshold of none": (W1 + "group g 0 a\nquorum g\n", "from 1 to 1"),
    "a threshold above all": (W1 + "group g 2 a\nquorum g\n", "from 1 to 1"),
    "a threshold in words": (W1 + "group g two a\nquorum g\n", "from 1 to 1"),
    "a threshold with a zero": (W1 + "group g 01 a\nquorum g\n", "from 1 to 1"),
    "an unknown line": ("wittness a b\nquorum none\n", "starts with none of"),
    "too many items": (W1.strip() + " https://a https://b\nquorum a\n", "a witness is"),
    "a changed key": (W1.replace("+", "+0", 1) + "quorum a\n", "line 1"),
    "no final newline": ("quorum none", "does not end in a newline"),
    "a carriage return": ("quorum none\r\n", "control character"),
    "a control character in a comment": ("# \x7f\nquorum none\n", "control character"),
    "two keys of one witness": (TWICE + "group g 2 A0 A1 B0\nquorum g\n", "count twice"),
    "two keys of one witness in groups": (
        TWICE + "group g any A0 B0\ngroup h any A1 B1\ngroup i all g h\nquorum i\n",
        "count twice",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_policy_is_refused_and_its_line_named(name):
    text, words = BROKEN[name]
    with pytest.raises(Malformed, match=words):
        parse(text)


def test_a_witness_with_two_keys_counts_once():
    policy = parse(TWICE + "group a all A0 A1\ngroup b any B0 B1\ngroup g 2 a b\nquorum g\n")
    assert policy.missing([TWO["A0"], TWO["A1"]]) is not None
    assert policy.missing([TWO["A0"], TWO["B1"]]) is not None
    assert policy.missing([TWO["A0"], TWO["A1"], TWO["B1"]]) is None
    assert parse(TWICE + "group g any A0 A1 B0\nquorum g\n").missing([TWO["A1"]]) is None


def test_as_many_as_the_specification_asks_for():
    def many(count: int) -> str:
        names = [f"w{i}" for i in range(count)]
        lines = [f"witness {name} {cosigners(name)[0].verifier}" for name in names]
        groups = [f"group g{name} all {name}" for name in names]
        members = " ".join(f"g{name}" for name in names[:-1])
        groups[-1] = f"group all all {members} {names[-1]}"
        return "\n".join([*lines, *groups, "quorum all\n"])

    assert len(parse(many(32)).groups) == 32
    assert len(parse(many(MAX_DEFINED)).witnesses) == MAX_DEFINED
    with pytest.raises(Malformed, match="more than 256 witnesses"):
        parse(many(MAX_DEFINED + 1))


@given(
    st.binary(max_size=60) | st.text(alphabet="log witnes group quorm aln12 \t\n#").map(str.encode)
)
def test_any_bytes_are_read_or_refused(data):
    try:
        policy = WitnessPolicy.parse(data)
    except Malformed:
        return
    assert policy.format() == data
    assert re.search(rb"(?m)^[ \t]*quorum[ \t]", data)


def test_cosigners_are_those_whose_lines_verify():
    log, policy = MadeLog(leaves(8)), parse(EXAMPLE)
    w = cosigners("witness.example/X1")[0]
    stranger = cosigners("witness.example/Z")[0]
    note, checkpoint = log.note(8), log.checkpoint(8)

    def under(*lines: SignatureLine) -> Note:
        return Note(note.text, (*note.signatures, *lines))

    assert policy.cosigners(under(stranger.cosign(checkpoint, 9), w.cosign(checkpoint, 9))) == (
        KEYS["X1"],
    )
    assert policy.cosigners(note) == ()
    for line in (w.cosign(checkpoint, 0), w.cosign(log.checkpoint(7), 9)):
        with pytest.raises(BadSignature):
            policy.cosigners(under(line))
