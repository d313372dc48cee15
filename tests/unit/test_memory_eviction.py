"""Eviction of spans by memory thresholds; only the memory store measures its spans this way."""

import gc
import tracemalloc

import pytest

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.errors import InvalidRequestError, SpansEvictedError, StoreFullError
from tests.support.factories import reward_span, span_of


def small_store(**options) -> InMemoryLightningStore:
    """Room for 100 spans, evicts beyond 50 until 20 are left."""
    values = {
        "memory_capacity_bytes": 100,
        "eviction_memory_threshold": 50,
        "safe_memory_threshold": 20,
        "high_water_memory_threshold": 1.0,
        "span_size_estimator": lambda _span: 1,
    }
    return InMemoryLightningStore(**(values | options))


async def with_spans(store, count, *, status="succeeded"):
    rollout = await store.start_rollout("task")
    await store.add_many_spans([span_of(rollout) for _ in range(count)])
    if status is not None:
        await store.update_attempt(rollout.rollout_id, "latest", status=status)
    return rollout.rollout_id


async def is_evicted(store, rollout_id) -> bool:
    try:
        await store.query_spans(rollout_id)
    except SpansEvictedError:
        return True
    return False


async def test_oldest_finished_rollouts_lose_their_spans_down_to_the_safe_threshold():
    store = small_store()
    ids = [await with_spans(store, 10) for _ in range(5)]
    assert [await is_evicted(store, id) for id in ids] == [False] * 5

    ids.append(await with_spans(store, 1))

    assert [await is_evicted(store, id) for id in ids] == [True, True, True, True, False, False]
    assert (await store.statistics())["total_spans"] == 11


async def test_oldest_is_who_finished_first_not_who_was_created_first():
    store = small_store()
    first = await with_spans(store, 20, status=None)
    second = await with_spans(store, 20)
    await store.update_attempt(first, "latest", status="failed")
    await with_spans(store, 11)
    assert (await is_evicted(store, first), await is_evicted(store, second)) == (True, True)

    store = small_store(safe_memory_threshold=40)
    first = await with_spans(store, 20, status=None)
    second = await with_spans(store, 20)
    await store.update_attempt(first, "latest", status="failed")
    await with_spans(store, 11)
    assert (await is_evicted(store, first), await is_evicted(store, second)) == (False, True)


async def test_unfinished_rollouts_keep_their_spans():
    store = small_store()
    running = await with_spans(store, 40, status=None)
    finished = await with_spans(store, 5)
    await with_spans(store, 30, status=None)
    assert (await is_evicted(store, running), await is_evicted(store, finished)) == (False, True)


async def test_evicted_rollouts_keep_everything_but_their_spans():
    store = small_store()
    rollout = await store.start_rollout("task", worker_id="w")
    await store.add_span(reward_span(rollout, 0.5))
    await store.add_many_spans([span_of(rollout, sequence_id=9) for _ in range(40)])
    await store.update_attempt(rollout.rollout_id, "latest", status="succeeded")
    await with_spans(store, 20, status=None)

    assert await is_evicted(store, rollout.rollout_id)
    assert await store.rewards([rollout.rollout_id]) == {rollout.rollout_id: 0.5}
    assert (await store.get_rollout_by_id(rollout.rollout_id)).status == "succeeded"
    assert await store.get_next_span_sequence_id(rollout.rollout_id, "any") == 10
    with pytest.raises(SpansEvictedError, match=rollout.rollout_id):
        await store.query_many_spans([rollout.rollout_id])


async def test_spans_that_do_not_fit_are_refused_and_nothing_is_written():
    store = small_store()
    full = await store.start_rollout("task")
    await store.add_many_spans([span_of(full) for _ in range(95)])
    other = await store.start_rollout("task")
    before = await store.get_rollout_by_id(other.rollout_id)

    with pytest.raises(StoreFullError, match="100"):
        await store.add_many_spans([span_of(other) for _ in range(6)])

    assert await store.get_rollout_by_id(other.rollout_id) == before
    assert (await store.query_spans(other.rollout_id)).total == 0
    assert len(await store.add_many_spans([span_of(other) for _ in range(5)])) == 5


async def test_duplicates_need_no_room():
    store = small_store(eviction_memory_threshold=0.9, safe_memory_threshold=0.9)
    rollout = await store.start_rollout("task")
    spans = [span_of(rollout) for _ in range(100)]
    await store.add_many_spans(spans)
    assert await store.add_many_spans(spans) == []


async def test_deleting_rollouts_gives_their_memory_back():
    store = small_store()
    ids = [await with_spans(store, 10) for _ in range(4)]
    await store.delete_rollouts(ids[:3])
    assert (await store.statistics())["span_bytes"] == 10
    await with_spans(store, 40)
    assert not await is_evicted(store, ids[3])


async def test_spans_that_arrive_after_the_end_can_be_evicted_too():
    store = small_store()
    rollout = await store.start_rollout("task")
    await store.update_attempt(rollout.rollout_id, "latest", status="succeeded")
    await with_spans(store, 1)
    await store.add_many_spans([span_of(rollout) for _ in range(30)])
    await with_spans(store, 30, status=None)
    assert await is_evicted(store, rollout.rollout_id)


async def test_reopened_rollout_keeps_its_new_spans_until_it_finishes_again():
    store = small_store()
    id = await with_spans(store, 30)
    attempt = (await store.start_attempt(id)).attempt
    await with_spans(store, 30, status=None)
    assert not await is_evicted(store, id)
    await store.update_attempt(id, attempt.attempt_id, status="succeeded")
    await with_spans(store, 1)
    assert await is_evicted(store, id)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (560, 700, 900)),
        ({"eviction_memory_threshold": 0.5}, (400, 500, 900)),
        ({"eviction_memory_threshold": 300, "high_water_memory_threshold": 400}, (240, 300, 400)),
        ({"eviction_memory_threshold": 1.0, "safe_memory_threshold": 0.25, "high_water_memory_threshold": 1.0},
         (250, 1000, 1000)),
        ({"eviction_memory_threshold": 2000}, (720, 900, 900)),
        ({"eviction_memory_threshold": 100, "safe_memory_threshold": 0.5}, (100, 100, 900)),
    ],
)  # fmt: skip
def test_thresholds_are_shares_or_bytes(options, expected):
    memory = InMemoryLightningStore(memory_capacity_bytes=1000, **options)._span_memory
    assert (memory.limits.safe, memory.limits.eviction, memory.limits.high_water) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"eviction_memory_threshold": 0.0},
        {"eviction_memory_threshold": 1.5},
        {"eviction_memory_threshold": -3},
        {"eviction_memory_threshold": True},
        {"safe_memory_threshold": 0.9},
        {"eviction_memory_threshold": 0.95},
        {"eviction_memory_threshold": 300, "high_water_memory_threshold": 200},
        {"high_water_memory_threshold": 0},
    ],
)
def test_thresholds_out_of_bounds_are_refused(options):
    with pytest.raises(InvalidRequestError, match="memory_threshold"):
        InMemoryLightningStore(**options)


def test_capacity_is_the_memory_of_the_machine_unless_given():
    assert InMemoryLightningStore()._span_memory.capacity > 2**20


async def test_estimate_is_about_what_the_spans_take():
    """As the interpreter counts its own memory."""
    store = InMemoryLightningStore()
    started = await store.start_rollout("task")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(2_000):
            await store.add_span(span_of(started, attributes={"text": f"{number:0500}"}))
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert 0.8 < store._span_memory.used / taken < 1.25
