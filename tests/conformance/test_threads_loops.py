"""Threads, event loops, processes: section 5 where it concerns a store object, and rule 20."""

import asyncio
import os
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.factories import requests_for, span_of
from tests.support.stores import ANY_PROCESS, ANY_THREAD, only_stores


def on_another_thread(work):
    """Run a coroutine function on a loop and a thread of its own; both are gone afterwards."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result(timeout=30)


def on_threads(count, work):
    """Run `work(number)` on as many threads with a loop each, all at once."""
    barrier = threading.Barrier(count)

    def run(number):
        barrier.wait(10)
        return asyncio.run(work(number))

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count), timeout=60))


def in_child(work):
    """Run a coroutine function in a forked process; answers its exit code, 0 = it ended without an exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: the test process has threads
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio.run(asyncio.wait_for(work(), 20))
            code = 0
        finally:
            os._exit(code)
    return pid


def exit_code(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# -- loops -------------------------------------------------------------------------------------------------------------


def test_store_used_by_one_loop_then_by_another_in_another_thread_works(store):
    """All stores: nothing overlaps here, so that it holds for the bare memory store too."""
    queued = asyncio.run(store.enqueue_rollout("task"))

    async def claim_it():
        return await store.dequeue_rollout("w")

    assert on_another_thread(claim_it).rollout_id == queued.rollout_id
    assert asyncio.run(store.get_worker_by_id("w")).status == "busy"
    asyncio.run(store.close())


def test_loops_may_come_and_go(store):
    """All stores: each loop is gone before the next one; several of them may lie at the same address."""
    for number in range(8):
        asyncio.run(store.enqueue_rollout(number))
    assert asyncio.run(store.query_rollouts()).total == 8
    asyncio.run(store.close())


@only_stores(*ANY_THREAD)
async def test_loop_that_was_closed_without_a_word_harms_nothing(store):
    """Not the bare memory store: it belongs to one thread at a time. So does fakeredis to one loop."""

    async def heartbeat():
        return await store.update_worker("w", {"beat": True})

    for _ in range(5):
        on_another_thread(heartbeat)

    assert (await store.get_worker_by_id("w")).heartbeat_stats == {"beat": True}


@only_stores(*ANY_THREAD)
async def test_waiter_of_one_loop_is_woken_by_another(live_store):
    """Not the bare memory store: it belongs to one thread at a time."""
    task = asyncio.create_task(live_store.dequeue_rollout(timeout=30))
    started = await live_store.start_rollout("watched")
    wait = asyncio.create_task(live_store.wait_for_rollouts(rollout_ids=[started.rollout_id]))
    await asyncio.wait([task, wait], timeout=0.05)

    async def other_side():
        await live_store.enqueue_rollout("task")
        await live_store.update_attempt(started.rollout_id, "latest", status="succeeded")

    await asyncio.to_thread(on_another_thread, other_side)

    assert (await asyncio.wait_for(task, 5)).input == "task"
    assert (await asyncio.wait_for(wait, 5))[0].status == "succeeded"


# -- threads -----------------------------------------------------------------------------------------------------------


@only_stores(*ANY_THREAD)
async def test_many_threads_with_a_loop_each_use_one_store_at_once(store):
    """Not the bare memory store: it belongs to one thread at a time."""

    async def life(number):
        created = await store.enqueue_many_rollouts(requests_for([number] * 5))
        claimed = await store.dequeue_many_rollouts(limit=5, worker_id=f"w{number}")
        for rollout in claimed:
            await store.add_many_spans([span_of(rollout), span_of(rollout)], renumber=True)
            await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")
        return [r.rollout_id for r in created], [r.rollout_id for r in claimed]

    results = await asyncio.to_thread(on_threads, 6, life)

    created = sorted(rollout_id for result in results for rollout_id in result[0])
    claimed = sorted(rollout_id for result in results for rollout_id in result[1])
    assert created == claimed
    page = await store.query_rollouts(status_in=["succeeded"])
    assert page.total == 30
    spans = await store.query_many_spans(created)
    assert all([span.sequence_id for span in found] == [1, 2] for found in spans.values())
    assert len((await store.completions()).items) == 30


@only_stores(*ANY_THREAD)
async def test_algorithm_and_server_use_one_store_from_two_loops_at_once(live_store):
    """Not the bare memory store: it belongs to one thread at a time."""
    total = 20
    over = threading.Event()

    async def runner(_number):
        done = 0
        while not over.is_set():
            claimed = await live_store.dequeue_rollout("w", timeout=0.2)
            if claimed is not None:
                await live_store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")
                done += 1
        return done

    runners = asyncio.create_task(asyncio.to_thread(on_threads, 2, runner))
    created = await live_store.enqueue_many_rollouts(requests_for(range(total)))
    ids = [rollout.rollout_id for rollout in created]
    finished = await live_store.wait_for_rollouts(rollout_ids=ids, timeout=30)
    over.set()

    assert [rollout.rollout_id for rollout in finished] == ids
    assert sum(await runners) == total


# -- processes ---------------------------------------------------------------------------------------------------------


@only_stores(*ANY_PROCESS)
@pytest.mark.parametrize("was_used", [True, False])
def test_store_works_after_fork_in_parent_and_child_at_once(live_store, was_used):
    """Not where data lies in memory, a fake server's too: a fork copies it instead of sharing it."""
    if was_used:
        asyncio.run(live_store.enqueue_rollout("before"))

    async def child():
        for number in range(10):
            await live_store.enqueue_rollout(f"child {number}")
            await live_store.update_worker("child")

    async def parent():
        for number in range(10):
            await live_store.enqueue_rollout(f"parent {number}")
        return await live_store.query_rollouts()

    pid = in_child(child)
    asyncio.run(parent())
    assert exit_code(pid) == 0

    async def everything():
        claimed = await live_store.dequeue_many_rollouts(limit=100)
        worker = await live_store.get_worker_by_id("child")
        await live_store.close()
        return claimed, worker

    claimed, worker = asyncio.run(everything())
    assert len(claimed) == 20 + was_used
    assert worker is not None


@only_stores(*ANY_PROCESS)
async def test_store_works_in_a_child_forked_inside_a_running_loop(live_store):
    """Not where data lies in memory, as above."""
    await live_store.enqueue_rollout("task")
    waiter = asyncio.create_task(live_store.dequeue_rollout(timeout=30, queues=("other",)))
    await asyncio.wait([waiter], timeout=0.05)

    async def child():
        claimed = await live_store.dequeue_rollout("child")
        await live_store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")
        await live_store.enqueue_rollout("from the child", queue="other")

    pid = in_child(lambda: asyncio.to_thread(asyncio.run, child()))
    assert await asyncio.to_thread(exit_code, pid) == 0

    assert (await asyncio.wait_for(waiter, 10)).input == "from the child"
    assert [item.status for item in (await live_store.completions()).items] == ["succeeded"]


@only_stores(*ANY_PROCESS)
async def test_store_can_be_pickled_and_sees_the_same_data(live_store):
    """Not where data lies in memory, as above."""
    await live_store.enqueue_rollout("task", rollout_id="r")

    copy = pickle.loads(pickle.dumps(live_store))  # noqa: S301 - our own bytes

    claimed = await copy.dequeue_rollout("w")
    await copy.close()
    assert claimed.rollout_id == "r"
    assert (await live_store.get_rollout_by_id("r")).status == "preparing"
    assert type(copy) is type(live_store)
    assert copy.capabilities == live_store.capabilities


@only_stores(*ANY_PROCESS)
async def test_pickle_of_a_store_in_use_leaves_its_connections_behind(live_store):
    """Not where data lies in memory, as above."""
    waiter = asyncio.create_task(live_store.dequeue_rollout(timeout=30))
    await asyncio.wait([waiter], timeout=0.05)

    copy = pickle.loads(pickle.dumps(live_store))  # noqa: S301 - our own bytes
    await copy.enqueue_rollout("task")
    await copy.close()

    assert (await asyncio.wait_for(waiter, 5)).input == "task"


# -- connections -------------------------------------------------------------------------------------------------------


@only_stores("redis", "threaded_redis", "cluster")
def test_connections_of_loops_that_are_gone_are_closed(live_store, redis_server):
    """On a real server only: nothing else has connections."""
    with redis_server.client() as client:
        before = client.info("clients")["connected_clients"]
        for _ in range(6):
            asyncio.run(live_store.update_worker("w"))
        left = client.info("clients")["connected_clients"] - before
    asyncio.run(live_store.close())

    assert left <= 1


@only_stores("redis", "threaded_redis", "cluster")
async def test_many_waiters_need_few_connections(live_store, redis_server):
    """On a real server only: nothing else has connections."""
    with redis_server.client() as client:
        before = client.info("clients")["connected_clients"]
        tasks = [asyncio.create_task(live_store.dequeue_rollout(timeout=30)) for _ in range(200)]
        started = await live_store.start_rollout("task")
        tasks += [
            asyncio.create_task(live_store.wait_for_rollouts(rollout_ids=[started.rollout_id])) for _ in range(100)
        ]
        await asyncio.wait(tasks, timeout=0.5)
        waiting = client.info("clients")["blocked_clients"]
        used = client.info("clients")["connected_clients"] - before
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert waiting <= 3
    assert used < 100


@only_stores("redis")
@pytest.mark.parametrize(("lease", "status"), [(60, "preparing"), (None, "queuing")])
async def test_waiting_claim_with_a_lease_is_carried_out_where_it_waits(live_store, lease, status):
    """On Redis only: there the server carries it out, even while this process does nothing.

    Without a lease nothing would end a claim for a process that is gone, so it is asked first.
    """
    waiter = asyncio.create_task(live_store.dequeue_rollout("w", timeout=30, lease_seconds=lease))
    await asyncio.wait([waiter], timeout=0.1)

    async def enqueue_and_look():
        queued = await live_store.enqueue_rollout("task")
        return (await live_store.get_rollout_by_id(queued.rollout_id)).status

    elsewhere = threading.Thread(target=lambda: seen.append(asyncio.run(enqueue_and_look())))
    seen = []
    elsewhere.start()
    elsewhere.join()  # this event loop stands still meanwhile

    assert seen == [status]
    claimed = await asyncio.wait_for(waiter, 5)
    assert (claimed.attempt.worker_id, claimed.attempt.sequence_id) == ("w", 1)
