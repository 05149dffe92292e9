"""The configuration of a vault: `datakluis.toml` in its folder.

Strict: an unknown table or key is an error that names it, so a misspelt setting is never silently
ignored. Categories are parsed by the policy room. Tested in tests/vault/test_config.py.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from policy import InvalidPolicy, RecordCategory, parse_categories
from policy.spelling import read
from vault.errors import ConfigurationError, InvalidInput, PurposeRefused

FILE_NAME = "datakluis.toml"
MAX_ACTOR_BYTES = 128
_SHRED_WITHIN_DAYS = 30
_MAX_DAYS = 36_500
_WITNESS_SECONDS = 10
_MAX_WITNESS_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Config:
    """What a vault's configuration file says.

    Attributes:
        actor: who acts when a call names nobody.
        purpose: of a call that names none.
        purposes: registered purposes and what they mean.
        categories: record categories by name.
        local_anchor: name of the local anchor's file, relative to the vault's folder.
        shred_within_days: after which an erasure that still waits for a shred is overdue.
        key_backup_days: how long key backups are kept outside the vault; None where none are made.
        witness_policy: the witness policy's file, relative to the vault's folder; None where
            nobody witnesses.
        witness_seconds: that the witnesses get together to cosign a checkpoint.
        holders: name of the category of records that say who holds a role key; None where no such
            records are kept.
    """

    actor: str
    purpose: str
    purposes: Mapping[str, str]
    categories: Mapping[str, RecordCategory]
    local_anchor: Path
    shred_within_days: int
    key_backup_days: int | None
    witness_policy: Path | None
    witness_seconds: int
    holders: str | None

    def category(self, name: str) -> RecordCategory:
        """Return a category.

        Raises:
            InvalidInput: it is not configured.
        """
        if name not in self.categories:
            known = ", ".join(sorted(self.categories))
            raise InvalidInput(f"that category is not configured; configured are: {known}")
        return self.categories[name]

    def registered(self, purpose: str | None) -> str:
        """Return a purpose, the default for None.

        Raises:
            PurposeRefused: it is not registered (PU1).
        """
        purpose = self.purpose if purpose is None else purpose
        if purpose not in self.purposes:
            known = ", ".join(sorted(self.purposes))
            raise PurposeRefused(f"that purpose is not registered; registered are: {known}")
        return purpose


def load_config(folder: Path) -> Config:
    """Read the configuration in a vault's folder.

    Raises:
        ConfigurationError: it is missing, or says something that it cannot say; the key is named.
    """
    path = folder / FILE_NAME
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as cause:
        raise ConfigurationError(
            f"{path} is missing: {folder} is not a vault; make one with 'kluis init DIR'"
        ) from cause
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as cause:
        raise ConfigurationError(f"{path} cannot be read: {cause}") from cause
    try:
        return _parse(document)
    except (InvalidPolicy, InvalidInput) as cause:
        raise ConfigurationError(f"{path}: {cause}") from cause


def checked_actor(actor: str) -> str:
    """Return an actor's name.

    Raises:
        InvalidInput: empty, too long, or not a text that a certificate can carry.
    """
    try:
        read(str, actor, "an actor")
        fits = actor.isprintable() and 1 <= len(actor.encode()) <= MAX_ACTOR_BYTES
    except (InvalidPolicy, UnicodeEncodeError):
        fits = False
    if not fits:
        raise InvalidInput(
            f"an actor is 1 to {MAX_ACTOR_BYTES} bytes of printable text, without a space at an end"
        )
    return actor


def _parse(document: Mapping[str, object]) -> Config:
    tables = {
        name: _table(document, name) for name in ("defaults", "purposes", "categories", "anchors")
    }
    # A configuration that an earlier version wrote has no such table.
    erasure = _table(document, "erasure") if "erasure" in document else {}
    governance = _table(document, "governance") if "governance" in document else {}
    ledger = _table(document, "ledger") if "ledger" in document else {}
    _only(document, {*tables, "erasure", "governance", "ledger"}, "the file")
    _only(ledger, {"witness_policy", "witness_seconds"}, "[ledger]")
    _only(governance, {"holders"}, "[governance]")
    _only(erasure, {"shred_within_days", "key_backup_days"}, "[erasure]")
    defaults, anchors = tables["defaults"], tables["anchors"]
    _only(defaults, {"actor", "purpose"}, "[defaults]")
    _only(anchors, {"local"}, "[anchors]")
    local = _table(anchors, "local")
    _only(local, {"file"}, "[anchors.local]")
    purposes = {name: _purpose(tables["purposes"], name) for name in tables["purposes"]}
    categories = parse_categories({"categories": tables["categories"]})
    for category in categories.values():
        for purpose in sorted(category.purposes - purposes.keys()):
            raise ConfigurationError(
                f"[categories.{category.name}] allows purpose {purpose!r}, which is not registered"
            )
    purpose = _text(defaults, "purpose", "[defaults]")
    if purpose not in purposes:
        raise ConfigurationError(f"[defaults] purpose {purpose!r} is not registered")
    return Config(
        actor=checked_actor(_text(defaults, "actor", "[defaults]")),
        purpose=purpose,
        purposes=purposes,
        categories=categories,
        local_anchor=_inside(_text(local, "file", "[anchors.local]")),
        shred_within_days=_days(erasure, "shred_within_days") or _SHRED_WITHIN_DAYS,
        key_backup_days=_days(erasure, "key_backup_days"),
        witness_policy=_policy_file(ledger),
        witness_seconds=_witness_seconds(ledger),
        holders=_holders(governance, categories),
    )


def _holders(
    governance: Mapping[str, object], categories: Mapping[str, RecordCategory]
) -> str | None:
    if "holders" not in governance:
        return None
    name = _text(governance, "holders", "[governance]")
    if name not in categories:
        raise ConfigurationError(f"[governance] holders {name!r} is no configured category")
    return name


def _purpose(purposes: Mapping[str, object], name: str) -> str:
    table = _table(purposes, name)
    _only(table, {"description"}, f"[purposes.{name}]")
    return _text(table, "description", f"[purposes.{name}]")


def _inside(text: str) -> Path:
    # A folder of its own, so that no receipt can land in a key file or in the database.
    path = Path(text)
    if len(path.parts) != 2 or path.parts[0] != "anchors" or ".." in path.parts or "\0" in text:
        raise ConfigurationError("[anchors.local] file must lie in the vault's folder anchors/")
    return path


def _policy_file(ledger: Mapping[str, object]) -> Path | None:
    if "witness_policy" not in ledger:
        return None
    path = Path(_text(ledger, "witness_policy", "[ledger]"))
    if path.is_absolute() or ".." in path.parts or not path.name or "\0" in str(path):
        raise ConfigurationError("[ledger] witness_policy must lie in the vault's folder")
    return path


def _witness_seconds(ledger: Mapping[str, object]) -> int:
    value = ledger.get("witness_seconds", _WITNESS_SECONDS)
    if type(value) is not int or not 1 <= value <= _MAX_WITNESS_SECONDS:
        raise ConfigurationError(
            f"[ledger] witness_seconds is a number from 1 to {_MAX_WITNESS_SECONDS}"
        )
    return value


def _days(table: Mapping[str, object], key: str) -> int | None:
    value = table.get(key)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= _MAX_DAYS:
        raise ConfigurationError(f"[erasure] {key} is a number of days from 1 to {_MAX_DAYS}")
    return value


def _table(parent: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = parent.get(name)
    if not isinstance(value, dict):
        raise ConfigurationError(f"table [{name}] is missing")
    return value


def _text(table: Mapping[str, object], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{where} needs a text {key!r}")
    return value


def _only(table: Mapping[str, object], allowed: set[str], where: str) -> None:
    for key in sorted(table.keys() - allowed):
        raise ConfigurationError(f"{where} has an unknown key {key!r}")
