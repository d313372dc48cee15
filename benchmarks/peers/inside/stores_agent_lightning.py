"""Agent Lightning 0.3.0: its store in memory, its HTTP server as `agl store` sets it up, its client."""

import socket

from agentlightning import InMemoryLightningStore, LightningStoreClient, LightningStoreServer
from agentlightning.types import EnqueueRolloutRequest, RolloutConfig, Span

__all__ = ["EnqueueRolloutRequest", "RolloutConfig", "Span", "new_client", "new_store", "scanner", "serve"]

new_store = InMemoryLightningStore
new_client = LightningStoreClient


def scanner(store):
    """Its scan has no public name: it runs before other calls, at most every ten seconds, which is turned off here."""
    store._scan_debounce_seconds = 0  # noqa: SLF001
    return store._scan_for_unhealthy_rollouts  # noqa: SLF001


async def serve():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = LightningStoreServer(InMemoryLightningStore(thread_safe=True), host="127.0.0.1", port=port)
    await server.start()
    return f"http://127.0.0.1:{port}", server.stop
