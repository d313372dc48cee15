"""Hosts and ports in the URLs of several servers: `redis+cluster://user:password@host:port,host:port/0?options`."""

from ipaddress import ip_address
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

Address: TypeAlias = tuple[str, int]
"""A server's host and port."""

StoreKind: TypeAlias = Literal["redis", "sqlite", "http", "memory"]
"""What a store lies on, as its URL says."""

DEFAULT_PORT: Final = 6379
CLUSTER: Final = "+cluster"
URL_VARIABLE: Final = "LIGHTNING_STORE_URL"
NAMESPACE_VARIABLE: Final = "LIGHTNING_STORE_NAMESPACE"
DEFAULT_NAMESPACE: Final = "default"
_LOCAL_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
CLUSTER_SCHEMES: Final = ("redis+cluster", "rediss+cluster")


def is_cluster(url: str) -> bool:
    """Whether a URL names a Cluster."""
    return url.partition("://")[0] in CLUSTER_SCHEMES


def cluster_addresses(url: str) -> tuple[str, tuple[Address, ...]]:
    """The URL of a single server with the user, password and options of a Cluster's, and the servers of the Cluster.

    Raises:
        ValueError: It is none of a Cluster; the message quotes nothing of it.
    """
    addresses = tuple(read_address(host, DEFAULT_PORT) for host in _parts(url)[2].split(","))
    return node_url(url, addresses[0]), addresses


def node_url(url: str, address: Address) -> str:
    """The URL of one node of a Cluster, as a single server.

    Raises:
        ValueError: The URL is none of a Cluster.
    """
    scheme, credentials, _, behind = _parts(url)
    return f"{scheme.removesuffix(CLUSTER)}://{credentials}{shown(address)}{behind}"


def shown(address: Address) -> str:
    """host:port."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_address(text: str, default_port: int) -> Address:
    """Host and port of host:port, [host]:port, or host alone.

    Raises:
        ValueError: There is no host, or the port is none; the message quotes nothing of it.
    """
    parts = urlsplit(f"//{text}")
    port = default_port if parts.port is None else parts.port
    if not parts.hostname or not port or parts.netloc != text:
        raise ValueError("expected host:port for every server")
    return parts.hostname, port


def _parts(url: str) -> tuple[str, str, str, str]:
    """Scheme, user and password with their @, hosts, and what is behind them."""
    scheme, _, rest = url.partition("://")
    if scheme not in CLUSTER_SCHEMES:
        raise ValueError(f"expected one of {', '.join(CLUSTER_SCHEMES)}")
    end = next((at for at, char in enumerate(rest) if char in "/?#"), len(rest))
    credentials, separator, hosts = rest[:end].rpartition("@")
    return scheme, credentials + separator, hosts, rest[end:]


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine's own loopback."""
    if host.lower() in _LOCAL_NAMES:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
