"""Measures what waiting for replicas costs an enqueue: `python -m benchmarks.replicas`, some seconds.

A primary and two replicas on this machine; calls one at a time, in turns; medians of rounds with lowest and highest.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from lightning_store.backends.redis.store import RedisLightningStore
from tests.support.replicated import ReplicatedServers

ROUNDS = 9
CALLS = 200


async def enqueue_milliseconds(store: RedisLightningStore) -> float:
    """The median time of an enqueue."""
    taken = []
    for number in range(CALLS):
        started = time.perf_counter()
        await store.enqueue_rollout(number)
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


async def measure(url: str) -> None:
    """Print the figures."""
    stores = [RedisLightningStore(url, namespace=f"bench-{number}", min_replicas=number) for number in range(3)]
    rounds: dict[RedisLightningStore, list[float]] = {store: [] for store in stores}
    for number in range(ROUNDS + 1):
        for store in stores:
            figure = await enqueue_milliseconds(store)
            if number:  # the first round warms up
                rounds[store].append(figure)
    for number, figures in enumerate(rounds.values()):
        ratios = [figure / alone for figure, alone in zip(figures, rounds[stores[0]], strict=True)]
        print(
            f"| {number} | {statistics.median(figures):.2f} ({min(figures):.2f} to {max(figures):.2f}) "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    for store in stores:
        await store.close()


def main() -> None:
    """Start the servers and measure."""
    with tempfile.TemporaryDirectory() as folder, ReplicatedServers(Path(folder)) as servers:
        asyncio.run(measure(servers.url))


if __name__ == "__main__":
    main()
