"""The command in one vault, watched: what it prints holds no secret and nothing of a person."""

from kluis_command import Kluis, run

PASSPHRASE = "correct paard batterij nietje"
SUBJECT = "999990019"
PAYLOAD = "Zoë-Geheim-7d1"


class WatchedKluis(Kluis):
    """Runs commands in one vault and refuses to go on where one tells what it must not."""

    def __init__(self, folder):
        super().__init__(folder)
        self.secrets = {PASSPHRASE, SUBJECT, PAYLOAD}

    def __call__(self, *arguments, stdin=b""):
        return self.watched(run("-C", self.folder, *arguments, stdin=stdin))

    def watched(self, ran):
        for secret in self.secrets:
            assert secret not in ran.err
            assert secret.encode() not in ran.out
        assert "Traceback" not in ran.err
        lines = ran.err.splitlines()
        if ran.code == 0:
            assert lines == []
        else:
            assert len(lines) == 1, ran.err
            assert lines[0].startswith("kluis: ")
        return ran

    def put(self, category="nieuwsbrief", *options):
        arguments = ("put", "-", "--category", category, "--subject", SUBJECT, *options)
        ran = self(*arguments, stdin=PAYLOAD.encode())
        assert ran.code == 0
        return ran.text.strip()

    def erase(self, pointer):
        assert self("erase", pointer, "--ground", "consent-withdrawn").code == 0

    def holds(self, pointer):
        """Whether the payload can still be had."""
        ran = run("-C", self.folder, "get", pointer)
        assert ran.code in (0, 4)
        return ran.code == 0

    def state(self):
        """What a command that must change nothing leaves as it is."""
        # What waits for the ledger may become leaves with any command that signs.
        assert self("checkpoint").code == 0
        audit = self("audit", "--json").json
        assert audit["faults"] == []
        keys = self("rootkey", "show", "--json").json
        files = {path.name for path in (self.folder / "keys").iterdir()}
        return audit["counts"], keys, files, self("shred", "--status", "--json").json
