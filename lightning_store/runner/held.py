"""An attempt that a slot of the runner holds, and the ways in which its work can become unwanted."""

import asyncio
import contextlib
from typing import Final, Literal, TypeAlias

from lightning_store.records import AttemptedRollout, LeaseState
from lightning_store.scope import AttemptScope

Interruption: TypeAlias = Literal["replaced", "cancelled", "finished", "unknown", "stopping"]
"""`stopping`: the runner ends and gives the rollout back. The others are what `renew` answered."""

KEEPS: Final[frozenset[LeaseState]] = frozenset({"current", "revived"})


class Held:
    """One attempt while it is worked on. `interrupt` may be called from any thread, everything else from the loop."""

    def __init__(self, rollout: AttemptedRollout, scope: AttemptScope) -> None:
        self.rollout = rollout
        self.scope = scope
        self._loop = asyncio.get_running_loop()
        self.interrupted: asyncio.Future[Interruption] = self._loop.create_future()

    @property
    def pair(self) -> tuple[str, str]:
        """Rollout and attempt id."""
        return self.rollout.rollout_id, self.rollout.attempt.attempt_id

    def interrupt(self, why: Interruption) -> None:
        """Have the work stopped; only the first reason counts."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the work with it
            self._loop.call_soon_threadsafe(self._interrupt, why)
        # Only now: an agent that sees this and returns early must not be faster than the reason why.
        self.scope.cancelled.set()

    def answered(self, state: LeaseState) -> None:
        """Take note of what a renewal said."""
        if state not in KEEPS:
            self.interrupt(state)  # type: ignore[arg-type]  # the states that do not keep are interruptions

    def _interrupt(self, why: Interruption) -> None:
        if not self.interrupted.done():
            self.interrupted.set_result(why)
