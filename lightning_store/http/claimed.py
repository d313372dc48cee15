"""Claims whose caller has gone away before it was answered: kept for the repeat, then handed back."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from lightning_store.contract import LightningStore
from lightning_store.errors import LightningStoreError
from lightning_store.http.answers import Claims

logger = logging.getLogger("lightning_store.http")


class Orphans:
    """Hands back what nobody was there to take."""

    def __init__(self, store: LightningStore, *, seconds: float) -> None:
        """Set up.

        Args:
            store: Where it was claimed.
            seconds: How long it is kept for a repeat.
        """
        self._store = store
        self._seconds = seconds
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._releases: set[asyncio.Task[None]] = set()

    def expect(self, key: str, claims: Claims, forget: Callable[[], None]) -> None:
        """Keep claims for a repeat by this key; `forget` is called when they are handed back instead."""

        async def wait_and_release() -> None:
            await asyncio.sleep(self._seconds)
            forget()
            self._waiting.pop(key, None)
            await self.release(claims)

        self.take(key)
        self._waiting[key] = self._start(wait_and_release())

    def take(self, key: str) -> None:
        """The repeat is there: nothing is handed back."""
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            waiting.cancel()

    def release_soon(self, claims: Claims) -> None:
        """Hand claims back at once, whoever asks for it being gone."""
        if claims:
            self._start(self.release(claims))

    async def release(self, claims: Claims) -> None:
        """Hand claims back, the last one first: each goes to the head of its queue."""
        for rollout_id, attempt_id in reversed(claims):
            try:
                attempt = await self._store.get_latest_attempt(rollout_id)
                if attempt is not None and attempt.attempt_id == attempt_id and attempt.last_heartbeat_time is None:
                    await self._store.release_attempt(rollout_id, attempt_id)
            except LightningStoreError as error:
                logger.warning("Rollout %s is not handed back, its lease has to end it: %s", rollout_id, error)

    def _start(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)
        return task
