"""Connections of clients: how many, how long their headers are, and how slow they may be.

What arrives before a request is complete, or is left of an answer after it, never reaches the application; so these
limits are kept where bytes come and go. uvicorn itself has a limit for connections without a request only.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lightning_store.http.options import ServerOptions

logger = logging.getLogger("lightning_store")


class GuardedConnection(HttpToolsProtocol):
    """One connection. A subclass has the options."""

    options: ServerOptions

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As uvicorn makes it."""
        super().__init__(*args, **kwargs)
        self.access_log = False  # we have our own, which has no queries
        self._head_bytes = 0
        self._is_within_head = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._unwritten = 0

    # -- the connection begins and ends ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Somebody has connected."""
        super().connection_made(transport)
        if len(self.connections) > self.options.max_connections:
            self._hang_up(HTTPStatus.SERVICE_UNAVAILABLE, "there are as many connections as may be")
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._head_arrived()
        if self._write_timer is not None:
            self._write_timer.cancel()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn forgets that after an error

    # -- the headers of a request ---------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self.transport.is_closing():
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        if not is_idle and not self._is_within_head:
            self._head_bytes = 0
        elif self._head_bytes > self.options.max_header_bytes:
            what = f"expected a request line and headers of at most {self.options.max_header_bytes} bytes"
            self._hang_up(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, what)
        elif is_idle and self._head_timer is None and self.timeout_keep_alive_task is None:
            self._await_head()

    def on_message_begin(self) -> None:
        """The first byte of a request has come."""
        super().on_message_begin()
        self._is_within_head = True
        if self._head_timer is None:
            self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header is complete; those that stand behind a body are of no use to anybody, and without a limit."""
        if self._is_within_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """All headers have come."""
        self._is_within_head = False
        self._head_bytes = 0
        self._head_arrived()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.options.header_seconds, self._head_is_late)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            return  # it is the head of a request behind one that is being answered, which has no hurry
        self._hang_up(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time")

    # -- the answer -----------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """An answer is complete, on our side."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_writing()

    def timeout_keep_alive_handler(self) -> None:
        """There was no request for long."""
        super().timeout_keep_alive_handler()
        self._watch_writing()

    def shutdown(self) -> None:
        """The server stops."""
        super().shutdown()
        if self.transport.is_closing():
            self._watch_writing()

    def pause_writing(self) -> None:
        """The client does not take what was sent."""
        super().pause_writing()
        self._watch_writing()

    def _watch_writing(self) -> None:
        """Look after a while whether the client has taken anything."""
        if self._write_timer is None:
            self._unwritten = self.transport.get_write_buffer_size()
            self._write_timer = self.loop.call_later(self.options.write_seconds, self._look_at_writing)

    def _look_at_writing(self) -> None:
        self._write_timer = None
        left = self.transport.get_write_buffer_size()
        if 0 < left < self._unwritten:
            self._watch_writing()
        elif left or self.transport.is_closing():
            logger.info("a client takes nothing of its answer and is hung up on")
            self.transport.abort()

    def _hang_up(self, status: HTTPStatus, what: str) -> None:
        """End the connection with an answer that no application has seen."""
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(what)}\r\nConnection: close\r\n\r\n"
        )
        self._head_arrived()
        self.transport.write((head + what).encode())
        self.transport.close()
        self._watch_writing()


def connections_with(options: ServerOptions) -> type[GuardedConnection]:
    """The class of connections that keep the limits of these options."""
    return type("GuardedConnection", (GuardedConnection,), {"options": options})
