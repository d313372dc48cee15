"""Waiting for rollouts to finish: section 3.3 and rule 24. Times are real; upper bounds are generous."""

import asyncio
import threading
import time
from contextlib import suppress

import pytest

from lightning_store.records import Rollout, RolloutConfig
from tests.support.factories import requests_for
from tests.support.until import AT_ONCE


async def timed(awaitable):
    before = time.monotonic()
    result = await awaitable
    return result, time.monotonic() - before


def ids(rollouts):
    return [rollout.rollout_id for rollout in rollouts]


async def make_rollouts(store, count):
    return ids([await store.start_rollout(number) for number in range(count)])


async def finish(store, rollout_id, status="succeeded"):
    await store.update_attempt(rollout_id, "latest", status=status)


async def waiting(store, rollout_ids, timeout=None):
    """A task that waits; it has had time to begin."""
    task = asyncio.create_task(store.wait_for_rollouts(rollout_ids=rollout_ids, timeout=timeout))
    await asyncio.wait([task], timeout=0.05)
    assert not task.done()
    return task


@pytest.mark.parametrize("timeout", [0, -1, -0.5])
async def test_timeout_of_zero_or_less_does_not_wait(live_store, timeout):
    first, second = await make_rollouts(live_store, 2)
    await finish(live_store, second)

    result, seconds = await timed(live_store.wait_for_rollouts(rollout_ids=[first, second], timeout=timeout))

    assert ids(result) == [second]
    assert seconds < AT_ONCE


@pytest.mark.parametrize("timeout", [None, 60, 0])
async def test_all_finished_is_answered_at_once_in_the_order_asked_for(live_store, timeout):
    names = await make_rollouts(live_store, 3)
    for name, status in zip(names, ("succeeded", "failed", "succeeded"), strict=True):
        await finish(live_store, name, status)
    asked = [names[2], names[0], names[2], names[1]]

    result, seconds = await timed(live_store.wait_for_rollouts(rollout_ids=asked, timeout=timeout))

    assert ids(result) == asked
    assert all(isinstance(rollout, Rollout) for rollout in result)
    assert [rollout.status for rollout in result] == ["succeeded", "succeeded", "succeeded", "failed"]
    assert all(rollout.end_time is not None for rollout in result)
    assert seconds < AT_ONCE


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
async def test_every_finished_status_counts(live_store, status):
    rollout = await live_store.enqueue_rollout("task")
    await live_store.update_rollout(rollout.rollout_id, status=status)

    result = await live_store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=0)

    assert [(found.rollout_id, found.status) for found in result] == [(rollout.rollout_id, status)]


async def test_answer_is_the_whole_rollout(live_store):
    started = await live_store.start_rollout({"a": [1]}, "val", "rs", None, {"m": 1}, group_id="g")
    await finish(live_store, started.rollout_id)

    result = (await live_store.wait_for_rollouts(rollout_ids=[started.rollout_id], timeout=0))[0]

    stored = await live_store.get_rollout_by_id(started.rollout_id)
    assert {name: getattr(result, name) for name in Rollout.model_fields} == stored.model_dump(exclude={"attempt"}) | {
        "config": stored.config
    }


async def test_deadline_answers_what_there_is(live_store):
    first, second = await make_rollouts(live_store, 2)
    await finish(live_store, first)

    result, seconds = await timed(live_store.wait_for_rollouts(rollout_ids=[first, second], timeout=0.1))

    assert ids(result) == [first]
    assert 0.09 <= seconds < 0.1 + AT_ONCE


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda store, name: store.update_rollout(name, metadata={"seen": True}), [{"seen": True}, None]),
        (lambda store, name: store.delete_rollouts([name]), [None]),
    ],
    ids=["changed", "deleted"],
)
async def test_what_finished_early_is_answered_as_it_is_at_the_end(live_store, change, expected):
    first, second = await make_rollouts(live_store, 2)
    task = await waiting(live_store, [first, second])
    await finish(live_store, first)
    await asyncio.sleep(0.1)  # by now a wait that reads ahead has read it

    await change(live_store, first)
    await finish(live_store, second)
    result = await asyncio.wait_for(task, 10)

    assert [rollout.metadata or None for rollout in result] == expected


async def test_unknown_ids_are_left_out_and_not_waited_for(live_store):
    first = (await make_rollouts(live_store, 1))[0]
    await finish(live_store, first)

    result, seconds = await timed(live_store.wait_for_rollouts(rollout_ids=["ro-unknown", first], timeout=60))
    assert ids(result) == [first]
    assert seconds < AT_ONCE
    for timeout in (None, 0.1, 0):
        result, seconds = await timed(
            live_store.wait_for_rollouts(rollout_ids=["ro-unknown", "no {id}"], timeout=timeout)
        )
        assert result == []
        assert seconds < AT_ONCE


async def test_nothing_asked_for_is_answered_at_once(live_store):
    assert await live_store.wait_for_rollouts(rollout_ids=[], timeout=None) == []


async def test_hundreds_of_ids_are_polled_quickly(live_store):
    rollouts = await live_store.enqueue_many_rollouts(requests_for(range(200), group_id="done"))
    await live_store.enqueue_many_rollouts(requests_for(range(200)))
    names = ids((await live_store.query_rollouts()).items)
    await live_store.cancel_rollouts(group_id="done")

    result, seconds = await timed(live_store.wait_for_rollouts(rollout_ids=names, timeout=0))

    assert ids(result) == ids(rollouts)
    assert seconds < 10


@pytest.mark.parametrize("how", ["report", "update", "cancel"])
async def test_wait_ends_as_soon_as_all_are_finished(live_store, how):
    first, second = await make_rollouts(live_store, 2)
    task = await waiting(live_store, [first, second])
    await finish(live_store, first)
    assert not (await asyncio.wait([task], timeout=0.05))[0]

    started = time.monotonic()
    if how == "report":
        await finish(live_store, second)
    elif how == "update":
        await live_store.update_rollout(second, status="failed")
    else:
        await live_store.cancel_rollouts([second])
    result = await asyncio.wait_for(task, 10)

    assert ids(result) == [first, second]
    assert time.monotonic() - started < AT_ONCE


async def test_wait_ends_when_another_call_settles_a_late_attempt(live_store):
    config = RolloutConfig(timeout_seconds=0.15)
    started = await live_store.start_rollout("task", config=config)
    task = asyncio.create_task(live_store.wait_for_rollouts(rollout_ids=[started.rollout_id], timeout=30))

    while not task.done():
        await live_store.expire_attempts()
        await asyncio.wait([task], timeout=0.05)

    assert [rollout.status for rollout in task.result()] == ["failed"]


async def test_wait_that_nobody_else_helps_sees_attempts_that_became_late(live_store):
    started = await live_store.start_rollout("task", config=RolloutConfig(timeout_seconds=0.1))

    result = await live_store.wait_for_rollouts(rollout_ids=[started.rollout_id], timeout=1)

    assert [rollout.status for rollout in result] == ["failed"]


async def test_wait_settles_what_is_late_before_it_answers(store, clock):
    started = await store.start_rollout("task", config=RolloutConfig(timeout_seconds=5))
    clock.advance(6)

    result = await store.wait_for_rollouts(rollout_ids=[started.rollout_id], timeout=0)

    assert [rollout.status for rollout in result] == ["failed"]


async def test_all_waiters_on_one_rollout_are_woken(live_store):
    first, second = await make_rollouts(live_store, 2)
    tasks = [await waiting(live_store, [first]) for _ in range(3)]
    tasks.append(await waiting(live_store, [second]))

    await finish(live_store, first)
    done, _ = await asyncio.wait(tasks[:3], timeout=AT_ONCE)

    assert done == set(tasks[:3])
    assert all(ids(task.result()) == [first] for task in done)
    assert not tasks[3].done()
    tasks[3].cancel()


async def test_many_waiters_with_ids_of_their_own_are_woken(live_store):
    names = await make_rollouts(live_store, 40)
    tasks = [asyncio.create_task(live_store.wait_for_rollouts(rollout_ids=[name], timeout=30)) for name in names]
    await asyncio.sleep(0)

    for name in names:
        await finish(live_store, name)
    results = await asyncio.wait_for(asyncio.gather(*tasks), 10)

    assert [ids(result) for result in results] == [[name] for name in names]


async def test_finish_that_races_the_begin_of_a_wait_is_not_missed(live_store):
    for name in await make_rollouts(live_store, 20):
        result, _ = await asyncio.wait_for(
            asyncio.gather(live_store.wait_for_rollouts(rollout_ids=[name], timeout=30), finish(live_store, name)),
            5,
        )
        assert ids(result) == [name]


async def test_only_what_is_finished_at_the_end_counts(live_store):
    for seconds in (0.6, 6.0):  # the second time only if this machine stood still the first time
        first, second = await make_rollouts(live_store, 2)
        started = time.monotonic()
        task = asyncio.create_task(live_store.wait_for_rollouts(rollout_ids=[first, second], timeout=seconds))
        await asyncio.wait([task], timeout=0.05)
        await finish(live_store, first)
        await live_store.start_attempt(first)
        await finish(live_store, second)
        if time.monotonic() - started < seconds / 2:
            break

    assert ids(await task) == [second]


async def test_cancelled_wait_ends_at_once_and_leaves_no_thread(live_store):
    names = await make_rollouts(live_store, 1)
    for timeout in (0, 0.1):
        await live_store.wait_for_rollouts(rollout_ids=names, timeout=timeout)
    threads = threading.active_count()
    task = await waiting(live_store, names)

    started = time.monotonic()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert task.cancelled()
    assert time.monotonic() - started < AT_ONCE
    assert threading.active_count() <= threads


async def test_cancelling_one_waiter_leaves_the_others(live_store):
    first = (await make_rollouts(live_store, 1))[0]
    gone, stays = await waiting(live_store, [first]), await waiting(live_store, [first])
    gone.cancel()
    await asyncio.wait([gone])

    await finish(live_store, first)

    assert ids(await asyncio.wait_for(stays, AT_ONCE)) == [first]


async def test_latency_of_the_wake_up_is_small(live_store):
    latencies = []
    for name in await make_rollouts(live_store, 5):
        task = await waiting(live_store, [name])
        started = time.monotonic()
        await finish(live_store, name)
        await task
        latencies.append(time.monotonic() - started)

    assert min(latencies) < 0.5
