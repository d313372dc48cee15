"""Agent Lightning's real server over our stores, and our server, both with Agent Lightning's real client.

The first is what the managed strategies do, the second what programs do that know nothing of us.
"""

import asyncio
from collections.abc import AsyncIterator
from itertools import chain
from typing import Any

import agentlightning as al
import pytest
from agentlightning.store.client_server import LightningStoreClient
from aiohttp import ClientResponseError
from opentelemetry.sdk.trace import TracerProvider

from lightning_store.integrations.agentlightning import AgentLightningStore
from tests.agentlightning.conftest import KINDS, OURS, backend
from tests.agentlightning.support.making import span_of
from tests.agentlightning.support.serving import our_server, their_server

SERVERS = [*(("theirs", kind) for kind in KINDS), *(("ours", kind) for kind in OURS)]


@pytest.fixture(params=SERVERS, ids="-".join)
def whose(request) -> tuple[str, str]:
    """Whose server, over which store."""
    return request.param


@pytest.fixture
def kind(whose) -> str:
    return whose[1]


@pytest.fixture
async def served(whose, kind, namespace, make_store, request) -> AsyncIterator[tuple[Any, Any, Any]]:
    """The store behind, the server as a store in its own process, and a client."""
    if whose[0] == "theirs":
        store = make_store(scan_debounce_seconds=0)
        async with their_server(store) as server:
            client = LightningStoreClient(server.endpoint)
            yield store, server, client
            await client.close()
        return
    async with our_server(backend(kind, namespace, request)) as server:
        store = AgentLightningStore(server, scan_debounce_seconds=0)
        client = LightningStoreClient(server.url)
        yield store, store, client
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
    assert (await client.statistics())["total_spans"] == 1


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


@pytest.mark.parametrize("whose", [("ours", "memory")], indirect=True, ids="-".join)
async def test_unknown_rollout_is_known_at_once(served):
    """Upstream's server has the client repeat the read for eight seconds."""
    async with asyncio.timeout(5):
        assert await served[2].get_rollout_by_id("ro-unknown") is None
        with pytest.raises(ClientResponseError) as refused:
            await served[2].update_rollout("ro-unknown", status="cancelled")
    assert refused.value.status == 404


async def test_what_does_not_exist(served):
    """Single reads are None."""
    _, _, client = served
    assert await client.get_latest_attempt("ro-unknown") is None
    assert await client.get_resources_by_id("rs-unknown") is None
    assert await client.get_latest_resources() is None
    assert await client.get_worker_by_id("unknown") is None
    assert await client.dequeue_rollout() is None
    assert list(await client.query_spans("ro-unknown")) == []
    with pytest.raises(ValueError, match=r"0\.1"):
        await client.wait_for_rollouts(rollout_ids=["ro-unknown"], timeout=5)


async def test_every_other_call_of_the_client(served):
    """Those that the story above leaves out."""
    client = served[2]
    await client.update_resources("rs-own", {"llm": al.LLM(endpoint="e", model="m")})
    assert (await client.get_latest_resources()).resources_id == "rs-own"
    assert [update.version for update in await client.query_resources(resources_id="rs-own")] == [1]
    started = await client.start_rollout(
        {"a": 1}, mode="val", worker_id="worker", config=al.RolloutConfig(max_attempts=3)
    )
    again = await client.start_attempt(started.rollout_id)
    assert (started.attempt.sequence_id, again.attempt.sequence_id) == (1, 2)
    pairs = [(started.rollout_id, again.attempt.attempt_id)] * 3
    assert await client.get_many_span_sequence_ids(pairs) == [1, 2, 3]
    stored = await client.add_otel_span(started.rollout_id, again.attempt.attempt_id, finished_span())
    assert stored.sequence_id == 4
    spans = [span_of(again, f"{number}" * 16, sequence_id=number) for number in range(5, 8)]
    assert len(await client.add_many_spans(spans)) == 3
    assert [span.sequence_id for span in await client.query_spans(started.rollout_id, "latest")] == [4, 5, 6, 7]
    await client.update_rollout(started.rollout_id, metadata={"b": [1]})
    assert (await client.get_rollout_by_id(started.rollout_id)).metadata == {"b": [1]}
    assert (await client.get_latest_attempt(started.rollout_id)).status == "running"
    many = await client.enqueue_many_rollouts([al.EnqueueRolloutRequest(input=number) for number in range(3)])
    assert [rollout.input for rollout in await client.dequeue_many_rollouts(limit=2, worker_id="worker")] == [0, 1]
    assert (await client.get_worker_by_id("worker")).current_rollout_id == many[1].rollout_id
    page = await client.query_rollouts(status_in=["queuing"], sort_by="start_time", limit=1)
    assert ([rollout.input for rollout in page], page.total) == ([2], 1)
    assert await client.wait_for_rollouts(rollout_ids=[many[0].rollout_id], timeout=0.05) == []
    assert client.capabilities == {"thread_safe": True, "async_safe": True, "zero_copy": True, "otlp_traces": True}


def finished_span():
    span = TracerProvider().get_tracer("tests").start_span("work")
    span.end()
    return span
