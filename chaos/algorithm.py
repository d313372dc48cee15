"""The algorithm: enqueues work in waves, follows what finishes, checks and publishes resources in between."""

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from chaos.work import config_of, tasks
from lightning_store.contract import LightningStore
from lightning_store.errors import StoreFullError, StoreUnavailableError
from lightning_store.patience import Reach
from lightning_store.records import EnqueueRolloutRequest, PromptTemplate, Rollout
from lightning_store.status import FINISHED

logger = logging.getLogger("chaos")

RESOURCES: Final = "rs-policy"
MOST_UNFINISHED: Final = 80
WAVE: Final = (5, 25)
LOOK_SECONDS: Final = 2.0
REST_SECONDS: Final = 0.2
"""After a refusal for lack of memory, until the next try."""


class Algorithm:
    """One run: the same seed gives the same tasks.

    Half of its rollouts have ids of its own, so an enqueue without answer is sent again; of the others it never learns
    whether they exist, and goes on with new tasks.
    """

    def __init__(self, store: LightningStore, seed: int) -> None:
        self._store = store
        self._dice = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._tasks = tasks(seed)
        self._seed = seed
        self._cursor = ""
        self._unfinished: set[str] = set()
        self._patiently = Reach("algorithm").patiently
        self._is_stopping = False

    def stop(self) -> None:
        """Enqueue no more, and end when all is finished."""
        self._is_stopping = True

    async def run(self) -> None:
        """Work until told to stop, and then until the last rollout has finished."""
        self._cursor = (await self._patiently(lambda: self._store.completions("latest"))).cursor
        for version in itertools.count(1):
            if self._is_stopping:
                break
            await self._publish(version)
            await self._enqueue()
            await self._follow(MOST_UNFINISHED)
            await self._look()
        while self._unfinished:
            await self._follow(0)
            await self._look()

    async def _publish(self, version: int) -> None:
        template = PromptTemplate(template=f"version {version}: {{task}}", engine="f-string")
        await self._patiently(lambda: self._store.update_resources(RESOURCES, {"policy": template}))

    async def _enqueue(self) -> None:
        """One wave."""
        has_ids = self._dice.random() < 1 / 2
        wave = itertools.islice(self._tasks, self._dice.randint(*WAVE))
        requests = [self._request(task, has_ids) for task in wave]
        try:
            rollouts = await self._until_accepted(lambda: self._store.enqueue_many_rollouts(requests), has_ids)
        except StoreUnavailableError:
            logger.warning("a wave of %d tasks has no answer", len(requests))
        else:
            self._unfinished.update(rollout.rollout_id for rollout in rollouts)

    def _request(self, task: dict[str, Any], has_id: bool) -> EnqueueRolloutRequest:
        return EnqueueRolloutRequest(
            input=task,
            config=config_of(task),
            resources_id=RESOURCES,
            rollout_id=f"own-{self._seed}-{task['task']}" if has_id else None,
            group_id=task["kind"],
        )

    async def _until_accepted(
        self, enqueue: Callable[[], Awaitable[list[Rollout]]], is_repeatable: bool
    ) -> list[Rollout]:
        """Enqueue, again while there is no memory; also after a lost answer, if that cannot enqueue twice."""
        while True:
            try:
                return await (self._patiently(enqueue) if is_repeatable else enqueue())
            except StoreFullError:
                await asyncio.sleep(REST_SECONDS)

    async def _follow(self, most_unfinished: int) -> None:
        """Read the completion log until few enough are left, or a look at all of them is due."""
        loop = asyncio.get_running_loop()
        until = loop.time() + LOOK_SECONDS
        while True:
            page = await self._patiently(lambda: self._store.completions(self._cursor, timeout=0.5))
            self._cursor = page.cursor
            self._forget(completion.rollout_id for completion in page.items)
            if len(self._unfinished) <= most_unfinished or loop.time() > until:
                return

    async def _look(self) -> None:
        """See what has become of those that are thought to be unfinished, and of their rewards."""
        ids = sorted(self._unfinished)
        finished = await self._patiently(lambda: self._store.wait_for_rollouts(rollout_ids=ids, timeout=0))
        self._forget(rollout.rollout_id for rollout in finished)
        page = await self._patiently(lambda: self._store.query_rollouts(rollout_id_in=ids))
        known = {rollout.rollout_id for rollout in page}
        self._forget(rollout.rollout_id for rollout in page if rollout.status in FINISHED)
        for gone in set(ids) - known:
            logger.error("rollout %s is gone", gone)
        self._forget(set(ids) - known)
        await self._patiently(lambda: self._store.rewards(sorted(known)))

    def _forget(self, rollout_ids: Iterable[str]) -> None:
        self._unfinished.difference_update(rollout_ids)
