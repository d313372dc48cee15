"""Connections of the client: one session of aiohttp per event loop."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import aiohttp

from lightning_store.loops import PerLoop, hang_up


class Sessions:
    """Sessions that belong to the running event loop; made when first used, dropped with loops that were closed.

    Requests that wait at the server have connections of their own, or enough of them would keep all others from being
    sent, among these the ones that they wait for.
    """

    def __init__(self, *, max_connections: int, tls: Callable[[], Any]) -> None:
        """Set up; nothing is opened.

        Args:
            max_connections: Most connections per event loop, besides those that wait.
            tls: Makes what aiohttp takes as `ssl`; called once per event loop.
        """
        self._tls = tls
        self._quick = PerLoop(partial(self._make, max_connections), _drop)
        self._waiting = PerLoop(partial(self._make, 0), _drop)

    def get(self, *, waits: bool) -> aiohttp.ClientSession:
        """The session of the running loop for requests that wait at the server, or for others."""
        return (self._waiting if waits else self._quick).get()

    async def close(self) -> None:
        """Close those of the running loop."""
        for sessions in (self._quick, self._waiting):
            session = sessions.pop()
            if session is not None:
                await session.close()

    def _make(self, max_connections: int) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=max_connections, ssl=self._tls(), ttl_dns_cache=30)
        return aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None), cookie_jar=aiohttp.DummyCookieJar()
        )


def _drop(session: aiohttp.ClientSession) -> None:
    """End the connections of a loop that was closed: nothing can run on it any more, so their sockets are closed."""
    connector: Any = session.connector
    if connector is None or session.closed:
        return
    session.detach()
    idle = [protocol for entries in connector._conns.values() for protocol, _ in entries]  # noqa: SLF001 - not told
    transports = [protocol.transport for protocol in (*idle, *connector._acquired)]  # noqa: SLF001 - in any other way
    _run_out(connector.close())  # with its loop closed, it has nothing to wait for
    for transport in transports:
        if transport is not None:
            hang_up(transport)


def _run_out(work: Awaitable[None]) -> None:
    """Carry out what waits for nothing, without an event loop."""
    steps = work.__await__()
    with suppress(StopIteration, RuntimeError):  # the loop that it knows is closed
        next(steps)
