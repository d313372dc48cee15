"""Metrics of what is stored now: asked for rarely, in bounded time, and absent when they are not known."""

import asyncio
import logging

import pytest
from prometheus_client import CollectorRegistry

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.errors import AccessDeniedError, StoreUnavailableError
from lightning_store.metrics import namespace as module
from lightning_store.metrics.labels import MOST
from lightning_store.metrics.namespace import NamespaceMetrics
from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from tests.support.clock import SettableClock
from tests.support.faulty import FaultyStore
from tests.support.scraping import scrape_registry


class Watched:
    """A store and what is told of it."""

    def __init__(self, clock) -> None:
        self.store = FaultyStore(InMemoryLightningStore(clock=clock))
        self.registry = CollectorRegistry()
        self.metrics = NamespaceMetrics(self.store, self.registry)

    async def scrape(self):
        await self.metrics.refresh()
        return scrape_registry(self.registry)

    async def scrape_afresh(self, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(module, "FRESH_SECONDS", 0.0)
            return await self.scrape()


@pytest.fixture
def clock():
    return SettableClock()


@pytest.fixture
async def watched(clock):
    watched = Watched(clock)
    yield watched
    await watched.store.store.close()


async def test_queues_rollouts_and_workers_are_told(watched, clock):
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"], retry_delay_seconds=60)
    requests = [EnqueueRolloutRequest(input=1, queue=queue, config=config) for queue in ("a", "a", "a", "b")]
    await watched.store.enqueue_many_rollouts(requests)
    claimed = [await watched.store.dequeue_rollout(worker, queues=["a"]) for worker in ("v", "w")]
    await watched.store.update_attempt(claimed[0].rollout_id, "latest", status="failed")
    clock.advance(4.5)
    scrape = await watched.scrape()
    assert scrape("up") == 1
    assert scrape.all("queue_depth") == {("a",): 1, ("b",): 1}
    assert scrape.all("queue_delayed") == {("a",): 1}
    assert scrape.all("queue_oldest_age_seconds") == {("a",): 4.5, ("b",): 4.5}
    assert scrape.all("rollouts") == {("queuing",): 2, ("preparing",): 1, ("requeuing",): 1}
    assert (scrape("rollouts", status="succeeded"), scrape("attempts"), scrape("spans")) == (0, 2, 0)
    assert scrape.all("workers") == {("busy",): 1, ("idle",): 1}
    assert scrape("workers", status="unknown") == 0


async def test_scrapes_within_a_second_ask_once(watched):
    await asyncio.gather(*(watched.scrape() for _ in range(20)))
    await watched.scrape()
    assert watched.store.calls["query_queues"] == 1


async def test_workers_are_asked_for_less_often(watched, monkeypatch):
    for _ in range(5):
        await watched.scrape_afresh(monkeypatch)
    assert (watched.store.calls["query_workers"], watched.store.calls["query_queues"]) == (1, 5)


async def test_store_out_of_reach_is_told_and_the_rest_is_absent(watched, monkeypatch):
    await watched.scrape()
    for operation in ("statistics", "query_queues", "query_workers"):
        watched.store.errors[operation] = StoreUnavailableError("away")
    scrape = await watched.scrape_afresh(monkeypatch)
    assert scrape("up") == 0
    assert {"lightning_store_queue_depth", "lightning_store_rollouts"} & scrape.series == set()
    watched.store.errors.clear()
    assert (await watched.scrape_afresh(monkeypatch))("up") == 1


async def test_store_that_does_not_answer_holds_up_no_scrape(watched, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.1)
    watched.store.gates["query_queues"] = asyncio.Event()
    scrape = await asyncio.wait_for(watched.scrape(), 10)
    assert scrape("up") == 0
    assert "lightning_store_queue_depth" not in scrape.series
    assert scrape("attempts") == 0, "what is known is told"


async def test_reader_who_goes_away_ends_nothing_for_the_others(watched):
    gate = watched.store.gates["query_queues"] = asyncio.Event()
    first, second = (asyncio.ensure_future(watched.scrape()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert (await second)("up") == 1
    await asyncio.wait({first})


async def test_what_the_store_refuses_to_tell_is_absent_and_logged_once(watched, caplog, monkeypatch):
    watched.store.errors["query_workers"] = AccessDeniedError("no permission")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            scrape = await watched.scrape_afresh(monkeypatch)
    assert (scrape("up"), scrape.all("workers")) == (1, {})
    assert "lightning_store_workers" not in scrape.series
    assert caplog.text.count("Some metrics are absent, the store refuses to tell: no permission") == 1


async def test_queues_beyond_a_hundred_are_told_together(watched, clock):
    await watched.store.enqueue_many_rollouts(
        [EnqueueRolloutRequest(input=1, queue=f"queue-{number:03}") for number in range(MOST + 20)]
    )
    clock.advance(3)
    scrape = await watched.scrape()
    depths = scrape.all("queue_depth")
    assert (len(depths), depths["other",], sum(depths.values())) == (MOST + 1, 20, MOST + 20)
    assert scrape("queue_oldest_age_seconds", queue="other") == 3
