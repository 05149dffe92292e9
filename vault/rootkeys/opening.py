"""Opening a root key provider by its kind and options.

    file      no options
    pkcs11    module, token, pin_file
    transit   url, token_file, first_generation; optional: mount, key, ca_file, timeout_seconds
    awskms    region, role; optional: endpoint, window_days, alias_prefix

What each option means stands in the provider's class. A provider's module, and the library that it
needs, is loaded when it is opened. Tested in tests/vault/test_rootkeys.py.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from policy.assurance import Assurance, ProviderKind
from vault.errors import InvalidInput
from vault.rootkeys.provider import FIRST_GENERATION, Options, RootKeyProvider, Surroundings


class ProviderClass(Protocol):
    """What makes a provider."""

    assurance: Assurance

    def __call__(self, options: Options, surroundings: Surroundings) -> RootKeyProvider:
        """Return the provider that options and surroundings describe."""
        ...


class _Names(NamedTuple):
    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()


_NAMES = {
    ProviderKind.FILE: _Names(),
    ProviderKind.PKCS11: _Names(frozenset({"module", "token", "pin_file"})),
    ProviderKind.TRANSIT: _Names(
        frozenset({"url", "token_file", FIRST_GENERATION}),
        frozenset({"mount", "key", "ca_file", "timeout_seconds"}),
    ),
    ProviderKind.AWSKMS: _Names(
        frozenset({"region", "role"}), frozenset({"endpoint", "window_days", "alias_prefix"})
    ),
}


def check_options(kind: ProviderKind, options: Options) -> None:
    """Check that the options are those of this provider, and that each has a value.

    Raises:
        InvalidInput: one is unknown, missing or empty; it is named.
    """
    names = _NAMES[kind]
    for name in sorted(options.keys() - names.required - names.optional):
        raise InvalidInput(f"provider {kind} has no option {name}")
    for name in sorted(names.required - options.keys()):
        raise InvalidInput(f"provider {kind} needs option {name}")
    for name, value in options.items():
        if not value:
            raise InvalidInput(f"option {name} of provider {kind} is empty")


def open_provider(
    kind: ProviderKind, options: Options, surroundings: Surroundings
) -> RootKeyProvider:
    """Return a provider. Nothing is asked of it yet.

    Raises:
        InvalidInput: an option is unknown, missing or not usable; it is named.
        ConfigurationError: a file that an option names is not there, or the provider's library is
            not installed.
    """
    check_options(kind, options)
    return provider_class(kind)(options, surroundings)


def provider_class(kind: ProviderKind) -> ProviderClass:
    """Return the class of a provider, which says its assurance without opening anything."""
    match kind:
        case ProviderKind.FILE:
            from vault.rootkeys.file import FileRootKeys

            return FileRootKeys
        case ProviderKind.PKCS11:
            from vault.rootkeys.pkcs11 import Pkcs11RootKeys

            return Pkcs11RootKeys
        case ProviderKind.TRANSIT:
            from vault.rootkeys.transit import TransitRootKeys

            return TransitRootKeys
        case ProviderKind.AWSKMS:
            from vault.rootkeys.awskms import AwsKmsRootKeys

            return AwsKmsRootKeys
