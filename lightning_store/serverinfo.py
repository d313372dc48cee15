"""Asks Redis servers about themselves, by plain synchronous clients: short time-outs, no retries."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import redis
from redis import exceptions as redis_errors
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from lightning_store.addresses import Address, cluster_addresses, is_cluster, node_url
from lightning_store.backends.redis.cluster import address_of
from lightning_store.backends.redis.sentinel import Named, named, newest, questions, unnamed
from lightning_store.backends.redis.settings import tls_options
from lightning_store.backends.redis.urls import StoreUrl, read_url
from lightning_store.connect import check_url, redact
from lightning_store.errors import AccessDeniedError, InvalidRequestError, LightningStoreError, StoreUnavailableError

_REFUSALS: Final = (
    redis_errors.AuthenticationError,
    redis_errors.AuthorizationError,
    redis_errors.NoPermissionError,
)
CONNECT_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 5.0

Client: TypeAlias = Any
"""A redis-py client; what its methods are said to return differs from version to version."""


@dataclass(frozen=True)
class Memory:
    """How much memory a server uses, in bytes.

    Attributes:
        used_bytes: What the data and its upkeep take.
        limit_bytes: `maxmemory`; None when there is none.
        host_bytes: Memory of the server's machine; None when it does not tell.
    """

    used_bytes: int
    limit_bytes: int | None
    host_bytes: int | None

    @property
    def capacity_bytes(self) -> int | None:
        """What the server can fill: its limit, else its machine's memory; None when neither is known."""
        return self.limit_bytes or self.host_bytes


@contextmanager
def plain_client(url: str) -> Generator[Client, None, None]:
    """A client for a few questions, which has got its first answer; it is closed at the end.

    Of a Cluster it is a client of the first node of the URL that answers.

    Raises:
        InvalidRequestError: The URL cannot be used.
        StoreUnavailableError: The server cannot be reached, or is still loading.
        AccessDeniedError: It does not let us in.
    """
    check_url(url)
    try:
        client = _connect_to_any(url) if is_cluster(url) else _connect(url)
    except LightningStoreError:
        raise
    except (TypeError, ValueError):
        # Without the cause: what the driver says about an option that it does not know may quote the URL.
        raise InvalidRequestError(f"the store's URL has an option that cannot be used: {redact(url)}") from None
    try:
        with client:
            yield client
    except (redis_errors.ConnectionError, redis_errors.TimeoutError) as error:
        raise _unavailable(url, error) from error


def _connect_to_any(url: str) -> Client:
    _, addresses = cluster_addresses(url)
    failure: LightningStoreError | None = None
    for address in addresses:
        try:
            return _connect(node_url(url, address))
        except StoreUnavailableError as error:
            failure = error
    raise failure or StoreUnavailableError(f"no node at {redact(url)}")


@dataclass(frozen=True)
class Layout:
    """The nodes of a Cluster.

    Attributes:
        primaries: Those that have slots, each with its replicas.
        ranges: First and last of slots, with the primary that has them.
    """

    primaries: dict[Address, tuple[Address, ...]]
    ranges: tuple[tuple[int, int, Address], ...]

    def primary_of(self, key: str) -> Address | None:
        """The node that has a key; None when nobody has its slot."""
        slot = key_slot(key.encode())
        return next((address for first, last, address in self.ranges if first <= slot <= last), None)

    @property
    def slots_served(self) -> int:
        """How many of the 16,384 slots somebody has."""
        return sum(last + 1 - first for first, last, _ in self.ranges)


def read_layout(url: str) -> Layout:
    """Ask a Cluster for its nodes.

    Raises:
        InvalidRequestError: The URL cannot be used, or the server is no node of a Cluster.
        StoreUnavailableError: No node can be reached.
        AccessDeniedError: It does not let us in, or us ask.
    """
    with plain_client(url) as client:
        asked = client.connection_pool.connection_kwargs["host"]
        try:
            answer = client.execute_command("CLUSTER SLOTS")
        except redis_errors.NoPermissionError as error:
            raise AccessDeniedError(f"Redis at {redact(url)} does not let us ask for its nodes: {error}") from error
        except redis_errors.ResponseError as error:
            raise InvalidRequestError(f"Redis at {redact(url)} is no node of a Cluster: {error}") from error
    primaries: dict[Address, tuple[Address, ...]] = {}
    ranges: list[tuple[int, int, Address]] = []
    for first, last, *servers in answer:
        primary, *replicas = [address_of(server, asked) for server in servers]
        primaries[primary] = tuple(replicas)
        ranges.append((first, last, primary))
    return Layout(primaries, tuple(ranges))


def server_urls(url: str) -> list[str]:
    """The URLs of the servers that have data: of all primaries of a Cluster, else the one given.

    Raises:
        LightningStoreError: See `read_layout`.
    """
    return [node_url(url, address) for address in read_layout(url).primaries] if is_cluster(url) else [url]


def _connect(url: str) -> Client:
    try:
        server = _server_of(read_url(url))
    except redis_errors.RedisError as error:
        raise _unavailable(url, error) from error
    client = _client(server, decode_responses=True)
    try:
        client.ping()
    except redis_errors.NoPermissionError:
        pass  # it answers and knows us; which commands are missing is the doctor's matter
    except (redis_errors.RedisError, OSError) as error:
        client.close()
        raise _unavailable(url, error) from error
    return client


def _client(url: str, *, decode_responses: bool) -> Client:
    return redis.Redis.from_url(
        url,
        **tls_options(url),
        protocol=2,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        decode_responses=decode_responses,
        encoding_errors="backslashreplace",
    )


def _server_of(url: StoreUrl) -> str:
    """URL of the server itself: the one in the URL, or the primary that the sentinels name.

    Raises:
        RedisError: They name none.
    """
    if not url.sentinels:
        return url.server
    answers = {
        address: _ask(sentinel, url.service)
        for address, sentinel in zip(url.addresses, url.sentinels, strict=True)
    }  # fmt: skip
    found = newest([answer for answer in answers.values() if isinstance(answer, Named)])
    if found is None:
        raise unnamed(url.service, answers)
    return url.at(found.host, found.port)


def _ask(sentinel: str, service: str) -> Named | Exception:
    try:
        with _client(sentinel, decode_responses=False) as client:
            return named(*(client.execute_command(*question) for question in questions(service)))
    except (redis_errors.RedisError, OSError) as error:
        return error


def _unavailable(url: str, error: Exception) -> LightningStoreError:
    reason = redact(str(error), url).rstrip(".") or type(error).__name__
    if isinstance(error, _REFUSALS):
        return AccessDeniedError(f"Redis at {redact(url)} does not let us in: {reason}")
    return StoreUnavailableError(f"no answer from Redis at {redact(url)}: {reason}")


def check_server(url: str) -> None:
    """See that a server answers and lets us in, so that a wrong URL is told at once.

    Raises:
        InvalidRequestError: The URL cannot be used.
        StoreUnavailableError: The server cannot be reached, or is still loading.
        AccessDeniedError: It does not let us in.
    """
    with plain_client(url):
        pass


def read_info(client: Client, section: str) -> dict[str, Any]:
    """One section of INFO; empty when the server does not allow it."""
    try:
        return dict(client.info(section))
    except redis_errors.ResponseError:
        return {}


def memory_of(info: dict[str, Any]) -> Memory | None:
    """Memory figures of INFO's section `memory`; None when it was not readable."""
    if "used_memory" not in info:
        return None
    return Memory(
        used_bytes=int(info["used_memory"]),
        limit_bytes=int(info.get("maxmemory") or 0) or None,
        host_bytes=int(info.get("total_system_memory") or 0) or None,
    )


def read_memory_and_time(url: str) -> tuple[Memory | None, float | None]:
    """The server's memory figures and its time in seconds since the epoch; None for what it does not tell us.

    Of a Cluster, the figures of the primary that is the fullest.

    Raises:
        StoreUnavailableError: A server cannot be reached.
    """
    memories: list[Memory] = []
    seconds: float | None = None
    for server in server_urls(url):
        with plain_client(server) as client:
            memory = memory_of(read_info(client, "memory"))
            seconds = read_time(client)
        memories += [memory] if memory else []
    return max(memories, key=_filling, default=None), seconds


def _filling(memory: Memory) -> float:
    """The share of its capacity that is used; unknown counts as nothing."""
    return memory.used_bytes / memory.capacity_bytes if memory.capacity_bytes else 0.0


def read_time(client: Client) -> float | None:
    """The server's time in seconds since the epoch; None when we may not ask."""
    try:
        seconds, microseconds = client.time()
    except redis_errors.ResponseError:
        return None
    return float(seconds + microseconds / 1e6)
