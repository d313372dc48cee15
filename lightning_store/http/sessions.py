"""Connections of the client: one session of aiohttp per event loop."""

from typing import Any

import aiohttp

from lightning_store.loops import PerLoop, hang_up


class Sessions:
    """Sessions that belong to the running event loop; made when first used, dropped with loops that were closed."""

    def __init__(self, *, max_connections: int, ssl: Any) -> None:
        """Set up; nothing is opened.

        Args:
            max_connections: Most connections per event loop.
            ssl: As aiohttp takes it.
        """
        self._max_connections = max_connections
        self._ssl = ssl
        self._sessions: PerLoop[aiohttp.ClientSession] = PerLoop(self._make, _drop)

    def get(self) -> aiohttp.ClientSession:
        """The session of the running loop."""
        return self._sessions.get()

    async def close(self) -> None:
        """Close that of the running loop."""
        session = self._sessions.pop()
        if session is not None:
            await session.close()

    def _make(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=self._max_connections, ssl=self._ssl, ttl_dns_cache=30)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=True,
            cookie_jar=aiohttp.DummyCookieJar(),
        )


def _drop(session: aiohttp.ClientSession) -> None:
    """End the connections of a loop that was closed: nothing can run on it any more, so their sockets are closed."""
    connector: Any = session.connector
    if connector is None or session.closed:
        return
    session.detach()
    idle = [protocol for entries in connector._conns.values() for protocol, _ in entries]  # noqa: SLF001 - not told
    transports = [protocol.transport for protocol in (*idle, *connector._acquired)]  # noqa: SLF001 - in any other way
    connector.close()
    for transport in transports:
        if transport is not None:
            hang_up(transport)
