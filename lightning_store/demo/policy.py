"""The policy: a softmax over the legal moves, linear in a few features made by hand.

It travels as an `llm` resource: a policy is what a model is to a runner, and `sampling_parameters` takes any JSON, so
that weights arrive as the same floating point numbers. (JSON text in a prompt template would have to escape its braces
from the template's engine.) Inference needs no numpy, which runners thus need not load.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from typing_extensions import Self

from lightning_store.demo.game import OPERATORS, Move, Numbers, legal_moves, nearness, without
from lightning_store.records import LLM

RESOURCE_NAME: Final = "policy"
ENDPOINT: Final = "inprocess://lightning_store.demo.policy"
MODEL: Final = "numbers-game-softmax"

FEATURES: Final = ("add", "subtract", "multiply", "divide", "ratio", "nearness", "overshoot", "outlook")
"""What a move looks like: its operator, how its result compares to the target, what one more move could make of it."""

STEP_SPAN: Final = "numbers_game.move"
MOVE: Final = "numbers_game.move"
PROBABILITY: Final = "numbers_game.probability"
CHOSEN_FEATURES: Final = "numbers_game.chosen_features"
EXPECTED_FEATURES: Final = "numbers_game.expected_features"
"""The span of a move and its attributes."""


@dataclass(frozen=True)
class Decision:
    """One move that the policy chose.

    Attributes:
        move: The move.
        features: Features of that move, in the order of `FEATURES`.
        expected_features: Mean features of all legal moves under the policy. The difference of the two is the gradient
            of the logarithm of the move's probability.
        probability: How likely the policy was to choose it.
    """

    move: Move
    features: tuple[float, ...]
    expected_features: tuple[float, ...]
    probability: float

    def as_attributes(self) -> dict[str, str | float | tuple[float, ...]]:
        """The decision as attributes of a span: for the algorithm to learn from, and for people to read."""
        return {
            MOVE: str(self.move),
            PROBABILITY: self.probability,
            CHOSEN_FEATURES: self.features,
            EXPECTED_FEATURES: self.expected_features,
        }


@dataclass(frozen=True)
class Policy:
    """Weights of the features, in the order of `FEATURES`; all 0 means that every legal move is equally likely."""

    weights: tuple[float, ...] = (0.0,) * len(FEATURES)

    def __post_init__(self) -> None:
        if len(self.weights) != len(FEATURES):
            raise ValueError(f"expected {len(FEATURES)} weights, got {len(self.weights)}")

    @classmethod
    def from_resources(cls, resources: Mapping[str, Any]) -> Self:
        """The policy that a snapshot of resources carries.

        Raises:
            ValueError: There is none, or it has other features.
        """
        resource = resources.get(RESOURCE_NAME)
        parameters = resource.sampling_parameters if isinstance(resource, LLM) else {}
        weights: dict[str, float] = parameters.get("weights", {})
        if set(weights) == set(FEATURES):
            return cls(tuple(float(weights[name]) for name in FEATURES))
        raise ValueError(f"the resources carry no policy with the features {', '.join(FEATURES)}")

    def to_resource(self) -> LLM:
        """The policy as a resource."""
        weights = dict(zip(FEATURES, self.weights, strict=True))
        return LLM(endpoint=ENDPOINT, model=MODEL, sampling_parameters={"weights": weights})

    def decide(self, numbers: Numbers, target: int, chance: random.Random) -> Decision:
        """Choose one of the legal moves at random, as likely as the policy has it.

        Raises:
            ValueError: There is no legal move.
        """
        moves = legal_moves(numbers)
        if not moves:
            raise ValueError(f"no move is possible with {numbers}")
        rows = [features(numbers, target, move) for move in moves]
        likelihoods = self._probabilities(rows)
        index = chance.choices(range(len(moves)), likelihoods)[0]
        expected = tuple(
            sum(likelihood * value for likelihood, value in zip(likelihoods, column, strict=True))
            for column in zip(*rows, strict=True)
        )
        return Decision(moves[index], rows[index], expected, likelihoods[index])

    def _probabilities(self, rows: Sequence[tuple[float, ...]]) -> list[float]:
        scores = [sum(weight * value for weight, value in zip(self.weights, row, strict=True)) for row in rows]
        highest = max(scores)
        powers = [math.exp(score - highest) for score in scores]
        total = sum(powers)
        return [power / total for power in powers]


def features(numbers: Numbers, target: int, move: Move) -> tuple[float, ...]:
    """What a move looks like to the policy: values from 0 to 1 in the order of `FEATURES`."""
    result = move.result
    return (
        *(1.0 if move.operator == operator else 0.0 for operator in OPERATORS),
        min(result, target) / max(result, target),
        nearness(result, target),
        1.0 if result > target else 0.0,
        _outlook(result, without(numbers, move), target),
    )


def _outlook(result: int, rest: Sequence[int], target: int) -> float:
    """Nearness of the best that one more move with the result could make, division left out."""
    return max(
        (
            nearness(value, target)
            for number in rest
            for value in (result + number, abs(result - number), result * number)
        ),
        default=0.0,
    )
