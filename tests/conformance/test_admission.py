"""Limits of queues: what is refused, what waits for room, and what never is refused. `max_queued` and rule 18."""

import asyncio
from collections import Counter

import pytest

from lightning_store.errors import InvalidRequestError, QueueFullError
from lightning_store.records import RolloutConfig
from tests.support.factories import claim, drain, requests_for, status_of

RETRYING = RolloutConfig(max_attempts=3, retry_condition=["failed"])


async def depth_of(store, queue="default"):
    return {stats.queue: stats.depth for stats in await store.query_queues()}.get(queue, 0)


async def filled(make_store, most, **options):
    """A store whose default queue is full."""
    store = make_store(**({"max_queued": most, "clock": None} | options))
    await store.enqueue_many_rollouts(requests_for(range(most)))
    return store


async def waiting(*calls):
    """Calls that have begun to wait, in order."""
    tasks = []
    for call in calls:
        tasks.append(asyncio.ensure_future(call))
        await asyncio.wait(tasks, timeout=0.05)
    assert not any(task.done() for task in tasks)
    return tasks


async def soon(task):
    return await asyncio.wait_for(task, 20)


# -- refused -----------------------------------------------------------------------------------------------------------


async def test_rollout_beyond_the_limit_is_refused_with_queue_depth_and_limit(make_store):
    store = await filled(make_store, 3)
    with pytest.raises(QueueFullError, match=r"^queue default has 3 rollouts of at most 3, no room for 1$") as caught:
        await store.enqueue_rollout("one more")
    assert (caught.value.code, caught.value.retryable) == ("QUEUE_FULL", True)
    assert await depth_of(store) == 3


async def test_bulk_that_does_not_fit_is_refused_whole(make_store):
    store = await filled(make_store, 3)
    await claim(store)
    with pytest.raises(QueueFullError, match="no room for 2"):
        await store.enqueue_many_rollouts(requests_for("ab"))
    with pytest.raises(QueueFullError):
        await store.enqueue_many_rollouts([*requests_for("c", queue="other"), *requests_for("ab")])
    assert [stats.depth for stats in await store.query_queues()] == [2]
    assert len(await store.query_rollouts()) == 3


async def test_bulk_that_can_never_fit_is_a_bad_request_with_the_numbers(make_store):
    store = make_store(max_queued={"small": 3, "large": 9})
    with pytest.raises(InvalidRequestError, match=r"4 new rollouts never fit into queue small, which takes 3"):
        await store.enqueue_many_rollouts(
            [*requests_for(range(4), queue="small"), *requests_for(range(4), queue="large")], timeout=60
        )
    assert list(await store.query_rollouts()) == []


async def test_limit_holds_for_each_queue_by_itself(make_store):
    store = make_store(max_queued=1)
    for queue in ("a", "b"):
        await store.enqueue_rollout("task", queue=queue)
        with pytest.raises(QueueFullError, match=f"queue {queue} has 1"):
            await store.enqueue_rollout("task", queue=queue)


async def test_queues_that_a_mapping_does_not_name_have_no_limit(make_store):
    store = make_store(max_queued={"small": 1})
    await store.enqueue_many_rollouts([*requests_for(range(20)), *requests_for("a", queue="small")])
    with pytest.raises(QueueFullError):
        await store.enqueue_rollout("b", queue="small")


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "9", {"a": 0}, {"a b": 1}, {"a": None}])
async def test_limits_are_integers_of_at_least_one_by_queue(make_store, limit):
    with pytest.raises(InvalidRequestError, match="max_queued"):
        make_store(max_queued=limit)


# -- never refused -----------------------------------------------------------------------------------------------------


async def test_rollouts_that_are_stored_need_no_room(make_store):
    store = make_store(max_queued=2)
    requests = [*requests_for("a", rollout_id="a"), *requests_for("b", rollout_id="b")]
    first = await store.enqueue_many_rollouts(requests)

    assert await store.enqueue_many_rollouts([*requests, *requests]) == [*first, *first]
    await claim(store)
    mixed = [*requests, *requests_for("c", rollout_id="c")]
    assert [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(mixed)] == ["a", "b", "c"]
    with pytest.raises(QueueFullError, match="no room for 1"):
        await store.enqueue_many_rollouts([*mixed, *requests_for("d", rollout_id="d")])


async def test_what_comes_back_is_never_refused(make_store):
    store = make_store(max_queued=2)
    failing = await store.start_rollout("failing", config=RETRYING)
    released = await store.start_rollout("released")
    cancelled = await store.enqueue_rollout("cancelled")
    await store.cancel_rollouts([cancelled.rollout_id])
    await store.enqueue_many_rollouts(requests_for("ab"))

    await store.update_attempt(failing.rollout_id, "latest", status="failed")
    await store.release_attempt(released.rollout_id, released.attempt.attempt_id)
    await store.update_rollout(cancelled.rollout_id, status="queuing")

    assert await depth_of(store) == 5
    with pytest.raises(QueueFullError, match="has 5 rollouts of at most 2"):
        await store.enqueue_rollout("c")


async def test_starting_takes_no_room(make_store):
    store = await filled(make_store, 1)
    assert (await store.start_rollout("task")).status == "preparing"


async def test_void_entries_and_delayed_retries_do_not_count(make_store, clock):
    store = make_store(max_queued=1)
    void = await store.enqueue_rollout("void")
    await store.cancel_rollouts([void.rollout_id])
    later = await store.start_rollout("later", config=RETRYING.model_copy(update={"retry_delay_seconds": 5}))
    await store.update_attempt(later.rollout_id, "latest", status="failed")

    queued = await store.enqueue_rollout("task")

    clock.advance(6)
    await store.expire_attempts()
    assert await depth_of(store) == 2
    assert await drain(store) == [queued.rollout_id, later.rollout_id]


# -- waiting -----------------------------------------------------------------------------------------------------------


async def test_producer_that_waits_goes_on_as_soon_as_there_is_room(make_store):
    store = await filled(make_store, 2)
    [task] = await waiting(store.enqueue_rollout("late", timeout=60))

    await claim(store)

    assert (await soon(task)).input == "late"
    assert await depth_of(store) == 2


@pytest.mark.parametrize("how", ["cancel", "update", "start"])
async def test_whatever_leaves_the_queue_makes_room(make_store, how):
    store = make_store(max_queued=1, clock=None)
    first = await store.enqueue_rollout("first")
    [task] = await waiting(store.enqueue_rollout("second", timeout=60))
    if how == "cancel":
        await store.cancel_rollouts([first.rollout_id])
    elif how == "update":
        await store.update_rollout(first.rollout_id, status="failed")
    else:
        await store.start_attempt(first.rollout_id)
    assert (await soon(task)).input == "second"


async def test_wait_that_is_over_is_refused(make_store):
    store = await filled(make_store, 1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(QueueFullError, match="has 1 rollouts of at most 1"):
        await store.enqueue_rollout("late", timeout=0.2)
    assert loop.time() - began >= 0.19
    assert len(await store.query_rollouts()) == 1


async def test_producers_get_room_in_the_order_in_which_they_began_to_wait(make_store):
    store = await filled(make_store, 2)
    tasks = await waiting(
        store.enqueue_many_rollouts(requests_for("ab"), timeout=60), store.enqueue_rollout("c", timeout=60)
    )
    await claim(store)
    await asyncio.wait(tasks, timeout=0.3)
    assert not any(task.done() for task in tasks), "a small call has overtaken a large one"

    await claim(store)
    await soon(tasks[0])
    assert await depth_of(store) == 2
    await drain(store)
    assert (await soon(tasks[1])).input == "c"


async def test_producers_of_other_queues_do_not_wait_behind(make_store):
    store = await filled(make_store, 1)
    tasks = await waiting(store.enqueue_rollout("late", timeout=60))
    assert (await store.enqueue_rollout("task", queue="other", timeout=60)).queue == "other"
    tasks[0].cancel()


async def test_cancelled_wait_enqueues_nothing_and_lets_the_next_one_on(make_store):
    store = await filled(make_store, 1)
    gone, next_one = await waiting(store.enqueue_rollout("gone", timeout=60), store.enqueue_rollout("next", timeout=60))
    gone.cancel()
    await asyncio.wait([gone])
    await claim(store)

    assert (await soon(next_one)).input == "next"
    assert [rollout.input for rollout in await store.query_rollouts()] == [0, "next"]


async def test_stored_rollouts_are_answered_to_who_could_wait(make_store):
    store = make_store(max_queued=1, clock=None)
    stored = await store.enqueue_rollout("task", rollout_id="mine")
    assert await soon(asyncio.ensure_future(store.enqueue_rollout("task", rollout_id="mine", timeout=60))) == stored


@pytest.mark.parametrize("timeout", ["1", None, float("nan")])
async def test_time_to_wait_is_a_number(store, timeout):
    with pytest.raises(InvalidRequestError, match="timeout"):
        await store.enqueue_rollout("task", timeout=timeout)


@pytest.mark.timeout(120)
async def test_many_producers_never_exceed_the_limit_and_all_arrives_once(make_store, store_kind, namespace):
    most, producers, each = 50, 32, 8
    in_memory = store_kind.endswith("memory")
    options = {"max_queued": most, "clock": None, "namespace": f"{namespace}-shared"}
    stores = [make_store(**options) for _ in range(1 if in_memory else 4)]
    store = stores[0]
    depths, seen = [], Counter()

    async def produce(producer):
        for start in range(0, each, 4):
            tasks = [f"{producer}-{number}" for number in range(start, start + 4)]
            await stores[producer % len(stores)].enqueue_many_rollouts(requests_for(tasks), timeout=60)

    async def consume():
        while sum(seen.values()) < producers * each:
            for rollout in await store.dequeue_many_rollouts(limit=7, timeout=0.2):
                seen[rollout.input] += 1
            await asyncio.sleep(0.005)  # slower than the producers

    async def watch():
        while sum(seen.values()) < producers * each:
            depths.append(await depth_of(store))
            await asyncio.sleep(0.005)

    await asyncio.gather(watch(), *(produce(number) for number in range(producers)), consume(), consume())

    assert max(depths) <= most
    assert max(depths) > most // 2, "the queue was never near its limit"
    assert seen == Counter(f"{producer}-{number}" for producer in range(producers) for number in range(each))
    assert await status_of(store, (await store.query_rollouts())[0].rollout_id) == "preparing"
