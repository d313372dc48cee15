"""Many waiters on one event loop: one connection serves them all, and waiting costs next to nothing."""

import asyncio
from collections import Counter

import pytest

from tests.support.factories import requests_for
from tests.support.until import until

SLACK = 20
"""Looks of the leader on a machine so slow that its waits run out in between."""


@pytest.fixture
def raw(redis_server):
    with redis_server.client() as client:
        yield client


async def in_line(store, raw, count, **options):
    tasks = [asyncio.create_task(store.dequeue_rollout(f"w{n}", timeout=100, **options)) for n in range(count)]
    lines = store._loops.get().lines
    await until(lambda: len(lines["default",]) == count)
    await until(lambda: raw.info("clients")["blocked_clients"] == 1)
    return tasks


def commands_of(raw):
    """How often clients sent what claims consist of; scripts call none of these."""
    statistics = raw.info("commandstats")
    return Counter({name: statistics.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "blpop")})


@pytest.mark.parametrize("lease", [None, 60], ids=["asked first", "sent with the wait"])
async def test_each_claim_takes_one_wait_and_one_script(redis_server, open_store, raw, lease):
    """Rule 20."""
    count, store, other = 1_000, open_store(redis_server), open_store(redis_server)
    assert await store.dequeue_rollout() is None
    await other.statistics()
    connections = raw.info("clients")["connected_clients"]
    tasks = await in_line(store, raw, count, lease_seconds=lease)
    before = commands_of(raw)

    for _ in range(count // 500):
        await other.enqueue_many_rollouts(requests_for(list(range(500))))
    claimed = await asyncio.gather(*tasks)

    assert len({each.rollout_id for each in claimed}) == count
    assert {each.attempt.worker_id for each in claimed} == {f"w{number}" for number in range(count)}
    commands = commands_of(raw) - before
    assert commands["blpop"] <= count + SLACK
    assert commands["evalsha"] <= count + SLACK
    assert raw.info("clients")["connected_clients"] <= connections + 33  # the pool, and one that blocks


async def test_idle_waiters_cost_next_to_nothing(redis_server, open_store, raw):
    """A look in five seconds, not one per waiter."""
    store = open_store(redis_server)
    tasks = await in_line(store, raw, 500, lease_seconds=60)
    before = commands_of(raw)
    await asyncio.wait(tasks, timeout=7)

    assert 1 <= (commands_of(raw) - before).total() <= 6
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
