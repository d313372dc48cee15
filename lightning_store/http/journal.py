"""The access log: one line per request, with a request id that the answer carries too. No token, query or body."""

import logging
import re
import secrets
import time
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lightning_store.http.access import REQUEST, Request

logger = logging.getLogger("lightning_store.access")

HEADER: Final = "X-Request-ID"
_HEADER_BYTES: Final = HEADER.lower().encode()
_SANE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_UNPRINTABLE: Final = re.compile(rb"[^\x21-\x7e]")
_LONGEST_PATH: Final = 256


class Journal:
    """Gives every request an id, and writes it down when it is answered."""

    def __init__(self, app: ASGIApp, *, writes: bool) -> None:
        """Set up.

        Args:
            app: What answers.
            writes: Write lines; ids are given in any case.
        """
        self._app = app
        self._writes = writes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        given = Headers(scope=scope).get(HEADER, "")
        request = Request(given if _SANE.fullmatch(given) else secrets.token_hex(8))
        entry = _Entry(request, receive, send)
        reset = REQUEST.set(request)
        try:
            await self._app(scope, entry.receive, entry.send)
        finally:
            REQUEST.reset(reset)
            if self._writes and logger.isEnabledFor(logging.INFO):
                entry.write(scope)


class _Entry:
    """What the line of one request says."""

    def __init__(self, request: Request, receive: Receive, send: Send) -> None:
        self._request = request
        self._receive = receive
        self._send = send
        self._started = time.monotonic()
        self._status = 0
        self._bytes_in = 0
        self._bytes_out = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes_in += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            identified = (_HEADER_BYTES, self._request.id.encode())
            message = {**message, "headers": [*message.get("headers", ()), identified]}
        else:
            self._bytes_out += len(message.get("body", b""))
        await self._send(message)

    def write(self, scope: Scope) -> None:
        client = scope.get("client")
        logger.info(
            "method=%s path=%s status=%s ms=%.1f bytes_in=%d bytes_out=%d role=%s client=%s request=%s",
            scope["method"],
            _path(scope),
            self._status or "none",  # the client went away before the answer
            (time.monotonic() - self._started) * 1000,
            self._bytes_in,
            self._bytes_out,
            self._request.role or "-",
            client[0] if client else "-",
            self._request.id,
        )


def _path(scope: Scope) -> str:
    """The path as it was sent, escapes included, so that none can write lines of its own into the log."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "backslashreplace")
    return _UNPRINTABLE.sub(b"?", raw[:_LONGEST_PATH]).decode("ascii")
