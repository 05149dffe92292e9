"""Vaults for the tests of commands."""

import sys
from pathlib import Path

import pytest
from kluis_command import run
from watched_kluis import PASSPHRASE, WatchedKluis

from vault import keyfile

# The real providers are the vault room's.
sys.path.append(str(Path(__file__).parents[1] / "vault"))

from rootkey_servers import MissingPart, softhsm_token


@pytest.fixture(scope="module", autouse=True)
def cheap_keys():
    """Argon2id at full cost is tested in tests/vault/test_keyfile.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyfile, "_MEMORY_KIB", 64)
        patch.setattr(keyfile, "_ITERATIONS", 1)
        yield


@pytest.fixture
def kluis(tmp_path, monkeypatch):
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n")
    monkeypatch.setenv("KLUIS_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    made = run("init", tmp_path / "vault", "--origin", "datakluis.example/test")
    assert made.code == 0, made.err
    return WatchedKluis(tmp_path / "vault")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """The folder in which the user works; not the vault's."""
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def softhsm(kluis, missing_part):
    """Options of a new SoftHSM token, as the command takes them; its PIN is watched for."""
    try:
        options = softhsm_token(kluis.folder.parent)
    except MissingPart as reason:
        return missing_part(str(reason))
    kluis.secrets.add(Path(options["pin_file"]).read_text().strip())
    return [word for name, value in options.items() for word in ("--option", name, value)]
