"""The key files of a vault: where they lie, who may read them, and when they are opened."""

import pytest

from vault import ConfigurationError, Vault, WrongPassphrase, keyring
from vault.keyring import Keyring

FILES = ("keys/root.key", "signer/log.key", "signer/anchor.key")


def test_files_and_folders_are_the_owners_alone(vault_folder):
    for name in FILES:
        path = vault_folder / name
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert (vault_folder / "vault.db").stat().st_mode & 0o777 == 0o600


def test_each_key_is_another(vault_folder, passphrase):
    ring = Keyring(vault_folder, passphrase)
    assert len({ring.root._key, bytes(ring.log), bytes(ring.anchor)}) == 3


def test_the_same_files_give_the_same_keys(vault_folder, passphrase):
    one, two = Keyring(vault_folder, passphrase), Keyring(vault_folder, passphrase)
    assert (one.root._key, bytes(one.log), bytes(one.anchor)) == (
        two.root._key,
        bytes(two.log),
        bytes(two.anchor),
    )


def test_a_read_opens_no_signing_key(vault_folder, passphrase, monkeypatch):
    opened = []
    read_key_file = keyring.read_key_file

    def watched(path, label, words):
        opened.append(label)
        return read_key_file(path, label, words)

    monkeypatch.setattr(keyring, "read_key_file", watched)
    with Vault.open(vault_folder, passphrase) as vault:
        pointer = vault.put(b"x", category="nieuwsbrief", subject="s")
        assert vault.get(pointer) == b"x"
        assert opened == []
        vault.checkpoint()
        assert opened == ["log key"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_key_file_is_named(vault_folder, passphrase, name):
    (vault_folder / name).unlink()
    ring = Keyring(vault_folder, passphrase)
    with pytest.raises(ConfigurationError, match=name):
        _ = (ring.root, ring.log, ring.anchor)


def test_key_files_cannot_stand_in_for_each_other(vault_folder, passphrase):
    log, anchor = vault_folder / FILES[1], vault_folder / FILES[2]
    log.write_bytes(anchor.read_bytes())
    with pytest.raises(ConfigurationError, match="not a key file for the log key"):
        _ = Keyring(vault_folder, passphrase).log


def test_the_passphrase_is_the_same_for_all(vault_folder):
    ring = Keyring(vault_folder, "another passphrase")
    for attempt in ("root", "log", "anchor"):
        with pytest.raises(WrongPassphrase):
            getattr(ring, attempt)


def test_nothing_secret_is_shown(vault_folder, passphrase):
    ring = Keyring(vault_folder, passphrase)
    secrets = [
        passphrase,
        ring.root._key.hex(),
        repr(ring.root._key),
        bytes(ring.log).hex(),
        repr(bytes(ring.log)),
        bytes(ring.anchor).hex(),
        repr(bytes(ring.anchor)),
    ]
    with Vault.open(vault_folder, passphrase) as vault:
        core = vault._core
        assert core.signer is not None
        things = [ring, ring.root, vault, core, core.keyring, core.tree, core.signer, core.cipher]
        shown = " ".join(f"{thing!r} {thing}" for thing in things)
    assert [secret for secret in secrets if secret in shown] == []
    assert str(vault_folder) in shown
