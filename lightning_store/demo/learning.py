"""One step of policy gradient: REINFORCE, with the rollouts of the same task as each other's baseline (GRPO)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lightning_store.demo.policy import CHOSEN_FEATURES, EXPECTED_FEATURES, FEATURES, STEP_SPAN, Policy
from lightning_store.spans import Span

SMALLEST_SPREAD: Final = 1e-3
"""Added to the spread of a group's rewards, so that hardly differing ones do not count as much as differing ones."""


@dataclass(frozen=True)
class Episode:
    """One finished rollout as the algorithm sees it.

    Attributes:
        reward: What the agent earned.
        gradient: Gradient of the logarithm of the probability of all its moves, by the weights.
    """

    reward: float
    gradient: tuple[float, ...]


def episode_of(spans: Iterable[Span], reward: float) -> Episode:
    """Read an episode from the spans of its attempt; other spans than those of moves are passed over."""
    moves = [span.attributes for span in spans if span.name == STEP_SPAN]
    surprises = np.zeros((len(moves), len(FEATURES)))
    for row, move in enumerate(moves):
        surprises[row] = np.subtract(move[CHOSEN_FEATURES], move[EXPECTED_FEATURES])
    return Episode(reward, tuple(surprises.sum(axis=0).tolist()))


def improve(policy: Policy, groups: Sequence[Sequence[Episode]], learning_rate: float) -> Policy:
    """The next policy.

    Args:
        policy: The policy that played the episodes.
        groups: The episodes, those of one task together; groups of one teach nothing.
        learning_rate: Length of the step.

    Returns:
        A policy under which the better episodes of each group are likelier, the worse ones less likely.
    """
    gradient = np.zeros(len(policy.weights))
    for group in groups:
        rewards = np.array([episode.reward for episode in group])
        advantages = (rewards - rewards.mean()) / (rewards.std() + SMALLEST_SPREAD)
        gradient += advantages @ np.array([episode.gradient for episode in group])
    step = learning_rate * gradient / max(1, sum(len(group) for group in groups))
    return Policy(tuple((np.array(policy.weights) + step).tolist()))
