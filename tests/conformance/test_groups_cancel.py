"""Groups of rollouts and cancelling many: rule 27, section 2 of the issue, and `group_id` of decisions.md."""

import pytest

from lightning_store.errors import InvalidRequestError
from lightning_store.records import RolloutConfig
from tests.support.factories import claim, drain, requests_for, status_of


async def create(store, *names, **fields):
    for name in names:
        await store.enqueue_rollout(name, rollout_id=name, **fields)


async def test_group_is_a_field_of_request_and_record(store):
    await store.enqueue_many_rollouts(requests_for([1, 2], group_id="task 7: ä"))
    started = await store.start_rollout(3, group_id="task 7: ä")
    alone = await store.enqueue_rollout(4)

    page = await store.query_rollouts(group_id="task 7: ä")

    assert [rollout.input for rollout in page] == [1, 2, 3]
    assert {rollout.group_id for rollout in page} == {"task 7: ä"}
    assert (started.group_id, alone.group_id) == ("task 7: ä", None)


async def test_group_is_kept_through_claims_retries_and_ends(store):
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"])
    await create(store, "a", group_id="g", config=config)
    for _ in range(2):
        assert (await claim(store)).group_id == "g"
        await store.update_attempt("a", "latest", status="failed")

    assert [rollout.rollout_id for rollout in await store.query_rollouts(group_id="g", status_in=["failed"])] == ["a"]


async def test_cancel_by_ids_answers_in_the_order_asked_for(store, clock):
    await create(store, "a", "b", "c")
    clock.advance(1)

    assert await store.cancel_rollouts(["c", "unknown", "a", "c", "{x}"]) == ["c", "a"]

    for name, status in [("a", "cancelled"), ("b", "queuing"), ("c", "cancelled")]:
        rollout = await store.get_rollout_by_id(name)
        assert (rollout.status, rollout.end_time) == (status, clock.now() if status == "cancelled" else None)
    assert await drain(store) == ["b"]


async def test_cancel_by_group_answers_in_order_of_creation(store):
    await create(store, "z", "m", group_id="g")
    await create(store, "other", group_id="h")
    await create(store, "a", group_id="g")

    assert await store.cancel_rollouts(group_id="g") == ["z", "m", "a"]

    assert await drain(store) == ["other"]
    assert await store.cancel_rollouts(group_id="unknown") == []


async def test_cancel_by_status(store):
    await create(store, "a", "b", "c")
    await claim(store)
    await store.update_rollout("b", status="running")

    assert await store.cancel_rollouts(status_in=["preparing", "running"]) == ["a", "b"]

    assert await drain(store) == ["c"]


async def test_cancel_needs_all_conditions_to_hold(store):
    await create(store, "a", "b", group_id="g")
    await create(store, "c", group_id="h")
    await claim(store)

    assert await store.cancel_rollouts(["a", "c"], group_id="g", status_in=["queuing"]) == []
    assert await store.cancel_rollouts(["b", "c"], group_id="g") == ["b"]
    assert await store.cancel_rollouts(group_id="h", status_in=["queuing"]) == ["c"]
    assert await status_of(store, "a") == "preparing"


async def test_cancel_leaves_finished_rollouts_alone(store, clock):
    await create(store, "a", "b", "c", group_id="g")
    for name, status in [("a", "succeeded"), ("b", "failed"), ("c", "cancelled")]:
        await store.update_rollout(name, status=status)
    before = (await store.query_rollouts()).items
    clock.advance(1)

    assert await store.cancel_rollouts(["a", "b", "c"]) == []
    assert await store.cancel_rollouts(group_id="g") == []
    assert await store.cancel_rollouts(status_in=["succeeded", "cancelled"]) == []

    assert (await store.query_rollouts()).items == before


async def test_cancel_of_nothing_cancels_nothing(store):
    await create(store, "a", group_id="g")

    assert await store.cancel_rollouts([]) == []
    assert await store.cancel_rollouts([], group_id="g") == []
    assert await store.cancel_rollouts(status_in=[]) == []
    assert await status_of(store, "a") == "queuing"


async def test_cancel_without_any_condition_is_refused(store):
    await create(store, "a")
    with pytest.raises(InvalidRequestError, match="rollout_ids"):
        await store.cancel_rollouts()
    assert await status_of(store, "a") == "queuing"


async def test_cancel_leaves_attempts_and_tells_their_runners(store):
    await create(store, "a")
    held = await claim(store, "w")

    await store.cancel_rollouts(["a"])

    assert await store.get_latest_attempt("a") == held.attempt
    assert (await store.get_worker_by_id("w")).status == "busy"
    assert await store.renew("w", [("a", held.attempt.attempt_id)]) == ["cancelled"]


async def test_cancel_completes_each_rollout_once(store):
    await create(store, *"abc", group_id="g")
    await store.cancel_rollouts(group_id="g")
    await store.cancel_rollouts(group_id="g")

    page = await store.completions()
    assert [(item.rollout_id, item.status) for item in page.items] == [(name, "cancelled") for name in "abc"]


async def test_cancelled_rollout_can_be_queued_again(store):
    await create(store, "a", "b")
    await store.cancel_rollouts(["a"])

    await store.update_rollout("a", status="queuing")

    assert await drain(store) == ["a", "b"]


async def test_cancel_of_many(store):
    created = await store.enqueue_many_rollouts(requests_for(range(300), group_id="g"))

    cancelled = await store.cancel_rollouts(group_id="g")

    assert cancelled == [rollout.rollout_id for rollout in created]
    assert (await store.query_rollouts(status_in=["cancelled"], limit=0)).total == 300
    assert await drain(store) == []


@pytest.mark.parametrize("ids", ["a", b"a", [1], [None]])
async def test_what_are_no_ids_is_refused(store, ids):
    await create(store, "a")
    with pytest.raises(InvalidRequestError, match="rollout_ids"):
        await store.cancel_rollouts(ids)
    assert await status_of(store, "a") == "queuing"
