"""Root keys inside a PKCS#11 token: a hardware security module, a smart card or SoftHSM.

    wrapped epoch key = nonce, 12 random bytes || AES-256-GCM(root key, nonce, epoch key) || tag, 16
    associated data   = the context (vault/rootkeys/provider.py)
    reference         = the object's label, "datakluis-" tenant in hex "-" tree "-" generation

A root key is an AES-256 token object (OASIS PKCS #11 v2.40) that the token itself generates, and
that it neither shows nor exports nor copies (CKA_SENSITIVE, not CKA_EXTRACTABLE, not CKA_COPYABLE).
A root key of the permanent tree is also neither destroyable nor modifiable, so the token refuses
C_DestroyObject to whoever logs in: only initialising the whole token again removes it.

One login serves a whole process at a token, and its end logs every session out. So each call opens
a session, logs in, asks and logs out, one call at a time in a process, and never sees what an
earlier session remembered. A search without a login would not find private objects and so report
a key as gone: no search is made unless the login succeeded.
Tested in tests/vault/test_rootkey_pkcs11.py and tests/vault/test_rootkeys.py.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from policy.assurance import Assurance, AssuranceClass, Presence, ProviderKind
from vault.errors import (
    ConfigurationError,
    Damaged,
    KeyGone,
    ProviderDenied,
    ProviderFailed,
    ProviderUnreachable,
)
from vault.rootkeys.options import file_path, read_secret
from vault.rootkeys.provider import (
    EPOCH_KEY_BYTES,
    KeyContext,
    KeyReport,
    Options,
    Surroundings,
    TreeNumber,
)

if TYPE_CHECKING:
    from pkcs11 import Session

_NONCE_BYTES = 12
_TAG_BYTES = 16
_WRAPPED_BYTES = _NONCE_BYTES + EPOCH_KEY_BYTES + _TAG_BYTES
_KEY_BITS = 256
_LABEL = re.compile("datakluis-[0-9a-f]{32}-[01]-[1-9][0-9]*")
# Names of exception classes: the library may not be installed.
_DENIED = frozenset(
    {
        "FunctionRejected",
        "PinExpired",
        "PinIncorrect",
        "PinInvalid",
        "PinLenRange",
        "PinLocked",
        "SessionReadOnly",
        "TokenWriteProtected",
        "UserPinNotInitialized",
    }
)
_UNREACHABLE = frozenset(
    {
        "AnotherUserAlreadyLoggedIn",
        "DeviceError",
        "DeviceRemoved",
        "NoSuchToken",
        "SessionClosed",
        "SessionCount",
        "SessionHandleInvalid",
        "TokenNotPresent",
        "UserAlreadyLoggedIn",
        "UserTooManyTypes",
    }
)
_login = threading.Lock()


class Pkcs11RootKeys:
    """Root keys as objects of one PKCS#11 token.

    Options:
        module: path of the token maker's PKCS#11 library.
        token: the token's label.
        pin_file: file that holds the user PIN; read at each use.

    Args:
        options: as above.
        surroundings: the vault's folder.
    """

    kind = ProviderKind.PKCS11
    assurance = Assurance(
        AssuranceClass.TOKEN,
        en="The token says that the key is no longer in it; whoever cloned the token or copied"
        " its storage before that, and knows its PIN, still opens everything of that"
        " generation.",
        nl="Het token zegt dat de sleutel er niet meer in zit; wie het token daarvoor heeft"
        " gekloond of zijn opslag heeft gekopieerd en de pincode kent, opent nog alles van die"
        " generatie.",
    )

    def __init__(self, options: Options, surroundings: Surroundings) -> None:
        self._module = options["module"]
        self._token = options["token"]
        self._pin_file = file_path(surroundings.folder, options, "pin_file")
        _binding()

    def __repr__(self) -> str:
        return f"Pkcs11RootKeys(token={self._token!r})"

    def make_key(self, context: KeyContext) -> str:
        """See `RootKeyProvider.make_key`."""
        label = f"datakluis-{context.tenant.hex()}-{context.tree:d}-{context.generation}"
        with self._session() as session:
            found = _find(session, label) or [_generate(session, label, context.tree)]
            self._check(self._only(found, label), label, context.tree)
        return label

    def wrap(self, reference: str, context: KeyContext, epoch_key: bytes) -> bytes:
        """See `RootKeyProvider.wrap`."""
        with self._session() as session:
            key = self._only(_find(session, reference), reference)
            wrapped = _seal(key, context, epoch_key)
        if len(wrapped) != _WRAPPED_BYTES:
            raise ProviderFailed(f"token {self._token} wrapped to {len(wrapped)} bytes")
        return wrapped

    def unwrap(self, reference: str, context: KeyContext, wrapped: bytes) -> bytes:
        """See `RootKeyProvider.unwrap`."""
        with self._session() as session:
            key = self._only(_find(session, reference), reference)
            epoch_key = _open(key, context, wrapped)
        if epoch_key is None:
            raise Damaged(f"the wrapped epoch key of generation {context.generation} does not open")
        if len(epoch_key) != EPOCH_KEY_BYTES:
            raise ProviderFailed(f"token {self._token} unwrapped to {len(epoch_key)} bytes")
        return epoch_key

    def destroy(self, reference: str) -> KeyReport:
        """Destroy every object of this label; see `RootKeyProvider.destroy`."""
        with self._session() as session:
            for key in _find(session, reference):
                self._destroy(key, reference)
        return self.report(reference)

    def report(self, reference: str) -> KeyReport:
        """Search in a fresh session; see `RootKeyProvider.report`."""
        with self._session() as session:
            found = len(_find(session, reference))
        if found:
            return KeyReport(Presence.PRESENT, f"token {self._token}: {found} of {reference}")
        return KeyReport(Presence.GONE, f"token {self._token}: no object {reference}")

    @contextmanager
    def _session(self) -> Iterator[Session]:
        pkcs11 = _binding()
        pin = read_secret(self._pin_file, "pin_file")
        with _login:
            try:
                token = self._library().get_token(token_label=self._token)
                with token.open(rw=True, user_pin=pin) as session:
                    yield session
            except pkcs11.PKCS11Error as error:
                raise self._named(type(error).__name__) from None

    def _library(self) -> Any:
        pkcs11 = _binding()
        try:
            return pkcs11.lib(self._module)
        except pkcs11.PKCS11Error:
            raise ConfigurationError(
                f"option module: the PKCS#11 library {self._module} cannot be loaded"
            ) from None

    def _named(self, name: str) -> ProviderDenied | ProviderUnreachable | ProviderFailed:
        text = f"token {self._token} answers {name}"
        if name in _DENIED:
            return ProviderDenied(text)
        return ProviderUnreachable(text) if name in _UNREACHABLE else ProviderFailed(text)

    def _only(self, found: list[Any], label: str) -> Any:
        if not found:
            raise KeyGone(f"token {self._token} holds no key {label}")
        if len(found) > 1:
            raise ProviderFailed(f"token {self._token} holds {len(found)} keys {label}")
        return found[0]

    def _check(self, key: Any, label: str, tree: TreeNumber) -> None:
        """Refuse a key that someone else put there, or that the token made otherwise."""
        attribute = _binding().Attribute
        wanted = {
            attribute.KEY_TYPE: _binding().KeyType.AES,
            attribute.VALUE_LEN: _KEY_BITS // 8,
            attribute.LOCAL: True,
            attribute.ALWAYS_SENSITIVE: True,
            attribute.NEVER_EXTRACTABLE: True,
            attribute.COPYABLE: False,
            attribute.DESTROYABLE: tree is TreeNumber.ORDINARY,
        }
        wrong = sorted(one.name for one, value in wanted.items() if key[one] != value)
        if wrong:
            raise ProviderFailed(f"key {label} of token {self._token} has other {wrong}")

    def _destroy(self, key: Any, label: str) -> None:
        pkcs11 = _binding()
        try:
            key.destroy()
        except pkcs11.PKCS11Error:
            if key[pkcs11.Attribute.DESTROYABLE]:
                raise
            raise ProviderDenied(
                f"token {self._token} does not destroy {label}: it is not destroyable"
            ) from None


def _binding() -> ModuleType:
    try:
        import pkcs11
    except ImportError:
        raise ConfigurationError(
            "provider pkcs11 needs a library: pip install 'datakluis[pkcs11]'"
        ) from None
    return pkcs11


def _find(session: Session, label: str) -> list[Any]:
    if not _LABEL.fullmatch(label):
        raise Damaged(f"{label!r} is not a label of a root key")
    pkcs11 = _binding()
    return list(
        session.get_objects(
            {
                pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                pkcs11.Attribute.LABEL: label,
            }
        )
    )


def _generate(session: Session, label: str, tree: TreeNumber) -> Any:
    pkcs11 = _binding()
    template = {
        pkcs11.Attribute.PRIVATE: True,
        pkcs11.Attribute.SENSITIVE: True,
        pkcs11.Attribute.EXTRACTABLE: False,
        pkcs11.Attribute.COPYABLE: False,
    }
    if tree is TreeNumber.PERMANENT:
        template |= {pkcs11.Attribute.DESTROYABLE: False, pkcs11.Attribute.MODIFIABLE: False}
    return session.generate_key(
        pkcs11.KeyType.AES,
        _KEY_BITS,
        label=label,
        store=True,
        capabilities=pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT,
        template=template,
    )


def _gcm(nonce: bytes, context: KeyContext) -> dict[str, Any]:
    pkcs11 = _binding()
    parameters = pkcs11.GCMParams(nonce, context.encode(), 8 * _TAG_BYTES)
    return {"mechanism": pkcs11.Mechanism.AES_GCM, "mechanism_param": parameters}


def _seal(key: Any, context: KeyContext, epoch_key: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + bytes(key.encrypt(epoch_key, **_gcm(nonce, context)))


def _open(key: Any, context: KeyContext, wrapped: bytes) -> bytes | None:
    """Return the epoch key, or None when these bytes do not open.

    Tokens answer a wrong tag with different errors, some with a general one. What it means is
    known from whether the key still opens something else.
    """
    if len(wrapped) != _WRAPPED_BYTES:
        return None
    try:
        return bytes(key.decrypt(wrapped[_NONCE_BYTES:], **_gcm(wrapped[:_NONCE_BYTES], context)))
    except _binding().PKCS11Error:
        probe = _seal(key, context, bytes(EPOCH_KEY_BYTES))
        key.decrypt(probe[_NONCE_BYTES:], **_gcm(probe[:_NONCE_BYTES], context))
        return None
