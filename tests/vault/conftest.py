"""Vaults for the tests: made once at a tiny Argon2id cost, copied for each test."""

import contextlib
import datetime as dt
import json
import shutil
from pathlib import Path

import pytest
from kms_fake import running_kms
from rootkey_servers import MissingPart, openbao, softhsm_token

from vault import Vault, keyfile

PASSPHRASE = "a passphrase for tests"
ORIGIN = "datakluis.example/tests"
_COST = ("_MEMORY_KIB", "_ITERATIONS", "_LANES")
_CHEAP = (32, 1, 4)


def _make_cheap(patch):
    for name, value in zip(_COST, _CHEAP, strict=True):
        patch.setattr(keyfile, name, value)


class SettableClock:
    """Stands still at noon UTC until it is set."""

    def __init__(self, day):
        self.day = day

    def now(self):
        return int(dt.datetime(*self.day.timetuple()[:3], 12, tzinfo=dt.UTC).timestamp())

    def today(self):
        return self.day


@pytest.fixture(autouse=True, scope="module")
def cheap_argon2():
    """Key files that tests make cost nothing to open; they say so in their header."""
    with pytest.MonkeyPatch.context() as patch:
        _make_cheap(patch)
        yield


@pytest.fixture
def full_cost(monkeypatch):
    """The cost that a key file has outside the tests, as the module's source states it."""
    source = Path(keyfile.__file__).read_text(encoding="utf-8")
    for name in _COST:
        line = next(line for line in source.splitlines() if line.startswith(f"{name} = "))
        monkeypatch.setattr(keyfile, name, int(line.split(" = ")[1]))


@pytest.fixture
def passphrase():
    """Opens every vault of these tests."""
    return PASSPHRASE


@pytest.fixture(scope="session")
def template_folder(tmp_path_factory):
    """A new vault, closed; nothing may change it."""
    folder = tmp_path_factory.mktemp("template") / "vault"
    with pytest.MonkeyPatch.context() as patch:
        _make_cheap(patch)
        Vault.create(folder, PASSPHRASE, origin=ORIGIN).close()
    return folder


@pytest.fixture
def vault_folder(template_folder, tmp_path):
    """The folder of a new vault."""
    return shutil.copytree(template_folder, tmp_path / "vault")


@pytest.fixture
def clock():
    """2 March 2026 until a test sets `clock.day`."""
    return SettableClock(dt.date(2026, 3, 2))


@pytest.fixture
def vault(vault_folder, clock):
    """A new vault, open."""
    with Vault.open(vault_folder, PASSPHRASE, clock=clock) as opened:
        yield opened


@pytest.fixture
def reopen(vault_folder, clock):
    """Opens the same folder once more, as another process would."""
    opened = []

    def again():
        opened.append(Vault.open(vault_folder, PASSPHRASE, clock=clock))
        return opened[-1]

    yield again
    for one in opened:
        one.close()


@pytest.fixture(scope="session")
def golden():
    """Reads a file of golden vectors."""

    def read(name):
        path = Path(__file__).parents[1] / "vectors" / name
        return json.loads(path.read_text(encoding="utf-8"))

    return read


@pytest.fixture
def rows(vault):
    """Runs a query on the vault's database and returns its rows."""

    def run(query, parameters=()):
        with vault._core.database.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query, parameters)]

    return run


@pytest.fixture
def softhsm(tmp_path, missing_part):
    """Options of a provider at a new SoftHSM token."""
    try:
        return softhsm_token(tmp_path)
    except MissingPart as reason:
        return missing_part(str(reason))


@pytest.fixture(scope="session")
def bao(tmp_path_factory, missing_part):
    """An OpenBao server; the tests share it, so each takes a tenant of its own."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(openbao(tmp_path_factory.mktemp("openbao")))
        except MissingPart as reason:
            missing_part(str(reason))
        yield server


@pytest.fixture
def kms():
    """A server that answers like AWS KMS, and the vault's role in the environment."""
    with running_kms() as server:
        yield server
