"""A TCP proxy before a Redis server that loses answers, cuts, delays and freezes connections, on command."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from hiredis import ProtocolError, Reader
from typing_extensions import Self

_CHUNK: Final = 1 << 16
_NOTHING: Final = object()
# What a client says before its first command; that these answers are lost is another fault.
_HANDSHAKE: Final = (b"AUTH", b"CLIENT", b"SELECT", b"HELLO")

Judge = Callable[[bytes], bool]
"""Whether what a client sent meets with a fault."""


class Fault(Enum):
    """What may happen to a message and its answer."""

    LOST_ANSWER = "the server has executed it, the client sees the connection end"
    CUT_BEFORE = "the connection ends before the server has any of it"
    HALF_MESSAGE = "the connection ends when the server has half of it"
    CUT_AFTER = "the connection ends as soon as the server was sent it"
    HALF_ANSWER = "the connection ends when the client has half of the answer"
    DELAY = "the answer comes late"
    FROZEN_ANSWER = "the answer comes when the client has given up"
    FROZEN_MESSAGE = "the server gets it when the client has given up, and has perhaps sent it again"
    REFUSAL = "an error is answered in the server's place"


@dataclass
class _Link:
    """What happens to a connection, whether its server has answered since, and how much it has still to answer."""

    fault: Fault | None = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    awaited: int = 0

    def expect(self, count: int) -> None:
        """So many answers more are still to come; less, if they came."""
        self.awaited += count
        if self.awaited:
            self.idle.clear()
        else:
            self.idle.set()


class _Counter:
    """Counts the commands or answers that end in what has come."""

    def __init__(self) -> None:
        self._reader = Reader(notEnoughData=_NOTHING)

    def count(self, message: bytes) -> int:
        """How many; none of what is not Redis' protocol, where nothing is sent before the last answer has come."""
        self._reader.feed(message)
        try:
            return sum(1 for _ in iter(self._reader.gets, _NOTHING))
        except ProtocolError:
            return 0


class Proxy:
    """Passes everything on between clients and a server, unless told otherwise; use it as a context.

    Attributes:
        judge: Decides for every message of a client whether it meets with the fault. None: no message does.
        fault: What happens then.
        seconds: How long a delay or freeze lasts; a freeze should be longer than clients wait.
        refusal: What is answered in the server's place, with its code first.
        meanwhile: Is awaited when an answer is lost, before the client learns of it; None does nothing.
        lost: How many messages met with the fault.
        lost_commands: How many commands were in them, for a message may have those of many callers.
    """

    def __init__(self, url: str) -> None:
        """Set up.

        Args:
            url: Of the server, on TCP.
        """
        self.judge: Judge | None = None
        self.fault = Fault.LOST_ANSWER
        self.seconds = 0.3
        self.refusal = "LOADING"
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self.lost = 0
        self.lost_commands = 0
        self._target = urlsplit(url)
        self._moving = asyncio.Event()
        self._moving.set()
        self._held = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where clients connect instead of the server; with the same password."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        user, separator, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{user}{separator}127.0.0.1:{port}"))

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

    @property
    def is_quiet(self) -> bool:
        """Whether everything that was frozen has been passed on and answered."""
        return self._held == 0

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
        link = _Link()
        link.idle.set()
        writers = (here[1], there[1])
        self._writers.update(writers)
        both = [asyncio.ensure_future(self._forth(here, there[1], link)),
                asyncio.ensure_future(self._back(there[0], here[1], link))]  # fmt: skip
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            link.answered.set()
            link.idle.set()
            for writer in writers:
                writer.transport.abort()
            self._writers.difference_update(writers)
            await asyncio.wait(both)
            for pump in both:
                pump.exception()

    async def _forth(
        self, here: tuple[asyncio.StreamReader, asyncio.StreamWriter], there: asyncio.StreamWriter, link: _Link
    ) -> None:
        commands = _Counter()
        while message := await here[0].read(_CHUNK):
            count = commands.count(message)
            if self._meets_fault(message):
                await link.idle.wait()  # what was sent before has its answers
                link.fault = self.fault
                self.lost += 1
                self.lost_commands += count
            await self._moving.wait()
            if link.fault is Fault.FROZEN_MESSAGE:
                await self._pass_on_late(message, there, link)
                return
            if link.fault is Fault.REFUSAL:
                here[1].write(f"-{self.refusal}\r\n".encode() * count)
                link.fault = None
                continue
            if link.fault is Fault.HALF_MESSAGE:
                message = message[: len(message) // 2]
            if link.fault is not Fault.CUT_BEFORE:
                link.expect(count)
                there.write(message)
                await there.drain()
            if link.fault in {Fault.CUT_BEFORE, Fault.HALF_MESSAGE, Fault.CUT_AFTER}:
                return

    def _meets_fault(self, message: bytes) -> bool:
        shaken = not any(word in message[:40] for word in _HANDSHAKE)
        return self.judge is not None and shaken and self.judge(message)

    async def _pass_on_late(self, message: bytes, there: asyncio.StreamWriter, link: _Link) -> None:
        """The client has long given up; the server must execute it for all that."""
        self._held += 1
        try:
            await asyncio.sleep(self.seconds)
            there.write(message)
            await there.drain()
            await link.answered.wait()
        finally:
            self._held -= 1

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link) -> None:
        answers = _Counter()
        while message := await reader.read(_CHUNK):
            await self._moving.wait()
            link.expect(-answers.count(message))
            fault, link.fault = link.fault, None
            if fault is Fault.FROZEN_MESSAGE:
                link.answered.set()
                continue
            if fault is Fault.CUT_AFTER:
                return
            if fault is Fault.LOST_ANSWER:
                if self.meanwhile is not None:
                    await self.meanwhile()
                return
            if fault is Fault.HALF_ANSWER:
                writer.write(message[: len(message) // 2])
                await writer.drain()
                return
            if fault in {Fault.DELAY, Fault.FROZEN_ANSWER}:
                await asyncio.sleep(self.seconds)
            writer.write(message)
            await writer.drain()


def the_first(word: bytes = b"") -> Judge:
    """Chooses the first message that contains a word."""
    left = 1

    def judge(message: bytes) -> bool:
        nonlocal left
        lost = left > 0 and word in message
        left -= lost
        return lost

    return judge


def every_other() -> Judge:
    """Chooses the first message, not the second, and so on: that of each call once, if calls come one by one."""
    count = 0

    def judge(_: bytes) -> bool:
        nonlocal count
        count += 1
        return count % 2 == 1

    return judge


def now_and_then(probability: float, seed: int) -> Judge:
    """Chooses messages at random."""
    dice = random.Random(seed)  # noqa: S311 - repeatable on purpose
    return lambda _: dice.random() < probability
