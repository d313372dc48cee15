"""Operations on rollouts of the memory store: creation, changes, ends, and queries."""

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from lightning_store import lifecycle
from lightning_store.backends.memory.claims import ClaimOperations, attempted
from lightning_store.backends.memory.copies import copy_record, copy_rollout
from lightning_store.backends.memory.state import FEW, StoredRollout
from lightning_store.contract import UNSET, Unset
from lightning_store.errors import InvalidRequestError, RolloutNotFoundError
from lightning_store.query import check_query, page_of, query_rollouts
from lightning_store.records import (
    DEFAULT_QUEUE,
    AttemptedRollout,
    EnqueueRolloutRequest,
    FilterLogic,
    PaginatedResult,
    QueueStats,
    Rollout,
    RolloutConfig,
    RolloutEvent,
    RolloutMode,
    RolloutStatus,
    SortOrder,
)
from lightning_store.requests import (
    NewRollout,
    check_cancel,
    check_ids,
    check_lease,
    check_limit,
    check_prune,
    check_worker_id,
    is_name,
    new_rollout,
    rollout_changes,
)
from lightning_store.status import FINISHED, QUEUED


class RolloutOperations(ClaimOperations):
    """Everything about rollouts but claims and waits."""

    # -- creation ----------------------------------------------------------------------------------------------------

    async def enqueue_many_rollouts(self, rollouts: Sequence[EnqueueRolloutRequest]) -> list[Rollout]:
        """See the contract."""
        wanted = [self._new_rollout(request) for request in rollouts]
        if not wanted:
            return []
        now = self._begin()
        digests: dict[str, str | None] = {}
        for new in wanted:
            self._check_id(new)
            if digests.setdefault(new.rollout_id, new.digest) != new.digest:
                raise InvalidRequestError(f"rollout_id: {new.rollout_id} is given twice for different tasks")
        answers = []
        for new in wanted:
            stored = self._state.rollouts.get(new.rollout_id)
            if stored is None:
                stored = self._create(new, "queuing", now)
                self._state.log_event(stored, None, "enqueued", now)
            answers.append(copy_record(stored.record))
        return answers

    async def start_rollout(
        self,
        input: Any,
        mode: RolloutMode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: dict[str, Any] | None = None,
        worker_id: str | None = None,
        *,
        rollout_id: str | None = None,
        group_id: str | None = None,
        queue: str = DEFAULT_QUEUE,
        lease_seconds: float | None = None,
    ) -> AttemptedRollout:
        """See the contract."""
        request = EnqueueRolloutRequest(
            input=input,
            mode=mode,
            resources_id=resources_id,
            config=config,
            metadata=metadata,
            rollout_id=rollout_id,
            group_id=group_id,
            queue=queue,
        )
        new = self._new_rollout(request)
        worker_id, lease_seconds = check_worker_id(worker_id), check_lease(lease_seconds)
        now = self._begin()
        self._check_id(new)
        stored = self._state.rollouts.get(new.rollout_id)
        if stored is None:
            stored = self._create(new, "preparing", now)
            self._begin_attempt(stored, worker_id, lease_seconds, now)
        elif stored.latest is None:
            raise InvalidRequestError(f"rollout_id: {new.rollout_id} is queued; expected a new id")
        return attempted(stored)

    async def start_attempt(
        self, rollout_id: str, worker_id: str | None = None, *, lease_seconds: float | None = None
    ) -> AttemptedRollout:
        """See the contract."""
        worker_id, lease_seconds = check_worker_id(worker_id), check_lease(lease_seconds)
        now = self._begin()
        stored = self._state.rollout(rollout_id)
        self._begin_attempt(stored, worker_id, lease_seconds, now)
        return attempted(stored)

    def _new_rollout(self, request: EnqueueRolloutRequest) -> NewRollout:
        new = new_rollout(request, self.ids)
        while new.digest is None and new.rollout_id in self._state.rollouts:
            new = new_rollout(request, self.ids)
        return new

    def _check_id(self, new: NewRollout) -> None:
        stored = self._state.rollouts.get(new.rollout_id)
        if stored is not None and stored.digest != new.digest:
            raise InvalidRequestError(
                f"rollout_id: {new.rollout_id} exists with another input or config; expected a new id or the same task"
            )

    def _create(self, new: NewRollout, status: RolloutStatus, now: float) -> StoredRollout:
        record = Rollout.model_construct(
            rollout_id=new.rollout_id,
            input=new.input,
            start_time=now,
            end_time=None,
            mode=new.mode,
            resources_id=self._state.latest_resources_id if new.resources_id is None else new.resources_id,
            status=status,
            config=new.config,
            metadata=new.metadata,
            queue=new.queue,
            group_id=new.group_id,
        )
        return self._state.create(record, new.digest, now)

    def _begin_attempt(
        self, stored: StoredRollout, worker_id: str | None, lease_seconds: float | None, now: float
    ) -> None:
        attempt_id = self._fresh_attempt_id(stored)
        attempt = self._state.begin_attempt(stored, attempt_id, worker_id, lease_seconds, now, is_claim=False)
        self._state.update_worker_of(attempt, now)
        self._alarm.rearm()

    # -- changes and ends --------------------------------------------------------------------------------------------

    async def update_rollout(
        self,
        rollout_id: str,
        input: Any | Unset = UNSET,
        mode: RolloutMode | Unset | None = UNSET,
        resources_id: str | Unset | None = UNSET,
        status: RolloutStatus | Unset = UNSET,
        config: RolloutConfig | Unset = UNSET,
        metadata: dict[str, Any] | Unset | None = UNSET,
    ) -> Rollout:
        """See the contract."""
        changes = rollout_changes(
            {
                "input": input,
                "mode": mode,
                "resources_id": resources_id,
                "status": status,
                "config": config,
                "metadata": metadata,
            }
        )
        now = self._begin(rollout_id)
        stored = self._state.rollouts.get(rollout_id)
        if stored is None:
            raise RolloutNotFoundError(f"Item {rollout_id} does not exist")
        step = lifecycle.update_rollout(stored.state, stored.latest, changes, now, "updated")
        self._state.apply(stored, step, now)
        self._alarm.rearm()
        return copy_record(stored.record)

    async def cancel_rollouts(
        self,
        rollout_ids: Sequence[str] | None = None,
        *,
        group_id: str | None = None,
        status_in: Sequence[RolloutStatus] | None = None,
    ) -> list[str]:
        """See the contract."""
        check_cancel(rollout_ids, group_id, status_in)
        if rollout_ids is None:
            candidates = [record.rollout_id for record in self._candidates(None, group_id, status_in)]
        else:
            candidates = [id for id in dict.fromkeys(check_ids(rollout_ids, "rollout_ids")) if is_name(id)]
        if not candidates:
            return []
        now = self._begin()
        known = (self._state.rollouts[id].record for id in candidates if id in self._state.rollouts)
        found = query_rollouts(known, status_in=status_in, group_id=group_id)
        wanted = [record.rollout_id for record in found if record.status not in FINISHED]
        for id in wanted:
            stored = self._state.rollouts[id]
            changes = {"status": "cancelled"}
            step = lifecycle.update_rollout(stored.state, stored.latest, changes, now, "cancelled")
            self._state.apply(stored, step, now)
        return wanted

    async def delete_rollouts(self, rollout_ids: Sequence[str]) -> list[str]:
        """See the contract."""
        ids = [id for id in dict.fromkeys(check_ids(rollout_ids, "rollout_ids")) if is_name(id)]
        if not ids:
            return []
        now = self._begin()
        return [id for id in ids if id in self._state.rollouts and self._delete_if_finished(id, now)]

    async def prune(self, *, older_than_seconds: float | None = None, keep_latest: int | None = None) -> int:
        """See the contract."""
        check_prune(older_than_seconds, keep_latest)
        now = self._time.note()
        removed = 0
        while doomed := self._outlived(older_than_seconds, keep_latest, now):
            self._state.settle_due(now, FEW)
            removed += sum(self._delete_if_finished(id, now) for id in doomed)
        return removed

    def _outlived(self, older_than_seconds: float | None, keep_latest: int | None, now: float) -> list[str]:
        """Finished rollouts that are too old or too many, the oldest finish first."""
        rollouts = self._state.rollouts
        finished = [id for id in self._state.finish_order if rollouts[id].record.status in FINISHED]
        too_many = 0 if keep_latest is None else max(0, len(finished) - keep_latest)
        too_old = math.inf if older_than_seconds is None else older_than_seconds
        finish_times = (self._state.log.time_of(rollouts[id].completions[-1]) for id in finished)
        return [
            id
            for place, (id, finish_time) in enumerate(zip(finished, finish_times, strict=True))
            if place < too_many or now - finish_time > too_old
        ]

    def _delete_if_finished(self, rollout_id: str, now: float) -> bool:
        stored = self._state.rollouts[rollout_id]
        if stored.record.status not in FINISHED:
            return False
        self._span_memory.clear(stored.shelf)
        self._state.delete(stored, now)
        return True

    # -- queries -----------------------------------------------------------------------------------------------------

    async def get_rollout_by_id(self, rollout_id: str) -> Rollout | None:
        """See the contract."""
        self._state.settle_if_due(rollout_id, self._time.note_read())
        stored = self._state.rollouts.get(rollout_id)
        return None if stored is None else copy_rollout(stored.record, stored.latest)

    async def query_rollouts(
        self,
        *,
        status_in: Sequence[RolloutStatus] | None = None,
        rollout_id_in: Sequence[str] | None = None,
        rollout_id_contains: str | None = None,
        filter_logic: FilterLogic = "and",
        sort_by: str | None = None,
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
        status: Sequence[RolloutStatus] | None = None,
        rollout_ids: Sequence[str] | None = None,
        group_id: str | None = None,
    ) -> PaginatedResult[Rollout]:
        """See the contract."""
        self._state.settle_all(self._time.note_read())
        statuses = status if status_in is None else status_in
        ids = rollout_ids if rollout_id_in is None else rollout_id_in
        if sort_by is None and ids is None and rollout_id_contains is None and group_id is None:
            check_query(filter_logic, sort_order, limit, offset, statuses)
            return self._indexed_page(statuses, limit, offset)
        narrowing = (ids, group_id, statuses) if filter_logic == "and" else (None, None, None)
        candidates = self._candidates(*narrowing)
        page = query_rollouts(
            candidates,
            status_in=statuses,
            rollout_id_in=ids,
            rollout_id_contains=rollout_id_contains,
            group_id=group_id,
            filter_logic=filter_logic,
            sort_by=sort_by,
            sort_order=sort_order,
            limit=limit,
            offset=offset,
        )
        items = [self._answer(record.rollout_id) for record in page.items]
        return page_of(items, limit=limit, offset=offset, total=page.total)

    def _indexed_page(
        self, statuses: Sequence[RolloutStatus] | None, limit: int, offset: int
    ) -> PaginatedResult[Rollout]:
        """A page in order of creation, without a look at what is not on it."""
        state = self._state
        if statuses is None:
            indexes = [state.created]
        else:
            indexes = [state.by_status[status] for status in dict.fromkeys(statuses) if status in state.by_status]
        total = sum(len(index) for index in indexes)
        numbers = indexes[0].since(offset) if len(indexes) == 1 else islice(heapq.merge(*indexes), offset, None)
        chosen = numbers if limit == -1 else islice(numbers, limit)
        items = [self._answer(state.by_number[number].id) for number in chosen]
        return page_of(items, limit=limit, offset=offset, total=total)

    def _candidates(
        self, ids: Sequence[str] | None, group_id: str | None, statuses: Sequence[RolloutStatus] | None
    ) -> Iterator[Rollout]:
        """In order of creation, a superset of the rollouts that meet all of these conditions, from the best index."""
        state = self._state
        if ids is not None and not isinstance(ids, str):
            found = {stored.number for id in set(ids) if (stored := state.rollouts.get(id)) is not None}
            numbers: Iterator[int] = iter(sorted(found))
        elif group_id is not None:
            numbers = iter(state.by_group.get(group_id, ()))
        elif statuses is not None and not isinstance(statuses, str):
            numbers = heapq.merge(*(state.by_status[status] for status in set(statuses) if status in state.by_status))
        else:
            numbers = iter(state.created)
        return (state.by_number[number].record for number in numbers)

    def _answer(self, rollout_id: str) -> Rollout:
        stored = self._state.rollouts[rollout_id]
        return copy_rollout(stored.record, stored.latest)

    async def query_queues(self) -> list[QueueStats]:
        """See the contract."""
        now = self._time.note_read()
        return [
            QueueStats(
                queue=name, depth=queue.live, delayed=queue.delayed, oldest_seconds=self._waited(queue.entries, now)
            )
            for name, queue in self._state.queues.items()
        ]

    def _waited(self, entries: Iterable[str], now: float) -> float | None:
        for id in entries:
            stored = self._state.rollouts[id]
            if stored.record.status in QUEUED:
                return max(0.0, now - stored.queued_time)
        return None

    async def query_events(self, *, rollout_id: str | None = None, limit: int = 100) -> list[RolloutEvent]:
        """See the contract."""
        check_limit(limit, "limit", -1)
        latest_first = (event for event in reversed(self._state.events) if rollout_id in (None, event.rollout_id))
        chosen = latest_first if limit == -1 else islice(latest_first, limit)
        return [event.model_copy() for event in chosen][::-1]
