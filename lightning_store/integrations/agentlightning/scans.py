"""How often Agent Lightning's stores look for late attempts, and in which calls."""

import math
import os
import threading
import time
import weakref
from typing import Any, Final

from lightning_store.requests import check_seconds

DEFAULT_SECONDS: Final = 10.0

SCANNING: Final = frozenset({
    "start_rollout", "enqueue_rollout", "enqueue_many_rollouts", "dequeue_rollout", "dequeue_many_rollouts",
    "start_attempt", "query_rollouts", "get_rollout_by_id", "query_attempts", "get_latest_attempt", "update_resources",
    "wait_for_rollouts", "query_spans", "update_rollout", "query_workers",
})  # fmt: skip
"""The calls in which upstream looks for late attempts before anything else, all but one.

`update_attempt` is left out: a success that arrives late, but before anyone has settled its attempt, counts with us. To
settle the attempt just before its own report would throw the result away.
"""

_ALL: Final[weakref.WeakSet["Debounce"]] = weakref.WeakSet()


class Debounce:
    """Lets a check through at most once per so many seconds, the first at once; from any thread.

    A copy, pickled or forked, starts anew.
    """

    def __init__(self, seconds: float) -> None:
        """Set the shortest time between two checks.

        Args:
            seconds: 0 = every check passes.

        Raises:
            InvalidRequestError: It is no finite number of 0 or more.
        """
        self.seconds = check_seconds(seconds, "scan_debounce_seconds")
        self.restart()
        _ALL.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Debounce, (self.seconds,)

    def restart(self) -> None:
        """Let the next check through."""
        self._lock = threading.Lock()
        self._last = -math.inf

    def passes(self) -> bool:
        """Whether the time for a check has come; if so, it counts as made."""
        with self._lock:
            now = time.monotonic()
            if now - self._last < self.seconds:
                return False
            self._last = now
            return True


def _after_fork() -> None:
    """A lock that another thread of the parent held would be held for ever."""
    for debounce in list(_ALL):
        debounce.restart()


os.register_at_fork(after_in_child=_after_fork)
