"""The HTTP API as an ASGI application over any store."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.routing import Route as PageRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from lightning_store.contract import LightningStore
from lightning_store.errors import InvalidRequestError
from lightning_store.http.answers import Outcome
from lightning_store.http.calls import Call, Calls, Gone, whole_body
from lightning_store.http.docs_page import DOCS_PATH, docs
from lightning_store.http.failures import failure_of
from lightning_store.http.openapi import describe
from lightning_store.http.protocol import (
    API_HEADER,
    API_VERSION,
    CUT_HEADER,
    JSON_TYPE,
    KEY_HEADER,
    PREFIX,
    TRY_HEADER,
    is_key,
    standard_json,
)
from lightning_store.http.routes import Match, Route, Routes
from lightning_store.http.wire import CODECS, Codec
from lightning_store.operations import OPERATIONS, Operation

Headers = Sequence[tuple[bytes, bytes]]

CALLER: Final = "lightning_store.caller"
"""Key of the scope under which a middleware says who calls: nobody else gets the answers to that caller's keys."""


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    return name.lower().encode(), value.encode()


_VERSION: Final = _header(API_HEADER, API_VERSION)
_CUT: Final = _header(CUT_HEADER, "1")
_TYPE: Final = _header("content-type", JSON_TYPE)
_KEY: Final = KEY_HEADER.lower().encode()
_TRY: Final = TRY_HEADER.lower().encode()
_TRY_DIGITS: Final = 9
_NOT_FOUND: Final = b'{"detail":"Not Found"}'
_NOT_ALLOWED: Final = b'{"detail":"Method Not Allowed"}'
_HEALTH: Final = "/health"
_HEALTHY: Final = b'{"status":"ok"}'
_ENDED_BY_KEY: Final = {
    row.path: CODECS[row.name] for row in OPERATIONS.values() if row.path and row.mutates and row.waits
}
"""Calls that wait for work or room, by their path."""


class Api:
    """Answers everything below the prefix: one handler per route."""

    def __init__(self, calls: Calls, admit: Callable[[Operation], object], *, debug: bool) -> None:
        """Set up; `admit` raises a LightningStoreError where the caller may not have an operation."""
        self._calls = calls
        self._admit = admit
        self._debug = debug
        self._routes = Routes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        headers = dict(scope["headers"])
        is_ours = _VERSION[0] in headers
        path = _path(scope).removeprefix(PREFIX)
        if path == _HEALTH:
            await _send_health(scope, send)
            return
        if scope["method"] == "DELETE" and path in _ENDED_BY_KEY:
            await self._end(_ENDED_BY_KEY[path], scope, headers, send)
            return
        match = self._routes.match(scope["method"], path, empty_ids=is_ours)
        if match.route is None:
            await _refuse(scope, match, send)
            return
        try:
            status, body, extra = await self._answer(match.route, match.arguments, scope, headers, receive)
        except Gone:
            return
        await _send(send, status, body if is_ours else standard_json(body), extra)

    async def _answer(
        self,
        route: Route,
        path_arguments: Mapping[str, str],
        scope: Scope,
        headers: Mapping[bytes, bytes],
        receive: Receive,
    ) -> tuple[int, bytes, Headers]:
        codec = route.codec
        body = b"" if route.reads_query else await whole_body(receive)
        try:
            given = codec.read_query(scope["query_string"]) if route.reads_query else codec.read_body(body)
            arguments = {**path_arguments, **given}
            if _VERSION[0] not in headers and "offset" in codec.parameters:
                _check_page(arguments)
            outcome = await self._calls.carry_out(_call(route, arguments, scope, headers), receive)
        except Gone:
            raise
        except Exception as error:  # noqa: BLE001 - each has an answer
            where = "query" if route.reads_query else "body"
            return *failure_of(error, where=where, debug=self._debug), ()
        return codec.success, outcome.body, _extra(outcome)

    async def _end(self, codec: Codec, scope: Scope, headers: Mapping[bytes, bytes], send: Send) -> None:
        """End a call whose caller wants no more of it."""
        try:
            # The key is enough to look for the call, so who may not make it is kept from that here.
            self._admit(codec.operation)
            token = _token(headers) or _no_token()
            identity = _identity(scope, f"POST {codec.operation.path}", token)
            await self._calls.end(Call(codec, {}, identity, token), identity)
        except Exception as error:  # noqa: BLE001 - each has an answer
            await _send(send, *failure_of(error, where="header", debug=self._debug))
        else:
            await _send(send, 200, b"null")


async def _send_health(scope: Scope, send: Send) -> None:
    """Says that the server lives."""
    if scope["method"] == "GET":
        await _send(send, 200, _HEALTHY)
    else:
        await _refuse(scope, Match(None, {}, frozenset({"GET"})), send)


class _BelowPrefix:
    """Gives everything below the prefix to the API, past the routes of FastAPI: these cost more than our answers do."""

    def __init__(self, app: ASGIApp, api: Api) -> None:
        self._app = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or whatever else there is."""
        if scope["type"] == "http" and _path(scope).startswith(PREFIX + "/"):
            await self._api(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _path(scope: Scope) -> str:
    """The path of a request with its escapes, below what the server itself lies under."""
    path: str = scope["raw_path"].decode("latin-1")
    return path.removeprefix(scope.get("root_path", ""))


def _call(route: Route, arguments: dict[str, Any], scope: Scope, headers: Mapping[bytes, bytes]) -> Call:
    token = _token(headers) if route.codec.operation.mutates else None
    if token is None:
        return Call(route.codec, arguments)
    target = f"{scope['method']} {_path(scope).removeprefix(PREFIX)}"
    return Call(route.codec, arguments, _identity(scope, target, token), token, _tries(headers))


def _tries(headers: Mapping[bytes, bytes]) -> int:
    """Which try it is, as the caller says; the first one if what it says is no such number."""
    text = headers.get(_TRY, b"1")
    return int(text) if text.isdigit() and len(text) <= _TRY_DIGITS else 1


def _identity(scope: Scope, target: str, token: str) -> str:
    """What a call is known by: nobody gets another's answer, nor the answer to something else."""
    return f"{scope.get(CALLER, '')}\n{target}\n{token}"


def _token(headers: Mapping[bytes, bytes]) -> str | None:
    """The key of a call.

    Raises:
        InvalidRequestError: It is none of ours.
    """
    token = headers.get(_KEY)
    if token is None:
        return None
    text = token.decode("latin-1")
    if not is_key(text):
        raise InvalidRequestError(f"{KEY_HEADER}: expected 32 lower-case hex digits, got {text!r:.100}")
    return text


def _no_token() -> str:
    raise InvalidRequestError(f"{KEY_HEADER}: expected the key of the call to end")


def _check_page(arguments: Mapping[str, Any]) -> None:
    """Refuse a page without items, as Agent Lightning's server does."""
    if arguments.get("limit") == 0:
        raise InvalidRequestError("limit: expected -1 or at least 1, got 0")


def _extra(outcome: Outcome) -> Headers:
    return (_CUT,) if outcome.is_cut else ()


async def _refuse(scope: Scope, match: Match, send: Send) -> None:
    """An answer where there is no route."""
    has_body = scope["method"] != "HEAD"
    if match.allowed and scope["method"] != "GET":  # upstream's pages answer every GET that is no route, with 404
        allow = _header("allow", ", ".join(sorted(match.allowed)))
        await _send(send, 405, _NOT_ALLOWED, (allow,), has_body=has_body)
    else:
        await _send(send, 404, _NOT_FOUND, has_body=has_body)


async def _send(send: Send, status: int, body: bytes, extra: Headers = (), *, has_body: bool = True) -> None:
    headers = [_TYPE, (b"content-length", str(len(body)).encode()), _VERSION, *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body if has_body else b""})


def build_app(
    store: LightningStore,
    *,
    admit: Callable[[Operation], object] = lambda _: None,
    cors_origins: Sequence[str] | None = None,
    debug: bool = False,
    wait_limit_seconds: float = 60.0,
    answer_seconds: float = 240.0,
    orphan_seconds: float = 5.0,
) -> FastAPI:
    """The HTTP API over a store, below `/v1/agl`.

    Args:
        store: Any store; it is used on the event loop that serves the application, and not closed by it.
        admit: Called before the call of an operation is ended by its key; raises a LightningStoreError where the caller
            may not have that operation. What is carried out by the store is for the store to refuse.
        cors_origins: Origins whose pages may call the API, `*` = any; None = no headers of that kind.
        debug: Put tracebacks into the answers to our own faults.
        wait_limit_seconds: Longest wait of a call; our client asks again, others get what there is.
        answer_seconds: How long answers are kept for calls that are sent again with the same key.
        orphan_seconds: How long a claim is kept for a repeat when its caller has gone away before it was answered; then
            it is handed back.

    Returns:
        An application with the state `shutdown`: set it, on the loop, to end all waits.
    """
    calls = Calls(
        store,
        wait_limit_seconds=wait_limit_seconds,
        answer_seconds=answer_seconds,
        orphan_seconds=orphan_seconds,
    )
    app = FastAPI(title="lightning_store", debug=debug, docs_url=None, redoc_url=None)  # those load scripts of others
    app.router.routes.append(PageRoute(DOCS_PATH, docs))
    app.state.shutdown = calls.shutdown
    app.add_middleware(_BelowPrefix, api=Api(calls, admit, debug=debug))
    app.openapi = describe  # type: ignore[method-assign]  # its own reads routes that are written as functions
    if cors_origins is not None:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            allow_credentials=True,
            expose_headers=["*"],
        )
    return app
