"""The rules of rollouts, attempts and workers as pure functions."""

from itertools import product
from typing import get_args

import pytest

from lightning_store import lifecycle
from lightning_store.lifecycle import NEVER, AttemptState, RolloutState
from lightning_store.records import Attempt, AttemptStatus, Rollout, RolloutConfig, RolloutStatus, Worker
from lightning_store.status import FINISHED, LIVE, QUEUED, STAMPS_END_TIME

NOW = 100.0
EVERY_PAIR = list(product(get_args(AttemptStatus), get_args(RolloutStatus)))


def rollout_in(status: RolloutStatus = "running", *, uncounted: int = 0, losses: int = 0, **config) -> RolloutState:
    record = Rollout(rollout_id="r", input=None, start_time=1.0, status=status, config=RolloutConfig(**config))
    return RolloutState(record, uncounted=uncounted, losses=losses)


def attempt_in(status: AttemptStatus = "running", *, number: int = 1, **fields) -> AttemptState:
    values = {"rollout_id": "r", "attempt_id": f"a{number}", "sequence_id": number, "start_time": 10.0} | fields
    return AttemptState(Attempt(status=status, **values))


def settle(rollout, attempt, now=NOW, resumed_time=None):
    return lifecycle.settle(rollout, attempt, now, resumed_time=resumed_time, grace_seconds=15)


def statuses(step) -> tuple[str, str]:
    return step.rollout.record.status, step.attempt.record.status


# -- deadlines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "fields", "deadline"),
    [
        ({}, {}, NEVER),
        ({"timeout_seconds": 5}, {}, 15),
        ({"unresponsive_seconds": 3}, {}, 13),
        ({"unresponsive_seconds": 3}, {"last_heartbeat_time": 20.0}, 23),
        ({}, {"lease_seconds": 2}, 12),
        ({"unresponsive_seconds": 3}, {"lease_seconds": 2}, 12),
        ({"unresponsive_seconds": 3, "timeout_seconds": 5}, {"last_heartbeat_time": 20.0}, 15),
    ],
)
def test_deadline_is_the_earliest_limit(config, fields, deadline):
    assert lifecycle.deadline_of(rollout_in(**config).record, attempt_in(**fields)) == deadline


def test_grace_moves_silence_but_not_the_time_limit():
    rollout = rollout_in(unresponsive_seconds=3, timeout_seconds=50).record
    graced = attempt_in()._replace(grace_end=40.0)
    assert lifecycle.deadlines_of(rollout, graced) == (60, 40)


@pytest.mark.parametrize("status", sorted(set(get_args(AttemptStatus)) - LIVE))
def test_attempt_that_has_ended_has_no_deadline(status):
    assert lifecycle.deadline_of(rollout_in(timeout_seconds=1).record, attempt_in(status)) == NEVER


def test_nothing_is_late_at_its_deadline():
    assert settle(rollout_in(timeout_seconds=5), attempt_in(), now=15.0).step is None
    assert settle(rollout_in(unresponsive_seconds=5), attempt_in(), now=15.0).step is None


def test_time_limit_comes_before_silence():
    settled = settle(rollout_in(timeout_seconds=5, unresponsive_seconds=3), attempt_in(), now=16.0)
    assert statuses(settled.step) == ("failed", "timeout")
    assert settled.step.attempt.record.end_time == 16.0
    assert settled.late_seconds == 1


def test_silence_ends_without_an_end_time():
    settled = settle(rollout_in(unresponsive_seconds=3), attempt_in(), now=16.0)
    ended = settled.step.attempt.record
    assert (ended.status, ended.cause, ended.end_time) == ("unresponsive", "worker_lost", None)
    assert settled.late_seconds == 3


def test_silence_that_ends_soon_after_an_outage_is_extended_once():
    rollout, attempt = rollout_in(unresponsive_seconds=3), attempt_in()
    first = settle(rollout, attempt, now=50.0, resumed_time=50.0)
    assert (first.step, first.attempt.grace_end) == (None, 65.0)
    assert settle(rollout, first.attempt, now=65.0, resumed_time=50.0).step is None
    second = settle(rollout, first.attempt, now=66.0, resumed_time=50.0)
    assert statuses(second.step) == ("failed", "unresponsive")
    assert second.late_seconds == 1


def test_grace_that_is_over_already_forgives_nothing():
    settled = settle(rollout_in(unresponsive_seconds=3), attempt_in(), now=80.0, resumed_time=50.0)
    assert statuses(settled.step) == ("failed", "unresponsive")
    assert settled.late_seconds == 15


def test_silence_long_after_an_outage_is_not_extended():
    settled = settle(rollout_in(unresponsive_seconds=60), attempt_in(), now=71.0, resumed_time=50.0)
    assert settled.step is not None


@pytest.mark.parametrize("status", sorted(FINISHED | QUEUED))
def test_settling_leaves_a_rollout_alone_that_is_not_active(status):
    settled = settle(rollout_in(status, timeout_seconds=1, max_attempts=5, retry_condition=["timeout"]), attempt_in())
    assert statuses(settled.step) == (status, "timeout")


# -- ends and retries --------------------------------------------------------------------------------------------------


def report(rollout, attempt, *, is_latest=True, **changes):
    return lifecycle.update_attempt(rollout, attempt, changes, NOW, is_latest=is_latest)


@pytest.mark.parametrize(("status", "before"), EVERY_PAIR)
def test_report_on_the_latest_attempt_moves_an_unfinished_rollout(status, before):
    step = report(rollout_in(before), attempt_in(), status=status)
    expected = {"unresponsive": "failed", "timeout": "failed"}.get(status, status)
    assert step.rollout.record.status == (before if before in FINISHED else expected)


@pytest.mark.parametrize("status", get_args(AttemptStatus))
def test_report_on_an_older_attempt_leaves_the_rollout_alone(status):
    assert (
        report(rollout_in("running"), attempt_in(), is_latest=False, status=status).rollout.record.status == "running"
    )


@pytest.mark.parametrize("status", get_args(AttemptStatus))
def test_end_time_is_stamped_by_ends_and_again_when_repeated(status):
    step = report(rollout_in(), attempt_in(status, end_time=5.0), status=status)
    assert step.attempt.record.end_time == (NOW if status in STAMPS_END_TIME else 5.0)


@pytest.mark.parametrize("end", ["failed", "timeout", "unresponsive"])
@pytest.mark.parametrize(
    ("number", "listed", "expected"), [(1, True, "requeuing"), (2, True, "failed"), (1, False, "failed")]
)
def test_retry_needs_a_listed_end_and_a_try_left(end, number, listed, expected):
    rollout = rollout_in(max_attempts=2, retry_condition=[end] if listed else [])
    assert report(rollout, attempt_in(number=number), status=end).rollout.record.status == expected


def test_finished_rollout_gets_its_end_time_and_a_reopened_one_loses_it():
    done = report(rollout_in(), attempt_in(), status="succeeded").rollout
    assert done.record.end_time == NOW
    reopened = lifecycle.update_rollout(done, None, {"status": "queuing"}, NOW, "updated")
    assert reopened.rollout.record.end_time is None


def test_failure_of_a_cancelled_rollout_has_the_cause_cancelled():
    assert report(rollout_in("cancelled"), attempt_in(), status="failed").attempt.record.cause == "cancelled"
    assert report(rollout_in("cancelled"), attempt_in(), status="succeeded").attempt.record.cause == "agent"


def test_live_status_clears_the_cause():
    assert report(rollout_in(), attempt_in("failed", cause="agent"), status="running").attempt.record.cause is None


def test_update_without_status_still_moves_the_rollout():
    step = report(rollout_in("queuing"), attempt_in("running"), metadata={})
    assert (step.rollout.record.status, step.cause) == ("running", "updated")


def test_update_that_changes_no_status_is_no_event():
    assert report(rollout_in("running"), attempt_in("running"), worker_id="w").cause is None


def test_heartbeat_time_that_is_written_ends_a_grace():
    step = report(rollout_in(), attempt_in()._replace(grace_end=50.0), last_heartbeat_time=20.0)
    assert step.attempt.grace_end is None


def test_lost_worker_does_not_count_up_to_the_limit():
    rollout = rollout_in(unresponsive_seconds=3, max_worker_losses=1)
    first = settle(rollout, attempt_in()).step
    assert (first.rollout.record.status, first.rollout.losses, first.rollout.uncounted) == ("requeuing", 1, 1)

    second = settle(first.rollout._replace(record=rollout.record), attempt_in(number=2)).step
    assert (second.rollout.record.status, second.rollout.losses) == ("failed", 1)


def test_losses_count_when_no_limit_is_set():
    assert settle(rollout_in(unresponsive_seconds=3), attempt_in()).step.rollout.uncounted == 0


def test_uncounted_attempts_leave_their_tries():
    rollout = rollout_in(max_attempts=1, retry_condition=["failed"], uncounted=1)
    assert report(rollout, attempt_in(number=2), status="failed").rollout.record.status == "failed"
    assert (
        report(rollout._replace(uncounted=2), attempt_in(number=2), status="failed").rollout.record.status
        == "requeuing"
    )


def test_late_report_of_a_lost_attempt_counts_it_again():
    lost = settle(rollout_in(unresponsive_seconds=3, max_worker_losses=1), attempt_in()).step
    step = report(lost.rollout, lost.attempt, status="failed")
    assert (step.rollout.uncounted, step.rollout.losses, step.attempt.uncounted) == (0, 0, None)
    assert step.rollout.record.status == "failed"


def test_loss_that_is_reported_again_stays_uncounted():
    lost = settle(rollout_in(unresponsive_seconds=3, max_worker_losses=1), attempt_in()).step
    again = report(lost.rollout, lost.attempt, status="unresponsive")
    assert (again.rollout.losses, again.attempt.uncounted) == (1, "lost")


# -- release -----------------------------------------------------------------------------------------------------------


def test_release_requeues_at_the_head_without_counting():
    step = lifecycle.release(rollout_in(), attempt_in(), NOW, is_latest=True)
    assert statuses(step) == ("requeuing", "failed")
    assert (step.attempt.record.cause, step.attempt.record.end_time) == ("released", NOW)
    assert (step.to_head, step.rollout.uncounted, step.rollout.losses) == (True, 1, 0)


@pytest.mark.parametrize(
    ("rollout", "attempt", "is_latest"),
    [("running", "running", False), ("running", "succeeded", True), ("cancelled", "running", True)],
)
def test_release_without_effect(rollout, attempt, is_latest):
    assert lifecycle.release(rollout_in(rollout), attempt_in(attempt), NOW, is_latest=is_latest) is None


# -- signs of life -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "before"), EVERY_PAIR)
def test_span_of_the_latest_attempt(status, before):
    step = lifecycle.add_span(rollout_in(before), attempt_in(status), NOW, is_latest=True)
    runs = status in {"preparing", "running", "unresponsive"}
    assert step.attempt.record.status == ("running" if runs else status)
    assert step.attempt.record.last_heartbeat_time == NOW
    assert step.rollout.record.status == ("running" if runs and before not in FINISHED else before)


def test_span_of_an_older_attempt_leaves_the_rollout_alone():
    step = lifecycle.add_span(rollout_in("requeuing"), attempt_in("unresponsive"), NOW, is_latest=False)
    assert statuses(step) == ("requeuing", "running")


def test_revival_counts_the_attempt_again():
    lost = settle(rollout_in(unresponsive_seconds=3, max_worker_losses=1), attempt_in()).step
    step = lifecycle.add_span(lost.rollout, lost.attempt, NOW, is_latest=True)
    assert (step.rollout.losses, step.rollout.uncounted, step.attempt.record.cause) == (0, 0, None)


def test_second_span_is_no_event():
    assert lifecycle.add_span(rollout_in(), attempt_in(), NOW, is_latest=True).cause is None


@pytest.mark.parametrize(
    ("rollout", "attempt", "fields", "is_latest", "expected"),
    [
        ("running", "running", {}, True, "current"),
        ("preparing", "preparing", {}, True, "current"),
        ("running", "running", {}, False, "replaced"),
        ("running", "running", {"worker_id": "other"}, True, "replaced"),
        ("running", "running", {"worker_id": ""}, True, "current"),
        ("cancelled", "running", {}, True, "cancelled"),
        ("succeeded", "running", {}, True, "finished"),
        ("requeuing", "unresponsive", {}, True, "revived"),
        ("running", "unresponsive", {}, True, "finished"),
        ("requeuing", "failed", {}, True, "finished"),
    ],
)
def test_renewal(rollout, attempt, fields, is_latest, expected):
    state, step = lifecycle.renew(
        rollout_in(rollout), attempt_in(attempt, **fields), NOW, is_latest=is_latest, worker_id="w"
    )
    assert state == expected
    assert (step is None) == (expected not in {"current", "revived"})
    if step is not None:
        assert step.attempt.record.last_heartbeat_time == NOW
        assert statuses(step) == (("running", "running") if state == "revived" else (rollout, attempt))


# -- workers -----------------------------------------------------------------------------------------------------------


def worker(**fields) -> Worker:
    return Worker(worker_id="w", heartbeat_stats={"n": 1}, **fields)


@pytest.mark.parametrize(
    ("status", "expected"),
    [("preparing", "busy"), ("running", "busy"), ("succeeded", "idle"), ("failed", "idle"), ("timeout", "unknown"),
     ("unresponsive", "unknown")],
)  # fmt: skip
def test_worker_follows_its_attempt(status, expected):
    after = lifecycle.worker_after_attempt(worker(), attempt_in(status).record, NOW)
    held = ("r", "a1") if expected == "busy" else (None, None)
    assert (after.status, (after.current_rollout_id, after.current_attempt_id)) == (expected, held)
    assert (after.last_busy_time, after.last_idle_time) == ((NOW, None) if expected == "busy" else (None, NOW))
    assert after.heartbeat_stats == {"n": 1}


def test_empty_claim_makes_a_worker_idle_once():
    idle = lifecycle.worker_after_claim(worker(status="unknown"), None, NOW)
    assert (idle.status, idle.last_idle_time, idle.last_dequeue_time) == ("idle", NOW, NOW)
    later = lifecycle.worker_after_claim(idle, None, NOW + 1)
    assert (later.last_idle_time, later.last_dequeue_time) == (NOW, NOW + 1)


def test_deleting_a_live_attempt_frees_its_worker_only():
    holder = worker(status="busy", current_rollout_id="r", current_attempt_id="a1")
    assert lifecycle.worker_after_deletion(holder, attempt_in().record, NOW).status == "unknown"
    assert lifecycle.worker_after_deletion(holder, attempt_in(number=2).record, NOW) is holder
    assert lifecycle.worker_after_deletion(holder, attempt_in("failed").record, NOW) is holder


@pytest.mark.parametrize("sign", ["last_heartbeat_time", "last_dequeue_time", "last_busy_time", "last_idle_time"])
def test_any_sign_keeps_a_worker_known(sign):
    assert not lifecycle.is_silent(worker(status="busy", **{sign: NOW - 5}), NOW, 5)
    assert lifecycle.is_silent(worker(status="busy", **{sign: NOW - 6}), NOW, 5)
    assert not lifecycle.is_silent(worker(status="unknown", **{sign: NOW - 6}), NOW, 5)


def test_rules_do_not_change_the_records_they_are_given():
    rollout, attempt = rollout_in(max_attempts=2, retry_condition=["failed"]), attempt_in()
    before = rollout.record.model_dump(), attempt.record.model_dump()
    report(rollout, attempt, status="failed")
    lifecycle.add_span(rollout, attempt, NOW, is_latest=True)
    lifecycle.release(rollout, attempt, NOW, is_latest=True)
    assert (rollout.record.model_dump(), attempt.record.model_dump()) == before
