"""Contract, section 5: the threads, loops, forks and pickles that Agent Lightning puts a store through."""

import asyncio
import multiprocessing
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import agentlightning as al
import pytest

from lightning_store import InMemoryLightningStore, LightningStoreThreaded
from lightning_store.integrations.agentlightning import AgentLightningStore
from tests.agentlightning.support.making import only, ours_only

FORK = multiprocessing.get_context("fork")
PATIENCE = 60


async def claim_until_empty(store, worker_id):
    claimed = []
    while rollout := await store.dequeue_rollout(worker_id=worker_id):
        await store.update_worker(worker_id, {"n": len(claimed)})
        await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")
        claimed.append(rollout.input)
    return claimed


@ours_only
async def test_many_loops_in_many_threads_at_once(store):
    """No rollout is handed out twice or lost, and the loop that enqueued goes on."""
    await store.enqueue_many_rollouts([al.EnqueueRolloutRequest(input=number) for number in range(60)])
    with ThreadPoolExecutor(4) as threads:
        loop = asyncio.get_running_loop()
        runs = [
            loop.run_in_executor(threads, asyncio.run, claim_until_empty(store, f"worker-{number}"))
            for number in range(4)
        ]
        claimed = await asyncio.gather(*runs, claim_until_empty(store, "here"))
    assert sorted(chain(*claimed)) == list(range(60))
    assert len(await store.query_rollouts(status_in=["succeeded"])) == 60


@ours_only
async def test_loops_that_were_closed_without_a_word(store):
    """The heartbeat's loop ends so, again and again."""
    for number in range(5):
        await asyncio.to_thread(lambda number=number: asyncio.run(store.update_worker("worker", {"n": number})))
    assert (await store.get_worker_by_id("worker")).heartbeat_stats == {"n": 4}


@ours_only
async def test_waiter_in_one_thread_is_woken_from_another(store):
    """The algorithm waits on its loop, runners finish on theirs."""
    rollout = await store.enqueue_rollout(1)
    wait = asyncio.ensure_future(store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=PATIENCE))
    await asyncio.to_thread(lambda: asyncio.run(claim_until_empty(store, "worker")))
    assert [item.status for item in await wait] == ["succeeded"]


@ours_only
async def test_cancelled_call_leaves_the_store_well(store):
    """Runners are cancelled in the middle of calls."""
    for _ in range(10):
        task = asyncio.ensure_future(store.enqueue_rollout(1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.wait_for(claim_until_empty(store, "worker"), PATIENCE)
    assert len(await store.query_rollouts(status_in=["queuing"])) == 0


def in_child(store, results, worker_id):
    results.put(asyncio.run(claim_until_empty(store, worker_id)))


@only("redis", "sqlite")
async def test_forked_children_share_the_data(store):
    """Connections that were open before the fork stay the parent's, which works on meanwhile."""
    await store.enqueue_many_rollouts([al.EnqueueRolloutRequest(input=number) for number in range(40)])
    results = FORK.SimpleQueue()
    children = [FORK.Process(target=in_child, args=(store, results, f"child-{number}")) for number in range(2)]
    for child in children:
        child.start()
    here = await claim_until_empty(store, "parent")
    there = [await asyncio.to_thread(results.get) for _ in children]
    for child in children:
        await asyncio.to_thread(child.join, PATIENCE)
    assert [child.exitcode for child in children] == [0, 0]
    assert sorted(chain(here, *there)) == list(range(40))


@only("redis", "sqlite")
async def test_pickled_copy_shares_the_data(store):
    """As sent to Ray workers, with connections in use and attributes of the user's."""
    rollout = await store.enqueue_rollout(1)
    store.of_mine = "kept"
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert type(copy) is type(store)
    assert copy.of_mine == "kept"
    assert (await copy.get_rollout_by_id(rollout.rollout_id)).input == 1
    assert copy.capabilities == store.capabilities
    await copy.close()


@only("memory")
async def test_forked_child_has_a_copy_of_its_own(store):
    """What it does is not seen here, as its capabilities say."""
    await store.enqueue_rollout(1)
    results = FORK.SimpleQueue()
    child = FORK.Process(target=in_child, args=(store, results, "child"))
    child.start()
    assert await asyncio.to_thread(results.get) == [1]
    await asyncio.to_thread(child.join, PATIENCE)
    assert await claim_until_empty(store, "parent") == [1]


@ours_only
async def test_no_thread_is_left_when_it_is_closed(store):
    """Upstream never closes a store; programs that make many of them can."""
    before = set(threading.enumerate())
    await store.query_rollouts()
    await store.close()
    new = {thread.name for thread in set(threading.enumerate()) - before}
    assert not any(name.startswith("lightning-store") for name in new)
    assert len(await store.query_rollouts()) == 0  # and it opens again


async def test_store_that_is_threaded_already_stays_so():
    threaded = LightningStoreThreaded(InMemoryLightningStore())
    store = AgentLightningStore(threaded)
    await store.enqueue_rollout(1)
    assert (await threaded.dequeue_rollout()).input == 1
    await store.close()
