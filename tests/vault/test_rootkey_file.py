"""Root keys in files: an epoch key opens for its own tenant, tree and generation only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.assurance import Presence
from vault import Damaged, keyfile
from vault.keyfile import read_key_file, write_key_file
from vault.rootkeys.file import KEYS_FOLDER, FileRootKeys
from vault.rootkeys.provider import KeyContext, Surroundings, TreeNumber

TENANT = bytes(range(16))
EPOCH_KEY = bytes(range(100, 132))
CONTEXT = KeyContext(TENANT, TreeNumber.ORDINARY, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, cheap_argon2):
    return tmp_path_factory.mktemp("vault")


@pytest.fixture(scope="module")
def provider(folder):
    return FileRootKeys({}, Surroundings(folder, "words"))


@pytest.fixture(scope="module")
def reference(provider):
    return provider.make_key(CONTEXT)


def test_round_trip_and_fresh_nonces(provider, reference):
    wrapped = {provider.wrap(reference, CONTEXT, EPOCH_KEY) for _ in range(100)}
    assert len(wrapped) == 100
    assert all(len(one) == 12 + 32 + 16 for one in wrapped)
    assert {provider.unwrap(reference, CONTEXT, one) for one in wrapped} == {EPOCH_KEY}


def test_golden(golden, tmp_path):
    vector = golden("vault_epoch.json")
    (tmp_path / KEYS_FOLDER).mkdir()
    path = tmp_path / KEYS_FOLDER / "root-1.key"
    write_key_file(path, "root key", bytes.fromhex(vector["root_key"]), "words")
    provider = FileRootKeys({}, Surroundings(tmp_path, "words"))
    for case in vector["wrapped"]:
        tree, tenant = TreeNumber(case["tree"]), bytes.fromhex(vector["tenant"])
        context = KeyContext(tenant, tree, case["generation"])
        assert context.encode().hex() == case["context"]
        opened = provider.unwrap("root-1.key", context, bytes.fromhex(case["wrapped"]))
        assert opened.hex() == vector["epoch_key"]


def test_the_name_tells_the_tree_and_the_generation(provider):
    names = {
        provider.make_key(KeyContext(TENANT, tree, generation))
        for tree in TreeNumber
        for generation in (1, 12)
    }
    assert names == {"root-1.key", "root-12.key", "permanent-1.key", "permanent-12.key"}


def test_every_flipped_bit_is_noticed(provider, reference):
    wrapped = provider.wrap(reference, CONTEXT, EPOCH_KEY)
    for bit in range(8 * len(wrapped)):
        changed = bytearray(wrapped)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            provider.unwrap(reference, CONTEXT, bytes(changed))


@given(st.binary(max_size=100))
def test_other_bytes_are_an_error_with_a_name(provider, reference, wrapped):
    with pytest.raises(Damaged):
        provider.unwrap(reference, CONTEXT, wrapped)


def test_a_half_written_file_is_written_again(tmp_path):
    (tmp_path / KEYS_FOLDER).mkdir()
    (tmp_path / KEYS_FOLDER / "root-1.new").write_bytes(b"{")
    provider = FileRootKeys({}, Surroundings(tmp_path, "words"))
    wrapped = provider.wrap(provider.make_key(CONTEXT), CONTEXT, EPOCH_KEY)
    assert provider.unwrap("root-1.key", CONTEXT, wrapped) == EPOCH_KEY
    assert [path.name for path in (tmp_path / KEYS_FOLDER).iterdir()] == ["root-1.key"]


def test_a_copied_file_still_opens_its_generation(tmp_path):
    """What the assurance says: a copy outlives the destruction."""
    provider = FileRootKeys({}, Surroundings(tmp_path, "words"))
    reference = provider.make_key(CONTEXT)
    wrapped = provider.wrap(reference, CONTEXT, EPOCH_KEY)
    path = tmp_path / KEYS_FOLDER / reference
    copy = path.read_bytes()
    assert provider.destroy(reference).presence is Presence.GONE
    path.write_bytes(copy)
    assert provider.unwrap(reference, CONTEXT, wrapped) == EPOCH_KEY


def test_no_key_is_shown(provider, reference, folder):
    key = read_key_file(folder / KEYS_FOLDER / reference, "root key", "words")
    assert len(key) == keyfile.SECRET_BYTES
    shown = f"{provider!r} {provider} {[provider]}"
    assert "FileRootKeys(…)" in shown
    assert key.hex() not in shown
    assert repr(key) not in shown
    assert "words" not in shown
