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

Item = TypeVar("Item")


@dataclass(slots=True, eq=False)
class _Ticket(Generic[Item]):
    """One waiting item. `woken` is set when the item is written or its owner's turn has come."""

    item: Item
    woken: threading.Event | None = None
    done: bool = False
    error: BaseException | None = None


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
        """
        ticket = _Ticket(item)
        with self._lock:
            self._waiting.append(ticket)
            if self._writing:
                ticket.woken = threading.Event()
            self._writing = True
        if ticket.woken is not None:
            try:
                ticket.woken.wait()
            except BaseException:
                self._leave(ticket)
                raise
        if not ticket.done:
            self._write_all_waiting()
        if ticket.error is not None:
            raise ticket.error

    def _write_all_waiting(self) -> None:
        with self._lock:
            group, self._waiting = self._waiting, []
        try:
            self._write([ticket.item for ticket in group])
        except BaseException as error:  # each owner raises it, the one who writes included
            for ticket in group:
                ticket.error = error
        for ticket in group:
            ticket.done = True
            if ticket.woken is not None:
                ticket.woken.set()
        with self._lock:
            self._pass_turn()

    def _leave(self, ticket: _Ticket[Item]) -> None:
        """Take back an item whose owner was interrupted, unless somebody is writing it already."""
        with self._lock:
            if ticket in self._waiting:
                had_turn = ticket is self._waiting[0] and not ticket.done
                self._waiting.remove(ticket)
                if had_turn and ticket.woken is not None and ticket.woken.is_set():
                    self._pass_turn()

    def _pass_turn(self) -> None:
        self._writing = bool(self._waiting)
        if self._waiting and self._waiting[0].woken is not None:
            self._waiting[0].woken.set()
