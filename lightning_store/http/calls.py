"""Carrying out a call: waits that end at once when their caller goes away or the server stops."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from lightning_store.contract import LightningStore
from lightning_store.operations import Operation

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


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


class Gone(Exception):  # noqa: N818 - not an error
    """The caller went away; there is nobody to answer."""


class Calls:
    """Calls of one application to its store.

    Attributes:
        shutdown: Ends all waits when set.
    """

    def __init__(self, store: LightningStore, *, wait_limit_seconds: float) -> None:
        """Set up.

        Args:
            store: The store.
            wait_limit_seconds: Longest wait; callers ask again.
        """
        self.shutdown = Shutdown()
        self._store = store
        self._wait_limit_seconds = wait_limit_seconds

    async def carry_out(self, operation: Operation, arguments: dict[str, Any], receive: Receive) -> tuple[Any, bool]:
        """The answer of the store, and whether a wait was cut short.

        Raises:
            Gone: The caller went away.
        """
        method = getattr(self._store, operation.name)
        wanted = wanted_seconds(operation, arguments)
        if wanted <= 0 and not operation.claims:
            return await method(**arguments), False
        seconds = min(wanted, self._wait_limit_seconds)
        call = asyncio.ensure_future(method(**{**arguments, "timeout": seconds}))
        gone = asyncio.ensure_future(_gone(receive))
        stop = self.shutdown.announce()
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            await asyncio.wait({call, gone, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done() and not gone.done():
                return await self._stopped(operation, arguments, call), True
            if gone.done():
                await self._undo(operation, call)
                raise Gone
            return call.result(), wanted > seconds and loop.time() - started >= seconds
        finally:
            self.shutdown.forget(stop)
            for task in (call, gone):
                task.cancel()

    async def _stopped(self, operation: Operation, arguments: dict[str, Any], call: "asyncio.Future[Any]") -> Any:
        """What there is when the server stops."""
        call.cancel()
        await asyncio.wait({call})
        if not call.cancelled():
            return call.result()
        if operation.claims:
            return []
        return await getattr(self._store, operation.name)(**{**arguments, "timeout": 0})

    async def _undo(self, operation: Operation, call: "asyncio.Future[Any]") -> None:
        call.cancel()
        await asyncio.wait({call})
        if operation.claims and not call.cancelled() and call.exception() is None:
            for rollout in call.result():
                await self._store.release_attempt(rollout.rollout_id, rollout.attempt.attempt_id)


def wanted_seconds(operation: Operation, arguments: Mapping[str, Any]) -> float:
    """For how long a call may wait; 0 = it does not."""
    if not operation.waits:
        return 0
    timeout = arguments.get("timeout", operation.signature.parameters["timeout"].default)
    return math.inf if timeout is None else timeout


async def _gone(receive: Receive) -> None:
    """Returns when the caller has gone away."""
    with suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
