"""Root keys in AWS KMS: key states, windows, key policies, and answers that are lost or wrong."""

import json
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import boto3
import pytest
from botocore.exceptions import ClientError
from kms_fake import ACCOUNT, DAY_SECONDS, REGION
from moto import mock_aws

from policy.assurance import Presence
from vault.errors import (
    Damaged,
    KeyGone,
    ProviderDenied,
    ProviderFailed,
    ProviderUnreachable,
)
from vault.rootkeys import awskms
from vault.rootkeys.awskms import AwsKmsRootKeys
from vault.rootkeys.provider import KeyContext, Surroundings, TreeNumber

TENANT = bytes(range(16))
ORDINARY = KeyContext(TENANT, TreeNumber.ORDINARY, 1)
PERMANENT = KeyContext(TENANT, TreeNumber.PERMANENT, 1)
EPOCH_KEY = bytes(range(100, 132))
ALIAS = f"alias/datakluis-{TENANT.hex()}-0-1"


@pytest.fixture
def open_provider(kms, tmp_path):
    def opened(**changed):
        return AwsKmsRootKeys(kms.options(**changed), Surroundings(tmp_path, "words"))

    return opened


@pytest.fixture
def provider(open_provider):
    return open_provider()


@pytest.fixture
def client(kms):
    """Asks KMS as a role, beside the provider."""

    def opened(role):
        with kms.as_role(role):
            session = boto3.session.Session()
            made = session.client("kms", region_name=REGION, endpoint_url=kms.url)
            made.list_aliases()  # credentials are looked up at the first request
            return made

    return opened


def test_the_key_is_found_by_its_alias_and_named_by_its_arn(provider, kms):
    reference = provider.make_key(ORDINARY)
    (key,) = kms.keys.values()
    assert reference == key.arn
    assert kms.aliases == {ALIAS: key.key_id}
    assert key.tags == [{"TagKey": "datakluis-context", "TagValue": ORDINARY.encode().hex()}]
    assert provider.make_key(ORDINARY) == reference
    assert len(kms.keys) == 1


def test_the_context_is_bound(provider, kms):
    reference = provider.make_key(ORDINARY)
    provider.unwrap(reference, ORDINARY, provider.wrap(reference, ORDINARY, EPOCH_KEY))
    used = [body for operation, _, body in kms.requests if operation in ("Encrypt", "Decrypt")]
    assert [one["EncryptionContext"] for one in used] == [
        {"datakluis-context": ORDINARY.encode().hex()}
    ] * 2
    assert {one["KeyId"] for one in used} == {reference}


@pytest.mark.parametrize(("option", "days"), [({}, 7), ({"window_days": "30"}, 30)])
def test_a_deletion_is_scheduled_and_then_gone(open_provider, kms, option, days):
    provider = open_provider(**option)
    reference = provider.make_key(ORDINARY)
    wrapped = provider.wrap(reference, ORDINARY, EPOCH_KEY)
    report = provider.destroy(reference)
    assert report.presence is Presence.SCHEDULED
    assert report.gone_at == int(kms.now) + days * DAY_SECONDS
    assert report.response.startswith("KeyState PendingDeletion, DeletionDate 2")

    kms.advance(days - 0.001)
    assert provider.report(reference) == report
    assert provider.destroy(reference) == report  # the window does not begin again
    with pytest.raises(KeyGone, match="deletion is scheduled"):
        provider.make_key(ORDINARY)
    kms.advance(0.001)
    after = provider.report(reference)
    assert (after.presence, after.response) == (Presence.GONE, "NotFoundException")
    assert provider.destroy(reference) == after
    for call in (
        lambda: provider.unwrap(reference, ORDINARY, wrapped),
        lambda: provider.wrap(reference, ORDINARY, EPOCH_KEY),
    ):
        with pytest.raises(KeyGone, match="NotFoundException"):
            call()


def test_a_cancelled_deletion_is_seen(provider, kms, client):
    """The window is why a scheduled deletion is no destruction yet."""
    reference = provider.make_key(ORDINARY)
    wrapped = provider.wrap(reference, ORDINARY, EPOCH_KEY)
    provider.destroy(reference)
    with pytest.raises(KeyGone, match="KMSInvalidStateException"):
        provider.unwrap(reference, ORDINARY, wrapped)
    administrator = client(kms.administrator)
    administrator.cancel_key_deletion(KeyId=reference)
    report = provider.report(reference)
    assert (report.presence, report.response) == (Presence.PRESENT, "KeyState Disabled")
    assert report.gone_at is None
    with pytest.raises(KeyGone, match="DisabledException"):
        provider.unwrap(reference, ORDINARY, wrapped)
    administrator.enable_key(KeyId=reference)
    assert provider.report(reference).response == "KeyState Enabled"
    assert provider.unwrap(reference, ORDINARY, wrapped) == EPOCH_KEY


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("schedule_key_deletion", {"PendingWindowInDays": 7}),
        ("disable_key", {}),
        ("put_key_policy", {"Policy": "{}", "PolicyName": "default"}),
    ],
)
def test_the_key_policy_keeps_permanent_keys(provider, kms, client, operation, parameters):
    reference = provider.make_key(PERMANENT)
    wrapped = provider.wrap(reference, PERMANENT, EPOCH_KEY)
    with pytest.raises(ClientError, match="AccessDeniedException"):
        getattr(client(kms.vault), operation)(KeyId=reference, **parameters)
    assert provider.unwrap(reference, PERMANENT, wrapped) == EPOCH_KEY


def test_only_an_administrator_destroys_a_permanent_key(provider, kms, client):
    reference = provider.make_key(PERMANENT)
    with pytest.raises(ProviderDenied, match="AccessDeniedException"):
        provider.destroy(reference)
    client(kms.administrator).schedule_key_deletion(KeyId=reference, PendingWindowInDays=7)
    assert provider.destroy(reference).presence is Presence.SCHEDULED


def test_the_key_policy_names_the_role_and_its_account(provider, kms):
    provider.make_key(PERMANENT)
    (key,) = kms.keys.values()
    principals = [one["Principal"]["AWS"] for one in key.policy["Statement"]]
    assert principals == [f"arn:aws:iam::{ACCOUNT}:root", kms.vault.arn, kms.vault.arn]
    assert "$" not in json.dumps(key.policy)


@pytest.mark.parametrize(
    ("call", "denied"),
    [
        (lambda one, ref: one.make_key(ORDINARY._replace(generation=2)), "CreateKey"),
        (lambda one, ref: one.make_key(ORDINARY._replace(generation=2)), "CreateAlias"),
        (lambda one, ref: one.wrap(ref, ORDINARY, EPOCH_KEY), "Encrypt"),
        (lambda one, ref: one.unwrap(ref, ORDINARY, b"x" * 92), "Decrypt"),
        (lambda one, ref: one.destroy(ref), "ScheduleKeyDeletion"),
        (lambda one, ref: one.report(ref), "DescribeKey"),
    ],
)
def test_what_the_role_may_not_is_denied(provider, kms, call, denied):
    reference = provider.make_key(ORDINARY)
    kms.vault.denied.add(denied)
    with pytest.raises(ProviderDenied, match="KMS answers AccessDeniedException"):
        call(provider, reference)
    kms.vault.denied.clear()
    assert provider.report(reference).presence is Presence.PRESENT


def test_a_denied_look_at_a_deleted_key_is_not_called_gone(provider, kms):
    reference = provider.make_key(ORDINARY)
    kms.vault.denied.add("DescribeKey")
    kms.keys.clear()
    with pytest.raises(ProviderDenied):
        provider.report(reference)


def test_a_crash_before_the_alias_leaves_a_key_with_a_tag(provider, kms):
    kms.vault.denied.add("CreateAlias")
    with pytest.raises(ProviderDenied):
        provider.make_key(ORDINARY)
    (orphan,) = kms.keys.values()
    assert orphan.tags[0]["TagValue"] == ORDINARY.encode().hex()
    kms.vault.denied.clear()
    reference = provider.make_key(ORDINARY)
    assert reference != orphan.arn
    assert provider.make_key(ORDINARY) == reference


def test_of_two_makers_one_wins(provider, open_provider, kms, monkeypatch):
    describe, others = AwsKmsRootKeys._describe, []

    def slow(self, key):
        known = describe(self, key)
        if known is None and self is provider and not others:
            others.append(open_provider().make_key(ORDINARY))
        return known

    monkeypatch.setattr(AwsKmsRootKeys, "_describe", slow)
    assert provider.make_key(ORDINARY) == others[0]


def test_a_lost_answer_to_the_alias_is_no_second_key(provider, kms):
    """The service did it, the answer did not arrive, and the question is asked again."""
    kms.unanswered["CreateAlias"] = 1
    reference = provider.make_key(ORDINARY)
    assert [key.arn for key in kms.keys.values()] == [reference]
    assert kms.aliases == {ALIAS: reference.rsplit("/", 1)[1]}


@pytest.mark.parametrize("lost", [1, 3])
def test_a_lost_answer_to_the_deletion_is_found_out(provider, kms, lost):
    reference = provider.make_key(ORDINARY)
    kms.unanswered["ScheduleKeyDeletion"] = lost
    if lost == 3:
        with pytest.raises(ProviderUnreachable):
            provider.destroy(reference)
    report = provider.destroy(reference)
    assert report.presence is Presence.SCHEDULED
    assert report.gone_at == int(kms.now) + 7 * DAY_SECONDS


def test_throttling_is_waited_out(provider, kms, monkeypatch):
    reference = provider.make_key(ORDINARY)
    kms.throttled = True
    monkeypatch.setattr(time, "sleep", lambda _: None)
    asked = len(kms.requests)
    with pytest.raises(ProviderUnreachable, match="KMS answers ThrottlingException"):
        provider.report(reference)
    assert len(kms.requests) == asked + 3
    kms.throttled = False
    assert provider.report(reference).presence is Presence.PRESENT


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": "EXTERNAL"},
        {"Origin": "AWS_CLOUDHSM"},
        {"KeyManager": "AWS"},
        {"KeySpec": "RSA_2048"},
        {"KeyUsage": "SIGN_VERIFY"},
        {"MultiRegion": True},
        {"KeyState": ""},
        {"KeyState": "Enabled\n"},
        {"Arn": "arn:aws:kms:us-east-1:111122223333:key/1"},
    ],
)
def test_a_key_of_another_kind_is_refused(provider, kms, monkeypatch, changed):
    reference = provider.make_key(ORDINARY)
    metadata = type(kms.keys[reference.rsplit("/", 1)[1]]).metadata
    monkeypatch.setattr(
        type(kms.keys[reference.rsplit("/", 1)[1]]),
        "metadata",
        lambda self: {**metadata(self), **changed},
    )
    for call in (
        lambda: provider.make_key(ORDINARY),
        lambda: provider.report(reference),
        lambda: provider.destroy(reference),
    ):
        with pytest.raises(ProviderFailed, match="of another kind"):
            call()


def test_a_description_of_another_key_is_no_report(provider, kms, monkeypatch):
    old, new = (provider.make_key(ORDINARY._replace(generation=one)) for one in (1, 2))
    monkeypatch.setattr(kms, "_describe_key", lambda *_: {"KeyMetadata": other.metadata()})
    other = kms.keys[new.rsplit("/", 1)[1]]
    with pytest.raises(ProviderFailed, match="describes another key"):
        provider.report(old)


def test_another_region_does_not_make_a_key_seem_gone(provider, open_provider):
    reference = provider.make_key(ORDINARY)
    with pytest.raises(Damaged, match="not the ARN of a KMS key in eu-central-1"):
        open_provider(region="eu-central-1").report(reference)


def test_without_credentials_nothing_is_asked(provider, kms, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(ProviderDenied, match="NoCredentialsError"):
        provider.make_key(ORDINARY)
    assert kms.requests == []


def test_an_unknown_profile_is_named(provider, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "absent")
    with pytest.raises(ProviderDenied, match="ProfileNotFound"):
        provider.make_key(ORDINARY)


REFERENCE = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
CALLS = {
    "make_key": lambda provider: provider.make_key(ORDINARY),
    "wrap": lambda provider: provider.wrap(REFERENCE, ORDINARY, EPOCH_KEY),
    "unwrap": lambda provider: provider.unwrap(REFERENCE, ORDINARY, bytes(92)),
    "destroy": lambda provider: provider.destroy(REFERENCE),
    "report": lambda provider: provider.report(REFERENCE),
}
SECRET = "c2VjcmV0LXRoYXQtYS1zZXJ2ZXItZWNob2Vz"


@pytest.fixture
def answering(kms, tmp_path, monkeypatch):
    """Gives a provider whose server answers everything in one way."""
    monkeypatch.setattr(awskms, "_CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(awskms, "_READ_SECONDS", 0.3)
    monkeypatch.setattr(awskms, "_ATTEMPTS", 1)
    running = []

    def start(status, content, seconds=0.0):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(seconds)
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/x-amz-json-1.1")
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    pass  # it waited no longer

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((server, thread))
        url = f"http://127.0.0.1:{server.server_address[1]}"
        return AwsKmsRootKeys(kms.options(endpoint=url), Surroundings(tmp_path, "words"))

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def error(name):
    return json.dumps({"__type": name, "message": SECRET}).encode()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (500, error("KMSInternalException"), ProviderUnreachable),
        (503, b"<html>" + SECRET.encode(), ProviderUnreachable),
        (400, error("KMSInternalException"), ProviderUnreachable),
        (400, error("DependencyTimeoutException"), ProviderUnreachable),
        (400, error("KeyUnavailableException"), ProviderUnreachable),
        (400, error("AccessDeniedException"), ProviderDenied),
        (400, error("UnrecognizedClientException"), ProviderDenied),
        (400, error("ExpiredTokenException"), ProviderDenied),
        (400, error("ValidationException"), ProviderFailed),
        (400, error("InvalidArnException"), ProviderFailed),
        (400, error(f"{SECRET} junk"), ProviderFailed),
        (404, b"<html>not found", ProviderFailed),
        (404, b"{}", ProviderFailed),
        (200, b"<html>" + SECRET.encode(), ProviderFailed),
        (200, b"{}", ProviderFailed),
        (
            200,
            json.dumps({"KeyMetadata": {"Arn": SECRET}, "KeyId": SECRET}).encode(),
            ProviderFailed,
        ),
        (200, json.dumps({"KeyMetadata": None, "KeyId": REFERENCE}).encode(), ProviderFailed),
        (200, b"[]", ProviderFailed),
    ],
)
def test_wrong_answers_are_named(answering, call, status, content, expected):
    provider = answering(status, content)
    with pytest.raises(expected) as caught:
        CALLS[call](provider)
    shown = f"{caught.value!r} {caught.value} {provider!r}"
    assert SECRET not in shown
    assert len(str(caught.value)) < 200
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("call", CALLS)
def test_a_late_answer_is_not_waited_for(answering, call):
    provider = answering(200, b"{}", seconds=0.8)
    begun = time.monotonic()
    with pytest.raises(ProviderUnreachable, match="ReadTimeoutError"):
        CALLS[call](provider)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("call", CALLS)
def test_nothing_listens(kms, tmp_path, call, monkeypatch):
    monkeypatch.setattr(awskms, "_ATTEMPTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as held:
        endpoint = f"http://127.0.0.1:{held.getsockname()[1]}"
    provider = AwsKmsRootKeys(kms.options(endpoint=endpoint), Surroundings(tmp_path, "words"))
    with pytest.raises(ProviderUnreachable, match="EndpointConnectionError"):
        CALLS[call](provider)


@pytest.mark.parametrize("field", ["CiphertextBlob", "Plaintext"])
@pytest.mark.parametrize("value", ["", "AAAA", "A" * 10_000])
def test_a_wrong_secret_is_not_taken(answering, field, value):
    provider = answering(200, json.dumps({"KeyId": REFERENCE, field: value}).encode())
    if field == "CiphertextBlob" and value == "AAAA":
        assert provider.wrap(REFERENCE, ORDINARY, EPOCH_KEY) == bytes(3)  # opaque: any length
        return
    with pytest.raises(ProviderFailed):
        CALLS["wrap" if field == "CiphertextBlob" else "unwrap"](provider)


def test_another_key_that_answers_is_noticed(answering):
    other = REFERENCE.replace("1111", "9999", 1)
    answer = {"KeyId": other, "Plaintext": "A" * 43 + "=", "CiphertextBlob": "AAAA"}
    provider = answering(200, json.dumps(answer).encode())
    for call in ("wrap", "unwrap"):
        with pytest.raises(ProviderFailed, match="used another key"):
            CALLS[call](provider)


@mock_aws
def test_the_calls_have_the_shape_that_aws_describes(tmp_path, monkeypatch):
    """A second reading of AWS's API. It knows no ARN in ScheduleKeyDeletion, unlike AWS."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    options = {"region": REGION, "role": f"arn:aws:iam::{ACCOUNT}:role/vault"}
    provider = AwsKmsRootKeys(options, Surroundings(tmp_path, "words"))
    for context in (ORDINARY, PERMANENT):
        reference = provider.make_key(context)
        assert provider.make_key(context) == reference
        key = os.urandom(32)
        wrapped = provider.wrap(reference, context, key)
        assert provider.unwrap(reference, context, wrapped) == key
        assert provider.report(reference).response == "KeyState Enabled"
