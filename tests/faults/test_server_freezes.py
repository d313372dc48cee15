"""The server stands still for a while, as on an overloaded or migrating host: connections stay, answers do not come."""

import asyncio
import time

import pytest

from lightning_store.errors import StoreUnavailableError
from lightning_store.records import RolloutConfig
from tests.support.factories import claim, requests_for, span_of
from tests.support.invariants import check
from tests.support.until import AT_ONCE, until

FROZEN_SECONDS = 3.0


@pytest.fixture
def server(private_redis):
    server = private_redis(settings={"appendonly": "no"})
    yield server
    if server.is_running:
        server.resume()


async def freeze(server, seconds):
    server.pause()
    try:
        await asyncio.sleep(seconds)
    finally:
        server.resume()


@pytest.mark.parametrize("socket_seconds", [10.0, 1.0], ids=["patient", "impatient"])
async def test_calls_wait_and_take_effect_once(server, open_store, namespace, socket_seconds):
    """A patient client waits for its answer; an impatient one gives up its connection and sends the call again."""
    store = open_store(server, socket_seconds=socket_seconds)
    rollout = await store.start_rollout("first", worker_id="w")
    await store.enqueue_many_rollouts(requests_for(["a", "b"]))
    started = time.monotonic()
    thaw = asyncio.create_task(freeze(server, FROZEN_SECONDS))
    await asyncio.sleep(0)

    _, claimed, spans, resources, numbers, ended = await asyncio.gather(
        store.enqueue_many_rollouts(requests_for(["c", "d"])),
        store.dequeue_many_rollouts(limit=2, worker_id="v"),
        store.add_many_spans([span_of(rollout) for _ in range(3)], renumber=True),
        store.update_resources("rs-own", {}),
        store.get_many_span_sequence_ids([(rollout.rollout_id, "at")] * 2),
        store.update_attempt(rollout.rollout_id, "latest", status="failed"),
    )
    assert time.monotonic() - started >= FROZEN_SECONDS
    await thaw

    assert len(claimed) == 2
    assert len({*numbers, *(span.sequence_id for span in spans)}) == 5
    assert (resources.version, ended.status) == (1, "failed")
    statistics = await store.statistics()
    assert (statistics["total_rollouts"], statistics["total_attempts"], statistics["total_spans"]) == (5, 3, 3)
    assert len((await store.completions()).items) == 1
    with server.client(decode_responses=False) as raw:
        check(raw, namespace)


async def test_longer_than_the_limit_is_told_and_never_an_empty_answer(server, open_store):
    store = open_store(server, socket_seconds=0.5, retry_seconds=1.0)
    rollout = await store.start_rollout("first")
    waits = [
        asyncio.create_task(store.dequeue_rollout("w", timeout=4)),
        asyncio.create_task(store.completions(timeout=4)),
        asyncio.create_task(store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=4)),
    ]
    with server.client() as raw:
        await until(lambda: raw.info("clients")["blocked_clients"] == 2)
        server.pause()

        calls = [
            store.dequeue_rollout(),
            store.query_rollouts(limit=5),
            store.query_rollouts(rollout_id_contains="ro"),
            store.get_rollout_by_id(rollout.rollout_id),
            store.query_spans(rollout.rollout_id),
            store.query_resources(),
            store.get_latest_resources(),
            store.query_workers(),
            store.query_queues(),
            store.query_events(),
            store.rewards([rollout.rollout_id]),
            store.statistics(),
            store.expire_attempts(),
            store.prune(keep_latest=0),
        ]
        answers = await asyncio.gather(*calls, *waits, return_exceptions=True)
        server.resume()

    assert [type(answer) for answer in answers] == [StoreUnavailableError] * len(answers)
    assert (await store.get_rollout_by_id(rollout.rollout_id)).rollout_id == rollout.rollout_id


async def test_waits_that_are_longer_than_the_freeze_go_on(server, open_store):
    store = open_store(server, socket_seconds=1.0, retry_seconds=2.0)
    waits = asyncio.create_task(store.dequeue_rollout("w", timeout=30))
    with server.client() as raw:
        await until(lambda: raw.info("clients")["blocked_clients"] == 1)
    await freeze(server, FROZEN_SECONDS)
    queued = await store.enqueue_rollout("task")

    assert (await asyncio.wait_for(waits, AT_ONCE)).rollout_id == queued.rollout_id


async def test_lease_that_ran_out_while_nobody_could_renew_is_extended_once(server, open_store):
    """Rule 13, with the server's own clock."""
    store = open_store(server, grace_seconds=1.0)
    rollout = await store.start_rollout(
        "task", worker_id="w", lease_seconds=1.0, config=RolloutConfig(unresponsive_seconds=30)
    )
    pair = (rollout.rollout_id, rollout.attempt.attempt_id)
    await freeze(server, 2.0)

    report = await store.expire_attempts()
    assert report.transitions == []
    assert 0.0 < report.next_seconds <= 1.0
    assert await store.renew("w", [pair]) == ["current"]

    # A silence that nothing excuses: others reach the store all the time.
    reports = []

    async def expired():
        reports.extend((await store.expire_attempts()).transitions)
        return bool(reports)

    await until(expired)
    assert [each.cause for each in reports] == ["worker_lost"]
    [lost] = [each for each in await store.query_events() if each.cause == "worker_lost"]
    assert lost.time - (await store.get_latest_attempt(rollout.rollout_id)).last_heartbeat_time >= 0.999
    assert await store.renew("w", [pair]) == ["finished"]


async def test_silent_attempt_is_not_spared_for_ever(server, open_store):
    store = open_store(server, grace_seconds=0.5)
    await store.start_rollout("task", worker_id="w", lease_seconds=0.5)
    await freeze(server, 1.0)
    assert (await store.expire_attempts()).transitions == []

    async def expired():
        return bool((await store.expire_attempts()).transitions)

    await until(expired)


async def test_time_limit_is_never_extended(server, open_store):
    store = open_store(server, grace_seconds=0.5)
    await store.start_rollout("task", config=RolloutConfig(timeout_seconds=0.5, unresponsive_seconds=0.5))
    await freeze(server, 1.0)

    assert [each.cause for each in (await store.expire_attempts()).transitions] == ["timeout"]


async def test_claims_during_a_freeze_are_not_claimed_twice(server, open_store, namespace):
    """Impatient workers send their claims again while the first ones wait in the server's buffers."""
    stores = [open_store(server, socket_seconds=0.3) for _ in range(4)]
    await stores[0].enqueue_many_rollouts(requests_for(list(range(40))))
    thaw = asyncio.create_task(freeze(server, 1.5))
    await asyncio.sleep(0)
    claimed = await asyncio.gather(*(claim(store) for store in stores for _ in range(10)))
    await thaw

    assert len({each.rollout_id for each in claimed}) == 40
    assert {each.attempt.sequence_id for each in claimed} == {1}
    assert (await stores[0].statistics())["total_attempts"] == 40
    with server.client(decode_responses=False) as raw:
        check(raw, namespace)


@pytest.mark.parametrize("lease", [None, 60], ids=["asked first", "sent with the wait"])
async def test_waiter_is_told_of_a_freeze_soon_after_its_own_limit(server, open_store, lease):
    store = open_store(server, socket_seconds=0.5, retry_seconds=1.0)
    assert await store.dequeue_rollout("w") is None
    waits = asyncio.create_task(store.dequeue_rollout("w", timeout=1.0, lease_seconds=lease))
    with server.client() as raw:
        await until(lambda: raw.info("clients")["blocked_clients"] == 1)
    server.pause()
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        await waits
    server.resume()

    assert 1.0 <= time.monotonic() - started <= 1.0 + 0.5 + 1.0 + 3.0  # timeout, socket, retry, and a busy machine
