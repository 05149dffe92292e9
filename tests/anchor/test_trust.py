"""Trust files: read as written, refused in any other spelling or with senseless content."""

import json
import re
from dataclasses import replace

import independent_verifier
import pytest
from anchor_samples import EVIDENCE, TRUST, world
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from anchor.errors import BadFile
from anchor.steps import Step
from anchor.trust import MAX_BYTES, REQUIRED_AT_FIRST, TrustFile
from ledger.checkpoint import Checkpoint
from ledger.cosignature import CosignerKey
from ledger.logkeys import LogKey
from ledger.note import SignatureType

ONE = TRUST["one"]
KEYS = json.loads(TRUST["joined"])["log_keys"]


def changed(**members: object) -> bytes:
    document = {**json.loads(ONE), **members}
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def key(**members: object) -> list[dict]:
    return [{**KEYS[0], **members}]


CERTIFICATES = json.loads(TRUST["joined"])["organisation_certificates"]


def of_another_curve() -> str:
    key = ec.derive_private_key(7, ec.SECP384R1())
    return world.organisation_certificate("another curve", key).hex()


GOVERNED = json.loads(TRUST["governed"])
CENTURY_KEYS, POLICIES = GOVERNED["log_keys"], GOVERNED["witness_policies"]
POLICY = POLICIES[0]["policy"]


def century(place: int, **members: object) -> list[dict]:
    """The keys of the trust file with closed ranges, of which one has other members."""
    return [
        {**one, **members} if number == place else one for number, one in enumerate(CENTURY_KEYS)
    ]


def policies(*ranges: tuple[int, int | None], text: str = POLICY) -> list[dict]:
    return [{"first_size": a, "last_size": b, "policy": text} for a, b in ranges]


def open_key(place: int) -> list[dict]:
    return [{k: v for k, v in CENTURY_KEYS[place].items() if k != "closing"} | {"last_size": None}]


def watched_by(key: object) -> list[dict]:
    return policies((0, None), text=f"witness w {key}\nquorum w\n")


OWN_KEY_AS_WITNESS = watched_by(
    CosignerKey(world.ORIGIN, world.FIRST[0].public_key, SignatureType.COSIGNATURE_ED25519)
)
HALF_CLOSED = "a closing checkpoint without a last size, or the other way"
OVERLAP = "witness policies that overlap or are out of order"
NO_CERTIFICATE = "has a certificate that is no X.509 of a key on P-256"
SENSELESS = "without the range of sizes it may sign"
WRONG = [
    (b"", "is not JSON in UTF-8"),
    (b"[]\n", "is not a JSON object"),
    (changed(format="datakluis-trust/2"), "has another format than 'datakluis-trust/1'"),
    (changed(origin=None), "lacks the text 'origin'"),
    (changed(origin=""), "lacks an origin or a log key"),
    (changed(origin="two\nlines"), "lacks an origin or a log key"),
    (ONE.replace(b'"origin": "datakluis', b'"origin": "\\ud800'), "lacks an origin or a log key"),
    (changed(require="inclusion"), "lacks the array of texts 'require'"),
    (changed(require=[1]), "lacks the array of texts 'require'"),
    (changed(require=["luck"]), "'luck' is not a valid Step"),
    (changed(require=["Inclusion"]), "'Inclusion' is not a valid Step"),
    (changed(require=["inclusion", "inclusion"]), "names a step, key or certificate twice"),
    (changed(log_keys=[]), "lacks an origin or a log key"),
    (changed(log_keys={}), "lacks the array of objects 'log_keys'"),
    (changed(log_keys=KEYS[:1] * 2), "names a step, key or certificate twice"),
    (changed(log_keys=key(algorithm="rsa")), "a log key of an unknown algorithm"),
    (changed(log_keys=key(key="x")), "does not hold what it should"),
    (changed(log_keys=key(key=KEYS[0]["key"].replace("hoorn", "zwolle"))), "is not written as"),
    (changed(log_keys=key(first_size=-1)), SENSELESS),
    (changed(log_keys=key(first_size=None)), SENSELESS),
    (changed(log_keys=key(first_size=True)), SENSELESS),
    (changed(log_keys=key(first_size=0.0)), SENSELESS),
    (changed(log_keys=key(first_size="0")), SENSELESS),
    (changed(log_keys=key(first_size=2**63)), SENSELESS),
    (changed(log_keys=key(last_size=2**63)), SENSELESS),
    (changed(log_keys=key(last_size=10**400)), SENSELESS),
    (changed(log_keys=key(first_size=5, last_size=4)), SENSELESS),
    (changed(local_anchor_keys=["x"]), "does not hold what it should"),
    (changed(local_anchor_keys=None), "lacks the array of texts 'local_anchor_keys'"),
    (changed(local_anchor_keys=[KEYS[0]["key"]] * 2), "names a step, key or certificate twice"),
    (changed(organisation_certificates=None), "the array of texts 'organisation_certificates'"),
    (changed(organisation_certificates=[1]), "the array of texts 'organisation_certificates'"),
    (changed(organisation_certificates=["zz"]), "does not hold what it should"),
    (changed(organisation_certificates=[""]), NO_CERTIFICATE),
    (changed(organisation_certificates=["3000"]), NO_CERTIFICATE),
    (changed(organisation_certificates=[CERTIFICATES[0] + "00"]), NO_CERTIFICATE),
    (changed(organisation_certificates=[CERTIFICATES[0][:-2]]), NO_CERTIFICATE),
    (changed(organisation_certificates=[of_another_curve()]), NO_CERTIFICATE),
    (changed(organisation_certificates=[CERTIFICATES[0].upper()]), "unknown or reordered members"),
    (changed(organisation_certificates=CERTIFICATES * 2), "step, key or certificate twice"),
    (changed(log_keys=key(last_size=4)), HALF_CLOSED),
    (changed(log_keys=key(closing=CENTURY_KEYS[0]["closing"])), HALF_CLOSED),
    (changed(log_keys=century(0, closing="x")), "does not hold what it should"),
    (changed(log_keys=century(0, last_size=11)), "does not hold what it should"),
    (
        changed(log_keys=century(0, closing=CENTURY_KEYS[0]["closing"].replace("hoorn", "edam"))),
        "has a closing checkpoint of another log or size than its key",
    ),
    (
        changed(log_keys=century(0, closing=f"{world.ORIGIN}\n12\n{'A' * 43}=\n")),
        "has two closing checkpoints of 12 leaves",
    ),
    (changed(log_keys=century(0, algorithm="ml-dsa-44")), "does not hold what it should"),
    (changed(log_keys=century(1, algorithm="ed25519")), "does not hold what it should"),
    (changed(log_keys=key(algorithm=["ed25519"])), "a log key of an unknown algorithm"),
    (
        changed(log_keys=key(algorithm="ml-dsa-44", key=str(world.GOUDA.verifier))),
        "a log key of another algorithm than it says",
    ),
    (changed(witness_policies=None), "the array of objects 'witness_policies'"),
    (changed(witness_policies=[]), "unknown or reordered members"),
    (changed(witness_policies=policies((5, 4))), SENSELESS),
    (changed(witness_policies=policies((0, None), (5, None))), OVERLAP),
    (changed(witness_policies=policies((0, 5), (5, None))), OVERLAP),
    (changed(witness_policies=policies((6, None), (0, 5))), OVERLAP),
    (changed(witness_policies=policies((0, None), text="quorum none")), "does not end in a new"),
    (changed(witness_policies=policies((0, None), text="quorum w\n")), "is not defined"),
    (changed(witness_policies=OWN_KEY_AS_WITNESS), "names a key of the log as its witness"),
    (changed(governance=[]), "has a governance that is no object"),
    (changed(governance={}), "lacks the text 'founding'"),
    (changed(governance={"founding": "AA" * 32}), "'founding' in the trust file is not lower-case"),
    (changed(governance={"founding": "aa" * 31}), "a founding entry without a SHA-256"),
    (changed(governance={"founding": "aa" * 32, "x": 1}), "unknown or reordered members"),
    (changed(comment="x"), "unknown or reordered members"),
    (changed(log_keys=key(comment="x")), "unknown or reordered members"),
    (ONE[:-1], "unknown or reordered members"),
    (ONE.replace(b"  ", b" "), "unknown or reordered members"),
    (ONE.replace(b'"first_size": 0', b'"first_size": 0, "first_size": 0'), "unknown or reordered"),
    (b" " * (MAX_BYTES + 1), f"more than {MAX_BYTES}"),
]


@pytest.mark.parametrize(("data", "words"), WRONG)
def test_a_bad_file_says_what_is_wrong(data, words):
    with pytest.raises(BadFile, match=re.escape(words)):
        TrustFile.parse(data)
    assert not independent_verifier.accepts(EVIDENCE["version"], data)


def test_control_the_file_before_it_was_changed():
    assert TrustFile.parse(changed()).format() == ONE
    assert independent_verifier.accepts(EVIDENCE["version"], changed())


@pytest.mark.parametrize("name", TRUST)
def test_files_are_read_and_written(name):
    trust = TrustFile.parse(TRUST[name])
    assert trust == world.trust_files()[name]
    assert trust.format() == TRUST[name]


def test_every_bit_of_a_trust_file_counts():
    """A flipped bit gives no trust file, or one that says something else: never the same one."""
    whole = TRUST["rotated"]
    parsed = TrustFile.parse(whole)
    refused = 0
    for place in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        try:
            assert TrustFile.parse(bytes(flipped)) != parsed
        except BadFile:
            refused += 1
    print(f"{refused} of {len(whole) * 8} bit flips refused, the others say something else")
    assert refused > len(whole) * 7


def test_a_changed_certificate_is_none_or_another():
    """No flipped bit of a certificate breaks the reader, and both verifiers judge it alike."""
    der = bytes.fromhex(CERTIFICATES[0])
    refused = 0
    for place in range(len(der) * 8):
        flipped = bytearray(der)
        flipped[place // 8] ^= 1 << place % 8
        data = changed(organisation_certificates=[flipped.hex()])
        try:
            assert TrustFile.parse(data).organisation_certificates == (bytes(flipped),)
        except BadFile:
            refused += 1
            assert not independent_verifier.accepts(EVIDENCE["version"], data)
        else:
            assert independent_verifier.accepts(EVIDENCE["version"], data)
    print(f"{refused} of {len(der) * 8} bit flips of a certificate refused")
    assert refused > len(der)


def test_a_file_without_the_newer_members_is_as_it_was():
    """Files that were written before there were witnesses and governance stay valid."""
    assert {"witness_policies", "governance"}.isdisjoint(json.loads(ONE))
    assert TrustFile.parse(ONE).witness_policies == ()
    assert TrustFile.parse(ONE).founding is None
    whole = TrustFile.parse(TRUST["governed"])
    assert whole.founding is not None
    assert [whole.policy_for(size) is None for size in (15, 16, 2**62)] == [True, False, False]


def test_two_policies_follow_each_other():
    data = changed(witness_policies=policies((0, 5), (6, 9), (12, None)))
    trust = TrustFile.parse(data)
    assert [trust.policy_for(size) is None for size in (5, 9, 10, 11, 12)] == [
        *(False, False, True, True, False)
    ]
    assert independent_verifier.accepts(EVIDENCE["version"], data)


def test_ed25519_signs_before_ml_dsa_whatever_the_order_of_the_ranges():
    late = LogKey(world.FIRST[0], 5)
    trust = replace(world.trust("one"), log_keys=(LogKey(world.FIRST_CENTURY.verifier), late))
    assert trust.keys_for(7) == [world.FIRST[0], world.FIRST_CENTURY.verifier]


def test_the_nearest_closing_checkpoint_counts():
    trust = world.trust("century")
    closing = trust.log_keys[0].closing
    sooner = Checkpoint(world.ORIGIN, 7, bytes(32))
    keys = (replace(trust.log_keys[0], last_size=7, closing=sooner), *trust.log_keys[1:])
    mixed = replace(trust, log_keys=keys)
    assert [mixed.closing_for(size) for size in (7, 8, 12, 13)] == [sooner, closing, closing, None]


def test_which_keys_must_have_signed():
    first, second = world.FIRST[0], world.SECOND[0]
    joined, rotated = world.trust("joined"), world.trust("rotated")
    assert [joined.keys_for(size) for size in (0, 4, 5)] == [[first], [first], [first, second]]
    assert [rotated.keys_for(size) for size in (0, 4, 5)] == [[first], [first], [second]]
    gap = replace(rotated, log_keys=(LogKey(first, 0, 3), LogKey(second, 5)))
    assert gap.keys_for(4) == []


def test_a_fresh_trust_file_asks_for_what_an_outsider_can_check():
    assert REQUIRED_AT_FIRST == (Step.LOG_SIGNATURE, Step.INCLUSION)


@given(st.data())
def test_only_what_is_written_is_accepted_near_trust_files(data):
    whole = TRUST[data.draw(st.sampled_from(sorted(TRUST)))]
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 20)))
    new = data.draw(
        st.sampled_from([b"", b"\n", b'"', b"\\ud800", b" ", b"=", b"0", b"9", b"\xff"])
    )
    mutant = whole[:start] + new + whole[end:]
    try:
        trust = TrustFile.parse(mutant)
    except BadFile:
        assert not independent_verifier.accepts(EVIDENCE["version"], mutant)
        return
    assert trust.format() == mutant
