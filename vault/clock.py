"""Where time comes from: a clock that tests and rehearsals can replace."""

from __future__ import annotations

import datetime as dt
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> int:
        """Return Unix seconds, UTC."""
        ...

    def today(self) -> dt.date:
        """Return the day in the time zone of this process, which should be the municipality's."""
        ...


class SystemClock:
    """The operating system's clock and time zone."""

    def now(self) -> int:
        """See `Clock.now`."""
        return int(time.time())

    def today(self) -> dt.date:
        """See `Clock.today`."""
        return dt.date.fromtimestamp(time.time())
