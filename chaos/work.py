"""The work: tasks of several kinds, and the agents that carry them out."""

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from opentelemetry.trace import Tracer

from lightning_store.records import AttemptedRollout, AttemptStatus, RolloutConfig, RolloutStatus
from lightning_store.tracing import emit_reward

NO_LIMIT: Final = 10_000
"""However often a runner is killed: that alone ends no rollout."""

KINDS: Final[Mapping[str, RolloutStatus]] = {
    "plain": "succeeded",  # returns nothing
    "rewarded": "succeeded",  # emits a reward midway and returns another
    "failing": "failed",  # raises, each time
    "flaky": "succeeded",  # raises the first time
    "hanging": "succeeded",  # takes longer than it may the first time
}
"""Kinds of tasks, and how their rollouts must end."""

_SHARES: Final = {"plain": 5, "rewarded": 5, "failing": 2, "flaky": 2, "hanging": 1}
_HANGING_TIMEOUT: Final = 1.5
_RETRIES: Final[Sequence[AttemptStatus]] = ("failed", "timeout", "unresponsive")


class TaskError(RuntimeError):
    """What a task that is to fail raises."""


def tasks(seed: int) -> Iterator[dict[str, Any]]:
    """Inputs of rollouts, without end; each has a number of its own."""
    dice = random.Random(seed)  # noqa: S311 - repeatable on purpose
    number = 0
    while True:
        number += 1
        [kind] = dice.choices(list(_SHARES), list(_SHARES.values()))
        seconds = min(2.0, dice.lognormvariate(-1.2, 0.8))
        yield {"task": number, "kind": kind, "seconds": round(seconds, 3), "steps": dice.randint(1, 3)}


def config_of(task: Mapping[str, Any]) -> RolloutConfig:
    """Limits and retries of a task."""
    if task["kind"] == "hanging":
        return RolloutConfig(
            timeout_seconds=_HANGING_TIMEOUT, max_attempts=NO_LIMIT, retry_condition=["timeout", "unresponsive"]
        )
    return RolloutConfig(max_attempts=3, retry_condition=list(_RETRIES), max_worker_losses=NO_LIMIT)


def reward_of(task: Mapping[str, Any]) -> float | None:
    """The last reward that a task which succeeds emits."""
    return float(task["task"]) if task["kind"] == "rewarded" else None


def on_thread(rollout: AttemptedRollout, resources: Mapping[str, Any], tracer: Tracer) -> float | None:
    """A plain function as agent."""
    for seconds in _pauses(rollout):
        with tracer.start_as_current_span("step"):
            time.sleep(seconds)
    return _end(rollout)


async def on_loop(rollout: AttemptedRollout, resources: Mapping[str, Any], tracer: Tracer) -> float | None:
    """A coroutine as agent."""
    for seconds in _pauses(rollout):
        with tracer.start_as_current_span("step"):
            await asyncio.sleep(seconds)
    return _end(rollout)


def _pauses(rollout: AttemptedRollout) -> list[float]:
    task = rollout.input
    seconds = task["seconds"]
    if task["kind"] == "hanging":
        is_first = rollout.attempt.sequence_id == 1
        seconds = 2 * _HANGING_TIMEOUT if is_first else min(seconds, _HANGING_TIMEOUT / 3)
    return [seconds / task["steps"]] * task["steps"]


def _end(rollout: AttemptedRollout) -> float | None:
    task = rollout.input
    if task["kind"] == "failing" or (task["kind"] == "flaky" and rollout.attempt.sequence_id == 1):
        raise TaskError(f"task {task['task']} fails")
    reward = reward_of(task)
    if reward is not None:
        emit_reward(-reward)
    return reward
