"""What tests that break things share."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
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
