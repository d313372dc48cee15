"""What the store holds at the end of a run, as plain data that a checker can be fed with."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lightning_store.contract import LightningStore
from lightning_store.records import Attempt, AttemptStatus, Rollout, RolloutStatus

BATCH: Final = 100


@dataclass(frozen=True)
class StoredAttempt:
    """One attempt.

    Attributes:
        spans: Ids of its spans, as often as they are stored.
        lost_spans: Its runner has reported spans that it could not deliver.
    """

    attempt_id: str
    status: AttemptStatus
    started: float
    ended: float | None = None
    cause: str | None = None
    worker: str | None = None
    spans: tuple[str, ...] = ()
    lost_spans: bool = False


@dataclass(frozen=True)
class StoredRollout:
    """One rollout with its attempts in order; times are the server's."""

    rollout_id: str
    task: Mapping[str, Any]
    status: RolloutStatus
    ended: float | None = None
    attempts: Sequence[StoredAttempt] = ()
    reward: float | None = None


@dataclass(frozen=True)
class FinalState:
    """All that is stored.

    Attributes:
        completions: The completion log: cursor, rollout and status of each entry.
        resources: Versions of the snapshots by id.
    """

    rollouts: Mapping[str, StoredRollout] = field(default_factory=dict)
    completions: Sequence[tuple[str, str, str]] = ()
    resources: Mapping[str, int] = field(default_factory=dict)


async def read_state(store: LightningStore) -> FinalState:
    """Everything, from a store on which nobody works any more."""
    rollouts = list(await store.query_rollouts())
    stored: dict[str, StoredRollout] = {}
    for start in range(0, len(rollouts), BATCH):
        stored.update(await _read_batch(store, rollouts[start : start + BATCH]))
    resources = {each.resources_id: each.version for each in await store.query_resources()}
    return FinalState(stored, await _read_log(store), resources)


async def _read_batch(store: LightningStore, rollouts: Sequence[Rollout]) -> dict[str, StoredRollout]:
    ids = [rollout.rollout_id for rollout in rollouts]
    attempts = await asyncio.gather(*(store.query_attempts(rollout_id) for rollout_id in ids))
    spans = await store.query_many_spans(ids)
    rewards = await store.rewards(ids)
    batch: dict[str, StoredRollout] = {}
    for rollout, tried in zip(rollouts, attempts, strict=True):
        by_attempt: dict[str, list[str]] = {}
        for span in spans[rollout.rollout_id]:
            by_attempt.setdefault(span.attempt_id, []).append(span.span_id)
        batch[rollout.rollout_id] = StoredRollout(
            rollout.rollout_id,
            rollout.input,
            rollout.status,
            rollout.end_time,
            [_attempt(attempt, by_attempt.get(attempt.attempt_id, ())) for attempt in tried],
            rewards[rollout.rollout_id],
        )
    return batch


def _attempt(attempt: Attempt, spans: Sequence[str]) -> StoredAttempt:
    return StoredAttempt(
        attempt.attempt_id,
        attempt.status,
        attempt.start_time,
        attempt.end_time,
        attempt.cause,
        attempt.worker_id,
        tuple(spans),
        "lost_spans" in (attempt.metadata or {}),
    )


async def _read_log(store: LightningStore) -> list[tuple[str, str, str]]:
    log: list[tuple[str, str, str]] = []
    cursor = None
    while True:
        page = await store.completions(cursor)
        if not page.items:
            return log
        log += [(each.cursor, each.rollout_id, each.status) for each in page.items]
        cursor = page.cursor
