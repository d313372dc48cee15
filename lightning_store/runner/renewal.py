"""Heartbeats of a runner, from a thread of its own: a busy agent cannot starve them."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from lightning_store.background import LoopThread
from lightning_store.contract import LightningStore
from lightning_store.errors import StoreUnavailableError
from lightning_store.patience import Backoff, Reach
from lightning_store.runner.held import Held
from lightning_store.scope import detached_context

logger = logging.getLogger("lightning_store")

RENEWALS_PER_LEASE: Final = 3
SHORTEST_CALL_SECONDS: Final = 1.0


class Holder(Protocol):
    """One worker, as its heartbeats see it."""

    worker_id: str
    held: Held | None

    def is_stuck(self) -> bool:
        """Whether it holds nothing and has not been able to claim for long."""
        ...


class Renewal:
    """Sends a heartbeat for each worker, with the attempt that it holds, three times per lease.

    A worker that is stuck sends none, so that it does not look alive.
    """

    def __init__(
        self,
        store: LightningStore,
        holders: Sequence[Holder],
        lease_seconds: float,
        stats: Callable[[], dict[str, Any]],
    ) -> None:
        """Set up.

        Args:
            store: Safe to call from any thread.
            holders: The workers.
            lease_seconds: Lease of their attempts.
            stats: The process's facts for the worker records, read once per round.
        """
        self._store = store
        self._holders = holders
        self._interval = lease_seconds / RENEWALS_PER_LEASE
        self._call_seconds = max(self._interval, SHORTEST_CALL_SECONDS)
        self._reach = Reach("heartbeats")
        self._stats = stats
        self._thread: LoopThread | None = None

    def start(self) -> None:
        """Begin with a first heartbeat at once."""
        self._thread = LoopThread("lightning-store-leases", detached_context())
        self._thread.submit(self._beat())

    def stop(self) -> None:
        """End the thread; no heartbeat is sent afterwards."""
        if self._thread is not None:
            self._thread.stop()

    def release_all(self, timeout_seconds: float) -> None:
        """Give back what is still held, for a runner whose own loop is blocked; from any thread, waits for the end."""
        if self._thread is not None:
            done = self._thread.submit(self._release_all())
            done.result(timeout_seconds)

    async def _beat(self) -> None:
        backoff = Backoff(self._interval / 4, self._interval)
        while True:
            started = time.monotonic()
            stats = self._read_stats()
            results = await asyncio.gather(*(self._renew(holder, stats) for holder in self._holders))
            if all(results):
                backoff.reset()
                await asyncio.sleep(max(0.0, started + self._interval - time.monotonic()))
            else:
                await asyncio.sleep(backoff.next_seconds())

    async def _renew(self, holder: Holder, stats: dict[str, Any]) -> bool:
        """One heartbeat; False when it did not get through."""
        held = holder.held
        if holder.is_stuck():
            return True
        pairs = [held.pair] if held is not None else []
        try:
            states = await asyncio.wait_for(self._store.renew(holder.worker_id, pairs, stats), self._call_seconds)
        except (StoreUnavailableError, asyncio.TimeoutError) as error:
            self._reach.failed(error if str(error) else "no answer in time")
            return False
        except Exception:
            logger.exception("heartbeat of %s failed", holder.worker_id)
            return False
        self._reach.answered()
        if held is not None:
            held.answered(states[0])
        return True

    async def _release_all(self) -> None:
        pairs = [holder.held.pair for holder in self._holders if holder.held is not None]
        await asyncio.gather(*(self._store.release_attempt(*pair) for pair in pairs), return_exceptions=True)

    def _read_stats(self) -> dict[str, Any]:
        try:
            return self._stats()
        except Exception:
            logger.exception("the process's facts cannot be read")
            return {}
