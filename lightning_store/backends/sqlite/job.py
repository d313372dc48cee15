"""A transaction on its way to the thread that carries it out, and what it comes to on its way back."""

import asyncio
import concurrent.futures
import contextvars
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lightning_store.errors import LightningStoreError

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a transaction has come to; it is committed, also with an error.

    Attributes:
        result: For the caller.
        error: For the caller, instead of the result.
        announce: Tells who waits; called once it is committed.
    """

    result: T | None = None
    error: LightningStoreError | None = None
    announce: Callable[[], None] | None = None


Work = Callable[[sqlite3.Connection], Outcome[T]]


class Abandoned(Exception):  # noqa: N818 - no error: the caller is gone, and the transaction is undone
    """Nobody waits for the outcome any more."""


class Job:
    """One transaction on its way to a thread, and its outcome on the way back."""

    def __init__(self, work: Work[Any], *, writes: bool, give_back: Callable[[Any], None] | None = None) -> None:
        """Note what is to be done.

        Args:
            work: What the transaction does; called on the thread, in the context of the caller.
            writes: Whether it may write.
            give_back: Takes back the outcome of a call whose caller went in the moment in which it was committed.
        """
        self.outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self.writes = writes
        self._work = work
        self._give_back = give_back
        self._context = contextvars.copy_context()

    def carry_out(self, connection: sqlite3.Connection) -> Outcome[Any]:
        """Do it; the transaction is undone if the caller is gone before it is committed."""
        outcome = self._context.run(self._work, connection)
        if self.outcome.cancelled():
            raise Abandoned
        return outcome

    def answer(self, outcome: Outcome[Any]) -> None:
        """Tell who waits for it, then the caller. Setting the outcome and cancelling it exclude each other."""
        if outcome.announce is not None:
            outcome.announce()
        if outcome.error is not None:
            self.fail(outcome.error)
            return
        try:
            self.outcome.set_result(outcome.result)
        except concurrent.futures.InvalidStateError:
            self.return_result(outcome.result)

    def fail(self, error: BaseException) -> None:
        """Give the caller an error."""
        with suppress(concurrent.futures.InvalidStateError):  # the caller is gone
            self.outcome.set_exception(error)

    def return_result(self, result: Any) -> None:
        """The caller is gone, and will not see what was committed for it."""
        if self._give_back is not None:
            self._give_back(result)

    async def answered(self) -> Any:
        """Wait for the outcome."""
        try:
            return await asyncio.wrap_future(self.outcome)
        except asyncio.CancelledError:
            self.outcome.cancel()
            if self.outcome.done() and not self.outcome.cancelled() and self.outcome.exception() is None:
                self.return_result(self.outcome.result())
            raise
