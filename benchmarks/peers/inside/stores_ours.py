"""Ours: the store in memory, the HTTP server with one worker, the client."""

from lightning_store import InMemoryLightningStore, LightningStoreClient, LightningStoreServer
from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from lightning_store.spans import Span

__all__ = ["EnqueueRolloutRequest", "RolloutConfig", "Span", "new_client", "new_store", "scanner", "serve"]

new_store = InMemoryLightningStore
new_client = LightningStoreClient


def scanner(store):
    return store.expire_attempts


async def serve():
    server = LightningStoreServer(InMemoryLightningStore())
    await server.start()
    return server.url, server.stop
