"""What a server can be told, and the limits that it keeps."""

from dataclasses import dataclass, fields
from typing import Final

from lightning_store.addresses import is_loopback
from lightning_store.errors import InvalidRequestError

DEFAULT_PORT: Final = 4747
_KIB: Final = 1024
_MIB: Final = 1024 * 1024
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to
_MAY_BE_NONE: Final = frozenset({"public_url", "tls_cert", "tls_key", "tls_client_ca"})
_FROM_ZERO: Final = frozenset({"port", "drain_seconds"})
_LAST_PORT: Final = 65535


@dataclass(frozen=True)
class ServerOptions:
    """What a server can be told.

    Attributes:
        host: Address to listen on. Anything but this machine's own loopback needs tokens.
        port: Port to listen on; 0 = a free one.
        public_url: The URL under which others reach the server, through a proxy or from other hosts; what copies of the
            server object use. None = made from host and port.
        tls_cert: PEM file with the certificate and those that vouch for it; None = plain HTTP.
        tls_key: PEM file with its private key.
        tls_client_ca: PEM file with the authorities of client certificates, which are demanded then; None = not asked.
        cors_origins: Origins whose web pages may call the server; `*` = all; none by default.
        debug: Tracebacks in the bodies of internal errors; never where strangers can call.
        access_log: One line per request on the logger `lightning_store.access`.
        max_body_bytes: Largest body of a request, also after decompression.
        max_buffered_bytes: Most bytes of bodies that are held at once, of all requests together.
        max_header_bytes: Largest request line and headers together.
        max_json_depth: Deepest nesting of a body; stores take values of 200 levels.
        max_requests: Most requests at once that do not wait; further ones are told to come again (503).
        max_waits: Most requests at once that wait for work, finishes or room.
        max_connections: Most connections at once, per process.
        header_seconds: Within so much time the headers of a request have to arrive, a TLS handshake too.
        body_seconds: Within so much time a body has to arrive; longer ones get more, by `body_bytes_per_second`.
        body_bytes_per_second: The slowest that a body may arrive.
        write_seconds: A client that takes nothing of its answer for so long is hung up on.
        keep_alive_seconds: A connection without a request for so long is closed. Longer than that of a proxy before it.
        wait_limit_seconds: The longest that one request waits; clients then ask again.
        answer_seconds: How long answers are kept for calls that are sent again after a lost answer: at least twice as
            long as any client repeats a call (`retry_seconds`).
        drain_seconds: For how long requests in flight may go on once the server is told to stop.
        ready_seconds: The longest that `/ready` waits for the store.
    """

    host: str = "127.0.0.1"
    port: int = 0
    public_url: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    cors_origins: tuple[str, ...] = ()
    debug: bool = False
    access_log: bool = True
    max_body_bytes: int = 64 * _MIB
    max_buffered_bytes: int = 512 * _MIB
    max_header_bytes: int = 32 * _KIB
    max_json_depth: int = 256
    max_requests: int = 512
    max_waits: int = 8192
    max_connections: int = 10_000
    header_seconds: float = 10.0
    body_seconds: float = 20.0
    body_bytes_per_second: int = 16 * _KIB
    write_seconds: float = 20.0
    keep_alive_seconds: float = 75.0
    wait_limit_seconds: float = 60.0
    answer_seconds: float = 240.0
    drain_seconds: float = 10.0
    ready_seconds: float = 2.0

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            InvalidRequestError: A value is of the wrong kind or out of bounds; the message names it.
        """
        object.__setattr__(self, "cors_origins", _texts(self.cors_origins, "cors_origins"))
        for field in fields(self):
            _check(field.name, getattr(self, field.name), field.default)
        if self.port > _LAST_PORT:
            raise InvalidRequestError(f"port: expected 0 to {_LAST_PORT}, got {self.port}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidRequestError("tls_cert and tls_key: expected both or none")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise InvalidRequestError("tls_client_ca: expected tls_cert and tls_key with it")
        if self.max_buffered_bytes < self.max_body_bytes:
            raise InvalidRequestError(
                f"max_buffered_bytes: expected at least max_body_bytes ({self.max_body_bytes}), "
                f"got {self.max_buffered_bytes}"
            )
        if self.public_url is not None and not self.public_url.startswith(("http://", "https://")):
            raise InvalidRequestError("public_url: expected http:// or https:// and a host")

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine can reach the address."""
        return is_loopback(self.host)

    def url_at(self, port: int) -> str:
        """The URL of the server once it listens on a port."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = _ANY.get(self.host, self.host)
        scheme = "http" if self.tls_cert is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _check(name: str, value: object, default: object) -> None:
    if value is None and name in _MAY_BE_NONE:
        return
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise InvalidRequestError(f"{name}: expected true or false, got {value!r}")
    elif isinstance(default, int | float):
        kind = int if isinstance(default, int) else (int, float)
        what = "an integer" if kind is int else "a number"
        if isinstance(value, bool) or not isinstance(value, kind):
            raise InvalidRequestError(f"{name}: expected {what}, got {value!r}")
        bound = "of at least 0" if name in _FROM_ZERO else "above 0"
        if not (value >= 0 if name in _FROM_ZERO else value > 0) or value == float("inf"):
            raise InvalidRequestError(f"{name}: expected {what} {bound}, got {value!r}")
    elif name != "cors_origins" and not (isinstance(value, str) and value):
        raise InvalidRequestError(f"{name}: expected a text that is not empty, got {value!r}")


def _texts(value: object, name: str) -> tuple[str, ...]:
    """A tuple of texts, from any sequence of them; one text alone would be taken letter by letter."""
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise InvalidRequestError(f"{name}: expected a list of texts, got {value!r}")
    items = tuple(value)
    if not all(isinstance(item, str) and item for item in items):
        raise InvalidRequestError(f"{name}: expected texts that are not empty")
    return items
