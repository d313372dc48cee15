"""Operations on attempts, workers and health of the memory store."""

import math
from collections.abc import Sequence
from typing import Any

from lightning_store import lifecycle
from lightning_store.backends.memory.claims import LATEST
from lightning_store.backends.memory.copies import copy_record
from lightning_store.backends.memory.rollouts import RolloutOperations
from lightning_store.contract import UNSET, Unset
from lightning_store.errors import AttemptNotFoundError
from lightning_store.query import page_of, query_attempts, query_workers
from lightning_store.records import (
    Attempt,
    AttemptStatus,
    ExpiryReport,
    FilterLogic,
    LeaseState,
    PaginatedResult,
    SortOrder,
    Worker,
    WorkerStatus,
    changed,
)
from lightning_store.requests import (
    attempt_changes,
    check_free_id,
    check_limit,
    check_pairs,
    check_seconds,
    worker_stats,
)


class AttemptOperations(RolloutOperations):
    """Everything about attempts and workers but their claims and spans."""

    # -- attempts ----------------------------------------------------------------------------------------------------

    async def query_attempts(
        self,
        rollout_id: str,
        *,
        sort_by: str | None = "sequence_id",
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> PaginatedResult[Attempt]:
        """See the contract."""
        self._state.settle_if_due(rollout_id, self._time.note_read())
        stored = self._state.rollouts.get(rollout_id)
        records = [] if stored is None else [attempt.record for attempt in stored.attempts.values()]
        page = query_attempts(records, sort_by=sort_by, sort_order=sort_order, limit=limit, offset=offset)
        return page_of([copy_record(attempt) for attempt in page], limit=limit, offset=offset, total=page.total)

    async def get_latest_attempt(self, rollout_id: str) -> Attempt | None:
        """See the contract."""
        self._state.settle_if_due(rollout_id, self._time.note_read())
        stored = self._state.rollouts.get(rollout_id)
        return None if stored is None or stored.latest is None else copy_record(stored.latest.record)

    async def update_attempt(
        self,
        rollout_id: str,
        attempt_id: str,
        status: AttemptStatus | Unset = UNSET,
        worker_id: str | Unset = UNSET,
        last_heartbeat_time: float | Unset = UNSET,
        metadata: dict[str, Any] | Unset = UNSET,
        *,
        resources_id: str | Unset | None = UNSET,
        resources_version: int | Unset | None = UNSET,
    ) -> Attempt:
        """See the contract."""
        changes = attempt_changes(
            {
                "status": status,
                "worker_id": worker_id,
                "last_heartbeat_time": last_heartbeat_time,
                "metadata": metadata,
                "resources_id": resources_id,
                "resources_version": resources_version,
            }
        )
        if "metadata" in changes:
            self._payloads.metadata(changes["metadata"], "metadata")
        now = self._begin(rollout_id)
        stored = self._state.rollout(rollout_id)
        if stored.latest_id is None:
            raise AttemptNotFoundError(f"No attempts found for rollout {rollout_id}")
        attempt = self._state.attempt(stored, stored.latest_id if attempt_id == LATEST else attempt_id)
        is_latest = attempt.record.attempt_id == stored.latest_id
        step = lifecycle.update_attempt(stored.state, attempt, changes, now, is_latest=is_latest)
        self._state.apply(stored, step, now, reindex=is_latest)
        after = stored.attempts[attempt.record.attempt_id].record
        if "status" in changes or changes.get("worker_id"):
            self._state.update_worker_of(after, now)
        self._alarm.rearm()
        return copy_record(after)

    async def release_attempt(self, rollout_id: str, attempt_id: str) -> Attempt:
        """See the contract."""
        now = self._begin(rollout_id)
        stored = self._state.rollout(rollout_id)
        attempt = self._state.attempt(stored, attempt_id)
        step = lifecycle.release(stored.state, attempt, now, is_latest=attempt_id == stored.latest_id)
        if step is not None:
            self._state.apply(stored, step, now)
            self._state.update_worker_of(stored.attempts[attempt_id].record, now)
        return copy_record(stored.attempts[attempt_id].record)

    async def renew(
        self, worker_id: str, attempts: Sequence[tuple[str, str]], stats: dict[str, Any] | None = None
    ) -> list[LeaseState]:
        """See the contract."""
        check_free_id(worker_id, "worker_id")
        pairs = check_pairs(attempts, "attempts")
        copied = worker_stats(UNSET if stats is None else stats)
        if not isinstance(copied, Unset):
            self._payloads.metadata(copied, "stats")
        now = self._begin(*(rollout_id for rollout_id, _ in pairs))
        self._heartbeat(worker_id, copied, now)
        return [self._renew(worker_id, *pair, now) for pair in pairs]

    def _renew(self, worker_id: str, rollout_id: str, attempt_id: str, now: float) -> LeaseState:
        stored = self._state.rollouts.get(rollout_id)
        if stored is None or attempt_id not in stored.attempts:
            return "unknown"
        attempt = stored.attempts[attempt_id]
        is_latest = attempt_id == stored.latest_id
        state, step = lifecycle.renew(stored.state, attempt, now, is_latest=is_latest, worker_id=worker_id)
        if step is not None:
            self._state.apply_sign_of_life(stored, step, now)
        return state

    # -- workers -----------------------------------------------------------------------------------------------------

    async def update_worker(self, worker_id: str, heartbeat_stats: dict[str, Any] | Unset = UNSET) -> Worker:
        """See the contract."""
        check_free_id(worker_id, "worker_id")
        stats = worker_stats(heartbeat_stats)
        if not isinstance(stats, Unset):
            self._payloads.metadata(stats, "heartbeat_stats")
        return copy_record(self._heartbeat(worker_id, stats, self._time.note()))

    def _heartbeat(self, worker_id: str, stats: dict[str, Any] | Unset, now: float) -> Worker:
        given = None if isinstance(stats, Unset) else stats
        worker = lifecycle.worker_after_heartbeat(self._state.worker(worker_id), given, now)
        self._state.workers[worker_id] = worker
        return worker

    async def get_worker_by_id(self, worker_id: str) -> Worker | None:
        """See the contract."""
        worker = self._state.workers.get(worker_id)
        return None if worker is None else copy_record(worker)

    async def query_workers(
        self,
        *,
        status_in: Sequence[WorkerStatus] | None = None,
        worker_id_contains: str | None = None,
        filter_logic: FilterLogic = "and",
        sort_by: str | None = None,
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> PaginatedResult[Worker]:
        """See the contract."""
        self._state.settle_all(self._time.note_read())
        page = query_workers(
            self._state.workers.values(),
            status_in=status_in,
            worker_id_contains=worker_id_contains,
            filter_logic=filter_logic,
            sort_by=sort_by,
            sort_order=sort_order,
            limit=limit,
            offset=offset,
        )
        return page_of([copy_record(worker) for worker in page], limit=limit, offset=offset, total=page.total)

    # -- health ------------------------------------------------------------------------------------------------------

    async def expire_attempts(self, *, limit: int = 500) -> ExpiryReport:
        """See the contract."""
        check_limit(limit, "limit", 1)
        now = self._time.note()
        state = self._state
        transitions = state.settle_due(now, limit)
        state.admit_ready(now, limit)
        soonest = state.soonest()
        return ExpiryReport(
            transitions=transitions,
            more=state.deadlines.soonest() < now or state.queues.soonest() <= now,
            next_seconds=None if soonest == math.inf else max(0.0, soonest - now),
        )

    async def expire_workers(self, *, silent_seconds: float) -> list[str]:
        """See the contract."""
        check_seconds(silent_seconds, "silent_seconds")
        now = self._time.note()
        workers = self._state.workers
        silent = [worker for worker in workers.values() if lifecycle.is_silent(worker, now, silent_seconds)]
        for worker in silent:
            workers[worker.worker_id] = changed(worker, status="unknown")
        return [worker.worker_id for worker in silent]
