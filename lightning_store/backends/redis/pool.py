"""Connections of one event loop, on which commands are sent and answered."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from redis import exceptions as redis_errors

from lightning_store.backends.redis.failures import is_misplaced
from lightning_store.backends.redis.scripts import Argument
from lightning_store.backends.redis.settings import ConnectionSettings
from lightning_store.backends.redis.turns import Turns
from lightning_store.loops import hang_up

if sys.version_info >= (3, 12):
    from asyncio import timeout
else:
    from async_timeout import timeout


SendTo = Callable[[Sequence[Sequence[Argument]], float | None], Awaitable[list[Any]]]
"""Sends to a certain server what `Pool.send` takes, and waits until then at most."""

_BLOCKING_MARGIN: Final = 3.0
"""Longest time for the answer once a blocking command is over; nothing is lost by asking on another connection then."""


class Way(Protocol):
    """How connections get to the server."""

    def join(self, pool: Any) -> None:
        """Begin to move a pool's connections (`move`) when the server becomes another."""

    async def leave(self, pool: Any) -> None:
        """End to."""

    async def prepare(self, connection: Any) -> None:
        """Make a connection ready that may not be open; else the driver opens it to where it was made for."""

    def hang_up(self) -> None:
        """Close sockets of a loop that is closed."""


class _Direct:
    """To where the settings say."""

    def join(self, pool: Any) -> None:
        pass

    async def leave(self, pool: Any) -> None:
        pass

    async def prepare(self, connection: Any) -> None:
        pass

    def hang_up(self) -> None:
        pass


DIRECT: Final = _Direct()


class Pool:
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
        self._settings = settings
        self._way = way
        self._turns = Turns(most)
        self._connections: list[Any] = []
        self._free: list[Any] = []
        self._is_closed = False
        way.join(self)

    async def send(
        self, commands: Sequence[Sequence[Argument]], until: float | None = None, *, blocking_seconds: float = 0.0
    ) -> list[Any]:
        """Send commands in one go; their answers in order, errors that the server answers among them.

        Args:
            commands: What to send.
            until: The latest time, by the clock of the event loop, to wait for a connection and for the answers; None =
                as long as calls are repeated for the connection, as long as usual for the answers.
            blocking_seconds: For how long the commands block the connection by themselves.

        Raises:
            RedisError: The connection failed, or none became free; what the server has executed is not known.
        """
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

    async def primaries(self) -> list[SendTo]:
        """How to send to each of the servers that have keys: to this one."""
        return [self.send]

    async def close(self) -> None:
        """Close all connections, for good: calls that still want one are refused, as if it were lost."""
        if not self._is_closed:
            self._is_closed = True
            await self._way.leave(self)
        for connection in self._connections:
            await connection.disconnect()

    async def move(self) -> None:
        """End all connections, because the server is another now; calls under way fail as if theirs were lost."""
        for connection in list(self._connections):
            if connection in self._free:
                await connection.disconnect(nowait=True)
            elif (writer := getattr(connection, "_writer", None)) is not None:
                writer.transport.abort()

    def hang_up(self) -> None:
        """Close the sockets of a loop that is closed, which can do nothing in order any more."""
        for connection in self._connections:
            writer = getattr(connection, "_writer", None)
            connection._reader = connection._writer = None  # noqa: SLF001 - or it complains when it is collected
            transport = getattr(writer, "transport", None)
            if transport is not None:
                hang_up(transport)
        self._way.hang_up()

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
            raise redis_errors.TimeoutError(f"no answer within {max(0.0, seconds):.3g} s") from None
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
