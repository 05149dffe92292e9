"""Root keys in the transit engine of OpenBao or HashiCorp Vault: one key *version* a generation.

    name of the key   = option `key` "-" ("ordinary" or "permanent") "-" tenant in hex "-from" first
    version           = generation - first + 1
    reference         = name ":" version
    wrapped epoch key = "vault:v" version ":" base64(nonce, 12 || AES-256-GCM || tag, 16), in ASCII
    associated data   = the context (vault/rootkeys/provider.py)

where `first` is the option `first_generation`, the first generation that the vault made at this
provider. So it is known which version belongs to which generation: a call that was interrupted and
is made again finds its version there, and rotates nothing.

Destroying a version raises min_encryption_version and min_decryption_version above it and trims, so
it destroys all older versions too: a caller destroys the oldest first. The latest version cannot be
trimmed. Destroying it, which a vault does after it has moved to another provider, deletes the key,
and no later generation can be made under that name. A key is only reported gone when the engine
says that it has none by this name (404 with an empty list of errors); any other 404 is a failure.

Redirects are not followed, because they would carry the token elsewhere; proxies and .netrc of the
environment are not used. The timeout holds for connecting and for each wait for bytes.
The policy of the vault's role is policies/transit-vault.hcl. Tested against a real OpenBao and
against hostile servers in tests/vault/test_rootkey_transit.py and tests/vault/test_rootkeys.py.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple

from policy.assurance import Assurance, AssuranceClass, Presence, ProviderKind
from vault.errors import (
    ConfigurationError,
    Damaged,
    InvalidInput,
    KeyGone,
    ProviderDenied,
    ProviderFailed,
    ProviderUnreachable,
)
from vault.rootkeys.options import address, file_path, name_like, number, read_secret
from vault.rootkeys.provider import (
    EPOCH_KEY_BYTES,
    FIRST_GENERATION,
    KeyContext,
    KeyReport,
    Options,
    Surroundings,
    TreeNumber,
)

_KEY_TYPE = "aes256-gcm96"
# 12 + 32 + 16 bytes are 80 characters of base64, without padding.
_WRAPPED = re.compile(rb"vault:v([1-9][0-9]*):[A-Za-z0-9+/]{80}")
_TREE_WORDS = {TreeNumber.ORDINARY: "ordinary", TreeNumber.PERMANENT: "permanent"}
_CHUNK_BYTES = 65_536
_MAX_ANSWER_BYTES = 1_048_576
_MAX_GENERATION = 2**56 - 1
_DONE = (HTTPStatus.OK, HTTPStatus.NO_CONTENT)
_DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
# Answers that a request deserves; the caller knows what they mean.
_OWN = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)
# A standby, or a server that is behind another, asks to be asked again.
_LATER = (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.TOO_MANY_REQUESTS, 472, 473)

_Call = Callable[[Any], Any]


class _Answer(NamedTuple):
    status: int
    document: dict[str, Any]


class _State(NamedTuple):
    """A key as the engine describes it; a min_available_version of 0 is one never trimmed."""

    latest_version: int
    min_available_version: int
    min_decryption_version: int
    min_encryption_version: int
    soft_deleted: bool

    def keeps(self, version: int) -> bool:
        return version >= self.min_available_version

    def opens(self, version: int) -> bool:
        return version >= self.min_decryption_version and not self.soft_deleted

    def words(self) -> str:
        text = (
            f"min_decryption_version {self.min_decryption_version},"
            f" min_available_version {self.min_available_version}, latest {self.latest_version}"
        )
        return text + ", soft-deleted" if self.soft_deleted else text


class TransitRootKeys:
    """Root keys as versions of transit keys.

    Options:
        url: https address of the server, or http on this machine.
        token_file: file that holds the token; read at each use.
        first_generation: the first generation that was made at this provider.
        mount: path of the transit engine; "transit" by default.
        key: how names of keys begin; "datakluis" by default.
        ca_file: certificates that sign the server's; the usual authorities by default.
        timeout_seconds: 1 to 300, 10 by default.

    Args:
        options: as above.
        surroundings: the vault's folder.
    """

    kind = ProviderKind.TRANSIT
    assurance = Assurance(
        AssuranceClass.SERVICE,
        en="The key service says that the key version is gone; whoever kept an older snapshot of"
        " its storage, and its unseal keys, can restore it and open everything of that"
        " generation.",
        nl="De sleuteldienst zegt dat de sleutelversie weg is; wie een oudere momentopname van"
        " zijn opslag en de unseal-sleutels heeft, kan haar herstellen en opent alles van die"
        " generatie.",
    )

    def __init__(self, options: Options, surroundings: Surroundings) -> None:
        folder = surroundings.folder
        self._url = address(options, "url")
        self._token_file = file_path(folder, options, "token_file")
        self._first = number(options, FIRST_GENERATION, range(1, _MAX_GENERATION + 1))
        self._mount = name_like(options, "mount", "[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", "transit")
        self._key = name_like(options, "key", "[a-z0-9][a-z0-9-]{0,39}", "datakluis")
        self._verify: str | bool = True
        if "ca_file" in options:
            self._verify = str(file_path(folder, options, "ca_file"))
        self._timeout = number(options, "timeout_seconds", range(1, 301), default=10)
        words = "|".join(_TREE_WORDS.values())
        self._reference = re.compile(
            f"({re.escape(self._key)}-(?:{words})-[0-9a-f]{{32}}-from[1-9][0-9]*):([1-9][0-9]*)"
        )
        _engine_of()

    def __repr__(self) -> str:
        return f"TransitRootKeys(url={self._url!r}, mount={self._mount!r}, key={self._key!r})"

    def make_key(self, context: KeyContext) -> str:
        """Create or rotate until the version is there; see `RootKeyProvider.make_key`.

        Raises:
            InvalidInput: the generation is before the first that was made here.
            KeyGone: this version, or the whole key, was destroyed.
        """
        version = context.generation - self._first + 1
        if version < 1:
            raise InvalidInput(
                f"generation {context.generation} is before first_generation {self._first}"
            )
        word = _TREE_WORDS[context.tree]
        name = f"{self._key}-{word}-{context.tenant.hex()}-from{self._first}"
        state = self._read(name) or self._create(name, version)
        for _ in range(version - state.latest_version):
            self._change(lambda engine: engine.rotate_key(name, mount_point=self._mount))
        reference = f"{name}:{version}"
        if self.report(reference).presence is Presence.GONE:
            raise KeyGone(f"transit key {reference} was destroyed")
        return reference

    def wrap(self, reference: str, context: KeyContext, epoch_key: bytes) -> bytes:
        """See `RootKeyProvider.wrap`."""
        name, version = self._parse(reference)
        # Asked first: to encrypt with a key that is not there is answered with a denial.
        self._refuse_unusable(name, version)
        answer = self._ask(
            lambda engine: engine.encrypt_data(
                name,
                plaintext=base64.b64encode(epoch_key).decode(),
                associated_data=base64.b64encode(context.encode()).decode(),
                key_version=version,
                mount_point=self._mount,
            )
        )
        text = _data(answer).get("ciphertext") if answer.status == HTTPStatus.OK else None
        if not (isinstance(text, str) and text.isascii() and _version(text.encode()) == version):
            raise ProviderFailed(f"{self._url} did not wrap with {reference}")
        return text.encode()

    def unwrap(self, reference: str, context: KeyContext, wrapped: bytes) -> bytes:
        """See `RootKeyProvider.unwrap`."""
        name, version = self._parse(reference)
        refused = Damaged(f"the wrapped epoch key of generation {context.generation} does not open")
        if _version(wrapped) != version:
            raise refused
        answer = self._ask(
            lambda engine: engine.decrypt_data(
                name,
                ciphertext=wrapped.decode(),
                associated_data=base64.b64encode(context.encode()).decode(),
                mount_point=self._mount,
            )
        )
        if answer.status != HTTPStatus.OK:
            self._refuse_unusable(name, version)
            raise refused
        try:
            epoch_key = base64.b64decode(_data(answer)["plaintext"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error):
            epoch_key = b""
        if len(epoch_key) != EPOCH_KEY_BYTES:
            raise ProviderFailed(f"{self._url} did not unwrap to {EPOCH_KEY_BYTES} bytes")
        return epoch_key

    def destroy(self, reference: str) -> KeyReport:
        """Destroy a version and all older ones; see `RootKeyProvider.destroy`."""
        name, version = self._parse(reference)
        state = self._known(name, version)
        if state is None or not state.keeps(version):
            return self.report(reference)
        if version == state.latest_version:
            self._delete(name)
        else:
            self._trim(name, state, version + 1)
        return self.report(reference)

    def report(self, reference: str) -> KeyReport:
        """Read the key; see `RootKeyProvider.report`."""
        name, version = self._parse(reference)
        state = self._known(name, version)
        if state is None:
            return KeyReport(Presence.GONE, f"404: no key {name}")
        presence = Presence.PRESENT if state.keeps(version) else Presence.GONE
        return KeyReport(presence, state.words())

    def _create(self, name: str, version: int) -> _State:
        """Create a key, which begins at version 1.

        A later version of a key that is not there belongs to one that was deleted: made anew, its
        older versions would seem to be there again.
        """
        if version > 1:
            raise KeyGone(f"transit key {name} is not there, so it gets no version {version}")
        self._change(
            lambda engine: engine.create_key(name, key_type=_KEY_TYPE, mount_point=self._mount)
        )
        state = self._read(name)
        if state is None:
            raise ProviderFailed(f"{self._url} made {name} and does not have it")
        return state

    def _trim(self, name: str, state: _State, floor: int) -> None:
        """Make `floor` the oldest version. Each step is one that may be repeated or resumed."""
        if state.min_encryption_version < floor:
            self._configure(name, min_encryption_version=floor)
        if state.min_decryption_version < floor:
            self._configure(name, min_decryption_version=floor)
        self._change(lambda engine: engine.trim_key(name, floor, mount_point=self._mount))

    def _delete(self, name: str) -> None:
        self._configure(name, deletion_allowed=True)
        self._change(lambda engine: engine.delete_key(name, mount_point=self._mount))

    def _configure(self, name: str, **values: int) -> None:
        self._change(
            lambda engine: engine.update_key_configuration(name, mount_point=self._mount, **values)
        )

    def _parse(self, reference: str) -> tuple[str, int]:
        match = self._reference.fullmatch(reference)
        if not match:
            raise Damaged(f"{reference!r} is not a reference of a transit key")
        return match[1], int(match[2])

    def _refuse_unusable(self, name: str, version: int) -> None:
        state = self._known(name, version)
        if state is None or not state.opens(version):
            words = state.words() if state else "404"
            raise KeyGone(f"transit key {name}:{version} is gone: {words}")

    def _known(self, name: str, version: int) -> _State | None:
        state = self._read(name)
        if state is not None and version > state.latest_version:
            # An older copy of the service: what it says about this version is worth nothing.
            raise ProviderFailed(f"{self._url} has {name} to {state.latest_version}, not {version}")
        return state

    def _read(self, name: str) -> _State | None:
        answer = self._ask(lambda engine: engine.read_key(name, mount_point=self._mount))
        if answer == (HTTPStatus.NOT_FOUND, {"errors": []}):
            return None
        data = _data(answer) if answer.status == HTTPStatus.OK else {}
        unsafe = ("exportable", "allow_plaintext_backup", "derived", "imported_key")
        if data.get("type") != _KEY_TYPE or any(data.get(flag) for flag in unsafe):
            raise ProviderFailed(f"{self._url} has {name} as a key of another kind, or exportable")
        return self._state(data)

    def _state(self, data: dict[str, Any]) -> _State:
        def count(field: str) -> int:
            value = data.get(field)
            if type(value) is not int or value < 0:
                raise ProviderFailed(f"{self._url} describes a key without {field}")
            return value

        return _State(
            count("latest_version"),
            count("min_available_version"),
            count("min_decryption_version"),
            count("min_encryption_version"),
            bool(data.get("soft_deleted")),
        )

    def _change(self, call: _Call) -> None:
        answer = self._ask(call)
        if answer.status not in _DONE:
            raise ProviderFailed(f"{self._url} answers HTTP {answer.status} to a change")

    def _ask(self, call: _Call) -> _Answer:
        """Make one request. What it sent and what came back appear in no error."""
        import requests
        from hvac.adapters import RawAdapter

        with requests.Session() as session:
            session.trust_env, session.stream = False, True
            session.verify = self._verify
            adapter = RawAdapter(
                base_uri=self._url,
                token=read_secret(self._token_file, "token_file"),
                verify=self._verify,
                timeout=self._timeout,
                allow_redirects=False,
                session=session,
                ignore_exceptions=True,
            )
            try:
                with call(_engine_of()(adapter=adapter)) as response:
                    status, content = int(response.status_code), _content(response)
            except OSError as error:  # what requests raises is one, and so is a broken file
                raise ProviderUnreachable(
                    f"{self._url} does not answer: {type(error).__name__}"
                ) from None
        return self._judge(status, content)

    def _judge(self, status: int, content: bytes) -> _Answer:
        text = f"{self._url} answers HTTP {status}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _LATER:
            raise ProviderUnreachable(text)
        if status in _DENIED:
            raise ProviderDenied(text)
        if status not in _DONE + _OWN:
            raise ProviderFailed(text)
        if status == HTTPStatus.NO_CONTENT:
            return _Answer(status, {})
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise ProviderFailed(f"{text} without a JSON object")
        return _Answer(status, document)


def _engine_of() -> Any:
    try:
        from hvac.api.secrets_engines import Transit
    except ImportError:
        raise ConfigurationError(
            "provider transit needs a library: pip install 'datakluis[transit]'"
        ) from None
    return Transit


def _content(response: Any) -> bytes:
    """Return what a server sent; more than any answer needs is cut off, and then is no JSON."""
    content = b""
    for chunk in response.iter_content(_CHUNK_BYTES):
        content += chunk
        if len(content) > _MAX_ANSWER_BYTES:
            break
    return content[:_MAX_ANSWER_BYTES]


def _data(answer: _Answer) -> dict[str, Any]:
    data = answer.document.get("data")
    return data if isinstance(data, dict) else {}


def _version(wrapped: bytes) -> int | None:
    """Return the version that a wrapped epoch key names, or None when it is none."""
    match = _WRAPPED.fullmatch(wrapped)
    return int(match[1]) if match else None
