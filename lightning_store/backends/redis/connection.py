"""Sending calls to Redis: scripts, reading commands, blocking reads; own retries, one place that translates errors.

Every call of ours may be repeated, so what is repeated here takes effect once.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from redis import exceptions as redis_errors

from lightning_store.backends.redis.cluster import ClusterPool, NewPool, SlotMap
from lightning_store.backends.redis.failures import is_transient, translated
from lightning_store.backends.redis.multiplexer import Multiplexer
from lightning_store.backends.redis.pool import Pool
from lightning_store.backends.redis.scripts import Argument, Call
from lightning_store.backends.redis.sentinel import way_of
from lightning_store.backends.redis.server import ToServer
from lightning_store.backends.redis.settings import ConnectionSettings
from lightning_store.errors import NotReplicatedError
from lightning_store.loops import PerLoop
from lightning_store.observer import UNOBSERVED

T = TypeVar("T")

Send = Callable[[float], Awaitable[T]]
"""Sends once, and waits until then at most, by the clock of the event loop."""

_FIRST_DELAY: Final = 0.02
_LONGEST_DELAY: Final = 1.0
_MOST_BLOCKING: Final = 10_000
_MOST_AT_ONCE: Final = 8  # scripts in one round trip: the server carries them out without serving others in between


class Connections:
    """Sends commands; every store object has one.

    Attributes:
        settings: How the server is reached.
        observer: Told of calls that are sent again.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self.observer = UNOBSERVED
        self._replication = settings.replication
        way = way_of(settings)
        slots = SlotMap(settings.nodes)

        def pools(new_pool: NewPool) -> PerLoop[ToServer | ClusterPool]:
            make = partial(ClusterPool, settings, slots, new_pool) if settings.nodes else partial(new_pool, settings)
            return PerLoop(make, lambda pool: pool.hang_up())

        self._blocking = pools(lambda to: Pool(to, most=_MOST_BLOCKING, way=way()))
        if settings.can_share:
            self._pools = pools(lambda to: Multiplexer(to, way=way()))
        else:
            self._pools = pools(lambda to: Pool(to, most=settings.max_connections, way=way()))

    @property
    def is_cluster(self) -> bool:
        """Whether keys lie in slots, of which a script can touch one only."""
        return bool(self.settings.nodes)

    def run(self, call: Call) -> Awaitable[Any]:
        """Run a script, again after a lost connection; its answer."""
        return self._repeat(lambda until: self._send(call, until), lambda until: self._send(call.again, until))

    async def run_many(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts, several in a round trip; an answer that is an error of ours is returned in its place."""
        answers: list[Any] = []
        for start in range(0, len(calls), _MOST_AT_ONCE):
            send = partial(self._send_many, calls[start : start + _MOST_AT_ONCE])
            answers += await self._repeat(send)
        return answers

    async def command(self, *parts: Argument) -> Any:
        """Send one reading command; its answer."""
        return (await self.commands([parts]))[0]

    async def commands(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send reading commands in one round trip; their answers."""
        return await self._repeat(lambda until: self._read_all(commands, until)) if commands else []

    async def scan(self, pattern: str, count: int) -> AsyncIterator[list[bytes]]:
        """Names of all keys that are there all the time, in pieces, each maybe more than once.

        Args:
            pattern: What they match.
            count: About how many are looked at for each piece.
        """
        for send_to in await self._repeat(lambda _: self._pools.get().primaries()):
            cursor: Argument = b"0"
            while True:
                send = partial(send_to, [("SCAN", cursor, "MATCH", pattern, "COUNT", count)])
                cursor, names = await self._repeat(lambda until, send=send: _first(send(until)))  # type: ignore[misc]
                yield names
                if cursor == b"0":
                    break

    async def info(self, section: str) -> list[bytes]:
        """What the server tells of itself; of a Cluster, all nodes that have slots."""
        return await self._repeat(partial(self._tell_all, ("INFO", section)))

    async def block(self, seconds: float, *parts: Argument) -> Any:
        """Send one command that blocks for at most so many seconds on a connection of its own, once.

        Raises:
            StoreUnavailableError: The connection failed; nothing is repeated.
        """
        try:
            return _plain(*await self._blocking.get().send([parts], blocking_seconds=seconds))
        except Exception as error:
            raise translated(error) from error

    async def run_woken(self, seconds: float, blocking: Sequence[Argument], call: Call) -> tuple[Any, Exception | None]:
        """Send a command that blocks, and with it a script, which the server runs when the wait ends.

        The script's answer comes with the wake-up: nobody has to be told first and to ask then.

        Args:
            seconds: For how long the command blocks at most.
            blocking: The command.
            call: The script.

        Returns:
            The script's answer, and the error with which the blocking command was refused.

        Raises:
            StoreUnavailableError: The connection failed; whether the script was run is not known.
        """
        try:
            woken, answer, *confirmed = await self._blocking.get().send(
                [blocking, call.by_sha, *self._replication.commands([call])],
                blocking_seconds=seconds + self._replication.extra_seconds,
            )
        except Exception as error:
            raise translated(error) from error
        refused = translated(woken) if isinstance(woken, Exception) and not is_transient(woken) else None
        if isinstance(answer, redis_errors.NoScriptError):
            return await self.run(call), refused
        if isinstance(answer, Exception):
            raise translated(answer)
        self._replication.check(confirmed)
        return answer, refused

    async def close(self) -> None:
        """Close the connections of the running loop."""
        for pool in (self._pools.pop(), self._blocking.pop()):
            if pool is not None:
                await pool.close()

    async def _send(self, call: Call, until: float) -> Any:
        pool = self._pools.get()
        answer, *confirmed = await pool.send([call.by_sha, *self._confirming([call], until)], until)
        if isinstance(answer, redis_errors.NoScriptError):
            answer, *confirmed = await pool.send([call.by_text, *self._confirming([call], until)], until)
        _plain(answer)
        self._replication.check(confirmed)
        return answer

    def _confirming(self, calls: Sequence[Call], until: float) -> list[tuple[Argument, ...]]:
        if not self._replication.min_replicas:
            return []
        left = until - asyncio.get_running_loop().time()
        return self._replication.commands(calls, min(left, self.settings.socket_seconds))

    async def _send_many(self, calls: Sequence[Call], until: float) -> list[Any]:
        pool = self._pools.get()
        sent = [*(call.by_sha for call in calls), *self._confirming(calls, until)]
        answers = await pool.send(sent, until)
        answers, confirmed = answers[: len(calls)], answers[len(calls) :]
        missing = [i for i, answer in enumerate(answers) if isinstance(answer, redis_errors.NoScriptError)]
        if missing:
            sent = [*(calls[i].by_text for i in missing), *self._confirming(calls, until)]
            again = await pool.send(sent, until)
            confirmed += again[len(missing) :]  # on a Cluster of fewer nodes
            for i, answer in zip(missing, again[: len(missing)], strict=True):
                answers[i] = answer
        for i, answer in enumerate(answers):
            if isinstance(answer, Exception):
                if is_transient(answer):
                    raise answer
                answers[i] = translated(answer)
        self._replication.check(confirmed)
        return answers

    async def _tell_all(self, command: Sequence[Argument], until: float) -> list[Any]:
        return [await _first(send_to([command], until)) for send_to in await self._pools.get().primaries()]

    async def _read_all(self, commands: Sequence[Sequence[Argument]], until: float) -> list[Any]:
        return [_plain(answer) for answer in await self._pools.get().send(commands, until)]

    async def _repeat(self, send: Send[T], send_again: Send[T] | None = None) -> T:
        """Send until it is answered or the time is over; a try never waits for longer than is left, the first aside.

        In the end the last error is raised that says more than that the time was over.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.retry_seconds
        delay = _FIRST_DELAY
        told: Exception | None = None
        latest = max(until, loop.time() + self.settings.socket_seconds)
        while True:
            try:
                return await send(latest)
            except Exception as error:  # noqa: BLE001 - raised in the end
                if told is None or not isinstance(error, redis_errors.TimeoutError):
                    told = error
                pause = delay * random.uniform(0.5, 1.5)  # noqa: S311 - jitter needs no secrecy
                needed = self._replication.try_seconds if isinstance(error, NotReplicatedError) else 0.0
                if not is_transient(error) or loop.time() + pause + needed >= until:
                    raise translated(told) from told
                self.observer.retried(translated(error))
            await asyncio.sleep(pause)
            send, latest = send_again or send, until
            delay = min(2 * delay, _LONGEST_DELAY)


async def _first(answers: Awaitable[list[Any]]) -> Any:
    return _plain((await answers)[0])


def _plain(answer: Any) -> Any:
    """An answer that is no error; errors are raised."""
    if isinstance(answer, Exception):
        raise answer
    return answer
