"""Delayed retries on a real server: they come in their order and at their time, whatever happens meanwhile."""

import asyncio

import pytest

from lightning_store.records import RolloutConfig
from tests.support.factories import requests_for
from tests.support.invariants import check
from tests.support.until import AT_ONCE, until

MANY = 300
WAITERS = 32


def later(seconds):
    return RolloutConfig(max_attempts=2, retry_condition=["failed"], retry_delay_seconds=seconds)


async def fail(store, rollout):
    await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="failed")


async def test_many_retries_become_claimable_in_order_and_none_before_its_time(others, raw, namespace):
    await others.enqueue_many_rollouts(requests_for(range(MANY), config=later(1.0)))
    claimed = await others.dequeue_many_rollouts(limit=MANY)
    await others.enqueue_many_rollouts(requests_for(["new"] * MANY, config=later(1.0)))
    order = claimed[::2] + claimed[1::2]
    for rollout in order:
        await fail(others, rollout)

    back = []
    while len(back) < 2 * MANY:
        back += await others.dequeue_many_rollouts(limit=10, timeout=5)

    retried = [rollout for rollout in back if rollout.input != "new"]
    assert [rollout.rollout_id for rollout in retried] == [rollout.rollout_id for rollout in order]
    for rollout in retried:
        first = (await others.query_attempts(rollout.rollout_id))[0]
        assert rollout.attempt.start_time - first.end_time >= 1.0
    check(raw, namespace)


async def test_retries_survive_a_restart_and_come_at_their_time(private_redis, open_store, namespace):
    server = private_redis(appendfsync="always")
    store = open_store(server)
    await store.enqueue_many_rollouts(
        [*requests_for(["soon"] * 5, config=later(0.5)), *requests_for(["late"] * 5, config=later(4.0))]
    )
    claimed = await store.dequeue_many_rollouts(limit=10)
    for rollout in claimed:
        await fail(store, rollout)
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(1.0)
    await asyncio.to_thread(server.start)

    back = []
    while len(back) < 10:
        back += await store.dequeue_many_rollouts(limit=10, timeout=10)

    assert [rollout.rollout_id for rollout in back] == [rollout.rollout_id for rollout in claimed]
    for rollout in back:
        first = (await store.query_attempts(rollout.rollout_id))[0]
        waited = rollout.attempt.start_time - first.end_time
        assert waited >= rollout.config.retry_delay_seconds
        if rollout.input == "late":
            assert waited < rollout.config.retry_delay_seconds + AT_ONCE, "the end of the delay was missed"
    with server.client(decode_responses=False) as raw:
        check(raw, namespace)


@pytest.mark.parametrize("delays", [1, 20])
async def test_delays_that_begin_wake_no_herd(private_redis, open_store, delays):
    """Each wakes at most one of those that wait, and each retry is claimed as soon as it is ready."""
    server = private_redis()
    worker = open_store(server)
    await worker.enqueue_many_rollouts(requests_for(range(delays), config=later(1.0)))
    running = await worker.dequeue_many_rollouts(limit=delays)
    waits = [
        asyncio.create_task(open_store(server).dequeue_rollout(f"w{number}", timeout=60, lease_seconds=30))
        for number in range(WAITERS)
    ]
    with server.client() as raw:
        await until(lambda: raw.info("clients")["blocked_clients"] == WAITERS)
        before = raw.info("commandstats")["cmdstat_evalsha"]["calls"]
        for rollout in running:
            await fail(worker, rollout)
        await until(lambda: sum(task.done() for task in waits) == delays, AT_ONCE)
        calls = raw.info("commandstats")["cmdstat_evalsha"]["calls"] - before

    got = [task.result() for task in waits if task.done()]
    late = [each.attempt.start_time - (await worker.query_attempts(each.rollout_id))[0].end_time - 1.0 for each in got]
    assert sorted(each.rollout_id for each in got) == sorted(each.rollout_id for each in running)
    assert all(0 <= seconds < AT_ONCE - 1 for seconds in late)
    # Per retry: the report of the failure, the waiter that it wakes, and claims when the delay is over. Only a waiter
    # that was woken knows of the end of a delay, and looks then, again after 50 ms, or after its 4 to 6 s.
    assert calls <= 2 * delays + 3 * delays + WAITERS // 4, (
        f"{calls} scripts for {delays} retries and {WAITERS} waiters"
    )
    for task in waits:
        task.cancel()
    await asyncio.wait(waits)
