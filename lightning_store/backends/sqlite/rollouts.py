"""Operations that create, change and remove rollouts of the SQLite store."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from lightning_store import lifecycle
from lightning_store.admission import QueueLimits, check_room
from lightning_store.backends.sqlite.claims import MAX_NUMBER, attempted, fresh_attempt_id
from lightning_store.backends.sqlite.filters import Conditions, in_chunks
from lightning_store.backends.sqlite.queries import RolloutQueries
from lightning_store.backends.sqlite.state import FEW, State
from lightning_store.backends.sqlite.stored import StoredRollout
from lightning_store.clock import IdSource
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

STEP: Final = 500
"""Rollouts that one transaction cancels or removes, so that others come in between."""

_FINISHED_LIST: Final = ", ".join(f"'{status}'" for status in sorted(FINISHED))


class Encoded(NamedTuple):
    """A rollout that is to be created, and its payloads as they are stored."""

    new: NewRollout
    input: bytes
    metadata: bytes


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
        encoded = [self._encoded(new, f"rollouts[{place}]." if len(wanted) > 1 else "") for place, new in enumerate(wanted)]
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
            given = _with_fresh_id(state, encoded, ids)
            stored = _same_task(state, given.new)
            if stored is None:
                stored = _create(state, given, "preparing")
                _begin_attempt(state, stored, ids, worker_id, lease_seconds)
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
            _begin_attempt(state, stored, ids, worker_id, lease_seconds)
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
        payloads = {}
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
                    f"UPDATE tasks SET {column} = ? WHERE rollout = ?",  # noqa: S608 - one of two columns
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
            question = f"SELECT rollout_id FROM rollouts {where}ORDER BY number"  # noqa: S608
            candidates = await self._read(lambda state: state.values(question, arguments))
        else:
            candidates = [id for id in dict.fromkeys(check_ids(rollout_ids, "rollout_ids")) if is_name(id)]
        statuses = None if status_in is None else frozenset(status_in)
        cancelled: list[str] = []
        for chunk in in_chunks(candidates, STEP):
            cancelled += await self._write(partial(_cancel, ids=chunk, group_id=group_id, statuses=statuses))
        return cancelled

    async def delete_rollouts(self, rollout_ids: Sequence[str]) -> list[str]:
        """See the contract."""
        ids = [id for id in dict.fromkeys(check_ids(rollout_ids, "rollout_ids")) if is_name(id)]
        deleted: list[str] = []
        for chunk in in_chunks(ids, STEP):
            deleted += await self._write(partial(_delete, ids=chunk))
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
                partial(_prune, meant=meant, older_than_seconds=older_than_seconds, keep_latest=keep_latest)
            )
            removed += count
            if count < STEP:
                return removed


def enqueue(state: State, wanted: list[Encoded], limits: QueueLimits, ids: IdSource) -> list[Rollout]:
    """Create rollouts at the tail of their queues; all of them or none."""
    state.begin()
    wanted = [_with_fresh_id(state, each, ids) for each in wanted]
    digests: dict[str, str | None] = {}
    for each in wanted:
        _same_task(state, each.new)
        if digests.setdefault(each.new.rollout_id, each.new.digest) != each.new.digest:
            raise InvalidRequestError(f"rollout_id: {each.new.rollout_id} is given twice for different tasks")
    queues = {each.new.rollout_id: each.new.queue for each in wanted if state.find(each.new.rollout_id) is None}
    counts = Counter(queues.values())
    check_room(limits.among(counts), {name: state.queues.live(name) for name in counts}, counts)
    return [_enqueue_one(state, each) for each in wanted]


def _enqueue_one(state: State, given: Encoded) -> Rollout:
    stored = state.find(given.new.rollout_id)
    if stored is not None:
        return state.complete(stored)
    stored = _create(state, given, "queuing")
    state.log_event(stored, None, "enqueued")
    return lifecycle.changed(stored.record, input=given.new.input, metadata=given.new.metadata)


def _with_fresh_id(state: State, given: Encoded, ids: IdSource) -> Encoded:
    """The same with an id that is not taken, unless the caller gave one."""
    while given.new.digest is None and state.find(given.new.rollout_id) is not None:
        given = given._replace(new=given.new._replace(rollout_id=ids.rollout_id()))
    return given


def _same_task(state: State, new: NewRollout) -> StoredRollout | None:
    """The rollout that has the id already; None if there is none.

    Raises:
        InvalidRequestError: It is another task.
    """
    stored = state.find(new.rollout_id)
    if stored is not None and stored.digest != new.digest:
        raise InvalidRequestError(
            f"rollout_id: {new.rollout_id} exists with another input or config; expected a new id or the same task"
        )
    return stored


def _create(state: State, given: Encoded, status: RolloutStatus) -> StoredRollout:
    new = given.new
    record = constructed(
        Rollout,
        {
            "rollout_id": new.rollout_id,
            "input": None,
            "start_time": state.now,
            "end_time": None,
            "mode": new.mode,
            "resources_id": state.latest_resources_id if new.resources_id is None else new.resources_id,
            "status": status,
            "config": new.config,
            "metadata": None,
            "queue": new.queue,
            "group_id": new.group_id,
        },
    )
    return state.create(record, new.digest, given.input, given.metadata)


def _begin_attempt(
    state: State, stored: StoredRollout, ids: IdSource, worker_id: str | None, lease_seconds: float | None
) -> None:
    attempt_id = fresh_attempt_id(state, stored, ids)
    attempt = state.begin_attempt(stored, attempt_id, worker_id, lease_seconds, is_claim=False)
    state.update_worker_of(attempt)


def _cancel(
    state: State, ids: Sequence[str], group_id: str | None, statuses: frozenset[RolloutStatus] | None
) -> list[str]:
    """Cancel those of the rollouts that meet the conditions now."""
    state.begin()
    cancelled = []
    for id in ids:
        stored = state.find(id)
        if stored is None or stored.record.status in FINISHED or group_id not in (None, stored.record.group_id):
            continue
        if statuses is None or stored.record.status in statuses:
            changes = {"status": "cancelled"}
            step = lifecycle.update_rollout(stored.state, stored.latest, changes, state.now, "cancelled")
            state.apply(stored, step)
            cancelled.append(id)
    return cancelled


def _delete(state: State, ids: Sequence[str]) -> list[str]:
    """Remove those of the rollouts that have finished."""
    state.begin()
    return [id for id in ids if _delete_if_finished(state, state.find(id))]


def _delete_if_finished(state: State, stored: StoredRollout | None) -> bool:
    if stored is None or stored.record.status not in FINISHED:
        return False
    state.delete(stored)
    return True


def _prune(
    state: State, meant: tuple[str, tuple[Any, ...]], older_than_seconds: float | None, keep_latest: int | None
) -> int:
    """Remove the first of those that are too many or too old, the oldest finish first; how many were removed."""
    state.note()
    doomed = _outlived(state, meant, older_than_seconds, keep_latest)
    if not doomed:
        return 0
    state.settle_due(FEW)
    return sum(_delete_if_finished(state, state.numbered(number)) for number in doomed)


def _outlived(
    state: State, meant: tuple[str, tuple[Any, ...]], older_than_seconds: float | None, keep_latest: int | None
) -> list[int]:
    where, arguments = meant
    too_many = 0
    if keep_latest is not None:
        [count] = state.values(f"SELECT count(*) FROM rollouts r {where}", arguments)  # noqa: S608
        too_many = max(0, count - keep_latest)
    too_old = math.inf if older_than_seconds is None else older_than_seconds
    rows = state.connection.execute(
        "SELECT r.number, c.end_time FROM rollouts r JOIN completions c ON c.number = r.finish_number "
        f"{where}ORDER BY r.finish_number LIMIT ?",  # noqa: S608
        (*arguments, STEP),
    ).fetchall()
    return [
        number for place, (number, end_time) in enumerate(rows) if place < too_many or state.now - end_time > too_old
    ]
