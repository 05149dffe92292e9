"""Group commit: threads that write at the same time share one durable transaction.

A durable commit costs a flush of the disk, whatever it holds. So whoever gets the turn writes
everything that is waiting, and the others find their work done when they get it. A thread alone
pays one more lock. Tested in tests/vault/test_groupcommit.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from vault.errors import Busy

Item = TypeVar("Item")


@dataclass(slots=True, eq=False)
class _Ticket(Generic[Item]):
    """One waiting item. `woken` is set when the item is written or its owner's turn has come."""

    item: Item
    woken: threading.Event | None = None
    done: bool = False
    error: Exception | None = None


class GroupCommit(Generic[Item]):
    """Collects items and writes them in groups.

    The turn is handed from thread to thread in the order of arrival: whoever comes while one writes
    has to wait, so that one busy thread cannot keep the turn and leave the groups small.

    Args:
        write: makes a group durable, or raises and has changed nothing.
    """

    def __init__(self, write: Callable[[list[Item]], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._waiting: list[_Ticket[Item]] = []
        self._writing = False

    def submit(self, item: Item) -> None:
        """Return when an item is durable.

        Raises:
            Exception: what `write` raised for the group in which the item was.
            Busy: whoever wrote the group was interrupted, so nobody knows whether it is durable.
        """
        ticket = _Ticket(item)
        with self._lock:
            self._waiting.append(ticket)
            if self._writing:
                ticket.woken = threading.Event()
            self._writing = True
        try:
            if ticket.woken is not None:
                ticket.woken.wait()
            if not ticket.done:
                self._write_all_waiting()
        except BaseException:
            self._leave(ticket)
            raise
        if ticket.error is not None:
            raise ticket.error

    def _write_all_waiting(self) -> None:
        """Write as the one whose turn it is, and pass the turn on whatever happens."""
        group: list[_Ticket[Item]] = []
        error: Exception | None = Busy("the writing was interrupted: look whether it is stored")
        try:
            with self._lock:
                group, self._waiting = self._waiting, []
            self._write([ticket.item for ticket in group])
            error = None
        except Exception as caught:
            error = caught
        finally:
            for ticket in group:
                ticket.error = error
                ticket.done = True
                if ticket.woken is not None:
                    ticket.woken.set()
            with self._lock:
                self._pass_turn()

    def _leave(self, ticket: _Ticket[Item]) -> None:
        """Take back an item whose owner was interrupted, unless it was written already."""
        with self._lock:
            if ticket in self._waiting:
                had_turn = ticket.woken is None or ticket.woken.is_set()
                self._waiting.remove(ticket)
                if had_turn:
                    self._pass_turn()

    def _pass_turn(self) -> None:
        self._writing = bool(self._waiting)
        if self._waiting and self._waiting[0].woken is not None:
            self._waiting[0].woken.set()
