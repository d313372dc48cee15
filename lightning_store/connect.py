"""Opens stores by URL, and keeps the secrets of URLs out of everything that is printed."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from lightning_store.addresses import CLUSTER_SCHEMES, DEFAULT_NAMESPACE, StoreKind, cluster_addresses, is_cluster
from lightning_store.backends.redis.urls import SENTINEL_SCHEMES, read_url
from lightning_store.errors import InvalidRequestError, MissingExtraError

if TYPE_CHECKING:
    from lightning_store.contract import LightningStore

_KINDS: Final[dict[str, StoreKind]] = {
    **dict.fromkeys(("redis", "rediss", "unix", *SENTINEL_SCHEMES, *CLUSTER_SCHEMES), "redis"),
    "sqlite": "sqlite",
    "http": "http",
    "https": "http",
    "memory": "memory",
}
EXPECTED_URL: Final = (
    "expected redis://, rediss:// (TLS), unix://, redis+sentinel:// with the sentinels, redis+cluster:// with nodes "
    "of the Cluster, rediss+sentinel:// or rediss+cluster://, sqlite:///path, or http:// or https:// of a server"
)
TOKEN_VARIABLE: Final = "LIGHTNING_STORE_TOKEN"  # noqa: S105 - a name, no secret
"""Where the token for a server is found; a URL is shown and kept in too many places for it."""

_AUTHORITY: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)\S*@")
_QUERY: Final = re.compile(
    r"(?P<name>[?&](?:sentinel_)?(?:user(?:name)?|password|ssl_password|token)=)[^&\s'\"]*", re.IGNORECASE
)
_SHORTEST_SECRET: Final = 4
"""Shorter passwords are not looked for in texts: they would be found inside of words."""


def kind_of(url: str) -> StoreKind:
    """What kind of store a URL names.

    Raises:
        InvalidRequestError: None of ours.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise InvalidRequestError(f"the store's URL has no scheme; {EXPECTED_URL}")
    if scheme not in _KINDS:
        raise InvalidRequestError(f"the store's URL begins with {scheme[:20]}://; {EXPECTED_URL}")
    return _KINDS[scheme]


def open_store(url: str, namespace: str = DEFAULT_NAMESPACE, **settings: Any) -> "LightningStore":
    """The store behind a URL; nothing is sent or written before its first operation.

    Args:
        url: Of Redis, as `RedisLightningStore` takes it, with user, password and database where the server wants them;
            `sqlite:///relative/path` or `sqlite:////absolute/path`; `http://` or `https://` of a server, whose token is
            in the variable LIGHTNING_STORE_TOKEN; or `memory://`, a new store in the memory of this process.
        namespace: Which of the stores on a Redis; the others hold one store, `default`.
        settings: Further arguments of the store's class. A server's store has been set up by the server: none there.

    Raises:
        InvalidRequestError: The URL cannot be read, an argument is out of bounds or means nothing there. The message
            has no secrets.
        MissingExtraError: A package that this kind needs is not installed.
    """
    check_url(url)
    kind = kind_of(url)
    # The backends are slow to import, and some need an extra.
    if kind == "redis":
        from lightning_store.backends.redis.store import RedisLightningStore  # noqa: PLC0415

        return RedisLightningStore(url, namespace=namespace, **settings)
    check_namespace(url, namespace)
    if kind == "sqlite":
        from lightning_store.backends.sqlite import SQLiteLightningStore  # noqa: PLC0415

        return SQLiteLightningStore(sqlite_path(url), **settings)
    if kind == "memory":
        from lightning_store.backends.memory import InMemoryLightningStore  # noqa: PLC0415

        return InMemoryLightningStore(**settings)
    if settings:
        raise InvalidRequestError(
            f"{', '.join(sorted(settings))}: a server's store has its own; expected none with http://"
        )
    return open_client(url)


def open_client(url: str, **settings: Any) -> "LightningStore":
    """The client of the server behind an `http://` or `https://` URL, with the token of the environment.

    Args:
        url: The URL.
        settings: Further arguments of `LightningStoreClient`.

    Raises:
        InvalidRequestError: An argument is out of bounds.
        MissingExtraError: A package that it needs is not installed.
    """
    try:
        from lightning_store.http.client import LightningStoreClient  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("a store over http://", "client") from error
    return LightningStoreClient(url, token=os.environ.get(TOKEN_VARIABLE) or None, **settings)


def check_namespace(url: str, namespace: str) -> None:
    """Refuse a namespace where there is only one store.

    Raises:
        InvalidRequestError: See above.
    """
    kind = kind_of(url)
    if kind != "redis" and namespace != DEFAULT_NAMESPACE:
        holder = {"sqlite": "a SQLite file", "http": "a server", "memory": "a memory://"}[kind]
        raise InvalidRequestError(
            f"namespace: {holder} holds one store, expected {DEFAULT_NAMESPACE!r}, got {namespace!r:.200}"
        )


def sqlite_path(url: str) -> Path:
    """The file of a `sqlite:///` URL; relative to the working directory, or absolute with a fourth slash."""
    return Path(unquote(url.partition(":///")[2]))


def check_url(url: str) -> None:
    """Refuse a URL that no store of ours understands.

    What is wrong is said without quoting the URL: when a password has characters that a URL cannot carry, any part of
    it may be a part of the password.

    Raises:
        InvalidRequestError: See above.
    """
    {"redis": _check_redis, "sqlite": _check_sqlite, "http": _check_http, "memory": _check_memory}[kind_of(url)](url)


def _check_redis(url: str) -> None:
    read_url(url)
    scheme = url.partition("://")[0]
    if scheme in SENTINEL_SCHEMES:
        return
    try:
        parts = urlsplit(cluster_addresses(url)[0] if is_cluster(url) else url)
        complete = bool(parts.path if scheme == "unix" else parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete:
        several = "host:port,host:port" if is_cluster(url) else "host:port/db"
        shape = "unix:///path" if scheme == "unix" else f"{scheme}://{several}"
        raise InvalidRequestError(
            f"the store's URL cannot be read; expected {shape}, with user:password@ before the host where "
            "it asks for them, special characters of the password written as %XX"
        )


def _check_sqlite(url: str) -> None:
    path = unquote(url.partition("://")[2])
    if not path.startswith("/") or not path.strip("/") or path.endswith("/") or re.search(r"[?#\x00]", path):
        raise InvalidRequestError(
            "the store's URL cannot be read; expected sqlite:///relative/path or sqlite:////absolute/path of a file"
        )


def _check_http(url: str) -> None:
    try:
        parts = urlsplit(url)
        complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    else:
        if "@" in parts.netloc:
            raise InvalidRequestError(f"the store's URL has a user; expected the token in {TOKEN_VARIABLE}")
        complete = complete and not parts.query and not parts.fragment
    if not complete:
        raise InvalidRequestError("the store's URL cannot be read; expected http://host:port or https://host:port")


def _check_memory(url: str) -> None:
    if url != "memory://":
        raise InvalidRequestError("the store's URL cannot be read; expected memory:// and nothing more")


def redact(text: str, url: str | None = None) -> str:
    """`text` without the secrets of any URL in it.

    Args:
        text: A URL or any message.
        url: A URL whose password must not show on its own either.
    """
    for secret in _passwords(url) if url else ():
        text = text.replace(secret, "***")
    text = _AUTHORITY.sub(r"\g<scheme>***@", text)
    return _QUERY.sub(r"\g<name>***", text)


def _passwords(url: str) -> list[str]:
    """The passwords in a URL, as written and as meant."""
    try:
        parts = urlsplit(url)
        options = parse_qs(parts.query)
        found = [parts.password or "", *options.get("password", []), *options.get("sentinel_password", [])]
    except ValueError:
        return []
    both = {*found, *(unquote(secret) for secret in found)}
    return sorted((secret for secret in both if len(secret) >= _SHORTEST_SECRET), key=len, reverse=True)
