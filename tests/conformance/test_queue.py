"""The queue, claims and attempts by hand: section 2.2 and rules 18 and 19."""

import pytest

from lightning_store.errors import RolloutNotFoundError
from lightning_store.records import AttemptedRollout, RolloutConfig
from tests.support.factories import attempt_of, claim, drain, requests_for, span_of, status_of
from tests.support.stores import only_stores

NOT_QUEUED = ["preparing", "running", "succeeded", "failed", "cancelled"]


async def enqueue(store, count, **fields):
    return [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(requests_for(range(count), **fields))]


async def test_first_in_first_out(store):
    ids = [(await store.enqueue_rollout(n)).rollout_id for n in range(3)]

    claimed = [(await claim(store)).rollout_id for _ in range(3)]

    assert claimed == ids
    assert await store.dequeue_rollout() is None


async def test_bulk_enqueue_and_bulk_dequeue_keep_the_order(store):
    first = await enqueue(store, 5)
    single = (await store.enqueue_rollout("single")).rollout_id
    last = await enqueue(store, 4)

    claimed = await store.dequeue_many_rollouts(limit=7)
    rest = await store.dequeue_many_rollouts(limit=7)

    assert isinstance(claimed, list)
    assert [rollout.rollout_id for rollout in claimed + rest] == [*first, single, *last]
    assert (len(claimed), len(rest)) == (7, 3)


async def test_empty_queue_answers_nothing(store):
    assert await store.dequeue_rollout() is None
    assert await store.dequeue_rollout("w") is None
    assert await store.dequeue_many_rollouts() == []
    assert await store.dequeue_many_rollouts(limit=5, worker_id="w") == []


@pytest.mark.parametrize("limit", [0, -1, -10])
async def test_limit_of_zero_or_less_claims_none_and_touches_no_worker(store, limit):
    ids = await enqueue(store, 2)

    assert await store.dequeue_many_rollouts(limit=limit, worker_id="w") == []

    assert await store.get_worker_by_id("w") is None
    assert await drain(store) == ids


async def test_bulk_dequeue_claims_one_by_default(store):
    ids = await enqueue(store, 2)
    assert [rollout.rollout_id for rollout in await store.dequeue_many_rollouts()] == ids[:1]


async def test_claim_creates_an_attempt_and_prepares_the_rollout(store, clock):
    rollout_id = (await enqueue(store, 1))[0]
    clock.advance(1)

    claimed = await claim(store, "w", lease_seconds=7)

    assert type(claimed) is AttemptedRollout
    assert (claimed.rollout_id, claimed.status) == (rollout_id, "preparing")
    attempt = claimed.attempt
    assert (attempt.sequence_id, attempt.status, attempt.worker_id) == (1, "preparing", "w")
    assert (attempt.start_time, attempt.lease_seconds) == (clock.now(), 7)
    assert (attempt.end_time, attempt.last_heartbeat_time, attempt.cause) == (None, None, None)
    assert await store.get_rollout_by_id(rollout_id) == claimed


async def test_claim_of_a_requeued_rollout_counts_its_attempts_on(store):
    rollout_id = (await enqueue(store, 1, config=RolloutConfig(max_attempts=2, retry_condition=["failed"])))[0]
    first = await claim(store)
    await store.update_attempt(rollout_id, "latest", status="failed")

    second = await claim(store)

    assert (second.attempt.sequence_id, second.status) == (2, "preparing")
    assert second.attempt.attempt_id != first.attempt.attempt_id
    assert [attempt.sequence_id for attempt in await store.query_attempts(rollout_id)] == [1, 2]


@pytest.mark.parametrize("status", NOT_QUEUED)
async def test_entry_counts_only_while_its_rollout_waits(store, status):
    ids = await enqueue(store, 3)
    await store.update_rollout(ids[0], status=status)

    assert await drain(store) == ids[1:]
    assert await status_of(store, ids[0]) == status
    assert (await store.query_attempts(ids[0])).total == 0


async def test_search_goes_on_behind_many_void_entries(store):
    await enqueue(store, 30, group_id="dropped")
    alive = await enqueue(store, 1)
    await store.cancel_rollouts(group_id="dropped")

    assert await drain(store) == alive


@pytest.mark.parametrize("between", NOT_QUEUED)
@pytest.mark.parametrize("waiting", ["queuing", "requeuing"])
async def test_rollout_set_aside_and_back_keeps_its_place(store, between, waiting):
    ids = await enqueue(store, 3)
    await store.update_rollout(ids[1], status=between)

    await store.update_rollout(ids[1], status=waiting)

    assert await drain(store) == ids


async def test_rollout_is_in_the_queue_at_most_once(store):
    ids = await enqueue(store, 2)
    for status in ("queuing", "requeuing", "running", "queuing", "queuing"):
        await store.update_rollout(ids[0], status=status)

    assert await drain(store) == ids
    assert await drain(store) == []


@pytest.mark.parametrize("status", ["queuing", "requeuing"])
async def test_status_that_queues_appends_at_the_tail(store, status):
    started = await store.start_rollout("started")
    ids = await enqueue(store, 2)
    claimed = await claim(store)

    await store.update_rollout(claimed.rollout_id, status=status)
    await store.update_rollout(started.rollout_id, status=status)

    assert await drain(store) == [ids[1], claimed.rollout_id, started.rollout_id]


async def test_retry_is_appended_at_the_tail(store):
    ids = await enqueue(store, 3, config=RolloutConfig(max_attempts=2, retry_condition=["failed"]))
    await claim(store)

    await store.update_attempt(ids[0], "latest", status="failed")

    assert await drain(store) == [ids[1], ids[2], ids[0]]


async def test_entry_dropped_by_a_claim_is_appended_anew(store):
    ids = await enqueue(store, 3)
    await store.update_rollout(ids[0], status="cancelled")
    assert (await claim(store)).rollout_id == ids[1]

    await store.update_rollout(ids[0], status="queuing")

    assert await drain(store) == [ids[2], ids[0]]


async def test_finished_rollout_can_be_queued_again(store):
    rollout_id = (await enqueue(store, 1))[0]
    await claim(store)
    await store.update_attempt(rollout_id, "latest", status="succeeded")

    await store.update_rollout(rollout_id, status="queuing")

    claimed = await claim(store)
    assert (claimed.rollout_id, claimed.attempt.sequence_id, claimed.end_time) == (rollout_id, 2, None)


@pytest.mark.parametrize("status", [*NOT_QUEUED, "queuing", "requeuing"])
async def test_attempt_by_hand_works_in_any_status_and_ignores_max_attempts(store, clock, status):
    started = await store.start_rollout("task", config=RolloutConfig(max_attempts=1))
    await store.update_rollout(started.rollout_id, status=status)
    clock.advance(1)

    again = await store.start_attempt(started.rollout_id, "w", lease_seconds=3)

    assert type(again) is AttemptedRollout
    assert (again.status, again.end_time, again.start_time) == ("preparing", None, started.start_time)
    attempt = again.attempt
    assert (attempt.sequence_id, attempt.status, attempt.start_time) == (2, "preparing", clock.now())
    assert (attempt.worker_id, attempt.lease_seconds) == ("w", 3)
    assert await store.get_rollout_by_id(started.rollout_id) == again
    assert await drain(store) == []


async def test_attempt_by_hand_leaves_earlier_attempts_alone(store):
    started = await store.start_rollout("task")

    await store.start_attempt(started.rollout_id)

    assert await attempt_of(store, started.rollout_id, 1) == started.attempt


async def test_attempt_by_hand_voids_the_queue_entry(store):
    ids = await enqueue(store, 2)

    await store.start_attempt(ids[0])

    assert await drain(store) == ids[1:]


async def test_rollout_started_by_hand_and_queued_again_keeps_its_place(store):
    ids = await enqueue(store, 2)
    await store.start_attempt(ids[0])

    await store.update_rollout(ids[0], status="requeuing")

    assert await drain(store) == ids


async def test_attempt_by_hand_of_an_unknown_rollout_is_an_error(store):
    with pytest.raises(RolloutNotFoundError, match="Rollout ro-unknown not found"):
        await store.start_attempt("ro-unknown", "w")
    assert await store.get_worker_by_id("w") is None


async def test_span_that_takes_a_rollout_out_of_the_queue_voids_its_entry(store):
    ids = await enqueue(store, 2)
    claimed = await claim(store)
    await store.update_rollout(claimed.rollout_id, status="requeuing")

    await store.add_span(span_of(claimed))

    assert await status_of(store, claimed.rollout_id) == "running"
    assert await drain(store) == ids[1:]


async def test_update_that_does_not_queue_leaves_the_place(store):
    ids = await enqueue(store, 2)

    await store.update_rollout(ids[0], metadata={"a": 1}, mode="train")

    assert await drain(store) == ids


@only_stores("memory", "redis", "sqlite")
async def test_more_than_a_thousand_void_entries_do_not_hide_what_is_queued(store):
    """Three stores speak for all: a thousand rollouts take the others long, and they run the same code."""
    await store.enqueue_many_rollouts(requests_for(range(1_050), group_id="dropped"))
    alive = await enqueue(store, 1)
    await store.cancel_rollouts(group_id="dropped")

    assert await drain(store) == alive


@only_stores("memory", "redis", "sqlite")
async def test_claim_of_more_than_a_thousand_gets_them_all_in_order(store):
    """Three stores speak for all, as above."""
    ids = await enqueue(store, 1_020)

    claimed = await store.dequeue_many_rollouts(limit=5_000)

    assert [rollout.rollout_id for rollout in claimed] == ids
