"""Writes that replicas have to confirm: a primary with two replicas, which freeze."""

import asyncio
import time
from contextlib import contextmanager

import pytest

from lightning_store.backends.redis import codec
from lightning_store.errors import NotReplicatedError, RolloutNotFoundError
from tests.support.factories import claim, requests_for, span_of
from tests.support.invariants import check
from tests.support.replicated import ReplicatedServers
from tests.support.until import AT_ONCE, until

LIMITS = {"min_replicas": 2, "replication_seconds": 0.2, "retry_seconds": 0.6}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with ReplicatedServers(tmp_path_factory.mktemp("replication")) as servers:
        yield servers


@pytest.fixture
def replicated(servers, open_store):
    return open_store(servers.url, **LIMITS)


@pytest.fixture
def plain(servers, open_store):
    return open_store(servers.url)


@contextmanager
def frozen(servers, *silent):
    for server in silent:
        server.pause()
    try:
        yield
    finally:
        for server in silent:
            server.resume()
        servers.wait_for_replicas()


async def test_writes_are_refused_while_one_replica_is_silent_and_take_effect_once(servers, replicated, namespace):
    ready = await replicated.enqueue_rollout("ready")
    claimed = await claim(replicated, "w")
    second = await replicated.start_rollout("second")
    writes = {
        "enqueue": lambda: replicated.enqueue_rollout("late", rollout_id="ro-late"),
        "spans": lambda: replicated.add_many_spans([span_of(claimed, span_id="1" * 16)]),
        "update": lambda: replicated.update_attempt(ready.rollout_id, "latest", status="running"),
        "finish": lambda: replicated.update_attempt(second.rollout_id, "latest", status="succeeded"),
        "worker": lambda: replicated.update_worker("v"),
        "renew": lambda: replicated.renew("w", [(ready.rollout_id, claimed.attempt.attempt_id)]),
    }
    with frozen(servers, servers.replicas[1]):
        for write in writes.values():
            with pytest.raises(NotReplicatedError, match=r"1 of 2 replicas"):
                await write()
        statistics = await replicated.statistics()  # reads do not wait
        assert statistics["total_rollouts"] == 3
    for write in writes.values():
        await write()
    statistics = await replicated.statistics()
    assert (statistics["total_rollouts"], statistics["total_spans"]) == (3, 1)
    with servers.primary.client() as raw:
        check(raw, namespace)


async def test_call_that_waits_long_enough_is_acknowledged(servers, open_store):
    store = open_store(servers.url, min_replicas=2, replication_seconds=0.2)
    with frozen(servers, *servers.replicas):
        enqueue = asyncio.create_task(store.enqueue_rollout("task"))
        await asyncio.sleep(0.7)
        assert not enqueue.done()
    await asyncio.wait_for(enqueue, AT_ONCE)
    assert (await store.statistics())["total_rollouts"] == 1


async def test_fewer_replicas_than_there_are_may_be_enough(servers, open_store):
    store = open_store(servers.url, **(LIMITS | {"min_replicas": 1}))
    with frozen(servers, servers.replicas[0]):
        started = time.monotonic()
        await store.enqueue_rollout("task")
        assert time.monotonic() - started < LIMITS["replication_seconds"]


async def test_remembered_answer_is_not_acknowledged_before_the_first_call_is_there(servers, plain, replicated):
    """A new connection has written nothing; its WAIT is for all that the server has written before, all the same."""
    await plain.enqueue_rollout("task")
    call = plain._call(
        "dequeue_many_rollouts", now="", token="token", call="", worker_id="", lease="", again="", queue_count=1,
        wanted=["default", "at-111111111111"],
    )  # fmt: skip
    with frozen(servers, *servers.replicas):
        _, _, [first] = await plain._connections.run(call)
        with pytest.raises(NotReplicatedError, match="0 of 2"):
            await replicated._connections.run(call)
    _, _, [again] = await replicated._connections.run(call)
    assert codec.attempted(again) == codec.attempted(first)


async def test_wait_covers_what_another_connection_wrote(servers):
    """What the test above rests on, without a store: WAIT behind a read."""
    with servers.primary.client() as writer, servers.primary.client() as reader:
        writer.set("before", "1")
        assert reader.execute_command("WAIT", 2, 1000) == 2
        with frozen(servers, *servers.replicas):
            writer.set("key", "1")
            assert reader.get("key") == b"1"
            assert reader.execute_command("WAIT", 2, 100) == 0


async def test_waiting_claim_waits_for_replicas_too(servers, plain, replicated):
    waiting = asyncio.create_task(replicated.dequeue_rollout("w", timeout=2, lease_seconds=60))
    with servers.primary.client() as raw:
        await until(lambda: raw.info("clients")["blocked_clients"] == 1)
    with frozen(servers, *servers.replicas):
        await plain.enqueue_rollout("task")
        with pytest.raises(NotReplicatedError):
            await waiting
        await replicated.close()  # what was claimed for a caller who has got nothing is handed back, replicas or not
        assert [queue.depth for queue in await plain.query_queues()] == [1]
    assert (await claim(replicated, "v")).input == "task"


async def test_many_calls_in_a_round_trip_wait_together(servers, replicated):
    rollouts = [await replicated.start_rollout(number) for number in range(4)]
    spans = [span_of(rollout) for rollout in rollouts]
    with frozen(servers, *servers.replicas), pytest.raises(NotReplicatedError):
        await replicated.add_many_spans(spans)
    assert (await replicated.statistics())["total_spans"] == 4
    assert await replicated.add_many_spans(spans) == []


async def test_lost_script_cache_is_refilled(servers, replicated):
    with servers.primary.client() as raw:
        raw.script_flush()
    await replicated.enqueue_many_rollouts(requests_for([1, 2]))
    with servers.primary.client() as raw:
        raw.script_flush()
    claimed = await replicated.dequeue_rollout("w", timeout=5, lease_seconds=5)
    with servers.primary.client() as raw:
        raw.script_flush()
    await replicated.add_many_spans([span_of(claimed)])


async def test_refusal_by_the_script_is_told_first(servers, replicated):
    with frozen(servers, *servers.replicas), pytest.raises(RolloutNotFoundError):
        await replicated.update_attempt("ro-unknown", "latest", status="succeeded")


async def test_server_without_replicas_says_so(redis_url, open_store):
    store = open_store(f"{redis_url}?min_replicas=1&replication_seconds=0.05", retry_seconds=0.2)
    with pytest.raises(NotReplicatedError, match=r"0 of 1 replicas \(min_replicas\) .* are as many connected\?"):
        await store.enqueue_rollout("task")
    assert (await store.statistics())["total_rollouts"] == 1
