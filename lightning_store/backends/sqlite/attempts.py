"""Operations on attempts, workers and health of the SQLite store."""

# ruff: noqa: S608 - statements are made of constants of ours; values are arguments

import math
from collections.abc import Sequence
from typing import Any, Final

from lightning_store import lifecycle
from lightning_store.backends.sqlite import codec
from lightning_store.backends.sqlite.claims import LATEST, release_attempt
from lightning_store.backends.sqlite.codec import WORKER_COLUMNS
from lightning_store.backends.sqlite.filters import Conditions, Page, text_key, time_key
from lightning_store.backends.sqlite.rollouts import RolloutOperations
from lightning_store.backends.sqlite.state import State
from lightning_store.contract import UNSET, Unset
from lightning_store.errors import AttemptNotFoundError
from lightning_store.query import page_of, query_attempts
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

_SORT_KEYS: Final = {
    "worker_id": "worker_id",
    "status": "status",
    "last_heartbeat_time": time_key("last_heartbeat_time"),
    "last_dequeue_time": time_key("last_dequeue_time"),
    "last_busy_time": time_key("last_busy_time"),
    "last_idle_time": time_key("last_idle_time"),
    "current_rollout_id": text_key("current_rollout_id"),
    "current_attempt_id": text_key("current_attempt_id"),
}

_SELECT_WORKERS: Final = f"SELECT {', '.join(WORKER_COLUMNS)} FROM workers "


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
        """See the contract. The attempts of a rollout are few: all of them are read."""

        def look(state: State) -> PaginatedResult[Attempt]:
            stored = state.find(rollout_id)
            records = [] if stored is None else [attempt.record for attempt in state.attempts(stored)]
            return query_attempts(records, sort_by=sort_by, sort_order=sort_order, limit=limit, offset=offset)

        return await self._settled(look, [rollout_id])

    async def get_latest_attempt(self, rollout_id: str) -> Attempt | None:
        """See the contract."""

        def look(state: State) -> Attempt | None:
            stored = state.find(rollout_id)
            return None if stored is None or stored.latest is None else stored.latest.record

        return await self._settled(look, [rollout_id])

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

        def update(state: State) -> Attempt:
            state.begin(rollout_id)
            stored = state.rollout(rollout_id)
            if stored.latest is None:
                raise AttemptNotFoundError(f"No attempts found for rollout {rollout_id}")
            attempt = stored.latest if attempt_id == LATEST else state.attempt(stored, attempt_id)
            is_latest = attempt.record.sequence_id == stored.attempts
            step = lifecycle.update_attempt(stored.state, attempt, changes, state.now, is_latest=is_latest)
            state.apply(stored, step, reindex=is_latest)
            after = attempt.record if step.attempt is None else step.attempt.record
            if "status" in changes or changes.get("worker_id"):
                state.update_worker_of(after)
            return after

        return await self._write(update)

    async def release_attempt(self, rollout_id: str, attempt_id: str) -> Attempt:
        """See the contract."""

        def release(state: State) -> Attempt:
            state.begin(rollout_id)
            return release_attempt(state, state.rollout(rollout_id), attempt_id)

        return await self._write(release)

    async def renew(
        self, worker_id: str, attempts: Sequence[tuple[str, str]], stats: dict[str, Any] | None = None
    ) -> list[LeaseState]:
        """See the contract."""
        check_free_id(worker_id, "worker_id")
        pairs = check_pairs(attempts, "attempts")
        copied = worker_stats(UNSET if stats is None else stats)
        if not isinstance(copied, Unset):
            self._payloads.metadata(copied, "stats")

        def renew_all(state: State) -> list[LeaseState]:
            state.begin(*(rollout_id for rollout_id, _ in pairs))
            _heartbeat(state, worker_id, copied)
            return [_renew(state, worker_id, *pair) for pair in pairs]

        return await self._write(renew_all)

    # -- workers -----------------------------------------------------------------------------------------------------

    async def update_worker(self, worker_id: str, heartbeat_stats: dict[str, Any] | Unset = UNSET) -> Worker:
        """See the contract."""
        check_free_id(worker_id, "worker_id")
        stats = worker_stats(heartbeat_stats)
        if not isinstance(stats, Unset):
            self._payloads.metadata(stats, "heartbeat_stats")

        def update(state: State) -> Worker:
            state.note()
            return _heartbeat(state, worker_id, stats)

        return await self._write(update)

    async def get_worker_by_id(self, worker_id: str) -> Worker | None:
        """See the contract."""
        return await self._read(lambda state: state.find_worker(worker_id))

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
        conditions = Conditions(filter_logic)
        conditions.is_in("status", status_in, "status")
        conditions.contains("worker_id", worker_id_contains)
        page = Page(Worker, sort_by, sort_order, limit, offset)
        where, arguments = conditions.where()

        def look(state: State) -> PaginatedResult[Worker]:
            [total] = state.values(f"SELECT count(*) FROM workers {where}", arguments)
            rows = state.connection.execute(
                f"{_SELECT_WORKERS}{where}{page.order(_SORT_KEYS, 'number')}LIMIT ? OFFSET ?",
                (*arguments, *page.bounds()),
            )
            return page_of([codec.worker_from(row) for row in rows], limit=limit, offset=offset, total=total)

        return await self._settled(look)

    # -- health ------------------------------------------------------------------------------------------------------

    async def expire_attempts(self, *, limit: int = 500) -> ExpiryReport:
        """See the contract."""
        check_limit(limit, "limit", 1)

        def expire(state: State) -> ExpiryReport:
            state.note()
            transitions = state.settle_due(limit)
            state.admit_ready(limit)
            soonest = state.soonest()
            return ExpiryReport(
                transitions=transitions,
                more=state.is_due(),
                next_seconds=None if math.isinf(soonest) else max(0.0, soonest - state.now),
            )

        return await self._write(expire)

    async def expire_workers(self, *, silent_seconds: float) -> list[str]:
        """See the contract."""
        check_seconds(silent_seconds, "silent_seconds")

        def expire(state: State) -> list[str]:
            state.note()
            rows = state.connection.execute(f"{_SELECT_WORKERS}WHERE status <> 'unknown' ORDER BY number").fetchall()
            workers = [codec.worker_from(row) for row in rows]
            silent = [worker for worker in workers if lifecycle.is_silent(worker, state.now, silent_seconds)]
            for worker in silent:
                state.put_worker(changed(worker, status="unknown"))
            return [worker.worker_id for worker in silent]

        return await self._write(expire)


def _heartbeat(state: State, worker_id: str, stats: dict[str, Any] | Unset) -> Worker:
    given = None if isinstance(stats, Unset) else stats
    worker = lifecycle.worker_after_heartbeat(state.worker(worker_id), given, state.now)
    state.put_worker(worker)
    return worker


def _renew(state: State, worker_id: str, rollout_id: str, attempt_id: str) -> LeaseState:
    stored = state.find(rollout_id)
    attempt = None if stored is None else state.find_attempt(stored, attempt_id)
    if stored is None or attempt is None:
        return "unknown"
    is_latest = attempt.record.sequence_id == stored.attempts
    lease, step = lifecycle.renew(stored.state, attempt, state.now, is_latest=is_latest, worker_id=worker_id)
    if step is not None:
        state.apply_sign_of_life(stored, attempt, step)
    return lease
