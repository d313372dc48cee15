"""Calls that wait at the server: their limits, their end with the caller, and with the server."""

import asyncio
import time

import aiohttp
import pytest

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.errors import QueueFullError
from tests.support.faulty import FaultyStore
from tests.support.http_server import Raw, ServedStore
from tests.support.until import AT_ONCE, until

DEQUEUE = "/queues/rollouts/dequeue"
CUT = "X-Lightning-Store-Cut"


@pytest.fixture
async def faulty():
    return FaultyStore(InMemoryLightningStore(max_queued=1))


@pytest.fixture
async def served(faulty):
    client = ServedStore(faulty)
    yield client
    await client.close()


@pytest.fixture
async def http(served):
    async with aiohttp.ClientSession() as session:
        yield Raw(served.url, session)


async def waits_of(served, http):
    """Requests that wait, one of each kind, and what they answer when there is nothing."""
    started = await served.start_rollout("task")
    finished = await served.start_rollout("task")
    await served.update_attempt(finished.rollout_id, "latest", status="succeeded")
    page = await served.completions()
    both = [started.rollout_id, finished.rollout_id]
    await served.enqueue_rollout("fills the queue")
    return {
        "dequeue_many_rollouts": (http.whole("POST", DEQUEUE, {"queues": ["other"], "timeout": 600}), 0),
        "wait_for_rollouts": (http.whole("POST", "/waits/rollouts", {"rollout_ids": both}), 1),
        "completions": (http.whole("POST", "/completions", {"after": page.cursor, "timeout": 600}), 2),
        "enqueue_many_rollouts": (
            http.whole("POST", "/queues/rollouts/enqueue", {"rollouts": [{"input": 1}], "timeout": 600}),
            "QUEUE_FULL",
        ),
    }


async def test_shutdown_ends_every_wait_with_what_there_is(served, http, faulty):
    waits = await waits_of(served, http)
    before = faulty.calls.copy()
    tasks = {name: asyncio.ensure_future(work) for name, (work, _) in waits.items()}
    await until(lambda: all(faulty.calls[name] > before[name] for name in waits))

    served.end_waits()

    answers = {name: await asyncio.wait_for(task, AT_ONCE) for name, task in tasks.items()}
    assert answers["dequeue_many_rollouts"].json == []
    assert len(answers["wait_for_rollouts"].json) == 1
    assert answers["completions"].json["items"] == []
    assert (answers["enqueue_many_rollouts"].status, answers["enqueue_many_rollouts"].json["error_type"]) == (
        429,
        "QUEUE_FULL",
    )
    assert [CUT in answers[name].headers for name in waits] == [True, True, True, False]
    assert (await served.query_rollouts()).total == 3


async def test_after_shutdown_nothing_waits(served, http):
    waits = await waits_of(served, http)
    served.end_waits()
    for work, _ in waits.values():
        await asyncio.wait_for(work, AT_ONCE)


@pytest.mark.parametrize("timeout", [0, -1, 0.1, 1e-9])
async def test_wait_is_over_with_the_callers_own_time(served, http, timeout):
    started = time.monotonic()
    answer = await http.whole("POST", DEQUEUE, {"timeout": timeout})
    assert (answer.status, answer.json, CUT in answer.headers) == (200, [], False)
    assert time.monotonic() - started >= timeout


async def test_server_bounds_waits_and_says_so():
    served = ServedStore(InMemoryLightningStore(), wait_limit_seconds=0.1)
    started = await served.start_rollout("task")
    async with aiohttp.ClientSession() as session:
        http = Raw(served.url, session)
        for path, body in (
            (DEQUEUE, {"timeout": 600}),
            ("/waits/rollouts", {"rollout_ids": [started.rollout_id], "timeout": None}),
            ("/completions", {"timeout": 600}),
        ):
            answer = await asyncio.wait_for(http.whole("POST", path, body), AT_ONCE)
            assert (answer.status, CUT in answer.headers) == (200, True)
    await served.close()


async def test_client_asks_again_until_its_own_time_is_over():
    store = FaultyStore(InMemoryLightningStore(max_queued={"small": 1}))
    served = ServedStore(store, wait_limit_seconds=0.05)
    started = await served.start_rollout("task")
    await served.enqueue_rollout("first", queue="small")
    tasks = {
        "dequeue_many_rollouts": asyncio.ensure_future(served.dequeue_rollout(timeout=60)),
        "wait_for_rollouts": asyncio.ensure_future(served.wait_for_rollouts(rollout_ids=[started.rollout_id])),
        "completions": asyncio.ensure_future(served.completions(timeout=60)),
    }
    waiting_for_room = asyncio.ensure_future(served.enqueue_rollout("second", queue="small", timeout=60))
    await until(lambda: all(store.calls[name] >= 3 for name in tasks))
    assert not any(task.done() for task in (*tasks.values(), waiting_for_room))

    await served.enqueue_rollout("work")
    await served.update_attempt(started.rollout_id, "latest", status="succeeded")
    await served.dequeue_rollout(queues=["small"])

    claimed, [finished], page = await asyncio.wait_for(asyncio.gather(*tasks.values()), 20)
    assert claimed.input == "work"
    assert finished.rollout_id == page.items[0].rollout_id == started.rollout_id
    assert (await asyncio.wait_for(waiting_for_room, 20)).input == "second"

    begun = time.monotonic()
    assert await served.dequeue_rollout(timeout=0.3) is None
    with pytest.raises(QueueFullError):
        await served.enqueue_rollout("third", queue="small", timeout=0.3)
    assert time.monotonic() - begun >= 0.6
    await served.close()


@pytest.mark.parametrize("name", ["dequeue_many_rollouts", "wait_for_rollouts", "completions", "enqueue_many_rollouts"])
async def test_wait_ends_when_its_caller_goes_away(served, http, faulty, name):
    waits = await waits_of(served, http)
    work = {other: work for other, (work, _) in waits.items()}
    task = asyncio.ensure_future(work.pop(name))
    for other in work.values():
        other.close()
    await until(lambda: faulty.under_way[name] == 1)

    task.cancel()
    await asyncio.wait({task})

    await until(lambda: faulty.under_way[name] == 0)
