"""Waiting without polling: one blocking connection per event loop for many local waiters.

What a blocking read returns is only a hint: an element that a cancelled pop took along is lost, and costs at most one
fallback interval. The work itself is claimed by script.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from lightning_store.backends.redis.connection import Connections
from lightning_store.backends.redis.keys import Keys
from lightning_store.backends.redis.turns import Turns
from lightning_store.errors import StoreUnavailableError

FALLBACK_SECONDS: Final = 5.0
"""A waiter looks for itself that often, give or take a fifth: the most that a lost hint costs."""

RECONNECT_SECONDS: Final = 0.2
"""Pause after a failed wait, so that an outage is not filled with attempts."""

_SHORTEST_SECONDS: Final = 0.05


def _fallback() -> float:
    return FALLBACK_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 - jitter needs no secrecy


class WakeLine(Turns):
    """Local waiters for work in a list of queues: one of them waits at the server, in the order in which they came.

    So one blocking connection serves them all, and its answer belongs to the one whose turn it is.
    """

    def __init__(self) -> None:
        super().__init__(at_once=1)
        self._due = float("inf")

    def expect(self, seconds: float | None) -> None:
        """Note in how many seconds a retry or deadline may make work claimable; None = nothing is known to."""
        self._due = float("inf") if seconds is None else asyncio.get_running_loop().time() + seconds

    def longest_wait(self, until: float) -> float:
        """For how long to wait at the server now: a lost hint costs at most a fallback interval."""
        left = min(self._due, until) - asyncio.get_running_loop().time()
        return min(_fallback(), max(left, _SHORTEST_SECONDS))


class Watcher:
    """One waiter for completions."""

    def __init__(self) -> None:
        self.finished: set[str] = set()
        self.recheck = False
        self._error: Exception | None = None
        self._noted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note(self, rollout_ids: Iterable[str]) -> None:
        """These rollouts have finished."""
        self.finished.update(rollout_ids)
        self._wake()

    def look_again(self) -> None:
        """Entries may have been missed."""
        self.recheck = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """Nothing more will be noted."""
        self._error = error
        self._wake()

    async def wait(self, seconds: float) -> bool:
        """Wait for a note; whether one came in time.

        Raises:
            LightningStoreError: The log cannot be read, for another reason than an outage.
        """
        if not self._noted.done():
            await asyncio.wait({self._noted}, timeout=None if seconds == float("inf") else max(0.0, seconds))
        if self._error is not None:
            raise self._error
        if not self._noted.done():
            return False
        self._noted = asyncio.get_running_loop().create_future()
        return True

    def _wake(self) -> None:
        if not self._noted.done():
            self._noted.set_result(None)


class CompletionFeed:
    """The completion log, read once for all local watchers."""

    def __init__(self, connections: Connections, keys: Keys, upkeep: Callable[[], Awaitable[float | None]]) -> None:
        """Make a feed.

        Args:
            connections: Where to read.
            keys: Names of the keys.
            upkeep: Settles what is due, because nobody else may; answers the seconds until the next deadline.
        """
        self._connections = connections
        self._name = keys.control("completed")
        self._upkeep = upkeep
        self._watchers: set[Watcher] = set()
        self._reader: asyncio.Task[None] | None = None
        self._positioned: asyncio.Future[None] | None = None
        self._position = "0-0"

    async def join(self) -> Watcher:
        """A watcher that misses nothing from now on."""
        watcher = Watcher()
        self._watchers.add(watcher)
        try:
            if self._reader is None or self._reader.done():
                loop = asyncio.get_running_loop()
                self._positioned = loop.create_future()
                self._reader = loop.create_task(self._read(self._positioned))
            if self._positioned is not None:
                await asyncio.shield(self._positioned)
        except BaseException:
            self.leave(watcher)
            raise
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Stop watching."""
        self._watchers.discard(watcher)
        if not self._watchers:
            self.close()

    def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    async def _read(self, positioned: "asyncio.Future[None]") -> None:
        try:
            self._position = await last_entry(self._connections, self._name)
            next_due = await self._upkeep()
        except Exception as error:  # noqa: BLE001 - handed to everybody who joins
            if not positioned.done():
                positioned.set_exception(error)
                positioned.exception()  # the joining call may have been cancelled; no complaint then
            return
        positioned.set_result(None)
        while self._watchers:
            try:
                next_due = await self._step(next_due)
            except StoreUnavailableError:
                await asyncio.sleep(RECONNECT_SECONDS)
                next_due = 0.0
            except Exception as error:  # noqa: BLE001 - handed to everybody who waits
                for watcher in self._watchers:
                    watcher.fail(error)
                return

    async def _step(self, next_due: float | None) -> float | None:
        """Read what comes within a fallback interval; a next deadline of 0 asks for a fresh look at everything."""
        if next_due == 0.0:
            last = await last_entry(self._connections, self._name)
            if is_earlier(last, self._position):  # a failover lost entries: go back to what is there
                self._position = last
            due = await self._upkeep()
            for watcher in self._watchers:
                watcher.look_again()
            return FALLBACK_SECONDS if due is None else max(due, _SHORTEST_SECONDS)
        seconds = _fallback() if next_due is None else min(_fallback(), next_due)
        reply = await self._connections.block(
            "XREAD", "COUNT", 1000, "BLOCK", max(1, int(seconds * 1000)), "STREAMS", self._name, self._position,
            seconds=seconds,
        )  # fmt: skip
        if not reply:
            return 0.0
        entries = reply[0][1]
        self._position = entries[-1][0].decode()
        finished = [dict(zip(flat[::2], flat[1::2], strict=True))[b"rollout"].decode() for _, flat in entries]
        for watcher in self._watchers:
            watcher.note(finished)
        return next_due


async def last_entry(connections: Connections, name: str) -> str:
    """Id of the last entry that a stream was given, also if it was removed; `0-0` for none."""
    if not await connections.command("EXISTS", name):
        return "0-0"
    info: list[Any] = await connections.command("XINFO", "STREAM", name)
    value: bytes = dict(zip(info[::2], info[1::2], strict=True))[b"last-generated-id"]
    return value.decode()


def is_earlier(a: str, b: str) -> bool:
    """Whether one stream id comes before another."""
    return _parts(a) < _parts(b)


def _parts(entry: str) -> tuple[int, ...]:
    return tuple(map(int, entry.split("-")))
