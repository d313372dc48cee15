"""Ids, the caller's own ids, and claims that hand out each rollout once: section 8's ids, rules 1 to 4."""

import asyncio
import math
import re

import pytest

from lightning_store.errors import InvalidRequestError
from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from tests.support.factories import claim, drain, requests_for, some_resources, status_of

CONFIG = RolloutConfig(max_attempts=2, retry_condition=["failed"])


async def test_generated_ids_have_their_prefixes_and_lengths(store):
    started = await store.start_rollout("task")
    queued = await store.enqueue_rollout("task")
    resources = await store.add_resources(some_resources())

    for rollout in (started, queued):
        assert re.fullmatch(r"ro-[0-9a-f]{24}", rollout.rollout_id)
    assert re.fullmatch(r"at-[0-9a-f]{12}", started.attempt.attempt_id)
    assert re.fullmatch(r"rs-[0-9a-f]{12}", resources.resources_id)
    assert len(resources.resources_id) == 15


async def test_ids_are_unique(store):
    created = await store.enqueue_many_rollouts(requests_for(range(50)))
    claimed = await store.dequeue_many_rollouts(limit=50)
    again = [(await store.start_attempt(created[0].rollout_id)).attempt.attempt_id for _ in range(20)]

    assert len({rollout.rollout_id for rollout in created}) == 50
    assert len({*(rollout.attempt.attempt_id for rollout in claimed), *again}) == 70


# -- the caller's own ids ----------------------------------------------------------------------------------------------


async def test_own_id_enqueued_again_answers_the_stored_rollout(store, clock):
    first = await store.enqueue_rollout({"a": 1, "b": 2}, "train", None, CONFIG, {"m": 1}, rollout_id="own")
    clock.advance(1)

    again = await store.enqueue_rollout({"b": 2, "a": 1}, "val", "rs", CONFIG, {"other": 1}, rollout_id="own")

    assert again == first
    assert await drain(store) == ["own"]
    assert (await store.statistics())["total_rollouts"] == 1


@pytest.mark.parametrize("status", ["preparing", "running", "succeeded", "cancelled"])
async def test_repeat_answers_the_current_record_and_queues_nothing(store, status):
    await store.enqueue_rollout("task", rollout_id="own")
    await claim(store)
    current = await store.update_rollout("own", status=status, metadata={"now": True})

    again = await store.enqueue_rollout("task", rollout_id="own")

    assert again.model_dump(exclude={"attempt"}) == current.model_dump()
    assert await drain(store) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a", "b"),
        (1, 1.0),
        (1, True),
        (0, False),
        ([], {}),
        (None, "null"),
        ({"a": 1}, {"a": 1, "b": None}),
        ("", None),
    ],
)
async def test_own_id_of_another_task_is_refused(store, first, second):
    stored = await store.enqueue_rollout(first, rollout_id="own")

    for call in (store.enqueue_rollout, store.start_rollout):
        with pytest.raises(InvalidRequestError, match="own"):
            await call(second, rollout_id="own")

    assert await store.get_rollout_by_id("own") == stored
    assert await drain(store) == ["own"]


@pytest.mark.parametrize(
    "other", [RolloutConfig(), RolloutConfig(max_attempts=2), CONFIG.model_copy(update={"retry_delay_seconds": 1.0})]
)
async def test_own_id_with_another_config_is_refused(store, other):
    stored = await store.enqueue_rollout("task", rollout_id="own", config=CONFIG)

    with pytest.raises(InvalidRequestError, match="own"):
        await store.enqueue_rollout("task", rollout_id="own", config=other)

    assert await store.get_rollout_by_id("own") == stored


@pytest.mark.parametrize("task", [math.nan, {"x": [math.inf, -0.0, "\ud800", 2**80, {}]}])
async def test_same_task_is_recognised_whatever_it_holds(store, task):
    first = await store.enqueue_rollout(task, rollout_id="own")
    again = await store.enqueue_rollout(task, rollout_id="own")
    assert again.start_time == first.start_time
    assert (await store.statistics())["total_rollouts"] == 1


async def test_own_id_twice_in_one_bulk_creates_one_rollout(store):
    twice = [EnqueueRolloutRequest(input="task", rollout_id="own") for _ in range(2)]

    answers = await store.enqueue_many_rollouts([twice[0], *requests_for(["other"]), twice[1]])

    assert [answer.input for answer in answers] == ["task", "other", "task"]
    assert answers[0] == answers[2]
    assert await drain(store) == ["own", answers[1].rollout_id]


async def test_clash_refuses_the_whole_bulk(store):
    await store.enqueue_rollout("task", rollout_id="own")

    for clash in (
        [*requests_for(["new"]), EnqueueRolloutRequest(input="other task", rollout_id="own")],
        [EnqueueRolloutRequest(input=number, rollout_id="twice") for number in (1, 2)],
    ):
        with pytest.raises(InvalidRequestError, match=r"own|twice"):
            await store.enqueue_many_rollouts(clash)

    assert await drain(store) == ["own"]
    assert (await store.statistics())["total_rollouts"] == 1


async def test_bulk_of_stored_and_new_ids_can_be_sent_again(store):
    def requests(count):
        return [EnqueueRolloutRequest(input=number, rollout_id=f"r{number}") for number in range(count)]

    first = await store.enqueue_many_rollouts(requests(3))
    again = await store.enqueue_many_rollouts(requests(5))

    assert again[:3] == first
    assert await drain(store) == [f"r{number}" for number in range(5)]


async def test_bulk_of_thousands_is_one_step_in_its_order(store):
    """More than a server may take in one command of its own."""
    requests = [
        EnqueueRolloutRequest(
            input=n, rollout_id=f"own-{n}", group_id=f"group-{n % 2}", queue="aside" if n % 10 == 0 else "default",
            metadata={"n": n} if n % 3 == 0 else None,
        )
        for n in range(2_500)
    ]  # fmt: skip
    first, *others = await store.enqueue_many_rollouts([*requests[:1], *requests])  # one twice

    assert first == others[0]
    assert [(each.rollout_id, each.status) for each in others] == [(f"own-{n}", "queuing") for n in range(2_500)]
    assert [each.input for each in await store.enqueue_many_rollouts([*requests[2_000:], *requests[:5]])] == [
        *range(2_000, 2_500), *range(5),
    ]  # fmt: skip
    assert {stats.queue: stats.depth for stats in await store.query_queues()} == {"aside": 250, "default": 2_250}
    claimed = await store.dequeue_many_rollouts(limit=3_000, queues=["default", "aside"])
    assert [each.input for each in claimed] == [n for n in range(2_500) if n % 10] + list(range(0, 2_500, 10))
    assert [each.metadata for each in claimed[:3]] == [{}, {}, {"n": 3}]
    assert len((await store.query_rollouts(group_id="group-1", limit=3_000)).items) == 1_250


async def test_own_id_started_again_answers_the_stored_rollout_with_its_latest_attempt(store):
    await store.start_rollout("task", rollout_id="own", worker_id="w")
    latest = await store.start_attempt("own", "v")

    again = await store.start_rollout("task", rollout_id="own", worker_id="u")

    assert again == latest
    assert (await store.query_attempts("own")).total == 2
    assert await store.get_worker_by_id("u") is None


async def test_start_does_not_start_what_was_only_enqueued(store):
    await store.enqueue_rollout("task", rollout_id="own")

    with pytest.raises(InvalidRequestError, match="own"):
        await store.start_rollout("task", rollout_id="own", worker_id="w")

    assert await status_of(store, "own") == "queuing"
    assert await store.get_worker_by_id("w") is None


async def test_enqueue_of_what_was_started_answers_it_and_queues_nothing(store):
    started = await store.start_rollout("task", rollout_id="own")

    again = await store.enqueue_rollout("task", rollout_id="own")

    assert (again.rollout_id, again.status, again.start_time) == ("own", "preparing", started.start_time)
    assert await drain(store) == []


async def test_own_id_may_look_like_a_generated_one(store):
    generated = await store.enqueue_rollout("task")

    again = await store.enqueue_rollout("task", rollout_id=generated.rollout_id + "0")

    assert await drain(store) == [generated.rollout_id, again.rollout_id]


# -- at once -----------------------------------------------------------------------------------------------------------


async def test_claims_at_once_hand_out_each_rollout_once(store):
    created = [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(requests_for(range(40)))]

    answers = await asyncio.gather(*(store.dequeue_rollout(f"w{n}") for n in range(50)))

    claimed = [answer.rollout_id for answer in answers if answer is not None]
    assert sorted(claimed) == sorted(created)
    assert answers.count(None) == 10


async def test_bulk_claims_at_once_hand_out_each_rollout_once(store):
    created = [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(requests_for(range(60)))]

    answers = await asyncio.gather(*(store.dequeue_many_rollouts(limit=7) for _ in range(12)))

    assert sorted(rollout.rollout_id for answer in answers for rollout in answer) == sorted(created)
    assert all(len(answer) <= 7 for answer in answers)


async def test_own_id_enqueued_many_times_at_once_is_one_rollout(store):
    answers = await asyncio.gather(*(store.enqueue_rollout("task", rollout_id="own") for _ in range(10)))

    assert {answer.rollout_id for answer in answers} == {"own"}
    assert await drain(store) == ["own"]


async def test_attempts_started_at_once_have_numbers_of_their_own(store):
    started = await store.start_rollout("task")

    answers = await asyncio.gather(*(store.start_attempt(started.rollout_id) for _ in range(10)))

    assert sorted(answer.attempt.sequence_id for answer in answers) == list(range(2, 12))
    assert len({answer.attempt.attempt_id for answer in answers}) == 10
