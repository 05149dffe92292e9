"""Every parser of ledger/ and anchor/: only its own error, and nothing that it would not write.

The coverage-guided runs over the same table are `make fuzz` (run.py); what they found is in
docs/fuzz.md.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from fuzz.parsers import PARSERS, Disagrees, Parser, attempt, seeds
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Malformed

ROOMS = [Path(__file__).parents[2] / name for name in ("ledger", "anchor")]
COUNTS: Counter[str] = Counter()


@st.composite
def damaged(draw: st.DrawFn, whole: tuple[bytes, ...]) -> bytes:
    """One of the seeds with up to four pieces cut, put in, doubled or changed."""
    data = draw(st.sampled_from(whole))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        piece = draw(
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from(
                    [b"\n", b" ", b"0", b"\r", b"\xff", b"\0", "é".encode(), b"+", b"="]
                ),
                st.just(data[start:end] * 2),
                st.just(draw(st.sampled_from(whole))[start:end]),
            )
        )
        data = data[:start] + piece + data[end:]
    return data


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_refuses_by_its_error_or_reads_what_it_writes(name):
    parser, whole = PARSERS[name], seeds(name)
    assert whole, "nothing to start from"
    assert all(attempt(parser, one) for one in whole)
    taken: Counter[bool] = Counter()

    @given(st.one_of(st.binary(max_size=300), damaged(whole), damaged(whole)))
    def hold(data: bytes) -> None:
        taken[attempt(parser, data)] += 1

    hold()
    print(f"{name}: {len(whole)} seeds; {taken[True]} inputs taken, {taken[False]} refused")


def test_each_parser_of_the_two_rooms_is_in_the_table():
    """A class or function that parses, by name; those that are parts of another are not."""
    found = set()
    for room in ROOMS:
        for path in room.rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            for owner, body in re.findall(r"^class (\w+)(.*?)(?=^\S|\Z)", source, re.M | re.S):
                if re.search(r"^    def parse\(", body, re.M):
                    found.add(owner)
            found |= set(re.findall(r"^def (parse_\w+)\(", source, re.M))
    # The first three are read within a body, a state, a file, whose error theirs become; the last
    # one is an option of a command.
    inner = {"parse_member", "parse_rule", "parse_hashes", "parse_listen"}
    here = Path(__file__).with_name("parsers.py").read_text(encoding="utf-8")
    missing = {name for name in found - inner if re.search(rf"\b{name}\b", here) is None}
    print(f"{len(found)} parsers in two rooms, {len(PARSERS)} entries in the table")
    assert not missing


def test_control_a_parser_that_crashes_or_is_lax_is_seen():
    lax = Parser(lambda data: int(data), lambda found: str(found).encode(), ValueError)
    assert attempt(lax, b"42")
    with pytest.raises(Disagrees):
        attempt(lax, b" 4_2 ")
    with pytest.raises(IndexError):
        attempt(Parser(lambda data: data[9], bytes, Malformed), b"")
