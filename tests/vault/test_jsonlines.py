"""JSON lines: what is a record, and a reason for what is not that repeats nothing of it (P3)."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vault import InvalidInput
from vault.jsonlines import BadLine, GoodLine, SubjectField, read_lines
from vault.preparing import MAX_PAYLOAD_BYTES

CANARY = "canary999990019"
BSN = SubjectField("/bsn")


def read(tmp_path, content, field=BSN):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(content)
    return list(read_lines(path, field))


def line_with(subject):
    return json.dumps({"naam": CANARY, "bsn": subject}).encode()


# Each bad line holds the canary, or could not.
BAD = {
    "not JSON": (f"{{'{CANARY}'".encode(), "is not JSON"),
    "cut short": (f'{{"bsn": "{CANARY}'.encode(), "is not JSON"),
    "two texts": (b'{"bsn": "1"} {"bsn": "2"}', "is not JSON"),
    "not UTF-8": (b'{"bsn": "canary999990019\xff"}', "is not UTF-8"),
    "UTF-16": (json.dumps({"bsn": CANARY}).encode("utf-16-le"), "is not JSON"),
    "surrogates in UTF-8": (b'{"bsn": "canary999990019\xed\xa0\x80"}', "is not UTF-8"),
    "empty": (b"", "is empty"),
    "blank": (b" \t\r", "is empty"),
    "byte order mark": (f'\ufeff{{"bsn": "{CANARY}"}}'.encode(), "is not JSON"),
    "duplicated key": (f'{{"bsn": "{CANARY}", "bsn": "2"}}'.encode(), "has a duplicated key"),
    "duplicated key below": (
        f'{{"bsn": "{CANARY}", "x": [{{"a": 1, "a": 1}}]}}'.encode(),
        "has a duplicated key",
    ),
    "duplicated key by escape": (b'{"bsn": "1", "\\u0062sn": "2"}', "has a duplicated key"),
    "NaN": (f'{{"bsn": "{CANARY}", "x": NaN}}'.encode(), "holds NaN, which is not JSON"),
    "infinity": (f'{{"bsn": "{CANARY}", "x": -Infinity}}'.encode(), "holds -Infinity, which is"),
    "no such field": (f'{{"BSN": "{CANARY}"}}'.encode(), "has no field /bsn"),
    "no object": (f'"{CANARY}"'.encode(), "has no field /bsn"),
    "an array": (f'["{CANARY}"]'.encode(), "has no field /bsn"),
    "a number": (b'{"bsn": 999990019}', "field /bsn is not a text"),
    "null": (b'{"bsn": null}', "field /bsn is not a text"),
    "an object as subject": (f'{{"bsn": {{"x": "{CANARY}"}}}}'.encode(), "field /bsn is not a tex"),
    "an empty subject": (line_with(""), "a subject is 1 to 256 bytes, this has 0"),
    "257 bytes": (line_with(CANARY + "x" * 242), "a subject is 1 to 256 bytes, this has 257"),
    "lone surrogate": (line_with(CANARY + "\udcff"), "the subject is not valid Unicode text"),
    "deeply nested": (b"[" * 100_000 + b"]" * 100_000, "is not JSON"),
    "deeply nested beside": (b'{"bsn": "1", "x": ' + b'{"a":' * 50_000, "is not JSON"),
    "a huge number": (b'{"bsn": "1", "x": ' + b"9" * 5_000 + b"}", "is not JSON"),
    "a raw control character": (b'{"bsn": "canary\x00999990019"}', "is not JSON"),
}


@pytest.mark.parametrize(("line", "reason"), BAD.values(), ids=BAD)
def test_a_bad_line_has_its_number_and_a_reason_that_repeats_nothing(tmp_path, line, reason):
    good = line_with("999990020")
    for ending in (b"\n", b""):
        found = read(tmp_path, good + b"\n" + line + b"\n" + good + ending)
        assert [one.number for one in found] == [1, 2, 3]
        assert [type(one) for one in found] == [GoodLine, BadLine, GoodLine]
        assert found[1].reason.startswith(reason)
        assert "canary" not in repr(found[1])
        assert "99999" not in repr(found[1])


GOOD = {
    "plain": b'{"bsn": "x"}',
    "white space around": b' \t{"bsn" : "x"} \r',
    "an escape": b'{"\\u0062sn": "\\u0078"}',
    "a number that is too large for a float": b'{"bsn": "x", "y": 1e999}',
    "other members": '{"naam": "Zoë", "bsn": "x", "z": [1.50, true, null]}'.encode(),
    "nested a little": b'{"bsn": "x", "y": ' + b"[" * 100 + b"]" * 100 + b"}",
}


@pytest.mark.parametrize("line", GOOD.values(), ids=GOOD)
def test_the_payload_is_the_line_byte_for_byte(tmp_path, line):
    assert read(tmp_path, line + b"\n") == [GoodLine(1, line, "x")]


def test_a_last_line_needs_no_newline_and_none_is_made_up(tmp_path):
    line = line_with("x")
    assert len(read(tmp_path, line)) == len(read(tmp_path, line + b"\n")) == 1
    assert [one.number for one in read(tmp_path, line + b"\n\n")] == [1, 2]
    assert read(tmp_path, b"") == []


@pytest.mark.parametrize("size", [MAX_PAYLOAD_BYTES - 1, MAX_PAYLOAD_BYTES])
@pytest.mark.parametrize("ending", [b"\n", b""])
def test_a_line_of_at_most_8_mib_is_a_record(tmp_path, size, ending):
    line = b'{"bsn": "x"}'.ljust(size)
    found = read(tmp_path, line + ending)
    assert found == [GoodLine(1, line, "x")]


@pytest.mark.parametrize(
    "size", [MAX_PAYLOAD_BYTES + 1, MAX_PAYLOAD_BYTES + 2, 10_000_000, 3 * MAX_PAYLOAD_BYTES + 7]
)
@pytest.mark.parametrize("ending", [b"\n", b""])
def test_a_longer_one_is_bad_and_the_next_is_read_as_a_line_of_its_own(tmp_path, size, ending):
    long = b'{"bsn": "canary"}'.ljust(size)
    good = line_with("x")
    found = read(tmp_path, long + (b"\n" + good if ending else b"") + ending)
    assert found[0] == BadLine(1, "is longer than 8388608 bytes")
    assert found[1:] == ([GoodLine(2, good, "x")] if ending else [])


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=60) | st.just(b'{"bsn": "x"}'), max_size=6))
def test_any_file_is_read_to_its_end(tmp_path_factory, lines):
    content = b"\n".join(lines)
    found = read(tmp_path_factory.getbasetemp(), content)
    expected = content.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert [one.number for one in found] == list(range(1, len(expected) + 1))
    for one, line in zip(found, expected, strict=True):
        assert isinstance(one, BadLine) or one.payload == line


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    ),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64),
)
def test_any_json_object_with_a_subject_is_a_record(tmp_path_factory, other, subject):
    line = json.dumps({"x": other, "bsn": subject}).encode()
    found = read(tmp_path_factory.getbasetemp(), line)
    assert found == [GoodLine(1, line, subject)]


POINTERS = [
    ("/persoon/bsn", {"persoon": {"bsn": "x"}}),
    ("/a~1b/~0/~01", {"a/b": {"~": {"~1": "x"}}}),
    ("/", {"": "x"}),
    ("//a", {"": {"a": "x"}}),
    ("/p/0/bsn", {"p": [{"bsn": "x"}, {"bsn": "y"}]}),
    ("/0", ["x"]),
    ("/10", ["y"] * 10 + ["x"]),
    ("/0", {"0": "x"}),
    ("/é", {"é": "x"}),
]


@pytest.mark.parametrize(("pointer", "document"), POINTERS, ids=str)
def test_json_pointers_of_rfc_6901(tmp_path, pointer, document):
    line = json.dumps(document).encode()
    assert read(tmp_path, line, SubjectField(pointer)) == [GoodLine(1, line, "x")]


@pytest.mark.parametrize("pointer", ["/00", "/01", "/-1", "/-", "/1", "/٠", "/9999999999999", "/x"])
def test_what_is_no_index_of_an_array_leads_nowhere(tmp_path, pointer):
    found = read(tmp_path, b'["x"]', SubjectField(pointer))
    assert found == [BadLine(1, f"has no field {pointer}")]


@pytest.mark.parametrize("pointer", ["", "bsn", "#/bsn", "/a~", "/a~2", "/~~0"])
def test_anything_else_is_no_json_pointer(pointer):
    with pytest.raises(InvalidInput, match="is not a JSON Pointer such as /persoon/bsn"):
        SubjectField(pointer)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(InvalidInput, match="cannot be read: "):
            list(read_lines(path, BSN))
