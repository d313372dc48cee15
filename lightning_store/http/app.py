"""The HTTP API as an ASGI application over any store."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.routing import Mount

from lightning_store.contract import LightningStore
from lightning_store.errors import InvalidRequestError
from lightning_store.http.calls import Calls, Gone
from lightning_store.http.failures import failure_of
from lightning_store.http.otlp_routes import MAX_BODY_BYTES, otlp_routes
from lightning_store.http.protocol import (
    API_HEADER,
    API_VERSION,
    CUT_HEADER,
    JSON_TYPE,
    PREFIX,
    standard_json,
)
from lightning_store.http.routes import Match, Route, Routes

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

OPERATION: Final = "lightning_store.operation"
"""Key of the scope under which middlewares find the name of the operation, once it is known."""

_VERSION: Final = (API_HEADER.lower().encode(), API_VERSION.encode())
_CUT: Final = (CUT_HEADER.lower().encode(), b"1")
_TYPE: Final = (b"content-type", JSON_TYPE.encode())
_NOT_FOUND: Final = b'{"detail":"Not Found"}'
_NOT_ALLOWED: Final = b'{"detail":"Method Not Allowed"}'
_HEALTHY: Final = b'{"status":"ok"}'


class Api:
    """Answers everything below the prefix: one handler per route."""

    def __init__(self, calls: Calls, *, debug: bool) -> None:
        """Set up."""
        self._calls = calls
        self._debug = debug
        self._routes = Routes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        headers = dict(scope["headers"])
        is_ours = _VERSION[0] in headers
        match = self._match(scope, is_ours)
        if match.route is None:
            await _refuse(scope, match, send)
            return
        scope[OPERATION] = match.route.codec.operation.name
        try:
            status, body, extra = await self._answer(match.route, match.arguments, scope, receive, is_ours)
        except Gone:
            return
        await _send(send, status, body if is_ours else standard_json(body), extra)

    def _match(self, scope: Scope, is_ours: bool) -> Match:
        path = scope["raw_path"].decode("latin-1")[len(scope.get("root_path", "")) :]
        return self._routes.match(scope["method"], path, empty_ids=is_ours)

    async def _answer(
        self, route: Route, path_arguments: Mapping[str, str], scope: Scope, receive: Receive, is_ours: bool
    ) -> tuple[int, bytes, Sequence[tuple[bytes, bytes]]]:
        codec = route.codec
        where = "query" if route.reads_query else "body"
        body = b"" if route.reads_query else await _body(receive)
        try:
            given = codec.read_query(scope["query_string"]) if route.reads_query else codec.read_body(body)
            arguments = {**path_arguments, **given}
            if not is_ours and arguments.get("limit") == 0 and "offset" in codec.parameters:
                raise InvalidRequestError("limit: expected -1 or at least 1, got 0")
            result, is_cut = await self._calls.carry_out(codec.operation, arguments, receive)
            return codec.success, codec.write_answer(result, arguments), (_CUT,) if is_cut else ()
        except Gone:
            raise
        except Exception as error:  # noqa: BLE001 - each has an answer
            status, content = failure_of(error, where=where, debug=self._debug)
            return status, content, ()


async def _body(receive: Receive) -> bytes:
    """The body of a request.

    Raises:
        Gone: The caller went away before it was complete.
    """
    message = await receive()
    parts: list[bytes] = []
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
        message = await receive()
    raise Gone


async def _refuse(scope: Scope, match: Match, send: Send) -> None:
    """An answer where there is no route."""
    if match.allowed:
        allow = ", ".join(sorted(match.allowed)).encode()
        await _send(send, 405, _NOT_ALLOWED, ((b"allow", allow),), has_body=scope["method"] != "HEAD")
    else:
        await _send(send, 404, _NOT_FOUND, has_body=scope["method"] != "HEAD")


async def _send(
    send: Send, status: int, body: bytes, extra: Sequence[tuple[bytes, bytes]] = (), *, has_body: bool = True
) -> None:
    headers = [_TYPE, (b"content-length", str(len(body)).encode()), _VERSION, *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body if has_body else b""})


async def _health(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - the form of an application
    """Says that the server lives."""
    if scope["method"] == "GET":
        await _send(send, 200, _HEALTHY)
    else:
        await _send(send, 405, _NOT_ALLOWED, ((b"allow", b"GET"),), has_body=scope["method"] != "HEAD")


def build_app(
    store: LightningStore,
    *,
    cors_origins: Sequence[str] | None = None,
    debug: bool = False,
    wait_limit_seconds: float = 300.0,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> FastAPI:
    """The HTTP API over a store, below `/v1/agl`, and OTLP's routes beside it.

    Args:
        store: Any store; it is used on the event loop that serves the application, and not closed by it.
        cors_origins: Origins whose pages may call the API, `*` = any; None = no headers of that kind.
        debug: Put tracebacks into the answers to our own faults.
        wait_limit_seconds: Longest wait of a call; our client asks again, others get what there is.
        max_body_bytes: Most bytes of an OTLP request, packed and unpacked.

    Returns:
        An application with the state `shutdown`: set it, on the loop, to end all waits.
    """
    calls = Calls(store, wait_limit_seconds=wait_limit_seconds)
    api = Api(calls, debug=debug)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["raw_path"]
        if path.endswith(b"/health") and path == (scope.get("root_path", "") + "/health").encode():
            await _health(scope, receive, send)
        else:
            await api(scope, receive, send)

    app = FastAPI(title="lightning_store", debug=debug)
    app.state.shutdown = calls.shutdown
    app.router.routes.append(Mount(PREFIX, app=answer))
    app.router.routes.extend(otlp_routes(store, max_body_bytes=max_body_bytes))
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
