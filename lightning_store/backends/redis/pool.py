"""Connections of one event loop, on which commands are sent and answered."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis import exceptions as redis_errors

from lightning_store.backends.redis.failures import is_misplaced, out_of_time
from lightning_store.backends.redis.scripts import Argument
from lightning_store.backends.redis.server import DIRECT, ToServer, Way
from lightning_store.backends.redis.settings import ConnectionSettings
from lightning_store.backends.redis.turns import Turns
from lightning_store.loops import hang_up, timeout

_BLOCKING_MARGIN: Final = 3.0
"""Longest time for the answer once a blocking command is over; nothing is lost by asking on another connection then."""


class Pool(ToServer):
    """Sends commands on connections that are each for one call at a time, because commands may block them.

    They are opened when needed; the one used last is used first.

    The driver's pools and clients would double the time that a call takes here: they look for changes of the server
    and keep records at every step.
    """

    def __init__(self, settings: ConnectionSettings, *, most: int, way: Way = DIRECT) -> None:
        """Make a pool.

        Args:
            settings: How to reach the server.
            most: Most connections; further calls wait for one.
            way: How connections get there.
        """
        super().__init__(settings, way)
        self._turns = Turns(most)
        self._connections: list[Any] = []
        self._free: list[Any] = []

    async def send(
        self, commands: Sequence[Sequence[Argument]], until: float | None = None, *, blocking_seconds: float = 0.0
    ) -> list[Any]:
        """See ToServer."""
        loop = asyncio.get_running_loop()
        patience = self._settings.retry_seconds if until is None else until - loop.time()
        if not await self._turns.take(patience):
            raise redis_errors.ConnectionError(f"all {len(self._connections)} connections are in use")
        try:
            if self._is_closed:
                raise redis_errors.ConnectionError("the connections were closed")
            connection = self._free.pop() if self._free else self._new()
            seconds = self._settings.socket_seconds
            if blocking_seconds:  # a connection that is dead and does not know it stops all who stand in line behind it
                seconds = blocking_seconds + min(seconds, _BLOCKING_MARGIN)
            elif until is not None:
                seconds = min(seconds, until - loop.time())
            try:
                return await self._exchange(connection, commands, seconds)
            finally:
                self._free.append(connection)
                if self._is_closed:
                    await connection.disconnect(nowait=True)
        finally:
            self._turns.pass_on()

    async def close(self) -> None:
        """See ToServer."""
        await super().close()
        for connection in self._connections:
            await connection.disconnect()

    async def move(self) -> None:
        """See ToServer."""
        for connection in list(self._connections):
            if connection in self._free:
                await connection.disconnect(nowait=True)
            elif (writer := getattr(connection, "_writer", None)) is not None:
                writer.transport.abort()

    def hang_up(self) -> None:
        """See ToServer."""
        for connection in self._connections:
            writer = getattr(connection, "_writer", None)
            connection._reader = connection._writer = None  # noqa: SLF001 - or it complains when it is collected
            transport = getattr(writer, "transport", None)
            if transport is not None:
                hang_up(transport)
        super().hang_up()

    def _new(self) -> Any:
        connection = self._settings.connection()
        self._connections.append(connection)
        return connection

    async def _exchange(self, connection: Any, commands: Sequence[Sequence[Argument]], seconds: float) -> list[Any]:
        try:
            async with timeout(seconds):
                await self._way.prepare(connection)
                await connection.send_packed_command(connection.pack_commands(commands))
                answers = [await _answer(connection) for _ in commands]
        except asyncio.TimeoutError:
            await connection.disconnect(nowait=True)
            raise out_of_time(seconds) from None
        except (redis_errors.ConnectionError, OSError):
            await self._give_up(connection)
            raise
        except BaseException:
            await connection.disconnect(nowait=True)  # its answers are still to come
            raise
        if any(isinstance(answer, Exception) and is_misplaced(answer) for answer in answers):
            await self._give_up(connection)  # the name of the server may lead to another by now
        return answers

    async def _give_up(self, connection: Any) -> None:
        """End a connection, and the idle ones: what is wrong with it may be wrong with them, which costs a try each."""
        for each in (connection, *self._free):
            await each.disconnect(nowait=True)


async def _answer(connection: Any) -> Any:
    try:
        return await connection.read_response(disable_decoding=True)
    except redis_errors.ResponseError as error:
        return error
