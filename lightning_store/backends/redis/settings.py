"""Where the server is and how it is reached: from a URL, or lent from a redis-py client.

redis-py's defaults are not used: they repeat calls that the server may have executed and end blocking reads early.
"""

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from redis import connection as sync_connection
from redis import exceptions as redis_errors
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lightning_store.addresses import Address, cluster_addresses, is_cluster
from lightning_store.backends.redis.replication import NONE_AWAITED, Replication, chosen
from lightning_store.backends.redis.urls import StoreUrl, read_url
from lightning_store.errors import InvalidRequestError

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
        connection_class: redis-py's connection class.
        kwargs: Arguments of redis-py's connection class; they may hold secrets and are not shown.
        max_connections: Most connections per event loop for calls that do not block but cannot share one; further
            calls wait for one.
        socket_seconds: Longest time for one command, connecting included.
        retry_seconds: For how long a call is repeated before StoreUnavailableError; no try waits for longer than what
            is left of it, but the first may take `socket_seconds`.
        replication: Which replicas have to have a write before it is acknowledged.
        service: The name under which the sentinels know the server.
        sentinels: How to reach the sentinels that name the server; empty when `kwargs` do.
        addresses: Host and port of each sentinel, for messages.
        nodes: Nodes of a Cluster to begin with; empty for a single server, which `kwargs` name.
    """

    connection_class: type[Any] = field(repr=False)
    kwargs: dict[str, Any] = field(repr=False)
    max_connections: int = 32
    socket_seconds: float = 10.0
    retry_seconds: float = 30.0
    replication: Replication = NONE_AWAITED
    service: str = ""
    sentinels: "tuple[ConnectionSettings, ...]" = ()
    addresses: tuple[str, ...] = ()
    nodes: tuple[Address, ...] = ()

    def __post_init__(self) -> None:
        if self.replication.min_replicas and self.replication.try_seconds > self.socket_seconds:
            raise InvalidRequestError(
                f"replication_seconds: expected at most half of socket_seconds ({self.socket_seconds:g}), "
                f"got {self.replication.seconds:g}"
            )

    @property
    def can_share(self) -> bool:
        """Whether calls that do not block can share a connection.

        Not where they wait for replicas, which stops those behind them, nor on a fake, which has no real connection.
        """
        return not self.replication.min_replicas and not self.connection_class.__module__.startswith("fakeredis.")

    def at(self, address: Address) -> "ConnectionSettings":
        """How to reach one node of the Cluster."""
        host, port = address
        return replace(self, kwargs={**self.kwargs, "host": host, "port": port}, nodes=())

    def connection(self) -> Any:
        """A connection of the driver, not open yet; it waits for answers as long as it is let."""
        return self.connection_class(
            **{
                **self.kwargs,
                "retry": Retry(NoBackoff(), 0),
                "socket_timeout": None,
                "socket_connect_timeout": None,
                "health_check_interval": 0,
                "protocol": 2,
                "decode_responses": False,
            }
        )


def settings_for(
    url_or_client: Any, *, min_replicas: int | None = None, replication_seconds: float | None = None, **limits: Any
) -> ConnectionSettings:
    """Connection settings from a URL, or lent from a redis-py client (or fakeredis), which itself is not used.

    Args:
        url_or_client: See above.
        min_replicas: See RedisLightningStore.
        replication_seconds: See RedisLightningStore.
        limits: Further fields of the settings.

    Raises:
        InvalidRequestError: The URL or object is not understood, or a number is out of range.
    """
    url = read_url(url_or_client) if isinstance(url_or_client, str) else None
    limits["replication"] = chosen(
        (min_replicas, replication_seconds), (url.min_replicas, url.replication_seconds) if url else (None, None)
    )
    if url is not None:
        # An @ behind the ? means that a password may have been read as options, whose names the driver quotes.
        is_clear = "@" not in url_or_client.partition("?")[2]
        return _from_url(url, is_clear, limits)
    if hasattr(url_or_client, "nodes_manager"):
        raise InvalidRequestError(
            "url_or_client: a client of a Cluster cannot be lent; expected its URL, redis+cluster://host:port,host:port"
        )
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


def _from_url(url: StoreUrl, is_clear: bool, limits: dict[str, Any]) -> ConnectionSettings:
    if is_cluster(url.server):
        return _checked(_cluster_settings(url.server, limits), "redis url", is_clear)
    asked = [ConnectionSettings(*_parsed(each)) for each in url.sentinels]
    return _checked(
        ConnectionSettings(
            *_parsed(url.server),
            **limits,
            service=url.service,
            sentinels=tuple(_checked(each, "redis url: sentinels", is_clear) for each in asked),
            addresses=url.addresses,
        ),
        "redis url",
        is_clear,
    )


def tls_options(url: str) -> dict[str, Any]:
    """What is meant by a `rediss://` URL that does not say it: the certificate is the host's.

    The drivers before redis-py 6 accept any host's certificate unless they are told.
    """
    parts = urlsplit(url)
    is_checked = parts.scheme == "rediss" and "none" not in parse_qs(parts.query).get("ssl_cert_reqs", [])
    return {"ssl_check_hostname": True} if is_checked else {}


def _parsed(url: str) -> tuple[type[Any], dict[str, Any]]:
    try:
        kwargs: dict[str, Any] = {**tls_options(url), **parse_url(url)}
        database = urlsplit(url).path.strip("/")
        if database and not url.startswith("unix:"):
            kwargs.setdefault("db", int(database))  # the driver would use database 0 for what is no number
    except ValueError:
        # Without the cause, which may quote a part of the password.
        raise InvalidRequestError(
            "redis url: expected redis://, rediss:// or unix:// with host, port and database, redis+sentinel:// or "
            "redis+cluster://"
        ) from None
    return kwargs.pop("connection_class", Connection), _taken_over(kwargs)


def _cluster_settings(url: str, limits: Mapping[str, Any]) -> ConnectionSettings:
    try:
        single, nodes = cluster_addresses(url)
    except ValueError:
        raise InvalidRequestError(
            "redis url: expected redis+cluster:// or rediss+cluster:// with host:port,host:port"
        ) from None
    return ConnectionSettings(*_parsed(single), **limits, nodes=nodes)


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


def _checked(settings: ConnectionSettings, what: str, is_quotable: bool = True) -> ConnectionSettings:
    """The settings, if connections can be made with them; none is opened."""
    try:
        settings.connection_class(**settings.kwargs)
    except (TypeError, ValueError, redis_errors.RedisError) as error:
        # Without the cause, as above; the driver's texts quote the names of options only, which are no secret.
        reason = (
            error if is_quotable else "an option is not understood; special characters of a password are written %XX"
        )
        raise InvalidRequestError(f"{what}: {reason}") from None
    return settings
