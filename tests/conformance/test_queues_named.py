"""Named queues and how full they are: rules 17, 18 and 21, and the extension of decisions.md."""

import pytest

from lightning_store.records import QueueStats, RolloutConfig
from tests.support.factories import claim, drain, requests_for, span_of

RETRY = RolloutConfig(max_attempts=3, retry_condition=["failed"])


async def depths(store):
    return {stats.queue: (stats.depth, stats.delayed) for stats in await store.query_queues()}


async def oldest(store, queue="default"):
    return next(stats.oldest_seconds for stats in await store.query_queues() if stats.queue == queue)


async def test_queue_is_a_field_of_request_and_record_and_default_by_default(store):
    plain = await store.enqueue_rollout(1)
    named = (await store.enqueue_many_rollouts(requests_for([2], queue="eval")))[0]

    assert (plain.queue, named.queue) == ("default", "eval")
    assert (await store.get_rollout_by_id(named.rollout_id)).queue == "eval"


async def test_dequeue_looks_only_in_the_queues_it_is_given(store):
    await store.enqueue_rollout(1, queue="eval")

    assert await store.dequeue_rollout() is None
    assert await store.dequeue_rollout(queues=["default", "other"]) is None
    assert (await claim(store, queues=["other", "eval"])).input == 1


async def test_queues_are_tried_in_order_with_strict_priority(store):
    await store.enqueue_many_rollouts(requests_for(["t1", "t2"], queue="train"))
    await store.enqueue_many_rollouts(requests_for(["e1", "e2"], queue="eval"))
    first = (await claim(store, queues=("eval", "train"))).input
    await store.enqueue_rollout("e3", queue="eval")

    rest = await store.dequeue_many_rollouts(limit=10, queues=("eval", "train"))

    assert [first, *(rollout.input for rollout in rest)] == ["e1", "e2", "e3", "t1", "t2"]


async def test_bulk_claim_fills_up_from_the_next_queue(store):
    await store.enqueue_many_rollouts(requests_for(["t1", "t2"], queue="train"))
    await store.enqueue_rollout("e1", queue="eval")

    claimed = await store.dequeue_many_rollouts(limit=2, queues=("eval", "train"))

    assert [rollout.input for rollout in claimed] == ["e1", "t1"]
    assert await depths(store) == {"eval": (0, 0), "train": (1, 0)}


async def test_queue_named_twice_is_looked_at_once(store):
    await store.enqueue_many_rollouts(requests_for([1, 2], queue="a"))

    claimed = await store.dequeue_many_rollouts(limit=5, queues=("a", "a"))

    assert [rollout.input for rollout in claimed] == [1, 2]


async def test_retries_go_back_to_the_queue_of_their_rollout(store):
    enqueued = await store.enqueue_rollout(1, config=RETRY, queue="eval")
    await claim(store, queues=("eval",))
    started = await store.start_rollout(2, config=RETRY, queue="train")
    for rollout in (enqueued, started):
        await store.update_attempt(rollout.rollout_id, "latest", status="failed")

    assert await drain(store) == []
    assert await drain(store, queues=("eval",)) == [enqueued.rollout_id]
    assert await drain(store, queues=("train",)) == [started.rollout_id]


async def test_status_that_queues_and_release_use_the_queue_of_the_rollout(store):
    rollout = await store.enqueue_rollout(1, queue="eval")
    claimed = await claim(store, queues=("eval",))
    await store.release_attempt(rollout.rollout_id, claimed.attempt.attempt_id)
    assert await drain(store, queues=("eval",)) == [rollout.rollout_id]

    await store.update_rollout(rollout.rollout_id, status="queuing")

    assert await drain(store) == []
    assert await drain(store, queues=("eval",)) == [rollout.rollout_id]


async def test_queues_are_told_by_name(store):
    assert await store.query_queues() == []
    for queue in ("b", "a", "default"):
        await store.enqueue_rollout(1, queue=queue)
    await store.dequeue_rollout(queues=("never-used",))

    assert [stats.queue for stats in await store.query_queues()] == ["a", "b", "default"]


async def test_depth_counts_what_can_be_claimed_now(store):
    ids = [r.rollout_id for r in await store.enqueue_many_rollouts(requests_for(range(4)))]
    assert await store.query_queues() == [QueueStats(queue="default", depth=4, delayed=0, oldest_seconds=0)]

    await claim(store)
    assert await depths(store) == {"default": (3, 0)}

    await store.update_rollout(ids[1], status="cancelled")
    await store.start_attempt(ids[2])
    assert await depths(store) == {"default": (1, 0)}

    await store.update_rollout(ids[1], status="queuing")
    assert await depths(store) == {"default": (2, 0)}

    await drain(store)
    assert await store.query_queues() == [QueueStats(queue="default", depth=0, delayed=0, oldest_seconds=None)]


async def test_depth_counts_retries_and_releases(store):
    for _ in range(2):
        await store.enqueue_rollout(1, config=RETRY)
    first, second = await claim(store), await claim(store)

    await store.update_attempt(first.rollout_id, "latest", status="failed")
    assert await depths(store) == {"default": (1, 0)}
    await store.release_attempt(second.rollout_id, second.attempt.attempt_id)
    assert await depths(store) == {"default": (2, 0)}

    await store.cancel_rollouts([first.rollout_id])
    assert await depths(store) == {"default": (1, 0)}


async def test_rollout_that_a_span_takes_out_of_the_queue_does_not_count(store):
    await store.enqueue_rollout(1)
    claimed = await claim(store)
    await store.update_rollout(claimed.rollout_id, status="requeuing")
    assert await depths(store) == {"default": (1, 0)}

    await store.add_span(span_of(claimed))

    assert await depths(store) == {"default": (0, 0)}


async def test_delayed_retries_count_apart_until_they_are_ready(store, clock):
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"], retry_delay_seconds=5)
    await store.enqueue_rollout(1, config=config)
    claimed = await claim(store)
    await store.update_attempt(claimed.rollout_id, "latest", status="failed")
    assert await depths(store) == {"default": (0, 1)}
    assert await oldest(store) is None

    clock.advance(5)
    await store.expire_attempts()

    assert await depths(store) == {"default": (1, 0)}


async def test_oldest_tells_how_long_the_head_has_waited(store, clock):
    first = await store.enqueue_rollout(1)
    clock.advance(3)
    await store.enqueue_rollout(2)
    clock.advance(4)
    assert await oldest(store) == pytest.approx(7)

    await store.update_rollout(first.rollout_id, status="cancelled")
    assert await oldest(store) == pytest.approx(4)

    await store.dequeue_rollout()
    assert await oldest(store) is None


async def test_age_of_a_retry_counts_from_its_return_to_the_queue(store, clock):
    await store.enqueue_rollout(1, config=RETRY)
    claimed = await claim(store)
    clock.advance(6)
    await store.update_attempt(claimed.rollout_id, "latest", status="failed")
    clock.advance(2)

    assert await oldest(store) == pytest.approx(2)


@pytest.mark.parametrize("names", [("a", "A"), ("q", "q.1"), ("a-b", "a_b"), ("default", "queue")])
async def test_names_of_queues_are_told_apart(store, names):
    for queue in names:
        await store.enqueue_rollout(queue, queue=queue)

    for queue in names:
        assert [r.input for r in await store.dequeue_many_rollouts(limit=5, queues=(queue,))] == [queue]
