"""What metrics cost: claims and reports per second with and without them, in turns on one server.

    python -m benchmarks.metering [--rounds 15] [--rollouts 1000]

A round enqueues rollouts; eight workers at once claim each and report its end, as runners do. Rounds take turns in a
changing order, so that what else the machine does falls on all alike; the median of the ratios within a turn counts.
"""

import argparse
import asyncio
import time
from collections.abc import Callable
from statistics import median
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.contract import LightningStore
from lightning_store.embedded import EmbeddedRedis
from lightning_store.metrics.events import EventCounter
from lightning_store.metrics.operations import MeteredStore, OperationMetrics
from lightning_store.records import EnqueueRolloutRequest

WORKERS: Final = 8


class Cost(NamedTuple):
    """Of one rollout, claimed and reported.

    Attributes:
        seconds: On the clock, of all workers together.
        busy: Of this process's processor time.
    """

    seconds: float
    busy: float


Wrap = Callable[[RedisLightningStore], LightningStore]


def metered(store: RedisLightningStore) -> LightningStore:
    """The store with its calls counted."""
    return MeteredStore(store, OperationMetrics(CollectorRegistry()))


async def measure(url: str, namespace: str, rollouts: int, wrap: Wrap, *, is_counted: bool) -> Cost:
    """What it costs to claim and report so many rollouts."""
    inner = RedisLightningStore(url, namespace=namespace)
    store = wrap(inner)
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=number) for number in range(rollouts)])

    async def work(worker_id: str) -> None:
        while (claimed := await store.dequeue_rollout(worker_id)) is not None:
            await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")

    counting = asyncio.ensure_future(EventCounter(inner, CollectorRegistry()).run()) if is_counted else None
    started, busy = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work(f"w{number}") for number in range(WORKERS)))
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    if counting is not None:
        counting.cancel()
        await asyncio.wait({counting})
    await inner.close()
    return Cost(seconds / rollouts, busy / rollouts)


async def compare(url: str, rounds: int, rollouts: int) -> None:
    """Measure in turns, and tell."""
    kinds: dict[str, tuple[Wrap, bool]] = {
        "without metrics": (lambda store: store, False),
        "calls counted": (metered, False),
        "events counted in the same process": (lambda store: store, True),
    }
    costs: dict[str, list[Cost]] = {kind: [] for kind in kinds}
    for turn in range(rounds + 1):
        for kind in sorted(kinds, key=lambda kind: (list(kinds).index(kind) + turn) % len(kinds)):
            wrap, is_counted = kinds[kind]
            cost = await measure(url, f"{turn}-{kind.replace(' ', '-')}", rollouts, wrap, is_counted=is_counted)
            if turn:  # the first only warms up
                costs[kind].append(cost)
    base = costs["without metrics"]
    print(f"{'':36}rollouts/s   ratio   busy us/rollout   ratio")
    for kind, found in costs.items():
        rates = median(each.seconds / other.seconds for each, other in zip(base, found, strict=True))
        busy = median(each.busy / other.busy for each, other in zip(found, base, strict=True))
        each, used = 1 / median(cost.seconds for cost in found), 1e6 * median(cost.busy for cost in found)
        print(f"{kind:36}{each:10.0f}{rates:8.3f}{used:18.0f}{busy:8.3f}")


def main() -> None:
    """Run with the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rollouts", type=int, default=1000)
    options = parser.parse_args()
    with EmbeddedRedis() as server:
        asyncio.run(compare(server.url, options.rounds, options.rollouts))


if __name__ == "__main__":
    main()
