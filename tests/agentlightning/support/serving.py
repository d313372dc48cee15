"""Agent Lightning's own server, on a free port of this machine."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agentlightning.store.client_server import LightningStoreServer

from lightning_store.http.server import LightningStoreServer as OurServer

HOST = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


@asynccontextmanager
async def their_server(store: Any) -> AsyncIterator[LightningStoreServer]:
    """Upstream's server over a store of either kind; it runs in a thread with a loop of its own."""
    server = LightningStoreServer(store, host=HOST, port=free_port())
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def our_server(store: Any) -> AsyncIterator[OurServer]:
    """Our server over a store of ours, in a thread with a loop of its own; the store is closed with it."""
    async with OurServer(store) as server:
        yield server
    await store.close()
