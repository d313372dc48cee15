"""Slots move from node to node while work goes on: nothing is lost, nothing is done twice."""

import asyncio

import pytest
from redis.crc import key_slot

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.errors import StoreUnavailableError
from tests.support.busy_namespace import BusyNamespace, check_all_done
from tests.support.factories import some_resources, span_of
from tests.support.keyspace import read_keyspace
from tests.support.redis_cluster import control_slot
from tests.support.until import until

CONTROL_MOVES = 3
SPAN_MOVES = 40
WARM_UP_SECONDS = 1.0


async def test_control_slot_moves_while_work_goes_on(store, redis_cluster, namespace):
    async with BusyNamespace(redis_cluster.url, namespace).at_work() as busy:
        for _ in range(CONTROL_MOVES):
            await asyncio.sleep(WARM_UP_SECONDS)
            await asyncio.to_thread(
                redis_cluster.move_slot, control_slot(namespace), keys_at_once=50, pause_seconds=0.002
            )
            done = len(busy.completed)
            await until(lambda done=done: len(busy.completed) >= done + 10)

    await check_all_done(store, busy)


async def test_slots_of_spans_move_while_work_goes_on(store, redis_cluster, namespace):
    async with BusyNamespace(redis_cluster.url, namespace).at_work() as busy:
        await asyncio.sleep(WARM_UP_SECONDS)
        for number in range(SPAN_MOVES):
            newest = list(busy.enqueued)[-1 - number % 3]  # whose spans come about now
            await asyncio.to_thread(redis_cluster.move_slot, int(key_slot(newest.encode())), pause_seconds=0.02)

    await check_all_done(store, busy)


async def test_call_in_a_slot_on_its_way_waits_and_writes_nothing(store, redis_cluster, namespace):
    """Whatever part of its keys has moved already."""
    running = await store.start_rollout("task", worker_id="w")
    finished = await store.start_rollout("task")
    await store.add_many_spans([span_of(running), span_of(finished)])
    await store.update_attempt(finished.rollout_id, "latest", status="succeeded")
    await store.enqueue_rollout("queued")
    slot = control_slot(namespace)
    target = redis_cluster.another_primary(slot)
    hasty = RedisLightningStore(redis_cluster.url, namespace=namespace, retry_seconds=0.05)
    with redis_cluster.client() as raw:
        before = read_keyspace(raw, namespace)
        with redis_cluster.slot_in_motion(slot, target) as (source, _):
            moved = [b""]
            while moved:
                for call in (
                    hasty.enqueue_rollout("more"),
                    hasty.start_rollout("more"),
                    hasty.dequeue_rollout("w"),
                    hasty.start_attempt(finished.rollout_id),
                    hasty.update_attempt(running.rollout_id, "latest", status="succeeded"),
                    hasty.renew("w", [(running.rollout_id, running.attempt.attempt_id)]),
                    hasty.add_span(span_of(running)),
                    hasty.cancel_rollouts([running.rollout_id]),
                    hasty.delete_rollouts([finished.rollout_id]),
                    hasty.update_rollout(running.rollout_id, mode="val"),
                    hasty.release_attempt(running.rollout_id, running.attempt.attempt_id),
                    hasty.get_next_span_sequence_id(running.rollout_id, running.attempt.attempt_id),
                    hasty.add_resources(some_resources()),
                    hasty.update_resources("rs", some_resources()),
                    hasty.update_worker("w"),
                    hasty.expire_attempts(),
                    hasty.get_rollout_by_id(running.rollout_id),
                ):
                    with pytest.raises(StoreUnavailableError):
                        await call
                moved = redis_cluster.move_keys(source, slot, target, 3)
        raw.nodes_manager.initialize()
        after = read_keyspace(raw, namespace)
    await hasty.close()

    assert after.kinds == before.kinds
    assert (await store.get_rollout_by_id(running.rollout_id)).status == "running"
    assert (await store.dequeue_rollout("w")).input == "queued"


async def test_spans_wait_while_their_slot_is_on_its_way(store, redis_cluster, namespace):
    """What is there can be read meanwhile."""
    running = await store.start_rollout("task")
    await store.add_many_spans([span_of(running), span_of(running, span_id="text")], renumber=True)
    slot = int(key_slot(running.rollout_id.encode()))
    target = redis_cluster.another_primary(slot)
    with redis_cluster.slot_in_motion(slot, target) as (source, _):
        more = []
        for _ in range(4):
            more.append(asyncio.create_task(store.add_many_spans([span_of(running)], renumber=True)))
            spans = await store.query_spans(running.rollout_id)
            assert [span.sequence_id for span in spans.items] == [1, 2]
            redis_cluster.move_keys(source, slot, target, 1)
    stored = [span.sequence_id for (span,) in await asyncio.gather(*more)]

    assert sorted(stored) == [3, 4, 5, 6]
    assert len((await store.query_spans(running.rollout_id)).items) == 6
    report = await store.audit()
    assert (report.findings, report.unchecked) == ([], [])
