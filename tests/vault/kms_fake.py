"""A server that answers like AWS KMS: its JSON API, its key states and its key policies.

Written from AWS's public documentation of the KMS API, and stricter than emulators: a key that is
disabled or waits for its deletion refuses to encrypt and to decrypt, a deleted one is not found,
changed ciphertexts and other encryption contexts do not open, and a key policy that denies is
obeyed. Requests are not authenticated: the access key only tells which role asks.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ACCOUNT = "111122223333"
REGION = "eu-west-1"
DAY_SECONDS = 86_400
_ROOT = f"arn:aws:iam::{ACCOUNT}:root"
_DEFAULT_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": _ROOT}, "Action": "kms:*", "Resource": "*"}
    ],
}
_ALIAS = re.compile(r"alias/(?!aws/)[A-Za-z0-9/_-]{1,250}")
_MAX_PLAINTEXT_BYTES = 4_096
# The parameters that this server knows of each operation; any other is refused.
_PARAMETERS = {
    "CreateKey": {
        "BypassPolicyLockoutSafetyCheck",
        "Description",
        "KeySpec",
        "KeyUsage",
        "MultiRegion",
        "Origin",
        "Policy",
        "Tags",
    },
    "CreateAlias": {"AliasName", "TargetKeyId"},
    "ListAliases": {"KeyId"},
    "DescribeKey": {"KeyId"},
    "Encrypt": {"KeyId", "Plaintext", "EncryptionContext"},
    "Decrypt": {"KeyId", "CiphertextBlob", "EncryptionContext"},
    "ScheduleKeyDeletion": {"KeyId", "PendingWindowInDays"},
    "CancelKeyDeletion": {"KeyId"},
    "DisableKey": {"KeyId"},
    "EnableKey": {"KeyId"},
    "ListResourceTags": {"KeyId"},
    "GetKeyPolicy": {"KeyId", "PolicyName"},
    "PutKeyPolicy": {"KeyId", "Policy", "PolicyName", "BypassPolicyLockoutSafetyCheck"},
}


class KmsError(Exception):
    """An error with the name that KMS gives it."""

    def __init__(self, name: str, status: int = 400) -> None:
        super().__init__(name)
        self.name = name
        self.status = status


@dataclass
class Role:
    """Who asks: an IAM role whose own policy allows everything that is not in `denied`."""

    access_key: str
    arn: str
    denied: set[str] = field(default_factory=set)


@dataclass
class Key:
    """A customer managed key."""

    key_id: str
    created: float
    description: str
    policy: dict[str, Any]
    tags: list[dict[str, str]]
    material: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    state: str = "Enabled"
    deletion: float | None = None

    @property
    def arn(self) -> str:
        return f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{self.key_id}"

    def metadata(self) -> dict[str, Any]:
        known: dict[str, Any] = {
            "AWSAccountId": ACCOUNT,
            "Arn": self.arn,
            "CreationDate": self.created,
            "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
            "Description": self.description,
            "Enabled": self.state == "Enabled",
            "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
            "KeyId": self.key_id,
            "KeyManager": "CUSTOMER",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "KeyState": self.state,
            "KeyUsage": "ENCRYPT_DECRYPT",
            "MultiRegion": False,
            "Origin": "AWS_KMS",
        }
        if self.deletion is not None:
            known["DeletionDate"] = self.deletion
        return known


class KmsFake:
    """KMS of one account and region.

    Attributes:
        now: Unix seconds; stands still until it is set or `advance` is called.
        vault: the role that the vault runs as.
        administrator: a role that may do what the vault may not.
        requests: (operation, role's ARN, parameters) of each request so far.
        unanswered: operations that are done and whose answer is then lost, and how often.
        throttled: whether everything is refused for a while.
    """

    def __init__(self) -> None:
        self.now = float(int(time.time()))
        self.vault = Role("AKIAVAULT", f"arn:aws:iam::{ACCOUNT}:role/datakluis/vault")
        self.administrator = Role("AKIAADMIN", f"arn:aws:iam::{ACCOUNT}:role/administrator")
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.unanswered: dict[str, int] = {}
        self.throttled = False
        self.keys: dict[str, Key] = {}
        self.aliases: dict[str, str] = {}
        self.url = ""
        self._lock = threading.Lock()

    def options(self, **more: str) -> dict[str, str]:
        """Return the options of a provider that asks this server as the vault's role."""
        return {"region": REGION, "role": self.vault.arn, "endpoint": self.url, **more}

    def advance(self, days: float) -> None:
        """Let time pass."""
        self.now += days * DAY_SECONDS

    @contextmanager
    def as_role(self, role: Role) -> Iterator[None]:
        """Give this process, and those that it starts, the credentials of a role."""
        environment = {
            "AWS_ACCESS_KEY_ID": role.access_key,
            "AWS_SECRET_ACCESS_KEY": "not checked",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        unset = {"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"}
        with patch.dict(os.environ, environment):
            for name in unset & os.environ.keys():
                del os.environ[name]
            yield

    def answer(self, operation: str, access_key: str, body: dict[str, Any]) -> dict[str, Any]:
        """Do one request.

        Raises:
            KmsError: it is refused.
        """
        with self._lock:
            role = self._role(access_key)
            self.requests.append((operation, role.arn, body))
            if self.throttled:
                raise KmsError("ThrottlingException")
            if operation not in _PARAMETERS:
                raise KmsError("UnknownOperationException")
            if not body.keys() <= _PARAMETERS[operation]:
                raise KmsError("ValidationException")
            self._delete_what_is_due()
            method = re.sub("(?<!^)(?=[A-Z])", "_", operation).lower()
            return getattr(self, f"_{method}")(role, body)

    def _role(self, access_key: str) -> Role:
        for role in (self.vault, self.administrator):
            if role.access_key == access_key:
                return role
        raise KmsError("UnrecognizedClientException")

    def _delete_what_is_due(self) -> None:
        for key in list(self.keys.values()):
            if key.deletion is not None and key.deletion <= self.now:
                del self.keys[key.key_id]
                self.aliases = {a: k for a, k in self.aliases.items() if k != key.key_id}

    def _allowed(self, role: Role, action: str, key: Key) -> None:
        """Evaluate the role's and the key's policies: a denial wins, and silence denies."""
        if action in role.denied or not _policy_allows(key.policy, role, action):
            raise KmsError("AccessDeniedException")

    def _find(self, role: Role, action: str, name: str, *, alias: bool = False) -> Key:
        prefix = f"arn:aws:kms:{REGION}:{ACCOUNT}:"
        name = name.removeprefix(prefix)
        if name.startswith("alias/") and alias:
            name = self.aliases.get(name, "")
        key = self.keys.get(name.removeprefix("key/"))
        if key is None:
            raise KmsError(
                "AccessDeniedException" if action in role.denied else "NotFoundException"
            )
        self._allowed(role, action, key)
        return key

    def _usable(self, role: Role, action: str, name: str) -> Key:
        key = self._find(role, action, name, alias=True)
        if key.state == "Disabled":
            raise KmsError("DisabledException")
        if key.state != "Enabled":
            raise KmsError("KMSInvalidStateException")
        return key

    def _create_key(self, role: Role, body: dict[str, Any]) -> dict[str, Any]:
        if "CreateKey" in role.denied:
            raise KmsError("AccessDeniedException")
        wanted = ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "AWS_KMS", False)
        names = ("KeySpec", "KeyUsage", "Origin", "MultiRegion")
        if any(body.get(name, value) != value for name, value in zip(names, wanted, strict=True)):
            raise KmsError("UnsupportedOperationException")
        key = Key(
            key_id=str(uuid.uuid4()),
            created=self.now,
            description=body.get("Description", ""),
            policy=_policy(role, body) if "Policy" in body else _DEFAULT_POLICY,
            tags=body.get("Tags", []),
        )
        self.keys[key.key_id] = key
        return {"KeyMetadata": key.metadata()}

    def _create_alias(self, role: Role, body: dict[str, Any]) -> dict[str, Any]:
        alias = body["AliasName"]
        if not _ALIAS.fullmatch(alias):
            raise KmsError("InvalidAliasNameException")
        key = self._find(role, "CreateAlias", body["TargetKeyId"])
        if alias in self.aliases:
            raise KmsError("AlreadyExistsException")
        if key.state == "PendingDeletion":
            raise KmsError("KMSInvalidStateException")
        self.aliases[alias] = key.key_id
        return {}

    def _list_aliases(self, role: Role, body: dict[str, Any]) -> dict[str, Any]:
        wanted = self._find(role, "ListAliases", body["KeyId"]).key_id if "KeyId" in body else None
        found = [
            {"AliasName": alias, "TargetKeyId": key_id}
            for alias, key_id in sorted(self.aliases.items())
            if wanted in (None, key_id)
        ]
        return {"Aliases": found, "Truncated": False}

    def _describe_key(self, role: Role, body: dict[str, Any]) -> dict[str, Any]:
        key = self._find(role, "DescribeKey", body["KeyId"], alias=True)
        return {"KeyMetadata": key.metadata()}

    def _encrypt(self, role: Role, body: dict[str, Any]) -> dict[str, Any]:
        key = self._usable(role, "Encrypt", body["KeyId"])
        plaintext = base64.b64decode(body["Plaintext"], validate=True)
        if not 0 < len(plaintext) <= _MAX_PLAINTEXT_BYTES:
            raise KmsError("ValidationException")
        nonce = os.urandom(12)
        sealed = AESGCM(key.material).encrypt(nonce, plaintext, _associated(body))
        blob = uuid.UUID(key.key_id).bytes + nonce + sealed
        return {
            "CiphertextBlob": base64.b64encode(blob).decode(),
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
            "KeyId": key.arn,
        }

    def _decrypt(self, role: Role, body: dict[str, Any]) -> dict[str, Any]:
        key = self._usable(role, "Decrypt", body["KeyId"])
        blob = base64.b64decode(body["CiphertextBlob"], validate=True)
        if not 0 < len(blob) <= 6_144:
            raise KmsError("ValidationException")
        if blob[:16] != uuid.UUID(key.key_id).bytes:
            known = len(blob) >= 16 and str(uuid.UUID(bytes=blob[:16])) in self.keys
            raise KmsError("IncorrectKeyException" if known else "InvalidCiphertextException")
        try:
            plaintext = AESGCM(key.material).decrypt(blob[16:28], blob[28:], _associated(body))
        except (InvalidTag, ValueError):
            raise KmsError("InvalidCiphertextException") from None
        return {
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
            "KeyId": key.arn,
            "Plaintext": base64.b64encode(plaintext).decode(),
        }

    def _schedule_key_deletion(self, role: Role, body: dict[str, Any]) -> dict[str, Any]:
        key = self._find(role, "ScheduleKeyDeletion", body["KeyId"])
        days = body.get("PendingWindowInDays", 30)
        if type(days) is not int or days not in range(7, 31):
            raise KmsError("ValidationException")
        if key.state == "PendingDeletion":
            raise KmsError("KMSInvalidStateException")
        key.state, key.deletion = "PendingDeletion", self.now + days * DAY_SECONDS
        return {
            "DeletionDate": key.deletion,
            "KeyId": key.arn,
            "KeyState": key.state,
            "PendingWindowInDays": days,
        }

    def _cancel_key_deletion(self, role: Role, body: dict[str, Any]) -> dict[str, Any]:
        key = self._find(role, "CancelKeyDeletion", body["KeyId"])
        if key.state != "PendingDeletion":
            raise KmsError("KMSInvalidStateException")
        key.state, key.deletion = "Disabled", None
        return {"KeyId": key.arn}

    def _disable_key(self, role: Role, body: dict[str, Any]) -> dict[str, Any]:
        return self._switch(self._find(role, "DisableKey", body["KeyId"]), "Disabled")

    def _enable_key(self, role: Role, body: dict[str, Any]) -> dict[str, Any]:
        return self._switch(self._find(role, "EnableKey", body["KeyId"]), "Enabled")

    def _switch(self, key: Key, state: str) -> dict[str, Any]:
        if key.state == "PendingDeletion":
            raise KmsError("KMSInvalidStateException")
        key.state = state
        return {}

    def _list_resource_tags(self, role: Role, body: dict[str, Any]) -> dict[str, Any]:
        key = self._find(role, "ListResourceTags", body["KeyId"])
        return {"Tags": key.tags, "Truncated": False}

    def _get_key_policy(self, role: Role, body: dict[str, Any]) -> dict[str, Any]:
        key = self._find(role, "GetKeyPolicy", body["KeyId"])
        return {"Policy": json.dumps(key.policy), "PolicyName": "default"}

    def _put_key_policy(self, role: Role, body: dict[str, Any]) -> dict[str, Any]:
        key = self._find(role, "PutKeyPolicy", body["KeyId"])
        key.policy = _policy(role, body)
        return {}


def _associated(body: dict[str, Any]) -> bytes:
    return json.dumps(body.get("EncryptionContext", {}), sort_keys=True).encode()


def _policy(role: Role, body: dict[str, Any]) -> dict[str, Any]:
    """Return a key policy, or refuse one that this server does not understand as a whole."""
    try:
        policy: dict[str, Any] = json.loads(body["Policy"])
        for statement in policy["Statement"]:
            if not statement.keys() <= {"Sid", "Effect", "Principal", "Action", "Resource"}:
                raise KmsError("MalformedPolicyDocumentException")
            if statement["Effect"] not in ("Allow", "Deny") or statement["Resource"] != "*":
                raise KmsError("MalformedPolicyDocumentException")
            for principal in _listed(statement["Principal"]["AWS"]):
                if not re.fullmatch(rf"arn:aws:iam::{ACCOUNT}:(root|(role|user)/.+)", principal):
                    raise KmsError("MalformedPolicyDocumentException")
            if not all(action.startswith("kms:") for action in _listed(statement["Action"])):
                raise KmsError("MalformedPolicyDocumentException")
    except (KeyError, TypeError, ValueError):
        raise KmsError("MalformedPolicyDocumentException") from None
    bypass = body.get("BypassPolicyLockoutSafetyCheck", False)
    if not bypass and not _policy_allows(policy, role, "PutKeyPolicy"):
        raise KmsError("MalformedPolicyDocumentException")
    return policy


def _policy_allows(policy: dict[str, Any], role: Role, action: str) -> bool:
    effects = {
        statement["Effect"]
        for statement in policy["Statement"]
        if {role.arn, _ROOT} & set(_listed(statement["Principal"]["AWS"]))
        and any(fnmatch.fnmatchcase(f"kms:{action}", one) for one in _listed(statement["Action"]))
    }
    return effects == {"Allow"}


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


class _Handler(BaseHTTPRequestHandler):
    fake: KmsFake

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        operation = self.headers["X-Amz-Target"].removeprefix("TrentService.")
        credential = re.search("Credential=([A-Z0-9]+)/", self.headers.get("Authorization", ""))
        status = 200
        try:
            body = json.loads(raw)
            answer = self.fake.answer(operation, credential[1] if credential else "", body)
        except KmsError as error:
            status, answer = error.status, {"__type": error.name, "message": "refused"}
        except (KeyError, TypeError, ValueError):
            status, answer = 400, {"__type": "ValidationException", "message": "refused"}
        if self.fake.unanswered.get(operation, 0) > 0:
            self.fake.unanswered[operation] -= 1
            return
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running_kms() -> Iterator[KmsFake]:
    """Run the server, with the vault's role in the environment."""
    fake = KmsFake()
    handler = type("Handler", (_Handler,), {"fake": fake})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            with fake.as_role(fake.vault):
                yield fake
        finally:
            server.shutdown()
            thread.join()
