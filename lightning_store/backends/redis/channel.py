"""One connection that carries the calls of many coroutines: commands leave together, answers come in their order.

What is written and read together costs the process and the server little more than the commands themselves; a
connection for each call costs both several times that.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from hiredis import ProtocolError, Reader, pack_command
from redis import exceptions as redis_errors
from redis.asyncio.connection import DefaultParser

from lightning_store.backends.redis.failures import out_of_time
from lightning_store.backends.redis.scripts import Argument
from lightning_store.loops import hang_up

_NOTHING: Final = object()
_CLOSING_SECONDS: Final = 1.0

_GROUP: Final = 8
"""So many commands are sent without waiting for more. If all that one turn of the loop asks for left in one write, the
server would be idle while the process makes the next write, and the process while the server works on it."""


class _Exchange:
    """Commands that were sent together, and what was answered so far."""

    __slots__ = ("answered", "answers", "count", "sent", "until")

    def __init__(self, answered: "asyncio.Future[list[Any]]", count: int, sent: float, until: float) -> None:
        self.answered = answered
        self.answers: list[Any] = []
        self.count = count
        self.sent = sent
        self.until = until


class Channel(asyncio.Protocol):
    """A connection of the driver, opened and authenticated by it, that many calls share.

    A call that is cancelled or out of time leaves its place: its answers are dropped when they come, so that nobody
    gets those of another. A connection on which answers are awaited and nothing is heard for long is taken for dead.
    """

    def __init__(self, connection: Any, *, silent_seconds: float) -> None:
        """Take over a connection that is open.

        Args:
            connection: Of the driver, which does not use it any more.
            silent_seconds: For how long nothing may be heard while answers are awaited.
        """
        self._silent_seconds = silent_seconds
        self._loop = asyncio.get_running_loop()
        # Kept, because a stream that is collected closes its transport.
        self._streams = connection._reader, connection._writer  # noqa: SLF001 - the driver opens no bare transports
        connection._reader = connection._writer = None  # noqa: SLF001 - or it complains when it is collected
        self._reader = Reader(replyError=DefaultParser.parse_error, notEnoughData=_NOTHING)
        self._exchanges: deque[_Exchange] = deque()
        self._unsent: list[bytes] = []
        self._room: asyncio.Future[None] | None = None
        self._heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._ended = ""
        self._transport: asyncio.Transport = self._streams[1].transport
        self._transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        """Whether calls can be sent."""
        return not self._ended

    async def exchange(self, commands: Sequence[Sequence[Argument]], seconds: float) -> list[Any]:
        """Send commands in one go; their answers in order, errors that the server answers among them.

        Args:
            commands: What to send.
            seconds: For how long to wait for the answers.

        Raises:
            RedisError: The connection failed, or the time is over; what the server has executed is not known.
        """
        now = self._loop.time()
        until = now + seconds
        if self._room is not None:
            await self._wait_for_room(seconds)
        if self._ended:
            raise redis_errors.ConnectionError(self._ended)
        answered: asyncio.Future[list[Any]] = self._loop.create_future()
        is_idle = not self._exchanges
        packed = [pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]
        self._exchanges.append(_Exchange(answered, len(packed), now, until))
        if self._timer is None or until < self._timer.when():
            self._look_at(until)
        if is_idle:  # nothing to gain from waiting for others
            self._transport.write(b"".join(packed))
        else:
            if not self._unsent:
                self._loop.call_soon(self._flush)
            self._unsent += packed
            if len(self._unsent) >= _GROUP:
                self._flush()
        return await answered

    def abort(self, why: str) -> None:
        """End the connection at once; calls under way fail, with this text, as those that come."""
        if not self._ended:
            self._end(why)
            self._transport.abort()

    async def close(self) -> None:
        """Close the connection; calls under way fail as if it were lost."""
        if not self._ended:
            self._end("the connections were closed")
            self._transport.close()
        _, pending = await asyncio.wait({self._closed}, timeout=_CLOSING_SECONDS)
        if pending:
            self._transport.abort()

    def hang_up(self) -> None:
        """Close the socket of a loop that is closed, which can do nothing in order any more."""
        hang_up(self._transport)

    # -- asyncio.Protocol --------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Give answers to whom they belong."""
        self._heard = self._loop.time()
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not _NOTHING:
                self._answer(answer)
        except ProtocolError as error:
            self.abort(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the connection."""
        if not self._ended:
            self._end(f"the server has closed the connection{f' ({exc})' if exc else ''}")
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        """Let callers wait, because the server is slower than they are."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let them go on."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    # ----------------------------------------------------------------------------------------------------------------

    def _answer(self, answer: Any) -> None:
        exchange = self._exchanges[0]
        exchange.answers.append(answer)
        if len(exchange.answers) == exchange.count:
            self._exchanges.popleft()
            if not exchange.answered.done():
                exchange.answered.set_result(exchange.answers)

    def _flush(self) -> None:
        if self._unsent:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    async def _wait_for_room(self, seconds: float) -> None:
        room = self._room
        assert room is not None  # noqa: S101 - asked by the caller
        _, pending = await asyncio.wait({room}, timeout=seconds)
        if pending:
            raise out_of_time(seconds)

    def _look_at(self, until: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(until, self._look)

    def _look(self) -> None:
        """Let calls fail whose time is over, and the connection if it is dead."""
        now = self._loop.time()
        self._timer = None
        left: list[float] = []
        for exchange in self._exchanges:
            if exchange.until > now:
                left.append(exchange.until)
            elif not exchange.answered.done():
                exchange.answered.set_exception(out_of_time(exchange.until - exchange.sent))
        if self._exchanges:
            dead = max(self._heard, self._exchanges[0].sent) + self._silent_seconds
            if dead <= now:
                self.abort("the server was silent for too long")
            else:
                self._look_at(min([dead, *left]))

    def _end(self, why: str) -> None:
        self._ended = why
        if self._timer is not None:
            self._timer.cancel()
        self._unsent.clear()
        self.resume_writing()
        exchanges, self._exchanges = self._exchanges, deque()
        for exchange in exchanges:
            if not exchange.answered.done():
                exchange.answered.set_exception(redis_errors.ConnectionError(why))
