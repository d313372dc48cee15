"""What tests that break things share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.connect import open_store as open_by_url
from lightning_store.contract import LightningStore
from lightning_store.records import AuditReport
from tests.support.places import Place
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisUnderTest

OpenStore = Callable[..., RedisLightningStore]

GROUPS = ("servers", "group", "calm_group")
"""Fixtures that are servers with replicas."""


@pytest.fixture(autouse=True)
def audited(
    request: pytest.FixtureRequest,
    redis_server: RedisUnderTest,
    private_servers: list[RedisUnderTest],
    namespace: str,
) -> Iterator[None]:
    """After each test: an audit of all that it wrote, in files and on every server and group that it left running."""
    groups = [request.getfixturevalue(name) for name in GROUPS if name in request.fixturenames]
    yield
    own = request.node.funcargs.get("server")
    servers = {redis_server, *private_servers, *([own] if isinstance(own, RedisUnderTest) else [])}
    places = [(group.url, namespace) for group in groups]
    for server in servers:
        if server.is_running:
            places += [(server.url, name) for name in _namespaces(server, namespace)]
    place = request.node.funcargs.get("place")
    if isinstance(place, Place) and not place.is_redis:
        places.append((place.url, place.namespace))
    with ThreadPoolExecutor(1) as thread:  # which has no event loop, whatever the test had
        for url, name in places:
            report = thread.submit(asyncio.run, _audit(url, name)).result()
            assert (report.findings, report.unchecked) == ([], []), name


def _namespaces(server: RedisUnderTest, beginning: str) -> list[str]:
    """The namespaces of a server whose names begin so."""
    with server.client() as client:
        return [
            key[len("{ls:") : -len("}:meta")] for key in client.scan_iter(f"{{ls:{beginning}*}}:meta", count=10_000)
        ]


async def _audit(url: str, namespace: str) -> AuditReport:
    store = open_by_url(url, namespace)
    try:
        return await store.audit()
    finally:
        await store.close()


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
async def store(place: Place) -> AsyncIterator[LightningStore]:
    """A store where the test says."""
    store = place.open()
    yield store
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
