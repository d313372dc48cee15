"""Measures one namespace and three on a Cluster of three primaries: `python -m benchmarks.cluster`, about a minute.

All servers and the client share this machine, so calls per second say little about a Cluster that has machines of its
own. What a call takes of a node's processor says more: a node has one thread for commands, so its control slots can
serve no more than that allows.
"""

import asyncio
import os
import secrets
import statistics
import time
from collections.abc import Sequence
from itertools import count

from lightning_store.backends.redis.store import RedisLightningStore
from tests.support.redis_cluster import ClusterUnderTest, control_slot

ROUNDS = 7
SECONDS = 2.0
COROUTINES = 32

Figures = tuple[float, float, float]
"""Lives per second, processor time per life in microseconds on all nodes, and share of it on the busiest node."""


def names_on_each_node(cluster: ClusterUnderTest) -> list[str]:
    """Namespaces whose control slots lie on different primaries, one each."""
    by_node: dict[int, str] = {}
    for number in count():
        name = f"bench-{secrets.token_hex(4)}-{number}"
        by_node.setdefault(cluster.primary_of(control_slot(name)).port, name)
        if len(by_node) == len(cluster.primaries()):
            return list(by_node.values())
    raise AssertionError


def processor_seconds(cluster: ClusterUnderTest) -> list[float]:
    """What each primary has used so far."""
    used = []
    for node in cluster.primaries():
        with node.client() as client:
            info = client.info("cpu")
            used.append(info["used_cpu_sys"] + info["used_cpu_user"])
    return used


async def live(store: RedisLightningStore, until: float) -> int:
    """Enqueue, claim and complete one rollout after the other; how many."""
    lives = 0
    while time.monotonic() < until:
        await store.enqueue_rollout(lives)
        claimed = await store.dequeue_rollout("w", lease_seconds=60)
        if claimed is not None:
            await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")
            lives += 1
    return lives


async def measure(cluster: ClusterUnderTest, names: Sequence[str]) -> Figures:
    """One round on these namespaces."""
    stores = [RedisLightningStore(cluster.url, namespace=name) for name in names]
    for store in stores:
        await store.statistics()
    before, began = processor_seconds(cluster), time.monotonic()
    until = began + SECONDS
    lives = sum(await asyncio.gather(*(live(stores[n % len(stores)], until) for n in range(COROUTINES))))
    seconds = time.monotonic() - began
    used = [after - then for after, then in zip(processor_seconds(cluster), before, strict=True)]
    for store in stores:
        await store.close()
    return lives / seconds, 1e6 * sum(used) / lives, max(used) / sum(used)


def main() -> None:
    """Measure in turns, and print medians."""
    with ClusterUnderTest() as cluster:
        names = names_on_each_node(cluster)
        rounds: dict[str, list[Figures]] = {"one namespace": [], "three namespaces": []}
        for _ in range(ROUNDS):
            rounds["one namespace"].append(asyncio.run(measure(cluster, names[:1])))
            rounds["three namespaces"].append(asyncio.run(measure(cluster, names)))
        binary = cluster.nodes[0].binary
    print(f"{binary.name} {binary.version_text}, {os.cpu_count()} cores for six servers and one client process\n")
    print("| | lives per second | µs of all nodes per life | on the busiest node | lives per second that allows |")
    print("|---|---|---|---|---|")
    for name, figures in rounds.items():
        rate, cost, share = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"| {name} | {rate:,.0f} | {cost:.0f} | {share:.0%} | {1e6 / (cost * share):,.0f} |")
    ratios = [three[0] / one[0] for one, three in zip(*rounds.values(), strict=True)]
    print(f"\nLives per second, three against one: {statistics.median(ratios):.2f} times, {ROUNDS} rounds in turns")


if __name__ == "__main__":
    main()
