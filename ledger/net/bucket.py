"""A published log in an S3 bucket: reading it (`BucketSource`) and publishing to it.

Implements both ends of C2SP tlog-tiles over the S3 protocol, by boto3. The place is written
`s3://bucket` or `s3://bucket/prefix`; the objects are `<prefix>/checkpoint` and `<prefix>/tile/…`.
Endpoint, region and credentials come from where boto3 looks for them (AWS_ENDPOINT_URL_S3,
AWS_PROFILE, the files in ~/.aws, an instance role) and nowhere else. The credentials need
GetObject, PutObject, DeleteObject, and ListBucket: without it S3 calls a missing object forbidden.

How the promises of ledger/destination.py are kept without a lock:

- A tile or a bundle is put with `If-None-Match: *`. Where an object stands already (412), it is
  read and compared; other bytes are `BadPublication`. S3 shows an object whole or not at all.
- The checkpoint is put with `If-Match` and the ETag of the one that was read and found to be of
  this log, or with `If-None-Match: *` where there was none. So of two exports that race one fails
  with `PublicationMoved`, and none takes back what the other published.
- S3 is consistent after each write, and the checkpoint comes last. So a checkpoint in the bucket
  says that its files were written, and an export that has found it to be of its own history writes
  and reads only what lies beyond it: for ten new entries four objects, however old the log is. Who
  can change the bucket behind our back can do so a second after any check, and every reader finds
  out; to have all objects compared anew, remove the object `checkpoint` and export again.

Objects say how long they may be kept: `no-cache` for the checkpoint, a year and `immutable` for the
others. Puts run sixteen at a time, which is what makes a first export of a million leaves bearable.
A partial object that an export left when it broke off before its checkpoint stays until it is
pruned: C2SP allows it and nobody asks for it.

Errors say what kind of trouble there is, in our own words; nothing that boto3 or a server said is
in them, since that can hold access keys and account names. Tested in tests/ledger/test_bucket.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from ledger.destination import Settled
from ledger.errors import (
    BadPublication,
    DestinationUnreachable,
    LedgerError,
    Malformed,
    PublicationMoved,
    SourceMissing,
    SourceUnreachable,
)
from ledger.source import CHECKPOINT, require_size, size_limit
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH, is_pruned, parse_path

SCHEME = "s3://"

IMMUTABLE = "public, max-age=31536000, immutable"
"""Cache-Control of tiles and bundles."""

MUTABLE = "no-cache"
"""Cache-Control of the checkpoint: kept, but asked after at each use."""

CHECKPOINT_TYPE = "text/plain; charset=utf-8"
FILE_TYPE = "application/octet-stream"

_PUTS_AT_ONCE = 16
_ATTEMPTS = 4
_CONNECT_SECONDS = 10
_READ_SECONDS = 60
_DELETE_LIMIT = 1000
_PLACE = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])"
    r"(?P<prefix>(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._=-]{1,255}){0,16})/?"
)
_ABSENT_BUCKET = "NoSuchBucket"
_REASONS = {
    "AccessDenied": "access is denied",
    "ExpiredToken": "the credentials have expired",
    "InvalidAccessKeyId": "the access key is not known",
    "SignatureDoesNotMatch": "the secret key is not that of the access key",
    _ABSENT_BUCKET: "there is no such bucket",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "SlowDown": "it is asked too often",
}

Unreachable = Callable[[str, str], LedgerError]


class Bucket:
    """The objects of one published log, by their paths.

    Args:
        place: s3://bucket or s3://bucket/prefix, the prefix of letters, digits and `. _ = -`.

    Raises:
        Malformed: any other place. It is not repeated in the error.
        SourceUnreachable: the configuration of boto3 is of no use.
    """

    def __init__(self, place: str) -> None:
        match = _PLACE.fullmatch(place)
        if match is None:
            raise Malformed("not the place of a published log: s3://bucket/prefix")
        self._bucket = match["bucket"]
        self._prefix = f"{match['prefix']}/"[1:]
        self._client = _client()

    def get(self, path: str) -> tuple[bytes, str] | None:
        """Return an object and its ETag, or None where there is none.

        Raises:
            Malformed: no file of a published log has that path.
            SourceUnreachable, BadPublication: see `ledger.source.Source.read`.
        """
        limit = size_limit(path)
        with _told(path, SourceUnreachable):
            answer, status, reason = self._call("get_object", Key=self._prefix + path)
            if answer is not None:
                with answer["Body"] as body:
                    # At most as much as the object has, so that a whole one is known as whole.
                    data = body.read(min(limit + 1, answer["ContentLength"]))
                if len(data) < min(limit + 1, answer["ContentLength"]):
                    raise SourceUnreachable(path, "the answer breaks off")
                return require_size(path, data, limit), answer["ETag"]
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE) and reason != _ABSENT_BUCKET:
            return None
        raise SourceUnreachable(path, _words(status, reason))

    def put(self, path: str, data: bytes, condition: Mapping[str, str]) -> bool:
        """Write an object if a condition holds, and tell whether it did.

        Raises:
            DestinationUnreachable: there is no clear answer.
        """
        is_checkpoint = path == CHECKPOINT
        for _ in range(_ATTEMPTS):
            with _told(path, DestinationUnreachable):
                answer, status, reason = self._call(
                    "put_object",
                    Key=self._prefix + path,
                    Body=data,
                    ContentType=CHECKPOINT_TYPE if is_checkpoint else FILE_TYPE,
                    CacheControl=MUTABLE if is_checkpoint else IMMUTABLE,
                    **condition,
                )
            if answer is not None:
                return True
            # 404: the object that an ETag was given of is gone.
            missed = status == HTTPStatus.NOT_FOUND and reason != _ABSENT_BUCKET
            if status == HTTPStatus.PRECONDITION_FAILED or missed:
                return False
            if status != HTTPStatus.CONFLICT:
                break
        raise DestinationUnreachable(path, _words(status, reason))

    def paths(self, start: str) -> Iterator[str]:
        """Yield the paths of all objects that start so.

        Raises:
            DestinationUnreachable: there is no clear answer.
        """
        more: dict[str, str] = {}
        while True:
            with _told(start, DestinationUnreachable):
                answer, status, reason = self._call(
                    "list_objects_v2", Prefix=self._prefix + start, **more
                )
            if answer is None:
                raise DestinationUnreachable(start, _words(status, reason))
            for found in answer.get("Contents", ()):
                yield found["Key"][len(self._prefix) :]
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def delete(self, paths: Sequence[str]) -> None:
        """Remove objects.

        Raises:
            DestinationUnreachable: there is no clear answer, or one was not removed.
        """
        for start in range(0, len(paths), _DELETE_LIMIT):
            part = paths[start : start + _DELETE_LIMIT]
            keys = [{"Key": self._prefix + path} for path in part]
            with _told(part[0], DestinationUnreachable):
                answer, status, reason = self._call(
                    "delete_objects", Delete={"Objects": keys, "Quiet": True}
                )
            if answer is None:
                raise DestinationUnreachable(part[0], _words(status, reason))
            if errors := answer.get("Errors"):
                raise DestinationUnreachable(part[0], _words(0, str(errors[0].get("Code"))))

    def _call(self, name: str, **arguments: Any) -> tuple[Any, int, str]:
        """Return the answer, or None with the status and the code of what was answered instead."""
        from botocore.exceptions import ClientError

        try:
            return getattr(self._client, name)(Bucket=self._bucket, **arguments), 0, ""
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return None, status, str(error.response.get("Error", {}).get("Code"))


class BucketSource:
    """A published log in a bucket; see `Bucket` for the place and what it raises."""

    def __init__(self, place: str) -> None:
        self._bucket = Bucket(place)

    def read(self, path: str) -> bytes:
        """Return a file; see `ledger.source.Source.read`."""
        found = self._bucket.get(path)
        if found is None:
            raise SourceMissing(path)
        return found[0]


class BucketDestination:
    """A bucket to publish to; see `Bucket` for the place and what it raises."""

    def __init__(self, place: str) -> None:
        self._bucket = Bucket(place)
        self._etag: str | None = None
        self._published = 0
        self._pool: ThreadPoolExecutor
        self._running: set[Future[bool]] = set()
        self._written = 0
        self._kept = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Start the puts' threads; nothing is locked, see the top of this module."""
        with ThreadPoolExecutor(_PUTS_AT_ONCE) as self._pool:
            try:
                yield
            finally:
                for future in self._running:
                    future.cancel()

    def read_checkpoint(self) -> bytes | None:
        """Return what is published and remember its ETag; see `Destination.read_checkpoint`."""
        found = self._bucket.get(CHECKPOINT)
        if found is None:
            return None
        data, self._etag = found
        return data

    def unread(self, published: int) -> int:
        """Return what is published: its files were written before its checkpoint."""
        self._published = published
        return published

    def lacks(self, path: str, data: bytes) -> bool:
        """Return that it may: `put` finds out with the same request that writes."""
        return True

    def put(self, path: str, data: bytes) -> None:
        """Start writing a file; see `Destination.put`."""
        if len(self._running) >= 2 * _PUTS_AT_ONCE:
            self._collect(FIRST_COMPLETED)
        self._running.add(self._pool.submit(self._put, path, data))

    def settle(self) -> Settled:
        """Wait for all puts; see `Destination.settle`."""
        while self._running:
            self._collect(FIRST_COMPLETED)
        return Settled(self._written, self._kept)

    def replace_checkpoint(self, data: bytes) -> None:
        """Put it on condition; see `Destination.replace_checkpoint`."""
        condition = {"IfNoneMatch": "*"} if self._etag is None else {"IfMatch": self._etag}
        if self._bucket.put(CHECKPOINT, data, condition):
            return
        # A put that was repeated after its answer got lost meets itself.
        found = self._bucket.get(CHECKPOINT)
        if found is None or found[0] != data:
            raise PublicationMoved

    def remove_partials(self, path: str) -> int:
        """Remove them where the published tree ended; see `Destination.remove_partials`."""
        place = parse_path(path)
        ended, width = divmod(self._published >> TILE_HEIGHT * (place.level or 0), TILE_WIDTH)
        if not width or place.index != ended:
            return 0
        return self._delete(list(self._bucket.paths(f"{path}.p/")))

    def remove_pruned(self, minimum: int) -> int:
        """Remove objects below an index; see `Destination.remove_pruned`."""
        return self._delete(
            [path for path in self._bucket.paths("tile/") if _is_pruned(path, minimum)]
        )

    def _put(self, path: str, data: bytes) -> bool:
        """Write a file and tell whether it is new."""
        if self._bucket.put(path, data, {"IfNoneMatch": "*"}):
            return True
        found = self._bucket.get(path)
        if found is None:
            raise DestinationUnreachable(path, "it is there and is not")
        if found[0] != data:
            raise BadPublication(path, "is there already, with other bytes")
        return False

    def _collect(self, until: str) -> None:
        done, self._running = wait(self._running, return_when=until)
        for future in done:
            is_new = future.result()
            self._written += is_new
            self._kept += not is_new

    def _delete(self, paths: list[str]) -> int:
        self._bucket.delete(paths)
        return len(paths)


def _client() -> Any:
    with _told(CHECKPOINT, SourceUnreachable):
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=_PUTS_AT_ONCE,
        )
        return boto3.Session().client("s3", config=config)


@contextmanager
def _told(path: str, unreachable: Unreachable) -> Iterator[None]:
    """Say in our own words what boto3 raises; ClientError is dealt with where it comes."""
    import botocore.exceptions as boto

    try:
        yield
    except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.ProfileNotFound):
        raise unreachable(path, "there are no credentials for the bucket") from None
    except (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError):
        raise unreachable(path, "there is no connection") from None
    except boto.ReadTimeoutError:
        raise unreachable(path, f"no answer within {_READ_SECONDS} seconds") from None
    except (boto.BotoCoreError, boto.HTTPClientError, OSError, ValueError) as error:
        raise unreachable(path, f"boto3 gives up with {type(error).__name__}") from None


def _words(status: int, reason: str) -> str:
    return _REASONS.get(reason, f"the answer has status {status}")


def _is_pruned(path: str, minimum: int) -> bool:
    try:
        return is_pruned(parse_path(path), minimum)
    except Malformed:
        return False
