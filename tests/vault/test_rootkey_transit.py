"""Root keys in a transit engine: a real OpenBao, its policy, and servers that answer wrongly."""

import base64
import json
import os
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import hvac
import pytest
from rootkey_servers import MissingPart, openbao

from policy.assurance import Presence
from vault.errors import (
    Damaged,
    InvalidInput,
    KeyGone,
    ProviderDenied,
    ProviderFailed,
    ProviderUnreachable,
)
from vault.rootkeys.provider import KeyContext, Surroundings, TreeNumber
from vault.rootkeys.transit import TransitRootKeys

EPOCH_KEY = bytes(range(100, 132))
TOKEN = "s.the-token-of-these-tests"


@pytest.fixture
def tenant():
    return os.urandom(16)


@pytest.fixture
def context(tenant):
    def of(generation=1, tree=TreeNumber.ORDINARY):
        return KeyContext(tenant, tree, generation)

    return of


@pytest.fixture
def open_provider(bao, tmp_path):
    def opened(first_generation=1, **changed):
        options = bao.options(first_generation, **changed)
        return TransitRootKeys(options, Surroundings(tmp_path, "words"))

    return opened


@pytest.fixture
def provider(open_provider):
    return open_provider()


@pytest.fixture
def key_of(bao):
    """What the administrator sees of a key."""

    def read(reference):
        with bao.administrator() as client:
            return client.secrets.transit.read_key(reference.split(":")[0])["data"]

    return read


def test_the_reference_and_the_wrapped_form(provider, context, tenant):
    provider.make_key(context(1))
    reference = provider.make_key(context(2))
    assert reference == f"datakluis-ordinary-{tenant.hex()}-from1:2"
    wrapped = provider.wrap(reference, context(2), EPOCH_KEY)
    head, version, body = wrapped.decode().split(":")
    assert (head, version) == ("vault", "v2")
    assert len(base64.b64decode(body)) == 12 + 32 + 16


def test_versions_count_from_the_first_generation(open_provider, context, tenant):
    provider = open_provider(first_generation=5)
    word = f"datakluis-permanent-{tenant.hex()}-from5"
    assert provider.make_key(context(5, TreeNumber.PERMANENT)) == f"{word}:1"
    assert provider.make_key(context(6, TreeNumber.PERMANENT)) == f"{word}:2"
    with pytest.raises(InvalidInput, match="generation 4 is before first_generation 5"):
        provider.make_key(context(4))


def test_an_older_root_key_is_used_after_a_rotation(provider, context, key_of):
    """Also one that somebody else made: a generation keeps its version."""
    first = provider.make_key(context(1))
    wrapped = provider.wrap(first, context(1), EPOCH_KEY)
    third = provider.make_key(context(3))
    assert key_of(third)["latest_version"] == 3
    assert provider.make_key(context(2)).endswith(":2")
    assert key_of(third)["latest_version"] == 3
    assert provider.unwrap(first, context(1), wrapped) == EPOCH_KEY
    assert provider.wrap(first, context(1), EPOCH_KEY).startswith(b"vault:v1:")


def test_destroying_trims(provider, context, key_of):
    first, second, third = (provider.make_key(context(generation)) for generation in (1, 2, 3))
    report = provider.destroy(second)
    assert report.presence is Presence.GONE
    assert report.response == "min_decryption_version 3, min_available_version 3, latest 3"
    assert provider.report(first).presence is Presence.GONE  # a floor takes what is below it
    assert provider.destroy(first) == report
    assert provider.report(third).presence is Presence.PRESENT
    known = key_of(third)
    assert (known["min_available_version"], list(known["keys"])) == (3, ["3"])
    with pytest.raises(KeyGone):
        provider.make_key(context(1))


def test_destroying_the_latest_deletes_the_key(provider, bao, context):
    reference = provider.make_key(context(1))
    report = provider.destroy(reference)
    assert report.presence is Presence.GONE
    assert report.response == f"404: no key {reference.split(':')[0]}"
    with bao.administrator() as client, pytest.raises(hvac.exceptions.InvalidPath):
        client.secrets.transit.read_key(reference.split(":")[0])
    with pytest.raises(KeyGone, match="so it gets no version 2"):
        provider.make_key(context(2))


@pytest.mark.parametrize("last_step", ["min_encryption_version", "min_decryption_version"])
def test_an_interrupted_destruction_is_finished(provider, context, key_of, last_step, monkeypatch):
    first, second = (provider.make_key(context(generation)) for generation in (1, 2))
    wrapped = provider.wrap(first, context(1), EPOCH_KEY)
    configure = TransitRootKeys._configure

    def until(self, name, **values):
        configure(self, name, **values)
        if last_step in values:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TransitRootKeys, "_configure", until)
        with pytest.raises(KeyboardInterrupt):
            provider.destroy(first)
    assert provider.report(first).presence is Presence.PRESENT
    assert key_of(first)["min_available_version"] == 0
    if last_step == "min_decryption_version":
        with pytest.raises(KeyGone):
            provider.unwrap(first, context(1), wrapped)
    assert provider.destroy(first).presence is Presence.GONE
    assert provider.report(second).presence is Presence.PRESENT


def test_an_interrupted_deletion_is_finished(provider, bao, context):
    reference = provider.make_key(context(1))
    with bao.administrator() as client:
        name = reference.split(":")[0]
        client.secrets.transit.update_key_configuration(name, deletion_allowed=True)
    assert provider.report(reference).presence is Presence.PRESENT
    assert provider.destroy(reference).presence is Presence.GONE


def test_a_soft_deleted_key_is_there_and_opens_nothing(provider, bao, context):
    reference = provider.make_key(context(1))
    wrapped = provider.wrap(reference, context(1), EPOCH_KEY)
    name = reference.split(":")[0]
    with bao.administrator() as client:
        client.secrets.transit.update_key_configuration(name, deletion_allowed=True)
        client.adapter.delete(f"v1/transit/keys/{name}/soft-delete")
    report = provider.report(reference)
    assert report.presence is Presence.PRESENT
    assert report.response.endswith("soft-deleted")
    with pytest.raises(KeyGone, match="soft-deleted"):
        provider.unwrap(reference, context(1), wrapped)
    with pytest.raises(KeyGone, match="soft-deleted"):
        provider.wrap(reference, context(1), EPOCH_KEY)


@pytest.mark.parametrize("kind", [{"exportable": True}, {"type": "aes128-gcm96"}])
def test_a_key_of_another_kind_is_refused(provider, bao, context, tenant, kind):
    name = f"datakluis-ordinary-{tenant.hex()}-from1"
    with bao.administrator() as client:
        client.adapter.post(f"v1/transit/keys/{name}", json=kind)
    for call in (lambda: provider.make_key(context(1)), lambda: provider.report(f"{name}:1")):
        with pytest.raises(ProviderFailed, match="of another kind, or exportable"):
            call()


def test_the_policy_keeps_the_vault_from_taking_keys_out(provider, bao, context, tenant):
    names = {tree: provider.make_key(context(1, tree)).split(":")[0] for tree in TreeNumber}
    token = bao.token_file.read_text().strip()
    for name in names.values():
        for method, path, body in (
            ("get", f"export/encryption-key/{name}", None),
            ("get", f"backup/{name}", None),
            ("post", f"datakey/plaintext/{name}", {}),
            ("post", f"keys/{name}/config", {"exportable": True}),
            ("post", f"keys/{name}/config", {"allow_plaintext_backup": True}),
            ("post", f"keys/{name}x", {"type": "aes256-gcm96", "exportable": True}),
            ("post", f"keys/{name}x", {"type": "aes128-gcm96"}),
            ("post", f"keys/{name}x", {"type": "aes256-gcm96", "derived": True}),
            ("post", f"keys/{name}x/import", {"type": "aes256-gcm96", "ciphertext": "AAAA"}),
            ("post", f"encrypt/{name}x", {"plaintext": "AAAA"}),
        ):
            with bao.administrator() as client:
                client.token = token
                ask = getattr(client.adapter, method)
                with pytest.raises(hvac.exceptions.Forbidden):
                    ask(f"v1/transit/{path}", json=body)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "config", {"min_decryption_version": 2}),
        ("post", "config", {"min_encryption_version": 2}),
        ("post", "config", {"deletion_allowed": True}),
        ("post", "trim", {"min_available_version": 2}),
        ("delete", "", None),
        ("delete", "soft-delete", None),
    ],
)
def test_the_policy_keeps_permanent_keys(provider, bao, context, key_of, method, path, body):
    for generation in (1, 2):
        reference = provider.make_key(context(generation, TreeNumber.PERMANENT))
    name = reference.split(":")[0]
    with bao.administrator() as client:
        client.token = bao.token_file.read_text().strip()
        ask = getattr(client.adapter, method)
        with pytest.raises(hvac.exceptions.Forbidden):
            ask(f"v1/transit/keys/{name}/{path}", json=body)
    known = key_of(reference)
    assert (known["min_decryption_version"], known["min_available_version"]) == (1, 0)
    assert not known["deletion_allowed"]


def test_another_token_is_denied(open_provider, bao, tmp_path, context):
    other = tmp_path / "other.token"
    other.write_text(f"{TOKEN}\n")
    for token_file in (other, bao.token("default")):
        with pytest.raises(ProviderDenied, match="answers HTTP 403") as caught:
            open_provider(token_file=str(token_file)).make_key(context(1))
        assert TOKEN not in str(caught.value)


def test_a_renewed_token_is_used(open_provider, bao, tmp_path, context):
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    provider = open_provider(token_file=str(token))
    with pytest.raises(ProviderDenied):
        provider.make_key(context(1))
    token.write_bytes(bao.token_file.read_bytes())
    assert provider.make_key(context(1))


def test_another_mount_is_never_a_key_that_is_gone(open_provider, bao, tmp_path, context):
    reference = open_provider().make_key(context(1))
    root = tmp_path / "root.token"
    root.write_text(f"{bao.root_token}\n")
    with pytest.raises(ProviderDenied):
        open_provider(mount="elsewhere").report(reference)
    with pytest.raises(ProviderFailed):
        open_provider(mount="elsewhere", token_file=str(root)).report(reference)


@pytest.fixture(scope="module")
def own_bao(tmp_path_factory, missing_part):
    """A server that tests may seal, kill and put back."""
    try:
        with openbao(tmp_path_factory.mktemp("own-openbao")) as server:
            yield server
    except MissingPart as reason:
        missing_part(str(reason))


@pytest.fixture
def own_provider(own_bao, tmp_path):
    return TransitRootKeys(own_bao.options(), Surroundings(tmp_path, "words"))


def test_a_sealed_server_is_not_reached(own_bao, own_provider, context):
    reference = own_provider.make_key(context(1))
    own_bao.seal()
    with pytest.raises(ProviderUnreachable, match="answers HTTP 503"):
        own_provider.report(reference)
    own_bao.unseal()
    assert own_provider.report(reference).presence is Presence.PRESENT


def test_a_killed_server_keeps_what_it_said(own_bao, own_provider, context):
    first, second = (own_provider.make_key(context(generation)) for generation in (1, 2))
    wrapped = own_provider.wrap(second, context(2), EPOCH_KEY)
    own_provider.destroy(first)
    own_bao.stop()
    with pytest.raises(ProviderUnreachable, match="does not answer: ConnectionError"):
        own_provider.report(second)
    own_bao.start()
    with pytest.raises(ProviderUnreachable):
        own_provider.report(second)
    own_bao.unseal()
    assert own_provider.report(first).presence is Presence.GONE
    assert own_provider.unwrap(second, context(2), wrapped) == EPOCH_KEY


def test_a_restored_snapshot_brings_a_destroyed_key_back(own_bao, own_provider, context):
    """What the assurance says; the caller's test that nothing opens any more would notice."""
    first = own_provider.make_key(context(1))
    wrapped = own_provider.wrap(first, context(1), EPOCH_KEY)
    snapshot = own_bao.snapshot()
    second = own_provider.make_key(context(2))
    assert own_provider.destroy(first).presence is Presence.GONE
    own_bao.restore(snapshot)
    assert own_provider.report(first).presence is Presence.PRESENT
    assert own_provider.unwrap(first, context(1), wrapped) == EPOCH_KEY
    with pytest.raises(ProviderFailed, match="to 1, not 2"):
        own_provider.report(second)


def test_another_certificate_is_not_trusted(bao, own_bao, open_provider, context):
    for changed in ({"ca_file": str(own_bao.ca_file)}, {"url": bao.url.replace("https", "http")}):
        with pytest.raises((ProviderUnreachable, ProviderFailed)):
            open_provider(**changed).make_key(context(1))


KEY_NAME = f"datakluis-ordinary-{bytes(16).hex()}-from1"
REFERENCE = f"{KEY_NAME}:1"
WRAPPED = b"vault:v1:" + base64.b64encode(bytes(60))
CONTEXT = KeyContext(bytes(16), TreeNumber.ORDINARY, 1)
KNOWN = {
    "type": "aes256-gcm96",
    "latest_version": 1,
    "min_available_version": 0,
    "min_decryption_version": 1,
    "min_encryption_version": 0,
}


@contextmanager
def server(answer):
    """Run a server that answers every request with what `answer(path)` returns or does."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append((self.path, dict(self.headers), body))
            status, content, headers = answer(self.path)
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                pass  # it waited no longer

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{one.server_address[1]}", seen
        finally:
            one.shutdown()
            thread.join()


def told(document, status=200):
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return lambda _: (status, content, {"Content-Type": "application/json"})


def describing(path_answers):
    """Describe the key as it should be, and answer otherwise to some paths."""

    def answer(path):
        for part, other in path_answers.items():
            if part in path:
                return other(path)
        return told({"data": KNOWN})(path)

    return answer


@pytest.fixture
def hostile(tmp_path):
    (tmp_path / "token").write_text(TOKEN)

    def opened(url):
        options = {
            "url": url,
            "token_file": "token",
            "first_generation": "1",
            "timeout_seconds": "1",
        }
        return TransitRootKeys(options, Surroundings(tmp_path, "words"))

    return opened


CALLS = {
    "make_key": lambda provider: provider.make_key(CONTEXT),
    "wrap": lambda provider: provider.wrap(REFERENCE, CONTEXT, EPOCH_KEY),
    "unwrap": lambda provider: provider.unwrap(REFERENCE, CONTEXT, WRAPPED),
    "destroy": lambda provider: provider.destroy(REFERENCE),
    "report": lambda provider: provider.report(REFERENCE),
}
SECRETS = [
    TOKEN,
    EPOCH_KEY.hex(),
    repr(EPOCH_KEY),
    base64.b64encode(EPOCH_KEY).decode(),
    WRAPPED.decode(),
]


def fails(provider, call, error):
    """Make a call that must fail with one error, soon, and without a secret."""
    begun = time.monotonic()
    with pytest.raises(error) as caught:
        CALLS[call](provider)
    assert time.monotonic() - begun < 5
    shown = f"{caught.value!r} {caught.value} {provider!r}"
    assert not any(secret in shown for secret in SECRETS)
    assert len(str(caught.value)) < 200
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def late(seconds, answer):
    def wait(path):
        time.sleep(seconds)
        return answer(path)

    return wait


echo = json.dumps([TOKEN, base64.b64encode(EPOCH_KEY).decode(), WRAPPED.decode()]).encode()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (late(1.5, told({"data": KNOWN})), ProviderUnreachable),
        (told(echo, 500), ProviderUnreachable),
        (told({"errors": [TOKEN]}, 502), ProviderUnreachable),
        (told({"errors": ["Vault is sealed"]}, 503), ProviderUnreachable),
        (told(b"<html>gateway timeout", 504), ProviderUnreachable),
        (told({"errors": []}, 429), ProviderUnreachable),
        (told({}, 473), ProviderUnreachable),
        (told({"errors": [TOKEN]}, 403), ProviderDenied),
        (told(echo, 401), ProviderDenied),
        (told(b"", 200), ProviderFailed),
        (told(echo, 200), ProviderFailed),
        (told(b"\xff\xfe\x00", 200), ProviderFailed),
        (told(b"[" * 100_000, 200), ProviderFailed),
        (told(b" " * 2_000_000 + json.dumps({"data": KNOWN}).encode(), 200), ProviderFailed),
        (told(echo, 202), ProviderFailed),
        (told(echo, 418), ProviderFailed),
        (lambda _: (302, b"", {"Location": "http://127.0.0.1:9/"}), ProviderFailed),
        (lambda _: (200, b"{}", {"Content-Length": "5"}), ProviderUnreachable),
        (lambda _: (200, b"junk", {"Content-Encoding": "gzip"}), ProviderUnreachable),
    ],
)
def test_wrong_answers_are_named(hostile, call, answer, error):
    with server(answer) as (url, _):
        fails(hostile(url), call, error)


@pytest.mark.parametrize("call", ["make_key", "report", "destroy", "wrap"])
@pytest.mark.parametrize(
    "answer",
    [
        told(b"<html>not found", 404),
        told({"errors": ["no handler for route"]}, 404),
        told({"errors": None}, 404),
        told({"errors": [], "data": None}, 404),
        told({}, 404),
        told({"errors": []}, 400),
        told({"errors": []}, 200),
        told({}, 200),
        told(b"", 204),
        told({"data": {}}, 200),
        told({"data": {**KNOWN, "latest_version": "1"}}),
        told({"data": {**KNOWN, "latest_version": True}}),
        told({"data": {**KNOWN, "min_available_version": -1}}),
        told({"data": {**KNOWN, "latest_version": 0}}),
        told({"data": {**KNOWN, "type": "aes128-gcm96"}}),
        told({"data": {**KNOWN, "exportable": True}}),
        told({"data": {**KNOWN, "imported_key": True}}),
    ],
)
def test_only_the_engine_says_that_a_key_is_gone(hostile, call, answer):
    """A wrong path, a proxy's page, a description with a field of another type: not an answer."""
    if (
        call == "make_key"
        and answer("")[1] == json.dumps({"data": {**KNOWN, "latest_version": 0}}).encode()
    ):
        return  # a key without a version is rotated
    with server(answer) as (url, _):
        fails(hostile(url), call, ProviderFailed)


def test_rotation_that_changes_nothing_is_noticed(hostile):
    with server(told({"data": {**KNOWN, "latest_version": 0}})) as (url, seen):
        fails(hostile(url), "make_key", ProviderFailed)
    assert len(seen) == 3


@pytest.mark.parametrize(
    "ciphertext",
    [
        None,
        7,
        "",
        TOKEN,
        WRAPPED.decode() + "\n",
        WRAPPED.decode().replace("v1", "v2"),
        WRAPPED.decode()[:-4],
        WRAPPED.decode() + "AAAA",
        "vault:v1:" + "é" * 80,
    ],
)
def test_a_wrong_ciphertext_is_not_taken(hostile, ciphertext):
    answer = describing({"/encrypt/": told({"data": {"ciphertext": ciphertext}})})
    with server(answer) as (url, _):
        fails(hostile(url), "wrap", ProviderFailed)


@pytest.mark.parametrize(
    "plaintext",
    [
        None,
        7,
        "",
        TOKEN,
        base64.b64encode(EPOCH_KEY[:-1]).decode(),
        base64.b64encode(EPOCH_KEY + b"x").decode(),
        base64.b64encode(EPOCH_KEY).decode() + "\n",
        "é" * 44,
    ],
)
def test_a_wrong_plaintext_is_not_taken(hostile, plaintext):
    with server(describing({"/decrypt/": told({"data": {"plaintext": plaintext}})})) as (url, _):
        fails(hostile(url), "unwrap", ProviderFailed)


def test_a_refusal_to_decrypt_is_damage_only_if_the_key_is_there(hostile):
    refusing = told({"errors": [WRAPPED.decode()]}, 400)
    with server(describing({"/decrypt/": refusing})) as (url, _):
        fails(hostile(url), "unwrap", Damaged)
    with server(describing({"/decrypt/": refusing, "/keys/": told({"errors": []}, 404)})) as (
        url,
        _,
    ):
        fails(hostile(url), "unwrap", KeyGone)


@pytest.mark.parametrize("path", ["/config", "/trim"])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (told({"errors": [TOKEN]}, 400), ProviderFailed),
        (told({"errors": []}, 404), ProviderFailed),
        (told({}, 403), ProviderDenied),
        (told({}, 500), ProviderUnreachable),
    ],
)
def test_a_destruction_that_is_refused_is_no_destruction(hostile, path, answer, error):
    older = told({"data": {**KNOWN, "latest_version": 2}})
    with server(describing({path: answer, "/keys/": older})) as (url, _):
        fails(hostile(url), "destroy", error)


def test_a_service_that_only_says_yes_has_destroyed_nothing(hostile):
    with server(told({"data": KNOWN})) as (url, _):
        assert hostile(url).destroy(REFERENCE).presence is Presence.PRESENT


def test_nothing_listens(hostile):
    with server(told({})) as (url, _):
        pass
    for call in CALLS:
        fails(hostile(url), call, ProviderUnreachable)


def test_the_token_goes_nowhere_else(hostile, monkeypatch, tmp_path):
    """Not where a redirect points, nor to a proxy; and no password of .netrc goes along."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password word\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("VAULT_NAMESPACE", "other")
    with server(told({"data": KNOWN})) as (elsewhere, stolen):
        monkeypatch.setenv("HTTP_PROXY", elsewhere)
        monkeypatch.setenv("http_proxy", elsewhere)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with server(lambda path: (307, b"", {"Location": elsewhere + path})) as (url, seen):
            fails(hostile(url), "report", ProviderFailed)
    assert stolen == []
    ((path, headers, _),) = seen
    assert path == f"/v1/transit/keys/{KEY_NAME}"
    assert headers["X-Vault-Token"] == TOKEN
    assert "Authorization" not in headers
    assert "X-Vault-Namespace" not in headers
