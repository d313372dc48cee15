"""Spans that are dropped for lack of memory. The stores here are over their threshold with the first span."""

import pytest

from lightning_store.errors import SpansEvictedError
from tests.support.factories import reward_span, span_of
from tests.support.stores import only_stores

measured = only_stores("memory", "redis", "threaded_memory", "threaded_redis", "repeated_redis", "sqlite")


@pytest.fixture
def full_store(store_kind, make_store):
    """A store that evicts whatever may be evicted, and in Redis only when it is told to."""
    looks = {"memory_check_seconds": None} if "redis" in store_kind else {}
    return make_store(eviction_memory_threshold=1, safe_memory_threshold=1, **looks)


async def finished(store, count=2, *, rollout_id=None, status="succeeded"):
    rollout = await store.start_rollout("task", rollout_id=rollout_id)
    if count:
        await store.add_many_spans([span_of(rollout) for _ in range(count)])
    await store.update_attempt(rollout.rollout_id, "latest", status=status)
    return rollout


async def is_evicted(store, rollout, attempt_id=None):
    try:
        await store.query_spans(rollout.rollout_id, attempt_id)
    except SpansEvictedError:
        return True
    return False


async def total(store):
    return (await store.statistics())["total_spans"]


async def sound(store):
    report = await store.audit()
    return not report.findings


async def test_nothing_is_evicted_while_there_is_room(store):
    """Fakeredis does not tell how much it uses, and evicts nothing."""
    rollout = await finished(store)
    assert await store.evict_spans() == 0
    assert (await store.query_spans(rollout.rollout_id)).total == 2


@measured
async def test_evicted_rollout_keeps_everything_but_its_spans(full_store):
    """Only where memory is measured."""
    store = full_store
    rollout = await store.start_rollout("task")
    await store.add_many_spans([reward_span(rollout, 0.5), span_of(rollout, span_id="text", sequence_id=7)])
    await store.update_attempt(rollout.rollout_id, "latest", status="succeeded")
    before = await store.get_rollout_by_id(rollout.rollout_id)
    completions = (await store.completions()).items

    assert await store.evict_spans() == 1

    attempt_id = rollout.attempt.attempt_id
    for asked in (None, "latest", attempt_id):
        with pytest.raises(SpansEvictedError, match=rollout.rollout_id):
            await store.query_spans(rollout.rollout_id, asked)
        with pytest.raises(SpansEvictedError, match=rollout.rollout_id):
            await store.query_many_spans(["unknown", rollout.rollout_id], asked)
    assert (await store.query_spans(rollout.rollout_id, "unknown")).total == 0
    assert await store.rewards([rollout.rollout_id]) == {rollout.rollout_id: 0.5}
    assert await store.get_rollout_by_id(rollout.rollout_id) == before
    assert (await store.completions()).items == completions
    assert await store.get_next_span_sequence_id(rollout.rollout_id, attempt_id) == 8
    assert await total(store) == 0
    assert await sound(store)
    assert await store.evict_spans() == 0


@measured
async def test_unfinished_rollouts_keep_their_spans(full_store):
    """Only where memory is measured."""
    running = await full_store.start_rollout("task")
    await full_store.add_span(span_of(running))
    ended = [await finished(full_store, status=status) for status in ("succeeded", "failed")]

    await full_store.evict_spans()

    assert [await is_evicted(full_store, each) for each in (running, *ended)] == [False, True, True]
    assert await total(full_store) == 1


@measured
async def test_rollout_without_spans_has_none_evicted(full_store):
    """Only where memory is measured."""
    rollout = await finished(full_store, 0)
    assert await full_store.evict_spans() == 0
    assert (await full_store.query_spans(rollout.rollout_id)).total == 0


@measured
async def test_spans_stay_until_every_consumer_has_passed_their_rollout(full_store):
    """Only where memory is measured."""
    store = full_store
    await store.acknowledge_completions("slow")
    rollouts = [await finished(store, rollout_id=name) for name in "abc"]
    places = [item.cursor for item in (await store.completions()).items]
    await store.acknowledge_completions("fast", places[2])
    assert await store.evict_spans() == 0

    await store.acknowledge_completions("slow", places[1])
    await store.evict_spans()
    assert [await is_evicted(store, each) for each in rollouts] == [True, True, False]

    await store.forget_consumer("slow")
    assert await store.evict_spans() == 1
    assert await sound(store)


@measured
async def test_late_spans_of_an_evicted_attempt_are_taken_and_not_kept(full_store):
    """Only where memory is measured."""
    store = full_store
    rollout = await finished(store)
    await store.evict_spans()
    late = [reward_span(rollout, 0.25, sequence_id=9), span_of(rollout, span_id="text", sequence_id=4)]

    assert await store.add_many_spans([*late, late[0]]) == late
    [numbered] = await store.add_many_spans([span_of(rollout)], renumber=True)

    assert numbered.sequence_id == 10
    assert await store.rewards([rollout.rollout_id]) == {rollout.rollout_id: 0.25}
    assert await is_evicted(store, rollout)
    assert await total(store) == 0
    assert await sound(store)


@measured
async def test_reopened_rollout_keeps_the_spans_of_its_new_attempt(full_store):
    """Only where memory is measured."""
    store = full_store
    rollout = await finished(store)
    await store.evict_spans()
    again = await store.start_attempt(rollout.rollout_id)
    await store.add_many_spans([span_of(again), span_of(again), span_of(rollout)])
    assert await store.evict_spans() == 0

    assert (await store.query_spans(rollout.rollout_id, "latest")).total == 2
    assert len((await store.query_many_spans([rollout.rollout_id], "latest"))[rollout.rollout_id]) == 2
    assert await is_evicted(store, rollout)
    assert await is_evicted(store, rollout, rollout.attempt.attempt_id)
    assert (await total(store), await sound(store)) == (2, True)

    await store.update_attempt(rollout.rollout_id, "latest", status="failed")
    assert await store.evict_spans() == 1
    assert await is_evicted(store, rollout, "latest")
    assert (await total(store), await sound(store)) == (0, True)


@measured
async def test_spans_that_come_after_the_end_can_be_evicted_too(full_store):
    """Only where memory is measured."""
    store = full_store
    silent, spoken = await finished(store, 0), await finished(store)
    await store.evict_spans()
    await store.add_many_spans([span_of(silent), span_of(silent)])
    assert (await is_evicted(store, silent), await is_evicted(store, spoken)) == (False, True)

    assert await store.evict_spans() == 1

    assert await is_evicted(store, silent)
    assert (await total(store), await sound(store)) == (0, True)


@measured
async def test_evicted_rollouts_can_be_deleted_and_pruned(full_store):
    """Only where memory is measured."""
    store = full_store
    for name in "abc":
        await finished(store, rollout_id=name)
    await store.evict_spans()

    assert await store.delete_rollouts(["a"]) == ["a"]
    assert await store.prune(keep_latest=1) == 1

    again = await store.start_rollout("task", rollout_id="a")
    await store.add_span(span_of(again))
    assert (await store.query_spans("a")).total == 1
    assert await store.get_next_span_sequence_id("a", "any") == 2
    assert (await total(store), await sound(store)) == (1, True)


@measured
async def test_many_rollouts_are_evicted_in_steps(full_store):
    """Only where memory is measured."""
    rollouts = [await finished(full_store, 0) for _ in range(120)]
    for rollout in rollouts:
        await full_store.add_span(span_of(rollout))
    await full_store.evict_spans()
    assert await total(full_store) == 0
    assert await is_evicted(full_store, rollouts[-1])
    assert await sound(full_store)
