"""Agent Lightning's real server over our stores, with its real client: what the managed strategies do."""

import asyncio
from collections.abc import AsyncIterator
from itertools import chain
from typing import Any

import agentlightning as al
import pytest
from agentlightning.store.client_server import LightningStoreClient

from tests.agentlightning.support.making import span_of
from tests.agentlightning.support.serving import their_server


@pytest.fixture
async def served(store) -> AsyncIterator[tuple[Any, Any, Any]]:
    """The store behind, the server in its own process, and a client."""
    async with their_server(store) as server:
        client = LightningStoreClient(server.endpoint)
        yield store, server, client
        await client.close()


async def test_a_whole_life_through_the_client(served):
    store, server, client = served
    update = await server.add_resources({"prompt": al.PromptTemplate(template="{x}", engine="f-string")})
    rollout = await server.enqueue_rollout({"x": 1}, mode="train", config=al.RolloutConfig(max_attempts=2))
    claimed = await client.dequeue_rollout(worker_id="Worker-0")
    assert type(claimed) is al.AttemptedRollout
    assert (claimed.rollout_id, claimed.resources_id) == (rollout.rollout_id, update.resources_id)
    assert (await client.get_resources_by_id(claimed.resources_id)).resources["prompt"].template == "{x}"
    await client.update_worker("Worker-0", {"cpu": 1})
    number = await client.get_next_span_sequence_id(claimed.rollout_id, claimed.attempt.attempt_id)
    span = span_of(claimed, sequence_id=number, attributes={"answer": 42})
    assert await client.add_span(span) is not None
    assert await client.add_span(span) is None
    await client.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")
    (done,) = await server.wait_for_rollouts(rollout_ids=[claimed.rollout_id], timeout=5)
    assert done.status == "succeeded"
    assert (await client.get_rollout_by_id(rollout.rollout_id)) == await store.get_rollout_by_id(rollout.rollout_id)
    assert list(await client.query_spans(rollout.rollout_id)) == list(await store.query_spans(rollout.rollout_id))
    assert list(await client.query_workers()) == list(await store.query_workers())
    assert list(await client.query_attempts(rollout.rollout_id)) == list(await store.query_attempts(rollout.rollout_id))
    assert (await client.statistics())["name"] == type(store).__name__


async def test_server_and_algorithm_on_the_same_object_at_once(served):
    """The server's loop and this one, with many requests in flight on both."""
    store, server, client = served
    await store.enqueue_many_rollouts([al.EnqueueRolloutRequest(input=number) for number in range(60)])

    async def work(source, worker_id):
        done = []
        while rollout := await source.dequeue_rollout(worker_id=worker_id):
            await source.add_span(span_of(rollout))
            await source.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")
            done.append(rollout.input)
        return done

    workers = [work(source, f"{name}-{n}") for name, source in (("s", server), ("c", client)) for n in range(5)]
    done = await asyncio.wait_for(asyncio.gather(*workers), 60)
    assert sorted(chain(*done)) == list(range(60))
    assert len(await server.query_rollouts(status_in=["succeeded"])) == 60
