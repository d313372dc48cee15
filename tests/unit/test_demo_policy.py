"""The policy of the demo and its learning step, without any store."""

import math
import random

import pytest

from lightning_store.demo.game import legal_moves
from lightning_store.demo.learning import Episode, episode_of, improve
from lightning_store.demo.policy import CHOSEN_FEATURES, EXPECTED_FEATURES, FEATURES, STEP_SPAN, Policy, features
from lightning_store.records import LLM, PromptTemplate
from tests.support.factories import make_span

HAND = (2, 3, 7, 50, 75, 100)
TARGET = 341
SOME = Policy((0.5, -0.25, 0.1, 0.0, 2.0, 1.5, -0.5, 3.0))


def seeded(seed):
    return random.Random(seed)  # noqa: S311 - repeatable on purpose


def decide_often(policy, count=200):
    chance = seeded(1)
    return [policy.decide(HAND, TARGET, chance) for _ in range(count)]


def test_the_first_policy_finds_every_legal_move_equally_likely():
    count = len(legal_moves(HAND))
    assert {round(decision.probability * count, 9) for decision in decide_often(Policy())} == {1.0}


def test_the_same_seed_makes_the_same_decision():
    first, second = (SOME.decide(HAND, TARGET, seeded(5)) for _ in range(2))
    assert first == second


def test_features_lie_between_0_and_1():
    for move in legal_moves(HAND):
        row = features(HAND, TARGET, move)
        assert len(row) == len(FEATURES)
        assert all(0.0 <= value <= 1.0 for value in row)


def test_a_decision_carries_the_gradient_of_its_probability():
    decision = SOME.decide(HAND, TARGET, seeded(3))
    step = 1e-6
    for index in range(len(FEATURES)):
        weights = list(SOME.weights)
        weights[index] += step
        moved = next(
            other
            for seed in range(10_000)
            if (other := Policy(tuple(weights)).decide(HAND, TARGET, seeded(seed))).move == decision.move
        )
        slope = (math.log(moved.probability) - math.log(decision.probability)) / step
        assert slope == pytest.approx(decision.features[index] - decision.expected_features[index], abs=1e-4)


def test_a_policy_survives_being_a_resource():
    resource = LLM.model_validate_json(SOME.to_resource().model_dump_json())
    assert Policy.from_resources({"policy": resource}) == SOME


@pytest.mark.parametrize(
    "resources",
    [
        {},
        {"policy": PromptTemplate(template="", engine="jinja")},
        {"policy": LLM(endpoint="", model="")},
        {"policy": LLM(endpoint="", model="", sampling_parameters={"weights": {"add": 1.0}})},
    ],
)
def test_resources_without_a_policy_are_refused(resources):
    with pytest.raises(ValueError, match="no policy with the features"):
        Policy.from_resources(resources)


def test_a_policy_needs_a_weight_for_each_feature():
    with pytest.raises(ValueError, match="expected 8 weights, got 2"):
        Policy((1.0, 2.0))


def test_a_game_that_is_over_has_no_decision():
    with pytest.raises(ValueError, match="no move is possible"):
        Policy().decide((5,), TARGET, seeded(0))


def test_an_episode_adds_up_the_moves_of_its_spans():
    moves = [([0.75, *[0.0] * 7], [0.25] * 8), ([0.5] * 8, [0.25] * 8)]
    spans = [
        make_span("ro-1", "at-1", name=STEP_SPAN, attributes={CHOSEN_FEATURES: chosen, EXPECTED_FEATURES: expected})
        for chosen, expected in moves
    ]
    spans.append(make_span("ro-1", "at-1", name="agentlightning.annotation"))
    assert episode_of(spans, 0.5) == Episode(0.5, (0.75, *[0.0] * 7))


def test_a_decision_fits_the_attributes_of_a_span():
    decision = SOME.decide(HAND, TARGET, seeded(4))
    span = make_span("ro-1", "at-1", name=STEP_SPAN, attributes=decision.as_attributes())
    gradient = tuple(a - b for a, b in zip(decision.features, decision.expected_features, strict=True))
    assert episode_of([span], 1.0).gradient == pytest.approx(gradient)
    assert span.attributes["numbers_game.move"] == str(decision.move)


def test_an_episode_without_spans_teaches_nothing():
    assert episode_of([], 0.5).gradient == (0.0,) * 8


def test_a_step_follows_the_better_episodes_of_a_group():
    better, worse = Episode(1.0, (1.0, *[0.0] * 7)), Episode(0.0, (0.0, 1.0, *[0.0] * 6))
    weights = improve(Policy(), [[better, worse]], learning_rate=1.0).weights
    assert weights[0] > 0 > weights[1]
    assert weights[2:] == (0.0,) * 6


def test_groups_of_equals_teach_nothing():
    same = Episode(0.5, (1.0,) * 8)
    assert improve(SOME, [[same, same], [same]], learning_rate=1.0) == SOME
    assert improve(SOME, [], learning_rate=1.0) == SOME
