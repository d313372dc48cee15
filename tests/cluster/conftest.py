"""What tests on Clusters share."""

from collections.abc import AsyncIterator

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from tests.support.redis_cluster import ClusterUnderTest


@pytest.fixture
async def store(redis_cluster: ClusterUnderTest, namespace: str) -> AsyncIterator[RedisLightningStore]:
    """A store in real time on the shared Cluster."""
    store = RedisLightningStore(redis_cluster.url, namespace=namespace)
    yield store
    await store.close()
