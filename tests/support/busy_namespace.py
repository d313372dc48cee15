"""Work on one namespace while something happens to its servers: producers, and workers that do what they are given."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from lightning_store.backends.redis.store import RedisLightningStore
from tests.support.factories import make_span

PRODUCERS: Final = 2
WORKERS: Final = 4
SPANS: Final = 3
LEASE_SECONDS: Final = 120.0
"""Longer than any test: whatever is claimed twice was claimed wrongly."""


class BusyNamespace:
    """Producers and workers, each with a store object of its own.

    Attributes:
        enqueued: When each rollout was acknowledged to its producer, by `time.monotonic`.
        completed: When each completion was acknowledged to its worker.
        claims: How often each rollout was claimed.
    """

    def __init__(self, url: str, namespace: str, *, pause_seconds: float = 0.01) -> None:
        self._url = url
        self._namespace = namespace
        self._pause_seconds = pause_seconds
        self._is_over = False
        self.enqueued: dict[str, float] = {}
        self.completed: dict[str, float] = {}
        self.claims: Counter[str] = Counter()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator["BusyNamespace"]:
        """Work inside of the block; at its end all that was enqueued is still done."""
        stores = [
            RedisLightningStore(self._url, namespace=self._namespace, max_connections=4)
            for _ in range(PRODUCERS + WORKERS)
        ]
        producers = [
            asyncio.create_task(self._produce(store, number)) for number, store in enumerate(stores[:PRODUCERS])
        ]
        workers = [asyncio.create_task(self._work(store, f"w{n}")) for n, store in enumerate(stores[PRODUCERS:])]
        try:
            yield self
            self._is_over = True
            await asyncio.gather(*producers, *workers)
        finally:
            for task in (*producers, *workers):
                task.cancel()
            await asyncio.gather(*producers, *workers, return_exceptions=True)
            for store in stores:
                await store.close()

    async def _produce(self, store: RedisLightningStore, number: int) -> None:
        count = 0
        while not self._is_over:
            count += 1
            rollout = await store.enqueue_rollout(count, rollout_id=f"p{number}-{count}")
            self.enqueued[rollout.rollout_id] = time.monotonic()
            await asyncio.sleep(self._pause_seconds)

    async def _work(self, store: RedisLightningStore, worker_id: str) -> None:
        while True:
            claimed = await store.dequeue_rollout(worker_id, timeout=1.0, lease_seconds=LEASE_SECONDS)
            if claimed is None:
                if self._is_over:
                    return
                continue
            rollout_id, attempt_id = claimed.rollout_id, claimed.attempt.attempt_id
            self.claims[rollout_id] += 1
            spans = [make_span(rollout_id, attempt_id, span_id=f"{n:016x}") for n in range(1, SPANS + 1)]
            assert len(await store.add_many_spans(spans, renumber=True)) == SPANS
            await store.update_attempt(rollout_id, attempt_id, status="succeeded")
            self.completed[rollout_id] = time.monotonic()


async def check_all_done(
    store: RedisLightningStore, busy: BusyNamespace, *, lost: frozenset[str] = frozenset()
) -> None:
    """Assert that every rollout was claimed once, has its spans, and was completed once; and that the audit is clean.

    Args:
        store: On the namespace, on which nobody works any more.
        busy: Who worked.
        lost: Rollouts of which it is known that they may be lost, in part or as a whole.
    """
    sure = busy.enqueued.keys() - lost
    page = await store.query_rollouts()
    statuses = {rollout.rollout_id: rollout.status for rollout in page.items}
    assert {id: statuses.get(id) for id in sure} == dict.fromkeys(sure, "succeeded")
    assert {id: count for id, count in busy.claims.items() if count != 1 and id not in lost} == {}
    finishes = Counter(each.rollout_id for each in (await store.completions(limit=1_000_000)).items)
    assert {id: finishes[id] for id in sure} == dict.fromkeys(sure, 1)
    spans = await store.query_many_spans(sorted(sure))
    assert {id: tuple(span.sequence_id for span in spans[id]) for id in sure} == dict.fromkeys(sure, (1, 2, 3))
    report = await store.audit()
    assert (report.findings, report.unchecked) == ([], [])
