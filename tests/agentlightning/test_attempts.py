"""Contract, sections 2.3 and 3.4: attempts, over upstream's store and ours."""

import agentlightning as al
import pytest
from agentlightning.types import PaginatedResult

from tests.agentlightning.support.making import ours_only, span_of


async def test_attempts_of_a_rollout(store):
    started = await store.start_rollout(1)
    await store.start_attempt(started.rollout_id)
    page = await store.query_attempts(started.rollout_id)
    assert type(page) is PaginatedResult
    assert [(type(item), item.sequence_id) for item in page] == [(al.Attempt, 1), (al.Attempt, 2)]
    newest = await store.query_attempts(started.rollout_id, sort_order="desc", limit=1)
    assert ([item.sequence_id for item in newest], newest.total) == ([2], 2)
    latest = await store.get_latest_attempt(started.rollout_id)
    assert type(latest) is al.Attempt
    assert latest == newest[0]


async def test_attempts_of_an_unknown_rollout(store):
    assert list(await store.query_attempts("ro-unknown")) == []
    assert await store.get_latest_attempt("ro-unknown") is None
    waiting = await store.enqueue_rollout(1)
    assert list(await store.query_attempts(waiting.rollout_id)) == []
    assert await store.get_latest_attempt(waiting.rollout_id) is None


@pytest.mark.parametrize(
    ("attempt", "rollout", "ended"),
    [("preparing", "preparing", False), ("running", "running", False), ("succeeded", "succeeded", True),
     ("failed", "failed", True), ("timeout", "failed", None), ("unresponsive", "failed", False)],
)  # fmt: skip
async def test_latest_attempt_moves_its_rollout(store, attempt, rollout, ended):
    started = await store.start_rollout(1)
    updated = await store.update_attempt(started.rollout_id, started.attempt.attempt_id, status=attempt)
    assert type(updated) is al.Attempt
    assert updated.status == attempt
    if ended is not None:  # upstream says of `timeout` one thing in its documentation and does another
        assert (updated.end_time is not None) is ended
    read = await store.get_rollout_by_id(started.rollout_id)
    assert read.status == rollout
    assert (read.end_time is not None) is (rollout in {"succeeded", "failed"})


async def test_update_replaces_what_is_given(store):
    started = await store.start_rollout(1)
    await store.update_attempt(started.rollout_id, "latest", metadata={"a": 1}, worker_id="worker")
    updated = await store.update_attempt(started.rollout_id, "latest", last_heartbeat_time=123.5)
    assert (updated.metadata, updated.worker_id, updated.last_heartbeat_time) == ({"a": 1}, "worker", 123.5)
    assert (await store.update_attempt(started.rollout_id, "latest", worker_id="")).worker_id == ""
    assert [worker.worker_id for worker in await store.query_workers()] == ["worker"]


async def test_older_attempt_leaves_the_rollout_alone(store):
    started = await store.start_rollout(1)
    await store.start_attempt(started.rollout_id)
    await store.update_attempt(started.rollout_id, started.attempt.attempt_id, status="succeeded")
    assert (await store.get_rollout_by_id(started.rollout_id)).status == "preparing"


async def test_errors_come_in_order(store):
    with pytest.raises(ValueError):  # noqa: PT011 - all that the contract says
        await store.update_attempt("ro-unknown", "latest", status="running")
    waiting = await store.enqueue_rollout(1)
    with pytest.raises(ValueError, match="No attempts found"):
        await store.update_attempt(waiting.rollout_id, "latest", status="running")
    await store.dequeue_rollout()
    with pytest.raises(ValueError):  # noqa: PT011
        await store.update_attempt(waiting.rollout_id, "at-unknown", status="running")
    with pytest.raises(ValueError):  # noqa: PT011
        await store.update_attempt(waiting.rollout_id, "latest", status="done")


@ours_only
async def test_report_after_the_end_is_kept_on_the_attempt(store):
    """Upstream lets any later report replace a rollout's end, cancellation included."""
    started = await store.start_rollout(1)
    await store.update_rollout(started.rollout_id, status="cancelled")
    assert (await store.update_attempt(started.rollout_id, "latest", status="succeeded")).status == "succeeded"
    assert (await store.get_rollout_by_id(started.rollout_id)).status == "cancelled"


async def test_signs_of_life(store):
    started = await store.start_rollout(1)
    await store.add_span(span_of(started))
    attempt = await store.get_latest_attempt(started.rollout_id)
    assert attempt.status == "running"
    assert attempt.last_heartbeat_time >= started.start_time
    assert (await store.get_rollout_by_id(started.rollout_id)).status == "running"
    await store.update_attempt(started.rollout_id, "latest", status="succeeded")
    await store.add_span(span_of(started, "c" * 16))
    assert (await store.get_latest_attempt(started.rollout_id)).status == "succeeded"
    assert (await store.get_rollout_by_id(started.rollout_id)).status == "succeeded"
