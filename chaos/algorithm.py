"""The algorithm: enqueues work in waves, cancels some, follows what finishes, checks and publishes resources."""

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable
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
TRICKLE: Final = (1, 3)
TRICKLE_SECONDS: Final = 1.0
"""So that calls are under way also when a fault strikes that lets nothing finish."""

PRODUCERS: Final = 3
SHARE_CANCELLED: Final = 0.3
MOST_CANCELLED: Final = 3
FOLLOW_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 1.0
REST_SECONDS: Final = 0.1
"""After a wave, and after a refusal for lack of memory."""


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
        await self._publish(1)
        producers = asyncio.gather(*(self._produce() for _ in range(PRODUCERS)))
        await asyncio.gather(producers, self._follow(producers), self._look(producers))

    async def _produce(self) -> None:
        """Enqueue waves while there is room, little when there is none, and cancel some of it."""
        while not self._is_stopping:
            has_room = len(self._unfinished) < MOST_UNFINISHED
            await self._enqueue(self._dice.randint(*(WAVE if has_room else TRICKLE)))
            await self._cancel_some()
            await asyncio.sleep(REST_SECONDS if has_room else TRICKLE_SECONDS)

    async def _publish(self, version: int) -> None:
        template = PromptTemplate(template=f"version {version}: {{task}}", engine="f-string")
        await self._patiently(lambda: self._store.update_resources(RESOURCES, {"policy": template}))

    async def _enqueue(self, count: int) -> None:
        """One wave of so many rollouts."""
        has_ids = self._dice.random() < 1 / 2
        wave = itertools.islice(self._tasks, count)
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

    async def _cancel_some(self) -> None:
        """Now and then, work turns out not to be wanted; it may have ended meanwhile."""
        if self._unfinished and self._dice.random() < SHARE_CANCELLED:
            ids = self._dice.sample(sorted(self._unfinished), min(MOST_CANCELLED, len(self._unfinished)))
            await self._patiently(lambda: self._store.cancel_rollouts(ids))

    async def _follow(self, producers: "asyncio.Future[Any]") -> None:
        """Read the completion log until all is finished and no more comes."""
        while self._unfinished or not producers.done():
            page = await self._patiently(lambda: self._store.completions(self._cursor, timeout=FOLLOW_SECONDS))
            self._cursor = page.cursor
            self._unfinished.difference_update(completion.rollout_id for completion in page.items)

    async def _look(self, producers: "asyncio.Future[Any]") -> None:
        """Publish resources; see what has become of those that are thought to be unfinished, and of their rewards."""
        for version in itertools.count(2):
            await asyncio.sleep(LOOK_SECONDS)
            if producers.done() and not self._unfinished:
                return
            await self._publish(version)
            await self._look_at(sorted(self._unfinished))

    async def _look_at(self, ids: list[str]) -> None:
        finished = await self._patiently(lambda: self._store.wait_for_rollouts(rollout_ids=ids, timeout=0))
        page = await self._patiently(lambda: self._store.query_rollouts(rollout_id_in=ids))
        gone = set(ids) - {rollout.rollout_id for rollout in page}
        for rollout_id in sorted(gone):
            logger.error("rollout %s is gone", rollout_id)
        over = [*finished, *(rollout for rollout in page if rollout.status in FINISHED)]
        self._unfinished -= {*gone, *(rollout.rollout_id for rollout in over)}
        await self._patiently(lambda: self._store.rewards(ids))
