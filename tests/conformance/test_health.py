"""Deadlines and who looks at them: sections 1.2 and 2.4, rules 6, 11 to 15."""

import pytest

from lightning_store.errors import InvalidRequestError
from lightning_store.records import RolloutConfig, Transition
from tests.support.factories import attempt_of, claim, drain, requests_for, some_resources, span_of, status_of
from tests.support.stores import CALLED_ONCE, only_stores

TIMEOUT = RolloutConfig(timeout_seconds=5)
SILENCE = RolloutConfig(unresponsive_seconds=5)
RETRY = RolloutConfig(
    timeout_seconds=5, unresponsive_seconds=3, max_attempts=3, retry_condition=["timeout", "unresponsive"]
)


async def report(store, rollout, **changes):
    return await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, **changes)


async def worker_status(store, worker_id="w"):
    """Seen without settling anything."""
    return (await store.get_worker_by_id(worker_id)).status


# -- what is late ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "expected"), [(TIMEOUT, "timeout"), (SILENCE, "unresponsive")])
async def test_attempt_is_late_only_after_its_deadline(store, clock, config, expected):
    started = await store.start_rollout("task", config=config)
    clock.advance(5)
    assert (await store.get_latest_attempt(started.rollout_id)).status == "preparing"

    clock.advance(0.25)

    attempt = await store.get_latest_attempt(started.rollout_id)
    assert attempt.status == expected
    rollout = await store.get_rollout_by_id(started.rollout_id)
    assert (rollout.status, rollout.end_time) == ("failed", clock.now())


async def test_running_attempts_are_watched_too(store, clock):
    started = await store.start_rollout("task", config=TIMEOUT)
    await report(store, started, status="running")
    clock.advance(6)

    assert await status_of(store, started.rollout_id) == "failed"


async def test_limit_of_zero_is_a_limit(store, clock):
    started = await store.start_rollout("task", config=RolloutConfig(timeout_seconds=0))
    assert await status_of(store, started.rollout_id) == "preparing"
    clock.advance(0.001)
    assert await status_of(store, started.rollout_id) == "failed"


async def test_timeout_is_told_before_silence(store, clock):
    config = RolloutConfig(timeout_seconds=5, unresponsive_seconds=2)
    started = await store.start_rollout("task", config=config)
    clock.advance(6)

    assert (await store.get_latest_attempt(started.rollout_id)).status == "timeout"


async def test_silence_counts_from_the_last_heartbeat(store, clock):
    started = await store.start_rollout("task", config=SILENCE)
    for _ in range(3):
        clock.advance(4)
        await store.add_span(span_of(started))
    clock.advance(5)
    assert await status_of(store, started.rollout_id) == "running"

    clock.advance(1)

    assert (await store.get_latest_attempt(started.rollout_id)).status == "unresponsive"


async def test_heartbeats_do_not_move_the_timeout(store, clock):
    started = await store.start_rollout("task", config=TIMEOUT)
    for _ in range(3):
        clock.advance(2)
        await store.add_span(span_of(started))

    assert (await store.get_latest_attempt(started.rollout_id)).status == "timeout"


async def test_attempt_without_limits_is_never_late(store, clock):
    started = await store.start_rollout("task")
    for _ in range(10):
        clock.advance(14)
        await store.update_worker("w")
    clock.advance(10_000_000)

    report = await store.expire_attempts()

    assert (report.transitions, report.more, report.next_seconds) == ([], False, None)
    assert await status_of(store, started.rollout_id) == "preparing"


async def test_rollout_that_waits_is_never_late(store, clock):
    queued = await store.enqueue_rollout("task", config=RETRY)
    clock.advance(10)
    await store.expire_attempts()

    assert await status_of(store, queued.rollout_id) == "queuing"


async def test_only_the_latest_attempt_is_watched(store, clock):
    started = await store.start_rollout("task", config=SILENCE)
    clock.advance(3)
    second = await store.start_attempt(started.rollout_id)
    clock.advance(4)
    await store.expire_attempts()

    assert [attempt.status for attempt in await store.query_attempts(started.rollout_id)] == ["preparing", "preparing"]
    assert await store.get_rollout_by_id(started.rollout_id) == second


async def test_deadline_counts_from_the_start_of_the_attempt(store, clock):
    await store.enqueue_rollout("task", config=TIMEOUT)
    clock.advance(4)
    claimed = await claim(store)
    clock.advance(4)
    assert await status_of(store, claimed.rollout_id) == "preparing"
    clock.advance(2)
    assert await status_of(store, claimed.rollout_id) == "failed"


# -- what follows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "cause", "has_end_time"), [(TIMEOUT, "timeout", True), (SILENCE, "worker_lost", False)]
)
async def test_late_attempt_has_a_cause_and_timeout_an_end_time(store, clock, config, cause, has_end_time):
    started = await store.start_rollout("task", config=config)
    clock.advance(6)

    attempt = await store.get_latest_attempt(started.rollout_id)

    assert attempt.cause == cause
    assert attempt.end_time == (clock.now() if has_end_time else None)


async def test_late_attempt_is_retried_per_config(store, clock):
    started = await store.start_rollout("task", config=RETRY)
    clock.advance(6)

    second = await claim(store)

    assert (second.rollout_id, second.attempt.sequence_id) == (started.rollout_id, 2)
    assert (await attempt_of(store, started.rollout_id, 1)).status == "timeout"


async def test_retries_are_exhausted_by_late_attempts(store, clock):
    started = await store.start_rollout("task", config=RETRY)
    for _ in range(2):
        clock.advance(4)
        await claim(store)
    clock.advance(4)

    assert await status_of(store, started.rollout_id) == "failed"
    statuses = [attempt.status for attempt in await store.query_attempts(started.rollout_id)]
    assert statuses == ["unresponsive"] * 3


async def test_late_attempt_of_a_finished_rollout_frees_its_worker_only(store, clock):
    started = await store.start_rollout("task", config=RETRY, worker_id="w")
    cancelled = await store.update_rollout(started.rollout_id, status="cancelled")
    clock.advance(6)
    await store.expire_attempts()

    rollout = await store.get_rollout_by_id(started.rollout_id)
    assert (rollout.status, rollout.end_time) == ("cancelled", cancelled.end_time)
    assert rollout.attempt.status == "timeout"
    assert await worker_status(store) == "unknown"
    assert len((await store.completions()).items) == 1


async def test_late_attempt_of_a_waiting_rollout_leaves_it_in_the_queue(store, clock):
    started = await store.start_rollout("task", config=TIMEOUT, worker_id="w")
    await store.update_rollout(started.rollout_id, status="queuing")
    clock.advance(6)
    await store.expire_attempts()

    assert (await store.get_latest_attempt(started.rollout_id)).status == "timeout"
    assert await status_of(store, started.rollout_id) == "queuing"
    assert await drain(store) == [started.rollout_id]


async def test_settling_twice_changes_nothing_more(store, clock):
    started = await store.start_rollout("task", config=RETRY)
    clock.advance(6)
    first = await store.expire_attempts()
    before = await store.get_rollout_by_id(started.rollout_id)
    clock.advance(1)

    second = await store.expire_attempts()

    assert (len(first.transitions), len(second.transitions)) == (1, 0)
    assert await store.get_rollout_by_id(started.rollout_id) == before
    assert await drain(store) == [started.rollout_id]


# -- which calls look --------------------------------------------------------------------------------------------------

LOOKS = {
    "start_rollout": lambda s, late, other: s.start_rollout("new"),
    "enqueue_rollout": lambda s, late, other: s.enqueue_rollout("new"),
    "enqueue_many_rollouts": lambda s, late, other: s.enqueue_many_rollouts(requests_for([1])),
    "dequeue_rollout": lambda s, late, other: s.dequeue_rollout(),
    "dequeue_many_rollouts": lambda s, late, other: s.dequeue_many_rollouts(limit=2),
    "start_attempt": lambda s, late, other: s.start_attempt(other.rollout_id),
    "query_rollouts": lambda s, late, other: s.query_rollouts(limit=0),
    "get_rollout_by_id": lambda s, late, other: s.get_rollout_by_id(late.rollout_id),
    "query_attempts": lambda s, late, other: s.query_attempts(late.rollout_id),
    "get_latest_attempt": lambda s, late, other: s.get_latest_attempt(late.rollout_id),
    "update_resources": lambda s, late, other: s.update_resources("rs", {}),
    "wait_for_rollouts": lambda s, late, other: s.wait_for_rollouts(rollout_ids=[late.rollout_id], timeout=0),
    "query_spans": lambda s, late, other: s.query_spans(late.rollout_id),
    "query_many_spans": lambda s, late, other: s.query_many_spans([late.rollout_id]),
    "update_rollout": lambda s, late, other: s.update_rollout(other.rollout_id, mode="train"),
    "update_attempt": lambda s, late, other: s.update_attempt(other.rollout_id, "latest", status="running"),
    "query_workers": lambda s, late, other: s.query_workers(limit=0),
    "renew": lambda s, late, other: s.renew("v", [(other.rollout_id, other.attempt.attempt_id)]),
    "release_attempt": lambda s, late, other: s.release_attempt(other.rollout_id, other.attempt.attempt_id),
    "add_many_spans": lambda s, late, other: s.add_many_spans([span_of(other)]),
    "cancel_rollouts": lambda s, late, other: s.cancel_rollouts([other.rollout_id]),
    "delete_rollouts": lambda s, late, other: s.delete_rollouts([other.rollout_id]),
    "expire_attempts": lambda s, late, other: s.expire_attempts(),
}

LOOKS_AWAY = {
    "statistics": lambda s, late, other: s.statistics(),
    "get_worker_by_id": lambda s, late, other: s.get_worker_by_id("w"),
    "update_worker": lambda s, late, other: s.update_worker("v"),
    "get_next_span_sequence_id": lambda s, late, other: s.get_next_span_sequence_id(late.rollout_id, "x"),
    "get_many_span_sequence_ids": lambda s, late, other: s.get_many_span_sequence_ids([(late.rollout_id, "x")]),
    "add_resources": lambda s, late, other: s.add_resources(some_resources()),
    "get_resources_by_id": lambda s, late, other: s.get_resources_by_id("rs"),
    "get_latest_resources": lambda s, late, other: s.get_latest_resources(),
    "query_resources": lambda s, late, other: s.query_resources(),
}


async def one_late_one_not(store, clock):
    late = await store.start_rollout("late", config=RETRY, worker_id="w")
    other = await store.start_rollout("not late")
    clock.advance(6)
    return late, other


@pytest.mark.parametrize("call", LOOKS)
async def test_call_settles_what_is_late_before_its_own_work(store, clock, call):
    late, other = await one_late_one_not(store, clock)

    await LOOKS[call](store, late, other)

    assert await worker_status(store) == "unknown"


@pytest.mark.parametrize("call", LOOKS_AWAY)
async def test_call_does_not_look_at_deadlines(store, clock, call):
    late, other = await one_late_one_not(store, clock)

    await LOOKS_AWAY[call](store, late, other)

    assert await worker_status(store) == "busy"


async def test_answer_of_the_very_call_shows_what_it_settled(store, clock):
    ids = []
    for number in range(6):
        ids.append((await store.start_rollout(number, config=RETRY, worker_id=f"w{number}")).rollout_id)
        clock.advance(0.01)
    clock.advance(6)

    assert await status_of(store, ids[0]) == "requeuing"
    assert (await store.get_latest_attempt(ids[1])).status == "timeout"
    assert (await store.query_attempts(ids[2]))[0].status == "timeout"
    page = await store.query_rollouts(status_in=["requeuing"])
    assert [rollout.rollout_id for rollout in page] == ids
    assert {worker.status for worker in await store.query_workers()} == {"unknown"}
    assert await drain(store) == ids


@pytest.mark.parametrize("call", ["query_rollouts", "query_workers", "dequeue_many_rollouts"])
async def test_queries_and_claims_settle_all_that_is_late(store, clock, call):
    config = RolloutConfig(timeout_seconds=5)
    for number in range(30):
        await store.start_rollout(number, config=config, worker_id="w")
    clock.advance(6)

    await getattr(store, call)()

    assert (await store.statistics())["rollouts_by_status"].get("failed") == 30


@only_stores(*CALLED_ONCE)
async def test_other_writes_settle_a_few_of_the_most_overdue(store, clock):
    """A call that is sent again settles a few more."""
    for number in range(14):
        await store.start_rollout(number, config=TIMEOUT, rollout_id=f"r{number}")
        clock.advance(0.01)
    clock.advance(6)

    await store.enqueue_rollout("other")

    assert (await store.statistics())["rollouts_by_status"].get("failed") == 10
    assert (await store.expire_attempts()).transitions[0].rollout_id == "r10"


# -- what a call reports is never settled by it ------------------------------------------------------------------------


async def test_success_that_arrives_late_but_unsettled_counts(store, clock):
    started = await store.start_rollout("task", config=RETRY)
    clock.advance(6)

    await report(store, started, status="succeeded")

    assert await status_of(store, started.rollout_id) == "succeeded"


async def test_span_that_arrives_late_but_unsettled_is_a_sign_of_life(store, clock):
    started = await store.start_rollout("task", config=SILENCE)
    clock.advance(6)

    await store.add_span(span_of(started))

    assert await status_of(store, started.rollout_id) == "running"


async def test_renewal_that_arrives_late_but_unsettled_counts(store, clock):
    started = await store.start_rollout("task", config=SILENCE, worker_id="w")
    clock.advance(6)

    assert await store.renew("w", [(started.rollout_id, started.attempt.attempt_id)]) == ["current"]

    assert await status_of(store, started.rollout_id) == "preparing"


async def test_release_that_arrives_late_but_unsettled_counts(store, clock):
    started = await store.start_rollout("task", config=TIMEOUT)
    clock.advance(6)

    released = await store.release_attempt(started.rollout_id, started.attempt.attempt_id)

    assert released.cause == "released"
    assert await status_of(store, started.rollout_id) == "requeuing"


# -- deadlines follow every write --------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["timeout_seconds", "unresponsive_seconds"])
async def test_new_config_moves_the_deadline(store, clock, field):
    shorter = await store.start_rollout(1)
    longer = await store.start_rollout(2, config=RolloutConfig(**{field: 2}))
    unlimited = await store.start_rollout(3, config=RolloutConfig(**{field: 2}))
    await store.update_rollout(shorter.rollout_id, config=RolloutConfig(**{field: 2}))
    await store.update_rollout(longer.rollout_id, config=RolloutConfig(**{field: 9}))
    await store.update_rollout(unlimited.rollout_id, config=RolloutConfig())
    clock.advance(5)

    ended = [transition.rollout_id for transition in (await store.expire_attempts()).transitions]

    assert ended == [shorter.rollout_id]
    assert (await store.expire_attempts()).next_seconds == pytest.approx(4)


async def test_written_heartbeat_time_moves_the_deadline(store, clock):
    earlier, later = [await store.start_rollout(n, config=SILENCE) for n in range(2)]
    await report(store, later, last_heartbeat_time=clock.now() + 8)
    clock.advance(1)
    await report(store, earlier, last_heartbeat_time=clock.now() - 6)

    assert [t.rollout_id for t in (await store.expire_attempts()).transitions] == [earlier.rollout_id]
    clock.advance(10)
    assert (await store.expire_attempts()).transitions == []
    clock.advance(3)
    assert [t.rollout_id for t in (await store.expire_attempts()).transitions] == [later.rollout_id]


async def test_attempt_set_running_again_is_watched_again(store, clock):
    started = await store.start_rollout("task", config=TIMEOUT)
    await report(store, started, status="unresponsive")
    await store.update_rollout(started.rollout_id, status="running")
    await report(store, started, status="running")
    clock.advance(6)

    assert (await store.get_latest_attempt(started.rollout_id)).status == "timeout"


async def test_revived_attempt_is_watched_again(store, clock):
    started = await store.start_rollout("task", config=RolloutConfig(
        unresponsive_seconds=5, max_attempts=2, retry_condition=["unresponsive"]
    ))  # fmt: skip
    clock.advance(6)
    await store.expire_attempts()
    await store.add_span(span_of(started))
    assert await status_of(store, started.rollout_id) == "running"
    clock.advance(6)

    assert (await store.get_latest_attempt(started.rollout_id)).status == "unresponsive"
    assert await status_of(store, started.rollout_id) == "requeuing"


async def test_new_attempt_has_a_deadline_of_its_own(store, clock):
    started = await store.start_rollout("task", config=TIMEOUT)
    clock.advance(4)
    await store.start_attempt(started.rollout_id)
    clock.advance(4)
    assert await status_of(store, started.rollout_id) == "preparing"
    clock.advance(2)
    assert await status_of(store, started.rollout_id) == "failed"


# -- expire_attempts ---------------------------------------------------------------------------------------------------


async def test_expiry_reports_each_transition_and_how_long_after_its_limit_it_came(store, clock):
    slow = await store.start_rollout(1, config=RETRY, worker_id="w")
    silent = await store.start_rollout(2, config=SILENCE)
    clock.advance(7)

    report = await store.expire_attempts()

    assert [t.model_copy(update={"late_seconds": round(t.late_seconds, 6)}) for t in report.transitions] == [
        Transition(
            rollout_id=slow.rollout_id,
            attempt_id=slow.attempt.attempt_id,
            worker_id="w",
            attempt_status="timeout",
            rollout_status="requeuing",
            cause="timeout",
            late_seconds=2,
        ),
        Transition(
            rollout_id=silent.rollout_id,
            attempt_id=silent.attempt.attempt_id,
            worker_id=None,
            attempt_status="unresponsive",
            rollout_status="failed",
            cause="worker_lost",
            late_seconds=2,
        ),
    ]
    assert (report.more, report.next_seconds) == (False, None)


@only_stores(*CALLED_ONCE)
async def test_expiry_works_in_bounded_batches(store, clock):
    """A call that is sent again goes on to the next batch."""
    for number in range(5):
        await store.start_rollout(number, config=TIMEOUT)
    clock.advance(6)

    reports = [await store.expire_attempts(limit=2) for _ in range(3)]

    assert [len(report.transitions) for report in reports] == [2, 2, 1]
    assert [report.more for report in reports] == [True, True, False]


async def test_expiry_tells_when_to_call_again(store, clock):
    await store.start_rollout(1, config=RolloutConfig(timeout_seconds=9))
    await store.start_rollout(2, config=RolloutConfig(unresponsive_seconds=4))
    clock.advance(1)
    assert (await store.expire_attempts()).next_seconds == pytest.approx(3)

    clock.advance(4)
    assert (await store.expire_attempts()).next_seconds == pytest.approx(4)


async def test_expiry_tells_of_delayed_retries_and_moves_them(store, clock):
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"], retry_delay_seconds=5)
    started = await store.start_rollout(1, config=config)
    await report(store, started, status="failed")
    clock.advance(2)
    assert (await store.expire_attempts()).next_seconds == pytest.approx(3)

    clock.advance(3)
    await store.expire_attempts()

    assert [stats.depth for stats in await store.query_queues()] == [1]
    assert (await store.expire_attempts()).next_seconds is None


@pytest.mark.parametrize("limit", [0, -1])
async def test_expiry_needs_a_limit_of_at_least_one(store, limit):
    with pytest.raises(InvalidRequestError, match="limit"):
        await store.expire_attempts(limit=limit)


async def test_expiry_of_an_empty_store_does_nothing(store):
    report = await store.expire_attempts()
    assert (report.transitions, report.more, report.next_seconds) == ([], False, None)


# -- expire_workers ----------------------------------------------------------------------------------------------------


async def test_silent_workers_are_marked_unknown(store, clock):
    await store.update_worker("beats")
    await store.dequeue_rollout("dequeues")
    started = await store.start_rollout("task", worker_id="works")
    for name in ("silent", "silent too"):
        await store.dequeue_rollout(name)
    await store.start_rollout("task", worker_id="holds")
    clock.advance(8)
    await store.update_worker("beats")
    await store.dequeue_rollout("dequeues")
    await report(store, started, status="running")
    clock.advance(4)

    marked = await store.expire_workers(silent_seconds=10)

    assert sorted(marked) == ["holds", "silent", "silent too"]
    statuses = {worker.worker_id: worker.status for worker in await store.query_workers()}
    assert statuses == {
        "beats": "unknown",
        "dequeues": "idle",
        "works": "busy",
        "silent": "unknown",
        "silent too": "unknown",
        "holds": "unknown",
    }
    assert await store.expire_workers(silent_seconds=10) == []


async def test_silent_worker_keeps_its_attempts(store, clock):
    started = await store.start_rollout("task", worker_id="w")
    clock.advance(12)

    assert await store.expire_workers(silent_seconds=10) == ["w"]

    assert await store.get_rollout_by_id(started.rollout_id) == started


@pytest.mark.parametrize("seconds", [-1, float("nan")])
async def test_silence_of_workers_is_not_negative(store, seconds):
    with pytest.raises(InvalidRequestError, match="silent_seconds"):
        await store.expire_workers(silent_seconds=seconds)


# -- time --------------------------------------------------------------------------------------------------------------


async def test_time_does_not_run_backwards(store, clock):
    first = await store.start_rollout(1)
    clock.advance(-100)

    second = await store.start_rollout(2, worker_id="w")
    third = await store.enqueue_rollout(3)

    assert second.start_time == second.attempt.start_time == third.start_time == first.start_time
    assert (await store.get_worker_by_id("w")).last_busy_time == first.start_time


async def test_grace_extends_silence_once_after_an_outage(store, clock):
    started = await store.start_rollout("task", config=SILENCE)
    clock.advance(60)
    assert (await store.expire_attempts()).transitions == []
    assert await status_of(store, started.rollout_id) == "preparing"

    clock.advance(14)
    assert (await store.expire_attempts()).transitions == []
    clock.advance(2)

    assert [t.attempt_status for t in (await store.expire_attempts()).transitions] == ["unresponsive"]
    assert await status_of(store, started.rollout_id) == "failed"


async def test_grace_is_not_given_twice_for_one_silence(store, clock):
    started = await store.start_rollout("task", config=SILENCE)
    clock.advance(60)
    await store.expire_attempts()
    clock.advance(60)

    await store.expire_attempts()

    assert await status_of(store, started.rollout_id) == "failed"


async def test_heartbeat_after_an_outage_earns_grace_anew(store, clock):
    started = await store.start_rollout("task", config=SILENCE)
    clock.advance(60)
    await store.expire_attempts()
    await store.add_span(span_of(started))
    clock.advance(60)

    assert (await store.expire_attempts()).transitions == []
    assert await status_of(store, started.rollout_id) == "running"


async def test_grace_does_not_extend_timeouts(store, clock):
    started = await store.start_rollout("task", config=TIMEOUT)
    clock.advance(60)

    assert await status_of(store, started.rollout_id) == "failed"


async def test_no_grace_while_the_store_is_in_use(store, clock):
    started = await store.start_rollout("task", config=RolloutConfig(unresponsive_seconds=20))
    for _ in range(3):
        clock.advance(7)
        await store.update_worker("w")

    assert await status_of(store, started.rollout_id) == "failed"


async def test_length_of_the_grace_is_an_option(make_store, clock):
    store = make_store(grace_seconds=2)
    started = await store.start_rollout("task", config=SILENCE)
    clock.advance(6)
    assert (await store.expire_attempts()).transitions == []

    clock.advance(2.5)
    await store.expire_attempts()

    assert await status_of(store, started.rollout_id) == "failed"
