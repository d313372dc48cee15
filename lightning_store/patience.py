"""Waiting out a store that is out of reach: how long until the next try, and one line in the log per change."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from lightning_store.errors import (
    InternalStoreError,
    LightningStoreError,
    NotFoundError,
    StoreUnavailableError,
)

logger = logging.getLogger("lightning_store")

FIRST_SECONDS: Final = 0.2
MOST_SECONDS: Final = 5.0

T = TypeVar("T")


class Backoff:
    """Delays that double up to a limit, each drawn between half and all of it, so that many do not keep step."""

    def __init__(self, first_seconds: float = FIRST_SECONDS, most_seconds: float = MOST_SECONDS) -> None:
        self._first = first_seconds
        self._most = most_seconds
        self._next = first_seconds

    def next_seconds(self) -> float:
        """The delay before the next try."""
        longest, self._next = self._next, min(self._next * 2, self._most)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret

    def reset(self) -> None:
        """Begin anew, because a try succeeded."""
        self._next = self._first


class Reach:
    """Whether a store answers, as one process sees it; may be told from any thread. Logs each change once."""

    def __init__(self, who: str) -> None:
        """Set up.

        Args:
            who: Who needs the store, for the log.
        """
        self._who = who
        self._lock = threading.Lock()
        self._lost_at: float | None = None

    @property
    def is_answering(self) -> bool:
        """Whether the last call got through, or there was none yet."""
        return self._lost_at is None

    def failed(self, error: BaseException | str) -> None:
        """A call did not get through, and why."""
        with self._lock:
            is_new = self._lost_at is None
            if is_new:
                self._lost_at = time.monotonic()
        if is_new:
            logger.warning("%s: the store is out of reach, waiting for it: %s", self._who, error)

    def answered(self) -> None:
        """A call got through."""
        with self._lock:
            lost_at, self._lost_at = self._lost_at, None
        if lost_at is not None:
            logger.warning("%s: the store is back after %.1f s", self._who, time.monotonic() - lost_at)

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call for as long as the store is out of reach; cancel to give up."""
        backoff = Backoff()
        while True:
            try:
                result = await call()
            except StoreUnavailableError as error:
                self.failed(error)
                await asyncio.sleep(backoff.next_seconds())
            else:
                self.answered()
                return result


def is_hopeless(error: BaseException) -> bool:
    """Whether the same call can never succeed, as on another schema version: repeating it would hide the fault."""
    if not isinstance(error, LightningStoreError):
        return False
    return not error.retryable and not isinstance(error, InternalStoreError | NotFoundError)
