"""A primary that sentinels name: asked for whenever a connection is opened, and once a second whether it has changed.

All sentinels are asked at once, and the answer with the highest configuration epoch counts: for some seconds after a
failover the others still name the old primary, which may be alive and take writes that will be thrown away.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from redis import exceptions as redis_errors

from lightning_store.backends.redis.failures import is_distrusted
from lightning_store.backends.redis.pool import Pool
from lightning_store.backends.redis.scripts import Argument
from lightning_store.backends.redis.server import DIRECT, ToServer, Way
from lightning_store.backends.redis.settings import ConnectionSettings
from lightning_store.loops import PerLoop, timeout

LOOK_SECONDS: Final = 1.0
"""How often it is looked whether there is another primary."""

_USUAL_SECONDS: Final = 0.25  # then an answer need not wait for sentinels that are slow or gone
_LONGEST_SECONDS: Final = 2.0
_OPENING_SECONDS: Final = 3.0  # of a connection: a host that is gone says nothing, and there may be another primary


class Named(NamedTuple):
    """What a sentinel answers; the later of two is the greater.

    Attributes:
        epoch: Number of the configuration; every failover counts on.
        is_up: Whether that sentinel can reach the server.
        host: Of the primary.
        port: Of the primary.
    """

    epoch: int
    is_up: bool
    host: str
    port: int


def questions(service: str) -> list[tuple[Argument, ...]]:
    """What a sentinel is asked, in one go: while it is failing over, only the first tells the new address."""
    return [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service), ("SENTINEL", "MASTER", service)]


def named(address: Any, state: Any) -> Named:
    """What the answers to `questions` mean.

    Raises:
        RedisError: The sentinel does not know the service, or refuses to answer.
    """
    if address is None:
        raise redis_errors.ConnectionError("it does not know the service")
    for answer in (address, state):
        if isinstance(answer, Exception):
            raise answer
    host, port = (part.decode() for part in address)
    fields = {name.decode(): value.decode() for name, value in zip(state[::2], state[1::2], strict=True)}
    is_old = (host, port) == (fields["ip"], fields["port"])
    is_down = is_old and {"s_down", "o_down"} & set(fields["flags"].split(","))
    return Named(int(fields["config-epoch"]), not is_down, host, int(port))


def newest(answers: Sequence[Named]) -> Named | None:
    """The primary by the latest configuration that anybody knows; None if nobody can reach it."""
    latest = max(answers, default=None)
    return latest if latest is not None and latest.is_up else None


def unnamed(service: str, answers: Mapping[str, Named | Exception | None]) -> redis_errors.RedisError:
    """The error that says what each sentinel has said; None = nothing. What no repeat mends is told as such."""
    said = [
        f"{address}: {'it cannot reach the primary' if isinstance(answer, Named) else answer or 'no answer'}"
        for address, answer in answers.items()
    ]
    text = f"no sentinel names a primary of {service!r} that is up ({'; '.join(said)})"
    error = redis_errors.ConnectionError(text)
    for answer in answers.values():
        if isinstance(answer, redis_errors.AuthenticationError | redis_errors.NoPermissionError):
            return type(answer)(text)
        if isinstance(answer, Exception) and is_distrusted(answer):
            error.__cause__ = answer.__cause__ or answer.__context__
    return error


class Primary(Way):
    """Who is the primary, for the pools of one event loop."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._followers: list[ToServer] = []
        self._sentinels: list[Pool] = []
        self._asking: asyncio.Future[Named] | None = None
        self._known: tuple[str, int] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Future[None] | None = None

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the primary, as far as it is known."""
        return self._known

    def join(self, pool: ToServer) -> None:
        """Begin to follow for a pool."""
        self._followers.append(pool)
        if not self._sentinels:
            self._sentinels = [Pool(each, most=1) for each in self._settings.sentinels]
            self._look_later()

    async def leave(self, pool: ToServer) -> None:
        """End to follow for a pool; without any, nothing stays open."""
        self._followers.remove(pool)
        if self._followers:
            return
        if self._timer is not None:
            self._timer.cancel()
        sentinels, self._sentinels = self._sentinels, []
        for sentinel in sentinels:
            await sentinel.close()
        if running := [each for each in (self._asking, self._looking) if each is not None and not each.done()]:
            await asyncio.wait(running)  # they fail now; the loop may end with the caller

    def hang_up(self) -> None:
        """Close the sockets of a loop that is closed."""
        for sentinel in self._sentinels:
            sentinel.hang_up()

    async def locate(self) -> tuple[str, int]:
        """Host and port of the primary. If it is another than before, connections to that are ended.

        Raises:
            RedisError: No sentinel names a primary that it can reach.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
            self._asking.add_done_callback(_retrieve)
        found = await asyncio.shield(self._asking)
        address = found.host, found.port
        before, self._known = self._known, address
        if before not in (None, address):
            for pool in self._followers:
                await pool.move()
        return address

    async def prepare(self, connection: Any) -> None:
        """Open a connection to the primary of the moment."""
        if connection.is_connected:
            return
        address = connection.host, connection.port = await self.locate()
        where = f"{connection.host}:{connection.port}, which the sentinels name as the primary,"
        try:
            async with timeout(_OPENING_SECONDS):
                await connection.connect()
                # What sentinels say may be late, and a replica would answer reads. HELLO tells the role to every user.
                await connection.send_command("HELLO")
                hello = await connection.read_response(disable_decoding=True)
        except asyncio.TimeoutError:
            raise redis_errors.ConnectionError(f"{where} does not answer") from None
        if dict(zip(hello[::2], hello[1::2], strict=True))[b"role"] != b"master":
            raise redis_errors.ConnectionError(f"{where} is a replica")
        if address != self.address:
            raise redis_errors.ConnectionError(f"{where} has been replaced meanwhile")

    async def _ask(self) -> Named:
        if not self._sentinels:
            raise redis_errors.ConnectionError("the connections were closed")
        loop = asyncio.get_running_loop()
        until = loop.time() + _LONGEST_SECONDS
        asked = [asyncio.ensure_future(self._ask_one(sentinel, until)) for sentinel in self._sentinels]
        try:
            _, pending = await asyncio.wait(asked, timeout=_USUAL_SECONDS)
            while pending and loop.time() < until and newest(_answers(asked)) is None:
                _, pending = await asyncio.wait(
                    pending, timeout=until - loop.time(), return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            for each in asked:
                each.cancel()
        found = newest(_answers(asked))
        if found is None:
            answers = (each.result() if each.done() else None for each in asked)
            raise unnamed(self._settings.service, dict(zip(self._settings.addresses, answers, strict=True)))
        return found

    async def _ask_one(self, sentinel: Pool, until: float) -> Named | Exception:
        try:
            return named(*await sentinel.send(questions(self._settings.service), until))
        except (redis_errors.RedisError, OSError) as error:
            return error

    def _look_later(self) -> None:
        # A timer and no task: it does not mind when its loop is closed without notice.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        if self._followers:
            self._looking = asyncio.ensure_future(self._follow())

    async def _follow(self) -> None:
        with suppress(redis_errors.RedisError, OSError):  # sentinels that are gone stop nobody who has a connection
            await self.locate()
        if self._followers:
            self._look_later()


def _retrieve(asking: "asyncio.Future[Named]") -> None:
    """Look at the error, which all who have asked may be too late to see."""
    if not asking.cancelled():
        asking.exception()


def _answers(asked: Sequence["asyncio.Future[Named | Exception]"]) -> list[Named]:
    answers = [each.result() for each in asked if each.done() and not each.cancelled()]
    return [answer for answer in answers if isinstance(answer, Named)]


def way_of(settings: ConnectionSettings) -> Callable[[], Way]:
    """How connections of the running event loop get to the server."""
    if not settings.sentinels:
        return lambda: DIRECT
    return PerLoop(lambda: Primary(settings), Primary.hang_up).get
