"""A primary is killed while work runs: its replica takes over, and clients follow."""

import asyncio
import time
from contextlib import suppress

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.errors import StoreUnavailableError
from tests.support.busy_namespace import BusyNamespace, check_all_done
from tests.support.redis_cluster import PRIMARIES, ClusterUnderTest, control_slot
from tests.support.until import until

NODE_TIMEOUT_SECONDS = 2.0
FOLLOWED_SECONDS = 2.0
UNCERTAIN_SECONDS = 1.0
"""Replication is asynchronous: what was acknowledged so shortly before the end of a primary may be lost."""


@pytest.fixture
def cluster(tmp_path):
    with ClusterUnderTest(tmp_path, node_timeout_seconds=NODE_TIMEOUT_SECONDS) as cluster:
        yield cluster


@pytest.mark.parametrize("min_replicas", [0, 1])
async def test_clients_follow_when_the_primary_of_the_control_slot_is_killed(cluster, namespace, min_replicas):
    """With `min_replicas` = all replicas, nothing acknowledged is lost; writes wait until there is one again."""
    slot = control_slot(namespace)
    killed = cluster.primary_of(slot)
    url = f"{cluster.url}?min_replicas={min_replicas}"
    async with BusyNamespace(url, namespace).at_work() as busy:
        await asyncio.sleep(1.0)
        killed.kill()
        at = time.monotonic()
        await until(lambda: cluster.is_whole() and cluster.primary_of(slot) is not killed)
        taken_over = time.monotonic()
        if min_replicas:
            await asyncio.to_thread(killed.start)
        await until(lambda: max(busy.enqueued.values()) > at and max(busy.completed.values()) > at)
        followed = max(taken_over, min(each for each in busy.completed.values() if each > at))
        await asyncio.sleep(1.0)

    assert min_replicas or followed - taken_over <= FOLLOWED_SECONDS, (
        f"failover {taken_over - at:.1f} s, clients {followed - at:.1f} s"
    )
    uncertain: frozenset[str] = (
        frozenset()
        if min_replicas
        else frozenset(
            id
            for times in (busy.enqueued, busy.completed)
            for id, since in times.items()
            if at - UNCERTAIN_SECONDS < since < taken_over
        )
    )
    store = RedisLightningStore(cluster.url, namespace=namespace)
    await check_all_done(store, busy, lost=uncertain)
    await store.close()


async def test_all_nodes_are_asked_again_when_one_that_nothing_else_is_sent_to_was_replaced(cluster, namespace):
    """As by a daemon, which looks at the memory of all nodes, and sends the rest to the control slot."""
    store = RedisLightningStore(cluster.url, namespace=namespace, retry_seconds=1.0)
    await store.enqueue_rollout("task")
    assert len(await store._connections.info("memory")) == PRIMARIES
    control = cluster.control_primary(namespace)
    killed = next(node for node in cluster.primaries() if node is not control)
    killed.kill()
    await until(lambda: cluster.is_whole() and killed not in cluster.primaries())

    assert len(await store._connections.info("memory")) == PRIMARIES

    await store.close()


async def test_keys_of_all_nodes_are_found_again_when_one_was_replaced(cluster, namespace):
    store = RedisLightningStore(cluster.url, namespace=namespace, retry_seconds=1.0)
    await store.enqueue_rollout("task")
    control = cluster.control_primary(namespace)
    killed = next(node for node in cluster.primaries() if node is not control)
    killed.kill()
    await until(lambda: cluster.is_whole() and killed not in cluster.primaries())

    with suppress(StoreUnavailableError):  # half of a walk along the keys of a server cannot go on at another
        await store.audit()
    assert (await store.audit()).findings == []

    await store.close()
