"""Root keys: an epoch key opens for its own tenant and generation only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault import Damaged
from vault.keyfile import write_key_file
from vault.rootkey import FileRootKey

TENANT = bytes(range(16))
EPOCH_KEY = bytes(range(100, 132))


@pytest.fixture(scope="module")
def provider(tmp_path_factory, cheap_argon2):
    return FileRootKey.create(tmp_path_factory.mktemp("keys") / "root.key", "words")


def test_round_trip_and_fresh_nonces(provider):
    wrapped = {provider.wrap(TENANT, 1, EPOCH_KEY) for _ in range(100)}
    assert len(wrapped) == 100
    assert all(len(one) == 12 + 32 + 16 for one in wrapped)
    assert {provider.unwrap(TENANT, 1, one) for one in wrapped} == {EPOCH_KEY}


def test_golden(golden, tmp_path):
    vector = golden("vault_epoch.json")
    write_key_file(tmp_path / "root.key", "root key", bytes.fromhex(vector["root_key"]), "words")
    provider = FileRootKey(tmp_path / "root.key", "words")
    tenant = bytes.fromhex(vector["tenant"])
    for case in vector["wrapped"]:
        wrapped = bytes.fromhex(case["wrapped"])
        assert provider.unwrap(tenant, case["generation"], wrapped).hex() == vector["epoch_key"]


@pytest.mark.parametrize(("tenant", "generation"), [(TENANT, 2), (bytes(16), 1)])
def test_another_place_does_not_open_it(provider, tenant, generation):
    wrapped = provider.wrap(TENANT, 1, EPOCH_KEY)
    with pytest.raises(Damaged, match=f"epoch key of generation {generation} does not open"):
        provider.unwrap(tenant, generation, wrapped)
    assert provider.unwrap(TENANT, 1, wrapped) == EPOCH_KEY


def test_another_root_key_does_not_open_it(provider, tmp_path):
    other = FileRootKey.create(tmp_path / "other.key", "words")
    with pytest.raises(Damaged):
        other.unwrap(TENANT, 1, provider.wrap(TENANT, 1, EPOCH_KEY))


def test_every_flipped_bit_is_noticed(provider):
    wrapped = provider.wrap(TENANT, 1, EPOCH_KEY)
    for bit in range(8 * len(wrapped)):
        changed = bytearray(wrapped)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            provider.unwrap(TENANT, 1, bytes(changed))


@given(st.binary(max_size=100))
def test_other_bytes_are_an_error_with_a_name(provider, wrapped):
    with pytest.raises(Damaged):
        provider.unwrap(TENANT, 1, wrapped)


def test_no_key_is_shown(provider):
    shown = f"{provider!r} {provider} {[provider]}"
    assert "FileRootKey(…)" in shown
    assert provider._key.hex() not in shown
    assert repr(provider._key) not in shown
