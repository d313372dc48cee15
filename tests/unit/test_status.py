"""The status machine's tables."""

from typing import get_args

import pytest

from lightning_store import status
from lightning_store.records import AttemptCause, AttemptStatus, RolloutStatus, WorkerStatus

ATTEMPT_STATUSES = set(get_args(AttemptStatus))
ROLLOUT_STATUSES = set(get_args(RolloutStatus))


@pytest.mark.parametrize(
    ("table", "keys", "values"),
    [
        (status.ROLLOUT_AFTER_ATTEMPT, ATTEMPT_STATUSES, ROLLOUT_STATUSES),
        (status.ATTEMPT_AFTER_SPAN, ATTEMPT_STATUSES, ATTEMPT_STATUSES),
        (status.ROLLOUT_AFTER_SPAN, ROLLOUT_STATUSES, ROLLOUT_STATUSES),
        (status.WORKER_AFTER_ATTEMPT, ATTEMPT_STATUSES, set(get_args(WorkerStatus))),
        (status.CAUSE_OF_END, ATTEMPT_STATUSES, {None, *get_args(AttemptCause)}),
    ],
)
def test_tables_cover_every_member(table, keys, values):
    assert set(table) == keys
    assert set(table.values()) <= values


def test_queued_active_and_finished_divide_the_rollout_statuses():
    sets = [status.QUEUED, status.ACTIVE, status.FINISHED]
    assert set().union(*sets) == ROLLOUT_STATUSES
    assert sum(len(members) for members in sets) == len(ROLLOUT_STATUSES)


def test_live_and_ended_divide_the_attempt_statuses():
    assert status.LIVE | status.RETRYABLE | {"succeeded"} == ATTEMPT_STATUSES
    assert not status.LIVE & status.RETRYABLE


def test_live_attempts_have_no_cause_and_no_end():
    for live in status.LIVE:
        assert status.CAUSE_OF_END[live] is None
        assert live not in status.STAMPS_END_TIME


def test_end_of_an_attempt_that_can_be_revived_is_not_stamped():
    revived = {before for before, after in status.ATTEMPT_AFTER_SPAN.items() if before != after}
    assert not revived & status.STAMPS_END_TIME


def test_retryable_ends_fail_a_rollout_without_tries():
    assert {status.ROLLOUT_AFTER_ATTEMPT[end] for end in status.RETRYABLE} == {"failed"}
    assert status.RETRY_STATUS in status.QUEUED


def test_lua_rendering_names_every_member():
    text = status.render_lua()
    for member in ATTEMPT_STATUSES | ROLLOUT_STATUSES:
        assert member in text


def test_readme_table_has_a_row_per_attempt_status():
    rows = status.render_markdown().splitlines()
    assert [row.split("`")[1] for row in rows[2:]] == list(get_args(AttemptStatus))
