"""The thread that notices what other processes do and what comes due, while somebody waits in this one."""

# ruff: noqa: S608 - statements are made of constants of ours; values are arguments

import json
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Final

from lightning_store.backends.sqlite.bell import Bell
from lightning_store.backends.sqlite.board import Board
from lightning_store.backends.sqlite.engine import Lane
from lightning_store.backends.sqlite.transaction import News
from lightning_store.clock import Clock
from lightning_store.errors import LightningStoreError
from lightning_store.status import FINISHED

logger = logging.getLogger("lightning_store")

LINGER_SECONDS: Final = 10.0
"""So long the thread stays when nobody waits: somebody may again."""

SAFETY_SECONDS: Final = 1.0
"""Interval of looks where rings are heard: a process may be killed between its commit and its ring."""

REST_SECONDS: Final = 0.001
"""Least time between looks, so that a busy file does not keep this thread busy."""

_ROUNDING_SECONDS: Final = 0.001
"""Slept beyond what is due: a deadline has passed only strictly after its instant."""

_SHORTEST_SLEEP_SECONDS: Final = 0.01
"""A clock that stands still must not make the thread spin."""

_FINISHED_LIST: Final = ", ".join(f"'{status}'" for status in sorted(FINISHED))


class Watcher:
    """Looks at the file for those on the board; from `start` until it is stopped or nobody has waited for a while."""

    def __init__(
        self, board: Board, lane: Lane, clock: Clock, *, settle: Callable[[], object], poll_seconds: float
    ) -> None:
        """Make a watcher that is not started.

        Args:
            board: Who waits.
            lane: Its connection.
            clock: The time that deadlines are compared with.
            settle: Settles all that is due, and returns when that is done.
            poll_seconds: Interval of looks where rings are not heard.
        """
        self._board = board
        self._lane = lane
        self._clock = clock
        self._settle = settle
        self._poll_seconds = poll_seconds
        self._lock = threading.Lock()
        self._bell: Bell | None = None
        self._is_stopped = False
        self._until = -math.inf
        self._version: tuple[int, int] | None = None
        self._last_completion: int | None = None
        self._last_check = -math.inf
        self._thread = threading.Thread(target=self._run, name="lightning-store-sqlite-watcher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._bell = Bell(self._lane.path)
        self._thread.start()

    def poke(self, due: float = -math.inf) -> bool:
        """Look soon: something is scheduled for `due`, or somebody waits now. False if the thread has ended."""
        with self._lock:
            if self._bell is None:
                return False
            if due < self._until:
                self._bell.poke()
            return True

    def stop(self) -> None:
        """End soon; from any thread."""
        self._is_stopped = True
        self.poke()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def drop(self) -> None:
        """In a forked child the thread does not exist, and what the bell has open is the parent's too."""
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.close()

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        bell = self._bell
        assert bell is not None  # noqa: S101 - set by start
        alone_since: float | None = None
        while not self._is_stopped:
            if self._board:
                alone_since = None
                seconds = self._look(SAFETY_SECONDS if bell.is_rung_by_others else self._poll_seconds)
            else:
                alone_since = alone_since or time.monotonic()
                seconds = alone_since + LINGER_SECONDS - time.monotonic()
                if seconds <= 0 and self._end():
                    return
            bell.wait(seconds)
            time.sleep(REST_SECONDS)
        self._end(whatever=True)

    def _end(self, *, whatever: bool = False) -> bool:
        with self._lock:
            if self._board and not whatever:
                return False
            bell, self._bell = self._bell, None
        if bell is not None:
            bell.close()
        self._lane.close()
        return True

    def _look(self, interval: float) -> float:
        """Look at the file, wake whom it concerns, settle what is due; how long to sleep."""
        try:
            soonest = self._lane.call(self._read)
            left = soonest - self._clock.now()
            if left <= 0:
                self._settle()
                left = self._lane.call(self._soonest) - self._clock.now()
        except LightningStoreError as error:
            logger.debug("looking for waiters failed: %s", error)
            self._board.wake_all()  # they meet the same error, or none any more
            return interval
        sleep = min(interval, max(left + _ROUNDING_SECONDS, _SHORTEST_SLEEP_SECONDS))
        self._until = self._clock.now() + sleep
        return sleep

    def _read(self, connection: sqlite3.Connection) -> float:
        # The number tells of changes by others, and only within one connection.
        version = (self._lane.openings, *connection.execute("PRAGMA data_version").fetchone())
        is_checked = time.monotonic() - self._last_check < SAFETY_SECONDS
        if version != self._version or not is_checked:
            self._version = version
            self._tell(connection, is_checked=is_checked)
        return self._soonest(connection)

    def _soonest(self, connection: sqlite3.Connection) -> float:
        row = connection.execute(
            "SELECT (SELECT min(deadline) FROM rollouts WHERE deadline IS NOT NULL), "
            "(SELECT min(ready_time) FROM rollouts WHERE ready_time IS NOT NULL)"
        ).fetchone()
        return min((time for time in row if time is not None), default=math.inf)

    def _tell(self, connection: sqlite3.Connection, *, is_checked: bool) -> None:
        wanted = self._board.wanted()
        finished, completed = self._finished(connection)
        if not is_checked:
            self._last_check = time.monotonic()
            finished |= self._gone(connection, wanted.rollouts)
        names = json.dumps(sorted(wanted.queues))
        live = connection.execute(
            "SELECT name, live FROM queues WHERE name IN (SELECT value FROM json_each(?))", (names,)
        ).fetchall()
        for name, count in live:
            self._board.hint(name, count)
        self._board.tell(News([], set(wanted.producers), finished, completed))

    def _finished(self, connection: sqlite3.Connection) -> tuple[set[str], bool]:
        """Rollouts that have finished since the last look, and whether there was any completion."""
        [last] = connection.execute("SELECT last_completion FROM meta").fetchone()
        before, self._last_completion = self._last_completion, last
        if before is None or before == last:
            return set(), before != last
        rows = connection.execute(
            "SELECT r.rollout_id FROM completions c JOIN rollouts r ON r.number = c.rollout WHERE c.number > ?",
            (before,),
        )
        return {id for (id,) in rows}, True

    def _gone(self, connection: sqlite3.Connection, rollout_ids: frozenset[str]) -> set[str]:
        """Which of the rollouts have finished, or were deleted."""
        if not rollout_ids:
            return set()
        rows = connection.execute(
            "SELECT j.value FROM json_each(?) j LEFT JOIN rollouts r ON r.rollout_id = j.value "
            f"WHERE r.number IS NULL OR r.status IN ({_FINISHED_LIST})",
            (json.dumps(sorted(rollout_ids)),),
        )
        return {id for (id,) in rows}
