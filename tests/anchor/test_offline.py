"""LG4: the verifier runs where no vault, no database driver and no network is."""

import json
import subprocess
import sys

import pytest
from anchor_samples import EVIDENCE, ROOT, TRUST, TRUST_OF

ABSENT = ["vault", "policy", "commands", "cli", "click", "rich", "sqlalchemy", "alembic", "boto3",
          "botocore", "urllib3", "fcntl", "sqlite3"]  # fmt: skip

# What an auditor's machine lacks cannot be imported, and each use of the network is an error.
BARE_MACHINE = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(name + " is not on this machine")

def no_network(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "subprocess.")):
        raise RuntimeError("the network was used: " + event)

sys.meta_path.insert(0, Absent())
sys.addaudithook(no_network)
sys.path.insert(0, {str(ROOT)!r})
"""
VERIFY = """
import json
from pathlib import Path
from anchor.evidence import Evidence
from anchor.trust import TrustFile
from anchor.verify import verify
evidence, trust = (Path(name).read_bytes() for name in sys.argv[1:])
report = verify(Evidence.parse(evidence), TrustFile.parse(trust))
print(json.dumps({"verdict": report.verdict, "modules": sorted(sys.modules)}))
"""


def on_a_bare_machine(tmp_path, program: str, *files: bytes) -> subprocess.CompletedProcess:
    names = []
    for number, data in enumerate(files):
        (tmp_path / str(number)).write_bytes(data)
        names.append(str(number))
    return subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", BARE_MACHINE + program, *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={},
        check=False,
    )


@pytest.mark.parametrize("name", ["version, two checkpoints", "erasure, anchored"])
def test_evidence_verifies_on_a_bare_machine(name, tmp_path):
    files = (EVIDENCE[name], TRUST[TRUST_OF[name]])
    done = on_a_bare_machine(tmp_path, VERIFY, *files)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["verdict"] == "verified"
    rooms = {module.partition(".")[0] for module in found["modules"]}
    assert {"anchor", "ledger"} <= rooms
    assert not rooms & set(ABSENT)


def test_control_changed_evidence_fails_on_a_bare_machine(tmp_path):
    files = (EVIDENCE["erasure"].replace(b"index 6", b"index 5"), TRUST["one"])
    found = json.loads(on_a_bare_machine(tmp_path, VERIFY, *files).stdout)
    assert found["verdict"] == "failed"


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("import vault", "vault is not on this machine"),
        ("import sqlalchemy", "sqlalchemy is not on this machine"),
        ("import boto3", "boto3 is not on this machine"),
        ("import anchor.local", "fcntl is not on this machine"),
        ("import socket; socket.socket()", "the network was used: socket.__new__"),
        (
            "import socket; socket.getaddrinfo('localhost', 1)",
            "the network was used: socket.getadd",
        ),
    ],
)
def test_control_the_machine_is_bare(program, error, tmp_path):
    done = on_a_bare_machine(tmp_path, program)
    assert done.returncode == 1
    assert error in done.stderr
