"""What takes several steps on a Cluster meets another call between them, at the worst moment."""

import asyncio
from contextlib import contextmanager

import pytest
from redis.crc import key_slot

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.errors import NotReplicatedError
from tests.support.factories import claim, span_of
from tests.support.invariants import findings
from tests.support.keyspace import read_keyspace
from tests.support.until import until


@pytest.fixture
async def other(redis_cluster, namespace):
    store = RedisLightningStore(redis_cluster.url, namespace=namespace)
    yield store
    await store.close()


@contextmanager
def met(store, script, *, before=None, after=None):
    """Whatever `store` does, its first step of this name is met by another call, just before or after it."""
    send, is_due = store._connections.run_many, True

    async def meet(calls):
        nonlocal is_due
        meets = is_due and calls and calls[0].script.name == script
        is_due = is_due and not meets
        if meets and before:
            await before()
        answers = await send(calls)
        if meets and after:
            await after()
        return answers

    store._connections.run_many = meet
    try:
        yield
    finally:
        store._connections.run_many = send
    assert not is_due, f"{script} was not sent"


def check(redis_cluster, namespace):
    with redis_cluster.client() as raw:
        assert findings(read_keyspace(raw, namespace)) == []


async def test_spans_that_are_sent_twice_at_once_keep_their_numbers_counted(store, other, redis_cluster, namespace):
    """The one call has set their numbers aside, and the other stores them."""
    started = await store.start_rollout("task")
    span = span_of(started, sequence_id=10)
    with met(store, "append_spans", before=lambda: other.add_span(span)):
        assert await store.add_span(span) is None

    check(redis_cluster, namespace)
    assert await store.get_next_span_sequence_id(started.rollout_id, started.attempt.attempt_id) == 11


async def test_late_spans_find_the_door_shut_when_two_have_deleted_the_rollout_at_once(
    store, other, redis_cluster, namespace
):
    started = await store.start_rollout("task")
    await store.update_attempt(started.rollout_id, "latest", status="succeeded")
    third = RedisLightningStore(redis_cluster.url, namespace=namespace)

    async def delete_twice():
        with met(other, "delete_spans", after=lambda: third.delete_rollouts([started.rollout_id])):
            assert await other.delete_rollouts([started.rollout_id]) == []

    with met(store, "append_spans", before=delete_twice), pytest.raises(ValueError, match="not found"):
        await store.add_span(span_of(started))
    await third.close()

    check(redis_cluster, namespace)


async def test_eviction_drops_nothing_that_is_not_marked(store, other, redis_cluster, namespace):
    """A late span of the second attempt is between steps, while the finish of that attempt is looked at."""
    started = await store.start_rollout("task")
    rollout_id = started.rollout_id
    await store.add_span(span_of(started))
    await store.update_attempt(rollout_id, "latest", status="succeeded")
    assert await other._evict_some() == (True, 1)
    await store.update_rollout(rollout_id, status="requeuing")
    second = await claim(store, "w")
    await store.update_attempt(rollout_id, "latest", status="succeeded")

    with met(store, "append_spans", after=other._evict_some):
        assert await store.add_span(span_of(second))

    assert len((await store.query_spans(rollout_id, second.attempt.attempt_id)).items) == 1
    check(redis_cluster, namespace)


@pytest.mark.parametrize("step", ["append_spans", "delete_spans"])
async def test_call_that_is_cancelled_between_steps_takes_the_others_too(step, store, other, redis_cluster, namespace):
    started = await store.start_rollout("task")
    if step == "append_spans":
        call, left = store.add_span(span_of(started)), (1, 1)
    else:
        await store.add_span(span_of(started))
        await store.update_attempt(started.rollout_id, "latest", status="succeeded")
        call, left = store.delete_rollouts([started.rollout_id]), (0, 0)
    task = asyncio.ensure_future(call)

    async def cancel():
        task.cancel()
        await asyncio.sleep(0)

    with met(store, step, after=cancel), pytest.raises(asyncio.CancelledError):
        await task
    await store.close()

    statistics = await other.statistics()
    assert (statistics["total_rollouts"], statistics["total_spans"]) == left
    check(redis_cluster, namespace)


async def test_audit_that_looks_while_spans_are_evicted_finds_nothing(store, other):
    started = await store.start_rollout("task")
    await store.add_span(span_of(started))
    await store.update_attempt(started.rollout_id, "latest", status="succeeded")
    drop, goes_on = other._drop_spans, asyncio.Event()

    async def drop_later(rollouts):
        await goes_on.wait()
        await drop(rollouts)

    other._drop_spans = drop_later
    eviction = asyncio.create_task(other._evict_some())

    async def is_marked():
        return (await store.statistics())["total_spans"] == 0

    await until(is_marked)

    async def end_eviction():
        goes_on.set()
        await eviction

    with met(store, "audit_spans", after=end_eviction):
        report = await store.audit()

    assert (report.findings, report.unchecked) == ([], [])


async def test_every_node_waits_for_its_replicas_though_one_has_lost_its_scripts(redis_cluster, namespace, other):
    """What that one is sent again must not stand for what the others have confirmed."""
    control = redis_cluster.control_primary(namespace)
    silent, forgetful = [node for node in redis_cluster.primaries() if node is not control]

    async def started_on(node):
        while True:
            started = await other.start_rollout("task")
            if redis_cluster.primary_of(key_slot(started.rollout_id.encode())) is node:
                return started

    spans = [span_of(await started_on(silent)), span_of(await started_on(forgetful))]
    store = RedisLightningStore(
        redis_cluster.url, namespace=namespace, min_replicas=1, replication_seconds=0.2, retry_seconds=0.6
    )
    await store.add_many_spans([span_of(await started_on(silent)), span_of(await started_on(forgetful))])
    with forgetful.client() as raw:
        raw.script_flush()
    with silent.client() as raw:
        port = raw.info("replication")["slave0"]["port"]
    replica = next(node for node in redis_cluster.nodes if node.port == port)
    replica.pause()
    try:
        with pytest.raises(NotReplicatedError):
            await store.add_many_spans(spans)
    finally:
        replica.resume()
        await store.close()
