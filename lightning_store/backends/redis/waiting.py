"""Waiting without polling: one blocking connection per event loop for many local waiters.

What a blocking read returns is only a hint: an element that a cancelled pop took along is lost, and costs at most one
fallback interval. The work itself is claimed by script.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from lightning_store.backends.redis.connection import Connections
from lightning_store.backends.redis.keys import Keys
from lightning_store.errors import StoreUnavailableError

FALLBACK_SECONDS: Final = 5.0
"""A waiter looks for itself that often, give or take a fifth: the most that a lost hint costs."""

_RECONNECT_SECONDS: Final = 0.2
_SHORTEST_SECONDS: Final = 0.05


def _fallback() -> float:
    return FALLBACK_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 - jitter needs no secrecy


class WakeLine:
    """Local waiters for work in a list of queues, served in the order in which they began to wait."""

    def __init__(
        self,
        connections: Connections,
        keys: Keys,
        queues: tuple[str, ...],
        reconcile: Callable[[], Awaitable[object]],
    ) -> None:
        """Make a line.

        Args:
            connections: Where to read.
            keys: Names of the keys.
            queues: What is waited for, first come first.
            reconcile: Makes sure that work which is left wakes somebody else.
        """
        self._connections = connections
        self._names = [keys.control("wake", queue) for queue in queues]
        self._reconcile = reconcile
        self._waiters: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._until = 0.0
        self._reader: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiters)

    def expect(self, seconds: float) -> None:
        """Wake somebody in so many seconds, when a retry or deadline may make work claimable."""
        loop = asyncio.get_running_loop()
        at = loop.time() + max(seconds, _SHORTEST_SECONDS)
        if self._timer is None or self._timer.cancelled() or not loop.time() < self._timer.when() <= at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(at, self._wake_one)

    async def wait(self, seconds: float, *, first: bool = False) -> bool:
        """Wait for a hint that there may be work.

        Args:
            seconds: Longest time to wait; may be infinite.
            first: Keep the place at the head of the line, for who was woken in vain.

        Returns:
            Whether a hint came.

        Raises:
            LightningStoreError: Hints cannot be read, for another reason than an outage.
        """
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiters[waiter] = None
        if first:
            self._waiters.move_to_end(waiter, last=False)
        self._until = max(self._until, loop.time() + seconds)
        if self._reader is None or self._reader.done():
            self._reader = loop.create_task(self._read())
        try:
            await asyncio.wait({waiter}, timeout=None if seconds == float("inf") else seconds)
        except asyncio.CancelledError:
            if waiter.done() and waiter.exception() is None:
                self._wake_one()
            raise
        finally:
            self._waiters.pop(waiter, None)
            if not self._waiters:
                self._leave()
        if waiter.done():
            waiter.result()
            return True
        return False

    def close(self) -> None:
        """Stop reading; waiters run into their time limits."""
        self._leave()
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def _leave(self) -> None:
        # The reader may go on for some seconds: cancelled, it could take a token along that others wait for.
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._until = 0.0

    def _wake_one(self) -> bool:
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(None)
                return True
        return False

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        longest = float("inf")
        while self._waiters:
            seconds = min(_fallback(), self._until - loop.time(), longest)
            longest = float("inf")
            try:
                token = await self._connections.block("BLPOP", *self._names, f"{max(seconds, 0.01):.3f}")
                if not self._wake_one() and token:
                    await self._reconcile()  # nobody here needs it any more, somebody elsewhere may
            except StoreUnavailableError:
                await asyncio.sleep(_RECONNECT_SECONDS)
                longest = _SHORTEST_SECONDS  # hints may have been lost: somebody looks as soon as the server is back
            except Exception as error:  # noqa: BLE001 - handed to everybody who waits
                while self._waiters:
                    waiter, _ = self._waiters.popitem()
                    if not waiter.done():
                        waiter.set_exception(error)


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
                await asyncio.sleep(_RECONNECT_SECONDS)
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
            "XREAD", "COUNT", 1000, "BLOCK", max(1, int(seconds * 1000)), "STREAMS", self._name, self._position
        )
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
