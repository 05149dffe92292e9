"""A key backup, opened in a process of its own: what a shred waits for before it destroys anything.

    python -m vault.rehearsal BACKUP FOLDER TREE...   (the passphrase on standard input)

Nothing of the process that made the backup is used: not its memory, not its provider sessions, not
the vault's database. Every node is read from the backup's file and opened from the root down; what
was found is printed as one JSON object: {"trees": {"0": {"generation": 2, "nodes": 5, "keys": 300},
…}}. Tested in tests/vault/test_rehearsal.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vault.errors import Incomplete, VaultError

_SECONDS = 600


def rehearse(
    backup: Path, folder: Path, passphrase: str, trees: Sequence[int]
) -> dict[int, dict[str, int]]:
    """Open a key backup in a fresh process and return generation, nodes and keys by tree.

    Args:
        backup: a full key backup.
        folder: of the vault whose providers are asked.
        passphrase: of its key files.
        trees: numbers of those to open; the provider of another one may be out of reach.

    Raises:
        Incomplete: the backup could not be opened there.
    """
    try:
        done = subprocess.run(  # noqa: S603
            [
                sys.executable,
                "-m",
                "vault.rehearsal",
                str(backup.resolve()),
                str(folder.resolve()),
                *(str(int(tree)) for tree in trees),
            ],
            input=passphrase.encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            # Where this package was found, whatever the working directory is.
            cwd=Path(__file__).parents[1],
        )
    except subprocess.TimeoutExpired:
        raise Incomplete(f"the key backup was not restored within {_SECONDS} seconds") from None
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise Incomplete(
            f"the key backup cannot be restored: {reason[-1] if reason else 'no word'}"
        )
    answer: dict[str, dict[str, int]] = json.loads(done.stdout)["trees"]
    return {int(number): found for number, found in answer.items()}


def main(arguments: list[str]) -> int:
    """Open the backup named on the command line; the process's own entry."""
    backup, folder = (Path(argument) for argument in arguments[:2])
    trees = [int(argument) for argument in arguments[2:]]
    passphrase = sys.stdin.buffer.read().decode()
    try:
        print(json.dumps({"trees": _open_all(backup, folder, passphrase, trees)}))  # noqa: T201
    except VaultError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _open_all(
    backup: Path, folder: Path, passphrase: str, trees: Sequence[int]
) -> dict[int, dict[str, int]]:
    from vault.database import Database
    from vault.generations import Providers
    from vault.keytree import KeyTree
    from vault.rootkeys.provider import Surroundings, TreeNumber

    providers = Providers(Surroundings(folder, passphrase))
    found: dict[int, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as restored:
        copy = Path(restored) / "keys.db"
        shutil.copyfile(backup, copy)
        database = Database(copy)
        with database.write() as connection:
            # A backup has no index, and every node is looked up by its place.
            connection.exec_driver_sql(
                "CREATE UNIQUE INDEX node_place ON vault_node (level, number)"
            )
        with database.read() as connection:
            for number in map(TreeNumber, trees):
                tree = KeyTree(number, providers)
                state = tree.state(connection)
                nodes, keys = tree.open_all(connection, state)
                found[number] = {"generation": state.generation, "nodes": nodes, "keys": keys}
        database.close()
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
