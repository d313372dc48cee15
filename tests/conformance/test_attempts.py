"""Attempts, their reports, and what these make of the rollout: sections 1.3, 2.3 and 3.4."""

import pytest

from lightning_store.errors import AttemptNotFoundError, InvalidRequestError, RolloutNotFoundError
from lightning_store.records import Attempt, RolloutConfig
from tests.support.factories import attempt_of, claim, drain, span_of, status_of

ALL_STATUSES = ["preparing", "running", "succeeded", "failed", "timeout", "unresponsive"]
RETRYABLE = ["failed", "timeout", "unresponsive"]
FINISHED = ["succeeded", "failed", "cancelled"]


async def report(store, rollout, **changes):
    return await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, **changes)


# -- from attempt to rollout -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("preparing", "preparing"),
        ("running", "running"),
        ("succeeded", "succeeded"),
        ("failed", "failed"),
        ("timeout", "failed"),
        ("unresponsive", "failed"),
    ],
)
async def test_rollout_follows_its_latest_attempt(store, clock, status, expected):
    started = await store.start_rollout("task")
    clock.advance(2)

    attempt = await report(store, started, status=status)

    assert attempt.status == status
    rollout = await store.get_rollout_by_id(started.rollout_id)
    assert rollout.status == expected
    assert rollout.attempt == attempt
    assert rollout.end_time == (clock.now() if expected in FINISHED else None)


@pytest.mark.parametrize("status", RETRYABLE)
async def test_end_listed_in_retry_condition_requeues_while_tries_are_left(store, status):
    config = RolloutConfig(max_attempts=2, retry_condition=[status])
    started = await store.start_rollout("task", config=config)

    await report(store, started, status=status)

    rollout = await store.get_rollout_by_id(started.rollout_id)
    assert (rollout.status, rollout.end_time) == ("requeuing", None)
    second = await claim(store)
    assert second.attempt.sequence_id == 2
    await report(store, second, status=status)
    assert await status_of(store, started.rollout_id) == "failed"
    assert await drain(store) == []


@pytest.mark.parametrize("status", RETRYABLE)
async def test_end_not_listed_in_retry_condition_fails_the_rollout(store, status):
    others = [other for other in RETRYABLE if other != status]
    started = await store.start_rollout("task", config=RolloutConfig(max_attempts=9, retry_condition=others))

    await report(store, started, status=status)

    assert await status_of(store, started.rollout_id) == "failed"
    assert await drain(store) == []


async def test_success_is_never_retried(store):
    config = RolloutConfig(max_attempts=5, retry_condition=["succeeded", "failed", "running"])
    started = await store.start_rollout("task", config=config)

    await report(store, started, status="running")
    await report(store, started, status="succeeded")

    assert await status_of(store, started.rollout_id) == "succeeded"


async def test_attempts_by_hand_count_against_max_attempts(store):
    started = await store.start_rollout("task", config=RolloutConfig(max_attempts=2, retry_condition=["failed"]))
    await store.start_attempt(started.rollout_id)
    third = await store.start_attempt(started.rollout_id)

    await report(store, third, status="failed")

    assert await status_of(store, started.rollout_id) == "failed"


@pytest.mark.parametrize("status", ALL_STATUSES)
async def test_older_attempts_never_touch_the_rollout(store, status):
    config = RolloutConfig(max_attempts=9, retry_condition=RETRYABLE)
    started = await store.start_rollout("task", config=config)
    second = await store.start_attempt(started.rollout_id)

    older = await report(store, started, status=status)

    assert older.status == status
    assert await store.get_rollout_by_id(started.rollout_id) == second
    assert await drain(store) == []


@pytest.mark.parametrize("change", [{"metadata": {"a": 1}}, {"worker_id": "w"}, {"last_heartbeat_time": 5.0}])
async def test_any_update_of_the_latest_attempt_computes_the_rollout_anew(store, change):
    started = await store.start_rollout("task")
    await report(store, started, status="running")
    await store.update_rollout(started.rollout_id, status="preparing")

    await report(store, started, **change)

    assert await status_of(store, started.rollout_id) == "running"


async def test_update_without_change_of_status_keeps_the_place_in_the_queue(store):
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"])
    started = await store.start_rollout("task", config=config)
    await report(store, started, status="failed")
    other = await store.enqueue_rollout("other")

    await report(store, started, metadata={"late": True})

    assert await drain(store) == [started.rollout_id, other.rollout_id]


@pytest.mark.parametrize("finished", FINISHED)
@pytest.mark.parametrize("status", ALL_STATUSES)
async def test_report_on_a_finished_rollout_stays_on_the_attempt(store, clock, finished, status):
    config = RolloutConfig(max_attempts=9, retry_condition=RETRYABLE)
    started = await store.start_rollout("task", config=config)
    ended = await store.update_rollout(started.rollout_id, status=finished)
    clock.advance(1)

    attempt = await report(store, started, status=status)

    assert attempt.status == status
    rollout = await store.get_rollout_by_id(started.rollout_id)
    assert (rollout.status, rollout.end_time) == (finished, ended.end_time)
    assert rollout.attempt == attempt
    assert await drain(store) == []


async def test_late_success_of_the_latest_attempt_takes_its_rollout_out_of_the_queue(store):
    config = RolloutConfig(max_attempts=2, retry_condition=["unresponsive"])
    started = await store.start_rollout("task", config=config)
    await report(store, started, status="unresponsive")
    assert await status_of(store, started.rollout_id) == "requeuing"

    await report(store, started, status="succeeded")

    assert await status_of(store, started.rollout_id) == "succeeded"
    assert await drain(store) == []


async def test_late_report_of_a_replaced_attempt_has_no_effect_on_the_rollout(store):
    config = RolloutConfig(max_attempts=2, retry_condition=["unresponsive"])
    started = await store.start_rollout("task", config=config)
    await report(store, started, status="unresponsive")
    second = await claim(store)

    late = await report(store, started, status="succeeded")

    assert late.status == "succeeded"
    assert await store.get_rollout_by_id(started.rollout_id) == second


# -- what an update writes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["succeeded", "failed", "timeout"])
async def test_end_time_is_set_by_each_update_to_an_ending_status(store, clock, status):
    started = await store.start_rollout("task")
    clock.advance(1)
    first = await report(store, started, status=status)
    assert first.end_time == clock.now()

    clock.advance(1)
    kept = await report(store, started, metadata={"a": 1})
    again = await report(store, started, status=status)

    assert kept.end_time == first.end_time
    assert again.end_time == clock.now()


@pytest.mark.parametrize("status", ["preparing", "running", "unresponsive"])
async def test_end_time_is_not_set_by_other_statuses(store, status):
    started = await store.start_rollout("task")
    assert (await report(store, started, status=status)).end_time is None


async def test_end_time_of_the_rollout_is_not_before_that_of_its_failed_attempt(store):
    started = await store.start_rollout("task")

    attempt = await report(store, started, status="failed")

    assert (await store.get_rollout_by_id(started.rollout_id)).end_time >= attempt.end_time


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ("preparing", None),
        ("running", None),
        ("succeeded", "agent"),
        ("failed", "agent"),
        ("timeout", "timeout"),
        ("unresponsive", "worker_lost"),
    ],
)
async def test_cause_tells_why_an_attempt_ended(store, status, cause):
    started = await store.start_rollout("task")
    assert (await report(store, started, status=status)).cause == cause


async def test_failure_after_a_cancellation_has_cause_cancelled(store):
    failing, succeeding = [await store.start_rollout(n) for n in range(2)]
    await store.cancel_rollouts([failing.rollout_id, succeeding.rollout_id])

    assert (await report(store, failing, status="failed")).cause == "cancelled"
    assert (await report(store, succeeding, status="succeeded")).cause == "agent"


async def test_attempt_that_lives_again_has_no_cause(store):
    started = await store.start_rollout("task")
    await report(store, started, status="unresponsive")

    assert (await report(store, started, status="running")).cause is None


async def test_update_replaces_each_given_field_and_keeps_the_others(store, clock):
    started = await store.start_rollout("task", worker_id="w")
    metadata = {"list": [1]}

    await report(store, started, metadata=metadata)
    await report(store, started, last_heartbeat_time=1_699_999_999.5)
    await report(store, started, worker_id="other")
    await report(store, started, resources_id="rs-1", resources_version=3)
    metadata["list"].append(2)
    attempt = await report(store, started, status="running")

    expected = started.attempt.model_copy(
        update={
            "metadata": {"list": [1]},
            "last_heartbeat_time": 1_699_999_999.5,
            "worker_id": "other",
            "resources_id": "rs-1",
            "resources_version": 3,
            "status": "running",
        }
    )
    assert attempt == expected
    assert await store.get_latest_attempt(started.rollout_id) == expected


async def test_metadata_is_replaced_as_a_whole(store):
    started = await store.start_rollout("task")
    await report(store, started, metadata={"a": 1})

    assert (await report(store, started, metadata={"b": 2})).metadata == {"b": 2}
    assert (await report(store, started, metadata={})).metadata == {}


async def test_resources_that_a_runner_reported_can_be_taken_back(store):
    started = await store.start_rollout("task")
    await report(store, started, resources_id="rs-1", resources_version=2)

    attempt = await report(store, started, resources_id=None, resources_version=None)

    assert (attempt.resources_id, attempt.resources_version) == (None, None)


async def test_update_of_nothing_answers_the_attempt(store):
    started = await store.start_rollout("task", worker_id="w")
    assert await report(store, started) == started.attempt


async def test_latest_means_the_attempt_with_the_highest_number(store):
    started = await store.start_rollout("task")
    second = await store.start_attempt(started.rollout_id)

    updated = await store.update_attempt(started.rollout_id, "latest", metadata={"a": 1})

    assert updated.attempt_id == second.attempt.attempt_id
    assert await attempt_of(store, started.rollout_id, 1) == started.attempt


async def test_empty_worker_id_is_stored_and_touches_no_worker(store):
    started = await store.start_rollout("task", worker_id="w")
    before = await store.get_worker_by_id("w")

    attempt = await report(store, started, worker_id="", status="succeeded")

    assert attempt.worker_id == ""
    assert (await store.get_latest_attempt(started.rollout_id)).worker_id == ""
    assert await store.get_worker_by_id("w") == before
    assert (await store.query_workers()).total == 1


@pytest.mark.parametrize("field", ["status", "worker_id", "last_heartbeat_time", "metadata"])
async def test_update_refuses_none_where_a_value_is_needed(store, field):
    started = await store.start_rollout("task")

    with pytest.raises(InvalidRequestError, match=field):
        await report(store, started, **{"metadata": {"a": 1}, field: None})

    assert await store.get_latest_attempt(started.rollout_id) == started.attempt


async def test_errors_come_in_the_order_of_the_contract(store):
    queued = await store.enqueue_rollout("task")
    started = await store.start_rollout("task")

    for attempt_id in ("latest", "at-unknown"):
        with pytest.raises(RolloutNotFoundError, match="ro-unknown"):
            await store.update_attempt("ro-unknown", attempt_id, status="failed")
        with pytest.raises(AttemptNotFoundError, match="No attempts found"):
            await store.update_attempt(queued.rollout_id, attempt_id, status="failed")
    with pytest.raises(AttemptNotFoundError, match="at-unknown"):
        await store.update_attempt(started.rollout_id, "at-unknown", status="failed")
    assert await status_of(store, started.rollout_id) == "preparing"


async def test_attempts_of_another_rollout_are_unknown(store):
    mine, other = await store.start_rollout(1), await store.start_rollout(2)

    with pytest.raises(AttemptNotFoundError):
        await store.update_attempt(mine.rollout_id, other.attempt.attempt_id, status="failed")


# -- reading -----------------------------------------------------------------------------------------------------------


async def test_attempts_are_numbered_and_listed_in_order(store, clock):
    started = await store.start_rollout("task")
    for _ in range(3):
        clock.advance(1)
        await store.start_attempt(started.rollout_id)

    page = await store.query_attempts(started.rollout_id)

    assert [attempt.sequence_id for attempt in page] == [1, 2, 3, 4]
    assert [attempt.start_time - started.start_time for attempt in page] == [0, 1, 2, 3]
    assert all(type(attempt) is Attempt for attempt in page)
    assert len({attempt.attempt_id for attempt in page}) == 4
    assert await store.get_latest_attempt(started.rollout_id) == page[-1]


async def test_attempts_of_an_unknown_rollout_are_empty(store):
    page = await store.query_attempts("ro-unknown")
    assert (page.items, page.total) == ([], 0)
    assert await store.get_latest_attempt("ro-unknown") is None


async def test_rollout_without_attempts_has_no_latest(store):
    queued = await store.enqueue_rollout("task")
    assert await store.get_latest_attempt(queued.rollout_id) is None
    assert (await store.query_attempts(queued.rollout_id)).total == 0


async def test_changing_an_answer_does_not_change_the_store(store):
    started = await store.start_rollout("task")
    updated = await report(store, started, metadata={"list": [1]})
    for answer in (
        updated,
        await store.get_latest_attempt(started.rollout_id),
        (await store.query_attempts(started.rollout_id)).items[0],
        (await store.get_rollout_by_id(started.rollout_id)).attempt,
    ):
        answer.status = "failed"
        answer.metadata["list"].append(2)

    stored = await store.get_latest_attempt(started.rollout_id)
    assert (stored.status, stored.metadata) == ("preparing", {"list": [1]})


async def test_attempt_that_speaks_keeps_what_updates_wrote(store, clock):
    started = await store.start_rollout("task", worker_id="w")
    await report(store, started, metadata={"a": 1}, resources_id="rs-1", resources_version=1)
    clock.advance(1)

    await store.add_span(span_of(started))

    attempt = await store.get_latest_attempt(started.rollout_id)
    assert (attempt.metadata, attempt.worker_id, attempt.resources_id) == ({"a": 1}, "w", "rs-1")
    assert (attempt.status, attempt.last_heartbeat_time) == ("running", clock.now())
