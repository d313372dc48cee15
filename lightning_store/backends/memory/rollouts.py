"""Operations that create, change and remove rollouts of the memory store."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lightning_store import lifecycle
from lightning_store.admission import check_room
from lightning_store.backends.memory.claims import attempted
from lightning_store.backends.memory.copies import copy_record
from lightning_store.backends.memory.queries import RolloutQueries
from lightning_store.backends.memory.state import FEW
from lightning_store.backends.memory.stored import StoredRollout
from lightning_store.contract import UNSET, Unset
from lightning_store.errors import InvalidRequestError, QueueFullError, RolloutNotFoundError
from lightning_store.query import query_rollouts
from lightning_store.records import (
    DEFAULT_QUEUE,
    AttemptedRollout,
    EnqueueRolloutRequest,
    Rollout,
    RolloutConfig,
    RolloutMode,
    RolloutStatus,
    constructed,
)
from lightning_store.requests import (
    NewRollout,
    check_cancel,
    check_ids,
    check_lease,
    check_prune,
    check_timeout,
    check_worker_id,
    is_name,
    new_rollout,
    parse_cursor,
    rollout_changes,
)
from lightning_store.status import FINISHED


class RolloutOperations(RolloutQueries):
    """Creation, changes and ends of rollouts."""

    # -- creation ----------------------------------------------------------------------------------------------------

    async def enqueue_many_rollouts(
        self, rollouts: Sequence[EnqueueRolloutRequest], *, timeout: float = 0
    ) -> list[Rollout]:
        """See the contract."""
        seconds = check_timeout(timeout)
        wanted = [self._new_rollout(request) for request in rollouts]
        if not wanted:
            return []
        for place, new in enumerate(wanted):
            self._check_payloads(new, f"rollouts[{place}]." if len(wanted) > 1 else "")
        names = tuple(self._queue_limits.among(new.queue for new in wanted))
        may_wait = seconds > 0 and not self._is_closed
        if not (may_wait and self._room.is_waited_for(names)):
            try:
                return self._enqueue(wanted)
            except QueueFullError:
                if not may_wait:
                    raise
        return await self._enqueue_in_line(wanted, names, seconds)

    async def _enqueue_in_line(self, wanted: list[NewRollout], names: tuple[str, ...], seconds: float) -> list[Rollout]:
        """Enqueue when there is room, behind those that wait for the same queues."""
        wait = self._room.join(names, seconds)
        try:
            while True:
                await wait.woken()
                # No await from here to the return: a cancellation cannot come between an enqueue and its answer.
                try:
                    return self._enqueue(wanted)
                except QueueFullError:
                    if wait.is_over or self._is_closed:
                        raise
        finally:
            self._room.leave(wait)

    def _enqueue(self, wanted: list[NewRollout]) -> list[Rollout]:
        now = self._begin()
        digests: dict[str, str | None] = {}
        for new in wanted:
            self._check_id(new)
            if digests.setdefault(new.rollout_id, new.digest) != new.digest:
                raise InvalidRequestError(f"rollout_id: {new.rollout_id} is given twice for different tasks")
        self._check_room(wanted)
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
        self._check_payloads(new, "")
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

    def _check_room(self, wanted: list[NewRollout]) -> None:
        if not self._queue_limits.among(new.queue for new in wanted):
            return
        queues = {new.rollout_id: new.queue for new in wanted if new.rollout_id not in self._state.rollouts}
        counts = Counter(queues.values())
        check_room(self._queue_limits.among(counts), {name: self._state.queues.live(name) for name in counts}, counts)

    def _check_payloads(self, new: NewRollout, prefix: str) -> None:
        self._payloads.task(new.input, f"{prefix}input")
        if new.metadata:
            self._payloads.metadata(new.metadata, f"{prefix}metadata")

    def _create(self, new: NewRollout, status: RolloutStatus, now: float) -> StoredRollout:
        fields = {
            "rollout_id": new.rollout_id,
            "input": new.input,
            "start_time": now,
            "end_time": None,
            "mode": new.mode,
            "resources_id": self._state.latest_resources_id if new.resources_id is None else new.resources_id,
            "status": status,
            "config": new.config,
            "metadata": new.metadata,
            "queue": new.queue,
            "group_id": new.group_id,
        }
        record = constructed(Rollout, fields)
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
        if "input" in changes:
            self._payloads.task(changes["input"], "input")
        if "metadata" in changes:
            self._payloads.metadata(changes["metadata"], "metadata")
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

    async def prune(
        self,
        *,
        older_than_seconds: float | None = None,
        keep_latest: int | None = None,
        status_in: Sequence[RolloutStatus] | None = None,
        consumed_cursor: str | None = None,
    ) -> int:
        """See the contract."""
        check_prune(older_than_seconds, keep_latest, status_in, consumed_cursor)
        now = self._time.note()
        removed = 0
        while doomed := self._outlived(
            older_than_seconds, keep_latest, self._finished(status_in, consumed_cursor), now
        ):
            self._state.settle_due(now, FEW)
            removed += sum(self._delete_if_finished(id, now) for id in doomed)
        return removed

    def _finished(self, status_in: Sequence[RolloutStatus] | None, consumed_cursor: str | None) -> list[StoredRollout]:
        """The finished rollouts that are meant, the oldest finish first."""
        statuses = FINISHED if status_in is None else set(status_in)
        last = math.inf if consumed_cursor is None else parse_cursor(consumed_cursor, "consumed_cursor")[0]
        rollouts = (self._state.rollouts[id] for id in self._state.finish_order)
        return [
            stored
            for stored in rollouts
            if stored.record.status in FINISHED & statuses and stored.completions[-1] <= last
        ]

    def _outlived(
        self, older_than_seconds: float | None, keep_latest: int | None, finished: list[StoredRollout], now: float
    ) -> list[str]:
        """Those that are too old or too many; all of them if neither is limited."""
        if older_than_seconds is None and keep_latest is None:
            keep_latest = 0
        too_many = 0 if keep_latest is None else max(0, len(finished) - keep_latest)
        too_old = math.inf if older_than_seconds is None else older_than_seconds
        return [
            stored.id
            for place, stored in enumerate(finished)
            if place < too_many or now - self._state.log.time_of(stored.completions[-1]) > too_old
        ]

    def _delete_if_finished(self, rollout_id: str, now: float) -> bool:
        stored = self._state.rollouts[rollout_id]
        if stored.record.status not in FINISHED:
            return False
        self._span_memory.clear(stored.shelf)
        self._state.delete(stored, now)
        return True
