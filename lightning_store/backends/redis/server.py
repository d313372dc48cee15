"""What leads to one server: how connections get there, and what all kinds of them have in common."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from lightning_store.backends.redis.scripts import Argument
from lightning_store.backends.redis.settings import ConnectionSettings

SendTo = Callable[[Sequence[Sequence[Argument]], float | None], Awaitable[list[Any]]]
"""Sends to a certain server what `ToServer.send` takes, and waits until then at most."""


class Way:
    """How connections get to the server: to where the settings say, if nothing else is said."""

    def join(self, pool: "ToServer") -> None:
        """Begin to move connections (`ToServer.move`) when the server becomes another."""

    async def leave(self, pool: "ToServer") -> None:
        """End to."""

    async def prepare(self, connection: Any) -> None:
        """Make a connection ready that may not be open; else the driver opens it to where it was made for."""

    def hang_up(self) -> None:
        """Close sockets of a loop that is closed."""


DIRECT = Way()


class ToServer:
    """Sends commands to one server, on connections of its own."""

    def __init__(self, settings: ConnectionSettings, way: Way) -> None:
        self._settings = settings
        self._way = way
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
        raise NotImplementedError

    async def primaries(self) -> list[SendTo]:
        """How to send to each of the servers that have keys: to this one."""
        return [self.send]

    async def close(self) -> None:
        """Close all connections, for good: calls that still want one are refused, as if it were lost."""
        if not self._is_closed:
            self._is_closed = True
            await self._way.leave(self)

    async def move(self) -> None:
        """End all connections, because the server is another now; calls under way fail as if theirs were lost."""
        raise NotImplementedError

    def hang_up(self) -> None:
        """Close the sockets of a loop that is closed, which can do nothing in order any more."""
        self._way.hang_up()
