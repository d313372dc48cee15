"""The rules of rollouts, attempts and workers as pure functions: (record, event, now) -> new records.

No I/O, no clock, no ids of its own: times and ids come as arguments. Backends that keep Python records call these; the
Lua scripts of the Redis backend carry out the same rules (`lua/shared`).
"""

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from lightning_store.records import (
    Attempt,
    AttemptCause,
    AttemptStatus,
    EventCause,
    LeaseState,
    Rollout,
    RolloutStatus,
    Transition,
    Worker,
    WorkerStatus,
    changed,
    constructed,
)
from lightning_store.status import (
    ACTIVE,
    ATTEMPT_AFTER_SPAN,
    CAUSE_OF_END,
    FINISHED,
    LIVE,
    QUEUED,
    RETRY_STATUS,
    RETRYABLE,
    ROLLOUT_AFTER_ATTEMPT,
    ROLLOUT_AFTER_SPAN,
    STAMPS_END_TIME,
    WORKER_AFTER_ATTEMPT,
)

_NO_ATTEMPT: Final = vars(Attempt(rollout_id="", attempt_id="", sequence_id=0, start_time=0.0))

NEVER: Final = math.inf
"""The deadline of what has no limit."""


class AttemptState(NamedTuple):
    """An attempt and what its record does not show.

    Attributes:
        uncounted: Why it does not count against `max_attempts`; None = it counts.
        grace_end: Silence is forgiven until then, because the store was out of reach; None = no grace since the last
            sign of life.
    """

    record: Attempt
    uncounted: Literal["lost", "released"] | None = None
    grace_end: float | None = None


class RolloutState(NamedTuple):
    """A rollout and what its record does not show.

    Attributes:
        uncounted: Attempts that do not count against `max_attempts`, the lost ones included.
        losses: Attempts that lost their worker without counting.
    """

    record: Rollout
    uncounted: int = 0
    losses: int = 0


class Step(NamedTuple):
    """What one event makes of a rollout and one of its attempts.

    Attributes:
        attempt: The attempt concerned; None when the event concerns the rollout only.
        cause: Cause of the transition, to be logged; None when no status changed.
        delay_seconds: How long the rollout waits before it can be claimed, should it enter its queue.
        to_head: The rollout goes to the head of its queue, wherever it waited before.
    """

    rollout: RolloutState
    attempt: AttemptState | None
    cause: EventCause | None
    delay_seconds: float = 0.0
    to_head: bool = False


class Settlement(NamedTuple):
    """What settling a live attempt comes to.

    Attributes:
        step: The end of the attempt; None if it goes on.
        attempt: The attempt afterwards; a grace time may have been added.
        late_seconds: How long after the limit that ended it.
    """

    step: Step | None
    attempt: AttemptState
    late_seconds: float = 0.0


# -- deadlines ---------------------------------------------------------------------------------------------------------


def deadlines_of(rollout: Rollout, attempt: AttemptState) -> tuple[float, float]:
    """When a live attempt is late for its time limit, and for its silence; `NEVER` for a limit that is not set."""
    config, record = rollout.config, attempt.record
    overdue = NEVER if config.timeout_seconds is None else record.start_time + config.timeout_seconds
    limits = [limit for limit in (config.unresponsive_seconds, record.lease_seconds) if limit is not None]
    if not limits:
        return overdue, NEVER
    heard = record.start_time if record.last_heartbeat_time is None else record.last_heartbeat_time
    silent = heard + min(limits)
    return overdue, silent if attempt.grace_end is None else max(silent, attempt.grace_end)


def deadline_of(rollout: Rollout, latest: AttemptState | None) -> float:
    """The next instant after which a rollout's latest attempt could be late; `NEVER` unless that is live."""
    if latest is None or latest.record.status not in LIVE:
        return NEVER
    return min(deadlines_of(rollout, latest))


def settle(
    rollout: RolloutState, latest: AttemptState, now: float, *, resumed_time: float | None, grace_seconds: float
) -> Settlement:
    """End a live latest attempt if it is late: the time limit first, then its silence.

    Silence that ends within `grace_seconds` of the time when the store could be reached again is extended to the end
    of that time, once until the next sign of life. A rollout that is not active stays as it is.

    Args:
        rollout: The rollout.
        latest: Its latest attempt.
        now: The present time.
        resumed_time: When the store could be reached again after the last outage; None = there was none.
        grace_seconds: How much later silence may end after an outage.
    """
    if latest.record.status not in LIVE:
        return Settlement(None, latest)
    overdue, silent = deadlines_of(rollout.record, latest)
    if now > overdue:
        return Settlement(_expire(rollout, latest, "timeout", now), latest, now - overdue)
    if now <= silent:
        return Settlement(None, latest)
    if resumed_time is not None and latest.grace_end is None and silent < resumed_time + grace_seconds:
        silent = resumed_time + grace_seconds
        latest = latest._replace(grace_end=silent)
        if now <= silent:
            return Settlement(None, latest)
    return Settlement(_expire(rollout, latest, "unresponsive", now), latest, now - silent)


def _expire(rollout: RolloutState, latest: AttemptState, status: AttemptStatus, now: float) -> Step:
    cause = CAUSE_OF_END[status]
    rollout, latest = _with_attempt_status(rollout, latest, status, now, cause)
    if rollout.record.status in ACTIVE:
        rollout = _following(rollout, latest, now)
    return Step(rollout, latest, cause, rollout.record.config.retry_delay_seconds)


def transition_of(rollout: Rollout, ended: Attempt, late_seconds: float) -> Transition:
    """What is told of an attempt that was ended because it was late."""
    return Transition(
        rollout_id=rollout.rollout_id,
        attempt_id=ended.attempt_id,
        worker_id=ended.worker_id or None,
        attempt_status=ended.status,
        rollout_status=rollout.status,
        cause=ended.cause or "timeout",
        late_seconds=late_seconds,
    )


# -- statuses ----------------------------------------------------------------------------------------------------------


def with_rollout_status(rollout: Rollout, status: RolloutStatus, now: float) -> Rollout:
    """A rollout in this status: a finished one has its `end_time` set, also when repeated; any other has none."""
    return changed(rollout, status=status, end_time=now if status in FINISHED else None)


def _with_attempt_status(
    rollout: RolloutState, attempt: AttemptState, status: AttemptStatus, now: float, cause: AttemptCause | None
) -> tuple[RolloutState, AttemptState]:
    rollout, attempt = _recounted(rollout, attempt, cause)
    updates: dict[str, Any] = {"status": status, "cause": cause}
    if status in STAMPS_END_TIME:
        updates["end_time"] = now
    return rollout, attempt._replace(record=changed(attempt.record, **updates))


def _recounted(
    rollout: RolloutState, attempt: AttemptState, cause: AttemptCause | None
) -> tuple[RolloutState, AttemptState]:
    """Count anew what does not count: releases, and worker losses up to a limit; another status takes that back."""
    uncounted, losses = rollout.uncounted, rollout.losses
    if attempt.uncounted is not None:
        uncounted -= 1
        losses -= attempt.uncounted == "lost"
    flag: Literal["lost", "released"] | None = None
    if cause == "worker_lost" and losses < (rollout.record.config.max_worker_losses or 0):
        flag = "lost"
    elif cause == "released":
        flag = "released"
    if flag is not None:
        uncounted += 1
        losses += flag == "lost"
    if flag == attempt.uncounted:
        return rollout, attempt
    return rollout._replace(uncounted=uncounted, losses=losses), attempt._replace(uncounted=flag)


def _may_retry(rollout: RolloutState, latest: AttemptState) -> bool:
    if latest.uncounted is not None:
        return True
    config, attempt = rollout.record.config, latest.record
    return attempt.status in config.retry_condition and attempt.sequence_id - rollout.uncounted < config.max_attempts


def _following(rollout: RolloutState, latest: AttemptState, now: float) -> RolloutState:
    """Where its latest attempt puts an unfinished rollout; a finished one stays."""
    if rollout.record.status in FINISHED:
        return rollout
    status = ROLLOUT_AFTER_ATTEMPT[latest.record.status]
    if latest.record.status in RETRYABLE and _may_retry(rollout, latest):
        status = RETRY_STATUS
    if status == rollout.record.status:
        return rollout
    return rollout._replace(record=with_rollout_status(rollout.record, status, now))


# -- events ------------------------------------------------------------------------------------------------------------


def start_attempt(
    rollout: RolloutState,
    now: float,
    *,
    attempt_id: str,
    sequence_id: int,
    worker_id: str | None,
    lease_seconds: float | None,
    cause: EventCause,
) -> Step:
    """Start the next attempt, whatever the rollout's status."""
    fields = {
        **_NO_ATTEMPT,
        "rollout_id": rollout.record.rollout_id,
        "attempt_id": attempt_id,
        "sequence_id": sequence_id,
        "start_time": now,
        "worker_id": worker_id,
        "lease_seconds": lease_seconds,
    }
    record = constructed(Attempt, fields)
    moved = with_rollout_status(rollout.record, ROLLOUT_AFTER_ATTEMPT[record.status], now)
    return Step(rollout._replace(record=moved), AttemptState(record), cause)


def update_rollout(
    rollout: RolloutState, latest: AttemptState | None, changes: Mapping[str, Any], now: float, cause: EventCause
) -> Step:
    """Replace fields of a rollout; `cause` is logged if its status changes."""
    was, record = rollout.record.status, changed(rollout.record, **changes)
    if "status" in changes:
        record = with_rollout_status(record, changes["status"], now)
    return Step(rollout._replace(record=record), latest, cause if record.status != was else None)


def update_attempt(
    rollout: RolloutState, attempt: AttemptState, changes: Mapping[str, Any], now: float, *, is_latest: bool
) -> Step:
    """Replace fields of an attempt; the latest one moves its unfinished rollout along, whatever was replaced."""
    statuses = rollout.record.status, attempt.record.status
    fields = {field: value for field, value in changes.items() if field != "status"}
    if fields:
        attempt = attempt._replace(record=changed(attempt.record, **fields))
    if "last_heartbeat_time" in fields:
        attempt = attempt._replace(grace_end=None)
    if "status" in changes:
        status = changes["status"]
        cancelled = status == "failed" and rollout.record.status == "cancelled"
        cause = "cancelled" if cancelled else CAUSE_OF_END[status]
        rollout, attempt = _with_attempt_status(rollout, attempt, status, now, cause)
    if is_latest:
        rollout = _following(rollout, attempt, now)
    logged = (rollout.record.status, attempt.record.status) != statuses
    return Step(
        rollout,
        attempt,
        (attempt.record.cause or "updated") if logged else None,
        rollout.record.config.retry_delay_seconds,
    )


def release(rollout: RolloutState, attempt: AttemptState, now: float, *, is_latest: bool) -> Step | None:
    """Hand an attempt back to the head of its rollout's queue.

    Returns:
        None when it has no effect: the attempt is not live, not the latest, or the rollout has finished.
    """
    if not is_latest or attempt.record.status not in LIVE or rollout.record.status in FINISHED:
        return None
    rollout, attempt = _with_attempt_status(rollout, attempt, "failed", now, "released")
    record = with_rollout_status(rollout.record, RETRY_STATUS, now)
    return Step(rollout._replace(record=record), attempt, "released", to_head=True)


def heartbeat(attempt: AttemptState, now: float) -> AttemptState:
    """A sign of life; it ends a grace time."""
    return attempt._replace(record=changed(attempt.record, last_heartbeat_time=now), grace_end=None)


def add_span(rollout: RolloutState, attempt: AttemptState, now: float, *, is_latest: bool) -> Step:
    """A new span of an attempt: a sign of life, which may revive it, and move its rollout to running."""
    attempt = heartbeat(attempt, now)
    return _revive(rollout, attempt, ATTEMPT_AFTER_SPAN[attempt.record.status], now, "span", is_latest=is_latest)


def renew(
    rollout: RolloutState, attempt: AttemptState, now: float, *, is_latest: bool, worker_id: str
) -> tuple[LeaseState, Step | None]:
    """A worker's heartbeat for an attempt; None when it has no effect. It never turns `preparing` into `running`."""
    if not is_latest or (attempt.record.worker_id or worker_id) != worker_id:
        return "replaced", None
    if rollout.record.status in FINISHED:
        return ("cancelled" if rollout.record.status == "cancelled" else "finished"), None
    if attempt.record.status in LIVE:
        return "current", Step(rollout, heartbeat(attempt, now), None)
    if attempt.record.status == "unresponsive" and rollout.record.status in QUEUED:
        return "revived", _revive(rollout, heartbeat(attempt, now), "running", now, "renewed", is_latest=True)
    return "finished", None


def _revive(
    rollout: RolloutState,
    attempt: AttemptState,
    status: AttemptStatus,
    now: float,
    cause: EventCause,
    *,
    is_latest: bool,
) -> Step:
    statuses = rollout.record.status, attempt.record.status
    if status != attempt.record.status:
        rollout, attempt = _with_attempt_status(rollout, attempt, status, now, None)
    if is_latest and status == "running":
        after = ROLLOUT_AFTER_SPAN[rollout.record.status]
        if after != rollout.record.status:
            rollout = rollout._replace(record=with_rollout_status(rollout.record, after, now))
    logged = (rollout.record.status, attempt.record.status) != statuses
    return Step(rollout, attempt, cause if logged else None)


# -- workers -----------------------------------------------------------------------------------------------------------


def worker_after_attempt(worker: Worker, attempt: Attempt, now: float) -> Worker:
    """What an attempt makes of the worker that is written in it."""
    status = WORKER_AFTER_ATTEMPT[attempt.status]
    return _busy(worker, attempt, now) if status == "busy" else _freed(worker, status, now)


def worker_after_claim(worker: Worker, last: Attempt | None, now: float) -> Worker:
    """A dequeue that gave attempts up to `last`, or None: an empty one makes a worker idle that is not yet."""
    worker = changed(worker, last_dequeue_time=now)
    if last is not None:
        return _busy(worker, last, now)
    return worker if worker.status == "idle" else _freed(worker, "idle", now)


def worker_after_deletion(worker: Worker, attempt: Attempt, now: float) -> Worker:
    """The deletion of an attempt that the worker may still be working on."""
    holds = (worker.current_rollout_id, worker.current_attempt_id) == (attempt.rollout_id, attempt.attempt_id)
    return _freed(worker, "unknown", now) if holds and attempt.status in LIVE else worker


def worker_after_heartbeat(worker: Worker, stats: Mapping[str, Any] | None, now: float) -> Worker:
    """A worker's own heartbeat; None leaves its stats."""
    updates = {} if stats is None else {"heartbeat_stats": stats}
    return changed(worker, last_heartbeat_time=now, **updates)


def is_silent(worker: Worker, now: float, silent_seconds: float) -> bool:
    """Whether a worker that is not `unknown` yet gave no sign of life for longer than `silent_seconds`."""
    signs = (worker.last_heartbeat_time, worker.last_dequeue_time, worker.last_busy_time, worker.last_idle_time)
    return worker.status != "unknown" and now - max(sign or 0.0 for sign in signs) > silent_seconds


def _busy(worker: Worker, attempt: Attempt, now: float) -> Worker:
    return changed(
        worker,
        status="busy",
        last_busy_time=now,
        current_rollout_id=attempt.rollout_id,
        current_attempt_id=attempt.attempt_id,
    )


def _freed(worker: Worker, status: WorkerStatus, now: float) -> Worker:
    return changed(worker, status=status, last_idle_time=now, current_rollout_id=None, current_attempt_id=None)
