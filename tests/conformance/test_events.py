"""The log of transitions: `query_events` of the contract, the event stream of the architecture."""

import pytest

from lightning_store.errors import InvalidRequestError
from lightning_store.records import RolloutConfig, RolloutEvent
from tests.support.factories import claim, requests_for, span_of

RETRY = RolloutConfig(max_attempts=3, retry_condition=["failed", "timeout", "unresponsive"], timeout_seconds=5)


async def log(store, **options):
    events = await store.query_events(**options)
    return [(event.cause, event.status, event.attempt_status) for event in events]


async def test_event_tells_what_changed_when_and_why(store, clock):
    await store.enqueue_rollout("task", rollout_id="r")
    clock.advance(2)
    claimed = await claim(store)

    assert await store.query_events() == [
        RolloutEvent(time=clock.now() - 2, rollout_id="r", attempt_id=None, status="queuing", cause="enqueued"),
        RolloutEvent(
            time=clock.now(),
            rollout_id="r",
            attempt_id=claimed.attempt.attempt_id,
            status="preparing",
            attempt_status="preparing",
            cause="claimed",
        ),
    ]


async def test_life_of_a_rollout_is_told_in_order(store):
    await store.enqueue_rollout("task", rollout_id="r", config=RETRY)
    first = await claim(store)
    await store.add_span(span_of(first))
    await store.update_attempt("r", "latest", status="failed")
    second = await claim(store)
    await store.update_attempt("r", "latest", status="running")
    await store.update_attempt("r", second.attempt.attempt_id, status="succeeded")

    assert await log(store) == [
        ("enqueued", "queuing", None),
        ("claimed", "preparing", "preparing"),
        ("span", "running", "running"),
        ("agent", "requeuing", "failed"),
        ("claimed", "preparing", "preparing"),
        ("updated", "running", "running"),
        ("agent", "succeeded", "succeeded"),
    ]


async def test_starts_are_events(store):
    await store.start_rollout("task", rollout_id="r")
    await store.start_attempt("r")

    assert await log(store) == [("started", "preparing", "preparing")] * 2


async def test_watchdog_and_release_and_revival_are_events(store, clock):
    started = await store.start_rollout("task", rollout_id="r", config=RETRY, lease_seconds=3, worker_id="w")
    pair = ("r", started.attempt.attempt_id)
    clock.advance(4)
    await store.expire_attempts()
    await store.renew("w", [pair])
    clock.advance(2)
    await store.expire_attempts()
    second = await claim(store)
    await store.release_attempt("r", second.attempt.attempt_id)

    assert (await log(store))[1:] == [
        ("worker_lost", "requeuing", "unresponsive"),
        ("renewed", "running", "running"),
        ("timeout", "requeuing", "timeout"),
        ("claimed", "preparing", "preparing"),
        ("released", "requeuing", "failed"),
    ]


async def test_status_by_hand_and_cancellation_are_events(store):
    started = await store.start_rollout("task", rollout_id="r")
    await store.update_rollout("r", status="running")
    await store.cancel_rollouts(["r"])
    await store.update_attempt("r", started.attempt.attempt_id, status="failed")

    assert (await log(store))[1:] == [
        ("updated", "running", "preparing"),
        ("cancelled", "cancelled", "preparing"),
        ("cancelled", "cancelled", "failed"),
    ]


async def test_what_changes_no_status_is_no_event(store, clock):
    started = await store.start_rollout("task", rollout_id="r", worker_id="w")
    await store.add_span(span_of(started, span_id="s"))
    before = await store.query_events()
    clock.advance(1)

    await store.add_span(span_of(started))
    await store.add_span(span_of(started, span_id="s"))
    await store.update_attempt("r", "latest", metadata={"a": 1}, last_heartbeat_time=1.0)
    await store.update_attempt("r", "latest", status="running")
    await store.update_rollout("r", mode="val", status="running")
    await store.renew("w", [("r", started.attempt.attempt_id)])
    await store.update_worker("w")
    await store.expire_attempts()
    await store.cancel_rollouts(["other"])

    assert await store.query_events() == before


async def test_report_on_a_finished_rollout_is_an_event_of_its_attempt(store):
    await store.start_rollout("task", rollout_id="r")
    await store.update_rollout("r", status="succeeded")
    await store.update_attempt("r", "latest", status="succeeded")

    assert (await log(store))[1:] == [("updated", "succeeded", "preparing"), ("agent", "succeeded", "succeeded")]


async def test_events_of_older_attempts_name_them(store):
    first = await store.start_rollout("task", rollout_id="r")
    second = await store.start_attempt("r")
    await store.update_attempt("r", first.attempt.attempt_id, status="failed")

    last = (await store.query_events())[-1]

    assert (last.attempt_id, last.attempt_status, last.status) == (first.attempt.attempt_id, "failed", "preparing")
    assert second.attempt.attempt_id != last.attempt_id


async def test_events_of_one_rollout(store):
    for name in ("a", "b"):
        await store.enqueue_rollout(1, rollout_id=name)
    await claim(store)
    await store.cancel_rollouts(["b"])

    assert await log(store, rollout_id="a") == [("enqueued", "queuing", None), ("claimed", "preparing", "preparing")]
    assert await log(store, rollout_id="b") == [("enqueued", "queuing", None), ("cancelled", "cancelled", None)]
    assert await log(store, rollout_id="unknown") == []


async def test_limit_gives_the_latest_events_oldest_first(store):
    await store.enqueue_many_rollouts(requests_for(range(5)))
    everything = await store.query_events(limit=-1)

    assert len(everything) == 5
    assert [event.cause for event in everything] == ["enqueued"] * 5
    assert await store.query_events(limit=2) == everything[-2:]
    assert await store.query_events(limit=0) == []
    assert await store.query_events(limit=100) == everything
    rollout_id = everything[1].rollout_id
    assert await store.query_events(rollout_id=rollout_id, limit=1) == [everything[1]]


async def test_a_hundred_events_by_default(store):
    await store.enqueue_many_rollouts(requests_for(range(120)))

    assert len(await store.query_events()) == 100
    assert len(await store.query_events(limit=-1)) == 120


async def test_limit_below_minus_one_is_refused(store):
    with pytest.raises(InvalidRequestError, match="limit"):
        await store.query_events(limit=-2)
