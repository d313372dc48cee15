"""How rollouts look on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning_store.cli.output import Table, brief, duration, moment
from lightning_store.contract import LightningStore
from lightning_store.errors import SpansEvictedError
from lightning_store.records import Attempt, AttemptedRollout, Rollout, RolloutConfig, RolloutEvent
from lightning_store.rewards import reward_of

LONG: int = 300
"""Characters of an input or of metadata that are shown; `--json` has all."""


@dataclass(frozen=True)
class Reward:
    """A reward that an attempt emitted.

    Attributes:
        sequence_id: Of its span.
    """

    attempt_id: str
    sequence_id: int
    value: float


@dataclass(frozen=True)
class History:
    """All that is known of one rollout but its spans.

    Attributes:
        reward: The one that counts; None if there is none.
        rewards: All that were emitted, in order; None when their spans were evicted.
        events: The latest that are kept, oldest first.
    """

    rollout: Rollout
    attempts: list[Attempt]
    reward: float | None
    rewards: list[Reward] | None
    events: list[RolloutEvent]

    def as_json(self) -> dict[str, Any]:
        """The history as JSON values."""
        return {
            "rollout": self.rollout.model_dump(exclude={"attempt"}),
            "attempts": [attempt.model_dump() for attempt in self.attempts],
            "reward": self.reward,
            "rewards": None if self.rewards is None else [vars(reward) for reward in self.rewards],
            "events": [event.model_dump() for event in self.events],
        }

    def as_tables(self) -> list[Table]:
        """The history for people."""
        tables = [Table("rollout", (), self._facts())]
        if self.attempts:
            headings = ("number", "attempt", "status", "cause", "worker", "started", "took", "last sign", "resources")
            tables.append(Table("attempts", headings, [_attempt_row(attempt) for attempt in self.attempts]))
        if notes := [
            (attempt.attempt_id, brief(attempt.metadata, LONG)) for attempt in self.attempts if attempt.metadata
        ]:
            tables.append(Table("metadata of attempts", ("attempt", "metadata"), list(notes)))
        if self.rewards:
            rows = [(reward.attempt_id, reward.sequence_id, f"{reward.value:g}") for reward in self.rewards]
            tables.append(Table("rewards", ("attempt", "span", "value"), list(rows)))
        rows_of_events = [
            (moment(event.time), event.status, event.cause, event.attempt_id, event.attempt_status)
            for event in self.events
        ]
        columns = ("time", "status", "cause", "attempt", "attempt status")
        return [*tables, Table("events", columns, list(rows_of_events))]

    def _facts(self) -> list[Sequence[object]]:
        rollout = self.rollout
        changed = {
            name: value
            for name, value in rollout.config.model_dump().items()
            if value != getattr(RolloutConfig(), name)
        }
        return [
            ("id", rollout.rollout_id),
            ("status", rollout.status),
            ("queue", rollout.queue),
            ("mode", rollout.mode),
            ("group", rollout.group_id),
            ("resources", rollout.resources_id),
            ("created", moment(rollout.start_time)),
            ("ended", moment(rollout.end_time)),
            *([("spans", "evicted for lack of memory")] if self.rewards is None else []),
            ("reward", None if self.reward is None else f"{self.reward:g}"),
            ("config", " ".join(f"{name}={brief(value)}" for name, value in changed.items())),
            ("metadata", brief(rollout.metadata, LONG)),
            ("input", brief(rollout.input, LONG)),
        ]


async def read_history(store: LightningStore, rollout_id: str) -> History | None:
    """The history of one rollout; None if it is unknown."""
    rollout = await store.get_rollout_by_id(rollout_id)
    if rollout is None:
        return None
    attempts = await store.query_attempts(rollout_id)
    try:
        spans = await store.query_spans(rollout_id)
    except SpansEvictedError:
        rewards = None
    else:
        valued = [(span, reward_of(span)) for span in spans]
        rewards = [Reward(span.attempt_id, span.sequence_id, value) for span, value in valued if value is not None]
    return History(
        rollout=rollout,
        attempts=list(attempts),
        reward=(await store.rewards([rollout_id]))[rollout_id],
        rewards=rewards,
        events=await store.query_events(rollout_id=rollout_id),
    )


def list_table(rollouts: Sequence[Rollout]) -> Table:
    """One row per rollout."""
    headings = ("rollout", "status", "attempts", "queue", "mode", "group", "worker", "created", "took", "input")
    return Table("", headings, [_rollout_row(rollout) for rollout in rollouts])


def _rollout_row(rollout: Rollout) -> tuple[object, ...]:
    attempt = rollout.attempt if isinstance(rollout, AttemptedRollout) else None
    return (
        rollout.rollout_id,
        rollout.status,
        attempt.sequence_id if attempt else 0,
        rollout.queue,
        rollout.mode,
        rollout.group_id,
        attempt.worker_id if attempt else None,
        moment(rollout.start_time),
        duration(None if rollout.end_time is None else rollout.end_time - rollout.start_time),
        brief(rollout.input, 40),
    )


def _attempt_row(attempt: Attempt) -> tuple[object, ...]:
    used = None if attempt.resources_id is None else f"{attempt.resources_id}@{attempt.resources_version}"
    return (
        attempt.sequence_id,
        attempt.attempt_id,
        attempt.status,
        attempt.cause,
        attempt.worker_id,
        moment(attempt.start_time),
        duration(None if attempt.end_time is None else attempt.end_time - attempt.start_time),
        moment(attempt.last_heartbeat_time),
        used,
    )
