"""Key files: what they cost to guess, and that nothing but the whole file opens (ER1, PR1)."""

import json
import os
import time

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from vault import ConfigurationError, InvalidInput, WrongPassphrase, keyfile
from vault.keyfile import read_key_file, write_key_file

LABEL = "root key"
SECRET = bytes(range(32))
WORDS = "a passphrase for tests"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "root.key"
    write_key_file(path, LABEL, SECRET, WORDS)
    return path


def rewrite(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=2) + "\n")


def test_round_trip(path):
    assert read_key_file(path, LABEL, WORDS) == SECRET


def test_only_the_owner_may_read_it_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        write_key_file(tmp_path / "a.key", LABEL, SECRET, WORDS)
    finally:
        os.umask(before)
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("full_cost")
def test_the_header_asks_for_64_mib_three_times_on_four_lanes(tmp_path):
    path = tmp_path / "full.key"
    write_key_file(path, LABEL, SECRET, WORDS)
    header = json.loads(path.read_text())["kdf"]
    salt = bytes.fromhex(header.pop("salt"))
    assert header == {"name": "argon2id", "memory_kib": 65_536, "iterations": 3, "lanes": 4}
    assert len(salt) == 16
    # And that is what was run: the same numbers given to Argon2id here open the file.
    document = json.loads(path.read_text())
    key = Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=65_536)
    opened = AESGCM(key.derive(WORDS.encode())).decrypt(
        bytes.fromhex(document["nonce"]),
        bytes.fromhex(document["sealed"]),
        b"datakluis-keyfile/1\0root key",
    )
    assert opened == SECRET == read_key_file(path, LABEL, WORDS)


def test_golden_file_made_with_another_argon2(golden, tmp_path):
    vector = golden("vault_keyfile.json")
    path = tmp_path / "golden.key"
    path.write_text(vector["file"])
    opened = read_key_file(path, vector["label"], vector["passphrase"])
    assert opened.hex() == vector["secret"]


@pytest.mark.parametrize(
    "wrong", ["x", WORDS + " ", WORDS[:-1], WORDS.upper(), WORDS + "\0", "\u00e9"]
)
def test_another_passphrase_does_not_open_it(path, wrong):
    with pytest.raises(WrongPassphrase, match=r"root\.key does not open") as refused:
        read_key_file(path, LABEL, wrong)
    assert len(wrong) < 3 or wrong.strip() not in str(refused.value)


@pytest.mark.parametrize(("wrong", "why"), [("", "is empty"), ("a\udcff", "is not valid Unicode")])
def test_a_passphrase_that_cannot_be_one_is_refused_both_ways(path, tmp_path, wrong, why):
    for attempt in (
        lambda: read_key_file(path, LABEL, wrong),
        lambda: write_key_file(tmp_path / "new.key", LABEL, SECRET, wrong),
    ):
        with pytest.raises(InvalidInput, match=f"^the passphrase {why}") as refused:
            attempt()
        assert refused.value.__cause__ is None
    assert not (tmp_path / "new.key").exists()


def test_every_flipped_byte_is_noticed(path):
    original = path.read_bytes()
    outcomes = {WrongPassphrase: 0, ConfigurationError: 0}
    for place in range(len(original)):
        for mask in (0x01, 0x20, 0x80):
            changed = bytearray(original)
            changed[place] ^= mask
            path.write_bytes(changed)
            with pytest.raises((WrongPassphrase, ConfigurationError)) as refused:
                read_key_file(path, LABEL, WORDS)
            outcomes[refused.type] += 1
    assert min(outcomes.values()) > 100  # both the parser and the cipher had their share
    path.write_bytes(original)
    assert read_key_file(path, LABEL, WORDS) == SECRET
    counts = {kind.__name__: count for kind, count in outcomes.items()}
    print(f"{len(original)} bytes, 3 flips each: {counts}, 0 opened")


def test_every_truncation_and_any_addition_is_refused(path):
    original = path.read_bytes()
    for size in range(len(original)):
        path.write_bytes(original[:size])
        with pytest.raises(ConfigurationError):
            read_key_file(path, LABEL, WORDS)
    for longer in (original + b"\n", b" " + original, original + original):
        path.write_bytes(longer)
        with pytest.raises(ConfigurationError):
            read_key_file(path, LABEL, WORDS)


def test_a_file_of_another_label_is_refused_by_name(path):
    with pytest.raises(ConfigurationError, match="is not a key file for the log key"):
        read_key_file(path, "log key", WORDS)


def test_a_swapped_label_does_not_open(path):
    rewrite(path, lambda document: document.update(label="log key"))
    with pytest.raises(WrongPassphrase):
        read_key_file(path, "log key", WORDS)
    rewrite(path, lambda document: document.update(label=LABEL))
    assert read_key_file(path, LABEL, WORDS) == SECRET


@pytest.mark.parametrize(
    "cost",
    [
        {"memory_kib": 1_048_577},
        {"memory_kib": 2**40},
        {"memory_kib": 31},
        {"memory_kib": 0},
        {"memory_kib": -1},
        {"iterations": 17},
        {"iterations": 10**9},
        {"iterations": 0},
        {"lanes": 17},
        {"lanes": 2**24},
        {"lanes": 0},
        {"memory_kib": 64.0},
        {"iterations": True},
        {"lanes": "4"},
        {"lanes": None},
    ],
    ids=str,
)
def test_a_crafted_cost_is_refused_before_it_is_paid(path, cost, monkeypatch):
    def never(*_, **__):
        raise AssertionError("Argon2id was started")

    monkeypatch.setattr(keyfile, "Argon2id", never)
    rewrite(path, lambda document: document["kdf"].update(cost))
    started = time.monotonic()
    with pytest.raises(ConfigurationError, match="is not a key file for the root key"):
        read_key_file(path, LABEL, WORDS)
    assert time.monotonic() - started < 1
    # The control: an allowed cost does start it.
    rewrite(path, lambda document: document["kdf"].update(memory_kib=64, iterations=2, lanes=1))
    with pytest.raises(AssertionError, match="was started"):
        read_key_file(path, LABEL, WORDS)


NOT_KEY_FILES = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b"\xff\xfe",
    "an array": b"[1]\n",
    "a text": b'"x"\n',
    "null": b"null\n",
    "deeply nested": b"[" * 4_096,
    "far too large": b" " * 5_000,
}


@pytest.mark.parametrize("content", NOT_KEY_FILES.values(), ids=NOT_KEY_FILES)
def test_something_else_is_no_key_file(path, content):
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="is not a key file for the root key"):
        read_key_file(path, LABEL, WORDS)


CHANGES = {
    "short nonce": lambda document: document.update(nonce="00" * 4),
    "no nonce": lambda document: document.update(nonce=""),
    "long nonce": lambda document: document.update(nonce="00" * 200),
    "nonce as a number": lambda document: document.update(nonce=12),
    "upper-case hex": lambda document: document.update(nonce=document["nonce"].upper() + "AA"),
    "nothing sealed": lambda document: document.update(sealed=""),
    "no salt": lambda document: document["kdf"].update(salt=""),
    "another kdf": lambda document: document["kdf"].update(name="pbkdf2"),
    "another format": lambda document: document.update(format="datakluis-keyfile/2"),
    "one member more": lambda document: document.update(comment="hello"),
    "one member less": lambda document: document.pop("nonce"),
    "kdf is a text": lambda document: document.update(kdf="argon2id"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_member_is_refused(path, change):
    rewrite(path, change)
    with pytest.raises((ConfigurationError, WrongPassphrase)):
        read_key_file(path, LABEL, WORDS)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.key", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            read_key_file(path, LABEL, WORDS)


def test_an_existing_file_is_never_replaced(path):
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="exists already"):
        write_key_file(path, LABEL, bytes(32), "another")
    assert path.read_bytes() == before


def test_the_same_secret_is_sealed_differently_each_time(tmp_path):
    written = set()
    for number in range(20):
        path = tmp_path / f"{number}.key"
        write_key_file(path, LABEL, SECRET, WORDS)
        document = json.loads(path.read_text())
        written |= {document["nonce"], document["sealed"], document["kdf"]["salt"]}
    assert len(written) == 60
