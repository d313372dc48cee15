"""The server forgets its scripts, as after a restart, a failover or SCRIPT FLUSH: nobody notices."""

import asyncio
import contextlib

from lightning_store.records import EnqueueRolloutRequest
from tests.support.factories import requests_for, span_of
from tests.support.invariants import check

COROUTINES = 32


async def test_scripts_that_are_lost_in_the_middle_of_calls_are_sent_again(redis_server, open_store, namespace):
    store = open_store(redis_server)
    with redis_server.client(decode_responses=False) as raw:
        before = raw.info("commandstats")["cmdstat_evalsha"]["calls"] if _was_called(raw) else 0
        flushing = asyncio.create_task(flush_all_the_time(open_store(redis_server)))
        lives = await asyncio.gather(*(live(store, number) for number in range(COROUTINES)))
        flushing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await flushing

        assert sum(lives) == 3 * COROUTINES
        assert raw.info("commandstats")["cmdstat_script|flush" if _is_7(raw) else "cmdstat_script"]["calls"] > 10
        assert raw.info("commandstats")["cmdstat_evalsha"]["calls"] > before
        check(raw, namespace)
    statistics = await store.statistics()
    assert statistics["rollouts_by_status"]["succeeded"] == statistics["total_attempts"] == 3 * COROUTINES
    assert statistics["total_spans"] == 12 * COROUTINES
    assert len((await store.completions()).items) == 3 * COROUTINES


def _was_called(raw):
    return "cmdstat_evalsha" in raw.info("commandstats")


def _is_7(raw):
    return int(raw.info("server")["redis_version"].split(".")[0]) >= 7


async def flush_all_the_time(store):
    while True:
        await store._connections.command("SCRIPT", "FLUSH")
        await asyncio.sleep(0)


async def live(store, number):
    """Three rollouts from enqueue to end; spans of all three go in one pipeline, and so do reads."""
    group = f"group-{number}"
    requests = [EnqueueRolloutRequest(input=n, group_id=group, queue=group) for n in range(3)]
    queued = await store.enqueue_many_rollouts(requests)
    claimed = await store.dequeue_many_rollouts(limit=3, queues=[group], worker_id=group)
    assert [each.rollout_id for each in claimed] == [each.rollout_id for each in queued]
    spans = [span_of(each, sequence_id=0) for each in claimed for _ in range(4)]
    stored = await store.add_many_spans(spans, renumber=True)
    assert [span.sequence_id for span in stored] == [1, 2, 3, 4] * 3
    for each in claimed:
        await store.update_attempt(each.rollout_id, each.attempt.attempt_id, status="succeeded")
    finished = await store.wait_for_rollouts(rollout_ids=[each.rollout_id for each in queued], timeout=20)
    return len(finished)


async def test_scripts_that_are_lost_in_the_middle_of_a_pipeline_are_sent_again(redis_server, open_store, namespace):
    """A thousand reads in one pipeline of five scripts, and spans of 40 rollouts in one of forty."""
    store = open_store(redis_server)
    flushing = asyncio.create_task(flush_all_the_time(open_store(redis_server)))
    queued = await store.enqueue_many_rollouts(requests_for(list(range(1000))))
    ids = [each.rollout_id for each in queued]
    claimed = await store.dequeue_many_rollouts(limit=40)
    for _ in range(5):
        assert [each.rollout_id for each in (await store.query_rollouts(rollout_id_in=ids)).items] == ids
        assert await store.wait_for_rollouts(rollout_ids=ids, timeout=0) == []
        assert len(await store.add_many_spans([span_of(each) for each in claimed])) == 40
    flushing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await flushing

    assert (await store.statistics())["total_spans"] == 200
    with redis_server.client(decode_responses=False) as raw:
        check(raw, namespace)
