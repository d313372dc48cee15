"""The server has no memory left: new work is refused whole, and what is under way goes on."""

import asyncio
import secrets

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.errors import StoreFullError
from lightning_store.operations import OPERATIONS
from tests.support.clock import SettableClock
from tests.support.factories import span_of
from tests.support.ids import CountingIds
from tests.support.invariants import check
from tests.support.keyspace import read_keyspace
from tests.support.mutations import MUTATIONS, set_scene
from tests.support.proxy import Proxy, the_first
from tests.support.redis_server import RedisUnderTest

REFUSED = {
    "start_rollout", "enqueue_rollout", "enqueue_many_rollouts", "start_attempt", "add_span", "add_many_spans",
    "add_otel_span", "add_resources", "update_resources",
}  # fmt: skip


@pytest.fixture(scope="module")
def server():
    with RedisUnderTest(settings={"appendonly": "no"}) as server:
        yield server


@pytest.fixture
def raw(server):
    with server.client(decode_responses=False) as client:
        yield client
        client.config_set("maxmemory", "0")


def fill(raw):
    """From now on the server uses more than it may."""
    raw.config_set("maxmemory", "1")


@pytest.fixture
def clock():
    return SettableClock()


@pytest.fixture
async def store(server, namespace, clock):
    # It does not look at the memory by itself: here the server refuses.
    store = RedisLightningStore(
        server.url, namespace=namespace, clock=clock, ids=CountingIds(), memory_check_seconds=None
    )
    yield store
    await store.close()


async def test_what_is_refused_and_what_goes_on_is_decided_for_every_operation():
    assert REFUSED < {name for name, row in OPERATIONS.items() if row.mutates} == set(MUTATIONS)


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_new_work_is_refused_and_leaves_no_trace(store, clock, raw, namespace, name):
    scene = await set_scene(store, clock)
    before = read_keyspace(raw, namespace)
    fill(raw)

    with pytest.raises(StoreFullError, match="nothing was written"):
        await MUTATIONS[name](store, scene)

    assert read_keyspace(raw, namespace) == before
    raw.config_set("maxmemory", "0")
    await MUTATIONS[name](store, scene)
    check(raw, namespace)


@pytest.mark.parametrize("name", sorted(set(MUTATIONS) - REFUSED - {"evict_spans"}))
async def test_work_that_is_under_way_goes_on(server, store, clock, raw, namespace, name):
    scene = await set_scene(store, clock)
    fill(raw)
    answer = await MUTATIONS[name](store, scene)
    found = read_keyspace(raw, namespace)
    check(raw, namespace)

    raw.config_set("maxmemory", "0")
    calm_clock = SettableClock()
    calm = RedisLightningStore(server.url, namespace=f"{namespace}-calm", clock=calm_clock, ids=CountingIds())
    calm_scene = await set_scene(calm, calm_clock)
    assert await MUTATIONS[name](calm, calm_scene) == answer
    without = ("events", "completed", "spans", "rollout")  # their ids of entries are the server's
    assert found.without(*without) == read_keyspace(raw, f"{namespace}-calm").without(*without)
    await calm.close()


async def test_reads_go_on_and_settle(store, clock, raw, namespace):
    scene = await set_scene(store, clock)
    fill(raw)

    silent = await store.get_rollout_by_id(scene.silent.rollout_id)
    assert (silent.status, silent.attempt.status) == ("requeuing", "unresponsive")
    assert len((await store.query_rollouts()).items) == 9
    assert len((await store.query_rollouts(status_in=["queuing"], limit=2)).items) == 2
    assert len((await store.query_spans(scene.running.rollout_id)).items) == 1
    assert len((await store.query_workers()).items) == 4
    assert (await store.query_attempts(scene.running.rollout_id)).total == 1
    assert (await store.get_latest_resources()).resources_id == "rs-scene"
    assert len(await store.wait_for_rollouts(rollout_ids=[scene.finished[0].rollout_id])) == 1
    assert len((await store.completions()).items) == 4
    assert await store.query_events()
    assert await store.query_queues()
    assert (await store.statistics())["total_rollouts"] == 9
    check(raw, namespace)


async def test_waiting_claims_go_on(server, raw, namespace):
    store = RedisLightningStore(server.url, namespace=namespace)
    await store.enqueue_rollout("task")
    fill(raw)

    claimed = await store.dequeue_rollout("w", timeout=5)
    assert claimed.input == "task"
    assert await store.dequeue_rollout("w", timeout=0.1) is None
    released = await store.release_attempt(claimed.rollout_id, claimed.attempt.attempt_id)
    assert released.cause == "released"
    assert (await store.dequeue_rollout("w", timeout=5)).rollout_id == claimed.rollout_id
    await store.close()


async def test_store_that_is_emptied_takes_new_work_again(store, clock, raw):
    """Pruning works when memory is full; it is the way out."""
    scene = await set_scene(store, clock)
    for rollout in scene.finished:
        await store.add_many_spans([span_of(rollout, attributes={"text": secrets.token_hex(1000)}) for _ in range(100)])
    raw.config_set("maxmemory", raw.info("memory")["used_memory"] - 100_000)
    with pytest.raises(StoreFullError):
        await store.enqueue_rollout("task")

    assert await store.prune(keep_latest=0) == 4
    await store.enqueue_rollout("task")


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_repeat_of_a_call_that_took_effect_is_answered_although_memory_is_full(
    server, store, clock, raw, namespace, name
):
    """Refused, it would be told that nothing was written; its caller would send the work a second time."""
    scene = await set_scene(store, clock)
    elsewhere = RedisLightningStore(server.url, namespace=f"{namespace}-before", clock=SettableClock())
    await MUTATIONS[name](elsewhere, await set_scene(elsewhere, SettableClock()))  # so that the script is cached
    async with Proxy(server.url) as proxy:
        through = RedisLightningStore(proxy.url, namespace=namespace, clock=clock, ids=store.ids)
        await through.statistics()
        proxy.judge, proxy.meanwhile = the_first(), lambda: asyncio.to_thread(fill, raw)
        before = read_keyspace(raw, namespace)

        assert await MUTATIONS[name](through, scene)
        assert proxy.lost == 1
        assert read_keyspace(raw, namespace) != before
        await through.close()
    await elsewhere.close()
    check(raw, namespace)
