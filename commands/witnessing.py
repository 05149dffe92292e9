"""`kluis witness init`, `add`, `serve` and `evidence`: watching logs, one's own or others'.

The folder of a witness:

    ed25519.key, ml-dsa-44.key   its private keys, each sealed under the passphrase
    keys                         its verifier keys (C2SP signed-note), one a line
    witness.db, evidence/        what it remembers (ledger/witnessstate.py)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.context import (
    counted,
    emit_json,
    json_option,
    local_time,
    read_input,
    read_passphrase,
)

if TYPE_CHECKING:
    from ledger.cosignature import Cosigner, CosignerKey
    from ledger.note import VerifierKey
    from ledger.witnessstate import Evidence, WitnessState

_KEYS = "keys"
# File, label of the key file, and what stands for the algorithm in the names of a policy.
_ED25519 = ("ed25519.key", "witness key Ed25519", "ed25519")
_ML_DSA = ("ml-dsa-44.key", "witness key ML-DSA-44", "ml-dsa-44")
_FILES = (_ED25519, _ML_DSA)

_folder = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


@click.group()
def witness() -> None:
    """Watch logs: cosign what extends the last checkpoint, keep what contradicts it.

    Example: kluis witness serve /srv/witness --listen 127.0.0.1:8080
    """


@witness.command("init")
@_folder
@click.option(
    "--name", required=True, metavar="NAME", help="By which it cosigns: a URL without https://."
)
@click.option("--url", metavar="URL", help="Where logs will reach it, for the policy lines.")
@json_option
def witness_init(folder: Path, name: str, url: str | None, *, as_json: bool) -> None:
    """Make the keys of a new witness and print the lines for the witness policies of logs.

    Asks for a passphrase, or reads it from the file that KLUIS_PASSPHRASE_FILE names. The folder
    must never be restored from a copy: a witness that forgets can vouch for two histories.

    Example: kluis witness init /srv/witness --name witness.example/gouda
    """
    from nacl.signing import SigningKey

    from ledger.cosignature import Ed25519Cosigner, MlDsaCosigner
    from ledger.note import is_key_name
    from ledger.witnessstate import WitnessState
    from vault.keyfile import SECRET_BYTES, write_key_file

    if not is_key_name(name) or len(name.encode()) > 255:
        raise click.UsageError("a name is 1 to 255 bytes without spaces and without +")
    if "://" in name:
        raise click.UsageError("a name is a URL without https://, such as witness.example/gouda")
    if (folder / _KEYS).exists():
        raise click.UsageError(f"{folder} is a witness already; choose another folder")
    passphrase = read_passphrase(confirm=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    seeds = (os.urandom(SECRET_BYTES), os.urandom(SECRET_BYTES))
    for (file, label, _), seed in zip(_FILES, seeds, strict=True):
        write_key_file(folder / file, label, seed, passphrase)
    WitnessState.create(folder)
    cosigners = (Ed25519Cosigner(name, SigningKey(seeds[0])), MlDsaCosigner(name, seeds[1]))
    keys = [one.verifier for one in cosigners]
    (folder / _KEYS).write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
    lines = _policy_lines(name, keys, url)
    if as_json:
        emit_json({"name": name, "keys": [str(key) for key in keys], "policy": lines})
        return
    click.echo(f"# Witness {name}, for the witness policy of a log:")
    for line in lines:
        click.echo(line)
    click.echo(f"Next: kluis witness add {folder} --trust FILE", err=True)


@witness.command("add")
@_folder
@click.argument("origin", required=False)
@click.option("--key", "keys", multiple=True, metavar="VKEY", help="A key of the log; repeatable.")
@click.option("--trust", "trust_path", metavar="FILE", help="Take origin and keys from this.")
def witness_add(
    folder: Path, origin: str | None, keys: tuple[str, ...], trust_path: str | None
) -> None:
    """Let a log be watched, or add the new keys of one that is.

    A checkpoint must be signed by a key of each algorithm that the log is registered with.

    Example: kluis witness add /srv/witness --trust trust.json
    """
    from ledger.cosignature import parse_key
    from ledger.witnessstate import WitnessState

    if (trust_path is None) != bool(origin and keys) or (trust_path and (origin or keys)):
        raise click.UsageError("give either ORIGIN with one or more --key, or --trust FILE alone")
    found = [parse_key(key) for key in keys]
    if trust_path is not None:
        origin, found = _read_trust(trust_path)
    if origin is None:
        raise click.UsageError("the origin is missing")
    WitnessState(folder).register(origin, found)
    click.echo(f"{folder} watches {origin}, with {counted(len(found), 'key')} from this call.")


@witness.command("serve")
@_folder
@click.option(
    "--listen",
    default="127.0.0.1:8080",
    show_default=True,
    metavar="HOST:PORT",
    help="Where; port 0 takes a free one.",
)
def witness_serve(folder: Path, listen: str) -> None:
    """Answer logs over HTTP (C2SP tlog-witness) until SIGTERM or SIGINT.

    Example: kluis witness serve /srv/witness --listen 127.0.0.1:8080
    """
    import time

    from ledger.net.serving import parse_listen, serve
    from ledger.net.witnessserver import witness_app
    from ledger.witness import Witness
    from ledger.witnessstate import WitnessState

    state = WitnessState(folder)
    host, port = parse_listen(listen)
    watching = Witness(state, _open_cosigners(folder))
    app = witness_app(
        watching,
        lambda: int(time.time()),
        lambda why: click.echo(f"kluis: {why}", err=True),
    )
    serve(
        app,
        host,
        port,
        lambda url: click.echo(f"Witness {watching.keys[0].name} answers at {url}"),
    )


@witness.command("evidence")
@_folder
@json_option
def witness_evidence(folder: Path, *, as_json: bool) -> None:
    """List the checkpoints that were refused because they contradict what was cosigned.

    Each pair is verified with the log's keys as it is listed; the notes lie in DIR/evidence.

    Example: kluis witness evidence /srv/witness
    """
    from ledger.witnessstate import WitnessState

    state = WitnessState(folder)
    kept = [(one, _is_signed(state, one)) for one in state.evidence()]
    if as_json:
        emit_json({"evidence": [_described(one, signed=signed) for one, signed in kept]})
        return
    for one, signed in kept:
        sizes = [note.text.splitlines()[1] for note in (one.cosigned, one.refused)]
        by = "both signed by the log" if signed else "NOT both signed by the log's keys"
        click.echo(
            f"{one.number} {one.kind} {one.origin}: {sizes[0]} leaves cosigned, {sizes[1]} refused"
            f" at {local_time(one.seen_at)}; {by}."
        )
    if not kept:
        click.echo("Nothing was refused that contradicts what was cosigned.")


def _policy_lines(name: str, keys: list[CosignerKey], url: str | None) -> list[str]:
    members = [f"{name}-{stem}" for _, _, stem in _FILES]
    lines = [
        " ".join(("witness", member, str(key), *([url] if url else [])))
        for member, key in zip(members, keys, strict=True)
    ]
    return [*lines, f"group {name} all {' '.join(members)}"]


def _read_trust(path: str) -> tuple[str, list[VerifierKey | CosignerKey]]:
    """Return the origin and the keys in use of a trust file."""
    from anchor.trust import MAX_BYTES, TrustFile

    trusted = TrustFile.parse(read_input(path, MAX_BYTES))
    return trusted.origin, [one.key for one in trusted.log_keys if one.last_size is None]


def _open_cosigners(folder: Path) -> list[Cosigner]:
    """Open the private keys, and compare them with the public ones that were handed out."""
    from nacl.signing import SigningKey

    from ledger.cosignature import CosignerKey, Ed25519Cosigner, MlDsaCosigner
    from ledger.errors import WitnessStateLost
    from vault.keyfile import read_key_file

    try:
        lines = (folder / _KEYS).read_text(encoding="utf-8").splitlines()
        keys = [CosignerKey.parse(line) for line in lines]
        name = keys[0].name
    except (OSError, UnicodeDecodeError, IndexError) as cause:
        raise WitnessStateLost(f"{folder / _KEYS} is missing or damaged") from cause
    passphrase = read_passphrase(confirm=False)
    seeds = [read_key_file(folder / file, label, passphrase) for file, label, _ in _FILES]
    ed25519, ml_dsa = Ed25519Cosigner(name, SigningKey(seeds[0])), MlDsaCosigner(name, seeds[1])
    cosigners: list[Cosigner] = [ed25519, ml_dsa]
    if [one.verifier for one in cosigners] != keys:
        raise WitnessStateLost(f"{folder / _KEYS} has other keys than the key files")
    return cosigners


def _is_signed(state: WitnessState, one: Evidence) -> bool:
    from ledger.errors import BadSignature
    from ledger.witness import signed_by

    try:
        for note in (one.cosigned, one.refused):
            signed_by(note, state.keys(one.origin))
    except BadSignature:
        return False
    return True


def _described(one: Evidence, *, signed: bool) -> dict[str, object]:
    return {
        "number": one.number,
        "kind": one.kind,
        "origin": one.origin,
        "seen_at": one.seen_at,
        "signed": signed,
        "cosigned": one.cosigned.format(),
        "refused": one.refused.format(),
    }
