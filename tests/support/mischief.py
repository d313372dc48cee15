"""Random operations on a store, from a seed: everything that clients may do, in any order, sense or no sense."""

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from lightning_store.contract import LightningStore
from lightning_store.errors import InvalidRequestError, NotFoundError, SpansEvictedError
from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from lightning_store.status import ATTEMPT_STATUSES, FINISHED, ROLLOUT_STATUSES
from tests.support.clock import SettableClock
from tests.support.factories import make_span, some_resources

T = TypeVar("T")

QUEUES: Final = ("default", "first", "second")
WORKERS: Final = ("anna", "bert", "c:d")
GROUPS: Final = ("red", "blue")
KNOWN_IDS: Final = 40
"""So many of the latest rollouts are touched again, so that most operations meet a record with a past."""


class Mischief:
    """Does random operations, one per step; the same seed, clock and ids give the same operations.

    Attributes:
        done: Names of the operations that were done, refused ones included.
    """

    def __init__(self, store: LightningStore, clock: SettableClock, seed: int) -> None:
        self.done: list[str] = []
        self._store = store
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._rollouts: list[str] = []
        self._attempts: list[tuple[str, str]] = []
        self._operations: list[Callable[[], Awaitable[Any]]] = [
            *[self.enqueue, self.claim] * 4,
            *[self.report, self.add_spans, self.pass_time] * 3,
            *[self.update_rollout, self.update_attempt, self.renew, self.release, self.start_attempt] * 2,
            self.start_rollout,
            self.number_spans,
            self.cancel,
            self.delete,
            self.prune,
            self.evict,
            self.consume,
            self.expire,
            self.update_resources,
            self.update_worker,
            self.read,
        ]

    async def step(self) -> None:
        """Do one operation; that it is refused is fine."""
        operation = self._random.choice(self._operations)
        self.done.append(operation.__name__)
        try:
            await operation()
        except (NotFoundError, InvalidRequestError):
            self.done[-1] += " (refused)"
        except SpansEvictedError:
            self.done[-1] += " (evicted)"

    def _one(self, items: Sequence[T]) -> T:
        return self._random.choice(items)

    def _some(self, items: Sequence[T]) -> list[T]:
        return self._random.sample(items, self._random.randint(0, len(items)))

    def _maybe(self, value: T) -> T | None:
        return value if self._random.random() < 0.5 else None

    def _rollout(self) -> str:
        return self._one(self._rollouts[-KNOWN_IDS:] or ["ro-unknown"])

    def _attempt(self) -> tuple[str, str]:
        return self._one(self._attempts[-KNOWN_IDS:] or [("ro-unknown", "at-unknown")])

    def _seconds(self) -> float:
        return self._one([0.5, 1.0, 3.0, 10.0, 60.0])

    def _config(self) -> RolloutConfig:
        return RolloutConfig(
            timeout_seconds=self._maybe(self._seconds()),
            unresponsive_seconds=self._maybe(self._seconds()),
            max_attempts=self._random.randint(1, 4),
            retry_condition=self._some(["failed", "timeout", "unresponsive"]),
            retry_delay_seconds=self._one([0.0, 0.0, 2.0, 20.0]),
            max_worker_losses=self._maybe(self._random.randint(0, 2)),
        )

    def _new(self) -> dict[str, Any]:
        return {
            "input": {"task": self._random.randint(0, 9)},
            "mode": self._maybe("train"),
            "config": self._maybe(self._config()),
            "metadata": self._maybe({"kind": "test"}),
            "rollout_id": self._one([None, None, None, f"own-{self._random.randint(0, 5)}"]),
            "group_id": self._maybe(self._one(GROUPS)),
            "queue": self._one(QUEUES),
        }

    def _note(self, rollouts: Sequence[Any]) -> None:
        for rollout in rollouts:
            self._rollouts.append(rollout.rollout_id)
            if getattr(rollout, "attempt", None) is not None:
                self._attempts.append((rollout.rollout_id, rollout.attempt.attempt_id))

    # -- operations --------------------------------------------------------------------------------------------------

    async def enqueue(self) -> None:
        requests = [EnqueueRolloutRequest(**self._new()) for _ in range(self._random.randint(1, 3))]
        self._note(await self._store.enqueue_many_rollouts(requests))

    async def start_rollout(self) -> None:
        worker, lease = self._maybe(self._one(WORKERS)), self._maybe(self._seconds())
        self._note([await self._store.start_rollout(**self._new(), worker_id=worker, lease_seconds=lease)])

    async def claim(self) -> None:
        claimed = await self._store.dequeue_many_rollouts(
            limit=self._random.randint(0, 3),
            worker_id=self._maybe(self._one(WORKERS)),
            queues=self._some(QUEUES) or QUEUES,
            lease_seconds=self._maybe(self._seconds()),
        )
        self._note(claimed)

    async def start_attempt(self) -> None:
        worker, lease = self._maybe(self._one(WORKERS)), self._maybe(self._seconds())
        self._note([await self._store.start_attempt(self._rollout(), worker, lease_seconds=lease)])

    async def report(self) -> None:
        await self._store.update_attempt(*self._attempt(), status=self._one(["succeeded", "failed", "running"]))

    async def update_attempt(self) -> None:
        rollout_id, attempt_id = self._attempt()
        changes = {
            "status": self._one(ATTEMPT_STATUSES),
            "worker_id": self._one([*WORKERS, ""]),
            "last_heartbeat_time": self._clock.now() + self._one([-100.0, -1.0, 0.0, 5.0]),
            "metadata": {"n": 1},
        }
        chosen: dict[str, Any] = {field: changes[field] for field in self._some(list(changes))}
        await self._store.update_attempt(rollout_id, self._one([attempt_id, "latest"]), **chosen)

    async def update_rollout(self) -> None:
        changes = {
            "status": self._one(ROLLOUT_STATUSES),
            "config": self._config(),
            "metadata": self._maybe({"m": 2}),
            "mode": self._maybe("val"),
        }
        chosen: dict[str, Any] = {field: changes[field] for field in self._some(list(changes))}
        await self._store.update_rollout(self._rollout(), **chosen)

    async def release(self) -> None:
        await self._store.release_attempt(*self._attempt())

    async def renew(self) -> None:
        attempts = [self._attempt() for _ in range(self._random.randint(0, 4))]
        await self._store.renew(self._one(WORKERS), attempts, self._maybe({"load": 0.5}))

    async def add_spans(self) -> None:
        spans = []
        for _ in range(self._random.randint(1, 4)):
            name = self._one([f"{self._random.randint(0, 50):016x}", f"text {self._random.randint(0, 50)}"])
            number = self._random.randint(0, 100)
            spans.append(make_span(*self._attempt(), span_id=name, sequence_id=number))
        await self._store.add_many_spans(spans, renumber=self._random.random() < 0.5)

    async def number_spans(self) -> None:
        await self._store.get_many_span_sequence_ids([self._attempt() for _ in range(self._random.randint(1, 3))])

    async def cancel(self) -> None:
        if self._random.random() < 0.5:
            await self._store.cancel_rollouts([self._rollout() for _ in range(3)])
        else:
            statuses = self._maybe(self._random.sample(ROLLOUT_STATUSES, 3))
            await self._store.cancel_rollouts(group_id=self._one(GROUPS), status_in=statuses)

    async def delete(self) -> None:
        await self._store.delete_rollouts([self._rollout() for _ in range(5)])

    async def prune(self) -> None:
        consumers = await self._store.query_consumers()
        await self._store.prune(
            older_than_seconds=self._maybe(50.0),
            keep_latest=20,
            status_in=self._maybe([status for status in ROLLOUT_STATUSES if status in FINISHED][:2]),
            consumed_cursor=self._maybe(consumers[0].cursor) if consumers else None,
        )

    async def evict(self) -> None:
        await self._store.evict_spans()

    async def consume(self) -> None:
        name = self._one(["trainer", "viewer"])
        if self._random.random() < 0.2:
            await self._store.forget_consumer(name)
        else:
            page = await self._store.completions(limit=self._random.randint(1, 30))
            await self._store.acknowledge_completions(name, page.cursor)

    async def expire(self) -> None:
        await self._store.expire_attempts(limit=self._random.randint(1, 5))
        await self._store.expire_workers(silent_seconds=30.0)

    async def update_resources(self) -> None:
        if self._random.random() < 0.5:
            await self._store.add_resources(some_resources())
        else:
            await self._store.update_resources(self._one(["rs-own", "rs-other"]), some_resources("large"))

    async def update_worker(self) -> None:
        await self._store.update_worker(self._one(WORKERS), {"load": self._random.random()})

    async def read(self) -> None:
        rollout_id = self._rollout()
        await self._store.get_rollout_by_id(rollout_id)
        await self._store.query_attempts(rollout_id)
        await self._store.query_rollouts(status_in=[self._one(ROLLOUT_STATUSES)], limit=5)
        await self._store.query_spans(rollout_id)
        await self._store.rewards([rollout_id])

    async def pass_time(self) -> None:
        self._clock.advance(self._one([0.1, 0.5, 1.0, 1.0, 4.0, 20.0]))
