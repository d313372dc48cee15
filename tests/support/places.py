"""Where the store of a test is: what commands and processes are told, whatever the kind."""

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.connect import kind_of, open_store
from lightning_store.contract import LightningStore
from lightning_store.http.server import LightningStoreServer

ALL_PLACES: Final = ("redis", "sqlite", "http")


@dataclass(frozen=True)
class Place:
    """A store by its URL and namespace."""

    url: str
    namespace: str

    @property
    def is_redis(self) -> bool:
        """Whether it is a namespace on a Redis."""
        return kind_of(self.url) == "redis"

    @property
    def options(self) -> dict[str, Any]:
        """For `RunnerOptions` and `HealthCheckOptions`."""
        return {"store_url": self.url, "namespace": self.namespace}

    def open(self, **settings: Any) -> LightningStore:
        """A new store object on it; the caller closes it."""
        return open_store(self.url, self.namespace, **settings)


@contextmanager
def served_memory(token: str) -> Generator[str, None, None]:
    """A server of a store in memory, on a thread; its URL. It lets in whoever has the token."""
    server = LightningStoreServer(InMemoryLightningStore(), tokens=[("admin", token)])
    with ThreadPoolExecutor(1) as thread:  # which has no event loop, whatever the test has
        thread.submit(asyncio.run, server.start()).result()
        try:
            yield server.url
        finally:
            thread.submit(asyncio.run, server.close()).result()


def on_places(*kinds: str) -> pytest.MarkDecorator:
    """Run a test on stores of these kinds; without it, the fixture `place` is on the shared Redis."""
    return pytest.mark.parametrize("place_kind", kinds, indirect=True)
