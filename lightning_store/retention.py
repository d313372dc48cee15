"""What the daemon does about what is kept, beside its sweeps: prunes finished rollouts, and evicts spans in time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from lightning_store.contract import LightningStore
from lightning_store.errors import AccessDeniedError, StoreUnavailableError
from lightning_store.records import RolloutStatus
from lightning_store.requests import check_prune, check_seconds, lowest_cursor

logger = logging.getLogger("lightning_store.healthcheck")

DEFAULT_PRUNE_SECONDS: Final = 60.0
SHORTEST_PAUSE_SECONDS: Final = 0.02


@dataclass(frozen=True)
class RetentionOptions:
    """What to prune, and how often; by default nothing. See `LightningStore.prune` for the meaning.

    Attributes:
        consumed: Only what every registered consumer has passed; nothing while there is no consumer.
        interval: Seconds between two prunes.
    """

    older_than_seconds: float | None = None
    keep_latest: int | None = None
    status_in: Sequence[RolloutStatus] | None = None
    consumed: bool = False
    interval: float = DEFAULT_PRUNE_SECONDS

    @property
    def prunes(self) -> bool:
        """Whether there is anything to prune."""
        limits = (self.older_than_seconds, self.keep_latest, self.status_in)
        return self.consumed or any(limit is not None for limit in limits)


class Retention:
    """Prunes and evicts again and again; any number of daemons may do so at once.

    Attributes:
        pruned: Rollouts removed so far.
        evicted: Rollouts that have lost their spans so far.
    """

    def __init__(self, store: LightningStore, options: RetentionOptions, evict_interval: float) -> None:
        """Set up; nothing is sent.

        Args:
            store: The store.
            options: What to prune.
            evict_interval: Seconds between two looks at the memory.

        Raises:
            InvalidRequestError: An option is out of bounds.
        """
        if options.prunes:
            first = "0-0" if options.consumed else None
            check_prune(options.older_than_seconds, options.keep_latest, options.status_in, first)
        self.pruned = 0
        self.evicted = 0
        self._store = store
        self._options = options
        self._prune_interval = max(check_seconds(options.interval, "prune_interval"), SHORTEST_PAUSE_SECONDS)
        self._evict_interval = max(evict_interval, SHORTEST_PAUSE_SECONDS)
        self._may_evict = True

    async def run(self) -> None:
        """Go on until it is cancelled; what fails is logged and tried again."""
        if self._options.prunes:
            await asyncio.gather(
                _repeat("prune", self._prune, self._prune_interval), _repeat("evict", self._evict, self._evict_interval)
            )
        else:
            await _repeat("evict", self._evict, self._evict_interval)

    async def _prune(self) -> None:
        options, cursor = self._options, None
        if options.consumed:
            cursor = lowest_cursor(await self._store.query_consumers())
            if cursor is None:
                logger.debug("nothing is pruned: no consumer is registered")
                return
        removed = await self._store.prune(
            older_than_seconds=options.older_than_seconds,
            keep_latest=options.keep_latest,
            status_in=options.status_in,
            consumed_cursor=cursor,
        )
        self.pruned += removed
        if removed:
            logger.info("pruned rollouts=%d", removed)

    async def _evict(self) -> None:
        if not self._may_evict:
            return
        try:
            evicted = await self._store.evict_spans()
        except AccessDeniedError as error:
            self._may_evict = False
            logger.warning("spans are not evicted by this daemon, its user may not: %s", error)
            return
        self.evicted += evicted
        if evicted:
            logger.warning("evicted spans of rollouts=%d", evicted)


async def _repeat(what: str, work: Callable[[], Awaitable[None]], interval: float) -> None:
    while True:
        try:
            await work()
        except StoreUnavailableError as error:  # the sweeps tell the outage
            logger.debug("%s: the store is out of reach: %s", what, error)
        except Exception:
            logger.exception("%s failed, trying again", what)
        await asyncio.sleep(interval)
