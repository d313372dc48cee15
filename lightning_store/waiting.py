"""Waiting without polling: lines of workers and producers, waits for finishes, and a timer for what comes due.

Whoever waits holds a future of the event loop that it runs on. A wake-up is only a hint: the woken coroutine looks for
itself, so one that was cancelled or ran out of time swallows nothing; it passes the hint on when it leaves.
"""

import asyncio
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from typing import Final

_ROUNDING_SECONDS: Final = 0.001
"""Slept beyond what is due: a deadline has passed only strictly after its instant."""

_SHORTEST_SLEEP_SECONDS: Final = 0.01
"""Lower limit of the timer's sleeps: a clock that stands still must not make it spin."""


class Wait:
    """One coroutine's wait on its event loop; a wake-up is kept until it is waited for."""

    def __init__(self, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + timeout
        self._future: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_over(self) -> bool:
        """The time is over."""
        return self._loop.time() >= self._ends

    def wake(self) -> bool:
        """Wake the coroutine, from any thread; False if its event loop is closed, so that it will never run."""
        if self._loop is _running_loop():
            self._resolve()
            return True
        try:
            self._loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:
            return False
        return True

    def end(self) -> None:
        """The time is over, from any thread; an ended wait wakes at once."""
        self._ends = -math.inf
        self.wake()

    async def woken(self) -> None:
        """Return when woken, or when the time is over; at once if either was so before."""
        timer = None if self._ends == math.inf else self._loop.call_at(self._ends, self._resolve)
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()
            self._future = self._loop.create_future()

    def _resolve(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Ticket(Wait):
    """A worker's place in the line; `is_called` while it holds a hint."""

    def __init__(self, number: int, queues: tuple[str, ...], timeout: float) -> None:
        super().__init__(timeout)
        self.number = number
        self.queues = queues
        self.is_called = False


class ClaimLine:
    """Workers that wait for queued rollouts: each hint goes to the one that began to wait first."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._fresh: defaultdict[str, dict[int, Ticket]] = defaultdict(dict)
        self._returned: defaultdict[str, dict[int, Ticket]] = defaultdict(dict)
        self._called: set[Ticket] = set()

    def join(self, queues: tuple[str, ...], timeout: float) -> Ticket:
        """Begin to wait, behind all others."""
        ticket = Ticket(next(self._numbers), queues, timeout)
        for name in queues:
            self._fresh[name][ticket.number] = ticket
        return ticket

    def rejoin(self, ticket: Ticket) -> None:
        """Wait on at the old place: a hint came, but others had taken the work."""
        self._called.discard(ticket)
        if ticket.is_called:
            ticket.is_called = False
            for name in ticket.queues:
                self._returned[name][ticket.number] = ticket

    def leave(self, ticket: Ticket) -> None:
        """Wait no more."""
        self._called.discard(ticket)
        self._withdraw(ticket)

    def call(self, name: str) -> None:
        """Give a hint to the first one that waits on a queue and has none yet."""
        while (ticket := self._first(name)) is not None:
            self._withdraw(ticket)
            ticket.is_called = True
            if ticket.wake():
                self._called.add(ticket)
                return

    def call_all(self) -> None:
        """Wake everybody."""
        waiting = {
            ticket for line in (self._fresh, self._returned) for tickets in line.values() for ticket in tickets.values()
        }
        for ticket in waiting | self._called:
            ticket.wake()

    def _first(self, name: str) -> Ticket | None:
        fresh = self._fresh.get(name)
        returned = self._returned.get(name)
        numbers = [next(iter(fresh))] if fresh else []
        if returned:
            numbers.append(min(returned))
        if not numbers:
            return None
        number = min(numbers)
        return (fresh or {}).get(number) or (returned or {})[number]

    def _withdraw(self, ticket: Ticket) -> None:
        for line in (self._fresh, self._returned):
            for name in ticket.queues:
                line[name].pop(ticket.number, None)
                if not line[name]:
                    del line[name]


class RoomWait(Wait):
    """A producer's place in the line."""

    def __init__(self, queues: tuple[str, ...], timeout: float) -> None:
        super().__init__(timeout)
        self.queues = queues


class RoomLine:
    """Per queue, those that wait for room in it, in the order in which they began; only the first one is woken."""

    def __init__(self) -> None:
        self._waits: defaultdict[str, dict[RoomWait, None]] = defaultdict(dict)

    def join(self, queues: tuple[str, ...], timeout: float) -> RoomWait:
        """Begin to wait, behind all others."""
        wait = RoomWait(queues, timeout)
        for name in queues:
            self._waits[name][wait] = None
        return wait

    def leave(self, wait: RoomWait) -> None:
        """Wait no more: the next one may try."""
        self._withdraw(wait)
        for name in wait.queues:
            self.call(name)

    def is_waited_for(self, queues: tuple[str, ...]) -> bool:
        """Whether somebody waits for room in any of the queues."""
        return any(name in self._waits for name in queues)

    def call(self, name: str) -> None:
        """Wake the first one that waits for room in a queue; those whose event loop is closed never will have any."""
        while (waits := self._waits.get(name)) and not (first := next(iter(waits))).wake():
            self._withdraw(first)

    def call_all(self) -> None:
        """Wake everybody."""
        for wait in {wait for waits in self._waits.values() for wait in waits}:
            wait.wake()

    def _withdraw(self, wait: RoomWait) -> None:
        for name in wait.queues:
            self._waits[name].pop(wait, None)
            if not self._waits[name]:
                del self._waits[name]


class FinishWait(Wait):
    """A wait until none of the rollouts is pending."""

    def __init__(self, timeout: float) -> None:
        super().__init__(timeout)
        self.pending: set[str] = set()


class FinishWaits:
    """Coroutines that wait until rollouts have finished."""

    def __init__(self) -> None:
        self._waits: defaultdict[str, set[FinishWait]] = defaultdict(set)

    def expect(self, wait: FinishWait, rollout_ids: Iterable[str]) -> None:
        """Wake `wait` when all of these have finished."""
        self.forget(wait)
        wait.pending = set(rollout_ids)
        for id in wait.pending:
            self._waits[id].add(wait)

    def forget(self, wait: FinishWait) -> None:
        """Wake it no more."""
        for id in wait.pending:
            self._waits[id].discard(wait)
            if not self._waits[id]:
                del self._waits[id]
        wait.pending = set()

    def finished(self, rollout_id: str) -> None:
        """A rollout has finished, or is gone."""
        for wait in self._waits.pop(rollout_id, ()):
            wait.pending.discard(rollout_id)
            if not wait.pending:
                wait.wake()

    def wake_all(self) -> None:
        """Wake everybody."""
        for wait in {wait for waits in self._waits.values() for wait in waits}:
            wait.wake()


class Alarm:
    """Settles what comes due while somebody waits; one timer per event loop on which somebody does."""

    def __init__(self, seconds_left: Callable[[], float], settle: Callable[[], None]) -> None:
        """Make an alarm that is not set.

        Args:
            seconds_left: Time until something comes due; 0 or less = it is due, infinity = nothing will.
            settle: Settles what is due.
        """
        self._seconds_left = seconds_left
        self._settle = settle
        self._waiting: dict[asyncio.AbstractEventLoop, int] = {}
        self._timers: dict[asyncio.AbstractEventLoop, asyncio.TimerHandle] = {}

    @contextmanager
    def set(self) -> Generator[None, None, None]:
        """Settle what comes due inside this block."""
        loop = asyncio.get_running_loop()
        self._waiting[loop] = self._waiting.get(loop, 0) + 1
        self._arm(loop)
        try:
            yield
        finally:
            left = self._waiting.pop(loop, 1) - 1  # a loop that was closed is gone already
            if left:
                self._waiting[loop] = left
            else:
                self._disarm(loop)

    def rearm(self) -> None:
        """Something may come due earlier than before."""
        running = _running_loop()
        for loop in list(self._waiting):
            if loop is running:
                self._arm(loop)
            elif loop.is_closed():
                self._waiting.pop(loop, None)
                self._timers.pop(loop, None)
            else:
                with suppress(RuntimeError):  # it may close between the two lines
                    loop.call_soon_threadsafe(self._arm, loop)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop not in self._waiting:
            return
        left = self._seconds_left()
        at = loop.time() + max(left + _ROUNDING_SECONDS, _SHORTEST_SLEEP_SECONDS)
        timer = self._timers.get(loop)
        if timer is not None and not timer.cancelled() and timer.when() <= at:
            return
        self._disarm(loop)
        if not math.isinf(left):
            self._timers[loop] = loop.call_at(at, self._ring, loop)

    def _disarm(self, loop: asyncio.AbstractEventLoop) -> None:
        timer = self._timers.pop(loop, None)
        if timer is not None:
            timer.cancel()

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timers.pop(loop, None)
        self._settle()
        self._arm(loop)
