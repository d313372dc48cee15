"""Creating, reading and changing rollouts: sections 1.1, 1.2, 1.8, 2.1 and 3.2."""

import pickle

import pytest

from lightning_store.contract import UNSET
from lightning_store.errors import InvalidRequestError, RolloutNotFoundError
from lightning_store.records import AttemptedRollout, EnqueueRolloutRequest, Rollout, RolloutConfig
from tests.support.factories import claim, drain, requests_for, some_resources


async def test_enqueue_creates_a_queued_rollout_without_attempt(store, clock):
    rollout = await store.enqueue_rollout({"question": "2 + 2"})

    assert type(rollout) is Rollout
    assert rollout.rollout_id.startswith("ro-")
    assert rollout.model_dump(exclude={"rollout_id"}) == {
        "input": {"question": "2 + 2"},
        "start_time": clock.now(),
        "end_time": None,
        "mode": None,
        "resources_id": None,
        "status": "queuing",
        "config": RolloutConfig().model_dump(),
        "metadata": {},
        "queue": "default",
        "group_id": None,
    }
    assert (await store.query_attempts(rollout.rollout_id)).total == 0


async def test_enqueue_keeps_every_given_field(store):
    config = RolloutConfig(
        timeout_seconds=30,
        unresponsive_seconds=5.5,
        max_attempts=3,
        retry_condition=["timeout", "failed"],
        retry_delay_seconds=1.5,
        max_worker_losses=2,
    )

    rollout = await store.enqueue_rollout(
        "task", "val", "rs-mine", config, {"epoch": 1}, rollout_id="own", group_id="group", queue="eval"
    )

    assert rollout.model_dump(exclude={"start_time", "end_time", "status"}) == {
        "rollout_id": "own",
        "input": "task",
        "mode": "val",
        "resources_id": "rs-mine",
        "config": config.model_dump(),
        "metadata": {"epoch": 1},
        "queue": "eval",
        "group_id": "group",
    }
    assert await store.get_rollout_by_id("own") == rollout


async def test_start_creates_the_first_attempt_past_the_queue(store, clock):
    waiting = await store.enqueue_rollout("waits")
    started = await store.start_rollout({"task": 1}, "train", None, None, {"a": 1})

    assert type(started) is AttemptedRollout
    assert (started.status, started.start_time, started.mode) == ("preparing", clock.now(), "train")
    assert (started.input, started.metadata) == ({"task": 1}, {"a": 1})
    attempt = started.attempt
    assert (attempt.rollout_id, attempt.sequence_id, attempt.status) == (started.rollout_id, 1, "preparing")
    assert attempt.start_time == started.start_time
    assert attempt.model_dump(exclude={"rollout_id", "attempt_id", "sequence_id", "start_time", "status"}) == {
        "end_time": None,
        "worker_id": None,
        "last_heartbeat_time": None,
        "metadata": None,
        "cause": None,
        "lease_seconds": None,
        "resources_id": None,
        "resources_version": None,
    }
    assert await drain(store) == [waiting.rollout_id]


async def test_start_keeps_every_given_field(store):
    config = RolloutConfig(max_attempts=2)

    started = await store.start_rollout(
        [1], "test", "rs-1", config, {"k": []}, "w", rollout_id="own", group_id="g", queue="q", lease_seconds=2.5
    )

    assert (started.rollout_id, started.group_id, started.queue) == ("own", "g", "q")
    assert (started.resources_id, started.config, started.metadata) == ("rs-1", config, {"k": []})
    assert (started.attempt.worker_id, started.attempt.lease_seconds) == ("w", 2.5)
    assert await store.get_rollout_by_id("own") == started


@pytest.mark.parametrize("create", ["enqueue_rollout", "start_rollout"])
async def test_rollout_takes_the_latest_resources_of_its_moment(store, create):
    before = await getattr(store, create)("before there are resources")
    await store.add_resources(some_resources())
    latest = await store.update_resources("chosen", some_resources())

    rollout = await getattr(store, create)("task")
    await store.add_resources(some_resources())

    assert before.resources_id is None
    assert rollout.resources_id == latest.resources_id == "chosen"
    assert (await store.get_rollout_by_id(rollout.rollout_id)).resources_id == "chosen"


@pytest.mark.parametrize("create", ["enqueue_rollout", "start_rollout"])
async def test_unknown_resources_id_is_stored_as_given(store, create):
    await store.add_resources(some_resources())

    rollout = await getattr(store, create)("task", resources_id="rs-not-yet-there")

    assert (await store.get_rollout_by_id(rollout.rollout_id)).resources_id == "rs-not-yet-there"


@pytest.mark.parametrize("create", ["enqueue_rollout", "start_rollout"])
async def test_later_changes_of_the_caller_do_not_show(store, create):
    task, metadata, config = {"list": [1]}, {"list": [1]}, RolloutConfig(retry_condition=["failed"])
    rollout = await getattr(store, create)(task, config=config, metadata=metadata)

    task["list"].append(2)
    metadata["list"].append(2)
    config.retry_condition.append("timeout")
    config.max_attempts = 9

    stored = await store.get_rollout_by_id(rollout.rollout_id)
    for seen in (rollout, stored):
        assert (seen.input, seen.metadata) == ({"list": [1]}, {"list": [1]})
        assert seen.config == RolloutConfig(retry_condition=["failed"])


async def test_changing_an_answer_does_not_change_the_store(store):
    created = await store.enqueue_rollout({"list": [1]}, metadata={"list": [1]})
    for answer in (
        created,
        await store.get_rollout_by_id(created.rollout_id),
        (await store.query_rollouts()).items[0],
        await claim(store),
        await store.update_rollout(created.rollout_id, mode="train"),
    ):
        answer.status = "failed"
        answer.input["list"].append(2)
        answer.metadata["list"].append(2)
        answer.config.retry_condition.append("failed")

    stored = await store.get_rollout_by_id(created.rollout_id)
    assert (stored.status, stored.input, stored.metadata) == ("preparing", {"list": [1]}, {"list": [1]})
    assert stored.config == RolloutConfig()


async def test_bulk_enqueue_answers_in_the_order_of_the_request(store):
    requests = [
        EnqueueRolloutRequest(input=1, mode="train", metadata={"a": 1}),
        EnqueueRolloutRequest(input=None, rollout_id="own", group_id="g", queue="q", resources_id="rs-1"),
        EnqueueRolloutRequest(input=3, config=RolloutConfig(max_attempts=4)),
    ]

    rollouts = await store.enqueue_many_rollouts(requests)

    assert isinstance(rollouts, list)
    assert [rollout.input for rollout in rollouts] == [1, None, 3]
    assert [type(rollout) for rollout in rollouts] == [Rollout] * 3
    assert (rollouts[0].mode, rollouts[0].metadata) == ("train", {"a": 1})
    second = rollouts[1]
    assert (second.rollout_id, second.group_id, second.queue, second.resources_id) == ("own", "g", "q", "rs-1")
    assert rollouts[2].config.max_attempts == 4
    assert (await store.query_rollouts()).items == rollouts


async def test_bulk_enqueue_of_nothing_is_empty(store):
    assert await store.enqueue_many_rollouts([]) == []
    assert (await store.query_rollouts()).total == 0


async def test_bulk_enqueue_takes_any_sequence(store):
    assert len(await store.enqueue_many_rollouts(tuple(requests_for("ab")))) == 2


async def test_get_tells_rollouts_with_and_without_attempts_apart(store):
    queued = await store.enqueue_rollout("task")
    assert type(await store.get_rollout_by_id(queued.rollout_id)) is Rollout

    claimed = await claim(store)
    second = await store.start_attempt(queued.rollout_id)

    found = await store.get_rollout_by_id(queued.rollout_id)
    assert type(found) is AttemptedRollout
    assert found.attempt == second.attempt != claimed.attempt
    assert await store.get_rollout_by_id("ro-unknown") is None


async def test_start_time_is_creation_and_not_the_claim(store, clock):
    queued = await store.enqueue_rollout("task")
    clock.advance(3)

    claimed = await claim(store)

    assert claimed.start_time == queued.start_time
    assert claimed.attempt.start_time == clock.now()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", {"other": "task"}),
        ("input", None),
        ("mode", "test"),
        ("mode", None),
        ("resources_id", "rs-other"),
        ("resources_id", None),
        ("config", RolloutConfig(max_attempts=7, retry_condition=["unresponsive"])),
        ("metadata", {"b": 2}),
        ("metadata", {}),
        ("metadata", None),
        ("status", "running"),
    ],
)
async def test_update_replaces_one_field_as_a_whole(store, field, value):
    before = await store.enqueue_rollout(
        "task", "train", "rs-1", RolloutConfig(timeout_seconds=9), {"a": 1}, group_id="g", queue="q"
    )

    updated = await store.update_rollout(before.rollout_id, **{field: value})

    assert type(updated) is Rollout
    assert updated == before.model_copy(update={field: value})
    assert await store.get_rollout_by_id(before.rollout_id) == updated


async def test_update_of_several_fields_at_once(store):
    before = await store.enqueue_rollout("task")

    updated = await store.update_rollout(before.rollout_id, "new", "val", None, "running", RolloutConfig(), {"m": 1})

    assert (updated.input, updated.mode, updated.status, updated.metadata) == ("new", "val", "running", {"m": 1})


async def test_update_answers_a_plain_rollout_even_with_attempts(store):
    started = await store.start_rollout("task")

    updated = await store.update_rollout(started.rollout_id, mode="train")

    assert type(updated) is Rollout
    assert not hasattr(updated, "attempt")
    assert type(await store.get_rollout_by_id(started.rollout_id)) is AttemptedRollout


async def test_update_copies_what_it_is_given(store):
    rollout = await store.enqueue_rollout("task")
    task, metadata, config = [1], {"a": [1]}, RolloutConfig(retry_condition=["failed"])
    await store.update_rollout(rollout.rollout_id, input=task, metadata=metadata, config=config)

    task.append(2)
    metadata["a"].append(2)
    config.retry_condition.append("timeout")

    stored = await store.get_rollout_by_id(rollout.rollout_id)
    assert (stored.input, stored.metadata) == ([1], {"a": [1]})
    assert stored.config.retry_condition == ["failed"]


async def test_unset_leaves_fields_as_they_are_even_when_pickled(store):
    before = await store.enqueue_rollout("task", "train", "rs-1", None, {"a": 1})
    unset = pickle.loads(pickle.dumps(UNSET))  # noqa: S301 - our own bytes

    updated = await store.update_rollout(
        before.rollout_id, input=UNSET, mode=unset, resources_id=unset, status=UNSET, config=unset, metadata=unset
    )

    assert updated == before


@pytest.mark.parametrize("field", ["status", "config"])
async def test_update_refuses_none_where_a_value_is_needed(store, field):
    rollout = await store.enqueue_rollout("task")

    with pytest.raises(InvalidRequestError, match=field):
        await store.update_rollout(rollout.rollout_id, mode="train", **{field: None})

    assert await store.get_rollout_by_id(rollout.rollout_id) == rollout


async def test_update_of_an_unknown_rollout_is_an_error(store):
    with pytest.raises(RolloutNotFoundError, match=r"Item.*does not exist"):
        await store.update_rollout("ro-unknown", mode="train")
    assert (await store.query_rollouts()).total == 0


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
async def test_finished_status_sets_end_time_again_when_repeated(store, clock, status):
    rollout = await store.enqueue_rollout("task")
    clock.advance(2)
    first = await store.update_rollout(rollout.rollout_id, status=status)
    assert first.end_time == clock.now()

    clock.advance(2)
    kept = await store.update_rollout(rollout.rollout_id, metadata={"a": 1})
    again = await store.update_rollout(rollout.rollout_id, status=status)

    assert kept.end_time == first.end_time
    assert again.end_time == clock.now()


@pytest.mark.parametrize("status", ["queuing", "requeuing", "preparing", "running"])
async def test_reopened_rollout_loses_its_end_time_until_it_finishes_again(store, clock, status):
    rollout = await store.start_rollout("task")
    await store.update_rollout(rollout.rollout_id, status="succeeded")

    reopened = await store.update_rollout(rollout.rollout_id, status=status)
    clock.advance(1)
    finished = await store.update_rollout(rollout.rollout_id, status="failed")

    assert (reopened.status, reopened.end_time) == (status, None)
    assert finished.end_time == clock.now()


async def test_update_of_the_status_leaves_attempts_alone(store):
    started = await store.start_rollout("task", worker_id="w")

    await store.update_rollout(started.rollout_id, status="succeeded")

    assert await store.get_latest_attempt(started.rollout_id) == started.attempt
    assert (await store.get_worker_by_id("w")).status == "busy"
