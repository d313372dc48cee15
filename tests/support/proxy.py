"""A TCP proxy before a Redis server that loses answers, cuts connections and stands still, on command."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from typing_extensions import Self

_CHUNK: Final = 1 << 16
# What a client says before its first command; that these answers are lost is another fault.
_HANDSHAKE: Final = (b"AUTH", b"CLIENT", b"SELECT", b"HELLO")

Judge = Callable[[bytes], bool]
"""Whether the answer to what a client sent is to be lost."""


class Proxy:
    """Passes everything on between clients and a server, unless told otherwise; use it as a context.

    Attributes:
        judge: Decides for every message of a client whether its answer is lost: the server has executed it, the client
            sees the connection end. None loses nothing.
        meanwhile: Is awaited when an answer is lost, before the client learns of it; None does nothing.
        lost: How many answers were lost.
    """

    def __init__(self, url: str) -> None:
        """Set up.

        Args:
            url: Of the server, on TCP.
        """
        self.judge: Judge | None = None
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self.lost = 0
        self._target = urlsplit(url)
        self._moving = asyncio.Event()
        self._moving.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where clients connect instead of the server; with the same password."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        user, _, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{user}@127.0.0.1:{port}"))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self._moving.set()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cut(self) -> int:
        """End all connections at once; how many there were."""
        count = len(self._writers) // 2
        for writer in list(self._writers):
            writer.transport.abort()
        return count

    def freeze(self) -> None:
        """Keep connections and pass nothing on, as a network that swallows packets does."""
        self._moving.clear()

    def thaw(self) -> None:
        """Go on after `freeze`; nothing was lost."""
        self._moving.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there = await asyncio.open_connection(self._target.hostname, self._target.port)
            await self._join((reader, writer), there)
        except OSError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _join(
        self,
        here: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        there: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        doomed = asyncio.Event()
        writers = (here[1], there[1])
        self._writers.update(writers)
        both = [asyncio.ensure_future(self._forth(here[0], there[1], doomed)),
                asyncio.ensure_future(self._back(there[0], here[1], doomed))]  # fmt: skip
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for writer in writers:
                writer.transport.abort()
            self._writers.difference_update(writers)
            await asyncio.wait(both)
            for pump in both:
                pump.exception()

    async def _forth(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        while message := await reader.read(_CHUNK):
            if self.judge is not None and not any(word in message[:40] for word in _HANDSHAKE) and self.judge(message):
                doomed.set()
            await self._moving.wait()
            writer.write(message)
            await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        while message := await reader.read(_CHUNK):
            await self._moving.wait()
            if doomed.is_set():
                self.lost += 1
                if self.meanwhile is not None:
                    await self.meanwhile()
                return
            writer.write(message)
            await writer.drain()


def the_first(word: bytes = b"") -> Judge:
    """Loses the answer to the first message that contains a word."""
    left = 1

    def judge(message: bytes) -> bool:
        nonlocal left
        lost = left > 0 and word in message
        left -= lost
        return lost

    return judge


def every_other() -> Judge:
    """Loses the first answer, not the second, and so on: that of each call once, if calls come one by one."""
    count = 0

    def judge(_: bytes) -> bool:
        nonlocal count
        count += 1
        return count % 2 == 1

    return judge


def now_and_then(probability: float, seed: int) -> Judge:
    """Loses answers at random."""
    dice = random.Random(seed)  # noqa: S311 - repeatable on purpose
    return lambda _: dice.random() < probability
