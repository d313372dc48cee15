"""What calls have been answered, by their key, so that a repeat gets the same answer."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

Claims = tuple[tuple[str, str], ...]
"""Rollout and attempt id of each rollout that was claimed."""

_OVERHEAD_BYTES: Final = 400
"""About what an entry costs besides its body."""


@dataclass(frozen=True)
class Outcome:
    """The answer to a call that has succeeded.

    Attributes:
        body: JSON, as our own client reads it.
        is_cut: A wait was ended before the caller's own time was over.
        claims: What was taken for the caller.
    """

    body: bytes
    is_cut: bool = False
    claims: Claims = ()


class Answers:
    """Outcomes by key, bounded in age, number and bytes; the oldest are dropped first."""

    def __init__(self, *, seconds: float, most: int = 100_000, most_bytes: int = 64 << 20) -> None:
        """Set up.

        Args:
            seconds: Longest time that an outcome is kept.
            most: Most outcomes.
            most_bytes: About the most memory that they take.
        """
        self._seconds = seconds
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, tuple[float, Outcome]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> Outcome | None:
        """The outcome of a call; None when it is not known."""
        self._drop_old()
        kept = self._kept.get(key)
        return None if kept is None else kept[1]

    def keep(self, key: str, outcome: Outcome) -> None:
        """Keep an outcome."""
        self.drop(key)
        self._kept[key] = (time.monotonic() + self._seconds, outcome)
        self._bytes += _size(key, outcome)
        self._drop_old()

    def drop(self, key: str) -> None:
        """Forget an outcome, if there is one."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= _size(key, kept[1])

    def _drop_old(self) -> None:
        now = time.monotonic()
        while self._kept:
            key, (until, _) = next(iter(self._kept.items()))
            if until > now and len(self._kept) <= self._most and self._bytes <= self._most_bytes:
                return
            self.drop(key)


def _size(key: str, outcome: Outcome) -> int:
    return len(key) + len(outcome.body) + _OVERHEAD_BYTES
