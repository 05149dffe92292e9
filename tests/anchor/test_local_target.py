"""The local anchor's file: it only grows, a crash costs nothing, and a change is named."""

import hashlib
import os
import re
import stat
import subprocess
import sys
import threading

import pytest
from anchor_samples import ROOT, world

import anchor.local
from anchor.errors import BadFile, TargetDamaged
from anchor.local import LocalTarget, read_receipts
from anchor.receipt import LINES, LocalReceipt

KEY, SIGNING_KEY = world.ANCHOR
DIGESTS = [hashlib.sha256(b"%d" % number).digest() for number in range(4)]
NOW = 1_767_225_600


@pytest.fixture
def path(tmp_path):
    return tmp_path / "anchors" / "local-anchor"


def target(path, now: int = NOW) -> LocalTarget:
    return LocalTarget(path, world.ORIGIN, SIGNING_KEY, now)


def filled(path, count: int = 3) -> list[str]:
    return [target(path, NOW + n).submit(DIGESTS[n]) for n in range(count)]


def test_receipts_form_a_chain(path):
    texts = filled(path)
    assert path.read_text(encoding="utf-8") == "".join(texts)
    receipts = read_receipts(path, KEY)
    assert [one.format() for one in receipts] == texts
    assert [one.number for one in receipts] == [0, 1, 2]
    assert [one.digest for one in receipts] == DIGESTS[:3]
    assert [one.at for one in receipts] == [NOW, NOW + 1, NOW + 2]
    hashes = [bytes(32), *(hashlib.sha256(text.encode()).digest() for text in texts)]
    assert [one.previous for one in receipts] == hashes[:3]


def test_a_receipt_has_the_lines_that_the_module_describes(path):
    lines = filled(path)[1].split("\n")
    assert len(lines) == LINES + 1
    assert lines[:2] == ["datakluis/local-receipt/1", "1"]
    assert lines[5] == ""
    assert lines[6].startswith(f"— {world.ORIGIN}/local-anchor ")


def test_submitting_twice_returns_the_same_receipt(path):
    texts = filled(path)
    before = path.read_bytes()
    for number, text in enumerate(texts):
        assert target(path, NOW + 1000).submit(DIGESTS[number]) == text
    assert path.read_bytes() == before


def test_only_the_owner_can_read_it(path):
    filled(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_where_there_is_no_file_there_are_no_receipts(path):
    assert read_receipts(path, KEY) == []


def test_the_key_does_not_show(path):
    assert repr(target(path)) == f"LocalTarget({str(path)!r})"


def cuts(start: int, end: int) -> list[int]:
    """Every seventh length from a start to an end, and each near one of them."""
    near = {*range(start, start + 4), *range(end - 4, end)}
    return sorted(near | set(range(start, end, 7)))


def test_a_torn_tail_is_removed_by_the_next_append(path):
    """P5: an append that a crash cut short leaves exactly one outcome."""
    texts = filled(path)
    whole = path.read_bytes()
    start = len("".join(texts[:2]).encode())
    for length in cuts(start, len(whole)):
        path.write_bytes(whole[:length])
        assert [one.format() for one in read_receipts(path, KEY)] == texts[:2]
        assert target(path, NOW + 2).submit(DIGESTS[2]) == texts[2]
        assert path.read_bytes() == whole


def test_a_torn_first_receipt(path):
    texts = filled(path, 1)
    whole = path.read_bytes()
    for length in cuts(0, len(whole)):
        path.write_bytes(whole[:length])
        assert target(path).submit(DIGESTS[0]) == texts[0]
        assert path.read_bytes() == whole


@pytest.mark.parametrize("tail", [b"\xff\xfe", b"\0" * 4096, b"datakluis/local-receipt/1\n\n\n"])
def test_rubbish_at_the_end_is_a_torn_tail_too(path, tail):
    texts = filled(path)
    path.write_bytes(path.read_bytes() + tail)
    text = target(path).submit(DIGESTS[3])
    assert path.read_text(encoding="utf-8") == "".join([*texts, text])


def test_every_changed_byte_of_an_earlier_receipt_is_named(path):
    texts = filled(path)
    whole = path.read_bytes()
    lengths = [len(text.encode()) for text in texts]
    places = range(lengths[0] + lengths[1])
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        number = int(place >= lengths[0])
        with pytest.raises(TargetDamaged, match=f"^receipt {number} in .* was changed$"):
            read_receipts(path, KEY)
    print(f"{len(places)} changed bytes, each named by its receipt")


def test_a_damaged_file_is_left_alone(path):
    filled(path)
    changed = path.read_bytes().replace(DIGESTS[1].hex().encode(), DIGESTS[3].hex().encode())
    path.write_bytes(changed)
    with pytest.raises(TargetDamaged, match=r"receipt 1 in .* was changed"):
        target(path).submit(DIGESTS[3])
    assert path.read_bytes() == changed


@pytest.mark.parametrize(
    ("order", "named"), [([1, 2], 0), ([0, 2], 1), ([1, 0, 2], 0), ([0, 0], 1)]
)
def test_receipts_left_out_turned_round_or_doubled(path, order, named):
    texts = filled(path)
    path.write_text("".join(texts[number] for number in order), encoding="utf-8")
    with pytest.raises(
        TargetDamaged, match=f"receipt {named} in .* does not follow the one before"
    ):
        read_receipts(path, KEY)


def test_receipts_of_another_key(path):
    LocalTarget(path, world.ORIGIN, world.STRANGER[1], NOW).submit(DIGESTS[0])
    with pytest.raises(TargetDamaged, match=r"receipt 0 in .* was changed"):
        read_receipts(path, KEY)


@pytest.mark.parametrize("now", [-1, 10**11])
def test_a_clock_out_of_its_mind_does_not_spoil_the_file(path, now):
    texts = filled(path)
    with pytest.raises(BadFile):
        target(path, now).submit(DIGESTS[3])
    assert path.read_text(encoding="utf-8") == "".join(texts)


RECEIPT = world.receipt(7).format()


@pytest.mark.parametrize(
    "text",
    [
        "",
        RECEIPT[:-1],
        RECEIPT + "\n",
        RECEIPT.replace("\n", "\r\n"),
        RECEIPT.replace("receipt/1", "receipt/2"),
        RECEIPT.replace("\n1\n", "\n01\n"),
        RECEIPT.replace("\n1\n", "\n-1\n"),
        RECEIPT.replace("\n1\n", "\n1\n1\n"),
        RECEIPT.replace(world.receipt(7).digest.hex(), world.receipt(7).digest.hex().upper()),
        RECEIPT.replace(f"\n{NOW + 86_400}\n", f"\n{NOW}00\n"),
        RECEIPT + RECEIPT.rpartition("\n\n")[2].replace("hoorn/", "edam/"),
        RECEIPT.rpartition("\n\n")[0] + "\n\n",
        RECEIPT.replace("hoorn", "\ud800"),
    ],
)
def test_other_texts_are_no_receipts(text):
    assert text != RECEIPT
    with pytest.raises(BadFile, match="not a local receipt"):
        LocalReceipt.parse(text)


def test_the_name_of_a_new_file_is_made_durable(path, monkeypatch):
    """P5: the folder is flushed before the first receipt is given out, and not each time."""
    flushed = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        flushed.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    filled(path, 2)
    assert flushed == ["folder", "file", "file"]


APPENDER = """
import hashlib, sys
from pathlib import Path
from nacl.signing import SigningKey
from anchor.local import LocalTarget
path, origin, seed, who = sys.argv[1:]
sys.stdin.read()
for number in range(20):
    own = hashlib.sha256(f"{who} {number}".encode()).digest()
    shared = hashlib.sha256(f"shared {number}".encode()).digest()
    for digest in (own, shared):
        LocalTarget(Path(path), origin, SigningKey(bytes.fromhex(seed)), 1).submit(digest)
"""


def test_two_processes_append_at_once(path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDER, path, world.ORIGIN, bytes(SIGNING_KEY).hex(), who],
            cwd=ROOT,
            stdin=subprocess.PIPE,
        )
        for who in ("one", "two")
    ]
    for process in processes:
        process.stdin.close()
    assert [process.wait(timeout=30) for process in processes] == [0, 0]
    receipts = read_receipts(path, KEY)
    digests = [receipt.digest for receipt in receipts]
    expected = {
        hashlib.sha256(f"{who} {number}".encode()).digest()
        for who in ("one", "two", "shared")
        for number in range(20)
    }
    assert len(digests) == 60
    assert set(digests) == expected


def append_in_threads(path, count: int) -> list[str | BaseException]:
    answers: list[str | BaseException] = []

    def append(number: int) -> None:
        try:
            answers.append(target(path).submit(DIGESTS[number]))
        except TargetDamaged as error:
            answers.append(error)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_threads_append_at_once(path):
    answers = append_in_threads(path, 4)
    receipts = read_receipts(path, KEY)
    assert {receipt.digest for receipt in receipts} == set(DIGESTS)
    assert {receipt.format() for receipt in receipts} == set(answers)


def test_control_without_the_lock_two_appends_destroy_each_other(path, monkeypatch):
    both_have_read = threading.Barrier(2, timeout=10)
    parse = anchor.local._parse

    def slow_parse(*arguments):
        found = parse(*arguments)
        both_have_read.wait()
        return found

    monkeypatch.setattr(anchor.local.fcntl, "flock", lambda *_: None)
    monkeypatch.setattr(anchor.local, "_parse", slow_parse)
    answers = append_in_threads(path, 2)
    monkeypatch.undo()
    assert len(answers) == 2
    numbers = [re.search(r"\n(\d+)\n", str(answer))[1] for answer in answers]
    assert numbers == ["0", "0"]
    assert {receipt.format() for receipt in read_receipts(path, KEY)} != set(answers)
