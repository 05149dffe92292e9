"""Log proofs: goldens that verify to the end, and no byte that is not bound."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle, tlogproof
from ledger.checkpoint import Checkpoint
from ledger.errors import BadProof, BadSignature, Malformed
from ledger.note import Note, SignatureLine, VerifierKey, verify
from ledger.tlogproof import LogProof

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "vectors" / "ledger_tlogproof.json").read_text(encoding="utf-8")
)["proofs"]
LAST = GOLDEN[-1]
LINES = (SignatureLine("a", b"1234", b"s"),)
HASH_LINE = "A" * 43 + "=\n"
PROOFS = st.builds(
    LogProof,
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63).map(tuple),
    st.builds(
        lambda size, root: Note(Checkpoint("log.example", size, root).text(), LINES),
        st.integers(0, 2**63 - 1),
        st.binary(min_size=32, max_size=32),
    ),
)


def check(data: bytes, leaf: bytes, key: VerifierKey) -> None:
    """The four steps of C2SP tlog-proof, "Verifying a tlog proof", without witnesses."""
    proof = LogProof.parse(data)
    verify(proof.checkpoint, key)
    checkpoint = Checkpoint.parse(proof.checkpoint.text)
    leaf_hash = merkle.leaf_hash(leaf)
    merkle.verify_inclusion(leaf_hash, proof.index, checkpoint.size, proof.hashes, checkpoint.root)


@pytest.mark.parametrize("golden", GOLDEN)
def test_goldens_are_read_written_and_verified(golden):
    data = golden["proof"].encode()
    proof = LogProof.parse(data)
    assert proof.index == golden["index"]
    assert [value.hex() for value in proof.hashes] == golden["hashes"]
    assert proof.format().encode() == data
    check(data, bytes.fromhex(golden["leaf"]), VerifierKey.parse(golden["vkey"]))


def test_the_example_of_the_module():
    lines = LAST["proof"].rstrip("\n").split("\n")
    indented = "".join(f"    {line}\n" if line else "\n" for line in lines)
    assert indented in tlogproof.__doc__
    assert f"    {LAST['vkey']}\n" in tlogproof.__doc__
    assert (LAST["index"], LAST["leaf"]) == (2, "10")


def bit_flips_that_pass(verifier) -> tuple[int, int]:
    """Flip every bit of a proof, and count the proofs that are still taken for true."""
    whole, leaf = LAST["proof"].encode(), bytes.fromhex(LAST["leaf"])
    key = VerifierKey.parse(LAST["vkey"])
    flipped = taken = 0
    for place in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        flipped += 1
        try:
            verifier(bytes(changed), leaf, key)
        except (Malformed, BadSignature, BadProof):
            continue
        taken += 1
    return flipped, taken


def test_every_bit_is_bound():
    flipped, taken = bit_flips_that_pass(check)
    print(f"{flipped} bit flips of a log proof, {taken} taken for true")
    assert taken == 0
    assert flipped == len(LAST["proof"].encode()) * 8


def test_control_a_verifier_that_forgets_the_signature():
    def forgetful(data: bytes, leaf: bytes, key: VerifierKey) -> None:
        proof = LogProof.parse(data)
        checkpoint = Checkpoint.parse(proof.checkpoint.text)
        merkle.verify_inclusion(
            merkle.leaf_hash(leaf), proof.index, checkpoint.size, proof.hashes, checkpoint.root
        )

    assert bit_flips_that_pass(forgetful)[1] > 0


def test_control_a_verifier_that_forgets_the_inclusion():
    def forgetful(data: bytes, leaf: bytes, key: VerifierKey) -> None:
        verify(LogProof.parse(data).checkpoint, key)

    assert bit_flips_that_pass(forgetful)[1] > 0


def twin(old: str, new: str) -> bytes:
    assert old in LAST["proof"]
    return LAST["proof"].replace(old, new, 1).encode()


NOTE_TEXT = LAST["proof"].partition("\n\n")[2]
TWINS = {
    "nothing": b"",
    "only the head": LAST["proof"].partition("\n\n")[0].encode(),
    "only the note": NOTE_TEXT.encode(),
    "other version": twin("@v1", "@v2"),
    "no first line": twin("c2sp.org/tlog-proof@v1\n", ""),
    "extra line": twin("index", "extra YWdl\nindex"),
    "empty extra line": twin("index", "extra \nindex"),
    "no index": twin("index 2\n", ""),
    "index twice": twin("index 2\n", "index 2\nindex 2\n"),
    "index without its word": twin("index 2", "2"),
    "index in capitals": twin("index", "Index"),
    "two spaces": twin("index 2", "index  2"),
    "leading zero": twin("index 2", "index 02"),
    "negative index": twin("index 2", "index -2"),
    "index 2**63": twin("index 2", f"index {2**63}"),
    "index of 5000 digits": twin("index 2", "index " + "2" * 5000),
    "carriage return": twin("index 2\n", "index 2\r\n"),
    "hash without padding": twin("+c=\n", "+c\n"),
    "hash with unused bits": twin("+c=\n", "+d=\n"),
    "hash of 31 bytes": twin("h+c=\n", "hw==\n"),
    "hash of 33 bytes": twin("+c=\n", "+cA\n"),
    "hash in Arabic": twin("+c=\n", "٣c=\n"),
    "64 hashes": twin("index 2\n", "index 2\n" + HASH_LINE * 61),
    "a thousand hashes": twin("index 2\n", "index 2\n" + HASH_LINE * 2000),
    "no empty line": twin("\n\n", "\n"),
    "two empty lines": twin("\n\n", "\n\n\n"),
    "no final newline": LAST["proof"][:-1].encode(),
    "two final newlines": (LAST["proof"] + "\n").encode(),
    "not a checkpoint": twin("\n8\n", "\n08\n"),
    "extension line": twin("RgQyg=\n", "RgQyg=\next\n"),
    "unsigned checkpoint": LAST["proof"].rpartition("\n\n")[0].encode() + b"\n",
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


@pytest.mark.parametrize("name", TWINS)
def test_other_spellings_are_malformed(name):
    assert accepted(LogProof.parse, [name]) == []


def test_control_a_lax_parser_is_seen():
    def lax(data: bytes) -> LogProof:
        head, _, note = data.decode().partition("\n\n")
        lines = [line.strip() for line in head.split("\n")[1:] if not line.startswith("extra ")]
        hashes = tuple(tlogproof.decode_base64(line) for line in lines[1:])
        return LogProof(int(lines[0].split()[1]), hashes, Note.parse(note.encode()))

    lenient = ["extra line", "empty extra line", "two spaces", "leading zero", "other version"]
    assert set(accepted(lax, lenient)) == set(lenient)


@given(PROOFS)
def test_every_proof_is_read_back(proof):
    assert LogProof.parse(proof.format().encode()) == proof


@given(st.binary(max_size=300))
def test_only_what_is_written_is_accepted(data):
    try:
        proof = LogProof.parse(data)
    except Malformed:
        return
    assert proof.format().encode() == data


@given(st.sampled_from(GOLDEN), st.data())
def test_only_what_is_written_is_accepted_near_proofs(golden, data):
    whole = golden["proof"].encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 3)))
    new = data.draw(st.sampled_from([b"", b"\n", b"\n\n", b" ", b"=", b"0", b"\r", b"A", b"\xff"]))
    changed = whole[:start] + new + whole[end:]
    try:
        proof = LogProof.parse(changed)
    except Malformed:
        return
    assert proof.format().encode() == changed


@pytest.mark.parametrize(
    ("index", "hashes"),
    [(-1, ()), (2**63, ()), (0, (bytes(31),)), (0, (bytes(33),)), (0, (bytes(32),) * 64)],
)
def test_no_proof_is_made_that_could_not_be_read_back(index, hashes):
    checkpoint = Note(Checkpoint("log.example", 1, bytes(32)).text(), LINES)
    with pytest.raises(ValueError, match=r"leaf index|hash"):
        LogProof(index, hashes, checkpoint)


def test_no_proof_is_made_around_another_note():
    with pytest.raises(Malformed, match="not a checkpoint"):
        LogProof(0, (), Note("a text\n", LINES))


def test_the_largest_proof():
    """The size limit of a proof is exactly what 63 hashes and the largest note need."""
    line = "— a MTIzNHM=\n"
    fill = tlogproof.MAX_NOTE_SIZE - len(f"\n{2**63 - 1}\n{HASH_LINE}\n{line}".encode())
    note = Note(Checkpoint("o" * fill, 2**63 - 1, bytes(32)).text(), LINES)
    proof = LogProof(2**63 - 1, (bytes(32),) * 63, note)
    data = proof.format().encode()
    assert len(data) == tlogproof._MAX_HEAD_SIZE + tlogproof.MAX_NOTE_SIZE
    assert LogProof.parse(data) == proof
    with pytest.raises(Malformed, match="a log proof of"):
        LogProof.parse(data + b"\n")
