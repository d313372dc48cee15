"""Opens stores by URL, and keeps the secrets of URLs out of everything that is printed."""

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from lightning_store.addresses import CLUSTER_SCHEMES, cluster_addresses, is_cluster
from lightning_store.backends.redis.urls import SENTINEL_SCHEMES, read_url
from lightning_store.errors import InvalidRequestError

if TYPE_CHECKING:
    from lightning_store.backends.redis.store import RedisLightningStore

SCHEMES: Final = ("redis", "rediss", "unix", *SENTINEL_SCHEMES, *CLUSTER_SCHEMES)
EXPECTED_URL: Final = (
    "expected redis://, rediss:// (TLS), unix://, redis+sentinel:// with the sentinels, redis+cluster:// with nodes "
    "of the Cluster, or rediss+sentinel:// or rediss+cluster://"
)

_AUTHORITY: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)\S*@")
_QUERY: Final = re.compile(
    r"(?P<name>[?&](?:sentinel_)?(?:user(?:name)?|password|ssl_password)=)[^&\s'\"]*", re.IGNORECASE
)
URL_VARIABLE: Final = "LIGHTNING_STORE_URL"
NAMESPACE_VARIABLE: Final = "LIGHTNING_STORE_NAMESPACE"
DEFAULT_NAMESPACE: Final = "default"

_SHORTEST_SECRET: Final = 4
"""Shorter passwords are not looked for in texts: they would be found inside of words."""


def open_store(url: str, namespace: str, **settings: Any) -> "RedisLightningStore":
    """The store behind a URL; nothing is sent before its first operation.

    Args:
        url: As `RedisLightningStore` takes it, with user, password and database where the server wants them.
        namespace: Which of the stores on that server.
        settings: Further arguments of `RedisLightningStore`.

    Raises:
        InvalidRequestError: The URL cannot be read, or an argument is out of bounds. The message has no secrets.
    """
    check_url(url)
    from lightning_store.backends.redis.store import RedisLightningStore  # noqa: PLC0415 - the driver is slow to import

    return RedisLightningStore(url, namespace=namespace, **settings)


def check_url(url: str) -> None:
    """Refuse a URL that no store of ours understands.

    What is wrong is said without quoting the URL: when a password has characters that a URL cannot carry, any part of
    it may be a part of the password.

    Raises:
        InvalidRequestError: See above.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise InvalidRequestError(f"the store's URL has no scheme; {EXPECTED_URL}")
    if scheme not in SCHEMES:
        raise InvalidRequestError(f"the store's URL begins with {scheme[:20]}://; {EXPECTED_URL}")
    read_url(url)
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
