"""A claim that is ended by its key at another process of the server than the one that makes it or has made it."""

import asyncio
import secrets
from contextlib import AsyncExitStack

import aiohttp
import psutil
import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.http.client import LightningStoreClient
from lightning_store.http.server import LightningStoreServer
from tests.support.factories import requests_for
from tests.support.http_server import Raw
from tests.support.until import AT_ONCE, until

pytestmark = [pytest.mark.wide, pytest.mark.redis]

DEQUEUE = "/queues/rollouts/dequeue"


def processes_of(server):
    """The processes of a server, each with the ports of the clients that are connected to it."""
    children = [child for child in psutil.Process().children() if "lightning_store.http.child" in child.cmdline()]
    return {
        child.pid: {
            each.raddr.port for each in child.net_connections("tcp") if each.raddr and each.laddr.port == server.port
        }
        for child in children
    }


@pytest.fixture
async def two(redis_url, namespace):
    """A store, and a way to each of the two processes of its server."""
    store = RedisLightningStore(redis_url, namespace=namespace)
    async with AsyncExitStack() as opened, LightningStoreServer(store, workers=2, launch="process") as server:
        ways = {}

        async def try_another():
            session = await opened.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=300))
            )
            before = set().union(*processes_of(server).values())
            way = Raw(server.url, session)
            await way("GET", "/health")
            for pid, ports in processes_of(server).items():
                if ports - before:
                    ways.setdefault(pid, way)
            return len(ways) == 2

        await until(try_another)
        yield store, *ways.values()
    await store.close()


def key():
    return {"Idempotency-Key": secrets.token_hex(16), "X-Lightning-Store": "1"}


async def states(store):
    found = [(each.status, await store.get_latest_attempt(each.rollout_id)) for each in await store.query_rollouts()]
    return [(status, attempt and attempt.cause) for status, attempt in found]


async def test_claim_that_was_answered_is_handed_back(two):
    store, here, there = two
    await store.enqueue_many_rollouts(requests_for([1, 2, 3]))
    headers = key()
    _, claimed = await here("POST", DEQUEUE, {"limit": 2, "worker_id": "w"}, headers=headers)
    assert [each["input"] for each in claimed] == [1, 2]

    assert await there("DELETE", DEQUEUE, headers=headers) == (200, None)

    assert await states(store) == [("requeuing", "released")] * 2 + [("queuing", None)]
    assert [each.input for each in await store.dequeue_many_rollouts(limit=3)] == [1, 2, 3], "to the head, in order"
    assert await there("DELETE", DEQUEUE, headers=headers) == (200, None)
    assert {status for status, _ in await states(store)} == {"preparing"}, "what others have claimed since stays theirs"
    assert not (await store.audit()).findings


async def test_claim_that_was_waited_for_is_handed_back(two):
    """By whichever of its looks it was made."""
    store, here, there = two
    headers = key()
    waiting = asyncio.ensure_future(here("POST", DEQUEUE, {"timeout": 60, "lease_seconds": 60}, headers=headers))
    await until(lambda: waits_of(store))
    await store.enqueue_rollout("task")
    _, [claimed] = await waiting
    assert claimed["input"] == "task"

    assert await there("DELETE", DEQUEUE, headers=headers) == (200, None)

    assert await states(store) == [("requeuing", "released")]


async def waits_of(store):
    """Whether somebody waits at the server for work."""
    clients = await store._connections.command("CLIENT", "LIST", "TYPE", "NORMAL")
    return b"cmd=blpop" in clients


async def test_wait_under_way_claims_nothing_any_more(two):
    store, here, there = two
    headers = key()
    waiting = asyncio.ensure_future(here("POST", DEQUEUE, {"timeout": 60, "lease_seconds": 60}, headers=headers))
    await until(lambda: waits_of(store))
    assert await there("DELETE", DEQUEUE, headers=headers) == (200, None)

    await store.enqueue_rollout("task")

    assert await asyncio.wait_for(waiting, AT_ONCE) == (200, [])
    assert await states(store) == [("queuing", None)]
    assert (await asyncio.wait_for(store.dequeue_rollout(timeout=30), AT_ONCE)).input == "task", "nobody lost a hint"


async def test_claim_that_arrives_late_claims_nothing(two):
    store, here, there = two
    await store.enqueue_rollout("task")
    headers = key()
    assert await there("DELETE", DEQUEUE, headers=headers) == (200, None)

    assert await here("POST", DEQUEUE, headers=headers) == (200, [])

    assert await states(store) == [("queuing", None)]


async def test_claim_of_more_than_one_step_takes_is_handed_back(two):
    store, here, there = two
    await store.enqueue_many_rollouts(requests_for(range(1500)))
    headers = key()
    _, claimed = await here("POST", DEQUEUE, {"limit": 1200}, headers=headers)
    assert len(claimed) == 1200

    assert await there("DELETE", DEQUEUE, headers=headers) == (200, None)

    assert [queue.depth for queue in await store.query_queues()] == [1500]


async def test_claims_whose_callers_are_cancelled_at_any_moment_are_handed_back(two):
    """Without a lease, so that nothing else could end them; `DELETE` comes to either process."""
    store, here, _ = two
    client = LightningStoreClient(here.url)
    await store.enqueue_many_rollouts(requests_for(range(10)))
    kept = 0
    for trial in range(80):
        task = asyncio.create_task(client.dequeue_many_rollouts(limit=3, timeout=30 * (trial % 2)))
        await asyncio.sleep(0.0002 * trial)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            kept += 1
            for each in reversed(task.result()):
                await store.release_attempt(each.rollout_id, each.attempt.attempt_id)
    assert kept < 80
    await client.close()

    async def are_all_queued():
        return [queue.depth for queue in await store.query_queues()] == [10]

    await until(are_all_queued)
    assert not (await store.audit()).findings
