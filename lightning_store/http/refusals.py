"""Requests that are refused before the application sees them: one exception, and the answer that it becomes."""

import asyncio
import json
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lightning_store.errors import AccessDeniedError, InvalidRequestError, LightningStoreError, ServerBusyError
from lightning_store.http.otlp_messages import refusal as otlp_refusal
from lightning_store.http.protocol import JSON_TYPE, OTLP_PATHS

DISCARD_SECONDS: Final = 2.0
"""For how long the rest of a body is read and dropped before a refusal: closing at once would reset the connection, and
the client would see that instead of the answer."""

RETRY_AFTER: Final = (b"retry-after", b"1")
_UNAVAILABLE: Final = 503
_TOO_SLOW: Final = 408


class Refused(Exception):  # noqa: N818 - it is an answer more than an error
    """Ends a request with an answer of its own."""

    def __init__(
        self, status: int, detail: str, kind: type[LightningStoreError], *headers: tuple[bytes, bytes]
    ) -> None:
        """Set up.

        Args:
            status: Of the answer.
            detail: What is wrong, without secrets.
            kind: What a client of ours raises.
            headers: Further ones of the answer.
        """
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.headers = headers


def unauthorized(detail: str) -> Refused:
    """There is no token, or none that is known."""
    return Refused(401, detail, AccessDeniedError, (b"www-authenticate", b'Bearer realm="lightning-store"'))


def forbidden(detail: str) -> Refused:
    """Whoever it is, this is not allowed."""
    return Refused(403, detail, AccessDeniedError)


def bad_request(detail: str, status: int = 400) -> Refused:
    """The request itself cannot be accepted."""
    return Refused(status, detail, InvalidRequestError)


def overloaded(detail: str) -> Refused:
    """There is too much to do now, or the server is stopping; clients of ours come again by themselves."""
    return Refused(_UNAVAILABLE, detail, ServerBusyError, RETRY_AFTER)


def too_slow(detail: str) -> Refused:
    """The request did not arrive in time."""
    return Refused(_TOO_SLOW, detail, ServerBusyError)


class Refusals:
    """Turns `Refused` into an answer, and lets clients know when to come again after any 503."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        body = _Body(receive, is_held_back=_is_held_back(scope))
        answer = _Answer(send)
        try:
            await self._app(scope, body.receive, answer.send)
        except Refused as refusal:
            if answer.has_begun:
                raise
            await _refuse(refusal, scope, body, send)
        except asyncio.CancelledError:
            if answer.has_begun:
                raise
            # Only the end of the server cancels requests; the task ends with this answer.
            await _refuse(overloaded("the server is stopping"), scope, body, send)


class _Body:
    """The body of a request, and whether all of it was read."""

    def __init__(self, receive: Receive, *, is_held_back: bool) -> None:
        self._receive = receive
        self._is_held_back = is_held_back
        self.is_read = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._is_held_back = False
        self.is_read = self.is_read or message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def discard(self) -> None:
        """Read and drop the rest, for a moment; not if the client waits for a word before it sends any."""
        if self._is_held_back:
            return
        try:
            await asyncio.wait_for(self._drop(), DISCARD_SECONDS)
        except asyncio.TimeoutError:
            return

    async def _drop(self) -> None:
        while not self.is_read:
            await self.receive()


class _Answer:
    """The answer to a request, and whether it has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            if message["status"] == _UNAVAILABLE:
                headers: list[Any] = list(message.get("headers", ()))
                if not any(name.lower() == b"retry-after" for name, _ in headers):
                    message = {**message, "headers": [*headers, RETRY_AFTER]}
        await self._send(message)


def _is_held_back(scope: Scope) -> bool:
    """Whether the client sends the body only if it is told to."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"])


def _content(refusal: Refused, scope: Scope) -> tuple[str, bytes]:
    """Media type and body: those who send by OTLP read errors in a form of its own."""
    if scope["path"] in OTLP_PATHS and scope["method"] == "POST":
        return otlp_refusal(Headers(scope=scope).get("content-type", ""), refusal.kind, refusal.detail)
    return JSON_TYPE, json.dumps({"detail": refusal.detail, "error_type": refusal.kind.code}).encode()


async def _refuse(refusal: Refused, scope: Scope, body: _Body, send: Send) -> None:
    media_type, content = _content(refusal, scope)
    headers = [
        (b"content-type", media_type.encode()),
        (b"content-length", str(len(content)).encode()),
        *refusal.headers,
    ]
    if not body.is_read:
        if refusal.status != _TOO_SLOW:
            await body.discard()
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
