"""Metrics of a namespace as it is now, read from its store when somebody scrapes.

A scrape never waits for long and never asks twice within a second: what was read is kept for that long, also that the
store did not answer. Then `up` is 0, and what is not known is absent.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from lightning_store.contract import LightningStore
from lightning_store.errors import LightningStoreError, StoreUnavailableError
from lightning_store.metrics.families import FAMILIES
from lightning_store.metrics.labels import Bounded
from lightning_store.records import QueueStats, WorkerStatus

logger = logging.getLogger("lightning_store")

FRESH_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 3.0
WORKERS_SECONDS: Final = 10.0
"""How long the workers by status are kept: they are read one by one."""

Reader = Callable[[], Awaitable[list[Metric]]]
"""Asks the store, and makes metrics of what it answers."""


class NamespaceMetrics(Collector):
    """What is stored, and whether the store answers; for one event loop."""

    def __init__(self, store: LightningStore, registry: CollectorRegistry, *further: Reader) -> None:
        """Register; nothing is asked.

        Args:
            store: The store that is asked.
            registry: Where it is told.
            further: What else to read, each for itself.
        """
        self._store = store
        self._readers: tuple[Reader, ...] = (self._read_counts, self._read_queues, self._read_workers, *further)
        self._queues = Bounded()
        self._workers: list[Metric] = []
        self._workers_due = 0.0
        self._found: list[Metric] = []
        self._read_at = float("-inf")
        self._reading: asyncio.Future[None] | None = None
        self._told: set[str] = set()
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not ask the store."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """What `refresh` has found."""
        return iter(self._found)

    async def refresh(self) -> None:
        """Ask the store, if the last answer is not fresh; returns in some seconds whatever the store does."""
        if self._reading is None or self._reading.done():
            if time.monotonic() - self._read_at < FRESH_SECONDS:
                return
            self._reading = asyncio.ensure_future(self._read())
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        parts = [asyncio.ensure_future(self._read_part(reader)) for reader in self._readers]
        _, late = await asyncio.wait(parts, timeout=ANSWER_SECONDS)
        for part in late:
            part.cancel()
        answers = [part.result() for part in parts if part not in late]
        is_up = not late and None not in answers
        self._found = [FAMILIES["up"].read(((), float(is_up))), *(metric for part in answers for metric in part or ())]
        self._read_at = time.monotonic()

    async def _read_part(self, reader: Reader) -> list[Metric] | None:
        """What one question brings: nothing if the store refuses it, None if it is out of reach."""
        try:
            return await reader()
        except StoreUnavailableError:
            return None
        except LightningStoreError as error:
            if (text := f"{type(error).__name__}: {error}") not in self._told:
                self._told.add(text)
                logger.warning("Some metrics are absent, the store refuses to tell: %s", error)
            return []

    async def _read_counts(self) -> list[Metric]:
        facts: dict[str, Any] = await self._store.statistics()
        by_status: dict[str, int] = facts.get("rollouts_by_status", {})
        return [
            FAMILIES["rollouts"].read(*(((status,), count) for status, count in by_status.items())),
            FAMILIES["attempts"].read(((), facts["total_attempts"])),
            FAMILIES["spans"].read(((), facts["total_spans"])),
        ]

    async def _read_queues(self) -> list[Metric]:
        found: dict[str, QueueStats] = {}
        for stats in await self._store.query_queues():
            label = self._queues.label(stats.queue)
            found[label] = _together(found[label], stats) if label in found else stats
        return [
            FAMILIES["queue_depth"].read(*(((name,), stats.depth) for name, stats in found.items())),
            FAMILIES["queue_delayed"].read(*(((name,), stats.delayed) for name, stats in found.items())),
            FAMILIES["queue_oldest_age_seconds"].read(
                *(((name,), stats.oldest_seconds or 0.0) for name, stats in found.items())
            ),
        ]

    async def _read_workers(self) -> list[Metric]:
        if time.monotonic() >= self._workers_due:
            counts = Counter(worker.status for worker in await self._store.query_workers())
            samples = (((status,), counts[status]) for status in get_args(WorkerStatus))
            self._workers = [FAMILIES["workers"].read(*samples)]
            self._workers_due = time.monotonic() + WORKERS_SECONDS
        return self._workers


def _together(a: QueueStats, b: QueueStats) -> QueueStats:
    """Two queues under one label: all that wait in them, and the oldest of them."""
    ages = [stats.oldest_seconds for stats in (a, b) if stats.oldest_seconds is not None]
    return QueueStats(
        queue=a.queue, depth=a.depth + b.depth, delayed=a.delayed + b.delayed, oldest_seconds=max(ages, default=None)
    )
