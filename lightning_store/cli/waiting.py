"""What `lightning-store wait` waits for, and what came of it."""

import math
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lightning_store.cli.output import note
from lightning_store.contract import LightningStore
from lightning_store.records import RolloutStatus
from lightning_store.status import FINISHED, ROLLOUT_AFTER_ATTEMPT

PROGRESS_SECONDS: Final = 2.0
PAGE: Final = 1000
SUCCESS: Final = ROLLOUT_AFTER_ATTEMPT["succeeded"]


@dataclass
class WaitOutcome:
    """What came of waiting.

    Attributes:
        finished: Final status by id.
        unfinished: Ids of those that did not finish in time, in the order asked for.
        unknown: Ids that do not exist.
    """

    finished: dict[str, RolloutStatus] = field(default_factory=dict[str, RolloutStatus])
    unfinished: list[str] = field(default_factory=list[str])
    unknown: list[str] = field(default_factory=list[str])

    @property
    def without_success(self) -> list[tuple[str, RolloutStatus]]:
        """Id and status of those that finished otherwise."""
        return [(rollout_id, status) for rollout_id, status in self.finished.items() if status != SUCCESS]

    def counts(self) -> dict[str, int]:
        """How many finished, by status."""
        return dict(sorted(Counter(self.finished.values()).items()))

    def as_json(self) -> dict[str, Any]:
        """The outcome as JSON values."""
        return {
            "by_status": self.counts(),
            "finished": self.finished,
            "unfinished": self.unfinished,
            "unknown": self.unknown,
        }

    def summary(self) -> str:
        """The outcome in one line."""
        parts = [f"{count} {status}" for status, count in self.counts().items()]
        parts += [f"{len(self.unfinished)} unfinished"] if self.unfinished else []
        parts += [f"{len(self.unknown)} not found"] if self.unknown else []
        return ", ".join(parts) or "no rollouts"


async def wait_for(
    store: LightningStore, ids: Sequence[str] | None, *, group: str | None, timeout: float | None
) -> WaitOutcome:
    """Wait for rollouts.

    Args:
        store: The store.
        ids: The rollouts; None = all of the group, or all that are there now.
        group: The group if `ids` is None; None = all.
        timeout: Seconds; None = without end.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    outcome = WaitOutcome()
    pending = await _first_look(store, ids, group, outcome)
    while pending:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        pending = await _wait_once(store, pending, _slice(left), outcome)
        if left == 0:
            break
        if pending and sys.stderr.isatty():
            note(f"{len(outcome.finished)} finished, {len(pending)} to go")
    outcome.unfinished = pending
    return outcome


async def _first_look(
    store: LightningStore, ids: Sequence[str] | None, group: str | None, outcome: WaitOutcome
) -> list[str]:
    """Ids of those that are unfinished now; the others go into the outcome."""
    if ids is None:
        found = await store.query_rollouts(group_id=group)
        statuses: dict[str, RolloutStatus] = {rollout.rollout_id: rollout.status for rollout in found}
        return _sort(list(statuses), statuses, outcome)
    return _sort(ids, await _statuses(store, ids), outcome)


async def _wait_once(
    store: LightningStore, pending: Sequence[str], timeout: float | None, outcome: WaitOutcome
) -> list[str]:
    """Wait for all; ids of those that are still unfinished. The others go into the outcome."""
    until = math.inf if timeout is None else time.monotonic() + timeout
    for rollout in await store.wait_for_rollouts(rollout_ids=pending, timeout=timeout):
        outcome.finished[rollout.rollout_id] = rollout.status
    rest = [rollout_id for rollout_id in pending if rollout_id not in outcome.finished]
    if rest and time.monotonic() < until:
        # Nothing is left to wait for, and yet some have not finished: they were deleted, or reopened just now.
        return _sort(rest, await _statuses(store, rest), outcome)
    return rest


async def _statuses(store: LightningStore, ids: Sequence[str]) -> dict[str, RolloutStatus]:
    found: dict[str, RolloutStatus] = {}
    for start in range(0, len(ids), PAGE):
        page = await store.query_rollouts(rollout_id_in=ids[start : start + PAGE])
        found.update({rollout.rollout_id: rollout.status for rollout in page})
    return found


def _sort(ids: Sequence[str], statuses: Mapping[str, RolloutStatus], outcome: WaitOutcome) -> list[str]:
    """Put what is finished or unknown into the outcome; the others."""
    outcome.unknown += [key for key in ids if key not in statuses]
    outcome.finished.update({key: statuses[key] for key in ids if statuses.get(key) in FINISHED})
    return [key for key in ids if key in statuses and key not in outcome.finished]


def _slice(left: float | None) -> float | None:
    """How long to wait at once: short when a person follows the progress."""
    if not sys.stderr.isatty():
        return left
    return PROGRESS_SECONDS if left is None else min(left, PROGRESS_SECONDS)
