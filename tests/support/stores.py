"""The stores that the conformance suite runs over, and how a test that concerns only some of them says so."""

from typing import Any, Final

import fakeredis
import pytest

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.backends.sqlite import SQLiteLightningStore
from lightning_store.contract import LightningStore
from lightning_store.threaded import LightningStoreThreaded
from tests.support.http_server import ServedStore
from tests.support.repeating import RepeatingRedisStore

STORE_KINDS: Final = (
    "memory", "redis", "fakeredis", "threaded_memory", "threaded_redis", "repeated_redis",
    "sqlite", "http_memory", "http_redis", "cluster", "repeated_cluster",
)  # fmt: skip
REAL_REDIS: Final = frozenset({"redis", "threaded_redis", "repeated_redis", "http_redis"})
WIDE: Final = frozenset({"fakeredis", "threaded_memory", "threaded_redis", "repeated_redis", "http_redis"})
"""Stores that differ from others of the suite in little; left out where time counts."""
ON_CLUSTER: Final = frozenset({"cluster", "repeated_cluster"})
ON_REDIS: Final = ("redis", "fakeredis", "threaded_redis", "cluster")
IN_PROCESS: Final = frozenset({"memory", "threaded_memory", "http_memory"})
"""Stores whose data lies in the object itself."""
CALLED_ONCE: Final = (
    "memory", "redis", "fakeredis", "threaded_memory", "threaded_redis", "sqlite", "http_memory", "http_redis",
    "cluster",
)  # fmt: skip
ANY_THREAD: Final = (
    "redis", "threaded_memory", "threaded_redis", "sqlite", "http_memory", "http_redis", "cluster",
)  # fmt: skip
ANY_PROCESS: Final = ("redis", "threaded_redis", "sqlite", "cluster")


def store_params(*kinds: str) -> list[Any]:
    """Parameters for the fixture `store_kind`; those on real servers carry the marker `redis` or `cluster`."""
    return [pytest.param(kind, marks=_marks_of(kind), id=kind) for kind in kinds]


def _marks_of(kind: str) -> list[pytest.MarkDecorator]:
    if kind in ON_CLUSTER:
        return [pytest.mark.cluster]
    marks = [pytest.mark.redis] if kind in REAL_REDIS else []
    return [*marks, pytest.mark.wide] if kind in WIDE else marks


def only_stores(*kinds: str) -> pytest.MarkDecorator:
    """Run a test over these stores only; its docstring says why."""
    return pytest.mark.parametrize("store_kind", store_params(*kinds), indirect=True)


def source_of(kind: str, request: pytest.FixtureRequest) -> Any:
    """Where stores of this kind keep their data; None in memory."""
    if kind in IN_PROCESS:
        return None
    return request.getfixturevalue("tmp_path") if kind == "sqlite" else redis_source(kind, request)


def redis_source(kind: str, request: pytest.FixtureRequest) -> Any:
    """What a Redis store of this kind is made from: a URL of the shared servers, or a fake client of its own."""
    if kind in ON_CLUSTER:
        return request.getfixturevalue("redis_cluster").url
    if kind in REAL_REDIS:
        return request.getfixturevalue("redis_url")
    return fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())


def make_backend(kind: str, source: Any, namespace: str, **options: Any) -> LightningStore:
    """A new store of this kind; on Redis and in files it opens the namespace, in memory it starts empty."""
    if kind in IN_PROCESS:
        store: LightningStore = InMemoryLightningStore(**options)
    elif kind == "sqlite":
        # No test cuts the power, and the disk's own speed would be most of what is waited for.
        store = SQLiteLightningStore(source / f"{namespace}.db", **({"synchronous": "normal"} | options))
    elif kind.startswith("repeated"):
        store = RepeatingRedisStore(source, namespace=namespace, **options)
    else:
        store = RedisLightningStore(source, namespace=namespace, **options)
    if kind.startswith("http"):
        return ServedStore(store)
    return LightningStoreThreaded(store) if kind.startswith("threaded") else store
