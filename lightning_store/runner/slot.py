"""One worker of a runner: claims a rollout, has it carried out, and begins again."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any, Final

from lightning_store.errors import StoreUnavailableError
from lightning_store.patience import Backoff, is_hopeless
from lightning_store.records import AttemptedRollout
from lightning_store.runner.execution import Execution
from lightning_store.runner.held import Held
from lightning_store.runner.surroundings import Surroundings
from lightning_store.scope import AttemptScope, detach

logger = logging.getLogger("lightning_store")

STUCK_AFTER_POLLS: Final = 3
STUCK_MARGIN_SECONDS: Final = 10.0


class Slot:
    """One worker of a runner.

    Attributes:
        worker_id: Its name in the store.
        held: The attempt that it works on; None while it waits for one. Read by the thread of the heartbeats.
    """

    def __init__(self, around: Surroundings, worker_id: str) -> None:
        self.worker_id = worker_id
        self.held: Held | None = None
        self._around = around
        self._last_poll = time.monotonic()

    def is_stuck(self) -> bool:
        """Whether it holds nothing and has not been able to claim for several polls."""
        longest = STUCK_AFTER_POLLS * self._around.poll_seconds + STUCK_MARGIN_SECONDS
        return self.held is None and time.monotonic() - self._last_poll > longest

    async def run(self) -> None:
        """Claim and work until told to stop.

        Raises:
            LightningStoreError: The store refuses claims for good, for instance because of its schema version.
        """
        detach()
        backoff = Backoff()
        stop: asyncio.Future[Any] = asyncio.ensure_future(self._around.stopping.wait())
        try:
            while not self._around.stopping.is_set():
                try:
                    rollout = await self._claim(stop)
                except Exception as error:  # noqa: BLE001 - sorted out there
                    self._claim_failed(error)
                    await asyncio.wait({stop}, timeout=backoff.next_seconds())
                    continue
                backoff.reset()
                if rollout is not None:
                    await self._work(rollout)
        finally:
            stop.cancel()

    async def _claim(self, stop: "asyncio.Future[Any]") -> AttemptedRollout | None:
        """Wait for work; None when there was none in time, or when the runner stops."""
        around = self._around
        claim = asyncio.ensure_future(
            around.store.dequeue_rollout(
                self.worker_id, queues=around.queues, timeout=around.poll_seconds, lease_seconds=around.lease_seconds
            )
        )
        try:
            either: set[asyncio.Future[Any]] = {claim, stop}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            claim.cancel()  # the store gives back what a claim takes after this
        with suppress(asyncio.CancelledError):
            await asyncio.wait({claim})
            rollout = claim.result()
            self._polled()
            return rollout
        return None

    def _polled(self) -> None:
        self._last_poll = time.monotonic()
        self._around.stats.polled()
        self._around.reach.answered()

    def _claim_failed(self, error: Exception) -> None:
        if is_hopeless(error):
            raise error
        if isinstance(error, StoreUnavailableError):
            self._around.reach.failed(error)
        else:
            logger.error("%s: the claim failed, trying again", self.worker_id, exc_info=error)

    async def _work(self, rollout: AttemptedRollout) -> None:
        scope = AttemptScope(rollout.rollout_id, rollout.attempt.attempt_id, self._around.exporter)
        self.held = Held(rollout, scope)
        try:
            if self._around.stopping.is_set():
                self.held.interrupt("stopping")
            await Execution(self._around, self.worker_id, self.held).run()
        finally:
            self._last_poll = time.monotonic()
            self.held = None
