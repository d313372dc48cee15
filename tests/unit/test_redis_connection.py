"""Connection settings, and what the driver's errors mean."""

import asyncio
import pickle
import ssl
from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio as aioredis
from redis import exceptions as redis_errors
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from lightning_store.backends.redis.failures import is_transient, translated
from lightning_store.loops import PerLoop
from lightning_store.backends.redis.pool import Pool
from lightning_store.backends.redis.settings import ConnectionSettings, settings_for
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.errors import (
    AccessDeniedError,
    AttemptNotFoundError,
    InternalStoreError,
    InvalidRequestError,
    RolloutNotFoundError,
    SchemaMismatchError,
    StoreFullError,
    StoreUnavailableError,
)

WRAPPED = "Error running script (call to f_34710d20d43fa272dcf23978a74b173836e50c6b): @user_script:1: @user_script: 1: "
"""How Redis 6.2 begins what a command inside of a script was refused with."""
TRAILING = " script: 34710d20d43fa272dcf23978a74b173836e50c6b, on @user_script:1."
"""How Redis 7 ends it."""


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "connection_class", "expected"),
    [
        ("redis://example", Connection, {"host": "example"}),
        ("redis://:p%40ss@example:7/3", Connection, {"host": "example", "port": 7, "db": 3, "password": "p@ss"}),
        ("redis://user:word@[::1]:7", Connection, {"host": "::1", "port": 7, "username": "user", "password": "word"}),
        ("redis://example/", Connection, {"host": "example"}),
        ("redis://example?db=5", Connection, {"host": "example", "db": 5}),
        ("rediss://example:7", SSLConnection, {"host": "example", "port": 7, "ssl_check_hostname": True}),
        ("rediss://example?ssl_check_hostname=no", SSLConnection, {"host": "example", "ssl_check_hostname": False}),
        ("rediss://example?ssl_cert_reqs=none", SSLConnection, {"host": "example", "ssl_cert_reqs": "none"}),
        ("unix:///run/redis.sock?db=2", UnixDomainSocketConnection, {"path": "/run/redis.sock", "db": 2}),
        ("unix://:word@/run/redis.sock", UnixDomainSocketConnection, {"path": "/run/redis.sock", "password": "word"}),
    ],
)
def test_url_says_where_the_server_is(url: str, connection_class: type, expected: dict[str, Any]) -> None:
    settings = settings_for(url)

    assert settings.connection_class is connection_class
    assert settings.kwargs == expected


@pytest.mark.parametrize(
    "option", ["max_connections=3", "timeout=2", "retry_on_timeout=yes", "protocol=3", "health_check_interval=5"]
)
async def test_url_does_not_decide_how_calls_are_sent(option: str) -> None:
    settings = settings_for(f"redis://example?{option}")
    connection = settings.connection()

    assert settings.max_connections == 32
    assert connection.retry._retries == 0
    assert (connection.protocol, connection.health_check_interval) == (2, 0)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example:6379",
        "http://example",
        "redis+sentinel://example",
        "redis://example:99999",
        "redis://example/first",
        "redis://example?db=first",
        "redis://example?colour=red",
        "rediss://example?ssl_cert_reqs=sometimes",
    ],
)
def test_url_that_is_not_understood_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="redis url"):
        RedisLightningStore(url)


@pytest.mark.parametrize("url", ["redis://:se/cret@example:1", "redis://:secret@example:99999", "http://:secret@x"])
def test_refused_url_does_not_show_its_password(url: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        settings_for(url)

    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    assert "secret" not in str(refused.value)
    assert "cret" not in str(refused.value)


def test_password_is_not_shown() -> None:
    store = RedisLightningStore("redis://user:secret@example")

    assert "secret" not in repr(store)
    assert "secret" not in repr(store._connection_settings)
    assert "secret" not in str(vars(store))


def lent_clients() -> list[Any]:
    return [
        pytest.param(lambda: redis.Redis(host="example", port=7, db=3), Connection, id="sync"),
        pytest.param(lambda: aioredis.Redis(host="example", port=7, db=3), Connection, id="async"),
        pytest.param(lambda: redis.Redis.from_url("redis://example:7/3"), Connection, id="sync from url"),
        pytest.param(lambda: aioredis.Redis.from_url("redis://example:7/3"), Connection, id="async from url"),
        pytest.param(lambda: redis.Redis(host="example", port=7, db=3, ssl=True), SSLConnection, id="sync tls"),
        pytest.param(lambda: aioredis.Redis(host="example", port=7, db=3, ssl=True), SSLConnection, id="async tls"),
        pytest.param(
            lambda: redis.Redis(connection_pool=redis.BlockingConnectionPool(host="example", port=7, db=3)),
            Connection,
            id="sync blocking pool",
        ),
    ]


@pytest.mark.parametrize(("lend", "connection_class"), lent_clients())
async def test_lent_client_says_where_the_server_is(lend: Any, connection_class: type) -> None:
    settings = settings_for(lend())
    connection = settings.connection()

    assert type(connection) is connection_class
    assert (connection.host, connection.port, connection.db) == ("example", 7, 3)


async def test_lent_client_on_a_unix_socket() -> None:
    connection = settings_for(redis.Redis(unix_socket_path="/run/x")).connection()

    assert type(connection) is UnixDomainSocketConnection
    assert connection.path == "/run/x"


async def test_lent_client_does_not_decide_how_calls_are_sent() -> None:
    lent = redis.Redis(decode_responses=True, protocol=3, health_check_interval=3, encoding="x")
    connection = settings_for(lent).connection()

    assert connection.retry._retries == 0
    assert (connection.protocol, connection.health_check_interval) == (2, 0)
    assert (connection.encoder.decode_responses, connection.encoder.encoding) == (False, "utf-8")


@pytest.mark.parametrize("kind", [fakeredis.FakeRedis, fakeredis.FakeStrictRedis, fakeredis.FakeAsyncRedis])
async def test_fake_client_lends_its_server(kind: Any, namespace: str) -> None:
    server = fakeredis.FakeServer()
    store = RedisLightningStore(kind(server=server), namespace=namespace)
    await store.enqueue_rollout("task")
    await store.close()

    assert fakeredis.FakeRedis(server=server).llen(f"{{ls:{namespace}}}:queue:default") == 1


@pytest.mark.parametrize("lent", [None, 3, object(), ssl.create_default_context()])
def test_what_is_no_client_is_refused(lent: Any) -> None:
    with pytest.raises(InvalidRequestError, match="expected a URL or a redis client"):
        RedisLightningStore(lent)


def test_sync_connection_class_of_a_stranger_is_refused() -> None:
    class Strange(redis.connection.Connection):
        pass

    pool = redis.ConnectionPool(connection_class=Strange)
    with pytest.raises(InvalidRequestError, match="Strange"):
        settings_for(redis.Redis(connection_pool=pool))


def test_settings_survive_pickling() -> None:
    settings = settings_for("rediss://user:word@example:7/3", max_connections=5, retry_seconds=1.0)

    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("limits", "needed"),
    [
        ({}, 60),
        ({"retry_seconds": 120.0}, 240),
        ({"retry_seconds": 0.5, "socket_seconds": 10.0}, 20),
        ({"retry_seconds": 1.0, "socket_seconds": 0.1}, 2),
    ],
)
def test_answers_are_kept_for_twice_as_long_as_calls_are_sent_again(limits: dict[str, float], needed: int) -> None:
    RedisLightningStore("redis://example", token_seconds=needed, **limits)

    with pytest.raises(InvalidRequestError, match=f"token_seconds: expected at least {needed}, twice the longer of"):
        RedisLightningStore("redis://example", token_seconds=needed - 1, **limits)
    with pytest.raises(InvalidRequestError, match="token_seconds"):
        RedisLightningStore("redis://example", token_seconds=float("nan"), **limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["grace_seconds", "token_seconds", "socket_seconds", "retry_seconds"])
@pytest.mark.parametrize("value", [-1, "x", None, float("nan"), float("inf")])
def test_duration_that_is_none_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{field}: expected"):
        RedisLightningStore("redis://example", **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("socket_seconds", 0), ("replication_seconds", "x"), ("replication_seconds", 0),
        ("events_kept", -1), ("events_kept", 1.5), ("events_kept", "x"),
        ("max_connections", 0), ("max_connections", 1.5), ("max_connections", None),
        ("min_replicas", -1), ("memory_check_seconds", -1),
    ],
)  # fmt: skip
def test_number_out_of_bounds_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{field}: expected"):
        RedisLightningStore("redis://example", **{field: value})


# -- pool ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


def pool_for(server: fakeredis.FakeServer, *, most: int = 1, **limits: Any) -> Pool:
    return Pool(settings_for(fakeredis.FakeAsyncRedis(server=server), **limits), most=most)


async def test_blocking_connections_wait_longer_than_they_block(server: fakeredis.FakeServer) -> None:
    with pytest.raises(redis_errors.TimeoutError, match="no answer within"):
        await pool_for(server, socket_seconds=0.1).send([("BLPOP", "x", "0.3")])
    assert await pool_for(server, socket_seconds=0.1).send([("BLPOP", "x", "0.3")], blocking_seconds=5) == [None]


async def test_pool_waits_for_a_connection_instead_of_raising(server: fakeredis.FakeServer) -> None:
    pool = pool_for(server)
    first = asyncio.ensure_future(pool.send([("BLPOP", "x", "5")]))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(pool.send([("PING",)]))
    await asyncio.sleep(0)

    assert not second.done()
    fakeredis.FakeRedis(server=server).rpush("x", "1")
    assert (await first, await second) == ([[b"x", b"1"]], [b"PONG"])
    await pool.close()


async def test_pool_that_stays_full_is_an_outage(server: fakeredis.FakeServer) -> None:
    pool = pool_for(server, retry_seconds=0.05)
    first = asyncio.ensure_future(pool.send([("BLPOP", "x", "0.3")]))
    await asyncio.sleep(0)

    with pytest.raises(redis_errors.ConnectionError, match="all 1 connections are in use"):
        await pool.send([("PING",)])
    assert await first == [None]
    assert await pool.send([("PING",)]) == [b"PONG"]


async def test_answer_that_is_an_error_stands_in_its_place(server: fakeredis.FakeServer) -> None:
    pool = pool_for(server)
    await pool.send([("SET", "text", "x")])
    one, error, three = await pool.send([("GET", "text"), ("LPOP", "text"), ("GET", "text")])

    assert (one, three) == (b"x", b"x")
    assert isinstance(error, redis_errors.ResponseError)


async def test_closed_pool_opens_nothing_more(server: fakeredis.FakeServer) -> None:
    pool = pool_for(server)
    first = asyncio.ensure_future(pool.send([("BLPOP", "x", "0.3")]))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(pool.send([("PING",)]))
    await asyncio.sleep(0)
    await pool.close()
    await asyncio.wait([first, second])

    assert isinstance(second.exception(), redis_errors.ConnectionError)
    with pytest.raises(redis_errors.ConnectionError):
        await pool.send([("PING",)])
    assert not any(connection.is_connected for connection in pool._connections)
    first.exception()


async def test_cancelled_call_leaves_no_answer_to_the_next(server: fakeredis.FakeServer) -> None:
    pool = pool_for(server)
    task = asyncio.ensure_future(pool.send([("BLPOP", "x", "5")]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert await pool.send([("PING",)]) == [b"PONG"]


# -- one value per event loop ----------------------------------------------------------------------------------------


def test_every_loop_has_a_value_of_its_own() -> None:
    per_loop: PerLoop[object] = PerLoop(object)

    async def look() -> tuple[object, object]:
        return per_loop.get(), per_loop.get()

    first, again = asyncio.run(look())
    other, _ = asyncio.run(look())

    assert first is again
    assert first is not other


async def test_value_is_made_anew_after_it_was_taken_out() -> None:
    per_loop: PerLoop[object] = PerLoop(object)
    first = per_loop.get()

    assert per_loop.pop() is first
    assert per_loop.pop() is None
    assert per_loop.get() is not first


# -- errors ----------------------------------------------------------------------------------------------------------


OUTAGES = [
    redis_errors.ConnectionError("Error 111 connecting to example:6379. Connection refused."),
    redis_errors.TimeoutError("Timeout reading from example:6379"),
    redis_errors.BusyLoadingError("Redis is loading the dataset in memory"),
    redis_errors.ReadOnlyError("You can't write against a read only replica."),
    redis_errors.ReadOnlyError("You can't write against a read only replica." + TRAILING),
    redis_errors.ResponseError(WRAPPED + "-READONLY You can't write against a read only replica."),
    redis_errors.ClusterDownError("CLUSTERDOWN The cluster is down"),
    redis_errors.TryAgainError("Multiple keys request during rehashing of slot"),
    redis_errors.MovedError("3999 127.0.0.1:6381"),
    redis_errors.AskError("3999 127.0.0.1:6381"),
    redis_errors.MasterDownError("Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
    redis_errors.ResponseError("MISCONF Redis is configured to save RDB snapshots, but it is currently not able to"),
    redis_errors.ResponseError(WRAPPED + "-MISCONF Redis is configured to save RDB snapshots, but it is currently"),
    redis_errors.ResponseError("NOREPLICAS Not enough good replicas to write."),
    redis_errors.ResponseError("NOREPLICAS Not enough good replicas to write." + TRAILING),
    redis_errors.ResponseError(WRAPPED + "-NOREPLICAS Not enough good replicas to write."),
    redis_errors.ResponseError(
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    ),
    redis_errors.ResponseError("UNBLOCKED force unblock from blocking operation, instance state changed"),
    redis_errors.MaxConnectionsError("Too many connections"),
    ConnectionResetError(104, "Connection reset by peer"),
    BrokenPipeError(32, "Broken pipe"),
    OSError(113, "No route to host"),
]


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: f"{type(error).__name__}: {error!s:.60}")
def test_outage_is_worth_another_try_and_then_unavailable(error: Exception) -> None:
    meant = translated(error)

    assert is_transient(error)
    assert type(meant) is StoreUnavailableError
    assert meant.retryable


@pytest.mark.parametrize("error", [redis_errors.MovedError, redis_errors.AskError])
def test_node_of_a_cluster_is_told_as_such(error: Any) -> None:
    code = "MOVED" if error is redis_errors.MovedError else "ASK"

    with pytest.raises(StoreUnavailableError, match=rf"node of (a|the) Cluster .*\({code} 3999 127.0.0.1:6381\)"):
        raise translated(error("3999 127.0.0.1:6381"))


FULL = [
    redis_errors.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    redis_errors.OutOfMemoryError("command not allowed when used memory > 'maxmemory'." + TRAILING),
    redis_errors.ResponseError("OOM command not allowed when used memory > 'maxmemory'."),
    redis_errors.ResponseError(WRAPPED + "-OOM command not allowed when used memory > 'maxmemory'."),
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_memory_limit_is_told_at_once(error: Exception) -> None:
    assert not is_transient(error)
    assert type(translated(error)) is StoreFullError


DENIED = [
    redis_errors.AuthenticationError("invalid username-password pair or user is disabled."),
    redis_errors.AuthenticationError("Authentication required."),
    redis_errors.NoPermissionError("this user has no permissions to access one of the keys used as arguments"),
    redis_errors.ResponseError("NOPERM this user has no permissions to run the 'eval' command or its subcommand"),
    redis_errors.ResponseError(WRAPPED + "The user executing the script can't access at least one of the keys "),
    redis_errors.ResponseError("The user executing the script can't access at least one of the keys m" + TRAILING),
    redis_errors.ResponseError(WRAPPED + "The user executing the script can't run this command or subcommand"),
    redis_errors.ResponseError("ACL failure in script: User r has no permissions to run the 'set' command" + TRAILING),
]


@pytest.mark.parametrize("error", DENIED, ids=str)
def test_refused_access_is_no_outage(error: Exception) -> None:
    assert not is_transient(error)
    assert type(translated(error)) is AccessDeniedError


@pytest.mark.parametrize(
    ("text", "expected", "message"),
    [
        ("ROLLOUT_NOT_FOUND Rollout ro-1 not found", RolloutNotFoundError, "Rollout ro-1 not found"),
        ("ATTEMPT_NOT_FOUND Attempt at-1 not found", AttemptNotFoundError, "Attempt at-1 not found"),
        ("INVALID_REQUEST rollout_id: x exists", InvalidRequestError, "rollout_id: x exists"),
        ("SCHEMA_MISMATCH the namespace has schema 2", SchemaMismatchError, "the namespace has schema 2"),
    ],
)
def test_error_of_a_script_is_the_class_of_its_code(text: str, expected: type, message: str) -> None:
    meant = translated(redis_errors.ResponseError(text))

    assert type(meant) is expected
    assert str(meant) == message


@pytest.mark.parametrize(
    "text",
    [
        "WRONGTYPE Operation against a key holding the wrong kind of value" + TRAILING,
        WRAPPED + "WRONGTYPE Operation against a key holding the wrong kind of value",
        "unknown command 'EVALSHA'",
        "user_script:1: attempt to index local 'x' (a nil value)" + TRAILING,
    ],
)
def test_anything_else_is_a_fault_of_ours(text: str) -> None:
    error = redis_errors.ResponseError(text)

    assert not is_transient(error)
    assert type(translated(error)) is InternalStoreError


@pytest.mark.parametrize("error", [TypeError("x"), ValueError("x"), StoreFullError("x"), KeyError("x")], ids=repr)
def test_errors_that_are_not_the_driver_s_stay_what_they_are(error: Exception) -> None:
    assert translated(error) is error


def test_settings_are_immutable() -> None:
    settings = ConnectionSettings(Connection, {})

    with pytest.raises(AttributeError):
        settings.retry_seconds = 1.0  # type: ignore[misc]
