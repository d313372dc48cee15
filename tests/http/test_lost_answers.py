"""Connections to the server are lost in every call, and each call takes effect once."""

import pytest

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.backends.sqlite import SQLiteLightningStore
from lightning_store.http.client import LightningStoreClient
from lightning_store.http.protocol import TRY_HEADER
from lightning_store.records import LLM, EnqueueRolloutRequest
from tests.support.factories import make_span
from tests.support.http_server import ServedStore
from tests.support.proxy import Fault, Proxy

FAULTS = (Fault.LOST_ANSWER, Fault.CUT_BEFORE, Fault.HALF_MESSAGE, Fault.CUT_AFTER, Fault.HALF_ANSWER)
MODEL = {"model": LLM(endpoint="http://model", model="m")}


@pytest.fixture(params=["memory", "sqlite", "redis"])
def behind(request, tmp_path, namespace):
    """The store behind the server: two that know nothing of keys, and one that answers repeats itself."""
    if request.param == "memory":
        return InMemoryLightningStore()
    if request.param == "sqlite":
        return SQLiteLightningStore(tmp_path / "store.db", synchronous="normal")
    return RedisLightningStore(request.getfixturevalue("redis_url"), namespace=namespace)


def is_first_try(message: bytes) -> bool:
    return message.startswith(b"POST") and TRY_HEADER.lower().encode() not in message.lower()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.lower())
async def test_each_call_takes_effect_once_whatever_becomes_of_its_first_try(behind, fault):
    served = ServedStore(behind, orphan_seconds=30.0)
    async with Proxy(served.url) as proxy:
        proxy.judge, proxy.fault = is_first_try, fault
        client = LightningStoreClient(proxy.url)
        try:
            await _live(client)
        finally:
            await client.close()
        assert proxy.lost >= 10, "too few calls met with the fault"
    await _check(served)
    await served.close()


async def _live(client: LightningStoreClient) -> None:
    ids = [
        each.rollout_id for each in await client.enqueue_many_rollouts([EnqueueRolloutRequest(input=n) for n in "abc"])
    ]
    assert len(set(ids)) == 3
    await client.enqueue_rollout("d")
    claimed = await client.dequeue_many_rollouts(limit=2, worker_id="w", lease_seconds=60)
    assert [each.rollout_id for each in claimed] == ids[:2]
    third = await client.dequeue_rollout("w", timeout=5, lease_seconds=60)
    assert third is not None
    assert third.rollout_id == ids[2]
    pairs = [(each.rollout_id, each.attempt.attempt_id) for each in claimed]
    assert await client.get_many_span_sequence_ids([pairs[0], pairs[0]]) == [1, 2]
    assert await client.get_next_span_sequence_id(*pairs[0]) == 3
    added = await client.add_resources(MODEL)
    assert (await client.update_resources(added.resources_id, MODEL)).version == 2
    spans = [make_span(*pairs[0], span_id=f"span-{n}") for n in range(3)]
    assert [span.sequence_id for span in await client.add_many_spans(spans, renumber=True)] == [4, 5, 6]
    assert (await client.update_attempt(*pairs[0], status="succeeded")).status == "succeeded"
    assert (await client.release_attempt(*pairs[1])).cause == "released"
    assert (await client.start_attempt(ids[2])).attempt.sequence_id == third.attempt.sequence_id + 1
    assert (await client.start_rollout("e")).attempt.sequence_id == 1
    assert await client.cancel_rollouts([ids[2]]) == [ids[2]]
    assert await client.delete_rollouts([ids[2]]) == [ids[2]]


async def _check(store: ServedStore) -> None:
    rollouts = list(await store.query_rollouts())
    assert sorted(each.input for each in rollouts) == ["a", "b", "d", "e"]
    attempts = {each.input: await store.query_attempts(each.rollout_id) for each in rollouts}
    # A claim whose caller went away before it was carried out may have been handed back, and claimed anew.
    kept = {task: [each for each in page if each.cause != "released"] for task, page in attempts.items()}
    assert {task: len(page) for task, page in kept.items()} == {"a": 1, "b": 0, "d": 0, "e": 1}
    assert [queue.depth for queue in await store.query_queues()] == [2]
    assert len((await store.completions()).items) == 1
    assert len(await store.query_resources()) == 1
    assert not (await store.audit()).findings
