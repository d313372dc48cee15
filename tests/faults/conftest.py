"""What tests that break things share."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisUnderTest

OpenStore = Callable[..., RedisLightningStore]


@pytest.fixture
async def open_store(namespace: str) -> AsyncIterator[OpenStore]:
    """Opens stores on a server or URL, in the namespace of the test, and closes them after it."""
    opened: list[RedisLightningStore] = []

    def open_one(server: RedisUnderTest | str, **options: Any) -> RedisLightningStore:
        url = server if isinstance(server, str) else server.url
        opened.append(RedisLightningStore(url, **({"namespace": namespace} | options)))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
def raw(redis_server: RedisUnderTest) -> Iterator[Any]:
    """A plain client of the shared server; its answers are bytes."""
    with redis_server.client(decode_responses=False) as client:
        yield client


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    """A proxy before the shared server."""
    async with Proxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
async def others(redis_url: str, namespace: str) -> AsyncIterator[RedisLightningStore]:
    """The store of somebody whom no fault meets."""
    store = RedisLightningStore(redis_url, namespace=namespace)
    yield store
    await store.close()
