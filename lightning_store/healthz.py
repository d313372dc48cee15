"""A tiny HTTP server that answers one question: `GET /healthz`."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

REQUEST_SECONDS: Final = 5.0
REQUEST_BYTES: Final = 16_384
PATH: Final = "/healthz"
METHODS: Final = ("GET", "HEAD")


class Healthz:
    """Answers 200 while all is well and 503 while not, with figures as JSON. It runs on the caller's loop."""

    def __init__(self, host: str, port: int, health: Callable[[], tuple[bool, dict[str, Any]]]) -> None:
        """Set up; nothing is listened on.

        Args:
            host: Address to listen on.
            port: Port to listen on; 0 = any free one.
            health: Whether all is well, and the figures.
        """
        self._host = host
        self._wanted_port = port
        self._health = health
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
                writer.write(self._answer(head))
                await asyncio.wait_for(writer.drain(), REQUEST_SECONDS)
        finally:
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if path != PATH:
            status, facts = HTTPStatus.NOT_FOUND, {"detail": f"Not found; there is {PATH} only"}
        elif method not in METHODS:
            status, facts = HTTPStatus.METHOD_NOT_ALLOWED, {"detail": f"Use {' or '.join(METHODS)}"}
        else:
            is_well, facts = self._health()
            status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
        body = json.dumps(facts).encode()
        lines = (
            f"HTTP/1.1 {status.value} {status.phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *([f"Allow: {', '.join(METHODS)}"] if status is HTTPStatus.METHOD_NOT_ALLOWED else []),
            "Connection: close",
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + (b"" if method == "HEAD" else body)
