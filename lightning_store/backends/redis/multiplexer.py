"""The connection of one event loop that all calls share which do not block."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from redis import exceptions as redis_errors

from lightning_store.backends.redis.channel import Channel
from lightning_store.backends.redis.failures import is_misplaced, out_of_time
from lightning_store.backends.redis.scripts import Argument
from lightning_store.backends.redis.server import DIRECT, ToServer, Way
from lightning_store.backends.redis.settings import ConnectionSettings
from lightning_store.loops import timeout


class Multiplexer(ToServer):
    """What `Pool` is, with one connection for all; it is opened when needed."""

    def __init__(self, settings: ConnectionSettings, *, way: Way = DIRECT) -> None:
        """Make one.

        Args:
            settings: How to reach the server.
            way: How the connection gets there.
        """
        super().__init__(settings, way)
        self._channel: Channel | None = None
        self._opening: _Opening | None = None

    async def send(
        self, commands: Sequence[Sequence[Argument]], until: float | None = None, *, blocking_seconds: float = 0.0
    ) -> list[Any]:
        """See ToServer; no command may block."""
        assert not blocking_seconds  # noqa: S101 - a slip of our own code
        seconds = self._settings.socket_seconds
        channel = self._channel
        if channel is None or not channel.is_open:
            began = asyncio.get_running_loop().time()
            channel = await self._open(seconds if until is None else min(seconds, until - began))
            seconds -= asyncio.get_running_loop().time() - began
        if until is not None:
            seconds = min(seconds, until - asyncio.get_running_loop().time())
        answers = await channel.exchange(commands, seconds)
        for answer in answers:
            if isinstance(answer, Exception) and is_misplaced(answer):
                channel.abort(f"the server does not take writes: {answer}")  # its name may lead to another by now
        return answers

    async def close(self) -> None:
        """See ToServer."""
        await super().close()
        if self._opening is not None:
            await self._opening.cancel()
        if self._channel is not None:
            await self._channel.close()

    async def move(self) -> None:
        """See ToServer."""
        if self._channel is not None:
            self._channel.abort("the server has been replaced")

    def hang_up(self) -> None:
        """See ToServer."""
        if self._channel is not None:
            self._channel.hang_up()
        super().hang_up()

    async def _open(self, seconds: float) -> Channel:
        """Open the connection, once for all who want it."""
        if self._is_closed:
            raise redis_errors.ConnectionError("the connections were closed")
        if self._opening is None or self._opening.is_over:
            self._opening = _Opening(self._connect())
        return await self._opening.wait(seconds)

    async def _connect(self) -> Channel:
        connection = self._settings.connection()
        try:
            async with timeout(self._settings.socket_seconds):
                await self._way.prepare(connection)
                await connection.connect()
                channel = self._channel = Channel(connection, silent_seconds=self._settings.socket_seconds)
        except asyncio.TimeoutError:
            await connection.disconnect(nowait=True)
            raise out_of_time(self._settings.socket_seconds) from None
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return channel


class _Opening:
    """A connection that is being opened; when nobody waits for it any more, it is given up."""

    def __init__(self, connect: Coroutine[Any, Any, Channel]) -> None:
        self._task = asyncio.ensure_future(connect)
        self._waiting = 0
        self._is_given_up = False

    @property
    def is_over(self) -> bool:
        return self._is_given_up or self._task.done()

    async def wait(self, seconds: float) -> Channel:
        self._waiting += 1
        try:
            await asyncio.wait({self._task}, timeout=max(0.0, seconds))
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._is_given_up = True
                self._task.cancel()
        if not self._task.done():
            raise out_of_time(seconds)
        if self._task.cancelled():
            raise redis_errors.ConnectionError("the connections were closed")
        return self._task.result()

    async def cancel(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
