"""The algorithm of the demo: enqueue, follow what finishes, learn from spans and rewards, publish the next policy.

It knows a `LightningStore` and nothing of where it lies or who runs the rollouts.
"""

import random
import time
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Final, NamedTuple

from lightning_store.contract import LightningStore
from lightning_store.demo.learning import Episode, episode_of, improve
from lightning_store.demo.policy import RESOURCE_NAME, Policy
from lightning_store.demo.tasks import Task, TaskInput, TaskSet
from lightning_store.demo.training import BatchReport, TrainingResult, TrainingSettings
from lightning_store.records import EnqueueRolloutRequest, ResourcesUpdate, Rollout, RolloutMode

WAIT_SECONDS: Final = 5.0


class NoProgressError(RuntimeError):
    """Nothing has finished for too long: there is nobody to run the rollouts, or they all hang."""


async def train(
    store: LightningStore, tasks: TaskSet, settings: TrainingSettings, report: Callable[[BatchReport], None]
) -> TrainingResult:
    """Train a policy from nothing.

    Args:
        store: Any store; runners must be at work on it.
        tasks: What to train on and to measure with.
        settings: How.
        report: Called whenever a batch was enqueued or has finished.

    Raises:
        NoProgressError: Nothing finished for `settings.stall_seconds`.
    """
    return await _Training(store, settings, report).run(tasks)


class _Played(NamedTuple):
    """A rollout that has finished, and its reward; None when it failed."""

    rollout: Rollout
    reward: float | None


class _Training:
    """One run of the algorithm."""

    def __init__(
        self, store: LightningStore, settings: TrainingSettings, report: Callable[[BatchReport], None]
    ) -> None:
        self._store = store
        self._settings = settings
        self._report = report
        self._cursor = ""
        self._rollouts = 0

    async def run(self, tasks: TaskSet) -> TrainingResult:
        # Whatever finished on this store before is none of our business.
        self._cursor = (await self._store.completions("latest")).cursor
        chance = random.Random(self._settings.seed)  # noqa: S311 - repeatable on purpose
        policy = Policy()
        published = await self._store.add_resources({RESOURCE_NAME: policy.to_resource()})
        first = await self._measure(tasks, published)
        curve: list[float] = []
        for _ in range(self._settings.iterations):
            played = await self._play(self._draw(tasks.training, chance), published, "train")
            curve.append(_mean_reward(played))
            policy = improve(policy, await self._episodes(played), self._settings.learning_rate)
            published = await self._store.update_resources(
                published.resources_id, {RESOURCE_NAME: policy.to_resource()}
            )
        last = await self._measure(tasks, published)
        return TrainingResult(policy, published.version, self._rollouts, curve, first, last)

    async def _measure(self, tasks: TaskSet, published: ResourcesUpdate) -> float:
        """Mean reward on the held-out tasks: the same tasks and chances whatever the version."""
        seeds = range(self._settings.measurements)
        groups = [[task.as_input(seed) for seed in seeds] for task in tasks.held_out]
        return _mean_reward(await self._play(groups, published, "val"))

    def _draw(self, tasks: Sequence[Task], chance: random.Random) -> list[list[TaskInput]]:
        """Inputs of a batch: some tasks, each as often as a group is large."""
        drawn = chance.sample(tasks, self._settings.tasks_per_batch)
        return [[task.as_input(chance.getrandbits(32)) for _ in range(self._settings.group_size)] for task in drawn]

    async def _play(
        self, groups: Sequence[Sequence[TaskInput]], published: ResourcesUpdate, mode: RolloutMode
    ) -> list[_Played]:
        """Have a batch played to its end; answers in the order of the groups, not of the finishes."""
        requests = [
            EnqueueRolloutRequest(
                input=task,
                mode=mode,
                resources_id=published.resources_id,
                config=self._settings.config,
                group_id=f"{mode}-{published.version}-{number}",
            )
            for number, group in enumerate(groups)
            for task in group
        ]
        rollouts = await self._store.enqueue_many_rollouts(requests)
        self._rollouts += len(rollouts)
        self._report(BatchReport("enqueued", published.version, mode, len(rollouts)))
        rollout_ids = [rollout.rollout_id for rollout in rollouts]
        await self._follow(set(rollout_ids))
        rewards = await self._store.rewards(rollout_ids)
        played = [_Played(rollout, rewards[rollout.rollout_id]) for rollout in rollouts]
        self._report(BatchReport("finished", published.version, mode, len(rollouts), _mean_reward(played)))
        return played

    async def _follow(self, unfinished: set[str]) -> None:
        """Read the completion log until none of these rollouts is left."""
        patience = self._settings.stall_seconds
        while unfinished:
            began = time.monotonic()
            page = await self._store.completions(self._cursor, timeout=min(WAIT_SECONDS, patience))
            self._cursor = page.cursor
            finished = {completion.rollout_id for completion in page.items} & unfinished
            unfinished -= finished
            patience = self._settings.stall_seconds if finished else patience - (time.monotonic() - began)
            if unfinished and patience <= 0:
                raise NoProgressError(
                    f"{len(unfinished)} rollouts did not finish within {self._settings.stall_seconds:g} s"
                )

    async def _episodes(self, played: Sequence[_Played]) -> list[list[Episode]]:
        """What the rollouts of each task did, read from the spans of their latest attempts."""
        spans = await self._store.query_many_spans([each.rollout.rollout_id for each in played], "latest")
        groups: dict[str | None, list[Episode]] = {}
        for rollout, reward in played:
            if reward is not None:
                episode = episode_of(spans[rollout.rollout_id], reward)
                groups.setdefault(rollout.group_id, []).append(episode)
        return list(groups.values())


def _mean_reward(played: Sequence[_Played]) -> float:
    """Mean over all rollouts; those that failed earned nothing."""
    return fmean(reward or 0.0 for _, reward in played) if played else 0.0
