"""Servers of a test, ended after it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from lightning_store import InMemoryLightningStore
from lightning_store.contract import LightningStore
from lightning_store.http.server import LightningStoreServer


@pytest.fixture
async def make_server() -> AsyncIterator[Callable[..., Awaitable[LightningStoreServer]]]:
    """Starts servers: `server = await make_server(store, **options)`; without a store, over one in memory."""
    servers: list[LightningStoreServer] = []

    async def make(store: LightningStore | None = None, **options: Any) -> LightningStoreServer:
        servers.append(LightningStoreServer(store or InMemoryLightningStore(), **options))
        await servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        await server.close()
