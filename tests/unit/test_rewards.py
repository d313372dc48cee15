"""What a reward looks like as a span."""

import math

import pytest

from lightning_store.rewards import (
    ANNOTATION_SPAN,
    LEGACY_REWARD,
    LEGACY_REWARD_SPAN,
    PRIMARY_REWARD,
    REWARD_NAME,
    REWARD_VALUE,
    reward_of,
)
from tests.support.factories import make_span


def reward(name: str, **attributes):
    return reward_of(make_span("r", "a", name=name, attributes=attributes))


def test_names_are_those_of_agent_lightning_0_3():
    assert (ANNOTATION_SPAN, LEGACY_REWARD_SPAN) == ("agentlightning.annotation", "agentlightning.reward")
    assert (REWARD_NAME, REWARD_VALUE) == ("agentlightning.reward.0.name", "agentlightning.reward.0.value")
    assert (PRIMARY_REWARD, LEGACY_REWARD) == ("primary", "reward")


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0.5), (1, 1.0), (True, 1.0), (0, 0.0), (-math.inf, -math.inf)])
def test_primary_value_of_an_annotation(value, expected):
    found = reward(ANNOTATION_SPAN, **{REWARD_NAME: PRIMARY_REWARD, REWARD_VALUE: value})
    assert (found, type(found)) == (expected, float)


def test_nan_is_a_reward():
    assert math.isnan(reward(ANNOTATION_SPAN, **{REWARD_VALUE: math.nan}))


def test_first_dimension_is_the_primary_one():
    attributes = {"agentlightning.reward.1.value": 0.25, REWARD_VALUE: 0.75}
    assert reward(ANNOTATION_SPAN, **attributes) == 0.75


def test_reward_attributes_count_on_any_span():
    assert reward("tool call", **{REWARD_VALUE: 0.5}) == 0.5


@pytest.mark.parametrize("name", [LEGACY_REWARD_SPAN, ANNOTATION_SPAN])
def test_older_format_is_read(name):
    assert reward(name, reward=0.5) == 0.5


def test_attribute_called_reward_on_another_span_is_none():
    assert reward("step", reward=0.5) is None


@pytest.mark.parametrize("value", ["0.5", [0.5], 10**400])
def test_what_is_no_number_is_no_reward(value):
    assert reward(ANNOTATION_SPAN, **{REWARD_VALUE: value}) is None


def test_annotation_without_a_reward():
    assert reward(ANNOTATION_SPAN, tag="x") is None
