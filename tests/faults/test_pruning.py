"""Many prune at once, while work goes on: what is to be kept is kept, exactly."""

import asyncio

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.records import EnqueueRolloutRequest
from tests.support.crashing import run_and_die
from tests.support.invariants import check, findings
from tests.support.keyspace import read_keyspace

PRUNERS = 4
FINISHED = 700
KEPT = 230


async def finish(store, names, status="succeeded"):
    for start in range(0, len(names), 350):
        part = names[start : start + 350]
        await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=1, rollout_id=name) for name in part])
        await asyncio.gather(*(store.update_rollout(name, status=status) for name in part))


async def in_order(store):
    return [item.rollout_id for item in (await store.completions(limit=10_000)).items]


@pytest.mark.parametrize("limits", [{}, {"status_in": ["succeeded"]}, {"consumed": True}], ids=str)
async def test_pruners_at_once_keep_exactly_the_latest(open_store, redis_url, raw, namespace, limits):
    store = open_store(redis_url)
    await finish(store, [f"a{n}" for n in range(FINISHED)])
    order = await in_order(store)
    limits = (
        {"consumed_cursor": (await store.completions(limit=10_000)).cursor} if limits.pop("consumed", 0) else limits
    )
    pruners = [open_store(redis_url) for _ in range(PRUNERS)]

    removed = await asyncio.gather(*(each.prune(keep_latest=KEPT, **limits) for each in pruners))

    assert sum(removed) == FINISHED - KEPT
    assert await in_order(store) == order[-KEPT:]
    check(raw, namespace)


@pytest.mark.parametrize("limits", [{}, {"status_in": ["succeeded"]}], ids=str)
async def test_while_work_is_finished_nothing_of_the_latest_goes(open_store, redis_url, raw, namespace, limits):
    store = open_store(redis_url)
    pruners = [open_store(redis_url) for _ in range(PRUNERS)]
    done = asyncio.Event()

    async def prune_on(pruner):
        while not done.is_set():
            await pruner.prune(keep_latest=KEPT, **limits)

    pruning = [asyncio.create_task(prune_on(each)) for each in pruners]
    for number in range(4):
        await finish(store, [f"{number}-{n}" for n in range(350)])
        assert len(await in_order(store)) >= KEPT
    order = await in_order(store)
    done.set()
    await asyncio.gather(*pruning)
    await store.prune(keep_latest=KEPT, **limits)

    assert await in_order(store) == order[-KEPT:]
    check(raw, namespace)
    assert (await store.audit()).findings == []


async def prune_statuses(store):
    await store.prune(status_in=["cancelled"], keep_latest=10)


def test_process_that_is_killed_while_it_prunes_leaves_what_the_next_one_removes(redis_url, raw, namespace):
    async def on_store(name, work):
        store = RedisLightningStore(redis_url, namespace=name)
        try:
            return await work(store)
        finally:
            await store.close()

    async def prepare(store):
        await finish(store, [f"c{n}" for n in range(450)], "cancelled")
        return (await in_order(store))[-10:]

    async def outcome(store):
        await prune_statuses(store)
        return await in_order(store)

    commands, killed = 0, True
    while killed:
        commands += 1
        name = f"{namespace}-{commands}"
        latest = asyncio.run(on_store(name, prepare))
        killed = run_and_die(redis_url, name, 1_700_000_000.0, prune_statuses, commands)
        assert findings(read_keyspace(raw, name)) == [], f"after {commands} commands"
        assert asyncio.run(on_store(name, outcome)) == latest
    assert commands > 5
