"""A relay between a store and its server that counts how often the store waits for an answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from hiredis import Reader

from lightning_store.addresses import Address

HOST: Final = "127.0.0.1"

_CHUNK: Final = 1 << 16
_NOTHING: Final = object()


class Relay:
    """Passes on what comes, and counts commands and their answers.

    Attributes:
        round_trips: A round trip begins when something is sent while no answer is awaited, and ends when all that was
            asked is answered.
    """

    def __init__(self, server: Address) -> None:
        self.round_trips = 0
        self._server = server
        self._awaited = 0
        self._ways: set[asyncio.Future[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it, or `close` does."""
        their_reader, their_writer = await asyncio.open_connection(*self._server)
        ways = {
            asyncio.ensure_future(_pass_on(reader, their_writer, self._sent)),
            asyncio.ensure_future(_pass_on(their_reader, writer, self._answered)),
        }
        self._ways |= ways
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for each in ways:
            each.cancel()
        await asyncio.wait(ways)
        for end in (their_writer, writer):
            end.close()
            with suppress(ConnectionError):
                await end.wait_closed()
        self._ways -= ways

    async def close(self) -> None:
        """End all connections."""
        while self._ways:
            for each in self._ways:
                each.cancel()
            await asyncio.sleep(0)

    def _sent(self, count: int) -> None:
        if count and not self._awaited:
            self.round_trips += 1
        self._awaited += count

    def _answered(self, count: int) -> None:
        self._awaited -= count


@asynccontextmanager
async def relay_to(server: Address) -> AsyncIterator[tuple[Relay, Address]]:
    """A relay and where it listens."""
    relay = Relay(server)
    listener = await asyncio.start_server(relay.serve, HOST, 0)
    try:
        yield relay, (HOST, listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        await relay.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[int], None]) -> None:
    """Pass on, and note how many commands or answers were complete with each piece, before it goes."""
    parser = Reader(notEnoughData=_NOTHING)
    with suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            parser.feed(data)
            note(sum(1 for _ in iter(partial(parser.gets), _NOTHING)))
            writer.write(data)
            await writer.drain()
