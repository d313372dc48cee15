"""What a request passes before it reaches the application: who it is, and whether there is room for it."""

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from lightning_store.addresses import is_loopback
from lightning_store.errors import AccessDeniedError
from lightning_store.http.access import REQUEST, Places, Request, leave
from lightning_store.http.app import CALLER
from lightning_store.http.docs_page import DOCS_PATH
from lightning_store.http.options import ServerOptions
from lightning_store.http.protocol import TRACES_PATH
from lightning_store.http.refusals import bad_request, forbidden, overloaded, unauthorized
from lightning_store.http.tokens import Tokens
from lightning_store.operations import OPERATIONS, Operation

PUBLIC_PATHS: Final = frozenset({"/v1/agl/health", DOCS_PATH, "/openapi.json"})
"""They tell nothing of the store, so they need no token."""

SENDING: Final = OPERATIONS["add_many_spans"]
"""What a request by OTLP comes down to."""

_SCHEME: Final = "bearer"


class Authentication:
    """Finds out the caller's role.

    Without tokens everybody who can connect may do all. As only this machine can then, what is left are web pages in a
    browser on it: a request whose `Host` or `Origin` is another machine's comes from such a page and is refused.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens | None, options: ServerOptions) -> None:
        self._app = app
        self._tokens = tokens
        self._origins = options.cors_origins
        public = urlsplit(options.public_url or "").hostname
        self._hosts = {host.lower() for host in (options.host, public) if host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        request = REQUEST.get()
        if request is not None and scope["path"] not in PUBLIC_PATHS:
            headers = Headers(scope=scope)
            if self._tokens is None:
                self._check_local(headers)
                request.role = "admin"
            else:
                request.role = self._tokens.role_of(_token_in(headers))
                if request.role is None:
                    raise unauthorized("the token is not known")
            scope[CALLER] = request.role
        await self._app(scope, receive, send)

    def _check_local(self, headers: Headers) -> None:
        host = _host_in(f"//{headers.get('host', '')}")
        origin = headers.get("origin")
        is_ours = origin is None or origin in self._origins or "*" in self._origins
        if not (self._is_here(host) and (is_ours or self._is_here(_host_in(str(origin))))):
            raise forbidden("without tokens this server answers programs and pages of its own machine only")

    def _is_here(self, host: str) -> bool:
        return is_loopback(host) or host.lower() in self._hosts


def _host_in(url: str) -> str:
    """The host that a URL names; none if it is no URL."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # brackets that hold no address
        return ""


def _token_in(headers: Headers) -> str:
    given = headers.getlist("authorization")
    if len(given) != 1:
        raise unauthorized("expected one header `Authorization: Bearer <token>`")
    scheme, _, token = given[0].strip().partition(" ")
    if scheme.lower() != _SCHEME or not token:
        raise unauthorized("expected the header `Authorization: Bearer <token>`")
    return token.strip()


class Senders:
    """Lets in only those spans whose sender may send them; of the body of another nothing is read."""

    def __init__(self, app: ASGIApp, check: Callable[[Operation], object]) -> None:
        """Set up.

        Args:
            app: What comes behind it.
            check: Raises an AccessDeniedError where the caller may not have an operation.
        """
        self._app = app
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["path"] == TRACES_PATH and scope["method"] == "POST":
            try:
                self._check(SENDING)
            except AccessDeniedError as error:
                raise forbidden(str(error)) from None
        await self._app(scope, receive, send)


class Concurrency:
    """Admits so many requests at once; those that wait are counted apart, by `ServedStore`."""

    def __init__(self, app: ASGIApp, places: Places, options: ServerOptions) -> None:
        self._app = app
        self._places = places
        self._most = options.max_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        request = REQUEST.get()
        if request is None or scope["path"] in PUBLIC_PATHS:
            await self._app(scope, receive, send)
            return
        if self._places.requests >= self._most:
            raise overloaded(f"{self._places.requests} requests are under way, as many as may: come again later")
        self._enter(request)
        try:
            await self._app(scope, receive, send)
        finally:
            leave(request)

    def _enter(self, request: Request) -> None:
        request.places = self._places
        self._places.requests += 1


class HeaderLimit:
    """Refuses a request whose line and headers are too large together."""

    def __init__(self, app: ASGIApp, options: ServerOptions) -> None:
        self._app = app
        self._most = options.max_header_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        target = len(scope.get("raw_path") or scope["path"]) + len(scope.get("query_string") or b"")
        if target + sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > self._most:
            raise bad_request(f"expected a request line and headers of at most {self._most} bytes", 431)
        await self._app(scope, receive, send)
