"""The memory of a namespace, as a bounded number of questions tells it."""

import fakeredis
import pytest

from lightning_store.backends.redis import footprint as module
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.errors import LightningStoreError
from lightning_store.footprint import KINDS
from lightning_store.metrics.daemon import FootprintReader
from lightning_store.records import EnqueueRolloutRequest
from tests.support.factories import some_resources, span_of


@pytest.fixture
async def store(redis_url, namespace):
    store = RedisLightningStore(redis_url, namespace=namespace)
    yield store
    await store.close()


async def fill(store, number):
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(input="x" * 300) for _ in range(number)])
    for claimed in await store.dequeue_many_rollouts(limit=number // 2, worker_id="w"):
        spans = [span_of(claimed, span_id=f"{n:016x}", attributes={"text": "y" * 500}) for n in range(3)]
        await store.add_many_spans(spans)
        await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")
    await store.add_resources(some_resources())


async def truth(store):
    """The sum over all keys but those that are left out, which `SCAN` finds."""
    total = 0
    for prefix in (f"{{ls:{store.namespace}}}:*", f"ls:{store.namespace}:*"):
        async for names in store._connections.scan(prefix, 1000):
            wanted = [name for name in names if b":ops:" not in name]
            total += sum(await store._connections.commands([("MEMORY", "USAGE", name) for name in wanted]))
    return total


async def test_estimate_is_near_the_truth(store, monkeypatch):
    monkeypatch.setattr(module, "SAMPLED", 40)
    await fill(store, 200)
    footprint = await store.footprint()
    assert sum(footprint.by_kind.values()) == pytest.approx(await truth(store), rel=0.6)  # five standard deviations
    assert all(footprint.by_kind[kind] > 0 for kind in KINDS)
    assert footprint.used > sum(footprint.by_kind.values())
    assert footprint.limit > footprint.used


async def test_what_is_few_is_measured_to_the_byte(store):
    await fill(store, 40)
    footprint = await store.footprint()
    assert sum(footprint.by_kind.values()) == pytest.approx(await truth(store), rel=0.01)


async def test_empty_namespace_takes_nothing(store):
    footprint = await store.footprint()
    assert dict(footprint.by_kind) == dict.fromkeys(KINDS, 0.0)


async def test_number_of_commands_is_bounded(store, monkeypatch):
    monkeypatch.setattr(module, "SAMPLED", 5)
    await fill(store, 60)
    sent = []
    original = store._connections.commands

    async def commands(commands):
        sent.extend(commands)
        return await original(commands)

    monkeypatch.setattr(store._connections, "commands", commands)
    await store.footprint()
    assert len(sent) < 300


@pytest.mark.cluster
async def test_cluster_tells_it_too(redis_cluster, namespace):
    store = RedisLightningStore(redis_cluster.url, namespace=namespace)
    await fill(store, 20)
    footprint = await store.footprint()
    assert sum(footprint.by_kind.values()) == pytest.approx(await truth(store), rel=0.05)
    await store.close()


async def test_server_that_does_not_tell_has_no_metrics():
    store = RedisLightningStore(fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer()))
    with pytest.raises(LightningStoreError):
        await store.footprint()
    await store.close()


async def test_it_is_read_twice_a_minute(store):
    now, asked = 0.0, 0
    original = store.footprint

    async def footprint():
        nonlocal asked
        asked += 1
        return await original()

    store.footprint = footprint
    reader = FootprintReader(store, clock=lambda: now)
    for now in (0.0, 10.0, 29.0, 30.0, 59.0, 60.0):  # noqa: B007 - it is what the clock tells
        assert {metric.name for metric in await reader()} == {
            "lightning_store_redis_memory_used_bytes",
            "lightning_store_redis_memory_limit_bytes",
            "lightning_store_namespace_memory_bytes",
        }
    assert asked == 3
