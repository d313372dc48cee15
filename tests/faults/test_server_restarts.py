"""The server is killed and started again, with an append-only file that is synced at every write."""

import asyncio

import pytest

from lightning_store.errors import StoreUnavailableError
from tests.support.factories import claim, span_of
from tests.support.invariants import check
from tests.support.until import until

PRODUCERS = 8
MOST_SECONDS = 3.5
"""What recovery may take after the server answers again: back-off of at most 1.5 s, one look, and a busy machine; but
less than the 4 s after which a waiter looks by itself at the earliest."""


@pytest.fixture
def server(private_redis):
    return private_redis(appendfsync="always")


async def restart(server, pause_seconds=0.0):
    """Kill the server and start it again, on a thread, while the loop goes on."""
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(pause_seconds)
    await asyncio.to_thread(server.start)


async def test_everything_acknowledged_is_there_and_clients_go_on(server, open_store, namespace):
    store = open_store(server)
    acknowledged, claimed, ended = [], [], []
    stopping = asyncio.Event()

    async def produce(number):
        while not stopping.is_set():
            acknowledged.append((await store.enqueue_rollout(number)).rollout_id)

    async def consume(number):
        while not stopping.is_set():
            rollout = await store.dequeue_rollout(f"w{number}", timeout=1)
            if rollout is not None:
                claimed.append(rollout.rollout_id)
                await store.add_many_spans([span_of(rollout)], renumber=True)
                await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")
                ended.append(rollout.rollout_id)

    work = [asyncio.create_task(do(number)) for do in (produce, consume) for number in range(PRODUCERS)]
    for _ in range(3):
        before = len(ended)
        await until(lambda before=before: len(ended) > before + 20)
        await restart(server)
    after = len(ended)
    await until(lambda: len(ended) > after + 20)
    stopping.set()
    await asyncio.gather(*work)

    assert len(set(claimed)) == len(claimed)
    assert len(set(ended)) == len(ended)
    known = {each.rollout_id: each for each in (await store.query_rollouts()).items}
    assert set(acknowledged) == set(known)
    assert {id for id, each in known.items() if each.status == "succeeded"} == set(ended)
    assert sorted(each.rollout_id for each in (await store.completions(limit=100_000)).items) == sorted(ended)
    with server.client(decode_responses=False) as raw:
        check(raw, namespace)


async def test_waits_go_on_over_a_restart(server, open_store):
    """A blocked dequeue, a wait for a finish and a reader of completions; none of them learns of the restart."""
    store, other = open_store(server), open_store(server)
    first = await store.start_rollout("first")
    dequeue = asyncio.create_task(store.dequeue_rollout("w", timeout=60))
    finish = asyncio.create_task(store.wait_for_rollouts(rollout_ids=[first.rollout_id], timeout=60))
    page = asyncio.create_task(store.completions(timeout=60))
    with server.client() as raw:
        await until(lambda: raw.info("clients")["blocked_clients"] == 2)

    await restart(server, pause_seconds=0.5)
    queued = await other.enqueue_rollout("task")
    claimed = await asyncio.wait_for(dequeue, MOST_SECONDS)
    assert claimed.rollout_id == queued.rollout_id

    await other.update_attempt(first.rollout_id, "latest", status="succeeded")
    [finished] = await asyncio.wait_for(finish, MOST_SECONDS)
    assert finished.status == "succeeded"
    assert [each.rollout_id for each in (await asyncio.wait_for(page, MOST_SECONDS)).items] == [first.rollout_id]


async def test_work_that_came_during_the_outage_of_a_waiter_is_found_at_once(server, open_store):
    """Its hint went to a connection that died with the server."""
    store = open_store(server)
    waits = asyncio.create_task(store.dequeue_rollout("w", timeout=60))
    with server.client() as raw:
        await until(lambda: raw.info("clients")["blocked_clients"] == 1)
        server.pause()
        enqueue = asyncio.create_task(open_store(server).enqueue_rollout("task"))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)

    queued = await enqueue
    claimed = await asyncio.wait_for(waits, MOST_SECONDS)
    assert claimed.rollout_id == queued.rollout_id


async def test_server_that_stays_away_is_told_and_found_again(server, open_store):
    store = open_store(server, retry_seconds=0.5)
    await store.enqueue_rollout("task")
    await asyncio.to_thread(server.kill)

    calls = {
        "claim": store.dequeue_rollout("w"),
        "waiting claim": store.dequeue_rollout("w", timeout=1),
        "read": store.query_rollouts(limit=10),
        "completions": store.completions(timeout=1),
        "wait": store.wait_for_rollouts(rollout_ids=["ro-1"], timeout=1),
        "write": store.enqueue_rollout("more"),
        "plain read": store.statistics(),
    }
    for name, answer in zip(calls, await asyncio.gather(*calls.values(), return_exceptions=True), strict=True):
        assert isinstance(answer, StoreUnavailableError), f"{name} answered {answer!r}"

    await asyncio.to_thread(server.start)
    assert (await claim(store)).input == "task"


async def test_server_that_loads_its_data_is_waited_for(server, open_store):
    """It answers LOADING until it has read its file."""
    store = open_store(server)
    await store.enqueue_rollout("task")
    with server.client() as raw:
        raw.execute_command("DEBUG", "POPULATE", 200_000, "filler", 100)
        raw.bgrewriteaof()
        await until(lambda: raw.info("persistence")["aof_rewrite_in_progress"] == 0)
    await asyncio.to_thread(server.kill)
    claiming = asyncio.create_task(claim(store))
    await asyncio.to_thread(server.start)

    assert (await asyncio.wait_for(claiming, MOST_SECONDS)).input == "task"
