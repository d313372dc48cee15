"""Fixtures for every test: a real Redis per worker process, a fresh namespace per test."""

import secrets
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis

from lightning_store.addresses import DEFAULT_NAMESPACE
from lightning_store.connect import TOKEN_VARIABLE
from tests.support.places import Place, served_memory
from tests.support.redis_cluster import ClusterUnderTest
from tests.support.redis_server import RedisUnderTest
from tests.support.stores import STORE_KINDS

CONFORMANCE = "tests/conformance/"
REAL_REDIS_FIXTURES = frozenset({"redis_server", "redis_url", "private_redis"})
CLUSTER_FIXTURES = frozenset({"redis_cluster"})

# Examples that wait for a server or a busy machine are not slow code.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")

# Shells start what runs in the background with Ctrl-C ignored, and so would all programs be that tests interrupt.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a real server, and what lies in the folder of the faults."""
    for item in items:
        if REAL_REDIS_FIXTURES & set(getattr(item, "fixturenames", ())) or _is_on_redis(item):
            item.add_marker(pytest.mark.redis)
        if CLUSTER_FIXTURES & set(getattr(item, "fixturenames", ())) or "cluster" in item.path.parts:
            item.add_marker(pytest.mark.cluster)
        if "faults" in item.path.parts:
            item.add_marker(pytest.mark.faults)


def _is_on_redis(item: pytest.Item) -> bool:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return "place" in getattr(item, "fixturenames", ()) and parameters.get("place_kind", "redis") == "redis"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell how many tests of the conformance suite each store has passed."""
    passed = [report.nodeid for report in terminalreporter.stats.get("passed", ()) if CONFORMANCE in report.nodeid]
    counts = Counter(kind for nodeid in passed for kind in nodeid.rpartition("[")[2].rstrip("]").split("-"))
    told = [f"{kind} {counts[kind]}" for kind in STORE_KINDS if counts[kind]]
    if told:
        terminalreporter.write_line(f"conformance tests passed: {', '.join(told)}")


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[tuple[RedisUnderTest, "redis.Redis"]]:
    """The shared server of this worker process, started by the first test that asks, and a client of it."""
    with RedisUnderTest(settings={"appendonly": "no"}) as server, redis.Redis.from_url(server.url) as client:
        yield server, client


@pytest.fixture
def redis_server(shared_redis: tuple[RedisUnderTest, "redis.Redis"]) -> Iterator[RedisUnderTest]:
    """The shared server; not for tests that break it.

    It is emptied after the test: audits and tests that look through all keys would take longer with each test before.
    """
    server, client = shared_redis
    yield server
    client.flushall()


@pytest.fixture
def redis_url(redis_server: RedisUnderTest) -> str:
    """URL of the shared server, password included."""
    return redis_server.url


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[ClusterUnderTest]:
    """The shared Cluster of this worker process, started by the first test that asks; not for tests that kill nodes."""
    with ClusterUnderTest(settings={"appendonly": "no"}) as cluster:
        yield cluster


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def place_kind(request: pytest.FixtureRequest) -> str:
    """See `on_places`."""
    return str(getattr(request, "param", "redis"))


@pytest.fixture
def place(
    place_kind: str,
    request: pytest.FixtureRequest,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    """Where the store of this test is; nothing is there yet."""
    if place_kind == "sqlite":
        yield Place(f"sqlite:///{tmp_path / 'store.db'}", DEFAULT_NAMESPACE)
    elif place_kind == "http":
        token = secrets.token_urlsafe()
        monkeypatch.setenv(TOKEN_VARIABLE, token)
        with served_memory(token) as url:
            yield Place(url, DEFAULT_NAMESPACE)
    else:
        yield Place(request.getfixturevalue("redis_url"), namespace)


@pytest.fixture
def private_servers() -> Iterator[list[RedisUnderTest]]:
    """The servers that `private_redis` has made; stopped after the test."""
    servers: list[RedisUnderTest] = []
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def private_redis(tmp_path: Path, private_servers: list[RedisUnderTest]) -> Callable[..., RedisUnderTest]:
    """Makes servers for one test alone, to be killed, paused, restarted: `server = private_redis()`.

    They are started, write an append-only file that survives `kill` and `restart`, and are stopped after the test.
    Takes the arguments of `EmbeddedRedis`.
    """

    def start(**options: Any) -> RedisUnderTest:
        options.setdefault("data_dir", tmp_path / f"redis-{len(private_servers)}")
        server = RedisUnderTest(**options)
        private_servers.append(server)
        server.start()
        return server

    return start
