"""Leases, renewing and handing back: rules 11, 12, 16 and 22, and the extensions of decisions.md."""

import pytest

from lightning_store.errors import AttemptNotFoundError, RolloutNotFoundError
from lightning_store.records import RolloutConfig, Worker
from tests.support.factories import attempt_of, claim, drain, requests_for, span_of, status_of

RETRY = RolloutConfig(max_attempts=2, retry_condition=["unresponsive", "failed", "timeout"])


def pair(rollout):
    return rollout.rollout_id, rollout.attempt.attempt_id


async def renew(store, *rollouts, worker_id="w", **options):
    return await store.renew(worker_id, [pair(rollout) for rollout in rollouts], **options)


async def lose(store, clock, rollout):
    """Let the lease of an attempt run out."""
    clock.advance(6)
    await store.expire_attempts()
    assert (await attempt_of(store, rollout.rollout_id, rollout.attempt.sequence_id)).status == "unresponsive"


async def leased(store, **options):
    """A started rollout, held by worker w with a lease of 5 s."""
    return await store.start_rollout("task", **({"worker_id": "w", "lease_seconds": 5, "config": RETRY} | options))


# -- leases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["start_rollout", "start_attempt", "dequeue_rollout", "dequeue_many_rollouts"])
async def test_lease_ends_an_attempt_that_its_worker_left(store, clock, call):
    queued = await store.enqueue_rollout("task", config=RETRY)
    if call == "start_rollout":
        held = await store.start_rollout("task", config=RETRY, lease_seconds=5)
    elif call == "start_attempt":
        held = await store.start_attempt(queued.rollout_id, lease_seconds=5)
    elif call == "dequeue_rollout":
        held = await store.dequeue_rollout(lease_seconds=5)
    else:
        held = (await store.dequeue_many_rollouts(limit=3, lease_seconds=5))[0]
    assert held.attempt.lease_seconds == 5
    clock.advance(5)
    assert (await store.get_latest_attempt(held.rollout_id)).status == "preparing"

    clock.advance(0.5)

    rollout = await store.get_rollout_by_id(held.rollout_id)
    assert (rollout.attempt.status, rollout.attempt.cause) == ("unresponsive", "worker_lost")
    assert rollout.status == "requeuing"


async def test_lease_belongs_to_one_attempt(store, clock):
    held = await leased(store)
    await lose(store, clock, held)

    second = await claim(store)

    assert second.attempt.lease_seconds is None
    clock.advance(14)
    assert (await store.get_latest_attempt(held.rollout_id)).status == "preparing"


@pytest.mark.parametrize(("unresponsive", "lease"), [(3, 8), (8, 3)])
async def test_shorter_of_lease_and_silence_counts(store, clock, unresponsive, lease):
    config = RolloutConfig(unresponsive_seconds=unresponsive)
    held = await leased(store, config=config, lease_seconds=lease)
    clock.advance(3)
    assert (await store.get_latest_attempt(held.rollout_id)).status == "preparing"
    clock.advance(1)
    assert (await store.get_latest_attempt(held.rollout_id)).status == "unresponsive"


@pytest.mark.parametrize("sign", ["span", "renew", "written"])
async def test_signs_of_life_extend_the_lease(store, clock, sign):
    held = await leased(store)
    for _ in range(3):
        clock.advance(4)
        if sign == "span":
            await store.add_span(span_of(held))
        elif sign == "renew":
            assert await renew(store, held) == ["current"]
        else:
            await store.update_attempt(*pair(held), last_heartbeat_time=clock.now())
    clock.advance(4)

    assert (await store.get_latest_attempt(held.rollout_id)).status in {"preparing", "running"}


async def test_lease_does_not_extend_the_time_limit(store, clock):
    held = await leased(store, config=RolloutConfig(timeout_seconds=6))
    for _ in range(2):
        clock.advance(4)
        await renew(store, held)

    assert (await store.get_latest_attempt(held.rollout_id)).status == "timeout"


# -- renew -------------------------------------------------------------------------------------------------------------


async def test_renewal_is_a_heartbeat_of_worker_and_attempt(store, clock):
    held = await leased(store)
    before = await store.get_worker_by_id("w")
    clock.advance(2)

    assert await renew(store, held, stats={"load": 0.5}) == ["current"]

    attempt = await store.get_latest_attempt(held.rollout_id)
    assert attempt == held.attempt.model_copy(update={"last_heartbeat_time": clock.now()})
    assert await store.get_worker_by_id("w") == before.model_copy(
        update={"last_heartbeat_time": clock.now(), "heartbeat_stats": {"load": 0.5}}
    )


async def test_renewal_never_turns_preparing_into_running(store):
    held = await leased(store)
    await renew(store, held)
    assert await store.get_rollout_by_id(held.rollout_id) == held.model_copy(
        update={"attempt": await store.get_latest_attempt(held.rollout_id)}
    )
    assert (await store.get_latest_attempt(held.rollout_id)).status == "preparing"

    await store.add_span(span_of(held))
    await renew(store, held)
    assert (await store.get_latest_attempt(held.rollout_id)).status == "running"


async def test_renewal_without_attempts_is_a_heartbeat_of_the_worker(store, clock):
    assert await store.renew("w", []) == []
    assert await store.get_worker_by_id("w") == Worker(worker_id="w", last_heartbeat_time=clock.now())

    await store.renew("w", [], {"a": 1})
    await store.renew("w", [])
    assert (await store.get_worker_by_id("w")).heartbeat_stats == {"a": 1}


async def test_renewal_answers_for_each_attempt_in_the_order_given(store, clock):
    revived = await leased(store)
    await lose(store, clock, revived)
    current, cancelled, finished, replaced = [await leased(store, lease_seconds=60) for _ in range(4)]
    await store.cancel_rollouts([cancelled.rollout_id])
    await store.update_attempt(*pair(finished), status="succeeded")
    await store.start_attempt(replaced.rollout_id)
    unknown = [("ro-unknown", "at-1"), (current.rollout_id, "at-unknown"), (current.rollout_id, "latest")]

    states = await store.renew(
        "w", [*unknown, *(pair(r) for r in (replaced, finished, current, cancelled, revived, current))]
    )

    assert isinstance(states, list)
    assert states == [
        "unknown", "unknown", "unknown", "replaced", "finished", "current", "cancelled", "revived", "current"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "state"), [("succeeded", "finished"), ("failed", "finished"), ("cancelled", "cancelled")]
)
async def test_renewal_on_a_finished_rollout_writes_nothing(store, clock, status, state):
    held = await leased(store)
    await store.update_rollout(held.rollout_id, status=status)
    before = await store.get_rollout_by_id(held.rollout_id)
    clock.advance(1)

    assert await renew(store, held) == [state]

    assert await store.get_rollout_by_id(held.rollout_id) == before


async def test_renewal_by_another_worker_writes_nothing(store, clock):
    held = await leased(store)
    clock.advance(1)

    assert await renew(store, held, worker_id="other") == ["replaced"]

    assert await store.get_rollout_by_id(held.rollout_id) == held


@pytest.mark.parametrize("worker_id", [None, ""])
async def test_attempt_without_a_worker_is_renewed_by_any(store, clock, worker_id):
    held = await leased(store, worker_id=None)
    if worker_id is not None:
        await store.update_attempt(*pair(held), worker_id=worker_id)
    clock.advance(1)

    assert await renew(store, held) == ["current"]

    attempt = await store.get_latest_attempt(held.rollout_id)
    assert (attempt.last_heartbeat_time, attempt.worker_id) == (clock.now(), worker_id)


async def test_renewal_of_a_replaced_attempt_writes_nothing(store, clock):
    held = await leased(store)
    await lose(store, clock, held)
    second = await claim(store, "w")
    before = await attempt_of(store, held.rollout_id, 1)

    assert await renew(store, held, second) == ["replaced", "current"]

    assert await attempt_of(store, held.rollout_id, 1) == before


async def test_renewal_revives_an_unresponsive_attempt_that_was_not_claimed_again(store, clock):
    held = await leased(store)
    await lose(store, clock, held)
    assert await status_of(store, held.rollout_id) == "requeuing"

    assert await renew(store, held) == ["revived"]

    rollout = await store.get_rollout_by_id(held.rollout_id)
    assert (rollout.status, rollout.attempt.status, rollout.attempt.cause) == ("running", "running", None)
    assert rollout.attempt.last_heartbeat_time == clock.now()
    assert await drain(store) == []
    clock.advance(6)
    assert (await store.get_latest_attempt(held.rollout_id)).status == "unresponsive"


@pytest.mark.parametrize("status", ["failed", "timeout", "succeeded"])
async def test_renewal_of_an_attempt_that_ended_otherwise_writes_nothing(store, clock, status):
    held = await leased(store)
    await store.update_attempt(*pair(held), status=status)
    before = await store.get_rollout_by_id(held.rollout_id)
    clock.advance(1)

    assert await renew(store, held) == ["finished"]

    assert await store.get_rollout_by_id(held.rollout_id) == before
    assert await drain(store) == ([] if status == "succeeded" else [held.rollout_id])


async def test_renewal_does_not_revive_what_does_not_wait(store):
    held = await leased(store)
    await store.update_attempt(*pair(held), status="unresponsive")
    await store.update_rollout(held.rollout_id, status="running")

    assert await renew(store, held) == ["finished"]

    assert (await store.get_latest_attempt(held.rollout_id)).status == "unresponsive"


async def test_renewal_after_a_deletion_is_unknown(store):
    held = await leased(store)
    await store.cancel_rollouts([held.rollout_id])
    await store.delete_rollouts([held.rollout_id])

    assert await renew(store, held) == ["unknown"]


# -- release -----------------------------------------------------------------------------------------------------------


async def test_released_rollout_goes_to_the_head_of_its_queue(store, clock):
    ids = [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(requests_for(range(3)))]
    held = await claim(store, "w")
    clock.advance(2)

    released = await store.release_attempt(*pair(held))

    assert (released.status, released.cause, released.end_time) == ("failed", "released", clock.now())
    assert await store.get_latest_attempt(held.rollout_id) == released
    rollout = await store.get_rollout_by_id(held.rollout_id)
    assert (rollout.status, rollout.end_time) == ("requeuing", None)
    assert await drain(store) == ids


async def test_release_frees_the_worker(store, clock):
    held = await leased(store)
    clock.advance(1)

    await store.release_attempt(*pair(held))

    worker = await store.get_worker_by_id("w")
    assert (worker.status, worker.current_rollout_id, worker.last_idle_time) == ("idle", None, clock.now())


async def test_release_does_not_count_as_an_attempt(store):
    held = await leased(store, config=RolloutConfig(max_attempts=1))
    for number in (1, 2, 3):
        assert held.attempt.sequence_id == number
        await store.release_attempt(*pair(held))
        held = await claim(store)

    await store.update_attempt(*pair(held), status="failed")

    assert await status_of(store, held.rollout_id) == "failed"


async def test_release_leaves_the_tries_that_were_left(store):
    held = await leased(store, config=RETRY)
    await store.release_attempt(*pair(held))
    for expected in ("requeuing", "failed"):
        held = await claim(store)
        await store.update_attempt(*pair(held), status="failed")
        assert await status_of(store, held.rollout_id) == expected


async def test_release_takes_no_notice_of_the_delay_of_retries(store):
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"], retry_delay_seconds=30)
    held = await leased(store, config=config)

    await store.release_attempt(*pair(held))

    assert await drain(store) == [held.rollout_id]


async def test_released_rollout_that_waits_already_moves_to_the_head(store):
    held = await leased(store)
    first = await store.enqueue_rollout("first")
    await store.update_rollout(held.rollout_id, status="requeuing")

    released = await store.release_attempt(*pair(held))

    assert released.cause == "released"
    assert await drain(store) == [held.rollout_id, first.rollout_id]
    assert [stats.depth for stats in await store.query_queues()] == [0]


@pytest.mark.parametrize("status", ["succeeded", "failed", "timeout", "unresponsive"])
async def test_release_of_an_ended_attempt_has_no_effect(store, clock, status):
    held = await leased(store)
    ended = await store.update_attempt(*pair(held), status=status)
    before = await store.get_rollout_by_id(held.rollout_id)
    clock.advance(1)

    assert await store.release_attempt(*pair(held)) == ended

    assert await store.get_rollout_by_id(held.rollout_id) == before


async def test_release_of_a_replaced_attempt_has_no_effect(store):
    held = await leased(store)
    second = await store.start_attempt(held.rollout_id)

    assert await store.release_attempt(*pair(held)) == held.attempt

    assert await store.get_rollout_by_id(held.rollout_id) == second
    assert await drain(store) == []


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
async def test_release_on_a_finished_rollout_has_no_effect(store, status):
    held = await leased(store)
    await store.update_rollout(held.rollout_id, status=status)

    assert await store.release_attempt(*pair(held)) == held.attempt

    assert await status_of(store, held.rollout_id) == status
    assert await drain(store) == []


async def test_release_twice_has_one_effect(store):
    held = await leased(store)
    first = await store.release_attempt(*pair(held))

    assert await store.release_attempt(*pair(held)) == first

    assert await drain(store) == [held.rollout_id]


async def test_release_of_what_is_unknown_is_an_error(store):
    held = await leased(store)
    queued = await store.enqueue_rollout("task")

    with pytest.raises(RolloutNotFoundError, match="ro-unknown"):
        await store.release_attempt("ro-unknown", "at-1")
    for rollout_id in (held.rollout_id, queued.rollout_id):
        with pytest.raises(AttemptNotFoundError):
            await store.release_attempt(rollout_id, "at-unknown")
    assert await store.get_rollout_by_id(held.rollout_id) == held
