"""What a store's URL says: the server, or the sentinels that name it, and the options that are ours. Text only."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from lightning_store.addresses import is_cluster, read_address, shown
from lightning_store.errors import InvalidRequestError

N = TypeVar("N", int, float)

SENTINEL_SCHEMES: Final = ("redis+sentinel", "rediss+sentinel")

_SENTINEL_PORT: Final = 26379
_OF_SENTINELS: Final = "sentinel_"
_SERVICE: Final = re.compile(r"[A-Za-z0-9._-]+")
_OURS: Final = ("min_replicas", "replication_seconds")
_SHAPE: Final = (
    "expected SCHEME://host:port,host:port/service/db, with user:password@ before the hosts where they ask for it"
)
_STAND_IN: Final = "primary"
_TRUE: Final = frozenset({"1", "true", "yes", "on", "y", "t"})


@dataclass(frozen=True)
class StoreUrl:
    """A URL in parts that the driver understands; they may hold secrets and are not shown.

    Attributes:
        server: URL of the server, without options of ours. With sentinels its host is only a stand-in.
        service: The name under which the sentinels know the server; "" without sentinels.
        sentinels: URLs of the sentinels; empty when the server is named itself.
        addresses: Host and port of each sentinel, for messages.
        min_replicas: As `RedisLightningStore` takes it; None = not said.
        replication_seconds: As `RedisLightningStore` takes it; None = not said.
    """

    server: str = field(repr=False)
    service: str = ""
    sentinels: tuple[str, ...] = field(default=(), repr=False)
    addresses: tuple[str, ...] = ()
    min_replicas: int | None = None
    replication_seconds: float | None = None

    def at(self, host: str, port: int) -> str:
        """URL of the server that the sentinels name."""
        parts = urlsplit(self.server)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}{shown((host, port))}").geturl()


def read_url(url: str) -> StoreUrl:
    """The parts of a URL. What no option of ours or of sentinels is, the driver has to understand.

    Raises:
        InvalidRequestError: An option of ours has no value that is one, the sentinels cannot be made out, or a Cluster
            is asked for another database than 0. Nothing of the URL is quoted, for any part of it may be a part of a
            password.
    """
    base, _, query = url.partition("?")
    options = parse_qsl(query.partition("#")[0], keep_blank_values=True)
    ours = {name: value for name, value in options if name in _OURS}
    rest = [(name, value) for name, value in options if name not in ours]
    if base.partition("://")[0] in SENTINEL_SCHEMES:
        read = _read_sentinels(base, rest)
    else:
        if is_cluster(url) and _names_database(base, options):
            raise InvalidRequestError("redis url: a Cluster has database 0 only, expected no other")
        read = StoreUrl(_joined(base, rest) if ours else url)
    return StoreUrl(
        read.server,
        read.service,
        read.sentinels,
        read.addresses,
        _number(int, ours.get("min_replicas"), "min_replicas"),
        _number(float, ours.get("replication_seconds"), "replication_seconds"),
    )


def _names_database(base: str, options: list[tuple[str, str]]) -> bool:
    """Whether the URL asks for another database than 0; what is before an @ is a password with a / in it, and none."""
    named = [base.partition("://")[2].partition("/")[2], *(value for name, value in options if name == "db")]
    return any(each.strip("/0") and "@" not in each for each in named)


def _read_sentinels(base: str, options: list[tuple[str, str]]) -> StoreUrl:
    scheme = base.partition("+")[0]
    try:
        parts = urlsplit(base)
        user, at, hosts = parts.netloc.rpartition("@")
        addresses = tuple(shown(read_address(host, _SENTINEL_PORT)) for host in hosts.split(","))
    except ValueError:
        raise _unreadable(scheme, "a host or port of a sentinel cannot be read") from None
    service, _, database = parts.path.removeprefix("/").rstrip("/").partition("/")
    if not _SERVICE.fullmatch(service):  # what no sentinel would take for a name may be a part of a password
        raise _unreadable(scheme, f"the name of the service is {'no name' if service else 'missing'}")
    if database and not database.isdecimal():
        raise _unreadable(scheme, "behind the service comes the number of a database, and nothing else")
    theirs = [(name.removeprefix(_OF_SENTINELS), value) for name, value in options if name.startswith(_OF_SENTINELS)]
    with_tls = any(name == "ssl" and value.lower() in _TRUE for name, value in theirs)
    theirs = [(name, value) for name, value in theirs if name != "ssl"]
    return StoreUrl(
        server=_joined(
            f"{scheme}://{user}{at}{_STAND_IN}/{database}",
            [(name, value) for name, value in options if not name.startswith(_OF_SENTINELS)],
        ),
        service=service,
        sentinels=tuple(_joined(f"redis{'s' if with_tls else ''}://{address}/", theirs) for address in addresses),
        addresses=addresses,
    )


def _joined(base: str, options: list[tuple[str, str]]) -> str:
    return f"{base}?{urlencode(options)}" if options else base


def _number(kind: Callable[[str], N], text: str | None, name: str) -> N | None:
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        raise InvalidRequestError(f"redis url: {name}: expected a number") from None


def _unreadable(scheme: str, reason: str) -> InvalidRequestError:
    shape = _SHAPE.replace("SCHEME", f"{scheme}+sentinel")
    return InvalidRequestError(
        f"redis url: {reason}; {shape}, special characters of names and passwords written as %XX"
    )
