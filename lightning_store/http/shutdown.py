"""The word that a server is about to stop."""

import asyncio


class Shutdown:
    """Says that the server is about to stop: every wait then answers with what there is."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def is_set(self) -> bool:
        """Whether it has been said."""
        return self._is_set

    def set(self) -> None:
        """Say it; on the loop of the server."""
        self._is_set = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def announce(self) -> "asyncio.Future[None]":
        """A future that is done when it is said; hand it to `forget` afterwards."""
        waiter = asyncio.get_running_loop().create_future()
        if self._is_set:
            waiter.set_result(None)
        self._waiters.add(waiter)
        return waiter

    def forget(self, waiter: "asyncio.Future[None]") -> None:
        """Nobody looks at this future any more."""
        self._waiters.discard(waiter)
        waiter.cancel()
