"""Rewards as spans: rule 26."""

import math

import pytest

from tests.support.factories import make_span, reward_span, span_of


async def reward(store, rollout):
    return (await store.rewards([rollout.rollout_id]))[rollout.rollout_id]


async def test_reward_is_that_of_the_span_with_the_emitters_attributes(store):
    started = await store.start_rollout("task")
    assert await reward(store, started) is None
    await store.add_span(span_of(started))
    assert await reward(store, started) is None

    await store.add_span(reward_span(started, 0.75))

    assert await reward(store, started) == 0.75


async def test_rewards_come_in_the_order_asked_for(store):
    rollouts = [await store.start_rollout(n) for n in range(3)]
    for number, rollout in enumerate(rollouts[:2]):
        await store.add_span(reward_span(rollout, number))
    queued = await store.enqueue_rollout("task")
    ids = [rollouts[1].rollout_id, "unknown", queued.rollout_id, rollouts[2].rollout_id, rollouts[0].rollout_id]

    answer = await store.rewards(ids)

    assert list(answer) == ids
    assert list(answer.values()) == [1, None, None, None, 0]


async def test_last_reward_by_number_counts_whatever_the_order_of_storing(store):
    started = await store.start_rollout("task")
    for number, value in [(2, 0.2), (9, 0.9), (5, 0.5)]:
        await store.add_span(reward_span(started, value, sequence_id=number))

    assert await reward(store, started) == 0.9


async def test_only_the_latest_attempts_rewards_count(store):
    started = await store.start_rollout("task")
    await store.add_span(reward_span(started, 1.0, sequence_id=9))
    second = await store.start_attempt(started.rollout_id)
    assert await reward(store, started) is None

    await store.add_span(reward_span(second, 0.5, sequence_id=2))
    await store.add_span(reward_span(started, 0.7, sequence_id=10))

    assert await reward(store, started) == 0.5


@pytest.mark.parametrize("value", [0, 1, -3, True, 0.1 + 0.2, 1e300, -math.inf, math.inf, math.nan, 2**53 + 1])
async def test_every_number_is_a_reward(store, value):
    started = await store.start_rollout("task")
    await store.add_span(reward_span(started, value))

    answer = await reward(store, started)

    assert isinstance(answer, float)
    assert answer == float(value) or (math.isnan(answer) and math.isnan(value))


@pytest.mark.parametrize("name", ["agentlightning.reward", "agentlightning.annotation"])
async def test_older_form_is_read_too(store, name):
    started = await store.start_rollout("task")
    await store.add_span(span_of(started, name=name, attributes={"reward": 0.25}))
    assert await reward(store, started) == 0.25


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("step", {"reward": 1.0}),
        ("agentlightning.annotation", {"reward": "1.0"}),
        ("agentlightning.annotation", {"agentlightning.reward.0.value": "high"}),
        ("agentlightning.annotation", {"agentlightning.reward.1.value": 1.0}),
        ("agentlightning.annotation", {"agentlightning.reward.0.value": [1.0]}),
    ],
)
async def test_what_is_no_number_under_these_names_is_no_reward(store, name, attributes):
    started = await store.start_rollout("task")
    await store.add_span(span_of(started, name=name, attributes=attributes))
    assert await reward(store, started) is None


async def test_duplicate_of_a_reward_changes_nothing(store):
    started = await store.start_rollout("task")
    await store.add_span(reward_span(started, 0.5, span_id="s", sequence_id=1))
    await store.add_span(reward_span(started, 0.9, span_id="s", sequence_id=2))
    assert await reward(store, started) == 0.5


async def test_renumbered_rewards_count_by_their_new_numbers(store):
    started = await store.start_rollout("task")
    spans = [reward_span(started, 0.1, sequence_id=90), reward_span(started, 0.2, sequence_id=10)]

    await store.add_many_spans(spans, renumber=True)

    assert await reward(store, started) == 0.2


async def test_reward_may_come_after_the_end(store):
    started = await store.start_rollout("task")
    await store.update_attempt(started.rollout_id, "latest", status="succeeded")
    await store.add_span(reward_span(started, 0.5))
    assert await reward(store, started) == 0.5


async def test_refused_reward_is_not_kept(store):
    started = await store.start_rollout("task")
    span = make_span(started.rollout_id, "at-unknown", attributes={"agentlightning.reward.0.value": 1.0})
    with pytest.raises(ValueError, match="not found"):
        await store.add_span(span)
    assert await reward(store, started) is None
