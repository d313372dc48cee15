"""A tiny HTTP server that answers `GET /healthz`, and pages beside it that others make."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

REQUEST_SECONDS: Final = 5.0
REQUEST_BYTES: Final = 16_384
PATH: Final = "/healthz"
METHODS: Final = ("GET", "HEAD")

Page = Callable[[str], Awaitable[tuple[str, bytes]]]
"""Makes a page: from what the reader accepts, as in HTTP, its content type and text."""


class Healthz:
    """Answers 200 while all is well and 503 while not, with figures as JSON. It runs on the caller's loop."""

    def __init__(
        self,
        host: str,
        port: int,
        health: Callable[[], tuple[bool, dict[str, Any]]],
        pages: Mapping[str, Page | str] | None = None,
    ) -> None:
        """Set up; nothing is listened on.

        Args:
            host: Address to listen on.
            port: Port to listen on; 0 = any free one.
            health: Whether all is well, and the figures.
            pages: Further pages by path; a text instead says why there is none.
        """
        self._host = host
        self._wanted_port = port
        self._health = health
        self._pages = dict(pages or {})
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int | None:
        """The port that is listened on; None while there is none."""
        if self._server is None:
            return None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The port is taken, or not ours to take.
        """
        self._server = await asyncio.start_server(self._serve, self._host, self._wanted_port, limit=REQUEST_BYTES)

    async def stop(self) -> None:
        """Listen no more."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request and its answer; whoever sends something else, or nothing, is hung up on."""
        try:
            with suppress(asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), REQUEST_SECONDS)
                writer.write(await self._answer(head))
                await asyncio.wait_for(writer.drain(), REQUEST_SECONDS)
        finally:
            writer.close()

    async def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        page = self._pages.get(path)
        if path != PATH and not callable(page):
            reason = page or f"Not found; there is {' and '.join((PATH, *self._pages))} only"
            return _response(HTTPStatus.NOT_FOUND, _JSON, _json({"detail": reason}), method)
        if method not in METHODS:
            body = _json({"detail": f"Use {' or '.join(METHODS)}"})
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, _JSON, body, method, f"Allow: {', '.join(METHODS)}")
        if callable(page):
            return _response(HTTPStatus.OK, *await page(_accepted(head)), method)
        is_well, facts = self._health()
        status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
        return _response(status, _JSON, _json(facts), method)


_JSON: Final = "application/json"


def _json(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts).encode()


def _accepted(head: bytes) -> str:
    """What the reader of a request accepts, possibly said in several lines."""
    lines = [line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]]
    return ",".join(value.strip() for name, _, value in lines if name.lower() == "accept")


def _response(status: HTTPStatus, content_type: str, body: bytes, method: str, *headers: str) -> bytes:
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *headers,
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + (b"" if method == "HEAD" else body)
