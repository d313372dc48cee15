"""The time of a memory store's operations."""

from collections.abc import Callable
from typing import Final

_READ_NOTE_SECONDS: Final = 1.0
"""Reads note the time only when the last note is older."""


class NamespaceClock:
    """The time of operations: it never runs backwards, and outages of the store are noticed."""

    def __init__(self, read_clock: Callable[[], float], grace_seconds: float) -> None:
        """Start without a history.

        Args:
            read_clock: The present time; looked up at each use.
            grace_seconds: A longer gap between operations counts as an outage.
        """
        self._read_clock = read_clock
        self._grace_seconds = grace_seconds
        self._last: float | None = None
        self.resumed_time: float | None = None

    def peek(self) -> float:
        """The present time, without a trace."""
        now = self._read_clock()
        return now if self._last is None else max(now, self._last)

    def note(self) -> float:
        """The present time, as the time of an operation that writes."""
        now = self.peek()
        if self._last is not None and now - self._last > self._grace_seconds:
            self.resumed_time = now
        self._last = now
        return now

    def note_read(self) -> float:
        """The present time, as the time of a read that settles: noted once a second only."""
        now = self.peek()
        if self._last is not None and now - self._last > _READ_NOTE_SECONDS:
            return self.note()
        return now
