"""What `rollouts cancel`, `retry` and `prune` do with the rollouts that they are given."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from lightning_store.contract import LightningStore
from lightning_store.errors import RolloutNotFoundError
from lightning_store.exits import CommandError, ExitCode
from lightning_store.records import RolloutStatus
from lightning_store.requests import lowest_cursor
from lightning_store.status import FINISHED, ROLLOUT_AFTER_ATTEMPT

RESTARTABLE: Final[frozenset[RolloutStatus]] = FINISHED - {ROLLOUT_AFTER_ATTEMPT["succeeded"]}
"""Ends after which a person may want another attempt."""

CANCELLED: Final[RolloutStatus] = "cancelled"
AT_ONCE: Final = 64
PAGE: Final = 1000


@dataclass(frozen=True)
class Outcome:
    """What became of the rollouts.

    Attributes:
        done: Ids of those that were changed.
        refused: Reason by id of those that were named but are in no state for it.
        unknown: Ids that were named and do not exist.
    """

    done: list[str] = field(default_factory=list[str])
    refused: dict[str, str] = field(default_factory=dict[str, str])
    unknown: list[str] = field(default_factory=list[str])


async def cancel_rollouts(
    store: LightningStore,
    ids: Sequence[str] | None,
    *,
    group_id: str | None,
    status_in: Sequence[RolloutStatus] | None,
) -> Outcome:
    """Cancel what meets all conditions; a named rollout that is cancelled already is fine."""
    done = await store.cancel_rollouts(ids, group_id=group_id, status_in=status_in)
    outcome = Outcome(done=done)
    statuses = await _statuses(store, _others(ids or (), done), outcome)
    for rollout_id, status in statuses.items():
        if status in FINISHED - {CANCELLED}:
            outcome.refused[rollout_id] = f"not cancelled, it has {status}"
        elif status not in FINISHED:
            outcome.refused[rollout_id] = f"not cancelled, it is {status} or of another group"
    return outcome


async def retry_rollouts(
    store: LightningStore,
    ids: Sequence[str] | None,
    *,
    group_id: str | None,
    status_in: Sequence[RolloutStatus] | None,
) -> Outcome:
    """Queue again what has finished without success and meets all conditions."""
    outcome = Outcome()
    found = await store.query_rollouts(
        rollout_id_in=ids, group_id=group_id, status_in=list(status_in or RESTARTABLE), sort_by=None
    )
    chosen = [rollout.rollout_id for rollout in found]
    if ids is not None:
        statuses = await _statuses(store, _others(ids, chosen), outcome)
        for rollout_id, status in statuses.items():
            outcome.refused[rollout_id] = f"not requeued, it is {status}"
    for start in range(0, len(chosen), AT_ONCE):
        batch = chosen[start : start + AT_ONCE]
        known = await asyncio.gather(*(_retry(store, rollout_id) for rollout_id in batch))
        for rollout_id, is_known in zip(batch, known, strict=True):
            (outcome.done if is_known else outcome.unknown).append(rollout_id)
    return outcome


async def prune_rollouts(
    store: LightningStore,
    older_than_seconds: float | None,
    keep_latest: int | None,
    status_in: Sequence[RolloutStatus] | None,
    *,
    consumed: bool,
) -> int:
    """Remove what is too old or too many; with `consumed` only what every consumer has passed.

    Raises:
        CommandError: There is no consumer, so nothing counts as consumed.
    """
    passed = lowest_cursor(await store.query_consumers()) if consumed else None
    if consumed and passed is None:
        raise CommandError("--consumed: no consumer is registered", ExitCode.NO)
    return await store.prune(
        older_than_seconds=older_than_seconds, keep_latest=keep_latest, status_in=status_in, consumed_cursor=passed
    )


async def _retry(store: LightningStore, rollout_id: str) -> bool:
    """Queue one rollout again; False if somebody has deleted it meanwhile."""
    try:
        await store.update_rollout(rollout_id, status="queuing")
    except RolloutNotFoundError:
        return False
    return True


def _others(ids: Sequence[str], done: Sequence[str]) -> list[str]:
    without = set(done)
    return [rollout_id for rollout_id in ids if rollout_id not in without]


async def _statuses(store: LightningStore, ids: Sequence[str], outcome: Outcome) -> dict[str, RolloutStatus]:
    """Statuses of named rollouts; those that do not exist go into the outcome."""
    found: dict[str, RolloutStatus] = {}
    for start in range(0, len(ids), PAGE):
        part = ids[start : start + PAGE]
        found.update({rollout.rollout_id: rollout.status for rollout in await store.query_rollouts(rollout_id_in=part)})
    outcome.unknown.extend(rollout_id for rollout_id in ids if rollout_id not in found)
    return found
