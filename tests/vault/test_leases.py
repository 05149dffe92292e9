"""Leases: for whom a destruction waits, for whom it does not, and what that one forgets."""

import errno
import fcntl
import math
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sdk_calls import CONSENT, put

from vault import Busy, Erased, TreeMoved, Vault, WrongPassphrase, leases
from vault.leases import FOLDER, LEASE_SECONDS, Holder, Lease, holders
from vault.rootkeys.provider import TreeNumber

ORDINARY, PERMANENT = TreeNumber
# Of process 4242, which has generation 7 and 3 and leases that end at 1,040 s and 1,030 s.
GOLDEN = bytes.fromhex(
    "444b4c3100000000000010920000000000000007000000000000000300000000000fde8000000000000fb770"
)


@pytest.fixture
def time_is(monkeypatch):
    """Sets what time it is for every lease of this process."""
    moment = [1_000.0]
    monkeypatch.setattr(leases, "now", lambda: moment[0])

    def set_to(seconds):
        moment[0] = seconds

    return set_to


def lease_files(folder):
    # The file by which one process at a time closes an epoch is no lease.
    return sorted(path for path in (folder / FOLDER).iterdir() if path.suffix != ".new")


def the_file(folder):
    (path,) = lease_files(folder)
    return path


# The file


def test_the_format_to_the_byte(time_is, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 4_242)
    lease = Lease(tmp_path)
    lease.acknowledge(PERMANENT, 3)
    time_is(1_010.0)
    lease.acknowledge(ORDINARY, 7)
    assert the_file(tmp_path).read_bytes() == GOLDEN
    assert list(holders(tmp_path)) == [Holder(4_242, (7, 3), (1_040.0, 1_030.0))]
    assert len(the_file(tmp_path).name) == 32
    assert stat.S_IMODE((tmp_path / FOLDER).stat().st_mode) == 0o700
    lease.end()


def test_a_lease_that_has_read_nothing_may_be_reading_anything(tmp_path):
    lease = Lease(tmp_path)
    (holder,) = holders(tmp_path)
    assert (holder.process, holder.generations) == (os.getpid(), (0, 0))
    assert all(holder.is_behind(tree, 1) for tree in TreeNumber)
    lease.acknowledge(ORDINARY, 1)
    (holder,) = holders(tmp_path)
    assert [holder.is_behind(tree, 1) for tree in TreeNumber] == [False, True]
    lease.end()
    lease.end()
    assert lease_files(tmp_path) == []
    lease.acknowledge(ORDINARY, 2)  # by an operation that was under way
    assert lease_files(tmp_path) == []


@pytest.mark.parametrize(
    ("generation", "end", "is_behind"),
    [
        (0, 1_001.0, True),
        (4, 1_000.001, True),
        (5, 1_030.0, False),
        (6, 1_030.0, False),
        (0, 1_000.0, False),
        (4, 999.0, False),
    ],
)
def test_who_is_waited_for(time_is, generation, end, is_behind):
    time_is(1_000.0)
    for tree in TreeNumber:
        # What it says of the other tree counts for nothing.
        generations, ends = [0, 0], [2_000.0, 2_000.0]
        generations[tree], ends[tree] = generation, end
        assert Holder(1, tuple(generations), tuple(ends)).is_behind(tree, 5) is is_behind


def test_it_is_renewed_in_its_second_half_and_never_goes_back(time_is, tmp_path):
    lease = Lease(tmp_path, 30)
    lease.acknowledge(ORDINARY, 5)
    first = the_file(tmp_path).read_bytes()
    for moment, generation in ((1_001.0, 5), (1_014.0, 4), (1_014.9, 1)):
        time_is(moment)
        lease.acknowledge(ORDINARY, generation)
        assert the_file(tmp_path).read_bytes() == first  # reading costs no write
    time_is(1_016.0)
    lease.acknowledge(ORDINARY, 4)  # from an older snapshot
    (holder,) = holders(tmp_path)
    assert (holder.generations, holder.ends) == ((5, 0), (1_046.0, 1_030.0))
    time_is(1_030.0)
    assert (lease.is_over(ORDINARY), lease.is_over(PERMANENT)) == (False, True)
    time_is(1_046.0)
    assert lease.is_over(ORDINARY)
    lease.end()


def test_for_the_others_it_is_never_over_before_it_is_for_its_owner(time_is, tmp_path):
    for moment in (1_000.0001, 1_000.0004, 1_000.0009, 1e6 + 1 / 3, math.pi * 1e5):
        time_is(moment)
        lease = Lease(tmp_path, 1 / 3)
        (holder,) = holders(tmp_path)
        for tree in TreeNumber:
            time_is(math.nextafter(moment + 1 / 3, 0))
            assert not lease.is_over(tree)
            assert holder.is_behind(tree, 1)
        lease.end()


def test_a_lease_that_cannot_be_written_is_not_thought_to_be_renewed(
    time_is, tmp_path, monkeypatch
):
    lease = Lease(tmp_path, 30)
    lease.acknowledge(ORDINARY, 1)
    before = the_file(tmp_path).read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    time_is(1_020.0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(Busy, match="leases cannot be written: No space left on device"):
            lease.acknowledge(ORDINARY, 2)
    assert the_file(tmp_path).read_bytes() == before
    time_is(1_030.0)
    assert lease.is_over(ORDINARY)
    lease.acknowledge(ORDINARY, 2)
    assert not lease.is_over(ORDINARY)
    (holder,) = holders(tmp_path)
    assert holder.generations == (2, 0)
    lease.end()


def test_stale_and_foreign_files(tmp_path):
    alive, own = Lease(tmp_path), Lease(tmp_path)
    folder = tmp_path / FOLDER
    (folder / "stale").write_bytes(GOLDEN)
    (folder / "torn").write_bytes(GOLDEN[:20])
    (folder / "empty").touch()
    (folder / "shredding.new").touch()  # by which one process at a time closes an epoch
    (folder / "beginning.new").write_bytes(GOLDEN)  # nobody has locked it yet
    found = list(holders(tmp_path, but=own))
    assert [one.process for one in found] == [os.getpid()]
    kept = {path.name for path in folder.iterdir()}
    assert kept == {"shredding.new", "beginning.new", alive._path.name, own._path.name}
    assert len(list(holders(tmp_path))) == 2
    # Held by somebody, but no lease.
    with (folder / "locked").open("w+b") as foreign:
        fcntl.flock(foreign, fcntl.LOCK_EX)
        for content in (b"", GOLDEN[:43], b"DKL2" + GOLDEN[4:], b"x" * 44, GOLDEN[1:]):
            foreign.truncate(0)
            os.pwrite(foreign.fileno(), content, 0)
            assert len(list(holders(tmp_path))) == 2
            assert (folder / "locked").exists()
        os.pwrite(foreign.fileno(), GOLDEN, 0)
        assert 4_242 in [one.process for one in holders(tmp_path)]  # the control
    alive.end()
    own.end()


@given(st.binary(max_size=60) | st.binary(min_size=40, max_size=40).map(b"DKL1".__add__))
def test_what_is_read_is_what_would_be_written(record):
    holder = leases._read(record)
    if holder is None:
        assert len(record) < 44 or record[:4] != b"DKL1"
        return
    # Milliseconds of more than 285,000 years do not fit a float; no clock shows them.
    if all(end < 2**53 / 1_000 for end in holder.ends):
        milliseconds = [round(end * 1_000) for end in holder.ends]
        numbers = (holder.process, *holder.generations, *milliseconds)
        assert struct.pack(">4sQQQQQ", b"DKL1", *numbers) == record[:44]


# Processes

HOLDER = """
import sys, time
from pathlib import Path
from vault.leases import Lease
lease = Lease(Path(sys.argv[1]), float(sys.argv[2]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holding():
    """Starts a process that holds a lease and does nothing more."""
    started = []

    def start(folder, seconds=600.0):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), str(seconds)], stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_killed_process_keeps_nobody_waiting(vault, vault_folder, holding):
    vault.erase(put(vault), CONSENT)
    process = holding(vault_folder)
    assert vault.shred_status().processes == (process.pid,)
    with pytest.raises(Busy, match=f"it waits for process {process.pid}, which has not ack"):
        vault.shred(patience=0.1)
    assert (vault_folder / "keys" / "root-1.key").exists()
    status = vault.shred_status()
    assert status.step == "rehearsed"
    assert (
        status.waits_for == f"process {process.pid}, which has not acknowledged the new generation"
    )
    process.send_signal(signal.SIGSTOP)  # one that sleeps lives
    assert len(list(holders(vault_folder, but=vault._core.lease))) == 1
    process.kill()
    process.wait()
    assert len(lease_files(vault_folder)) == 2
    assert vault.shred(patience=0).gone == ((ORDINARY, 1),)
    assert not (vault_folder / "keys" / "root-1.key").exists()
    assert len(lease_files(vault_folder)) == 1
    assert vault.shred_status().processes == ()


def test_one_that_sleeps_is_waited_for_until_its_lease_is_over(vault, vault_folder, holding):
    vault.erase(put(vault), CONSENT)
    begun = time.monotonic()
    process = holding(vault_folder, 3.0)
    process.send_signal(signal.SIGSTOP)
    report = vault.shred(patience=20)
    assert report.gone == ((ORDINARY, 1),)
    assert time.monotonic() - begun >= 3.0
    assert process.poll() is None


def test_a_living_one_is_waited_for_until_it_acknowledges(vault, vault_folder, reopen):
    kept, gone = put(vault, b"kept"), put(vault)
    other = reopen()
    assert other.get(gone) == b"{}"
    vault.erase(gone, CONSENT)
    reports = []
    shredder = threading.Thread(target=lambda: reports.append(vault.shred(patience=60)))
    shredder.start()
    deadline = time.monotonic() + 30
    while vault_generation(other) != 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    shredder.join(1.0)
    assert shredder.is_alive()
    assert reports == []
    assert (vault_folder / "keys" / "root-1.key").exists()
    # Its next operation, whatever that is, acknowledges.
    assert other.get(kept) == b"kept"
    shredder.join(30)
    assert [report.gone for report in reports] == [((ORDINARY, 1),)]
    with pytest.raises(Erased):
        other.get(gone)


def vault_generation(vault):
    """Look past the SDK, which would acknowledge."""
    rows = vault._core.database.fetch("SELECT generation FROM vault_tree WHERE id = 1", ())
    return rows[0][0]


# The owner of a lease that is over


def memory_of(tree):
    return dict(tree._epoch_keys), dict(tree._cache)


def keys_in(memory):
    epoch_keys, nodes = memory
    return b"".join([*epoch_keys.values(), *nodes.values()])


def test_the_owner_of_an_ended_lease_forgets_before_it_goes_on(
    time_is, vault, reopen, vault_folder
):
    kept, gone = put(vault, b"kept"), put(vault)
    sleeper = reopen()
    assert sleeper.get(gone) == b"{}"
    assert sleeper.find("999990019") == [kept, gone]
    tree = sleeper._core.tree
    before = memory_of(tree)
    assert [len(part) for part in before] == [1, 4]
    (epoch_key,) = before[0].values()
    vault.erase(gone, CONSENT)
    with pytest.raises(Busy):
        vault.shred(patience=0)
    time_is(1_000.0 + LEASE_SECONDS)
    # It still has it all, and nobody waits for it any more.
    assert memory_of(tree) == before
    report = vault.shred(patience=0)
    assert report.gone == ((ORDINARY, 1),)
    assert tree.cached_key(*tree._label, 0) is None
    with sleeper._core.database.read() as connection:
        tree.state(connection)
        assert memory_of(tree) == ({}, {})
        assert sleeper._core._buckets.keys(tree._label) == {}
    (holder,) = holders(vault_folder, but=vault._core.lease)
    assert holder.generations[ORDINARY] == 2
    with pytest.raises(Erased):
        sleeper.get(gone)
    assert sleeper.get(kept) == b"kept"
    after = memory_of(tree)
    assert list(after[0]) == [2]
    assert epoch_key not in keys_in(after)


def test_in_an_older_snapshot_it_gets_nothing_more(time_is, vault, reopen):
    """It slept within a transaction: that snapshot is of a generation that is gone."""
    gone = put(vault)
    sleeper = reopen()
    assert sleeper.get(gone) == b"{}"
    tree = sleeper._core.tree
    with sleeper._core.database.read() as connection:
        old = tree.state(connection)
        assert old.generation == 1
        vault.erase(gone, CONSENT)
        time_is(1_000.0 + LEASE_SECONDS)
        assert vault.shred(patience=0).gone == ((ORDINARY, 1),)
        with pytest.raises(TreeMoved):
            tree.key(connection, tree.state(connection), 0)
        assert memory_of(tree) == ({}, {})
    with pytest.raises(Erased):
        sleeper.get(gone)
    assert sleeper.find("999990019") == []
    assert sleeper.put(b"more", category="nieuwsbrief", subject="999990019")


def test_each_tree_has_a_lease_of_its_own(time_is, vault, reopen):
    ordinary = put(vault, b"ordinary")
    permanent = put(vault, b"permanent", category="organisatie")
    reader = reopen()
    assert [reader.get(one) for one in (ordinary, permanent)] == [b"ordinary", b"permanent"]
    trees = reader._core.trees
    time_is(1_000.0 + LEASE_SECONDS * 0.9)
    assert reader.get(ordinary) == b"ordinary"
    time_is(1_000.0 + LEASE_SECONDS)
    assert [reader._core.lease.is_over(tree) for tree in TreeNumber] == [False, True]
    kept = memory_of(trees[ORDINARY])
    assert reader.get(permanent) == b"permanent"
    assert [reader._core.lease.is_over(tree) for tree in TreeNumber] == [False, False]
    assert memory_of(trees[ORDINARY]) == kept


def test_one_that_goes_on_working_never_loses_its_memory(time_is, vault, monkeypatch):
    pointer = put(vault, b"x")
    forgotten = []
    monkeypatch.setattr(vault._core.tree, "_on_forget", lambda: forgotten.append(1))
    for step in range(100):
        time_is(1_000.0 + step * LEASE_SECONDS / 2)
        assert vault.get(pointer) == b"x"
    assert forgotten == []


def test_a_vault_that_does_not_open_leaves_no_lease(vault_folder, passphrase):
    with pytest.raises(WrongPassphrase):
        Vault.open(vault_folder, passphrase + "!")
    (vault_folder / "keys" / "root-1.key").unlink()
    with pytest.raises(Exception, match="is gone"):
        Vault.open(vault_folder, passphrase)
    assert lease_files(vault_folder) == []


def test_a_vault_that_is_closed_gives_its_lease_back(vault_folder, passphrase):
    opened = Vault.open(vault_folder, passphrase)
    (holder,) = holders(vault_folder)
    # Both trees are read when it opens, so that it keeps nobody waiting for nothing.
    assert holder.generations == (1, 1)
    opened.close()
    assert lease_files(vault_folder) == []
