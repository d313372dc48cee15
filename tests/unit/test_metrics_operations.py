"""The wrapper that counts and times the calls of a store."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.backends.sqlite import SQLiteLightningStore
from lightning_store.backends.sqlite.state import ROW_BYTES
from lightning_store.errors import RolloutNotFoundError, StoreUnavailableError
from lightning_store.forwarding import innermost
from lightning_store.metrics.operations import MeteredStore, OperationMetrics
from lightning_store.operations import OPERATIONS
from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from lightning_store.threaded import LightningStoreThreaded
from tests.support.clock import SettableClock
from tests.support.factories import span_of
from tests.support.faulty import FaultyStore
from tests.support.proxy import Fault, Proxy
from tests.support.scraping import scrape_registry
from tests.support.until import until


class Metered:
    """A store with its metrics."""

    def __init__(self, inner) -> None:
        self.registry = CollectorRegistry()
        self.inner = inner
        self.store = MeteredStore(inner, OperationMetrics(self.registry))

    def __call__(self, name, **labels):
        return scrape_registry(self.registry)(name, **labels)

    def all(self, name):
        return scrape_registry(self.registry).all(name)


@pytest.fixture
def clock():
    return SettableClock()


@pytest.fixture
async def metered(clock):
    metered = Metered(FaultyStore(InMemoryLightningStore(clock=clock)))
    yield metered
    await metered.inner.store.close()


async def test_calls_are_counted_by_operation_and_outcome(metered):
    store = metered.store
    rollout = await store.enqueue_rollout("task")
    await store.get_rollout_by_id(rollout.rollout_id)
    await store.get_rollout_by_id("unknown")
    with pytest.raises(RolloutNotFoundError):
        await store.start_attempt("unknown")
    with pytest.raises(ValueError, match="limit"):
        await store.query_rollouts(limit=-7)
    with pytest.raises(TypeError):
        await store.update_worker("w", heartbeat_stats=None)
    metered.inner.errors["audit"] = StoreUnavailableError("away")
    with pytest.raises(StoreUnavailableError):
        await store.audit()
    assert metered.all("operations_total") == {
        ("enqueue_rollout", "ok"): 1,
        ("get_rollout_by_id", "ok"): 2,
        ("start_attempt", "rollout_not_found"): 1,
        ("query_rollouts", "invalid_request"): 1,
        ("update_worker", "invalid_request"): 1,
        ("audit", "store_unavailable"): 1,
    }
    assert metered.all("operation_duration_seconds_count") == {
        ("audit",): 1, ("enqueue_rollout",): 1, ("get_rollout_by_id",): 2, ("query_rollouts",): 1,
        ("start_attempt",): 1, ("update_worker",): 1,
    }  # fmt: skip


async def test_every_operation_is_there_from_the_start(metered):
    """So that the increase of the first call can be told."""
    for name in OPERATIONS:
        assert metered("operations_total", operation=name, outcome="ok") == 0


async def test_answers_errors_and_capabilities_are_those_of_the_store(metered):
    assert metered.store.capabilities == metered.inner.capabilities
    given = await metered.store.enqueue_rollout("task", rollout_id="ro-mine")
    assert given == await metered.inner.get_rollout_by_id("ro-mine")
    with pytest.raises(RolloutNotFoundError, match="Item x does not exist"):
        await metered.store.update_rollout("x", status="failed")


async def test_claims_are_counted_by_queue_and_timed_since_they_were_enqueued(metered, clock):
    requests = [EnqueueRolloutRequest(input=1, queue=name) for name in ("a", "a", "b")]
    await metered.store.enqueue_many_rollouts(requests)
    clock.advance(7)
    assert await metered.store.dequeue_rollout("w", queues=["a"])
    assert len(await metered.store.dequeue_many_rollouts(limit=5, queues=["a", "b"])) == 2
    assert await metered.store.dequeue_rollout("w", queues=["a"]) is None
    assert metered.all("claimed_rollouts_total") == {("a",): 2, ("b",): 1}
    assert metered("queue_wait_seconds_count") == 3
    assert metered("queue_wait_seconds_sum") == pytest.approx(21)
    assert metered("last_claim_timestamp_seconds") > 0


async def test_retries_are_claims_whose_wait_is_not_known(metered):
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"])
    await metered.store.enqueue_rollout("task", config=config)
    for _ in range(2):
        claimed = await metered.store.dequeue_rollout("w")
        await metered.store.update_attempt(claimed.rollout_id, "latest", status="failed")
    assert metered("claimed_rollouts_total", queue="default") == 2
    assert metered("queue_wait_seconds_count") == 1


async def test_waits_are_told_apart_from_calls_and_while_they_last(metered):
    waiting = [
        asyncio.ensure_future(metered.store.dequeue_rollout("w", timeout=60)),
        asyncio.ensure_future(metered.store.wait_for_rollouts(rollout_ids=["ro-1"])),
        asyncio.ensure_future(metered.store.wait_for_rollouts(rollout_ids=["ro-1"], timeout=60)),
    ]
    metered.inner.gates["wait_for_rollouts"] = asyncio.Event()
    await until(lambda: len(metered.all("waits_in_progress")) == 2)
    assert metered.all("waits_in_progress") == {("dequeue_rollout",): 1, ("wait_for_rollouts",): 2}
    await metered.store.dequeue_rollout("v")
    await metered.store.enqueue_rollout("task")
    await waiting[0]
    metered.inner.gates["wait_for_rollouts"].set()
    waiting[1].cancel()
    await asyncio.wait(waiting)
    assert metered.all("waits_in_progress") == {}
    assert metered.all("wait_duration_seconds_count") == {("dequeue_rollout",): 1, ("wait_for_rollouts",): 2}
    assert metered("operation_duration_seconds_count", operation="dequeue_rollout") == 1
    assert metered("operations_total", operation="wait_for_rollouts", outcome="cancelled") == 1


@pytest.fixture
async def metered_file(tmp_path):
    metered = Metered(SQLiteLightningStore(tmp_path / "store.db", memory_capacity_bytes=10_000))
    yield metered
    await metered.inner.close()


async def test_spans_and_their_bytes_are_counted_once(metered):
    await check_spans(metered)
    assert metered("stored_span_bytes_total") == (await metered.inner.statistics())["span_bytes"]


async def test_sqlite_tells_the_bytes_of_spans(metered_file):
    await check_spans(metered_file)
    counted = (await metered_file.inner.statistics())["span_bytes"]
    assert metered_file("stored_span_bytes_total") == counted - 4 * ROW_BYTES


async def check_spans(metered):
    rollout = await metered.store.start_rollout("task")
    spans = [span_of(rollout, span_id=f"{number:016x}") for number in range(3)]
    await metered.store.add_many_spans(spans)
    await metered.store.add_many_spans(spans)
    assert await metered.store.add_span(spans[0]) is None
    await metered.store.add_span(span_of(rollout, span_id="f" * 16))
    assert metered("stored_spans_total") == 4


async def test_evictions_of_writers_are_counted():
    metered = Metered(InMemoryLightningStore(memory_capacity_bytes=1000, span_size_estimator=lambda _: 100))
    await check_evictions(metered, 9)
    await metered.inner.close()


async def test_evictions_of_writers_of_a_file_are_counted(metered_file):
    await check_evictions(metered_file, 30)


async def check_evictions(metered, rollouts):
    for _ in range(rollouts):
        rollout = await metered.store.start_rollout("task")
        await metered.store.add_span(span_of(rollout))
        await metered.store.update_attempt(rollout.rollout_id, "latest", status="succeeded")
    kept = (await metered.inner.statistics())["total_spans"]
    assert metered("evicted_rollouts_total") == rollouts - kept > 0


async def test_redis_tells_bytes_and_repeated_calls(redis_url, namespace):
    async with Proxy(redis_url) as proxy:
        inner = RedisLightningStore(proxy.url, namespace=namespace)
        metered = Metered(inner)
        rollout = await metered.store.start_rollout("task")
        await metered.store.add_span(span_of(rollout))
        stored = metered("stored_span_bytes_total")
        proxy.fault, proxy.judge = Fault.LOST_ANSWER, lambda _: proxy.lost == 0
        await metered.store.update_worker("w")
        assert metered.all("retries_total") == {("store_unavailable",): 1}
        assert metered("operations_total", operation="update_worker", outcome="ok") == 1
        await inner.close()
    assert 50 < stored < 5000


async def test_store_of_another_process_has_no_bytes_and_no_retries():
    """As over HTTP: absent, because 0 would be wrong."""

    class Client(FaultyStore):
        def __init__(self) -> None:
            super().__init__(InMemoryLightningStore())
            self.behind, self.store = self.store, None

    scrape = scrape_registry(Metered(Client()).registry)
    assert {"lightning_store_stored_span_bytes_total", "lightning_store_retries_total"} & scrape.series == set()
    assert scrape("stored_spans_total") == 0


async def test_any_number_of_threads_may_call(redis_url, namespace):
    inner = RedisLightningStore(redis_url, namespace=namespace)
    metered = Metered(inner)

    async def work():
        for _ in range(25):
            await metered.store.enqueue_rollout("task")
        await inner.close()

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, work()) for _ in range(4)))
    assert metered("operations_total", operation="enqueue_rollout", outcome="ok") == 100
    await inner.close()


def test_store_inside_of_wrappers_is_found():
    store = InMemoryLightningStore()
    assert innermost(MeteredStore(LightningStoreThreaded(store), OperationMetrics(CollectorRegistry()))) is store


def test_pickled_store_tells_nobody(redis_url, namespace):
    import pickle  # noqa: PLC0415

    inner = RedisLightningStore(redis_url, namespace=namespace)
    Metered(inner)
    assert pickle.loads(pickle.dumps(inner)).namespace == namespace  # noqa: S301
