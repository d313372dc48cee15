"""A clock that stands still until a test moves it."""

from typing import Final

START_TIME: Final = 1_700_000_000.25


class SettableClock:
    """Tells the time that it was set to."""

    def __init__(self, start: float = START_TIME) -> None:
        self._now = start

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Move on by so many seconds; answers the new time. A negative number moves back."""
        self._now += seconds
        return self._now
