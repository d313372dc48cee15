"""Dequeues that wait for work: rules 5, 17, 19 and 20, and `timeout` of decisions.md. Times are real."""

import asyncio
import math
import time
from contextlib import suppress

import pytest

from lightning_store.records import RolloutConfig
from tests.support.factories import requests_for, span_of
from tests.support.stores import STORE_KINDS, only_stores
from tests.support.until import AT_ONCE, until


async def waiting(store, **options):
    """A task that waits in a dequeue; it has had time to begin."""
    task = asyncio.create_task(store.dequeue_rollout(**({"timeout": 30} | options)))
    await asyncio.wait([task], timeout=0.05)
    assert not task.done()
    return task


async def waiting_in_line(store, count):
    """So many such tasks, in this order. The first claims before it waits, and has done so when others join it."""
    first = await waiting(store, worker_id="first")

    async def has_claimed():
        return await store.get_worker_by_id("first") is not None

    await until(has_claimed)
    await asyncio.wait([first], timeout=0.05)
    return [first, *[await waiting(store) for _ in range(count - 1)]]


def start_waiting(store):
    """The same, without a look at whether it waits: what it waits for comes by itself, however slow this machine is."""
    return asyncio.create_task(store.dequeue_rollout(timeout=30))


async def soon(task):
    return await asyncio.wait_for(task, AT_ONCE)


async def test_empty_queue_is_told_when_the_time_is_over(live_store):
    started = time.monotonic()
    assert await live_store.dequeue_rollout("w", timeout=0.1) is None
    assert await live_store.dequeue_many_rollouts(limit=3, timeout=0.1) == []

    assert 0.19 <= time.monotonic() - started < 0.2 + 2 * AT_ONCE
    assert (await live_store.get_worker_by_id("w")).status == "idle"


@pytest.mark.parametrize("timeout", [0, -1])
async def test_timeout_of_zero_or_less_does_not_wait(live_store, timeout):
    started = time.monotonic()
    assert await live_store.dequeue_rollout(timeout=timeout) is None
    assert time.monotonic() - started < AT_ONCE


async def test_limit_of_zero_does_not_wait(live_store):
    assert await asyncio.wait_for(live_store.dequeue_many_rollouts(limit=0, timeout=30), AT_ONCE) == []


async def test_work_that_is_there_is_claimed_at_once(live_store):
    queued = await live_store.enqueue_rollout("task")
    claimed = await asyncio.wait_for(live_store.dequeue_rollout("w", timeout=30, lease_seconds=9), AT_ONCE)
    assert claimed.rollout_id == queued.rollout_id
    assert (claimed.attempt.worker_id, claimed.attempt.lease_seconds) == ("w", 9)


@pytest.mark.parametrize("timeout", [30, math.inf])
async def test_waiter_is_woken_by_an_enqueue(live_store, timeout):
    task = await waiting(live_store, worker_id="w", timeout=timeout, lease_seconds=9)

    queued = await live_store.enqueue_rollout("task")

    claimed = await soon(task)
    assert (claimed.rollout_id, claimed.attempt.worker_id) == (queued.rollout_id, "w")
    assert claimed.attempt.lease_seconds == 9
    assert (await live_store.get_worker_by_id("w")).status == "busy"


async def test_waiter_is_woken_by_an_enqueue_of_another_process(live_store, open_again):
    task = await waiting(live_store)
    queued = await open_again(live_store).enqueue_rollout("task")
    assert (await soon(task)).rollout_id == queued.rollout_id


async def test_wake_up_is_quick(live_store):
    latencies = []
    for _ in range(5):
        task = await waiting(live_store)
        started = time.monotonic()
        await live_store.enqueue_rollout("task")
        await soon(task)
        latencies.append(time.monotonic() - started)

    assert min(latencies) < 0.5


@pytest.mark.parametrize("how", ["failure", "release", "by hand", "lost lease"])
async def test_waiter_is_woken_by_whatever_queues_a_rollout(live_store, how):
    config = RolloutConfig(max_attempts=2, retry_condition=["failed", "unresponsive"])
    lease = 0.3 if how == "lost lease" else None
    started = await live_store.start_rollout("task", config=config, lease_seconds=lease)
    # A lease that is lost before the waiter begins is none of its business, but no failure either.
    task = start_waiting(live_store) if how == "lost lease" else await waiting(live_store)
    if how == "failure":
        await live_store.update_attempt(started.rollout_id, "latest", status="failed")
    elif how == "release":
        await live_store.release_attempt(started.rollout_id, started.attempt.attempt_id)
    elif how == "by hand":
        await live_store.update_rollout(started.rollout_id, status="queuing")

    claimed = await soon(task)

    assert (claimed.rollout_id, claimed.attempt.sequence_id) == (started.rollout_id, 2)


async def test_waiter_is_woken_when_a_delay_is_over(live_store):
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"], retry_delay_seconds=0.4)
    started = await live_store.start_rollout("task", config=config)
    failed = await live_store.update_attempt(started.rollout_id, "latest", status="failed")

    claimed = await soon(start_waiting(live_store))

    assert claimed.rollout_id == started.rollout_id
    assert claimed.attempt.start_time - failed.end_time >= 0.399


async def test_waiter_is_woken_when_a_delay_that_began_later_is_over(live_store):
    """In time: waiters on Redis look for themselves every 4 to 6 s anyway."""
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"], retry_delay_seconds=0.3)
    started = await live_store.start_rollout("task", config=config)
    task = await waiting(live_store)

    await live_store.update_attempt(started.rollout_id, "latest", status="failed")

    assert (await asyncio.wait_for(task, 3.5)).rollout_id == started.rollout_id


async def test_bulk_claim_returns_as_soon_as_it_has_one(live_store):
    task = asyncio.create_task(live_store.dequeue_many_rollouts(limit=5, timeout=30))
    await asyncio.wait([task], timeout=0.05)

    await live_store.enqueue_rollout("task")

    assert [rollout.input for rollout in await soon(task)] == ["task"]


async def test_waiters_are_served_in_the_order_they_began(live_store):
    tasks = await waiting_in_line(live_store, 4)

    for number, task in enumerate(tasks):
        await live_store.enqueue_rollout(number)
        assert (await soon(task)).input == number
        assert not any(later.done() for later in tasks[number + 1 :])


async def test_one_rollout_wakes_one_waiter(live_store):
    tasks = [await waiting(live_store) for _ in range(3)]
    await live_store.enqueue_rollout("task")

    done, pending = await asyncio.wait(tasks, timeout=AT_ONCE, return_when=asyncio.FIRST_COMPLETED)

    assert (len(done), len(pending)) == (1, 2)
    assert not (await asyncio.wait(pending, timeout=0.3))[0]
    await live_store.enqueue_many_rollouts(requests_for([1, 2]))
    assert all([await soon(task) for task in pending])


async def test_bulk_enqueue_wakes_as_many_as_it_brings(live_store):
    tasks = [await waiting(live_store) for _ in range(5)]

    await live_store.enqueue_many_rollouts(requests_for(range(5)))

    claimed = [await soon(task) for task in tasks]
    assert sorted(rollout.input for rollout in claimed) == list(range(5))


async def test_waiter_on_several_queues_is_woken_by_each(live_store):
    for queue in ("train", "eval"):
        task = await waiting(live_store, queues=("eval", "train"))
        await live_store.enqueue_rollout(queue, queue=queue)
        assert (await soon(task)).input == queue


async def test_waiters_on_other_queues_sleep_on(live_store):
    here, there = await waiting(live_store), await waiting(live_store, queues=("there",))

    await live_store.enqueue_rollout("here")
    assert (await soon(here)).input == "here"
    assert not (await asyncio.wait([there], timeout=0.1))[0]

    await live_store.enqueue_rollout("there", queue="there")
    assert (await soon(there)).input == "there"


async def test_void_entry_wakes_nobody_for_nothing(live_store):
    task = await waiting(live_store)
    await live_store.enqueue_rollout(1, rollout_id="r")
    winner = await soon(task)
    other = await waiting(live_store)
    await live_store.release_attempt("r", winner.attempt.attempt_id)
    assert (await soon(other)).rollout_id == "r"


async def test_rollout_that_speaks_again_is_not_handed_to_a_waiter(live_store):
    started = await live_store.start_rollout("task")
    await live_store.update_rollout(started.rollout_id, status="requeuing")
    await live_store.add_span(span_of(started))
    assert await live_store.dequeue_rollout(timeout=0.2) is None


async def test_cancelled_wait_ends_at_once(live_store):
    task = await waiting(live_store, timeout=math.inf)
    started = time.monotonic()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert time.monotonic() - started < AT_ONCE


async def leave_to_the_next(store, lease_seconds):
    gone, stays = await waiting(store, lease_seconds=lease_seconds), await waiting(store)
    gone.cancel()
    await asyncio.wait([gone])

    await store.enqueue_rollout("task")

    assert (await soon(stays)).input == "task"


async def test_cancelled_waiter_leaves_its_work_to_the_next(live_store):
    await leave_to_the_next(live_store, lease_seconds=60)


@only_stores(*(kind for kind in STORE_KINDS if kind != "fakeredis"))
async def test_cancelled_waiter_without_a_lease_leaves_its_work_to_the_next(live_store):
    """Not on fakeredis, where the blocked read of a connection that was closed takes a hint along all the same."""
    await leave_to_the_next(live_store, lease_seconds=None)


@pytest.mark.parametrize("lease", [None, 60])
async def test_waiters_cancelled_at_any_moment_lose_nothing(live_store, lease):
    for ticks in range(12):
        task = asyncio.create_task(live_store.dequeue_rollout(timeout=30, lease_seconds=lease))
        await asyncio.wait([task], timeout=0.01)
        queued = await live_store.enqueue_rollout(ticks)
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        if task.cancelled():
            again = await asyncio.wait_for(live_store.dequeue_rollout(timeout=10), 10)
            assert again is not None, f"lost after {ticks} ticks"
            assert again.rollout_id == queued.rollout_id
        else:
            assert task.result().rollout_id == queued.rollout_id


async def test_claim_whose_caller_is_gone_is_released(live_store):
    queued = await live_store.enqueue_many_rollouts(requests_for(range(8)))
    tasks = [asyncio.create_task(live_store.dequeue_rollout("w")) for _ in queued]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    kept = [result.rollout_id for result in results if not isinstance(result, BaseException)]

    rest = []
    while len(kept) + len(rest) < len(queued):
        again = await asyncio.wait_for(live_store.dequeue_rollout(timeout=10), 10)
        assert again is not None
        rest.append(again.rollout_id)

    assert sorted(kept + rest) == sorted(rollout.rollout_id for rollout in queued)


async def test_a_thousand_waiters_get_a_thousand_rollouts(live_store, store_kind):
    count = 1_000 if store_kind in {"memory", "redis", "sqlite"} else 150
    tasks = [asyncio.create_task(live_store.dequeue_rollout(timeout=60)) for _ in range(count)]
    await asyncio.wait(tasks, timeout=0.2)

    created = await live_store.enqueue_many_rollouts(requests_for(range(count)))
    claimed = await asyncio.wait_for(asyncio.gather(*tasks), 50)

    assert sorted(r.rollout_id for r in claimed) == sorted(r.rollout_id for r in created)


async def test_busy_store_serves_waiters_and_others_alike(live_store):
    tasks = [await waiting(live_store) for _ in range(3)]
    polls = await asyncio.gather(*(live_store.query_rollouts() for _ in range(20)))
    assert all(page.total == 0 for page in polls)

    await live_store.enqueue_many_rollouts(requests_for(range(3)))

    assert len({(await soon(task)).rollout_id for task in tasks}) == 3


@only_stores("redis", "fakeredis", "repeated_redis", "cluster", "repeated_cluster")
async def test_waits_go_on_when_the_store_is_closed_meanwhile(live_store, open_again):
    """On Redis only, where connections are closed; closing ends waits in memory, and the event loop of a thread."""
    others = open_again(live_store)
    started = await live_store.start_rollout("task")
    tasks = [
        await waiting(live_store, lease_seconds=60),
        asyncio.create_task(live_store.wait_for_rollouts(rollout_ids=[started.rollout_id])),
        asyncio.create_task(live_store.completions(timeout=30)),
    ]
    await asyncio.wait(tasks, timeout=0.1)
    await live_store.close()
    await asyncio.wait(tasks, timeout=0.1)

    await others.enqueue_rollout("more")
    await others.update_attempt(started.rollout_id, "latest", status="succeeded")

    claimed, [finished], page = await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert claimed.input == "more"
    assert finished.rollout_id == page.items[0].rollout_id == started.rollout_id
