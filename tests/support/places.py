"""Where the store of a test is: what commands and processes are told, whatever the kind."""

from dataclasses import dataclass
from typing import Any, Final

import pytest

from lightning_store.connect import kind_of, open_store
from lightning_store.contract import LightningStore

PLACE_KINDS: Final = ("redis", "sqlite")


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


def on_places(*kinds: str) -> pytest.MarkDecorator:
    """Run a test on stores of these kinds; without it, the fixture `place` is on the shared Redis."""
    return pytest.mark.parametrize("place_kind", kinds, indirect=True)
