"""Enqueuing in Redis beyond what every store promises: what is sent while a producer waits, and how much at once."""

import asyncio

import pytest

from lightning_store.backends.redis import enqueue
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.errors import InvalidRequestError, QueueFullError
from tests.support.factories import requests_for


@pytest.fixture
async def store(redis_url, namespace):
    store = RedisLightningStore(redis_url, namespace=namespace, max_queued=10)
    yield store
    await store.close()


def scripts_run(redis_server):
    with redis_server.client() as client:
        return client.info("commandstats")["cmdstat_evalsha"]["calls"]


async def test_tasks_are_not_sent_while_there_is_no_room(store, redis_server):
    """The first try, that of its turn, and a last one; only looks in between."""
    await store.enqueue_many_rollouts(requests_for(range(10)))
    before = scripts_run(redis_server)
    with pytest.raises(QueueFullError):
        await store.enqueue_rollout("late", timeout=2.5)
    assert scripts_run(redis_server) - before == 3


async def test_stored_rollouts_of_a_call_are_noticed_though_there_seems_to_be_no_room(store):
    """It has room for the new one of its ten, but not for ten: what looks for room does not know which are stored."""
    stored = [request for n in range(9) for request in requests_for([n], rollout_id=f"own-{n}")]
    await store.enqueue_many_rollouts([*stored, *requests_for(["other"])])
    task = asyncio.create_task(store.enqueue_many_rollouts([*stored, *requests_for(["new"])], timeout=60))
    await asyncio.wait([task], timeout=0.1)
    assert not task.done()

    await store.dequeue_rollout()

    answer = await asyncio.wait_for(task, 20)
    assert [rollout.input for rollout in answer] == [*range(9), "new"]


async def test_call_that_is_too_large_as_a_whole_is_refused(store, monkeypatch):
    monkeypatch.setattr(enqueue, "MOST_BYTES", 1000)
    with pytest.raises(InvalidRequestError, match="rollouts: 1206 bytes in one call, expected at most 1000"):
        await store.enqueue_many_rollouts(requests_for(["x" * 400] * 3))
    assert list(await store.query_rollouts()) == []
