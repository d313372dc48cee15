"""Connections to Redis: explicit settings, one pool per event loop, own retries, one place that translates errors.

redis-py's defaults are not used: they repeat calls that the server may have executed, end blocking reads early and
raise when a pool is full. Every call of ours may be repeated, so what is repeated here takes effect once.
"""

import asyncio
import inspect
import random
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import redis.asyncio as aioredis
from redis import connection as sync_connection
from redis import exceptions as redis_errors
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lightning_store.backends.redis.failures import is_transient, translated
from lightning_store.backends.redis.loops import PerLoop, heedful
from lightning_store.backends.redis.scripts import Argument, Call
from lightning_store.errors import InvalidRequestError, LightningStoreError, StoreFullError

T = TypeVar("T")

_FIRST_DELAY: Final = 0.02
_LONGEST_DELAY: Final = 1.0
_BLOCK_SECONDS: Final = 10.0
_MOST_BLOCKING: Final = 10_000
# Settings of a URL or lent client that are not taken over: how calls are sent, repeated and decoded is decided here.
_NOT_LENT: Final = frozenset(
    {
        "retry", "retry_on_error", "retry_on_timeout", "decode_responses", "protocol", "legacy_responses",
        "health_check_interval", "event_dispatcher", "himport_registry", "maint_notifications_config",
        "maint_notifications_pool_handler", "oss_cluster_maint_notifications_handler", "maintenance_state",
        "maintenance_notification_hash", "orig_host_address", "orig_socket_timeout", "orig_socket_connect_timeout",
        "encoding", "encoding_errors", "max_connections", "timeout",
    }
)  # fmt: skip


@dataclass(frozen=True)
class ConnectionSettings:
    """How to reach the server, and for how long to try.

    Attributes:
        kwargs: Arguments of redis-py's connection class; they may hold secrets and are not shown.
        max_connections: Most connections per event loop for calls that do not block; further calls wait for one.
        socket_seconds: Longest time for one command or for connecting.
        retry_seconds: For how long a call is repeated before StoreUnavailableError.
    """

    connection_class: type[Any] = field(repr=False)
    kwargs: dict[str, Any] = field(repr=False)
    max_connections: int = 32
    socket_seconds: float = 10.0
    retry_seconds: float = 30.0

    def pool(self, *, blocking_seconds: float = 0.0) -> "aioredis.Redis":
        """A client on a pool of its own; `blocking_seconds` is the longest that its commands block the connection."""
        kwargs: dict[str, Any] = {
            **self.kwargs,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": self.socket_seconds + blocking_seconds,
            "socket_connect_timeout": self.socket_seconds,
            "health_check_interval": 0,
            "protocol": 2,
            "decode_responses": False,
        }
        if blocking_seconds:
            pool: aioredis.ConnectionPool = aioredis.ConnectionPool(
                max_connections=_MOST_BLOCKING, connection_class=self.connection_class, **kwargs
            )
        else:
            pool = aioredis.BlockingConnectionPool(
                max_connections=self.max_connections,
                timeout=self.retry_seconds,
                connection_class=self.connection_class,
                **kwargs,
            )
        client = aioredis.Redis.from_pool(pool)
        client.response_callbacks.clear()  # answers as the server sent them; codec.py reads them
        return client


def settings_for(url_or_client: Any, **limits: Any) -> ConnectionSettings:
    """Connection settings from a URL, or lent from a redis-py client (or fakeredis), which itself is not used.

    Raises:
        InvalidRequestError: The URL or object is not understood.
    """
    if isinstance(url_or_client, str):
        return _checked(ConnectionSettings(*_parsed(url_or_client), **limits), "redis url")
    pool = getattr(url_or_client, "connection_pool", None)
    if pool is None:
        raise InvalidRequestError(
            f"url_or_client: expected a URL or a redis client, got {type(url_or_client).__name__}"
        )
    connection_class = _async_class(pool.connection_class)
    lent = _taken_over(pool.connection_kwargs)
    if connection_class is not pool.connection_class:
        lent = _understood(connection_class, lent)
    return _checked(ConnectionSettings(connection_class, lent, **limits), "url_or_client")


def _parsed(url: str) -> tuple[type[Any], dict[str, Any]]:
    try:
        kwargs: dict[str, Any] = dict(parse_url(url))
        database = urlsplit(url).path.strip("/")
        if database and not url.startswith("unix:"):
            kwargs.setdefault("db", int(database))  # the driver would use database 0 for what is no number
    except ValueError:
        # Without the cause, which may quote a part of the password.
        raise InvalidRequestError(
            "redis url: expected redis://, rediss:// or unix:// with host, port and database"
        ) from None
    return kwargs.pop("connection_class", Connection), _taken_over(kwargs)


def _taken_over(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in _NOT_LENT}


def _async_class(connection_class: type[Any]) -> type[Any]:
    """The asyncio counterpart of a connection class."""
    by_name = {cls.__name__: cls for cls in (Connection, SSLConnection, UnixDomainSocketConnection)}
    if not issubclass(connection_class, sync_connection.AbstractConnection):
        return connection_class
    if connection_class.__module__ == "redis.connection" and connection_class.__name__ in by_name:
        return by_name[connection_class.__name__]
    if connection_class.__module__.startswith("fakeredis."):
        fake: type[Any] = sys.modules["fakeredis"].FakeAsyncRedis().connection_pool.connection_class
        return fake
    raise InvalidRequestError(f"url_or_client: connections of class {connection_class.__name__} have no asyncio form")


def _understood(connection_class: type[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Without arguments that the class does not know and that are not in use."""
    known = {name for cls in connection_class.__mro__ for name in inspect.signature(cls).parameters}
    return {name: value for name, value in kwargs.items() if name in known or value}


def _checked(settings: ConnectionSettings, what: str) -> ConnectionSettings:
    """The settings, if connections can be made with them; none is opened."""
    try:
        settings.connection_class(**settings.kwargs)
    except (TypeError, ValueError, redis_errors.RedisError) as error:
        # Without the cause, as above; the names of the options are no secret, and the driver's texts quote only those.
        raise InvalidRequestError(f"{what}: {error}") from None
    return settings


class Connections:
    """Sends commands; every store object has one."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self._clients = PerLoop(settings.pool, _hang_up)
        self._blocking = PerLoop(lambda: settings.pool(blocking_seconds=_BLOCK_SECONDS), _hang_up)

    def run(self, call: Call) -> Awaitable[Any]:
        """Run a script, again after a lost connection; its answer."""
        return self._repeat(lambda: self._send(call))

    async def run_many(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip; an answer that is an error of ours is returned in its place."""
        if len(calls) == 1:
            try:
                return [await self.run(calls[0])]
            except LightningStoreError as error:
                if error.retryable and not isinstance(error, StoreFullError):
                    raise
                return [error]
        return await self._repeat(lambda: self._send_many(calls))

    async def command(self, *parts: Argument) -> Any:
        """Send one reading command; its answer."""
        return (await self.commands([parts]))[0]

    async def commands(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send reading commands in one round trip; their answers."""
        return await self._repeat(lambda: self._read_all(commands))

    async def block(self, *parts: Argument) -> Any:
        """Send one command that blocks for at most 10 s on a connection of its own, once.

        Raises:
            StoreUnavailableError: The connection failed; nothing is repeated.
        """
        try:
            return await _execute(self._blocking.get(), parts)
        except Exception as error:
            raise translated(error) from error

    async def close(self) -> None:
        """Close the connections of the running loop."""
        for client in (self._clients.pop(), self._blocking.pop()):
            if client is not None:
                await client.aclose()

    async def _send(self, call: Call) -> Any:
        client = self._clients.get()
        try:
            return await _execute(client, call.by_sha)
        except redis_errors.NoScriptError:
            return await _execute(client, call.by_text)

    async def _send_many(self, calls: Sequence[Call]) -> list[Any]:
        answers = await self._pipeline([call.by_sha for call in calls])
        missing = [i for i, answer in enumerate(answers) if isinstance(answer, redis_errors.NoScriptError)]
        if missing:
            again = await self._pipeline([calls[i].by_text for i in missing])
            for i, answer in zip(missing, again, strict=True):
                answers[i] = answer
        for i, answer in enumerate(answers):
            if isinstance(answer, Exception):
                if is_transient(answer):
                    raise answer
                answers[i] = translated(answer)
        return answers

    async def _read_all(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        if len(commands) == 1:
            return [await _execute(self._clients.get(), commands[0])]
        answers = await self._pipeline(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _pipeline(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Answers in order, errors among them: the driver would raise one with a text of its own before the code."""
        if not commands:
            return []
        async with self._clients.get().pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await heedful(pipe.execute(raise_on_error=False))

    async def _repeat(self, send: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.retry_seconds
        delay = _FIRST_DELAY
        while True:
            try:
                return await send()
            except Exception as error:
                if not is_transient(error) or loop.time() + delay >= until:
                    raise translated(error) from error
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - jitter needs no secrecy
            delay = min(2 * delay, _LONGEST_DELAY)


def _hang_up(client: aioredis.Redis) -> None:
    """Close the sockets of a client whose loop is closed, which can do nothing in order any more."""
    pool = client.connection_pool
    held = [*getattr(pool, "_available_connections", ()), *getattr(pool, "_in_use_connections", ())]
    for connection in held:
        writer = getattr(connection, "_writer", None)
        connection._reader = connection._writer = None  # noqa: SLF001 - or it complains when it is collected
        transport = getattr(writer, "transport", None)
        if transport is None:
            continue
        sock = getattr(transport, "_sock", None)
        with suppress(RuntimeError):  # the loop is closed; the transport marks itself as closing before it finds out
            transport.abort()
        if sock is not None:
            transport._sock = None  # noqa: SLF001 - as above
            sock.close()


def _execute(client: aioredis.Redis, parts: Sequence[Argument]) -> Awaitable[Any]:
    return heedful(client.execute_command(*parts))  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
