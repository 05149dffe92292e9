"""Root keys in AWS KMS: one customer managed key for each generation.

    wrapped epoch key  = the CiphertextBlob of kms:Encrypt, 1 to 6144 bytes, opaque
    encryption context = {"datakluis-context": the context in hex (vault/rootkeys/provider.py)}
    reference          = the key's ARN
    alias              = option `alias_prefix` "-" tenant in hex "-" tree "-" generation

The alias tells which key belongs to a generation, so a call that was interrupted and is made again
finds it. A crash between CreateKey and CreateAlias leaves a key that never wrapped anything; it
bears the tag datakluis-context, by which an administrator finds it. CloudTrail shows the encryption
context, which holds no personal data.

Destroying schedules the deletion (ScheduleKeyDeletion). From that moment KMS refuses to unwrap, but
an administrator can still cancel it until `gone_at`; only NotFoundException, after that moment, is
reported as gone. A root key of the permanent tree is created with policies/kms-permanent.json as
its key policy, which denies its destruction to the vault's role.
Tested against a server with KMS's state machine in tests/vault/test_rootkey_awskms.py and
tests/vault/test_rootkeys.py.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection
from pathlib import Path
from string import Template
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from policy.assurance import Assurance, AssuranceClass, Presence, ProviderKind
from vault.errors import (
    Damaged,
    KeyGone,
    ProviderDenied,
    ProviderFailed,
    ProviderUnreachable,
    VaultError,
)
from vault.rootkeys.options import address, name_like, number
from vault.rootkeys.provider import (
    EPOCH_KEY_BYTES,
    KeyContext,
    KeyReport,
    Options,
    Surroundings,
    TreeNumber,
)

_PERMANENT_POLICY = Path(__file__).parent / "policies" / "kms-permanent.json"
_CONTEXT = "datakluis-context"
_CONNECT_SECONDS = 5
_READ_SECONDS = 10
_ATTEMPTS = 3
_MAX_WRAPPED_BYTES = 6_144
_ROLE = "arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[A-Za-z0-9_+=,.@/-]+"
_NOT_FOUND = "NotFoundException"
_EXISTS = "AlreadyExistsException"
_WRONG_STATE = frozenset({"DisabledException", "KMSInvalidStateException"})
_WRONG_BYTES = frozenset({"IncorrectKeyException", "InvalidCiphertextException"})
_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "NotAuthorized",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_LATER = frozenset(
    {
        "DependencyTimeoutException",
        "InternalFailure",
        "KMSInternalException",
        "KeyUnavailableException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
    }
)
_SERVER_ERRORS = range(500, 600)
# States in which a key is on its way out; in all others it is there.
_PENDING = frozenset({"PendingDeletion", "PendingReplicaDeletion"})


class AwsKmsRootKeys:
    """Root keys as customer managed keys.

    Credentials come from where boto3 looks for them: the instance's role, a profile, or variables.

    Options:
        region: of the keys.
        role: ARN of the IAM role or user that the vault runs as; keys of the permanent tree deny
            their destruction to it.
        endpoint: address of another KMS endpoint, such as one inside a private network.
        window_days: how long a deletion can still be cancelled, 7 to 30; 7 by default.
        alias_prefix: how aliases begin; "datakluis" by default.

    Args:
        options: as above.
        surroundings: not used.
    """

    kind = ProviderKind.AWSKMS
    assurance = Assurance(
        AssuranceClass.MANAGED,
        en="AWS says that the key is deleted and that nobody can restore it; that AWS's own"
        " durability copies of it are gone as well is AWS's word, and cannot be tested from"
        " outside.",
        nl="AWS zegt dat de sleutel is verwijderd en dat niemand hem kan herstellen; dat ook de"
        " eigen reservekopieën van AWS weg zijn, is het woord van AWS en van buiten niet te"
        " toetsen.",
    )

    def __init__(self, options: Options, surroundings: Surroundings) -> None:
        self._region = name_like(options, "region", "[a-z]{2}(-[a-z]+)+-[0-9]{1,2}", "")
        self._role = name_like(options, "role", _ROLE, "")
        self._days = number(options, "window_days", range(7, 31), default=7)
        self._prefix = name_like(
            options, "alias_prefix", "(?!aws/)[A-Za-z0-9_-][A-Za-z0-9/_-]{0,99}", "datakluis"
        )
        self._reference = re.compile(
            f"arn:aws[a-z-]*:kms:{self._region}:[0-9]{{12}}:key/[A-Za-z0-9-]+"
        )
        self._endpoint = address(options, "endpoint") if "endpoint" in options else None
        self._opened: Any = None

    def __repr__(self) -> str:
        return f"AwsKmsRootKeys(region={self._region!r}, alias_prefix={self._prefix!r})"

    def make_key(self, context: KeyContext) -> str:
        """Create the key and its alias; see `RootKeyProvider.make_key`.

        Raises:
            KeyGone: this generation's key was scheduled for deletion.
        """
        name = f"{self._prefix}-{context.tenant.hex()}-{context.tree:d}-{context.generation}"
        alias = f"alias/{name}"
        known = self._describe(alias) or self._create(alias, context)
        if known["KeyState"] in _PENDING:
            raise KeyGone(f"{alias} is a key whose deletion is scheduled")
        return str(known["Arn"])

    def wrap(self, reference: str, context: KeyContext, epoch_key: bytes) -> bytes:
        """See `RootKeyProvider.wrap`."""
        answer = self._use("encrypt", reference, context, Plaintext=epoch_key)
        wrapped = answer.get("CiphertextBlob")
        if not (isinstance(wrapped, bytes) and 0 < len(wrapped) <= _MAX_WRAPPED_BYTES):
            raise ProviderFailed(f"KMS did not wrap with {reference}")
        return wrapped

    def unwrap(self, reference: str, context: KeyContext, wrapped: bytes) -> bytes:
        """See `RootKeyProvider.unwrap`."""
        if not 0 < len(wrapped) <= _MAX_WRAPPED_BYTES:
            raise _does_not_open(context)
        answer = self._use("decrypt", reference, context, CiphertextBlob=wrapped)
        epoch_key = answer.get("Plaintext")
        if not (isinstance(epoch_key, bytes) and len(epoch_key) == EPOCH_KEY_BYTES):
            raise ProviderFailed(f"KMS did not unwrap to {EPOCH_KEY_BYTES} bytes")
        return epoch_key

    def destroy(self, reference: str) -> KeyReport:
        """Schedule the deletion; see `RootKeyProvider.destroy`."""
        before = self.report(reference)
        if before.presence is not Presence.PRESENT:
            return before
        # Another process may have been faster: then the report says so.
        faster = {_NOT_FOUND, *_WRONG_STATE}
        self._ask("schedule_key_deletion", faster, KeyId=reference, PendingWindowInDays=self._days)
        return self.report(reference)

    def report(self, reference: str) -> KeyReport:
        """Describe the key; see `RootKeyProvider.report`."""
        known = self._describe(self._arn(reference))
        if known is None:
            return KeyReport(Presence.GONE, _NOT_FOUND)
        if known["Arn"] != reference:
            raise ProviderFailed(f"KMS describes another key than {reference}")
        state = str(known["KeyState"])
        if state not in _PENDING:
            return KeyReport(Presence.PRESENT, f"KeyState {state}")
        due = known.get("DeletionDate")
        if not isinstance(due, dt.datetime):
            return KeyReport(Presence.SCHEDULED, f"KeyState {state}")
        words = f"KeyState {state}, DeletionDate {due.astimezone(dt.UTC).isoformat()}"
        return KeyReport(Presence.SCHEDULED, words, int(due.timestamp()))

    def _use(
        self, operation: str, reference: str, context: KeyContext, **values: bytes
    ) -> dict[str, Any]:
        answer = self._ask(
            operation,
            {_NOT_FOUND, *_WRONG_STATE, *_WRONG_BYTES},
            KeyId=self._arn(reference),
            EncryptionContext={_CONTEXT: context.encode().hex()},
            **values,
        )
        if isinstance(answer, str):
            if answer in _WRONG_BYTES:
                raise _does_not_open(context)
            raise KeyGone(f"KMS answers {answer} for {reference}")
        if answer.get("KeyId") != reference:
            raise ProviderFailed(f"KMS used another key than {reference}")
        return answer

    def _create(self, alias: str, context: KeyContext) -> dict[str, Any]:
        wanted: dict[str, Any] = {
            "Description": f"Root key {alias}",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "KeyUsage": "ENCRYPT_DECRYPT",
            "Origin": "AWS_KMS",
            "MultiRegion": False,
            "Tags": [{"TagKey": _CONTEXT, "TagValue": context.encode().hex()}],
        }
        if context.tree is TreeNumber.PERMANENT:
            # The lockout check refuses a policy that its own writer cannot change again.
            wanted |= {
                "Policy": self._permanent_policy(),
                "BypassPolicyLockoutSafetyCheck": True,
            }
        made = self._checked(self._ask("create_key", (), **wanted), alias)
        named = self._ask("create_alias", {_EXISTS}, AliasName=alias, TargetKeyId=made["Arn"])
        # When another process was faster, its key is the one.
        known = self._describe(alias) if named == _EXISTS else made
        if known is None:
            raise ProviderFailed(f"KMS has {alias} and does not find it")
        return known

    def _permanent_policy(self) -> str:
        root = ":".join([*self._role.split(":")[:5], "root"])
        template = Template(_PERMANENT_POLICY.read_text(encoding="utf-8"))
        return template.substitute(role=self._role, root=root)

    def _describe(self, key: str) -> dict[str, Any] | None:
        answer = self._ask("describe_key", {_NOT_FOUND}, KeyId=key)
        return None if answer == _NOT_FOUND else self._checked(answer, key)

    def _checked(self, answer: dict[str, Any] | str, key: str) -> dict[str, Any]:
        """Return the description of a key that only KMS can hold.

        Key material that was imported, or that another region replicates, has copies elsewhere.
        """
        known = answer.get("KeyMetadata") if isinstance(answer, dict) else None
        wanted = {
            "KeySpec": "SYMMETRIC_DEFAULT",
            "KeyUsage": "ENCRYPT_DECRYPT",
            "Origin": "AWS_KMS",
            "KeyManager": "CUSTOMER",
        }
        if (
            not isinstance(known, dict)
            or any(known.get(name) != value for name, value in wanted.items())
            or known.get("MultiRegion")
            or not str(known.get("KeyState", "")).isalnum()
            or not self._reference.fullmatch(str(known.get("Arn")))
        ):
            raise ProviderFailed(f"KMS describes {key} as a key of another kind")
        return known

    def _arn(self, reference: str) -> str:
        """Return a reference; in another region every key would seem to be gone."""
        if not self._reference.fullmatch(reference):
            raise Damaged(f"{reference!r} is not the ARN of a KMS key in {self._region}")
        return reference

    def _ask(
        self, operation: str, expected: Collection[str], **values: Any
    ) -> dict[str, Any] | str:
        """Return the answer to a request, or the name of a refusal that the caller expects."""
        try:
            answer: dict[str, Any] = getattr(self._client(), operation)(**values)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in expected:
                return code
            raise _refusal(code, error) from None
        except BotoCoreError as error:
            raise _failure(error) from None
        except (AttributeError, KeyError, TypeError, ValueError):
            # What its parser makes of an answer that is no answer of KMS.
            raise ProviderFailed("KMS answers junk") from None
        return answer

    def _client(self) -> Any:
        if self._opened is None:
            config = Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            )
            try:
                self._opened = boto3.session.Session().client(
                    "kms", region_name=self._region, endpoint_url=self._endpoint, config=config
                )
            except BotoCoreError as error:
                raise _failure(error) from None
        return self._opened


def _does_not_open(context: KeyContext) -> Damaged:
    return Damaged(f"the wrapped epoch key of generation {context.generation} does not open")


def _failure(error: BotoCoreError) -> VaultError:
    """Return the error to raise when there is no answer. Texts are left out: they may repeat it."""
    text = f"KMS cannot be asked: {type(error).__name__}"
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        return ProviderDenied(text)
    if isinstance(error, ConnectionError | HTTPClientError):
        return ProviderUnreachable(text)
    return ProviderFailed(text)


def _refusal(code: str, error: ClientError) -> VaultError:
    """Return the error to raise for a refusal. The service's text may repeat what it was sent."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in _DENIED:
        return ProviderDenied(f"KMS answers {code}")
    if code in _LATER:
        return ProviderUnreachable(f"KMS answers {code}")
    if status in _SERVER_ERRORS:
        return ProviderUnreachable(f"KMS answers HTTP {status}")
    # A name of an error, not whatever a server put in its place.
    return ProviderFailed(f"KMS answers {code}" if code.isidentifier() else "KMS answers junk")
