"""The server refuses for a while what it accepted before: calls wait for better times, or say what is the matter."""

import asyncio
import contextlib
import threading
import time

import pytest
import redis

from lightning_store.errors import AccessDeniedError, StoreUnavailableError
from tests.support.factories import requests_for
from tests.support.invariants import check
from tests.support.until import AT_ONCE, until

REFUSED_SECONDS = 0.5


@pytest.fixture
def server(private_redis):
    return private_redis(settings={"appendonly": "no", "lua-time-limit": "50"})


@pytest.fixture
def raw(server):
    with server.client() as client:
        yield client


@pytest.mark.parametrize("blocked", ["dequeue", "completions"])
async def test_blocked_connection_that_is_killed_is_replaced(server, raw, open_store, blocked):
    store, other = open_store(server), open_store(server)
    rollout = await other.start_rollout("first")
    call = store.dequeue_rollout("w", timeout=60) if blocked == "dequeue" else store.completions(timeout=60)
    task = asyncio.create_task(call)
    for _ in range(5):
        await until(lambda: raw.info("clients")["blocked_clients"] == 1)
        [waiting] = [each for each in raw.client_list() if "b" in each["flags"]]
        raw.client_kill_filter(_id=waiting["id"])
    await until(lambda: raw.info("clients")["blocked_clients"] == 1)

    queued = await other.enqueue_rollout("task")
    await other.update_rollout(rollout.rollout_id, status="succeeded")
    answer = await asyncio.wait_for(task, AT_ONCE)
    if blocked == "dequeue":
        assert answer.rollout_id == queued.rollout_id
    else:
        assert [each.rollout_id for each in answer.items] == [rollout.rollout_id]


async def test_all_connections_that_are_killed_are_replaced(server, raw, open_store, namespace):
    store = open_store(server)
    stopping = asyncio.Event()

    async def kill_all_the_time():
        while not stopping.is_set():
            raw.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(0.02)

    killing = asyncio.create_task(kill_all_the_time())
    for _ in range(5):
        queued = await asyncio.gather(*(store.enqueue_many_rollouts(requests_for(["a"] * 5)) for _ in range(8)))
        claimed = await asyncio.gather(*(store.dequeue_many_rollouts(limit=5, timeout=30) for _ in queued))
        assert sum(map(len, claimed)) == 40
    stopping.set()
    await killing

    statistics = await store.statistics()
    assert statistics["total_rollouts"] == statistics["total_attempts"] == 200
    with server.client(decode_responses=False) as client:
        check(client, namespace)


REFUSALS = {
    "read-only replica": (
        lambda raw: raw.execute_command("REPLICAOF", "127.0.0.1", "1"),
        lambda raw: raw.execute_command("REPLICAOF", "NO", "ONE"),
    ),
    "too few replicas": (
        lambda raw: raw.config_set("min-replicas-to-write", "1"),
        lambda raw: raw.config_set("min-replicas-to-write", "0"),
    ),
    "stale replica": (
        lambda raw: (
            raw.config_set("replica-serve-stale-data", "no"),
            raw.execute_command("REPLICAOF", "127.0.0.1", "1"),
        ),
        lambda raw: raw.execute_command("REPLICAOF", "NO", "ONE"),
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_write_that_is_refused_for_a_while_succeeds_once(server, raw, open_store, namespace, refusal):
    """As in a failover: the old primary answers as a replica until clients are led to the new one."""
    store = open_store(server)
    await store.enqueue_rollout("before")
    begin, end = REFUSALS[refusal]
    begin(raw)
    calls = asyncio.gather(store.enqueue_rollout("task"), store.dequeue_rollout("w"), store.update_worker("v"))
    await asyncio.wait([calls], timeout=REFUSED_SECONDS)
    assert not calls.done()
    end(raw)

    queued, claimed, worker = await calls
    assert claimed.input == "before"
    assert worker.worker_id == "v"
    assert (await store.get_rollout_by_id(queued.rollout_id)).status == "queuing"
    with server.client(decode_responses=False) as client:
        check(client, namespace)


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_write_that_is_refused_for_long_is_an_outage(server, raw, open_store, namespace, refusal):
    store = open_store(server, retry_seconds=0.3)
    await store.enqueue_rollout("before")
    begin, end = REFUSALS[refusal]
    begin(raw)
    for call in (store.enqueue_rollout("task"), store.dequeue_rollout("w"), store.dequeue_rollout("w", timeout=0.1)):
        with pytest.raises(StoreUnavailableError):
            await call
    end(raw)
    assert (await store.statistics())["total_rollouts"] == 1


async def test_server_that_is_busy_with_a_script_is_waited_for(server, raw, open_store):
    """Single calls and pipelines alike."""
    store = open_store(server)
    await store.enqueue_rollout("task")

    def keep_busy():
        with contextlib.suppress(Exception), server.client() as client:
            client.execute_command("EVAL", "while true do end", 0)

    busy = threading.Thread(target=keep_busy)
    busy.start()

    def is_busy():
        try:
            return not raw.ping()
        except redis.ResponseError as error:
            return str(error).startswith("BUSY")

    await until(is_busy)
    calls = asyncio.gather(
        store.dequeue_rollout("w"), store.statistics(), store.query_rollouts(rollout_id_in=["ro"] * 500)
    )
    await asyncio.wait([calls], timeout=REFUSED_SECONDS)
    assert not calls.done()
    raw.execute_command("SCRIPT", "KILL")
    busy.join()

    claimed, statistics, _ = await calls
    assert claimed.input == "task"
    assert statistics["total_rollouts"] == 1


async def test_access_that_is_refused_is_told_at_once(server, raw, open_store, namespace):
    raw.execute_command("ACL", "SETUSER", "someone", "on", ">word", "~elsewhere", "+@all")
    raw.execute_command("ACL", "SETUSER", "reader", "on", ">word", "~*", "+@read", "+evalsha", "+eval")
    host = server.url.rpartition("@")[2]
    for url in (f"redis://:wrong@{host}", f"redis://nobody:word@{host}", f"redis://someone:word@{host}"):
        store = open_store(url)
        started = time.monotonic()
        for call in (store.enqueue_rollout("task"), store.statistics(), store.dequeue_rollout(timeout=5)):
            with pytest.raises(AccessDeniedError) as refused:
                await call
            assert "word" not in str(refused.value).replace("password", "")
        assert time.monotonic() - started < AT_ONCE
    reader = open_store(f"redis://reader:word@{host}")
    assert (await reader.statistics())["total_rollouts"] == 0
    with pytest.raises(AccessDeniedError):
        await reader.enqueue_rollout("task")
    assert not list(raw.scan_iter(f"*{namespace}*"))


async def test_waiter_learns_that_its_access_was_taken(server, raw, open_store):
    raw.execute_command("ACL", "SETUSER", "worker", "on", ">word", "~*", "+@all")
    store = open_store(f"redis://worker:word@{server.url.rpartition('@')[2]}")
    task = asyncio.create_task(store.dequeue_rollout("w", timeout=float("inf")))
    await until(lambda: raw.info("clients")["blocked_clients"] == 1)
    raw.execute_command("ACL", "SETUSER", "worker", "-blpop")
    raw.rpush(store._keys.control("wake", "default"), "1")  # the blocked read ends; the next one is refused

    with pytest.raises(AccessDeniedError):
        await asyncio.wait_for(task, 5)
