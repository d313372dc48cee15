"""What the store tells of itself, and the small things that callers compare literally: sections 3.1 and 8."""

import inspect
import itertools
import time

import pytest

from lightning_store.contract import LightningStore
from lightning_store.errors import (
    AttemptNotFoundError,
    LightningStoreError,
    RolloutNotFoundError,
    UnsupportedOperationError,
)
from lightning_store.http.client import LightningStoreClient
from lightning_store.operations import OPERATIONS
from tests.support.factories import make_span, some_resources, span_of
from tests.support.stores import STORE_KINDS, only_stores


def wrapped(store):
    """The store that keeps the data: a wrapper's own, else the store itself."""
    return getattr(store, "store", store)


async def test_store_is_a_lightning_store_with_every_operation(store):
    assert isinstance(store, LightningStore)
    for name in OPERATIONS:
        method = getattr(type(store), name)
        assert method is not getattr(LightningStore, name), f"{name} is missing"
        assert inspect.iscoroutinefunction(method) or inspect.iscoroutinefunction(inspect.unwrap(method))


async def test_signatures_are_those_of_the_contract(store):
    for name in OPERATIONS:
        expected = inspect.signature(getattr(LightningStore, name)).parameters
        actual = inspect.signature(getattr(type(store), name)).parameters
        assert list(actual) == list(expected), name
        assert {k: (p.kind, p.default) for k, p in actual.items()} == {
            k: (p.kind, p.default) for k, p in expected.items()
        }, name


async def test_capabilities_are_booleans_and_async_safe(store):
    capabilities = store.capabilities
    assert set(capabilities) <= {"thread_safe", "async_safe", "zero_copy", "otlp_traces"}
    assert all(isinstance(value, bool) for value in capabilities.values())
    assert capabilities["async_safe"] is True
    assert capabilities.get("otlp_traces", False) is isinstance(store, LightningStoreClient)


async def test_capabilities_of_each_kind(store, store_kind):
    expected = {
        "memory": (False, False),
        "threaded_memory": (True, False),
        "redis": (True, True),
        "fakeredis": (True, True),
        "threaded_redis": (True, True),
        "http_memory": (True, True),
        "http_redis": (True, True),
        "repeated_redis": (True, True),
        "sqlite": (True, True),
        "cluster": (True, True),
        "repeated_cluster": (True, True),
    }
    capabilities = store.capabilities
    assert (capabilities["thread_safe"], capabilities["zero_copy"]) == expected[store_kind]


@only_stores(*[kind for kind in STORE_KINDS if not kind.startswith("http")])
async def test_store_without_an_endpoint_for_traces_says_so(store):
    """Not through HTTP: a server takes traces."""
    with pytest.raises(NotImplementedError) as caught:
        store.otlp_traces_endpoint()
    assert isinstance(caught.value, UnsupportedOperationError)


async def test_statistics_count_what_is_stored(store):
    empty = await store.statistics()
    assert {key: empty[key] for key in empty if key.startswith("total_")} == {
        "total_rollouts": 0,
        "total_attempts": 0,
        "total_spans": 0,
        "total_resources": 0,
        "total_workers": 0,
    }
    started = await store.start_rollout(1, worker_id="w1")
    await store.start_attempt(started.rollout_id, "w2")
    await store.enqueue_rollout(2)
    await store.add_many_spans([span_of(started) for _ in range(4)])
    await store.add_span(span_of(started, span_id="s"))
    await store.add_span(span_of(started, span_id="s"))
    for _ in range(3):
        resources = await store.add_resources(some_resources())
    await store.update_resources(resources.resources_id, {})
    await store.update_worker("w3")

    counts = await store.statistics()

    assert {key: counts[key] for key in counts if key.startswith("total_")} == {
        "total_rollouts": 2,
        "total_attempts": 2,
        "total_spans": 5,
        "total_resources": 3,
        "total_workers": 3,
    }
    by_status = {status: count for status, count in counts["rollouts_by_status"].items() if count}
    assert by_status == {"preparing": 1, "queuing": 1}


async def test_name_is_that_of_the_class_that_keeps_the_data(store):
    assert (await store.statistics())["name"] == type(wrapped(store)).__name__


async def test_uptime_grows_from_one_call_to_the_next(store):
    uptimes = [(await store.statistics())["uptime"] for _ in range(5)]
    assert all(later > earlier >= 0 for earlier, later in itertools.pairwise(uptimes))


async def test_messages_of_unknown_rollouts(store):
    with pytest.raises(RolloutNotFoundError, match="Rollout ro-x not found"):
        await store.start_attempt("ro-x")
    with pytest.raises(RolloutNotFoundError, match="Rollout ro-x not found"):
        await store.add_span(make_span("ro-x", "at-x"))
    with pytest.raises(RolloutNotFoundError, match=r"Item.*does not exist"):
        await store.update_rollout("ro-x", mode="train")


async def test_messages_of_unknown_attempts(store):
    queued = await store.enqueue_rollout("task")
    with pytest.raises(AttemptNotFoundError, match="Attempt at-x not found"):
        await store.add_span(make_span(queued.rollout_id, "at-x"))
    with pytest.raises(AttemptNotFoundError, match="No attempts found"):
        await store.update_attempt(queued.rollout_id, "latest", status="failed")


async def test_errors_are_value_errors_of_our_tree(store):
    for call in (store.start_attempt("ro-x"), store.query_rollouts(limit=-5)):
        with pytest.raises(LightningStoreError) as caught:
            await call
        assert isinstance(caught.value, ValueError)
        assert not caught.value.retryable


async def test_attributes_of_ones_own_can_be_set_on_a_store(store):
    store.mine = "kept"
    assert store.mine == "kept"


async def test_rollout_has_no_attribute_attempt(store):
    queued = await store.enqueue_rollout("task")
    assert not hasattr(await store.get_rollout_by_id(queued.rollout_id), "attempt")
    assert not hasattr((await store.query_rollouts())[0], "attempt")


async def test_rollout_finished_right_after_its_creation_ends_after_it_starts(live_store):
    started = await live_store.start_rollout("task")
    await live_store.update_attempt(started.rollout_id, "latest", status="succeeded")

    rollout = await live_store.get_rollout_by_id(started.rollout_id)

    assert rollout.end_time > rollout.start_time


async def test_times_are_seconds_since_the_epoch(live_store):
    before = time.time()
    started = await live_store.start_rollout("task")
    await live_store.update_worker("w")

    worker = await live_store.get_worker_by_id("w")
    for moment in (started.start_time, worker.last_heartbeat_time):
        assert isinstance(moment, float)
        assert before - 5 < moment < time.time() + 5


@only_stores("memory", "threaded_memory", "sqlite")
async def test_clock_is_looked_up_at_each_use(live_store, monkeypatch):
    """Stores with this machine's clock only: one on Redis has its server's, a difference that decisions.md names."""
    monkeypatch.setattr(time, "time", lambda: 4_000_000_000.5)

    worker = await live_store.update_worker("w")

    assert worker.last_heartbeat_time == 4_000_000_000.5


async def test_lists_are_real_lists(store):
    assert await store.dequeue_many_rollouts(limit=3) == []
    assert await store.enqueue_many_rollouts([]) == []
    assert await store.get_many_span_sequence_ids([]) == []
    started = await store.start_rollout("task")
    assert await store.get_many_span_sequence_ids([(started.rollout_id, "x")] * 3) == [1, 2, 3]


async def test_stores_are_apart_from_each_other(make_store):
    one, other = make_store(), make_store()
    await one.enqueue_rollout("task", rollout_id="r")
    await one.update_worker("w")

    assert await other.get_rollout_by_id("r") is None
    assert await other.dequeue_rollout() is None
    assert (await other.query_workers()).total == 0
    assert (await other.statistics())["total_rollouts"] == 0


async def test_closed_store_can_be_closed_again(store):
    await store.enqueue_rollout("task")
    await store.close()
    await store.close()
