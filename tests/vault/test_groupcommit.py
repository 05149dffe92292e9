"""Threads that write at once share a transaction, and each learns what became of its own item."""

import threading
import time

import pytest

from vault.groupcommit import GroupCommit


def run_threads(count, work):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_every_item_is_written_once_in_few_groups():
    groups = []

    def write(group):
        time.sleep(0.01)
        groups.append(list(group))

    commit = GroupCommit(write)
    run_threads(32, lambda number: [commit.submit((number, turn)) for turn in range(5)])
    written = [item for group in groups for item in group]
    print(f"{len(written)} items in {len(groups)} groups")
    assert sorted(written) == sorted((number, turn) for number in range(32) for turn in range(5))
    assert len(groups) < len(written) / 4


def test_an_item_is_durable_when_submit_returns():
    durable, seen = set(), []

    def write(group):
        time.sleep(0.002)
        durable.update(group)

    def work(number):
        commit.submit(number)
        seen.append(number in durable)

    commit = GroupCommit(write)
    run_threads(16, work)
    assert seen == [True] * 16


def test_a_failed_group_fails_for_each_in_it_and_the_next_goes_on():
    def write(group):
        time.sleep(0.005)
        if "bad" in group:
            raise OSError("disk full")
        written.extend(group)

    written, failed = [], []
    commit = GroupCommit(write)

    def work(number):
        item = "bad" if number == 3 else number
        try:
            commit.submit(item)
        except OSError:
            failed.append(item)

    run_threads(8, work)
    assert "bad" in failed
    assert len(written) + len(failed) == 8
    commit.submit("later")
    assert written[-1] == "later"
    with pytest.raises(OSError, match="disk full"):
        commit.submit("bad")


def test_an_interrupt_reaches_only_the_thread_that_wrote_and_the_turn_goes_on():
    def write(group):
        time.sleep(0.02)
        if "interrupt" in group:
            raise KeyboardInterrupt
        written.extend(group)

    written, ends = [], {}
    commit = GroupCommit(write)

    def work(number):
        item = "interrupt" if number == 0 else number
        try:
            commit.submit(item)
            ends[number] = "stored"
        except BaseException as error:
            ends[number] = type(error).__name__

    run_threads(6, work)
    print(ends)
    assert list(ends.values()).count("KeyboardInterrupt") == 1
    assert set(ends.values()) <= {"KeyboardInterrupt", "Busy", "stored"}
    commit.submit("later")
    assert written[-1] == "later"
