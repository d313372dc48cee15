"""Where the server is, for programs that speak to it without the store's connections."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from redis.asyncio.connection import Connection

from benchmarks.measuring import NotMeasuredError
from lightning_store.addresses import Address, shown
from lightning_store.backends.redis.settings import settings_for


@dataclass(frozen=True)
class PlainServer:
    """One server that is reached by TCP alone.

    Attributes:
        address: Host and port.
        username: None = the default user.
        password: None = it asks for none.
        database: Its number.
    """

    address: Address
    username: str | None
    password: str | None = field(repr=False)
    database: int


def plain_server(url: str) -> PlainServer:
    """What a store's URL says.

    Raises:
        NotMeasuredError: It names a unix socket, TLS, sentinels or a Cluster.
    """
    settings = settings_for(url)
    if settings.connection_class is not Connection or settings.service or settings.nodes:
        raise NotMeasuredError("the server is not reached by plain TCP")
    named = settings.kwargs
    return PlainServer(
        (named.get("host", "localhost"), int(named.get("port", 6379))),
        named.get("username"),
        named.get("password"),
        int(named.get("db", 0)),
    )


def moved(url: str, address: Address) -> str:
    """The same URL with another host and port."""
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{credentials}{at}{shown(address)}").geturl()
