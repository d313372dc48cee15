"""Delays of retries, and ends that do not count: rules 17 and 22, and `retry_delay_seconds` of decisions.md."""

import pytest

from lightning_store.records import RolloutConfig
from tests.support.factories import attempt_of, claim, drain, span_of, status_of

LATER = RolloutConfig(
    max_attempts=3, retry_condition=["failed", "timeout", "unresponsive"], retry_delay_seconds=5, timeout_seconds=50
)


async def report(store, rollout, **changes):
    return await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, **changes)


async def waiting_with_delay(store, config=LATER, **options):
    """A rollout whose first attempt failed, so that it waits for 5 s."""
    started = await store.start_rollout("task", config=config, **options)
    await report(store, started, status="failed")
    assert await status_of(store, started.rollout_id) == "requeuing"
    return started


async def queue_sizes(store):
    return [(stats.depth, stats.delayed) for stats in await store.query_queues()]


# -- delay -------------------------------------------------------------------------------------------------------------


async def test_retry_cannot_be_claimed_before_its_delay_is_over(store, clock):
    started = await waiting_with_delay(store)
    assert await drain(store) == []
    clock.advance(4.75)
    assert await drain(store) == []

    clock.advance(0.25)

    assert (await claim(store)).rollout_id == started.rollout_id


@pytest.mark.parametrize("end", ["failed", "timeout", "unresponsive", "overdue"])
async def test_every_end_that_retries_is_delayed(store, clock, end):
    config = LATER.model_copy(update={"timeout_seconds": 1})
    started = await store.start_rollout("task", config=config)
    if end == "overdue":
        clock.advance(2)
        await store.expire_attempts()
    else:
        await report(store, started, status=end)
    assert await status_of(store, started.rollout_id) == "requeuing"
    assert await drain(store) == []

    clock.advance(5)

    assert await drain(store) == [started.rollout_id]


async def test_ready_retry_goes_to_the_tail_of_its_queue(store, clock):
    retry = await waiting_with_delay(store, queue="q")
    first = await store.enqueue_rollout(1, queue="q")
    clock.advance(6)
    await store.expire_attempts()
    last = await store.enqueue_rollout(2, queue="q")

    assert await drain(store, queues=["q"]) == [first.rollout_id, retry.rollout_id, last.rollout_id]


async def test_retries_become_ready_in_the_order_of_their_times(store, clock):
    slow = await waiting_with_delay(store, LATER.model_copy(update={"retry_delay_seconds": 9}))
    clock.advance(1)
    quick = await waiting_with_delay(store, LATER.model_copy(update={"retry_delay_seconds": 2}))
    clock.advance(9)

    assert await drain(store) == [quick.rollout_id, slow.rollout_id]


async def test_delay_is_that_of_the_config_at_the_end_of_the_attempt(store, clock):
    started = await store.start_rollout("task", config=LATER)
    await store.update_rollout(started.rollout_id, config=LATER.model_copy(update={"retry_delay_seconds": 1}))
    await report(store, started, status="failed")
    clock.advance(1)

    assert await drain(store) == [started.rollout_id]


async def test_status_set_by_hand_queues_without_delay(store):
    started = await store.start_rollout("task", config=LATER)

    await store.update_rollout(started.rollout_id, status="requeuing")

    assert await drain(store) == [started.rollout_id]


@pytest.mark.parametrize("how", ["cancel", "update", "start_attempt", "late success"])
async def test_rollout_that_stops_waiting_leaves_the_delayed(store, clock, how):
    started = await waiting_with_delay(store)
    if how == "cancel":
        await store.cancel_rollouts([started.rollout_id])
    elif how == "update":
        await store.update_rollout(started.rollout_id, status="failed")
    elif how == "start_attempt":
        await store.start_attempt(started.rollout_id)
    else:
        await report(store, started, status="succeeded")

    assert await queue_sizes(store) in ([(0, 0)], [])
    clock.advance(6)
    assert await drain(store) == []


async def test_delayed_rollout_that_speaks_again_is_not_retried(store, clock):
    started = await store.start_rollout("task", config=LATER)
    await report(store, started, status="unresponsive")

    await store.add_span(span_of(started))

    assert await status_of(store, started.rollout_id) == "running"
    assert await queue_sizes(store) in ([(0, 0)], [])
    clock.advance(6)
    assert await drain(store) == []


async def test_delayed_rollout_is_revived_by_a_renewal(store, clock):
    started = await store.start_rollout("task", config=LATER, worker_id="w")
    await report(store, started, status="unresponsive")

    assert await store.renew("w", [(started.rollout_id, started.attempt.attempt_id)]) == ["revived"]

    clock.advance(6)
    assert await drain(store) == []


async def test_delayed_rollout_queued_by_hand_waits_on_for_its_delay(store, clock):
    started = await waiting_with_delay(store)

    await store.update_rollout(started.rollout_id, status="queuing")

    assert await drain(store) == []
    clock.advance(5)
    assert await drain(store) == [started.rollout_id]


async def test_retry_with_a_void_entry_in_the_queue_waits_for_its_delay(store, clock):
    await store.enqueue_rollout("task", rollout_id="r", config=LATER)
    started = await store.start_attempt("r")
    await report(store, started, status="failed")
    assert await drain(store) == []

    clock.advance(5)

    assert await drain(store) == ["r"]
    assert await drain(store) == []


async def test_delayed_rollout_can_be_filtered_as_requeuing(store):
    started = await waiting_with_delay(store)
    page = await store.query_rollouts(status_in=["requeuing"])
    assert [rollout.rollout_id for rollout in page] == [started.rollout_id]


# -- ends that do not count --------------------------------------------------------------------------------------------


async def lose(store, rollout):
    await report(store, rollout, status="unresponsive")


async def test_worker_losses_below_the_limit_do_not_count_and_are_always_retried(store):
    await store.enqueue_rollout("task", config=RolloutConfig(max_attempts=1, max_worker_losses=2))
    for number in (1, 2):
        attempt = await claim(store)
        assert attempt.attempt.sequence_id == number
        await lose(store, attempt)
        assert await status_of(store, attempt.rollout_id) == "requeuing"

    third = await claim(store)
    await lose(store, third)

    assert await status_of(store, third.rollout_id) == "failed"


async def test_worker_losses_beyond_the_limit_count_like_any_other_end(store):
    config = RolloutConfig(max_attempts=2, max_worker_losses=1, retry_condition=["unresponsive"])
    await store.enqueue_rollout("task", config=config)
    for expected in ("requeuing", "requeuing", "failed"):
        claimed = await claim(store)
        await lose(store, claimed)
        assert await status_of(store, claimed.rollout_id) == expected


@pytest.mark.parametrize("losses", [None, 0])
async def test_worker_losses_count_unless_a_limit_is_set(store, losses):
    started = await store.start_rollout("task", config=RolloutConfig(max_attempts=5, max_worker_losses=losses))
    await lose(store, started)
    assert await status_of(store, started.rollout_id) == "failed"


async def test_uncounted_losses_leave_the_tries_for_failures(store):
    config = RolloutConfig(max_attempts=2, max_worker_losses=1, retry_condition=["failed"])
    await store.enqueue_rollout("task", config=config)
    await lose(store, await claim(store))
    for expected in ("requeuing", "failed"):
        claimed = await claim(store)
        await report(store, claimed, status="failed")
        assert await status_of(store, claimed.rollout_id) == expected


async def test_lost_worker_that_speaks_again_gives_its_loss_back(store):
    config = RolloutConfig(max_attempts=1, max_worker_losses=1)
    await store.enqueue_rollout("task", config=config)
    first = await claim(store)
    for _ in range(3):
        await lose(store, first)
        assert await status_of(store, first.rollout_id) == "requeuing"
        await store.add_span(span_of(first))
        assert await status_of(store, first.rollout_id) == "running"

    await report(store, first, status="failed")

    assert await status_of(store, first.rollout_id) == "failed"


async def test_late_failure_of_a_lost_attempt_counts_again(store):
    config = RolloutConfig(max_attempts=1, max_worker_losses=1)
    await store.enqueue_rollout("task", config=config)
    first = await claim(store)
    await lose(store, first)

    await report(store, first, status="failed")

    assert await status_of(store, first.rollout_id) == "failed"
    assert await drain(store) == []


async def test_watchdog_counts_worker_losses_too(store, clock):
    config = RolloutConfig(max_attempts=1, max_worker_losses=1, unresponsive_seconds=5)
    await store.enqueue_rollout("task", config=config)
    for expected in ("requeuing", "failed"):
        claimed = await claim(store)
        clock.advance(6)
        await store.expire_attempts()
        assert await status_of(store, claimed.rollout_id) == expected


async def test_time_limits_are_no_worker_losses(store):
    config = RolloutConfig(max_attempts=1, max_worker_losses=5)
    started = await store.start_rollout("task", config=config)
    await report(store, started, status="timeout")
    assert await status_of(store, started.rollout_id) == "failed"


async def test_releases_do_not_use_up_worker_losses(store):
    config = RolloutConfig(max_attempts=1, max_worker_losses=1)
    await store.enqueue_rollout("task", config=config)
    released = await claim(store)
    await store.release_attempt(released.rollout_id, released.attempt.attempt_id)

    lost = await claim(store)
    await lose(store, lost)

    assert await status_of(store, lost.rollout_id) == "requeuing"


async def test_uncounted_loss_is_delayed_like_any_retry(store, clock):
    config = RolloutConfig(max_attempts=1, max_worker_losses=1, retry_delay_seconds=5)
    started = await store.start_rollout("task", config=config)
    await lose(store, started)
    assert await drain(store) == []
    clock.advance(5)
    assert await drain(store) == [started.rollout_id]


async def test_attempts_keep_their_numbers_when_some_do_not_count(store):
    await store.enqueue_rollout("task", rollout_id="r", config=RolloutConfig(max_worker_losses=3))
    for _ in range(3):
        await lose(store, await claim(store))
    await claim(store)

    assert [(await attempt_of(store, "r", number)).sequence_id for number in (1, 2, 3, 4)] == [1, 2, 3, 4]


# -- delayed, and then -------------------------------------------------------------------------------------------------


async def test_delayed_rollout_that_was_cancelled_can_be_deleted_and_leaves_nothing(store, clock):
    started = await waiting_with_delay(store)
    assert await store.delete_rollouts([started.rollout_id]) == []
    await store.cancel_rollouts([started.rollout_id])

    assert await store.delete_rollouts([started.rollout_id]) == [started.rollout_id]

    clock.advance(6)
    assert await drain(store) == []
    assert await queue_sizes(store) in ([(0, 0)], [])
    assert (await store.audit()).findings == []


async def test_delayed_rollout_that_was_cancelled_comes_back_at_once_when_it_is_queued_by_hand(store, clock):
    started = await waiting_with_delay(store)
    await store.cancel_rollouts([started.rollout_id])
    await store.update_rollout(started.rollout_id, status="queuing")
    assert await drain(store) == [started.rollout_id]
    clock.advance(6)
    assert await drain(store) == []


async def test_release_of_an_attempt_whose_retry_is_delayed_has_no_effect(store, clock):
    started = await waiting_with_delay(store)
    released = await store.release_attempt(started.rollout_id, started.attempt.attempt_id)
    assert (released.status, released.cause) == ("failed", "agent")
    assert await drain(store) == []
    clock.advance(5)
    assert await drain(store) == [started.rollout_id]


@pytest.mark.parametrize("tries", [1, 3])
async def test_finished_rollout_queued_by_hand_gets_one_more_attempt_whatever_its_limits(store, tries):
    config = RolloutConfig(max_attempts=tries, retry_condition=["failed"], max_worker_losses=0)
    await store.enqueue_rollout("task", rollout_id="r", config=config)
    for _ in range(tries):
        await report(store, await claim(store), status="failed")
    for end in ("failed", "unresponsive"):
        assert await status_of(store, "r") == "failed"
        await store.update_rollout("r", status="queuing")
        await report(store, await claim(store), status=end)
    assert await status_of(store, "r") == "failed"
    assert (await attempt_of(store, "r")).sequence_id == tries + 2


async def test_rollout_queued_by_hand_has_used_up_its_worker_losses(store):
    config = RolloutConfig(max_worker_losses=1)
    await store.enqueue_rollout("task", rollout_id="r", config=config)
    await lose(store, await claim(store))
    await lose(store, await claim(store))
    await store.update_rollout("r", status="queuing")

    await lose(store, await claim(store))

    assert await status_of(store, "r") == "failed"
