"""Leaves nothing behind in a store that was there before the demo."""

import asyncio
from contextlib import suppress
from typing import Final

import redis

from lightning_store.connect import kind_of, open_store
from lightning_store.errors import LightningStoreError
from lightning_store.serverinfo import plain_client, server_urls
from lightning_store.status import ACTIVE, QUEUED

CLEANING_SECONDS: Final = 10.0
KEYS_PER_LOOK: Final = 1000


def remove_remains(url: str, namespace: str) -> None:
    """Remove all that the demo stored, as far as the store answers and allows it.

    Rollouts are removed by the store, so that it works on a Cluster; then, on Redis, whatever else has the namespace
    in its name, which nobody else uses because it is drawn at random.
    """
    with suppress(LightningStoreError, asyncio.TimeoutError):
        asyncio.run(asyncio.wait_for(_remove_rollouts(url, namespace), CLEANING_SECONDS))
    if kind_of(url) != "redis":
        return
    with suppress(LightningStoreError, redis.RedisError):
        for server in server_urls(url):
            with plain_client(server) as client:
                for key in client.scan_iter(match=f"*ls:{namespace}[:}}]*", count=KEYS_PER_LOOK):
                    client.unlink(key)


async def _remove_rollouts(url: str, namespace: str) -> None:
    store = open_store(url, namespace)
    try:
        await store.cancel_rollouts(status_in=[*QUEUED, *ACTIVE])
        await store.prune(keep_latest=0)
    finally:
        await store.close()
