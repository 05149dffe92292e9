"""Shares: any M of N bring the key back, fewer do not help, and no changed byte passes (OP5)."""

import hashlib
import hmac
import importlib.util
import itertools
import json
import math
import os
import secrets
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import shamir_mnemonic
from hypothesis import example, given
from hypothesis import strategies as st
from shamir_mnemonic import shamir

from anchor.strictjson import write_json
from vault.errors import ConfigurationError, VaultError
from vault.escrow import shares as shares_module
from vault.escrow.attestation import Attestation
from vault.escrow.errors import (
    BadEscrowFile,
    DamagedShare,
    DuplicateShare,
    EscrowRefused,
    OtherEscrow,
    TooFewShares,
)
from vault.escrow.shares import Escrow, Share, combine, make_shares

VECTORS = Path(__file__).parents[1] / "vectors"
GOLDEN = json.loads((VECTORS / "escrow.json").read_text(encoding="utf-8"))
KEY, TENANT, AT = bytes(range(32)), bytes(range(100, 116)), 1_772_445_600
NAMES = ["Anna de Archivaris", "Bilal Bestuur", "Cor Controller", "Dilek", "Eva", "Farid", "Gé"]


def load_generator():
    spec = importlib.util.spec_from_file_location("generate_escrow", VECTORS / "generate_escrow.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    return generator


GENERATOR = load_generator()


def make(threshold=3, total=5, *, key=KEY, tenant=TENANT, generation=7, names=NAMES):
    return make_shares(key, tenant, generation, names[:total], threshold, created_at=AT)


def golden_shares(number):
    return [Share.parse(text.encode()) for text in GOLDEN[number]["shares"]]


# Any M, and no fewer.


def test_every_m_of_n_up_to_five_of_seven():
    recovered = refused = lied = 0
    for total in range(2, 8):
        for threshold in range(2, min(total, 5) + 1):
            key = os.urandom(32)
            escrow, shares = make(threshold, total, key=key)
            assert (escrow.threshold, escrow.total, len(shares)) == (threshold, total, total)
            for some in itertools.combinations(shares, threshold):
                assert combine(some) == combine(some[::-1]) == key
                recovered += 1
            for few in itertools.combinations(shares, threshold - 1):
                with pytest.raises(TooFewShares, match=r"bring 1 more$") as error:
                    combine(few)
                assert (error.value.given, error.value.missing) == (threshold - 1, 1)
                refused += 1
                if threshold > 2:
                    with pytest.raises(DamagedShare):
                        combine([claim_threshold(one, threshold - 1) for one in few])
                    lied += 1
    print(
        f"{recovered} sets of M shares recover, {refused} sets of M-1 are refused,"
        f" and {lied} of these again when they claim that M-1 is enough"
    )
    made = [(n, m) for n in range(2, 8) for m in range(2, min(n, 5) + 1)]
    assert recovered == sum(math.comb(n, m) for n, m in made) == 210
    assert refused == sum(math.comb(n, m - 1) for n, m in made) == 206


def claim_threshold(share, threshold):
    """A share rewritten to say that fewer are needed, in its header and in its words."""
    decoded = shamir_mnemonic.Share.from_mnemonic(share.words)
    words = replace(decoded, member_threshold=threshold).mnemonic()
    return Share.parse(replace(share, threshold=threshold, words=words).format())


def test_the_number_of_missing_shares_is_told():
    _, shares = make(5, 7)
    for given_now in range(1, 5):
        with pytest.raises(TooFewShares, match=f"bring {5 - given_now} more$") as error:
            combine(shares[:given_now])
        assert error.value.missing == 5 - given_now
    with pytest.raises(EscrowRefused, match="no share"):
        combine([])


def test_the_largest_escrow():
    names = [f"bewaarder {number}" for number in range(16)]
    escrow, shares = make(16, 16, names=names)
    assert combine(shares) == KEY
    with pytest.raises(TooFewShares, match=r"^15 of the 16 shares that it takes: bring 1 more$"):
        combine(shares[1:])
    assert len(escrow.format()) < 16_384 / 3


def test_shares_beyond_the_threshold_are_tried_too():
    _, shares = make(3, 5)
    assert combine(shares) == KEY
    for victim in (3, 4):
        changed = [*shares[:victim], forge(shares[victim]), *shares[victim + 1 :]]
        with pytest.raises(DamagedShare) as error:
            combine(changed)
        assert error.value.numbers == (victim + 1,)
    with pytest.raises(DamagedShare, match="shares 1, 2, 3 do not fit together") as error:
        combine([shares[2], forge(shares[0]), shares[1], shares[3]])
    assert error.value.numbers == (1, 2, 3)


def forge(share):
    """The same share with another value, under a right checksum."""
    decoded = shamir_mnemonic.Share.from_mnemonic(share.words)
    value = bytes([decoded.value[0] ^ 1]) + decoded.value[1:]
    return replace(share, words=replace(decoded, value=value).mnemonic())


def test_the_same_key_is_shared_out_otherwise_each_time():
    made = [make(2, 3) for _ in range(50)]
    assert len({escrow.escrow_id for escrow, _ in made}) == 50
    assert len({share.words for _, shares in made for share in shares}) == 150
    assert len({share.custodian_key for _, shares in made for share in shares}) == 150
    assert {escrow.key_check for escrow, _ in made} == {made[0][0].key_check}


def test_randomness_is_the_systems_and_no_passphrase_is_stretched():
    assert shamir.RANDOM_BYTES is secrets.token_bytes
    assert "random" not in vars(shamir)
    decoded = [shamir_mnemonic.Share.from_mnemonic(share.words) for share in make()[1]]
    assert {(one.iteration_exponent, one.extendable) for one in decoded} == {(0, True)}
    assert {(one.group_threshold, one.group_count) for one in decoded} == {(1, 1)}


# What M-1 shares tell. SLIP-0039 works byte by byte but for the digest, its first four bytes at
# the point 254; so all that is random in one place can be tried.


def share_values(secret, threshold, total, random):
    """Values of the shares when the library draws these bytes."""
    drawn = iter(random)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shamir, "RANDOM_BYTES", lambda size: next(drawn)[:size])
        return [one.data for one in shamir._split_secret(threshold, total, secret)]


def test_one_share_of_two_takes_every_value_whatever_the_secret():
    total, places = 5, range(4, 32)
    checked = 0
    for secret in (bytes(32), bytes([255]) * 32, bytes(range(32)), KEY[::-1]):
        runs = [share_values(secret, 2, total, [bytes([v]) * 32]) for v in range(256)]
        for index, place in itertools.product(range(total), places):
            assert {run[index][place] for run in runs} == set(range(256))
            checked += 1
    print(f"{checked} places of a share of 2-of-{total}, 256 random bytes each: all 256 values")


def joint_values(secret_byte, randoms, pair):
    """The values that two shares of 3-of-4 take together, over pairs of random bytes.

    The places from 4 are alike, as the test before this one shows, so each run tries 28 pairs.
    """
    seen = set()
    for start in range(0, len(randoms), 28):
        batch = randoms[start : start + 28]
        first = bytes(4) + bytes(u for u, _ in batch).ljust(28, b"\0")
        second = bytes(v for _, v in batch).ljust(28, b"\0")
        values = share_values(bytes([secret_byte]) * 32, 3, 4, [first, second])
        for place in range(4, 4 + len(batch)):
            seen.add(tuple(values[index][place] for index in pair))
    return seen


def test_two_shares_of_three_take_every_pair_of_values_whatever_the_secret():
    randoms = list(itertools.product(range(256), repeat=2))
    for secret_byte, pair in ((0, (0, 1)), (0, (2, 3)), (0xA5, (1, 3)), (0xFF, (0, 2))):
        assert len(joint_values(secret_byte, randoms, pair)) == 65_536
    # Control: with less randomness the count falls, and the secret shows.
    fixed = [(u, 0) for u in range(256)]
    assert len(joint_values(0, fixed, (2, 3))) == 256
    repeated = [(u, u) for u in range(256)]
    assert joint_values(0, repeated, (2, 3)) != joint_values(1, repeated, (2, 3))
    print("2 of the 3 shares that it takes: 65,536 of 65,536 pairs, for each of 3 secrets")


def test_as_many_shares_as_it_takes_do_depend_on_the_secret():
    """Control: what the two tests before measure is there to be seen with M shares."""
    runs = {
        secret: {
            tuple(one[9] for one in share_values(bytes([secret]) * 32, 2, 3, [bytes([v]) * 32]))
            for v in range(256)
        }
        for secret in (0, 1)
    }
    assert not runs[0] & runs[1]


def completed(shares, number, encrypted):
    """Another custodian's share, so that all together the words hold another encrypted secret."""
    decoded = [shamir_mnemonic.Share.from_mnemonic(share.words) for share in shares]
    points = [shamir.RawShare(one.index, one.value) for one in decoded]
    points.append(shamir.RawShare(shamir.SECRET_INDEX, encrypted))
    value = shamir._interpolate(points, number - 1)
    words = replace(decoded[0], index=number - 1, value=value).mnemonic()
    return replace(shares[0], number=number, custodian=f"bewaarder {number}", words=words)


@pytest.mark.parametrize("number", [0, 1])
def test_any_secret_completes_m_less_one_shares_but_for_the_digest(number, monkeypatch):
    shares = golden_shares(number)
    threshold = shares[0].threshold
    few = shares[: threshold - 1]
    wanted = [hashlib.sha256(b"secret %d" % i).digest() for i in range(1_000)]
    forged = [completed(few, threshold, encrypted) for encrypted in wanted]
    # Words, numbers and checksums are right; the 4 bytes of digest are all that refuses them.
    for one in forged:
        with pytest.raises(DamagedShare, match="do not fit together"):
            combine([*few, one])
    monkeypatch.setattr(shamir, "DIGEST_LENGTH_BYTES", 1)
    accepted = [one for one in forged if can_combine([*few, one])]
    print(f"{threshold}-of-{len(shares)}: {len(accepted)} of 1,000 other secrets by 1 byte of it")
    assert 1 <= len(accepted) <= 12  # 1,000 / 256 is about 4
    assert len({combine([*few, one]) for one in accepted}) == len(accepted)
    monkeypatch.setattr(shamir, "DIGEST_LENGTH_BYTES", 0)
    keys = {combine([*few, one]) for one in forged[:200]}
    assert len(keys) == 200
    # Control: the true share is one of these, made in the same way from the true secret.
    monkeypatch.undo()
    groups = shamir_mnemonic.decode_mnemonics([one.words for one in shares[:threshold]])
    true_secret = shamir_mnemonic.recover_ems(groups).ciphertext
    assert completed(few, threshold, true_secret).words == shares[threshold - 1].words


def can_combine(shares):
    try:
        combine(shares)
    except DamagedShare:
        return False
    return True


def test_the_key_check_knows_the_key_and_nothing_near_it():
    escrow, _ = make()
    assert escrow.confirms(KEY)
    for bit in range(256):
        near = (int.from_bytes(KEY, "big") ^ 1 << bit).to_bytes(32, "big")
        assert not escrow.confirms(near)
    for bit in range(128):
        check = (int.from_bytes(escrow.key_check, "big") ^ 1 << bit).to_bytes(16, "big")
        assert not replace(escrow, key_check=check).confirms(KEY)
    info = b"datakluis/escrow-check/1"
    block = hmac.new(KEY, info + b"\x01", hashlib.sha256).digest()  # RFC 5869, section 2.3
    assert escrow.key_check == block[:16]


# What is refused, and what errors show.


@pytest.mark.parametrize(
    ("names", "threshold", "why"),
    [
        (NAMES[:5], 1, "no one has the key alone"),
        (NAMES[:5], 0, "a threshold of 0"),
        (NAMES[:5], -1, "a threshold of -1"),
        (NAMES[:5], 6, "no more than the 5 custodians"),
        (NAMES[:1], 1, "^1 custodians: it takes 2 to 16$"),
        ([], 2, "^0 custodians"),
        ([f"b{i}" for i in range(17)], 3, "^17 custodians"),
        ([*NAMES[:3], NAMES[0]], 2, "named twice"),
        (["Anna", "ANNA"], 2, "named twice"),
        (["Gé", "Ge\u0301"], 2, "named twice"),
        (["Straße", "STRASSE"], 2, "named twice"),
        (["Anna", ""], 2, "custodian 2 has no name"),
        (["x" * 129, "Anna"], 2, "custodian 1 has no name"),
        (["é" * 64 + "x", "Anna"], 2, "custodian 1 has no name"),
        (["Anna\n", "Bilal"], 2, "custodian 1 has no name"),
        (["Anna", " Bilal"], 2, "custodian 2 has no name"),
        (["Anna", "Bi\u202elal"], 2, "custodian 2 has no name"),
        (["Anna", "Bi\udcfflal"], 2, "custodian 2 has no name"),
    ],
    ids=str,
)
def test_an_escrow_that_does_not_protect_is_refused(names, threshold, why):
    with pytest.raises(EscrowRefused, match=why) as error:
        make_shares(KEY, TENANT, 1, names, threshold, created_at=AT)
    assert not any(name.strip() in str(error.value) for name in names if len(name) > 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch_key": bytes(31)},
        {"epoch_key": bytes(64)},
        {"tenant": bytes(15)},
        {"generation": 0},
        {"generation": 2**56},
        {"created_at": -1},
        {"created_at": 253_402_300_800},
    ],
    ids=str,
)
def test_arguments_out_of_range(wrong):
    arguments = {"epoch_key": KEY, "tenant": TENANT, "generation": 1, "created_at": AT} | wrong
    with pytest.raises(ValueError, match=r"of another size|out of range"):
        make_shares(custodians=NAMES, threshold=2, **arguments)


def test_shares_that_were_not_made_together_are_refused():
    _, shares = make(2, 3)
    _, others = make(2, 3)
    with pytest.raises(OtherEscrow, match="different escrows"):
        combine([shares[0], others[1]])
    for change in ({"generation": 8}, {"tenant": bytes(16)}, {"threshold": 3}, {"total": 4}):
        with pytest.raises(OtherEscrow, match="differ in tenant, generation"):
            combine([shares[0], replace(shares[1], **change)])
    # One escrow by its header, another by its words.
    with pytest.raises(DamagedShare):
        combine([shares[0], replace(shares[1], words=others[1].words)])
    assert combine(shares[:2]) == KEY


def test_one_custodian_twice_is_refused():
    _, shares = make(2, 3)
    for twice in (
        [shares[1], shares[1]],
        [shares[0], shares[1], shares[1]],
        [shares[1], forge(shares[1])],
        [shares[1], replace(shares[1], custodian="another name")],
    ):
        with pytest.raises(DuplicateShare, match="share 2 is there twice") as error:
            combine(twice)
        assert error.value.number == 2
    with pytest.raises(DuplicateShare, match="share 3 is there twice"):
        combine([shares[0], replace(shares[2], custodian=shares[0].custodian.upper())])


def test_every_other_word_in_every_place_is_noticed():
    _, shares = make(2, 2)
    words = shares[0].words.split()
    listed = shamir_mnemonic.wordlist.WORDLIST
    tried = 0
    for place in range(len(words)):
        for word in listed[place % 8 :: 8]:
            if word != words[place]:
                changed = [*words[:place], word, *words[place + 1 :]]
                with pytest.raises(DamagedShare) as error:
                    combine([replace(shares[0], words=" ".join(changed)), shares[1]])
                assert error.value.numbers == (1,)
                tried += 1
    print(f"{tried} changes of one of {len(words)} words, all noticed")
    assert combine(shares) == KEY


def damaged_words(words):
    first, rest = words.split(" ", 1)
    last_two = words.split()[-2:]
    return {
        "a word is missing": rest,
        "a word too many": f"{words} {first}",
        "no word": "",
        "an unknown word": f"zzzzz {rest}",
        "two swapped": " ".join([*words.split()[:-2], *reversed(last_two)]),
        "upper case": words.upper(),
        "two spaces": words.replace(" ", "  ", 1),
        "a newline": words + "\n",
        "not English": "é" + words[1:],
        "a lone surrogate": "\ud800" + words[1:],
    }


@pytest.mark.parametrize("kind", damaged_words("a b c"))
def test_damaged_words_are_refused(kind):
    _, shares = make(2, 2)
    damaged = replace(shares[1], words=damaged_words(shares[1].words)[kind])
    with pytest.raises(DamagedShare) as error:
        combine([shares[0], damaged])
    assert error.value.numbers == (2,)
    if kind != "a lone surrogate":
        with pytest.raises((DamagedShare, BadEscrowFile)):
            Share.parse(damaged.format())


def test_words_of_another_number_threshold_or_size_are_not_this_shares():
    _, shares = make(3, 5)
    decoded = shamir_mnemonic.Share.from_mnemonic(shares[0].words)
    for change in (
        {"index": 1},
        {"member_threshold": 2},
        {"group_index": 1, "group_count": 2},
        {"group_threshold": 2, "group_count": 2},
        {"group_count": 2},
        {"extendable": False},
        {"iteration_exponent": 1},
        {"value": decoded.value[:16]},
        {"value": decoded.value + b"\0\0"},
    ):
        words = replace(decoded, **change).mnemonic()
        with pytest.raises((DamagedShare, BadEscrowFile)):
            Share.parse(replace(shares[0], words=words).format())
        with pytest.raises(DamagedShare, match="share 1 "):
            combine([replace(shares[0], words=words), *shares[1:]])
    assert Share.parse(replace(shares[0], words=decoded.mnemonic()).format()) == shares[0]


def chain(error):
    """All that an error, and the errors behind it, can show."""
    while error is not None:
        yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
        yield repr(getattr(error, "doc", "")) + repr(getattr(error, "object", ""))
        yield from traceback.format_exception(error)
        error = error.__cause__ or error.__context__


def secrets_in(share):
    """Texts of a share that nothing may show: runs of two words, the seed, the name, the key."""
    words = share.words.split()[5:]
    yield from (" ".join(two) for two in itertools.pairwise(words))
    yield from (share.custodian_key.hex(), repr(share.custodian_key)[2:-1])
    yield from (share.custodian, KEY.hex(), repr(KEY)[2:-1])


def test_no_secret_is_shown():
    escrow, shares = make(2, 3)
    share, data = shares[0], shares[0].format()
    words = share.words.split()
    attempts = [
        lambda: combine(shares[:1]),
        lambda: combine([share, share]),
        lambda: combine([share, make(2, 3)[1][1]]),
        lambda: combine([replace(share, generation=3), shares[1]]),
        lambda: combine([forge(share), shares[1]]),
        lambda: combine([replace(share, words=" ".join(words[::-1])), shares[1]]),
        lambda: combine([replace(share, words=f"zzzz {words[-1]}"), shares[1]]),
        lambda: combine([*shares[:2], forge(shares[2])]),
        lambda: Share.parse(data[:-5]),
        lambda: Share.parse(data + b"\xff"),
        lambda: Share.parse(data.replace(b'"words"', b'"Words"')),
        lambda: Share.parse(data.replace(words[7].encode(), b"zzzz")),
        lambda: Share.parse(replace(share, words=" ".join(words[::-1])).format()),
        lambda: Share.parse(data.replace(share.custodian_key.hex().encode(), b"aa")),
        lambda: Share.parse(data + b" " * 4_096),
        lambda: Share.parse(b"[" * 4_000),
        lambda: Escrow.parse(data),
        lambda: Attestation.parse(data),
    ]
    shown = [repr(share), str(share), repr(escrow), repr(shares), f"{share}"]
    for attempt in attempts:
        with pytest.raises(VaultError) as error:
            attempt()
        shown += chain(error.value)
    for text, secret in itertools.product(shown, secrets_in(share)):
        assert secret not in text
    # Control: the library's own error does quote words, and the JSON reader's the whole file.
    with pytest.raises(shamir_mnemonic.MnemonicError) as quoting:
        shamir_mnemonic.Share.from_mnemonic(f"{words[0]} {share.custodian}")
    assert any(share.custodian.split()[0].lower() in text.lower() for text in chain(quoting.value))
    with pytest.raises(ValueError, match=r"delimiter|Unterminated|Expecting") as quoting:
        json.loads(data[:-5])
    assert any(share.words in text for text in chain(quoting.value))
    assert "number=1" in repr(share)


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    _, shares = make(2, 2)
    data = shares[0].format()
    monkeypatch.setitem(sys.modules, "shamir_mnemonic", None)
    for attempt in (make, lambda: combine(shares), lambda: Share.parse(data)):
        with pytest.raises(ConfigurationError, match=r"pip install 'datakluis\[escrow\]'") as error:
            attempt()
        assert error.value.__cause__ is None


# The files.


def test_round_trip():
    escrow, shares = make(3, 5)
    assert Escrow.parse(escrow.format()) == escrow
    for share, custodian in zip(shares, escrow.custodians, strict=True):
        assert Share.parse(share.format()) == share
        assert (share.number, share.custodian) == (custodian.number, custodian.name)
        assert share.escrow_id == escrow.escrow_id
    assert escrow.escrow_id == hashlib.sha256(escrow.format()).digest()
    assert [one.name for one in escrow.custodians] == NAMES[:5]


@pytest.mark.parametrize("umask", [0, 0o022, 0o277])
def test_only_the_owner_may_read_a_share_whatever_the_umask(tmp_path, umask):
    share = make()[1][2]
    path = tmp_path / "share-3.json"
    before = os.umask(umask)
    try:
        share.write(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600 & ~umask
    assert Share.read(path) == share
    assert path.read_bytes() == share.format()


def test_a_share_file_is_never_overwritten(tmp_path):
    first, second = make()[1][:2]
    path = tmp_path / "share.json"
    first.write(path)
    with pytest.raises(ConfigurationError, match="exists already"):
        second.write(path)
    (tmp_path / "link.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ConfigurationError, match="exists already"):
        second.write(tmp_path / "link.json")
    assert Share.read(path) == first
    with pytest.raises(BadEscrowFile, match="cannot be read"):
        Share.read(tmp_path / "none.json")


def test_every_flipped_bit_of_a_share_file_is_noticed():
    data = GOLDEN[0]["shares"][1].encode()
    for place, bit in itertools.product(range(len(data)), range(8)):
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        with pytest.raises((BadEscrowFile, DamagedShare)):
            Share.parse(bytes(changed))
    print(f"{len(data)} bytes, {8 * len(data)} flips, 0 parsed")
    assert Share.parse(data).format() == data


def test_every_flipped_bit_of_an_escrow_file_is_noticed_or_gives_another_id():
    data = GOLDEN[0]["escrow"].encode()
    parsed = 0
    for place, bit in itertools.product(range(len(data)), range(8)):
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        try:
            escrow = Escrow.parse(bytes(changed))
        except BadEscrowFile:
            continue
        parsed += 1
        assert escrow.format() == changed
        assert escrow.escrow_id.hex() != GOLDEN[0]["escrow_id"]
    print(f"{len(data)} bytes, {8 * len(data)} flips, {parsed} another escrow")
    assert 0 < parsed < 8 * len(data)
    assert Escrow.parse(data).escrow_id.hex() == GOLDEN[0]["escrow_id"]


PARSERS = {"shares": Share.parse, "escrow": Escrow.parse, "attestations": Attestation.parse}


def golden_file(kind):
    found = GOLDEN[1][kind]
    return (found if isinstance(found, str) else found[0]).encode()


def never_otherwise(parse, data):
    """Parse: what is accepted is what would be written. Return whether it was."""
    try:
        parsed = parse(data)
    except (BadEscrowFile, DamagedShare):
        return False
    assert parsed.format() == data
    return True


@pytest.mark.parametrize("kind", PARSERS)
def test_every_truncation_and_any_addition_is_refused(kind):
    data = golden_file(kind)
    assert never_otherwise(PARSERS[kind], data)
    for size in range(len(data)):
        assert not never_otherwise(PARSERS[kind], data[:size])
    for longer in (data + b"\n", b" " + data, data + data, b"\xef\xbb\xbf" + data, data + b"\0"):
        assert not never_otherwise(PARSERS[kind], longer)


@pytest.mark.parametrize("kind", PARSERS)
@given(data=st.data())
def test_a_changed_file_is_refused_or_is_one_that_would_be_written(kind, data):
    original = golden_file(kind)
    start = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(start, min(len(original), start + 40)))
    piece = data.draw(st.binary(max_size=8) | st.text(max_size=4).map(lambda t: t.encode()))
    never_otherwise(PARSERS[kind], original[:start] + piece + original[end:])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-1, 18)
    | st.floats()
    | st.text(st.characters(codec="utf-8"))
    | st.binary(max_size=70).map(bytes.hex),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", PARSERS)
@given(data=st.data())
def test_a_member_of_another_kind_or_value_is_no_crash(kind, data):
    document = json.loads(golden_file(kind))
    key = data.draw(st.sampled_from([*document, "unknown"]))
    document[key] = data.draw(VALUES)
    if data.draw(st.booleans()):
        document.pop(data.draw(st.sampled_from(list(document))))
    if "digest" in document:
        rest = {name: value for name, value in document.items() if name != "digest"}
        document["digest"] = hashlib.sha256(write_json(rest)).hexdigest()
    never_otherwise(PARSERS[kind], write_json(document))


@pytest.mark.parametrize("kind", PARSERS)
@given(st.binary(max_size=300) | VALUES.map(lambda value: json.dumps(value).encode()))
@example(b'{"format": "\\ud800"}')
@example(b"9" * 4_000)
@example(b"[" * 4_000)
def test_no_bytes_crash_a_parser(kind, junk):
    assert not never_otherwise(PARSERS[kind], junk)


@pytest.mark.parametrize("kind", PARSERS)
def test_a_file_of_another_format_is_refused_by_name(kind):
    for other in PARSERS.keys() - {kind}:
        with pytest.raises(BadEscrowFile, match="has another format than 'datakluis-"):
            PARSERS[kind](golden_file(other))


@pytest.mark.parametrize("key", ["custodian", "words", "tenant", "format"])
def test_an_escaped_surrogate_is_no_crash(key):
    document = json.loads(golden_file("shares")) | {key: "\ud800" + "a b" * 11}
    with pytest.raises(BadEscrowFile):
        Share.parse((json.dumps(document, indent=2) + "\n").encode())


# A share with a right digest whose members are out of their ranges, and an escrow likewise.
OUT_OF_RANGE = [
    ("shares", "number", 0),
    ("shares", "number", 6),
    ("shares", "number", True),
    ("shares", "number", 1.0),
    ("shares", "number", "1"),
    ("shares", "number", 2),
    ("shares", "threshold", 1),
    ("shares", "threshold", 6),
    ("shares", "threshold", 2),
    ("shares", "total", 17),
    ("shares", "total", 2),
    ("shares", "generation", 0),
    ("shares", "generation", 2**56),
    ("shares", "tenant", "00"),
    ("shares", "escrow", "AB" * 32),
    ("shares", "custodian", "x\u2028"),
    ("shares", "custodian", "x" * 129),
    ("shares", "custodian", ""),
    ("shares", "custodian_key", "00" * 31),
    ("shares", "format", "datakluis-share/2"),
    ("escrow", "threshold", 1),
    ("escrow", "threshold", 6),
    ("escrow", "generation", -1),
    ("escrow", "created_at", "2026-03-02T10:00:00+00:00"),
    ("escrow", "created_at", "2026-03-02T10:00:00.000Z"),
    ("escrow", "created_at", "2026-03-02 10:00:00Z"),
    ("escrow", "created_at", "2026-3-2T10:00:00Z"),
    ("escrow", "created_at", "2026-02-30T10:00:00Z"),
    ("escrow", "created_at", "1969-12-31T23:59:59Z"),
    ("escrow", "created_at", "0001-01-01T00:00:00+23:59"),
    ("escrow", "created_at", AT),
    ("escrow", "key_check", "00" * 15),
    ("escrow", "custodians", []),
    ("escrow", "custodians", [1, 2]),
    ("escrow", "custodians", {}),
]


@pytest.mark.parametrize(("kind", "key", "value"), OUT_OF_RANGE, ids=str)
def test_a_member_out_of_its_range_is_refused(kind, key, value):
    document = json.loads(golden_file(kind)) | {key: value}
    if kind == "shares":
        rest = {name: value for name, value in document.items() if name != "digest"}
        document["digest"] = hashlib.sha256(write_json(rest)).hexdigest()
    with pytest.raises((BadEscrowFile, DamagedShare)):
        PARSERS[kind](write_json(document))


@pytest.mark.parametrize(
    "change",
    [
        lambda listed: listed.reverse(),
        lambda listed: listed[1].update(number=1),
        lambda listed: listed[1].update(name=listed[0]["name"].upper()),
        lambda listed: listed[1].update(public_key=listed[0]["public_key"]),
        lambda listed: listed[1].update(public_key="00"),
        lambda listed: listed[1].update(more=1),
        lambda listed: listed[1].pop("name"),
        lambda listed: listed.__delitem__(slice(2, None)),
        lambda listed: listed.extend(
            {"number": number, "name": f"n{number}", "public_key": f"{number:064x}"}
            for number in range(6, 18)
        ),
    ],
)
def test_a_list_of_custodians_that_no_escrow_has_is_refused(change):
    document = json.loads(golden_file("escrow"))
    change(document["custodians"])
    with pytest.raises(BadEscrowFile):
        Escrow.parse(write_json(document))


# Other implementations.


def test_the_generator_still_writes_the_golden_file():
    files = GENERATOR.files()
    assert files.keys() == {path.name for path in VECTORS.glob("escrow*.json")}
    for name, content in files.items():
        assert (VECTORS / name).read_text(encoding="utf-8") == content


@pytest.mark.parametrize("number", range(len(GOLDEN)))
def test_golden_files_of_another_implementation(number, monkeypatch):
    vector = GOLDEN[number]
    escrow, shares = Escrow.parse(vector["escrow"].encode()), golden_shares(number)
    key = bytes.fromhex(vector["epoch_key"])
    assert combine(shares) == key
    assert combine(shares[::-1][: escrow.threshold]) == key
    assert escrow.confirms(key)
    assert escrow.escrow_id.hex() == vector["escrow_id"]
    # The same draws give the same files.
    random, seeds = (iter(map(bytes.fromhex, vector[name])) for name in ("random", "seeds"))
    monkeypatch.setattr(shamir, "RANDOM_BYTES", lambda size: next(random))
    monkeypatch.setattr(shares_module.os, "urandom", lambda size: next(seeds))
    made = make_shares(
        key,
        bytes.fromhex(vector["tenant"]),
        vector["generation"],
        vector["custodians"],
        vector["threshold"],
        created_at=vector["created_at"],
    )
    assert made == (escrow, tuple(shares))
    assert made[0].format().decode() == vector["escrow"]
    assert [one.format().decode() for one in made[1]] == vector["shares"]


def test_another_implementation_combines_fresh_shares():
    for threshold, total in ((2, 2), (2, 3), (3, 5), (5, 7), (7, 7)):
        key = os.urandom(32)
        _, shares = make(threshold, total, key=key)
        chosen = secrets.SystemRandom().sample(shares, threshold)
        assert GENERATOR.combine([share.words for share in chosen]) == key
        with pytest.raises(ValueError, match="not as many phrases"):
            GENERATOR.combine([share.words for share in chosen[1:]])


def test_the_examples_of_the_specification():
    """SLIP-0039's own test vectors that have one group, under their passphrase TREZOR."""
    cases = json.loads((VECTORS / "slip39.json").read_text(encoding="utf-8"))
    for case in cases:
        phrases, secret = case["phrases"], case["secret"]
        assert shamir_mnemonic.combine_mnemonics(phrases, b"TREZOR").hex() == secret
        assert GENERATOR.combine(phrases, b"TREZOR").hex() == secret, case["name"]
    print(f"{len(cases)} of {len(cases)} examples of SLIP-0039 combine, by two implementations")
    assert len(cases) == 6
