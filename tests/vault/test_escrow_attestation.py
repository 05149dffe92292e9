"""Attestations: only a custodian's own key speaks for a share, and N-M+1 are enough (D2b, D5)."""

import itertools
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from anchor.strictjson import write_json
from vault.escrow.attestation import (
    STATEMENT_EN,
    STATEMENT_NL,
    Attestation,
    attest,
    attestations_needed,
    attested_numbers,
    is_irrecoverable,
)
from vault.escrow.errors import AttestationRefused, BadEscrowFile, TooFewShares
from vault.escrow.shares import Escrow, Share, combine, make_shares

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "vectors" / "escrow.json").read_text(encoding="utf-8")
)
KEY, TENANT, MADE_AT, AT = bytes(range(32)), bytes(16), 1_772_445_600, 1_800_000_000
NAMES = ["Anna de Archivaris", "Bilal", "Cor", "Dilek", "Eva", "Farid", "Gé"]


def make(threshold=3, total=5, **changed):
    arguments = {"epoch_key": KEY, "tenant": TENANT, "generation": 7, "created_at": MADE_AT}
    return make_shares(custodians=NAMES[:total], threshold=threshold, **(arguments | changed))


ESCROW, SHARES = make()


# The count: N-M+1, and what it stands for.


def test_the_count_after_which_no_m_shares_are_left():
    checked = 0
    for total in range(2, 17):
        for threshold in range(2, total + 1):
            needed = attestations_needed(total, threshold)
            for attested in range(total + 1):
                gone = is_irrecoverable(total, threshold, attested)
                assert gone is (attested >= needed) is (total - attested < threshold)
                checked += 1
            # One less leaves exactly M.
            assert total - (needed - 1) == threshold
    print(f"{checked} counts over every M-of-N up to 16")


def test_the_shares_that_are_left_do_bring_the_key_back_until_then():
    counts = {True: 0, False: 0}
    for threshold, total in ((2, 2), (2, 4), (3, 5), (4, 4)):
        _, shares = make(threshold, total)
        for size in range(total):
            for destroyed in itertools.combinations(shares, size):
                left = [share for share in shares if share not in destroyed]
                gone = is_irrecoverable(total, threshold, size)
                counts[gone] += 1
                if gone:
                    with pytest.raises(TooFewShares):
                        combine(left)
                else:
                    assert combine(left) == KEY
    print(f"{counts[False]} sets of destroyed shares leave the key, {counts[True]} do not")
    assert all(counts.values())


@pytest.mark.parametrize(
    ("total", "threshold", "attested"),
    [(5, 1, 5), (5, 0, 5), (5, 6, 5), (1, 1, 1), (17, 2, 17), (0, 0, 0), (5, 3, -1), (5, 3, 6)],
)
def test_numbers_that_no_escrow_has(total, threshold, attested):
    with pytest.raises(ValueError, match=r"no escrow of|shares attested"):
        is_irrecoverable(total, threshold, attested)


# What counts.


def test_each_custodian_counts_once():
    signed = [attest(share, AT) for share in SHARES]
    assert attested_numbers(ESCROW, []) == set()
    for size in range(6):
        for some in itertools.combinations(signed, size):
            expected = {one.number for one in some}
            assert attested_numbers(ESCROW, some) == attested_numbers(ESCROW, some * 3) == expected
    later = attest(SHARES[0], AT + 1)
    assert attested_numbers(ESCROW, [signed[0], later]) == {1}


def test_no_key_but_the_custodians_own_verifies():
    for share, custodian in itertools.product(SHARES, ESCROW.custodians):
        attestation = attest(share, AT)
        if share.number == custodian.number:
            attestation.verify(custodian.public_key)
        else:
            with pytest.raises(AttestationRefused, match="does not verify") as error:
                attestation.verify(custodian.public_key)
            assert error.value.number == share.number


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(32), b"\x01" + bytes(31), bytes([255]) * 32])
def test_a_public_key_that_is_none_verifies_nothing(key):
    # Among these are points of small order, under which one signature fits many texts.
    for attestation in (
        attest(SHARES[0], AT),
        replace(attest(SHARES[0], AT), signature=bytes(64)),
        replace(attest(SHARES[0], AT), signature=b"\x01" + bytes(63)),
    ):
        with pytest.raises(AttestationRefused, match="does not verify"):
            attestation.verify(key)


OTHER_VALUES = {
    "escrow_id": bytes(32),
    "tenant": bytes([1]) * 16,
    "generation": 8,
    "custodian": "Bilal",
    "number": 2,
    "destroyed_at": AT + 1,
    "signature": bytes(64),
}


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_every_field_is_signed(name):
    changed = replace(attest(SHARES[0], AT), **{name: OTHER_VALUES[name]})
    with pytest.raises(AttestationRefused, match="does not verify"):
        changed.verify(ESCROW.custodians[0].public_key)
    with pytest.raises(AttestationRefused, match=r"of share [12] does not count"):
        attested_numbers(ESCROW, [attest(SHARES[1], AT), changed])


def test_there_is_no_field_that_the_test_before_this_one_forgets():
    assert {field.name for field in fields(Attestation)} == set(OTHER_VALUES)


def test_the_signature_with_another_s_is_refused():
    """S plus the group order verifies by a lax equation; RFC 8032 refuses it."""
    order = 2**252 + 27742317777372353535851937790883648493
    attestation = attest(SHARES[0], AT)
    s = int.from_bytes(attestation.signature[32:], "little") + order
    other = replace(attestation, signature=attestation.signature[:32] + s.to_bytes(32, "little"))
    with pytest.raises(AttestationRefused):
        other.verify(ESCROW.custodians[0].public_key)


# Attestations that a custodian signed, and that yet say nothing of this escrow.
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"escrow_id": bytes(32)}, "of another escrow"),
        ({"tenant": bytes([1]) * 16}, "of another escrow"),
        ({"generation": 8}, "of another escrow"),
        ({"custodian": "Bilal"}, "no such custodian"),
        ({"custodian": "ANNA DE ARCHIVARIS"}, "no such custodian"),
        ({"number": 2}, "no such custodian"),
        ({"number": 2, "custodian": "Bilal"}, "its signature does not verify"),
        ({"number": 6}, "no such custodian"),
    ],
    ids=str,
)
def test_a_signed_attestation_of_something_else_does_not_count(change, why):
    attestation = attest(replace(SHARES[0], **change), AT)
    with pytest.raises(AttestationRefused, match=why) as error:
        attested_numbers(ESCROW, [attestation])
    assert not any(name in str(error.value) for name in NAMES if len(name) > 3)


def test_another_escrow_of_the_same_key_and_custodians_is_another():
    other, shares = make()
    assert other.escrow_id != ESCROW.escrow_id
    assert attested_numbers(other, [attest(shares[0], AT)]) == {1}
    with pytest.raises(AttestationRefused, match="of another escrow"):
        attested_numbers(ESCROW, [attest(shares[0], AT)])


def test_an_escrow_whose_keys_were_swapped_is_another():
    """Who can write the list of custodians cannot put in a key of their own unnoticed."""
    _, strangers = make()
    custodians = (
        replace(ESCROW.custodians[0], public_key=make()[0].custodians[0].public_key),
        *ESCROW.custodians[1:],
    )
    swapped = replace(ESCROW, custodians=custodians)
    assert swapped.escrow_id != ESCROW.escrow_id
    for share in (SHARES[1], strangers[0]):
        with pytest.raises(AttestationRefused):
            attested_numbers(swapped, [attest(share, AT)])


def test_it_cannot_be_dated_before_the_share_was_made():
    assert attested_numbers(ESCROW, [attest(SHARES[0], MADE_AT)]) == {1}
    with pytest.raises(AttestationRefused, match="dated before"):
        attested_numbers(ESCROW, [attest(SHARES[0], MADE_AT - 1)])


@pytest.mark.parametrize("at", [-1, 253_402_300_800, 2**63])
def test_a_time_out_of_range(at):
    with pytest.raises(ValueError, match="out of range"):
        attest(SHARES[0], at)


# The file.


@given(st.integers(0, 253_402_300_799), st.sampled_from(SHARES))
def test_round_trip(at, share):
    attestation = attest(share, at)
    assert attestation == attest(share, at)
    again = Attestation.parse(attestation.format())
    assert again == attestation
    again.verify(ESCROW.custodians[share.number - 1].public_key)


def test_the_file_says_it_in_two_languages_and_has_no_secret():
    text = attest(SHARES[0], AT).format().decode()
    assert STATEMENT_EN in text
    assert STATEMENT_NL in text
    assert '"destroyed_at": "2027-01-15T08:00:00Z"' in text
    assert SHARES[0].custodian_key.hex() not in text
    assert not set(SHARES[0].words.split()[5:]) & set(text.replace('"', " ").split()) - set(
        STATEMENT_EN.split()
    )
    assert "Anna" not in repr(attest(SHARES[0], AT))


def test_every_flipped_bit_is_refused_by_the_parser_or_by_the_key():
    data = GOLDEN[0]["attestations"][0].encode()
    escrow = Escrow.parse(GOLDEN[0]["escrow"].encode())
    outcomes = {BadEscrowFile: 0, AttestationRefused: 0}
    for place, bit in itertools.product(range(len(data)), range(8)):
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        with pytest.raises((BadEscrowFile, AttestationRefused)) as error:
            Attestation.parse(bytes(changed)).verify(escrow.custodians[0].public_key)
        outcomes[error.type] += 1
    counts = {kind.__name__: count for kind, count in outcomes.items()}
    print(f"{len(data)} bytes, {8 * len(data)} flips: {counts}, 0 verified")
    assert min(outcomes.values()) > 100
    Attestation.parse(data).verify(escrow.custodians[0].public_key)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("statement_en", STATEMENT_EN.replace("every copy", "one copy")),
        ("statement_nl", STATEMENT_EN),
        ("statement_nl", ""),
        ("destroyed_at", "2026-03-02T10:00:00"),
        ("destroyed_at", "2026-03-02T11:00:00+01:00"),
        ("destroyed_at", "2026-03-02"),
        ("destroyed_at", "2026-W10-1T10:00:00Z"),
        ("destroyed_at", AT),
        ("number", 0),
        ("number", 17),
        ("number", True),
        ("signature", "00" * 63),
        ("signature", "AA" * 64),
        ("format", "datakluis-share/1"),
        ("custodian", "Anna\u0000"),
        ("reason", "more"),
    ],
    ids=str,
)
def test_a_member_that_it_would_not_write_is_refused(key, value):
    document = json.loads(attest(SHARES[0], AT).format()) | {key: value}
    with pytest.raises(BadEscrowFile):
        Attestation.parse(write_json(document))


@pytest.mark.parametrize("number", range(len(GOLDEN)))
def test_golden_files_of_another_implementation(number):
    vector = GOLDEN[number]
    escrow = Escrow.parse(vector["escrow"].encode())
    shares = [Share.parse(text.encode()) for text in vector["shares"]]
    found = [Attestation.parse(text.encode()) for text in vector["attestations"]]
    assert [attest(share, vector["destroyed_at"]) for share in shares] == found
    assert [one.format().decode() for one in found] == vector["attestations"]
    assert attested_numbers(escrow, found) == set(range(1, escrow.total + 1))


def test_another_implementation_verifies_what_is_signed_here():
    attestation = attest(SHARES[2], AT)
    document = json.loads(attestation.format())
    signature = bytes.fromhex(document.pop("signature"))
    message = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    key = Ed25519PublicKey.from_public_bytes(ESCROW.custodians[2].public_key)
    key.verify(signature, message)
    with pytest.raises(InvalidSignature):
        key.verify(signature, message + b"\n")
