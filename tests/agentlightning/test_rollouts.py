"""Contract, sections 2 and 3.2: rollouts and their queue, over upstream's store and ours."""

import agentlightning as al
import pytest
from agentlightning.types import EnqueueRolloutRequest, PaginatedResult

from tests.agentlightning.support.making import span_of


async def test_enqueued_rollout_waits(store):
    rollout = await store.enqueue_rollout({"question": 1}, "train", "rs-later", metadata={"a": 1})
    assert type(rollout) is al.Rollout
    assert (rollout.status, rollout.mode, rollout.resources_id) == ("queuing", "train", "rs-later")
    assert rollout.rollout_id.startswith("ro-")
    assert rollout.input == {"question": 1}
    assert rollout.metadata == {"a": 1}
    assert rollout.config == al.RolloutConfig()
    assert not hasattr(rollout, "attempt")


async def test_metadata_that_was_left_out_is_empty(store):
    assert (await store.enqueue_rollout(1)).metadata == {}
    assert (await store.start_rollout(1)).metadata == {}


async def test_started_rollout_has_an_attempt_and_is_not_queued(store):
    started = await store.start_rollout(input=1, worker_id="worker")
    assert type(started) is al.AttemptedRollout
    assert type(started.attempt) is al.Attempt
    assert started.status == started.attempt.status == "preparing"
    assert started.attempt.sequence_id == 1
    assert started.attempt.worker_id == "worker"
    assert started.attempt.attempt_id.startswith("at-")
    assert started.start_time == started.attempt.start_time
    assert await store.dequeue_rollout() is None


async def test_many_keep_their_order(store):
    config = al.RolloutConfig(max_attempts=2, retry_condition=["failed"])
    requests = [EnqueueRolloutRequest(input=number, mode="val", config=config) for number in range(5)]
    rollouts = await store.enqueue_many_rollouts(requests)
    assert [rollout.input for rollout in rollouts] == list(range(5))
    assert all(type(rollout) is al.Rollout and rollout.config == config for rollout in rollouts)
    claimed = await store.dequeue_many_rollouts(limit=3, worker_id="worker")
    assert [rollout.input for rollout in claimed] == [0, 1, 2]
    assert all(type(rollout) is al.AttemptedRollout for rollout in claimed)
    assert [(await store.dequeue_rollout()).input for _ in range(2)] == [3, 4]


async def test_nothing_to_enqueue_and_nothing_queued(store):
    assert list(await store.enqueue_many_rollouts([])) == []
    assert await store.dequeue_many_rollouts(limit=3) == []
    assert await store.dequeue_rollout(worker_id="worker") is None
    await store.enqueue_rollout(1)
    assert await store.dequeue_many_rollouts(limit=0) == []
    assert await store.dequeue_many_rollouts(limit=-1) == []


async def test_config_and_metadata_are_copied(store):
    config = al.RolloutConfig(retry_condition=["failed"])
    metadata = {"a": 1}
    rollout = await store.enqueue_rollout(1, config=config, metadata=metadata)
    config.retry_condition.append("timeout")
    metadata["b"] = 2
    stored = await store.get_rollout_by_id(rollout.rollout_id)
    assert stored.config.retry_condition == ["failed"]
    assert stored.metadata == {"a": 1}


async def test_latest_resources_are_taken(store):
    assert (await store.enqueue_rollout(1)).resources_id is None
    update = await store.add_resources({"prompt": al.PromptTemplate(template="{x}", engine="f-string")})
    assert (await store.enqueue_rollout(1)).resources_id == update.resources_id
    assert (await store.start_rollout(1)).resources_id == update.resources_id
    assert (await store.enqueue_rollout(1, resources_id="rs-none")).resources_id == "rs-none"


async def test_reading_one_tells_its_kind(store):
    queued = await store.enqueue_rollout(1)
    assert type(await store.get_rollout_by_id(queued.rollout_id)) is al.Rollout
    claimed = await store.dequeue_rollout()
    read = await store.get_rollout_by_id(queued.rollout_id)
    assert type(read) is al.AttemptedRollout
    assert read == claimed
    assert await store.get_rollout_by_id("ro-unknown") is None


async def test_query_filters_sorts_and_pages(store):
    rollouts = [await store.enqueue_rollout(number) for number in range(4)]
    ids = [rollout.rollout_id for rollout in rollouts]
    await store.dequeue_rollout()
    page = await store.query_rollouts(status_in=["queuing"], limit=2, offset=1)
    assert type(page) is PaginatedResult
    assert (page.total, page.limit, page.offset) == (3, 2, 1)
    assert [item.rollout_id for item in page] == ids[2:4]
    assert [type(item) for item in await store.query_rollouts()] == [al.AttemptedRollout, *[al.Rollout] * 3]
    assert [item.rollout_id for item in await store.query_rollouts(sort_by="start_time", sort_order="desc")] == ids[
        ::-1
    ]
    assert [item.rollout_id for item in await store.query_rollouts(rollout_ids=ids[:1], status=["preparing"])] == ids[
        :1
    ]
    assert [item.rollout_id for item in await store.query_rollouts(rollout_id_contains=ids[2][4:])] == [ids[2]]
    either = await store.query_rollouts(status_in=["preparing"], rollout_id_in=ids[3:], filter_logic="or")
    assert [item.rollout_id for item in either] == [ids[0], ids[3]]
    assert len(await store.query_rollouts(status_in=[])) == 0
    assert (len(await store.query_rollouts(limit=0)), (await store.query_rollouts(limit=0)).total) == (0, 4)
    assert len(await store.query_rollouts(offset=9)) == 0


async def test_page_is_a_sequence_but_no_list(store):
    for number in range(3):
        await store.enqueue_rollout(number)
    page = await store.query_rollouts()
    assert (len(page), bool(page), page[0].input, [item.input for item in page[1:]]) == (3, True, 0, [1, 2])
    assert page != list(page)
    assert not await store.query_rollouts(rollout_id_in=["ro-unknown"])


@pytest.mark.parametrize("field", ["nonsense", "attempt"])
async def test_sorting_by_what_cannot_be_sorted(store, field):
    await store.enqueue_rollout(1)
    await store.enqueue_rollout(2)
    with pytest.raises(ValueError):  # noqa: PT011 - all that the contract says
        await store.query_rollouts(sort_by=field)


async def test_update_replaces_what_is_given(store):
    rollout = await store.enqueue_rollout({"a": 1}, "train", "rs-1", metadata={"a": 1})
    updated = await store.update_rollout(rollout.rollout_id, input=None, mode=None, metadata={"b": 2})
    assert type(updated) is al.Rollout
    assert (updated.input, updated.mode, updated.resources_id, updated.metadata) == (None, None, "rs-1", {"b": 2})
    config = al.RolloutConfig(max_attempts=3)
    assert (await store.update_rollout(rollout.rollout_id, config=config)).config == config
    await store.dequeue_rollout()
    updated = await store.update_rollout(rollout.rollout_id, resources_id=None, status="cancelled")
    assert type(updated) is al.Rollout
    assert (updated.status, updated.resources_id) == ("cancelled", None)
    assert updated.end_time > updated.start_time


async def test_update_of_an_unknown_rollout(store):
    with pytest.raises(ValueError, match=r"Item.*does not exist"):
        await store.update_rollout("ro-unknown", status="cancelled")


@pytest.mark.parametrize("arguments", [{"status": "done"}, {"mode": "dev"}])
async def test_values_that_do_not_exist(store, arguments):
    rollout = await store.enqueue_rollout(1)
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's, in its own words
        await store.update_rollout(rollout.rollout_id, **arguments)


async def test_waiting_rollout_keeps_its_place(store):
    first = await store.enqueue_rollout(1)
    await store.enqueue_rollout(2)
    await store.update_rollout(first.rollout_id, status="running")
    await store.update_rollout(first.rollout_id, status="queuing")
    assert (await store.dequeue_rollout()).rollout_id == first.rollout_id


async def test_requeued_rollout_goes_to_the_tail(store):
    first = await store.enqueue_rollout(1)
    second = await store.enqueue_rollout(2)
    await store.dequeue_rollout()
    await store.update_rollout(first.rollout_id, status="requeuing")
    assert (await store.dequeue_rollout()).rollout_id == second.rollout_id
    again = await store.dequeue_rollout()
    assert (again.rollout_id, again.attempt.sequence_id) == (first.rollout_id, 2)


async def test_cancelled_rollout_is_not_handed_out(store):
    rollout = await store.enqueue_rollout(1)
    await store.update_rollout(rollout.rollout_id, status="cancelled")
    assert await store.dequeue_rollout() is None


async def test_attempt_by_hand(store):
    rollout = await store.enqueue_rollout(1)
    again = await store.start_attempt(rollout.rollout_id, "worker")
    assert type(again) is al.AttemptedRollout
    assert (again.status, again.attempt.sequence_id, again.attempt.worker_id) == ("preparing", 1, "worker")
    assert (await store.start_attempt(rollout.rollout_id)).attempt.sequence_id == 2
    assert await store.dequeue_rollout() is None
    with pytest.raises(ValueError, match="Rollout ro-unknown not found"):
        await store.start_attempt("ro-unknown")


async def test_failed_attempt_is_retried_as_its_config_says(store):
    await store.enqueue_rollout(1, config=al.RolloutConfig(max_attempts=2, retry_condition=["failed"]))
    for expected in ("requeuing", "failed"):
        claimed = await store.dequeue_rollout()
        attempt = await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="failed")
        rollout = await store.get_rollout_by_id(claimed.rollout_id)
        assert rollout.status == expected
    assert rollout.end_time >= attempt.end_time


async def test_span_takes_a_requeued_rollout_back(store):
    await store.enqueue_rollout(1, config=al.RolloutConfig(max_attempts=2, retry_condition=["unresponsive"]))
    claimed = await store.dequeue_rollout()
    await store.update_attempt(claimed.rollout_id, "latest", status="unresponsive")
    assert (await store.get_rollout_by_id(claimed.rollout_id)).status == "requeuing"
    await store.add_span(span_of(claimed))
    assert (await store.get_rollout_by_id(claimed.rollout_id)).status == "running"
    assert await store.dequeue_rollout() is None
