"""Root keys in a SoftHSM token: what the token holds, refuses, and answers when it is wrong."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from policy.assurance import Presence
from vault.errors import (
    ConfigurationError,
    Damaged,
    KeyGone,
    ProviderDenied,
    ProviderFailed,
    ProviderUnreachable,
)
from vault.rootkeys import pkcs11 as under_test
from vault.rootkeys.pkcs11 import Pkcs11RootKeys
from vault.rootkeys.provider import KeyContext, Surroundings, TreeNumber

TENANT = bytes(range(16))
ORDINARY = KeyContext(TENANT, TreeNumber.ORDINARY, 1)
PERMANENT = KeyContext(TENANT, TreeNumber.PERMANENT, 1)
EPOCH_KEY = bytes(range(100, 132))


@pytest.fixture
def open_provider(softhsm, tmp_path):
    def opened(**changed):
        return Pkcs11RootKeys({**softhsm, **changed}, Surroundings(tmp_path, "words"))

    return opened


@pytest.fixture
def provider(open_provider):
    return open_provider()


@pytest.fixture
def login(softhsm):
    """Logs in beside the provider, as other software would."""
    import pkcs11

    @contextmanager
    def opened():
        token = pkcs11.lib(softhsm["module"]).get_token(token_label=softhsm["token"])
        with token.open(rw=True, user_pin=Path(softhsm["pin_file"]).read_text().strip()) as session:
            yield session

    return opened


def find(session, label):
    import pkcs11

    (key,) = session.get_objects({pkcs11.Attribute.LABEL: label})
    return key


def test_the_label_is_the_reference(provider):
    label = provider.make_key(KeyContext(TENANT, TreeNumber.PERMANENT, 12))
    assert label == f"datakluis-{TENANT.hex()}-1-12"


@pytest.mark.parametrize("context", [ORDINARY, PERMANENT])
def test_the_token_never_shows_the_key(provider, login, context):
    from pkcs11 import Attribute, KeyType, PKCS11Error, exceptions

    label = provider.make_key(context)
    with login() as session:
        key = find(session, label)
        assert key[Attribute.KEY_TYPE] is KeyType.AES
        assert key[Attribute.VALUE_LEN] == 32
        assert key[Attribute.TOKEN]
        assert key[Attribute.PRIVATE]
        assert key[Attribute.ALWAYS_SENSITIVE]
        assert key[Attribute.NEVER_EXTRACTABLE]
        for purpose in (Attribute.WRAP, Attribute.UNWRAP, Attribute.DERIVE, Attribute.SIGN):
            assert not key[purpose]
        with pytest.raises(exceptions.AttributeSensitive):
            _ = key[Attribute.VALUE]
        with pytest.raises(PKCS11Error):
            key.copy({Attribute.LABEL: "a copy"})
        with pytest.raises(PKCS11Error):
            key[Attribute.EXTRACTABLE] = True


def test_a_permanent_key_cannot_be_made_destroyable(provider, login):
    from pkcs11 import Attribute, PKCS11Error

    label = provider.make_key(PERMANENT)
    with login() as session:
        key = find(session, label)
        for attribute in (Attribute.DESTROYABLE, Attribute.MODIFIABLE):
            with pytest.raises(PKCS11Error):
                key[attribute] = True
        with pytest.raises(PKCS11Error):
            key.destroy()
    with pytest.raises(ProviderDenied, match="it is not destroyable"):
        provider.destroy(label)


def test_a_session_without_login_does_not_see_the_key(provider, softhsm):
    """Why no report is made without a login: the key would seem to be gone."""
    import pkcs11

    label = provider.make_key(ORDINARY)
    token = pkcs11.lib(softhsm["module"]).get_token(token_label=softhsm["token"])
    with token.open() as session:
        assert list(session.get_objects({pkcs11.Attribute.LABEL: label})) == []


@pytest.mark.parametrize("act", ["report", "destroy", "make_key"])
def test_a_wrong_pin_is_a_denial_and_no_report(provider, softhsm, act):
    label = provider.make_key(ORDINARY)
    right = Path(softhsm["pin_file"]).read_text()
    Path(softhsm["pin_file"]).write_text("another-pin\n")
    with pytest.raises(ProviderDenied, match="answers PinIncorrect") as caught:
        getattr(provider, act)(ORDINARY if act == "make_key" else label)
    assert "another-pin" not in repr(caught.value)
    Path(softhsm["pin_file"]).write_text(right)
    assert provider.report(label).presence is Presence.PRESENT


def test_another_token_is_not_reached(open_provider):
    with pytest.raises(ProviderUnreachable, match="token absent answers NoSuchToken"):
        open_provider(token="absent").report(f"datakluis-{TENANT.hex()}-0-1")


@pytest.mark.parametrize("module", ["/nowhere/libpkcs11.so", sys.executable])
def test_another_library_cannot_be_loaded(open_provider, module):
    with pytest.raises(ConfigurationError, match="option module: the PKCS#11 library"):
        open_provider(module=module).make_key(ORDINARY)


def test_someone_elses_login_is_waited_for(provider, login):
    label = provider.make_key(ORDINARY)
    with login(), pytest.raises(ProviderUnreachable, match="UserAlreadyLoggedIn"):
        provider.report(label)
    assert provider.report(label).presence is Presence.PRESENT


def test_a_key_that_someone_put_there_is_refused(provider, login):
    from pkcs11 import Attribute, KeyType

    label = f"datakluis-{TENANT.hex()}-0-1"
    with login() as session:
        session.create_object(
            {
                Attribute.CLASS: 4,
                Attribute.KEY_TYPE: KeyType.AES,
                Attribute.VALUE: bytes(32),
                Attribute.LABEL: label,
                Attribute.TOKEN: True,
            }
        )
    with pytest.raises(ProviderFailed, match=r"other \['ALWAYS_SENSITIVE'.*'LOCAL'"):
        provider.make_key(ORDINARY)


def test_a_permanent_key_that_can_be_destroyed_is_refused(provider, login, monkeypatch):
    generate = under_test._generate
    monkeypatch.setattr(
        under_test, "_generate", lambda session, label, _: generate(session, label, 0)
    )
    with pytest.raises(ProviderFailed, match=r"other \['DESTROYABLE'\]"):
        provider.make_key(PERMANENT)


def test_of_two_keys_none_is_used_and_both_are_destroyed(provider, login):
    label = provider.make_key(ORDINARY)
    with login() as session:
        under_test._generate(session, label, TreeNumber.ORDINARY)
    with pytest.raises(ProviderFailed, match="holds 2 keys"):
        provider.wrap(label, ORDINARY, EPOCH_KEY)
    assert provider.report(label).response.endswith(f": 2 of {label}")
    assert provider.destroy(label).presence is Presence.GONE


def test_a_token_that_fails_is_not_called_damage(provider, monkeypatch):
    import pkcs11

    label = provider.make_key(ORDINARY)
    wrapped = provider.wrap(label, ORDINARY, EPOCH_KEY)

    def fail(*_):
        raise pkcs11.exceptions.DeviceError

    monkeypatch.setattr(under_test, "_seal", fail)
    with pytest.raises(ProviderUnreachable, match="answers DeviceError"):
        provider.unwrap(label, ORDINARY, wrapped[:-1] + bytes([wrapped[-1] ^ 1]))
    assert provider.unwrap(label, ORDINARY, wrapped) == EPOCH_KEY


def test_threads_take_turns(open_provider):
    providers = [open_provider() for _ in range(2)]
    label = providers[0].make_key(ORDINARY)

    def work(number):
        one = providers[number % 2]
        return one.unwrap(label, ORDINARY, one.wrap(label, ORDINARY, EPOCH_KEY))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(64))) == {EPOCH_KEY}


def test_a_key_is_made_anew_after_its_destruction(provider):
    label = provider.make_key(ORDINARY)
    wrapped = provider.wrap(label, ORDINARY, EPOCH_KEY)
    provider.destroy(label)
    with pytest.raises(KeyGone):
        provider.unwrap(label, ORDINARY, wrapped)
    assert provider.make_key(ORDINARY) == label
    with pytest.raises(Damaged):
        provider.unwrap(label, ORDINARY, wrapped)


def test_a_copied_token_still_opens_its_generation(provider, softhsm, tmp_path):
    """What the assurance says: a copy of the storage, with the PIN, outlives the destruction."""
    label = provider.make_key(ORDINARY)
    wrapped = provider.wrap(label, ORDINARY, EPOCH_KEY)
    original = Path(os.environ["SOFTHSM2_CONF"]).parent / "tokens"
    copy = shutil.copytree(original, tmp_path / "copy")
    provider.destroy(label)
    configuration = tmp_path / "copy.conf"
    configuration.write_text(f"directories.tokendir = {copy}\n")
    code = f"""
import sys
from pathlib import Path
from vault.rootkeys.pkcs11 import Pkcs11RootKeys
from vault.rootkeys.provider import KeyContext, Surroundings, TreeNumber
provider = Pkcs11RootKeys({json.dumps(softhsm)}, Surroundings(Path("."), "words"))
context = KeyContext(bytes(range(16)), TreeNumber.ORDINARY, 1)
print(provider.unwrap("{label}", context, bytes.fromhex("{wrapped.hex()}")).hex())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "SOFTHSM2_CONF": str(configuration)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == EPOCH_KEY.hex()
