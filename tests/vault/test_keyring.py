"""The key files of a vault: where they lie, who may read them, and when they are opened."""

import pytest

from vault import ConfigurationError, KeyGone, Vault, WrongPassphrase, keyring, logkeys
from vault.keyfile import read_key_file
from vault.keyring import Keyring

ROOT_KEYS = ("keys/root-1.key", "keys/permanent-1.key")
LOG_KEYS = ("signer/log.key", "signer/log-mldsa.key")
SIGNING_KEYS = (*LOG_KEYS, "signer/anchor.key", "signer/organisation.key")
ORIGIN = "datakluis.example/tests"


def keys_of(folder, words):
    """Return each key that a vault keeps in files."""
    ring = Keyring(folder, words)
    private_key = ring.organisation._private_key
    return [
        *(read_key_file(folder / name, "root key", words) for name in ROOT_KEYS),
        *(
            read_key_file(folder / name, label, words)
            for name, label in zip(LOG_KEYS, ("log key", "ML-DSA-44 log key"), strict=True)
        ),
        bytes(ring.anchor),
        private_key.private_numbers().private_value.to_bytes(32, "big"),
    ]


def test_files_and_folders_are_the_owners_alone(vault_folder):
    for name in ROOT_KEYS + SIGNING_KEYS:
        path = vault_folder / name
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert (vault_folder / "vault.db").stat().st_mode & 0o777 == 0o600


def test_each_key_is_another(vault_folder, passphrase):
    assert len(set(keys_of(vault_folder, passphrase))) == 6


def test_the_same_files_give_the_same_keys(vault_folder, passphrase):
    assert keys_of(vault_folder, passphrase) == keys_of(vault_folder, passphrase)


def test_a_read_opens_no_signing_key(vault_folder, passphrase, monkeypatch):
    opened = []
    read_key_file = keyring.read_key_file

    def watched(path, label, words):
        opened.append(label)
        return read_key_file(path, label, words)

    for module in (keyring, logkeys):
        monkeypatch.setattr(module, "read_key_file", watched)
    with Vault.open(vault_folder, passphrase) as vault:
        pointer = vault.put(b"x", category="nieuwsbrief", subject="s")
        assert vault.get(pointer) == b"x"
        assert opened == []
        vault.checkpoint()
        assert opened == ["log key", "ML-DSA-44 log key"]


@pytest.mark.parametrize("name", SIGNING_KEYS)
def test_a_missing_signing_key_is_named(vault_folder, passphrase, name):
    (vault_folder / name).unlink()
    ring = Keyring(vault_folder, passphrase)
    with pytest.raises(ConfigurationError, match=name):
        _ = (ring.log(ORIGIN)._open(), ring.anchor, ring.organisation)


def test_a_missing_root_key_is_named(vault_folder, passphrase):
    """Of the permanent tree only where a key of that tree is needed."""
    for name, category in zip(ROOT_KEYS[::-1], ("organisatie", "nieuwsbrief"), strict=True):
        (vault_folder / name).unlink()
        with (
            pytest.raises(KeyGone, match=f"{name} is gone"),
            Vault.open(vault_folder, passphrase) as vault,
        ):
            vault.put(b"x", category=category, subject="s")


def test_key_files_cannot_stand_in_for_each_other(vault_folder, passphrase):
    log, anchor = vault_folder / "signer/log.key", vault_folder / "signer/anchor.key"
    log.write_bytes(anchor.read_bytes())
    with pytest.raises(ConfigurationError, match="not a key file for the log key"):
        Keyring(vault_folder, passphrase).log(ORIGIN)._open()


def test_the_passphrase_is_the_same_for_all(vault_folder):
    ring = Keyring(vault_folder, "another passphrase")
    for attempt in (
        lambda: ring.log(ORIGIN)._open(),
        lambda: ring.anchor,
        lambda: ring.organisation,
    ):
        with pytest.raises(WrongPassphrase):
            attempt()
    with pytest.raises(WrongPassphrase):
        Vault.open(vault_folder, "another passphrase")


def test_nothing_secret_is_shown(vault_folder, passphrase):
    ring = Keyring(vault_folder, passphrase)
    keys = keys_of(vault_folder, passphrase)
    secrets = [passphrase, *(key.hex() for key in keys), *(repr(key) for key in keys)]
    with Vault.open(vault_folder, passphrase) as vault:
        core = vault._core
        assert core.signer is not None
        with core.database.read() as connection:
            file_provider = core.providers.get(connection, 1)
        things = [
            ring,
            vault,
            core,
            core.keyring,
            core.tree,
            core.signer,
            core.cipher,
            core.log_keys,
        ]
        things += [core.providers, file_provider, core.keyring.organisation, core.lease]
        shown = " ".join(f"{thing!r} {thing}" for thing in things)
    assert [secret for secret in secrets if secret in shown] == []
    assert str(vault_folder) in shown
