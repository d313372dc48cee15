"""Claims and waits of the memory store."""

import math
from collections.abc import Sequence

from lightning_store import lifecycle
from lightning_store.backends.memory.copies import copy_record, copy_rollout
from lightning_store.backends.memory.core import MemoryCore
from lightning_store.backends.memory.stored import StoredRollout
from lightning_store.contract import DEFAULT_QUEUES
from lightning_store.records import Attempt, AttemptedRollout, CompletionPage, Consumer, Rollout
from lightning_store.requests import (
    ClaimRequest,
    check_free_id,
    check_ids,
    check_limit,
    check_name,
    check_timeout,
    claim_request,
    is_name,
    parse_cursor,
)
from lightning_store.status import FINISHED, QUEUED
from lightning_store.waiting import FinishWait, Wait

LATEST = "latest"


class ClaimOperations(MemoryCore):
    """Dequeue, wait for rollouts, follow completions."""

    async def dequeue_many_rollouts(
        self,
        *,
        limit: int = 1,
        worker_id: str | None = None,
        queues: Sequence[str] = DEFAULT_QUEUES,
        timeout: float = 0,
        lease_seconds: float | None = None,
    ) -> list[AttemptedRollout]:
        """See the contract."""
        request = claim_request(limit, worker_id, queues, timeout, lease_seconds)
        if request.limit <= 0:
            return []
        claimed = self._claim(request)
        if claimed or request.timeout == 0 or self._is_closed:
            return claimed
        return await self._wait_for_work(request)

    async def _wait_for_work(self, request: ClaimRequest) -> list[AttemptedRollout]:
        ticket = self._line.join(request.queues, request.timeout)
        try:
            with self._alarm.set():
                while True:
                    await ticket.woken()
                    # No await from here to the return: a cancellation cannot come between a claim and its answer.
                    claimed = self._claim(request)
                    if claimed or ticket.is_over or self._is_closed:
                        return claimed
                    self._line.rejoin(ticket)
        finally:
            self._line.leave(ticket)
            for name in request.queues:
                if self._state.queues.live(name):
                    self._line.call(name)

    def _claim(self, request: ClaimRequest) -> list[AttemptedRollout]:
        now = self._time.note()
        state = self._state
        state.settle_all(now)
        claimed: list[StoredRollout] = []
        last: Attempt | None = None
        for name in request.queues:
            while len(claimed) < request.limit and (stored := self._pop(name)) is not None:
                attempt_id = self._fresh_attempt_id(stored)
                last = state.begin_attempt(
                    stored, attempt_id, request.worker_id, request.lease_seconds, now, is_claim=True
                )
                claimed.append(stored)
        if request.worker_id is not None:
            worker = lifecycle.worker_after_claim(state.worker(request.worker_id), last, now)
            state.workers[worker.worker_id] = worker
        self._alarm.rearm()
        return [attempted(stored) for stored in claimed]

    def _pop(self, name: str) -> StoredRollout | None:
        for id in self._state.queues.pop(name):
            stored = self._state.rollouts[id]
            if stored.record.status in QUEUED:
                self._state.queues.claimed(name)
                return stored
        return None

    def _fresh_attempt_id(self, stored: StoredRollout) -> str:
        """An id that the rollout's attempts do not have yet."""
        while (attempt_id := self.ids.attempt_id()) in stored.attempts:
            pass
        return attempt_id

    async def wait_for_rollouts(self, *, rollout_ids: Sequence[str], timeout: float | None = None) -> list[Rollout]:
        """See the contract."""
        ids = check_ids(rollout_ids, "rollout_ids")
        seconds = math.inf if timeout is None else check_timeout(timeout)
        now = self._time.note_read()
        for id in ids:
            self._state.settle_if_due(id, now)
        if seconds > 0 and self._unfinished(ids):
            await self._wait_for_finish(ids, seconds)
        finished = (self._state.rollouts.get(id) for id in ids)
        return [copy_record(stored.record) for stored in finished if stored and stored.record.status in FINISHED]

    async def _wait_for_finish(self, ids: list[str], seconds: float) -> None:
        wait = FinishWait(seconds)
        try:
            with self._alarm.set():
                while not self._is_closed and not wait.is_over and (unfinished := self._unfinished(ids)):
                    self._finish_waits.expect(wait, unfinished)
                    await wait.woken()
        finally:
            self._finish_waits.forget(wait)

    def _unfinished(self, ids: list[str]) -> list[str]:
        rollouts = self._state.rollouts
        return [id for id in ids if id in rollouts and rollouts[id].record.status not in FINISHED]

    async def completions(
        self, after: str | None = None, *, limit: int = 1000, timeout: float = 0, group_id: str | None = None
    ) -> CompletionPage:
        """See the contract."""
        log = self._state.log
        check_limit(limit, "limit", 1)
        seconds = check_timeout(timeout)
        if group_id is not None:
            check_free_id(group_id, "group_id")
        number = self._number(after, "after")
        page = log.page(number, limit, group_id)
        if page.items or seconds == 0 or self._is_closed:
            return page
        wait = Wait(seconds)
        self._completion_waits.add(wait)
        try:
            with self._alarm.set():
                while not page.items and not wait.is_over and not self._is_closed:
                    await wait.woken()
                    page = log.page(self._number(page.cursor, "after"), limit, group_id)
        finally:
            self._completion_waits.discard(wait)
        return page

    def _number(self, cursor: str | None, field: str) -> int:
        """Number of the entry that a cursor stands behind."""
        if cursor is None:
            return 0
        return self._state.log.last if cursor == LATEST else parse_cursor(cursor, field)[0]

    async def acknowledge_completions(self, consumer: str, cursor: str | None = None) -> Consumer:
        """See the contract."""
        check_name(consumer, "consumer")
        number = min(self._number(cursor, "cursor"), self._state.log.last)
        return self._state.consumers.acknowledge(consumer, number, self._time.note())

    async def query_consumers(self) -> list[Consumer]:
        """See the contract."""
        return self._state.consumers.records()

    async def forget_consumer(self, consumer: str) -> bool:
        """See the contract."""
        return is_name(consumer) and self._state.consumers.forget(consumer)


def attempted(stored: StoredRollout) -> AttemptedRollout:
    """A copy of a rollout that has an attempt, with the latest one."""
    rollout = copy_rollout(stored.record, stored.latest)
    assert isinstance(rollout, AttemptedRollout)  # noqa: S101 - it was given an attempt
    return rollout
