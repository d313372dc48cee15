"""Our HTTP client before the server of Agent Lightning 0.3, where that is installed."""

import asyncio
import os
import socket
import time
import warnings

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it waits for a download

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("agentlightning")
    from agentlightning.store.client_server import LightningStoreServer
    from agentlightning.store.memory import InMemoryLightningStore as TheirStore

from lightning_store.errors import (
    AttemptNotFoundError,
    InvalidRequestError,
    RolloutNotFoundError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from lightning_store.http.client import LightningStoreClient
from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from tests.support.factories import make_span, requests_for, some_resources, span_of
from tests.support.proxy import Fault, Proxy

pytestmark = pytest.mark.filterwarnings("default")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
async def their_url():
    port = free_port()
    server = LightningStoreServer(TheirStore(), host="127.0.0.1", port=port)
    await server.start()
    yield f"http://127.0.0.1:{port}"
    await server.stop()


@pytest.fixture
async def client(their_url):
    store = LightningStoreClient(their_url, retry_seconds=5)
    yield store
    await store.close()


async def test_life_of_a_rollout(client):
    resources = await client.add_resources(some_resources())
    queued = await client.enqueue_rollout({"task": [1, 1.0, True]}, "train", metadata={"m": None})
    claimed = await client.dequeue_rollout("w")
    await client.update_worker("w", {"load": 0.5})
    span = span_of(claimed)
    assert await client.add_span(span) is span
    assert await client.add_span(span) is None
    ended = await client.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")
    [finished] = await client.wait_for_rollouts(rollout_ids=[queued.rollout_id, "ro-unknown"])

    assert claimed.rollout_id == queued.rollout_id == finished.rollout_id
    assert (claimed.resources_id, claimed.input) == (resources.resources_id, {"task": [1, 1.0, True]})
    assert (ended.status, finished.status) == ("succeeded", "succeeded")
    assert (await client.get_rollout_by_id(queued.rollout_id)).attempt.status == "succeeded"
    assert (await client.query_spans(queued.rollout_id)).items == [span]
    assert (await client.get_worker_by_id("w")).heartbeat_stats == {"load": 0.5}
    assert (await client.statistics())["total_spans"] == 1


async def test_spans_in_bulk_and_numbers(client):
    started = await client.start_rollout("task", worker_id="w")
    pair = (started.rollout_id, started.attempt.attempt_id)
    assert await client.get_many_span_sequence_ids([pair, pair]) == [1, 2]

    spans = [span_of(started) for _ in range(3)]
    stored = await client.add_many_spans([*spans, spans[0]], renumber=True)

    assert [span.span_id for span in stored] == [span.span_id for span in spans]
    assert [span.sequence_id for span in stored] == [3, 4, 5]
    assert (await client.query_many_spans([started.rollout_id]))[started.rollout_id] == stored


async def test_unknown_ids_raise_what_our_own_stores_raise(client):
    queued = await client.enqueue_rollout("task")
    for call, error, text in (
        (client.start_attempt("ro-x"), RolloutNotFoundError, "Rollout ro-x not found"),
        (client.update_rollout("ro-x", mode="train"), RolloutNotFoundError, "does not exist"),
        (client.add_span(make_span("ro-x", "at-x")), RolloutNotFoundError, "Rollout ro-x not found"),
        (client.update_attempt(queued.rollout_id, "latest", status="failed"), AttemptNotFoundError, "No attempts"),
        (client.query_rollouts(sort_by="nothing"), InvalidRequestError, "Invalid sort_by"),
    ):
        with pytest.raises(error, match=text):
            await call
    assert await client.get_rollout_by_id("ro-x") is None
    assert await client.get_latest_attempt("ro-x") is None
    assert (await client.query_rollouts(limit=0)).total == 1


async def test_what_it_lacks_is_refused_and_nothing_is_left_out_in_silence(client):
    delayed = RolloutConfig(retry_delay_seconds=1)
    for call in (
        client.renew("w", []),
        client.completions(),
        client.delete_rollouts(["x"]),
        client.enqueue_rollout(1, rollout_id="own"),
        client.enqueue_many_rollouts([EnqueueRolloutRequest(input=1, queue="other")]),
        client.enqueue_rollout(1, config=delayed),
        client.start_rollout(1, lease_seconds=5),
        client.dequeue_rollout(queues=["other"]),
        client.query_rollouts(group_id="g"),
    ):
        with pytest.raises(UnsupportedOperationError, match=r"Agent Lightning 0\.3"):
            await call
    assert (await client.query_rollouts()).total == 0


async def test_waits_are_looks_from_time_to_time(client):
    waiting = asyncio.create_task(client.dequeue_rollout("w", timeout=30))
    await asyncio.wait([waiting], timeout=0.3)
    assert not waiting.done()

    await client.enqueue_many_rollouts(requests_for(["task"]))

    claimed = await asyncio.wait_for(waiting, 20)
    started = time.monotonic()
    assert await client.wait_for_rollouts(rollout_ids=[claimed.rollout_id], timeout=0.3) == []
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize("call", ["start", "read", "span"])
async def test_only_what_does_no_harm_is_repeated(their_url, client, call):
    started = await client.start_rollout("first")
    span = span_of(started)
    async with Proxy(their_url) as proxy:
        other = LightningStoreClient(proxy.url, retry_seconds=5)
        await other.statistics()
        marks = {"start": b"POST /v1/agl/rollouts ", "read": b"GET /v1/agl/statistics", "span": b"POST /v1/agl/spans "}
        proxy.judge = lambda data: data.startswith(marks[call]) and proxy.lost == 0
        proxy.fault = Fault.LOST_ANSWER
        if call == "start":
            with pytest.raises(StoreUnavailableError, match="may have taken effect"):
                await other.start_rollout("second")
        elif call == "read":
            assert (await other.statistics())["total_rollouts"] == 1
        else:
            await other.add_span(span)
        await other.close()
        assert proxy.lost == 1
    assert (await client.query_rollouts()).total == (2 if call == "start" else 1)
    assert (await client.query_spans(started.rollout_id)).total == (1 if call == "span" else 0)
