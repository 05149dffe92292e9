"""Holders of role keys at the command line, each with a file and a passphrase of their own."""

from pathlib import Path


class Holder:
    """Somebody with a role key and a passphrase of their own."""

    def __init__(self, kluis, monkeypatch, role, number=""):
        self.kluis, self.monkeypatch = kluis, monkeypatch
        self.role = role
        self.path = Path(f"{role}{number}.key")
        self.passphrase = Path(f"{role}{number}.pass")
        secret = f"the words of the {role}{number}"
        self.passphrase.write_text(secret + "\n")
        kluis.secrets.add(secret)
        made = self("member", "key", "--role", role, "-o", self.path, signs=False)
        assert made.code == 0, made.err
        self.named = made.text.strip()
        self.key = self.named.partition(":")[2]

    def __call__(self, *arguments, signs=True, stdin=b""):
        """Run a command with this holder's key."""
        self.monkeypatch.setenv("KLUIS_KEY_PASSPHRASE_FILE", str(self.passphrase))
        key = ("--key-file", self.path) if signs else ()
        return self.kluis(*arguments, *key, stdin=stdin)


def approve(holders, number, *roles):
    for role in roles:
        ran = holders[role]("approve", number, "--yes")
    return ran
