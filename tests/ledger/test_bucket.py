"""Publishing to S3 and reading from it, with a real server that checks conditions."""

import itertools
import re
import threading
from collections import Counter
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kluis_command import run
from ledger_fixtures import (
    ORIGIN,
    OTHER_KEY,
    Injected,
    Ledger,
    NaiveTree,
    Records,
    checkpoint_of,
    log_keys,
)
from published_logs import expected_files, published_files, signed_checkpoint
from watched_kluis import PASSPHRASE, WatchedKluis
from weed_server import ACCESS_KEY, BUCKET, SECRET_KEY, MissingPart, client_of, environment, weed

from ledger.destination import FolderDestination
from ledger.errors import (
    BadPublication,
    DestinationUnreachable,
    Forked,
    LedgerError,
    Malformed,
    PublicationMoved,
    RolledBack,
    SourceMissing,
    SourceUnreachable,
)
from ledger.net import bucket as bucket_module
from ledger.net.bucket import Bucket, BucketDestination, BucketSource
from ledger.net.places import destination_at, source_at
from ledger.net.source import HttpSource
from ledger.publish import ExportReport, export
from ledger.replay import read_entries
from ledger.source import FolderSource
from vault import keyfile

KEYS = log_keys()
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def port(tmp_path_factory, missing_part):
    with ExitStack() as stack:
        try:
            yield stack.enter_context(weed(tmp_path_factory.mktemp("weed")))
        except MissingPart as missing:
            missing_part(str(missing))


@pytest.fixture(scope="module")
def client(port):
    return client_of(port)


@pytest.fixture
def configured(port, monkeypatch):
    for name, value in environment(port).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def place(configured) -> str:
    """A prefix of its own for each test."""
    return f"s3://{BUCKET}/test-{next(_NUMBERS)}/ledger"


@pytest.fixture
def ledger(tmp_path):
    (tmp_path / "ledger").mkdir()
    with Ledger(tmp_path / "ledger") as ledger:
        yield ledger


def publish(ledger: Ledger, place: str, minimum: int = 0) -> ExportReport:
    with ledger.read() as log:
        return export(log, BucketDestination(place), minimum)


def key_of(place: str, path: str) -> str:
    return f"{place.removeprefix(f's3://{BUCKET}/')}/{path}"


def objects(client, place: str) -> dict[str, bytes]:
    prefix = key_of(place, "")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
    return {
        key[len(prefix) :]: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys
    }


def note_of(ledger: Ledger):
    with ledger.read() as log:
        return log.latest_checkpoint()


def expected(ledger: Ledger) -> dict[str, bytes]:
    return expected_files(ledger.entries(), note_of(ledger))


@pytest.fixture
def calls(monkeypatch) -> Counter[str]:
    """How often each operation of S3 is asked for."""
    counts: Counter[str] = Counter()
    real = Bucket._call

    def counting(self, name, **arguments):
        counts[name] += 1
        return real(self, name, **arguments)

    monkeypatch.setattr(Bucket, "_call", counting)
    return counts


# Writing


def test_the_objects_are_those_of_the_folder_with_their_headers(ledger, place, client, tmp_path):
    ledger.checkpoint(Records(seed=1, every_kind=True).take(600))
    report = publish(ledger, place)
    files = expected(ledger)
    assert objects(client, place) == files
    assert report == ExportReport(600, len(files), 0, 0)
    with ledger.read() as log:
        export(log, FolderDestination(tmp_path / "folder"))
    assert published_files(tmp_path / "folder") == files
    for path in files:
        head = client.head_object(Bucket=BUCKET, Key=key_of(place, path))
        found = (head["ContentType"], head["CacheControl"])
        if path == "checkpoint":
            assert found == ("text/plain; charset=utf-8", "no-cache")
        else:
            assert found == ("application/octet-stream", "public, max-age=31536000, immutable")


def test_a_later_export_asks_for_what_is_new_and_no_more(ledger, place, client, calls):
    records = Records(seed=2)
    ledger.checkpoint(records.take(5_000))
    publish(ledger, place)
    first = calls.total()
    calls.clear()
    ledger.checkpoint(records.take(10))
    report = publish(ledger, place)
    files = expected(ledger)
    print(f"first export: {first} requests; ten entries more: {dict(calls)}; {report}")
    # The last tile, the last bundle and the checkpoint; level 1 has not changed.
    assert report == ExportReport(5_010, 3, len(files) - 3, 0)
    assert calls == {"get_object": 1, "put_object": 3}
    assert objects(client, place).items() >= files.items()
    calls.clear()
    assert publish(ledger, place) == ExportReport(5_010, 0, len(files), 0)
    assert calls == {"get_object": 1}


def test_a_growing_log_leaves_what_a_folder_leaves(ledger, place, client, tmp_path):
    """Over 12 checkpoints: the same objects as in a folder, also where partial ones go."""
    records, folder = Records(seed=3, every_kind=True), tmp_path / "folder"
    removed = 0
    for step in range(12):
        ledger.checkpoint(records.take(30 + step * 97 % 200))
        report = publish(ledger, place)
        with ledger.read() as log:
            in_folder = export(log, FolderDestination(folder))
        assert report == in_folder
        assert objects(client, place) == published_files(folder)
        removed += report.removed
    print(f"{report.size} leaves in 12 exports, {removed} partial objects removed")
    assert removed > 8


def test_objects_with_other_bytes_are_named_and_kept(ledger, place, client):
    ledger.checkpoint(Records(seed=4).take(600))
    publish(ledger, place)
    files = expected(ledger)
    client.delete_object(Bucket=BUCKET, Key=key_of(place, "checkpoint"))
    for path in files.keys() - {"checkpoint"}:
        other = files[path][:-1] + bytes([files[path][-1] ^ 1])
        client.put_object(Bucket=BUCKET, Key=key_of(place, path), Body=other)
        with pytest.raises(BadPublication) as caught:
            publish(ledger, place)
        assert caught.value.path == path
        found = objects(client, place)
        assert found[path] == other
        assert "checkpoint" not in found
        client.put_object(Bucket=BUCKET, Key=key_of(place, path), Body=files[path])
    assert publish(ledger, place) == ExportReport(600, 1, len(files) - 1, 0)


def test_a_damaged_database_publishes_no_checkpoint(ledger, place, client):
    ledger.checkpoint(Records(seed=4).take(600))
    for column, table, where in [
        ("hashes", "ledger_tile", "level = 0 AND number = 1"),
        ("entries", "ledger_bundle", "number = 0"),
    ]:
        ((raw,),) = ledger.sql(f"SELECT {column} FROM {table} WHERE {where}")
        damaged = bytes([raw[0], raw[1], raw[2] ^ 1]) + bytes(raw[3:])
        ledger.sql(f"UPDATE {table} SET {column} = ? WHERE {where}", damaged)
        with pytest.raises((BadPublication, Forked)):
            publish(ledger, place)
        assert "checkpoint" not in objects(client, place)
        ledger.sql(f"UPDATE {table} SET {column} = ? WHERE {where}", raw)
    publish(ledger, place)


@pytest.mark.parametrize(
    ("size", "origin", "raised"),
    [(600, ORIGIN, Forked), (300, ORIGIN, Forked), (601, ORIGIN, RolledBack),
     (300, "datakluis.example/elders", Forked)],
)  # fmt: skip
def test_another_log_or_history_is_not_overwritten(ledger, place, client, size, origin, raised):
    ledger.checkpoint(Records(seed=5).take(600))
    root = bytes(32) if origin == ORIGIN else NaiveTree(ledger.entries()).root(size)
    data = signed_checkpoint(size, root, origin).format().encode()
    client.put_object(Bucket=BUCKET, Key=key_of(place, "checkpoint"), Body=data)
    with pytest.raises(raised):
        publish(ledger, place)
    assert objects(client, place) == {"checkpoint": data}


def test_cosignatures_come_later_and_do_not_go(ledger, place, client):
    note = ledger.checkpoint(Records(seed=6).take(3))
    publish(ledger, place)
    other = signed_checkpoint(3, checkpoint_of(note).root, key=OTHER_KEY, name="getuige.example")
    both = type(note)(note.text, (*note.signatures, *other.signatures))
    ledger.sql("UPDATE ledger_checkpoint SET note = ?", both.format())
    assert publish(ledger, place) == ExportReport(3, 1, 2, 0)
    assert objects(client, place)["checkpoint"] == both.format().encode()
    ledger.sql("UPDATE ledger_checkpoint SET note = ?", note.format())
    assert publish(ledger, place) == ExportReport(3, 0, 3, 0)
    assert objects(client, place)["checkpoint"] == both.format().encode()


def test_pruned_objects_go_after_the_checkpoint_and_do_not_come_back(ledger, place, client):
    records = Records(seed=7)
    ledger.checkpoint(records.take(700))
    publish(ledger, place)
    ledger.checkpoint(records.take(100))
    report = publish(ledger, place, minimum=600)
    files = expected(ledger)
    # End indices 256 and 512 lie at or below 600.
    gone = {f"tile/{kind}/{number:03}" for kind in ("0", "entries") for number in (0, 1)}
    # Tile and bundle 2 have become full since 700 leaves, so their partial ones go too.
    assert report == ExportReport(800, 6, 0, 4 + 2)
    kept = {path for path in files if path not in gone}
    assert set(objects(client, place)) >= kept
    assert not gone & set(objects(client, place))
    assert publish(ledger, place, minimum=600).removed == 0
    assert not gone & set(objects(client, place))


# Two exports at once


class Interlude(BucketDestination):
    """Lets something happen between reading the checkpoint and replacing it."""

    def __init__(self, place, happening):
        super().__init__(place)
        self._happening = happening

    def settle(self):
        self._happening()
        return super().settle()


def race(ledger: Ledger, tmp_path, place: str) -> tuple[bytes, bytes]:
    """An export of 300 leaves during which another one publishes 500, from one history."""
    records = Records(seed=8)
    ledger.checkpoint(records.take(300))
    with ledger.read() as older:
        older.head()  # its snapshot begins here
        small = note_of(ledger).format().encode()
        ledger.checkpoint(records.take(200))
        large = note_of(ledger).format().encode()
        with pytest.raises(PublicationMoved):
            export(older, Interlude(place, lambda: publish(ledger, place)))
    return small, large


@pytest.mark.parametrize("published", [0, 100])
def test_of_two_exports_at_once_none_takes_back_what_the_other_published(
    ledger, tmp_path, place, client, published
):
    if published:
        ledger.checkpoint(Records(seed=9).take(published))
        publish(ledger, place)
    _, large = race(ledger, tmp_path, place)
    assert objects(client, place)["checkpoint"] == large
    assert list(read_entries(BucketSource(place), KEYS).entries()) == ledger.entries()


def test_control_without_the_condition_the_checkpoint_is_rolled_back(
    ledger, tmp_path, place, client, monkeypatch
):
    real = Bucket.put

    def unconditional(self, path, data, condition):
        return real(self, path, data, {} if path == "checkpoint" else condition)

    monkeypatch.setattr(Bucket, "put", unconditional)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        race(ledger, tmp_path, place)
    assert b"\n300\n" in objects(client, place)["checkpoint"]


def test_many_exports_at_once_end_with_the_whole_log(ledger, place, client):
    ledger.checkpoint(Records(seed=10).take(1_000))
    outcomes: Counter[str] = Counter()

    def one() -> None:
        try:
            publish(ledger, place)
            outcomes["done"] += 1
        except PublicationMoved:
            outcomes["moved"] += 1

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    print(f"six exports at once: {dict(outcomes)}")
    assert outcomes["done"] >= 1
    assert outcomes.total() == 6
    assert objects(client, place) == expected(ledger)


# Breaking off


class Puts:
    """Fails at one of the puts, before it reaches the server or after."""

    def __init__(self, patch: pytest.MonkeyPatch, fail_at: int) -> None:
        self.reached = 0
        self._lock, self._fail_at = threading.Lock(), fail_at
        real = Bucket.put

        def put(bucket, path, data, condition):
            self._step()
            result = real(bucket, path, data, condition)
            self._step()
            return result

        patch.setattr(Bucket, "put", put)

    def _step(self) -> None:
        with self._lock:
            self.reached += 1
            if self.reached == self._fail_at:
                raise Injected(f"step {self.reached}")


def test_p5_an_export_that_breaks_off_anywhere_leaves_a_whole_log(
    ledger, place, client, monkeypatch
):
    """Before and after each put: a reader finds the old tree or the new one."""
    records = Records(seed=12)
    ledger.checkpoint(records.take(200))
    base = expected(ledger)
    ledger.checkpoint(records.take(100))
    files = expected(ledger)
    outcomes: Counter[str] = Counter()
    for fail_at in itertools.count(1):
        here = f"{place}-{fail_at}"
        for path, data in base.items():
            client.put_object(Bucket=BUCKET, Key=key_of(here, path), Body=data)
        with monkeypatch.context() as patch:
            steps = Puts(patch, fail_at)
            try:
                publish(ledger, here)
                broke = False
            except Injected:
                broke = True
        assert broke == (steps.reached >= fail_at)
        found = read_entries(BucketSource(here), KEYS)
        assert list(found.entries()) == ledger.entries()[: found.size]
        outcomes[f"{found.size} published"] += 1
        publish(ledger, here)
        assert objects(client, here).items() >= files.items()
        if not broke:
            break
    print(f"broken off at {fail_at - 1} steps: {dict(outcomes)}")
    assert set(outcomes) == {"200 published", "300 published"}


def test_a_checkpoint_that_was_written_though_its_answer_got_lost_counts(
    ledger, place, monkeypatch
):
    """boto3 repeats a put whose answer does not come, and then the condition fails on itself."""
    ledger.checkpoint(Records(seed=12).take(20))
    real = Bucket.put

    def twice(self, path, data, condition):
        real(self, path, data, condition)
        return real(self, path, data, condition)

    monkeypatch.setattr(Bucket, "put", twice)
    report = publish(ledger, place)
    assert (report.size, report.written + report.kept) == (20, 3)


# Reading


def test_a_bucket_is_read_like_a_folder(ledger, place, tmp_path):
    ledger.checkpoint(Records(seed=13, every_kind=True).take(600))
    publish(ledger, place)
    source = source_at(place)
    found = read_entries(source, KEYS)
    assert list(found.entries()) == ledger.entries()
    for path, data in expected(ledger).items():
        assert source.read(path) == data
    for path in ("tile/0/000.p/7", "tile/3/000", "tile/entries/009"):
        with pytest.raises(SourceMissing):
            source.read(path)
    for path in ("", "..", "tile/0/000/", "ids.json", "tile/0/../0/000"):
        with pytest.raises(Malformed):
            source.read(path)


def test_an_object_that_is_too_large_is_refused(place, client):
    client.put_object(Bucket=BUCKET, Key=key_of(place, "tile/0/000"), Body=bytes(8_193))
    with pytest.raises(BadPublication, match="more than 8192"):
        BucketSource(place).read("tile/0/000")


# Places and configuration


@pytest.mark.parametrize(
    "place",
    ["s3://", "s3://a", "s3://Upper/x", "s3://bucket//x", "s3://bucket/../x", "s3://bucket/x/..",
     "s3://bucket/./x", "s3://user:geheim@bucket/x", "s3://bucket/x?y", "s3://bucket/x#y",
     "s3://bucket/x y", "s3://bucket/%2e", "S3://bucket/x", "s3://bucket/é", "s3://bucket/x\n"],
)  # fmt: skip
def test_another_place_is_refused_and_not_repeated(place):
    with pytest.raises(Malformed) as caught:
        Bucket(place)
    assert "geheim" not in str(caught.value)


@given(st.from_regex(r"s3://[a-z0-9.-]{3,20}(/[A-Za-z0-9._=?#%/-]{0,12}){0,3}", fullmatch=True))
def test_a_prefix_stays_what_it_is(place):
    match = bucket_module._PLACE.fullmatch(place)
    if match is not None:
        parts = match["prefix"].split("/")[1:]
        assert not {"", ".", ".."} & set(parts)
        assert place.rstrip("/") == f"s3://{match['bucket']}{match['prefix']}"


def test_places_lead_to_their_kind(tmp_path, configured):
    assert isinstance(source_at(tmp_path), FolderSource)
    assert isinstance(source_at("https://ledger.example/hoorn"), HttpSource)
    assert isinstance(source_at(f"s3://{BUCKET}"), BucketSource)
    assert isinstance(destination_at(tmp_path), FolderDestination)
    assert isinstance(destination_at(f"s3://{BUCKET}"), BucketDestination)
    (tmp_path / "file").touch()
    with pytest.raises(Malformed, match="is a file"):
        destination_at(tmp_path / "file")
    with pytest.raises(Malformed, match="not over HTTP"):
        destination_at("https://ledger.example/hoorn")


TROUBLES = {
    "another secret": ({"AWS_SECRET_ACCESS_KEY": "x" * 40}, "the secret key is not that"),
    "an unknown key": ({"AWS_ACCESS_KEY_ID": "AKIANOBODYNOBODYNOBO"}, "the access key is not"),
    "no credentials": (
        {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None,
         "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_CONFIG_FILE": "/nonexistent"},
        "there are no credentials",
    ),
    "nobody listens": ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, "there is no connection"),
    "no address": ({"AWS_ENDPOINT_URL_S3": "nonsense"}, "boto3 gives up with ValueError"),
    "no such profile": ({"AWS_PROFILE": "nobody"}, "there are no credentials"),
}  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_is_told_without_secrets(ledger, place, monkeypatch, trouble):
    changes, told = TROUBLES[trouble]
    ledger.checkpoint(Records(seed=14).take(3))
    for name, value in changes.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(SourceUnreachable) as caught:
        publish(ledger, place)
    assert told in str(caught.value)
    assert_silent(caught.value)


def test_a_bucket_that_is_not_there_is_told(ledger, configured):
    ledger.checkpoint(Records(seed=14).take(3))
    for call in (
        lambda: publish(ledger, "s3://not-there/x"),
        lambda: BucketSource("s3://not-there/x").read("checkpoint"),
    ):
        with pytest.raises(SourceUnreachable, match="there is no such bucket"):
            call()
    with pytest.raises(DestinationUnreachable, match="there is no such bucket"):
        list(Bucket("s3://not-there/x").paths("tile/"))


def assert_silent(error: LedgerError) -> None:
    shown = "".join(map(repr, (error, error.__cause__, error.args))) + str(error)
    for secret in (ACCESS_KEY, SECRET_KEY, "AKIANOBODY", "127.0.0.1", "test-"):
        assert secret not in shown
    assert error.__cause__ is None


# The command


@pytest.fixture
def kluis(tmp_path, monkeypatch) -> WatchedKluis:
    """A vault of which the passphrase costs little to open."""
    monkeypatch.setattr(keyfile, "_MEMORY_KIB", 64)
    monkeypatch.setattr(keyfile, "_ITERATIONS", 1)
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n")
    monkeypatch.setenv("KLUIS_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    assert run("init", tmp_path / "vault").code == 0
    return WatchedKluis(tmp_path / "vault")


def test_the_command_publishes_to_a_bucket_and_says_what_is_wrong(
    kluis, place, client, monkeypatch
):
    first = kluis("ledger", "export", place, "--json")
    assert (first.code, first.err) == (0, "")
    assert first.json["written"] >= 1
    again = kluis("ledger", "export", place)
    assert again.code == 0
    assert re.search(r"\d+ entries in s3://\S+: 0 files written, \d+ kept\.", again.text)
    assert "checkpoint" in objects(client, place)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    refused = kluis("ledger", "export", place)
    assert refused.code == 8
    assert refused.err.count("\n") == 1
    assert ACCESS_KEY not in refused.err
    assert kluis("ledger", "export", "s3://Not_A_Bucket/x").code == 2
    assert kluis("ledger", "export", "https://ledger.example").code == 2


def test_a_restore_replays_what_a_bucket_calls_erased(kluis, place, tmp_path):
    kept, erased = kluis.put(), kluis.put()
    data, keys = tmp_path / "data.kluis", tmp_path / "keys.kluis"
    assert kluis("backup", "data", data).code == 0
    assert kluis("backup", "keys", keys).code == 0
    kluis.erase(erased)
    assert kluis("ledger", "export", place).code == 0
    new = tmp_path / "new"
    named = ("--data", data, "--keys", keys, "--ledger", place)
    restored = kluis("restore", new, *named, "--rootkey", kluis.folder / "keys")
    assert restored.code == 0, restored.err
    assert run("-C", new, "get", kept).code == 0
    assert run("-C", new, "get", erased).code == 4
    absent = kluis("restore", tmp_path / "other", *named[:-1], f"{place}-absent")
    assert absent.code == 2
    assert "has no file checkpoint" in absent.err
