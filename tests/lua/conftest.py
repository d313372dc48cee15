"""The world that a script runs in, on a fake server and on a real one."""

from collections.abc import Iterator

import fakeredis
import pytest
import redis

from tests.lua.world import World


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.redis)])
def world(request: pytest.FixtureRequest, namespace: str) -> Iterator[World]:
    """An empty namespace."""
    if request.param == "fake":
        yield World(fakeredis.FakeRedis(server=fakeredis.FakeServer()), namespace)
        return
    with redis.Redis.from_url(request.getfixturevalue("redis_url"), protocol=2) as client:
        yield World(client, namespace)
