"""Contract, sections 3.6, 3.7 and 2.5: resources and workers, over upstream's store and ours."""

import agentlightning as al
import pytest
from agentlightning.types import PaginatedResult

RESOURCES = {
    "main": al.LLM(endpoint="http://localhost:1", model="m", sampling_parameters={"temperature": 0.5, "stop": []}),
    "proxy": al.ProxyLLM(endpoint="http://localhost:2", model="m", api_key="secret"),
    "prompt": al.PromptTemplate(template="{x}", engine="f-string"),
}


async def test_snapshot_keeps_its_resources(store):
    update = await store.add_resources(RESOURCES)
    assert type(update) is al.ResourcesUpdate
    assert len(update.resources_id) == 15
    assert update.resources_id.startswith("rs-")
    assert (update.version, update.create_time) == (1, update.update_time)
    for read in (await store.get_latest_resources(), await store.get_resources_by_id(update.resources_id)):
        assert read == update
        assert {name: type(item) for name, item in read.resources.items()} == {
            "main": al.LLM, "proxy": al.ProxyLLM, "prompt": al.PromptTemplate
        }  # fmt: skip
        assert read.resources["prompt"] == RESOURCES["prompt"]
        assert read.resources["main"] == RESOURCES["main"]
        assert read.resources["proxy"].get_base_url("ro", "at").startswith("http://localhost:2/rollout/ro/attempt/at")


async def test_update_replaces_or_creates(store):
    first = await store.add_resources({"prompt": RESOURCES["prompt"]})
    created = await store.update_resources("rs-own", {"main": RESOURCES["main"]})
    assert (created.resources_id, created.version) == ("rs-own", 1)
    updated = await store.update_resources(first.resources_id, {"main": RESOURCES["main"]})
    assert (updated.version, list(updated.resources)) == (2, ["main"])
    assert updated.create_time == first.create_time
    assert (await store.get_latest_resources()).resources_id == first.resources_id
    page = await store.query_resources(resources_id_contains="own")
    assert type(page) is PaginatedResult
    assert [item.resources_id for item in page] == ["rs-own"]
    assert len(await store.query_resources()) == 2
    assert len(await store.query_resources(resources_id=first.resources_id, resources_id_contains="own")) == 0


async def test_nothing_known(store):
    assert await store.get_latest_resources() is None
    assert await store.get_resources_by_id("rs-unknown") is None
    assert await store.get_worker_by_id("unknown") is None
    assert list(await store.query_workers()) == []


async def test_worker_follows_its_attempts(store):
    await store.enqueue_rollout(1)
    claimed = await store.dequeue_rollout("worker")
    worker = await store.get_worker_by_id("worker")
    assert type(worker) is al.Worker
    assert worker.status == "busy"
    assert (worker.current_rollout_id, worker.current_attempt_id) == (claimed.rollout_id, claimed.attempt.attempt_id)
    assert worker.last_dequeue_time == pytest.approx(worker.last_busy_time, abs=1)
    await store.update_attempt(claimed.rollout_id, "latest", status="succeeded")
    worker = await store.get_worker_by_id("worker")
    assert (worker.status, worker.current_rollout_id, worker.current_attempt_id) == ("idle", None, None)
    assert await store.dequeue_rollout("another") is None
    assert (await store.get_worker_by_id("another")).status == "idle"
    started = await store.start_rollout(1, worker_id="third")
    await store.update_attempt(started.rollout_id, "latest", status="unresponsive")
    assert (await store.get_worker_by_id("third")).status == "unknown"
    page = await store.query_workers(status_in=["idle"], worker_id_contains="o", sort_by="worker_id")
    assert type(page) is PaginatedResult
    assert [item.worker_id for item in page] == ["another", "worker"]


async def test_heartbeats(store):
    worker = await store.update_worker("worker", {"cpu": 0.5})
    assert type(worker) is al.Worker
    assert (worker.status, worker.heartbeat_stats) == ("unknown", {"cpu": 0.5})
    again = await store.update_worker("worker")
    assert again.heartbeat_stats == {"cpu": 0.5}
    assert again.last_heartbeat_time >= worker.last_heartbeat_time
    await store.dequeue_rollout("worker")
    assert (await store.get_worker_by_id("worker")).heartbeat_stats == {"cpu": 0.5}


async def test_stats_cannot_be_none(store):
    with pytest.raises(TypeError):
        await store.update_worker("worker", None)
