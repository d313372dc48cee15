"""Tasks that are cancelled at any moment: they end, and nothing is lost."""

import asyncio
import contextlib

import pytest

from tests.support.factories import requests_for
from tests.support.invariants import check
from tests.support.until import AT_ONCE, PATIENCE_SECONDS, until

TRIALS = 200


@pytest.mark.parametrize("call", ["update_worker", "statistics", "wait_for_rollouts"])
async def test_cancelled_task_ends_at_whatever_step_it_is(redis_server, open_store, call):
    """Before Python 3.12 the driver loses a cancellation that comes as its sending ends: the task would run on."""
    store = open_store(redis_server)
    queued = await store.enqueue_rollout("task")
    calls = {
        "update_worker": lambda: store.update_worker("w"),
        "statistics": store.statistics,
        "wait_for_rollouts": lambda: store.wait_for_rollouts(rollout_ids=[queued.rollout_id], timeout=0.001),
    }

    async def go_on_for_ever():
        while True:
            await calls[call]()

    for steps in range(100):
        task = asyncio.create_task(go_on_for_ever())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=PATIENCE_SECONDS)
        assert done, f"the task runs on after it was cancelled at step {steps}"
        assert task.cancelled()


async def test_producers_that_are_cancelled_at_any_moment_enqueue_all_or_nothing(
    redis_server, open_store, namespace, raw
):
    """While they wait for room nothing is there; on its way, a call of three enqueues three or none."""
    store = open_store(redis_server, max_queued=9)
    await store.enqueue_many_rollouts(requests_for(range(9)))
    for trial in range(TRIALS // 4):
        task = asyncio.create_task(store.enqueue_many_rollouts(requests_for("abc", group_id="late"), timeout=60))
        for _ in range(trial):
            await asyncio.sleep(0)
        await asyncio.sleep(0.001 * (trial % 10))
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert list(await store.query_rollouts(group_id="late")) == [], "there never was room"

    for trial in range(TRIALS // 4):
        before = len(await store.query_rollouts(group_id="late"))
        await store.dequeue_many_rollouts(limit=9)
        task = asyncio.create_task(store.enqueue_many_rollouts(requests_for("abc", group_id="late"), timeout=60))
        for _ in range(trial % 25):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await store.statistics()
        assert len(await store.query_rollouts(group_id="late")) - before in (0, 3)
    assert len(store._loops.get().producers[("default",)]) == 0, "somebody is left in the line"
    check(raw, namespace)


async def test_claims_whose_callers_are_cancelled_lose_nothing(redis_server, open_store, namespace):
    """Cancelled while the claim is on its way: whatever it took is handed back, to the head, uncounted."""
    store = open_store(redis_server)
    queued = await store.enqueue_many_rollouts(requests_for(list(range(10))))
    order = [each.rollout_id for each in queued]
    kept = 0
    for trial in range(TRIALS):
        task = asyncio.create_task(store.dequeue_many_rollouts(limit=3, worker_id="w"))
        for _ in range(trial % 25):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            for claimed in reversed(await task):
                kept += 1
                await store.release_attempt(claimed.rollout_id, claimed.attempt.attempt_id)
        await until(lambda: not store._loops.get().background)

        queues = await store.query_queues()
        assert [stats.depth for stats in queues] == [10]
    assert kept < 3 * TRIALS, "no claim was cancelled"
    assert [each.rollout_id for each in await store.dequeue_many_rollouts(limit=10)] == order
    with redis_server.client(decode_responses=False) as raw:
        check(raw, namespace)


@pytest.mark.parametrize("lease", [None, 60], ids=["asked first", "sent with the wait"])
async def test_waiting_claims_that_are_cancelled_lose_nothing(redis_server, open_store, namespace, lease):
    """The rollout comes just when the waiter goes: whoever waits next has it within a fallback interval, or at once."""
    store, other = open_store(redis_server), open_store(redis_server)
    claimed, delivered = [], 0
    lines = store._loops.get().lines
    for trial in range(TRIALS):
        task = asyncio.create_task(store.dequeue_rollout("w", timeout=30, lease_seconds=lease))
        await until(lambda task=task: task.done() or len(lines.get(("default",), ())) == 1)
        enqueue = asyncio.create_task(other.enqueue_rollout(trial))
        for _ in range(trial % 20):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            claimed.append(await task)
            delivered += 1
        await enqueue
    await until(lambda: not store._loops.get().background)

    while rollout := await store.dequeue_rollout("w"):
        claimed.append(rollout)
    assert sorted(each.input for each in claimed) == list(range(TRIALS))
    assert TRIALS - delivered > 0
    with redis_server.client(decode_responses=False) as raw:
        check(raw, namespace)


@pytest.mark.parametrize("lease", [None, 60], ids=["asked first", "sent with the wait"])
async def test_work_left_by_a_cancelled_waiter_wakes_a_waiter_elsewhere(redis_server, open_store, lease):
    store, elsewhere = open_store(redis_server), open_store(redis_server)
    lines, there = store._loops.get().lines, elsewhere._loops.get().lines
    for trial in range(20):
        first = asyncio.create_task(store.dequeue_rollout("a", timeout=30, lease_seconds=lease))
        await until(lambda: len(lines.get(("default",), ())) == 1)
        second = asyncio.create_task(elsewhere.dequeue_rollout("b", timeout=30))
        await until(lambda: len(there.get(("default",), ())) == 1)
        first.cancel()
        queued = await elsewhere.enqueue_rollout(trial)
        with contextlib.suppress(asyncio.CancelledError):
            await first

        claimed = await asyncio.wait_for(second, AT_ONCE)
        assert claimed.rollout_id == queued.rollout_id
