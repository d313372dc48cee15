"""Operations of a client that send several commands, for processes that are killed in the middle."""

import asyncio
import contextlib
from typing import Any, ClassVar, Final

from lightning_store.backends.redis.scripts import Call
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.cli.rollout_changes import retry_rollouts
from lightning_store.healthcheck import HealthCheck
from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from tests.support.factories import attempt_of, make_span, requests_for, span_of
from tests.support.until import until

LEASE_SECONDS: Final = 60.0
BULK: Final = 450
"""Rollouts for operations that take 200 at a time."""
LARGE_BULK: Final = 1_050
"""Rollouts for claims, which take 1,000 at a time."""
KEPT: Final = RolloutConfig(max_attempts=3, retry_condition=["unresponsive"])


class Operation:
    """One that sends several commands.

    Its `prepare` fills an empty store, and `seconds_before` pass then; `work` is what a process does, and what another
    process does again; `outcome` is what can be observed in the end, and must not depend on a crash.
    """

    least_commands: ClassVar[int] = 2
    seconds_before: ClassVar[float] = 0.0

    async def prepare(self, store: RedisLightningStore) -> None:
        pass

    @staticmethod
    async def work(store: RedisLightningStore) -> None:
        raise NotImplementedError

    async def outcome(self, store: RedisLightningStore) -> Any:
        return (await store.statistics())["rollouts_by_status"]


class FirstCalls(Operation):
    """The server does not know the scripts yet: each call is two commands."""

    async def prepare(self, store: RedisLightningStore) -> None:
        await store._connections.command("SCRIPT", "FLUSH")

    @staticmethod
    async def work(store: RedisLightningStore) -> None:
        await store.enqueue_rollout("task", rollout_id="mine", config=KEPT)
        await store.dequeue_rollout("w", lease_seconds=LEASE_SECONDS)

    least_commands = 4


class Cancel(Operation):
    async def prepare(self, store: RedisLightningStore) -> None:
        await store.enqueue_many_rollouts(requests_for(list(range(BULK)), group_id="g"))

    @staticmethod
    async def work(store: RedisLightningStore) -> None:
        await store.cancel_rollouts(group_id="g")

    least_commands = 4


class Delete(Operation):
    async def prepare(self, store: RedisLightningStore) -> None:
        requests = [EnqueueRolloutRequest(input=n, rollout_id=f"r{n}", group_id="g") for n in range(BULK)]
        await store.enqueue_many_rollouts(requests)
        await store.cancel_rollouts(group_id="g")

    @staticmethod
    async def work(store: RedisLightningStore) -> None:
        await store.delete_rollouts([f"r{n}" for n in range(BULK)])

    least_commands = 3


class Prune(Operation):
    async def prepare(self, store: RedisLightningStore) -> None:
        await store.enqueue_many_rollouts(requests_for(list(range(250)), group_id="g"))
        await store.cancel_rollouts(group_id="g")

    @staticmethod
    async def work(store: RedisLightningStore) -> None:
        await store.prune(keep_latest=10)


class LargeClaim(Operation):
    """What the killed process has claimed is queued again by its lease, and claimed by the next."""

    async def prepare(self, store: RedisLightningStore) -> None:
        await store.enqueue_many_rollouts(requests_for(list(range(LARGE_BULK)), config=KEPT))

    @staticmethod
    async def work(store: RedisLightningStore) -> None:
        claimed = await store.dequeue_many_rollouts(limit=LARGE_BULK, worker_id="w", lease_seconds=LEASE_SECONDS)
        assert len(claimed) == LARGE_BULK


class ClaimBehindVoidEntries(Operation):
    """One script discards a thousand of them at most."""

    async def prepare(self, store: RedisLightningStore) -> None:
        void = await store.enqueue_many_rollouts(requests_for(list(range(LARGE_BULK)), group_id="g"))
        await store.cancel_rollouts([each.rollout_id for each in void])
        await store.enqueue_rollout("task", config=KEPT)

    @staticmethod
    async def work(store: RedisLightningStore) -> None:
        assert await store.dequeue_rollout("w", lease_seconds=LEASE_SECONDS) is not None


class WaitForWork(Operation):
    """A look, the wait, the claim that travels with it, and meanwhile the call that makes the work."""

    least_commands = 4

    @staticmethod
    async def work(store: RedisLightningStore) -> None:
        waits = asyncio.create_task(store.dequeue_rollout("w", timeout=20, lease_seconds=LEASE_SECONDS))
        await until(lambda: waits.done() or len(store._loops.get().lines.get(("default",), ())) == 1)
        await store.enqueue_rollout("task", rollout_id="mine", config=KEPT)
        assert await waits is not None


class CancelledClaim(Operation):
    """It is taken back: what it claimed is asked for, and released one by one."""

    async def prepare(self, store: RedisLightningStore) -> None:
        await store.enqueue_many_rollouts(requests_for(list("abc"), config=KEPT))

    @staticmethod
    async def work(store: RedisLightningStore) -> None:
        claim = asyncio.create_task(store.dequeue_many_rollouts(limit=3, lease_seconds=LEASE_SECONDS))
        send = store._connections.run

        async def cancelled_when_answered(call: Call) -> Any:
            answer = await send(call)
            claim.cancel()
            await asyncio.sleep(0)
            return answer

        store._connections.run = cancelled_when_answered  # type: ignore[method-assign]  # of this object only
        with contextlib.suppress(asyncio.CancelledError):
            await claim
        store._connections.run = send  # type: ignore[method-assign]
        await until(lambda: not store._loops.get().background)

    least_commands = 5


class Spans(Operation):
    """Spans of three rollouts in one pipeline, those of one in two steps; and each has been stored once."""

    async def prepare(self, store: RedisLightningStore) -> None:
        for name in "abc":
            await store.start_rollout(name, rollout_id=name)

    @staticmethod
    async def work(store: RedisLightningStore) -> None:
        latest = {name: (await attempt_of(store, name)).attempt_id for name in "abc"}
        spans = [
            make_span(name, latest[name], span_id=f"{number:016x}", sequence_id=0)
            for name, count in (("a", 2), ("b", 700), ("c", 3)) for number in range(1, count + 1)
        ]  # fmt: skip
        await store.add_many_spans(spans, renumber=True)

    async def outcome(self, store: RedisLightningStore) -> Any:
        return {name: sorted(span.sequence_id for span in (await store.query_spans(name)).items) for name in "abc"}

    least_commands = 7


class SpansInSteps(Spans):
    """On a Cluster numbers are set aside first: those of a process that was killed are not used again."""

    async def outcome(self, store: RedisLightningStore) -> Any:
        numbers = await super().outcome(store)
        return {name: (len(each), len(set(each))) for name, each in numbers.items()}


class DeleteWithSpans(Operation):
    async def prepare(self, store: RedisLightningStore) -> None:
        for name in "abc":
            started = await store.start_rollout(name, rollout_id=name)
            await store.add_many_spans([span_of(started), span_of(started, span_id="text")])
            await store.update_attempt(name, "latest", status="succeeded")

    @staticmethod
    async def work(store: RedisLightningStore) -> None:
        await store.delete_rollouts(["a", "b"])

    async def outcome(self, store: RedisLightningStore) -> Any:
        return await super().outcome(store), (await store.statistics())["total_spans"]

    least_commands = 1


class Sweep(Operation):
    """Of the daemon: what is due in batches, and workers that are silent."""

    seconds_before = LEASE_SECONDS + 1

    async def prepare(self, store: RedisLightningStore) -> None:
        queued = await store.enqueue_many_rollouts(requests_for(list(range(50)), config=KEPT))
        for number, _ in enumerate(queued):
            await store.dequeue_rollout(f"w{number}", lease_seconds=LEASE_SECONDS)

    @staticmethod
    async def work(store: RedisLightningStore) -> None:
        await HealthCheck(store, batch=20, silent_seconds=30)._sweep()

    least_commands = 5

    async def outcome(self, store: RedisLightningStore) -> Any:
        return await super().outcome(store), sorted(worker.status for worker in await store.query_workers())


class Retry(Operation):
    """`lightning-store rollouts retry`."""

    async def prepare(self, store: RedisLightningStore) -> None:
        await store.enqueue_many_rollouts(requests_for(list(range(4)), group_id="g"))
        await store.cancel_rollouts(group_id="g")

    @staticmethod
    async def work(store: RedisLightningStore) -> None:
        await retry_rollouts(store, None, group_id="g", status_in=None)

    least_commands = 6


class SettlingQuery(Operation):
    """Queries settle all that is due before they read."""

    seconds_before = LEASE_SECONDS + 1

    async def prepare(self, store: RedisLightningStore) -> None:
        claims = requests_for(list(range(BULK)), config=KEPT)
        await store.enqueue_many_rollouts(claims)
        await store.dequeue_many_rollouts(limit=BULK, lease_seconds=LEASE_SECONDS)

    @staticmethod
    async def work(store: RedisLightningStore) -> None:
        await store.query_rollouts(rollout_id_contains="no such", limit=5)

    least_commands = 4


OPERATIONS: Final = [
    FirstCalls, Cancel, Delete, DeleteWithSpans, Prune, LargeClaim, ClaimBehindVoidEntries, WaitForWork, CancelledClaim,
    Spans, Sweep, Retry, SettlingQuery,
]  # fmt: skip
