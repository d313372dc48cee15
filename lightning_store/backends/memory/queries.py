"""Queries of rollouts, queues and events of the memory store."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from lightning_store.backends.memory.claims import ClaimOperations
from lightning_store.backends.memory.copies import copy_rollout
from lightning_store.backends.memory.index import merged
from lightning_store.eventlog import EventPage, NumberedLog
from lightning_store.query import check_query, page_of, query_rollouts
from lightning_store.records import (
    FilterLogic,
    PaginatedResult,
    QueueStats,
    Rollout,
    RolloutEvent,
    RolloutStatus,
    SortOrder,
)
from lightning_store.requests import check_limit
from lightning_store.status import QUEUED


class RolloutQueries(ClaimOperations):
    """Reads of rollouts that change nothing but what is due."""

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
        chosen = islice(merged(indexes, offset), None if limit == -1 else limit)
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

    async def events_after(self, cursor: str | None, *, limit: int = 1000) -> EventPage:
        """See BaseStore."""
        check_limit(limit, "limit", 1)
        state = self._state
        dropped = state.event_count - len(state.events)

        def read(start: int) -> list[RolloutEvent]:
            chosen = islice(state.events, start - dropped, start - dropped + limit)
            return [event.model_copy() for event in chosen]

        return NumberedLog(dropped, state.event_count).page(cursor, read)
