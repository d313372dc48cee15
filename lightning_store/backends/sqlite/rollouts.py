"""Operations that create, change and remove rollouts of the SQLite store."""

# ruff: noqa: S608 - statements are made of constants of ours; values are arguments

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from lightning_store import lifecycle
from lightning_store.backends.sqlite.claims import MAX_NUMBER, attempted
from lightning_store.backends.sqlite.creation import Encoded, begin_attempt, create, enqueue, same_task, with_fresh_id
from lightning_store.backends.sqlite.filters import Conditions, in_chunks
from lightning_store.backends.sqlite.queries import RolloutQueries
from lightning_store.backends.sqlite.removal import STEP, cancel, delete, prune
from lightning_store.backends.sqlite.state import State
from lightning_store.contract import UNSET, Unset
from lightning_store.errors import InvalidRequestError, QueueFullError, RolloutNotFoundError
from lightning_store.jsonvalue import compressed, dump_json
from lightning_store.query import check_query
from lightning_store.records import (
    DEFAULT_QUEUE,
    AttemptedRollout,
    EnqueueRolloutRequest,
    Rollout,
    RolloutConfig,
    RolloutMode,
    RolloutStatus,
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

_FINISHED_LIST: Final = ", ".join(f"'{status}'" for status in sorted(FINISHED))


class RolloutOperations(RolloutQueries):
    """Creation, changes and ends of rollouts."""

    # -- creation ----------------------------------------------------------------------------------------------------

    async def enqueue_many_rollouts(
        self, rollouts: Sequence[EnqueueRolloutRequest], *, timeout: float = 0
    ) -> list[Rollout]:
        """See the contract."""
        seconds = check_timeout(timeout)
        wanted = [new_rollout(request, self.ids) for request in rollouts]
        if not wanted:
            return []
        encoded = [
            self._encoded(new, f"rollouts[{place}]." if len(wanted) > 1 else "") for place, new in enumerate(wanted)
        ]
        names = tuple(self._queue_limits.among(new.queue for new in wanted))
        enqueue_them = partial(enqueue, wanted=encoded, limits=self._queue_limits, ids=self.ids)
        if seconds == 0 or not self._board.is_room_waited_for(names):
            try:
                return await self._write(enqueue_them)
            except QueueFullError:
                if seconds == 0:
                    raise
        return await self._enqueue_in_line(enqueue_them, names, seconds)

    async def _enqueue_in_line(
        self, enqueue_them: Callable[[State], list[Rollout]], names: tuple[str, ...], seconds: float
    ) -> list[Rollout]:
        """Enqueue when there is room, behind those that wait for the same queues."""
        wait = self._board.join_producers(names, seconds)
        try:
            self._watch()
            while True:
                await wait.woken()
                try:
                    return await self._write(enqueue_them)
                except QueueFullError:
                    if wait.is_over:
                        raise
        finally:
            self._board.leave_producers(wait)

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
        encoded = self._encoded(new_rollout(request, self.ids), "")
        worker_id, lease_seconds = check_worker_id(worker_id), check_lease(lease_seconds)
        ids = self.ids

        def start(state: State) -> AttemptedRollout:
            state.begin()
            given = with_fresh_id(state, encoded, ids)
            stored = same_task(state, given.new)
            if stored is None:
                stored = create(state, given, "preparing")
                begin_attempt(state, stored, ids, worker_id, lease_seconds)
            elif stored.latest is None:
                raise InvalidRequestError(f"rollout_id: {given.new.rollout_id} is queued; expected a new id")
            return attempted(state, stored)

        return await self._write(start)

    async def start_attempt(
        self, rollout_id: str, worker_id: str | None = None, *, lease_seconds: float | None = None
    ) -> AttemptedRollout:
        """See the contract."""
        worker_id, lease_seconds = check_worker_id(worker_id), check_lease(lease_seconds)
        ids = self.ids

        def start(state: State) -> AttemptedRollout:
            state.begin()
            stored = state.rollout(rollout_id)
            begin_attempt(state, stored, ids, worker_id, lease_seconds)
            return attempted(state, stored)

        return await self._write(start)

    def _encoded(self, new: NewRollout, prefix: str) -> Encoded:
        input = compressed(self._payloads.task(new.input, f"{prefix}input"))
        return Encoded(new, input, compressed(self._payloads.metadata(new.metadata, f"{prefix}metadata")))

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
        payloads: dict[str, bytes | None] = {}
        if "input" in changes:
            payloads["input"] = compressed(self._payloads.task(changes["input"], "input"))
        if "metadata" in changes:
            self._payloads.metadata(changes["metadata"], "metadata")
            payloads["metadata"] = None if changes["metadata"] is None else dump_json(changes["metadata"])

        def update(state: State) -> Rollout:
            state.begin(rollout_id)
            stored = state.find(rollout_id)
            if stored is None:
                raise RolloutNotFoundError(f"Item {rollout_id} does not exist")
            for column, value in payloads.items():
                state.connection.execute(
                    f"UPDATE tasks SET {column} = ? WHERE rollout = ?",
                    (value, stored.number),
                )
            latest = stored.latest
            state.apply(stored, lifecycle.update_rollout(stored.state, latest, changes, state.now, "updated"))
            return state.complete(stored)

        return await self._write(update)

    async def cancel_rollouts(
        self,
        rollout_ids: Sequence[str] | None = None,
        *,
        group_id: str | None = None,
        status_in: Sequence[RolloutStatus] | None = None,
    ) -> list[str]:
        """See the contract."""
        check_cancel(rollout_ids, group_id, status_in)
        check_query("and", "asc", -1, 0, status_in)
        conditions = Conditions()
        conditions.is_in("status", status_in, "status")
        conditions.equals("group_id", group_id)
        if rollout_ids is None:
            where, arguments = conditions.where(f"status NOT IN ({_FINISHED_LIST})")
            question = f"SELECT rollout_id FROM rollouts {where}ORDER BY number"
            candidates = await self._read(lambda state: state.values(question, arguments))
        else:
            candidates = [id for id in dict.fromkeys(check_ids(rollout_ids, "rollout_ids")) if is_name(id)]
        statuses = None if status_in is None else frozenset(status_in)
        cancelled: list[str] = []
        for chunk in in_chunks(candidates, STEP):
            cancelled += await self._write(partial(cancel, ids=chunk, group_id=group_id, statuses=statuses))
        return cancelled

    async def delete_rollouts(self, rollout_ids: Sequence[str]) -> list[str]:
        """See the contract."""
        ids = [id for id in dict.fromkeys(check_ids(rollout_ids, "rollout_ids")) if is_name(id)]
        deleted: list[str] = []
        for chunk in in_chunks(ids, STEP):
            deleted += await self._write(partial(delete, ids=chunk))
        return deleted

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
        if older_than_seconds is None and keep_latest is None:
            keep_latest = 0
        last = MAX_NUMBER if consumed_cursor is None else parse_cursor(consumed_cursor, "consumed_cursor")[0]
        statuses = FINISHED if status_in is None else FINISHED & frozenset(status_in)
        conditions = Conditions()
        conditions.is_in("r.status", sorted(statuses), "status_in")
        meant = conditions.where("r.finish_number IS NOT NULL AND r.finish_number <= ?", min(last, MAX_NUMBER))
        removed = 0
        while True:
            count = await self._write(
                partial(prune, meant=meant, older_than_seconds=older_than_seconds, keep_latest=keep_latest)
            )
            removed += count
            if count < STEP:
                return removed
