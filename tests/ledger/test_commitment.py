"""The commitment against its docstring's formula, and against who knows all but the key (PR2)."""

import hashlib
import hmac
import itertools
import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_fixtures import ORIGIN, VECTORS, load_generator

from ledger.commitment import COMMITMENT_KEY_BYTES, Committer
from ledger.entry import encode_erasure, encode_version

GOLDEN = json.loads((VECTORS / "entry_commitment.json").read_text(encoding="utf-8"))
formula = load_generator().commitment

KEY = hashlib.sha256(b"K_commit").digest()
POINTER = hashlib.sha256(b"pointer").digest()[:16]
PAYLOAD = b'{"bsn": "999999990"}'

keys = st.binary(min_size=32, max_size=32)
pointers = st.binary(min_size=16, max_size=16)
versions = st.integers(1, 2**32 - 1)


@pytest.mark.parametrize("vector", GOLDEN, ids=[v["commitment"][:12] for v in GOLDEN])
def test_golden_commitments(vector):
    payload = bytes.fromhex(vector["payload"]) * vector["repeat"]
    arguments = (
        bytes.fromhex(vector["key"]),
        bytes.fromhex(vector["pointer"]),
        vector["version"],
        payload,
        vector.get("group", 0),
    )
    committer = Committer(vector["origin"])
    assert committer.commit(*arguments).hex() == vector["commitment"]
    assert committer.opens(bytes.fromhex(vector["commitment"]), *arguments)


@given(
    keys,
    st.text(min_size=1, max_size=300),
    pointers,
    versions,
    st.binary(max_size=2_000),
    st.integers(0, 15),
)
def test_it_is_the_formula_in_the_docstring(key, origin, pointer, version, payload, group):
    try:
        origin.encode()
    except UnicodeEncodeError:
        return
    expected = formula(key, origin, pointer, version, payload, group=group)
    assert Committer(origin).commit(key, pointer, version, payload, group) == expected
    if group == 0:
        assert Committer(origin).commit(key, pointer, version, payload) == expected


def bit_flips(value: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(value)):
        yield (int.from_bytes(value, "big") ^ 1 << bit).to_bytes(len(value), "big")


def other_openings() -> Iterator[tuple[str, tuple[object, ...]]]:
    """Every opening that differs from the true one in one field, by a bit, a byte or a place."""
    for group in range(1, 16):
        yield "group", (ORIGIN, KEY, POINTER, 1, PAYLOAD, group)
    for key in bit_flips(KEY):
        yield "key", (ORIGIN, key, POINTER, 1, PAYLOAD)
    for pointer in bit_flips(POINTER):
        yield "pointer", (ORIGIN, KEY, pointer, 1, PAYLOAD)
    for bit in range(1, 32):
        yield "version", (ORIGIN, KEY, POINTER, 1 | 1 << bit, PAYLOAD)
    for payload in bit_flips(PAYLOAD):
        yield "payload", (ORIGIN, KEY, POINTER, 1, payload)
    for payload in (b"", PAYLOAD + b"\n", b" " + PAYLOAD, PAYLOAD[:-1], b'{"bsn":"999999990"}'):
        yield "payload", (ORIGIN, KEY, POINTER, 1, payload)
    for origin in (ORIGIN + "2", ORIGIN[:-1], ORIGIN.upper(), "x", ORIGIN + "\x10"):
        yield "origin", (origin, KEY, POINTER, 1, PAYLOAD)


def test_every_field_is_bound():
    true = Committer(ORIGIN).commit(KEY, POINTER, 1, PAYLOAD)
    counts: dict[str, int] = {}
    seen = {true}
    for name, (origin, *opening) in other_openings():
        committer = Committer(origin)
        assert not committer.opens(true, *opening), (name, origin, opening)
        seen.add(committer.commit(*opening))
        counts[name] = counts.get(name, 0) + 1
    print(f"openings that differ in one field: {counts}; none opens")
    assert len(seen) == 1 + sum(counts.values())
    assert set(counts) == {"key", "pointer", "version", "payload", "origin", "group"}


@pytest.mark.parametrize(
    "changed",
    [{"domain": b"datakluis/commitment/2"}, {"domain": b""}, {"suite": 2}, {"group": 1}],
    ids=str,
)
def test_domain_suite_and_group_are_bound(changed):
    """A caller cannot vary these, so the formula does: another value gives another commitment."""
    committed = Committer(ORIGIN).commit(KEY, POINTER, 1, PAYLOAD)
    assert formula(KEY, ORIGIN, POINTER, 1, PAYLOAD) == committed
    assert formula(KEY, ORIGIN, POINTER, 1, PAYLOAD, **changed) != committed


def test_fields_do_not_run_into_each_other():
    """The same bytes cut at another place are another message: each length stands before them."""
    whole = (ORIGIN.encode() + POINTER).decode("latin-1")
    commitments = {
        formula(KEY, whole[:cut], whole[cut:].encode("latin-1"), 1, PAYLOAD)
        for cut in range(1, len(whole))
    }
    assert len(commitments) == len(whole) - 1
    assert Committer(ORIGIN).commit(KEY, POINTER, 1, PAYLOAD) in commitments


def test_the_commitment_is_32_bytes_and_takes_any_payload():
    committer = Committer(ORIGIN)
    for payload in (b"", b"\x00" * 1_000_000):
        assert len(committer.commit(KEY, POINTER, 2**32 - 1, payload)) == 32
    with pytest.raises(OverflowError):
        committer.commit(KEY, POINTER, 2**32, b"")
    for group in (-1, 16, 255, 256):
        with pytest.raises(ValueError, match="field group"):
            committer.commit(KEY, POINTER, 1, b"", group)


def test_opens_refuses_what_is_no_commitment():
    committer = Committer(ORIGIN)
    true = committer.commit(KEY, POINTER, 1, PAYLOAD)
    for wrong in (b"", true[:-1], true + b"\x00", bytes(32), *bit_flips(true)):
        assert not committer.opens(wrong, KEY, POINTER, 1, PAYLOAD)


# PR2: who has the ledger and tries every BSN.

RANGE = range(999_000_000, 1_000_000_000)


def is_bsn(number: int) -> bool:
    """The eleven test of the citizen service number: weights 9 to 2, then -1."""
    digits = [int(digit) for digit in f"{number:09}"]
    weights = (9, 8, 7, 6, 5, 4, 3, 2, -1)
    return sum(w * d for w, d in zip(weights, digits, strict=True)) % 11 == 0


BSNS = [b"%09d" % number for number in RANGE if is_bsn(number)]
SUBJECT = BSNS[len(BSNS) * 2 // 3]


def public_messages(pointer: bytes) -> tuple[bytes, bytes]:
    """What of the committed message anybody knows: all before and after the digest."""
    fields = [b"datakluis/commitment/1", b"\x01", ORIGIN.encode(), pointer, b"\0\0\0\1", b"\0"]
    return b"".join(len(f).to_bytes(2, "big") + f for f in fields) + b"\x00\x20", b""


def keyless_guesses(pointer: bytes) -> list[Callable[[bytes], bytes]]:
    """The ways to turn a guessed payload into 32 bytes with nothing but what the ledger shows."""
    head, _ = public_messages(pointer)
    public_keys = [b"", bytes(32), pointer, pointer * 2, ORIGIN.encode(), b"datakluis/commitment/1"]

    def under(key: bytes) -> Callable[[bytes], bytes]:
        start = hmac.new(key, head, hashlib.sha256)

        def guess(digest: bytes) -> bytes:
            mac = start.copy()
            mac.update(digest)
            return mac.digest()

        return guess

    return [
        lambda digest: digest,
        lambda digest: hashlib.sha256(head + digest).digest(),
        lambda digest: hashlib.sha256(pointer + digest).digest(),
        lambda digest: under(digest)(digest),
        *map(under, public_keys),
    ]


def found_by(targets: set[bytes], guesses: list[Callable[[bytes], bytes]]) -> list[bytes]:
    """The BSNs of which some guess hits something that the ledger shows."""
    found = []
    for bsn in BSNS:
        digest = hashlib.sha256(bsn).digest()
        if any(guess(digest) in targets for guess in guesses):
            found.append(bsn)
    return found


def windows(entry: bytes) -> set[bytes]:
    """Every 32 bytes in a row of an entry, and its pointer filled up with zeroes."""
    rows = {entry[at : at + 32] for at in range(len(entry) - 31)}
    return rows | {entry[4:20] + bytes(16)}


def test_pr2_trying_every_bsn_finds_nothing_without_the_key():
    key = hashlib.sha256(b"a random key").digest()
    committed = Committer(ORIGIN).commit(key, POINTER, 1, SUBJECT)
    ledger = [encode_version(POINTER, 1, committed), encode_erasure(POINTER, 1)]
    targets = set().union(*map(windows, ledger))
    guesses = keyless_guesses(POINTER)

    assert found_by(targets, guesses) == []

    # Controls: who has the key finds the one person, and an unsalted digest gives the person away.
    with_key = [bsn for bsn in BSNS if Committer(ORIGIN).opens(committed, key, POINTER, 1, bsn)]
    assert with_key == [SUBJECT]
    for guess in guesses:
        weak = guess(hashlib.sha256(SUBJECT).digest())
        shown = windows(encode_version(POINTER, 1, weak))
        near = BSNS.index(SUBJECT)
        nearby = itertools.islice(BSNS, near - 50, near + 50)
        assert [b for b in nearby if guess(hashlib.sha256(b).digest()) in shown] == [SUBJECT]
    print(
        f"{len(BSNS)} BSNs under {len(guesses)} keyless constructions against {len(targets)} "
        f"targets: 0 found; with the key: {len(with_key)}; controls without salt: {len(guesses)}"
    )


def test_pr2_two_records_of_one_person_share_nothing():
    """Equal payloads under keys and pointers of their own give entries with equal heads alone."""
    committer = Committer(ORIGIN)
    entries = []
    for number in range(100):
        key, pointer = (hashlib.sha256(b"%s %d" % (what, number)).digest() for what in (b"k", b"p"))
        commitment = committer.commit(key[:COMMITMENT_KEY_BYTES], pointer[:16], 1, SUBJECT)
        entries.append(encode_version(pointer[:16], 1, commitment))
    for first, second in itertools.combinations(entries, 2):
        assert not windows(first) & windows(second)
    assert len({entry[:4] + entry[20:24] for entry in entries}) == 1
