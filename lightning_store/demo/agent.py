"""The agent: plays one numbers game with the policy that its resources carry, one span per move.

Its chances come from the seed in its task alone: whichever runner plays it, the first time or after a lost worker, the
same policy makes the same moves.
"""

import random
from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import Tracer

from lightning_store.demo.game import play, reward, starting_numbers
from lightning_store.demo.policy import STEP_SPAN, Policy
from lightning_store.records import Rollout
from lightning_store.tracing import emit_reward


def agent(rollout: Rollout, resources: Mapping[str, Any], tracer: Tracer) -> None:
    """Play until the target is reached or one number is left, then emit the reward."""
    policy = Policy.from_resources(resources)
    chance = random.Random(rollout.input["seed"])  # noqa: S311 - a game, repeatable on purpose
    target = rollout.input["target"]
    numbers = starting_numbers(rollout.input["numbers"])
    results: list[int] = []
    while target not in results and len(numbers) > 1:
        with tracer.start_as_current_span(STEP_SPAN) as span:
            decision = policy.decide(numbers, target, chance)
            span.set_attributes(decision.as_attributes())
            numbers = play(numbers, decision.move)
            results.append(decision.move.result)
    emit_reward(reward(results, target))
