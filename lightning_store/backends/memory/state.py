"""What the memory store holds, and the one way in which a step of the lifecycle changes it."""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterator

from lightning_store import lifecycle
from lightning_store.backends.memory.completions import CompletionLog
from lightning_store.backends.memory.consumers import Consumers
from lightning_store.backends.memory.index import CreationIndex, TimeIndex
from lightning_store.backends.memory.namespace_clock import NamespaceClock
from lightning_store.backends.memory.queues import Queues
from lightning_store.backends.memory.spans import SpanShelf
from lightning_store.backends.memory.stored import StoredRollout
from lightning_store.errors import AttemptNotFoundError, RolloutNotFoundError
from lightning_store.lifecycle import AttemptState, RolloutState, Step
from lightning_store.records import (
    Attempt,
    Completion,
    EventCause,
    ResourcesUpdate,
    Rollout,
    RolloutEvent,
    RolloutStatus,
    Transition,
    Worker,
    constructed,
)
from lightning_store.status import FINISHED, QUEUED, ROLLOUT_STATUSES

EVENTS_KEPT = 10_000

FEW = 10
"""How many due deadlines a call that is about something else settles in passing."""

MANY = 200
"""How many a call settles at a time that settles all."""


class MemoryState:
    """All records of a store, their indexes, and the transitions between them. No method waits."""

    def __init__(
        self,
        clock: NamespaceClock,
        grace_seconds: float,
        *,
        on_push: Callable[[str], None],
        on_room: Callable[[str], None],
        on_finish: Callable[[str], None],
    ) -> None:
        """Hold nothing yet.

        Args:
            clock: The time of operations.
            grace_seconds: How much later silence may end after an outage.
            on_push: Called with the name of a queue that gets an entry.
            on_room: Called with the name of a queue that loses an entry.
            on_finish: Called with the id of a rollout that finishes or is deleted.
        """
        self.clock = clock
        self.rollouts: dict[str, StoredRollout] = {}
        self.workers: dict[str, Worker] = {}
        self.resources: dict[str, ResourcesUpdate] = {}
        self.latest_resources_id: str | None = None
        self.by_number: dict[int, StoredRollout] = {}
        self.created = CreationIndex()
        self.by_status: dict[RolloutStatus, CreationIndex] = {status: CreationIndex() for status in ROLLOUT_STATUSES}
        self.by_group: defaultdict[str, CreationIndex] = defaultdict(CreationIndex)
        self.queues = Queues(on_push, on_room)
        self.deadlines = TimeIndex()
        self.log = CompletionLog()
        self.consumers = Consumers()
        self.finish_order: OrderedDict[str, None] = OrderedDict()
        self.events: deque[RolloutEvent] = deque(maxlen=EVENTS_KEPT)
        self.event_count = 0
        self.attempt_count = 0
        self._grace_seconds = grace_seconds
        self._on_finish = on_finish
        self._last_number = 0
        self._with_spans: OrderedDict[str, None] = OrderedDict()

    # -- finding -----------------------------------------------------------------------------------------------------

    def rollout(self, rollout_id: str) -> StoredRollout:
        """A rollout that has to exist.

        Raises:
            RolloutNotFoundError: It does not.
        """
        stored = self.rollouts.get(rollout_id)
        if stored is None:
            raise RolloutNotFoundError(f"Rollout {rollout_id} not found")
        return stored

    def attempt(self, stored: StoredRollout, attempt_id: str) -> AttemptState:
        """An attempt that has to exist.

        Raises:
            AttemptNotFoundError: It does not.
        """
        attempt = stored.attempts.get(attempt_id)
        if attempt is None:
            raise AttemptNotFoundError(f"Attempt {attempt_id} not found")
        return attempt

    def evictable(self, except_id: str) -> Iterator[SpanShelf]:
        """Take the spans of finished rollouts, the oldest finish first, but not those of one rollout.

        Those that a consumer has not passed stay, and what finished after them.
        """
        passed = self.consumers.lowest()
        while True:
            id = next((id for id in self._with_spans if id != except_id), None)
            if id is None:
                return
            stored = self.rollouts[id]
            is_finished = stored.record.status in FINISHED
            if is_finished and passed is not None and stored.completions[-1] > passed:
                return
            del self._with_spans[id]
            if is_finished and stored.shelf.spans:
                stored.shelf.evicted = len(stored.attempts)
                yield stored.shelf

    def note_spans(self, stored: StoredRollout) -> None:
        """Spans of this rollout were stored; if it has finished, they may be evicted."""
        if stored.record.status in FINISHED:
            self._with_spans.setdefault(stored.id)

    # -- changing ----------------------------------------------------------------------------------------------------

    def create(self, record: Rollout, digest: str | None, now: float) -> StoredRollout:
        """Add a rollout; one that is queued enters its queue."""
        self._last_number += 1
        stored = StoredRollout(self._last_number, digest, RolloutState(record), queued_time=now)
        self.rollouts[stored.id] = self.by_number[stored.number] = stored
        self.created.add(stored.number)
        self.by_status[record.status].add(stored.number)
        if record.group_id is not None:
            self.by_group[record.group_id].add(stored.number)
        if record.status in QUEUED:
            self.queues.enter(record.queue, stored.id, None)
        return stored

    def apply(self, stored: StoredRollout, step: Step, now: float, *, reindex: bool = True) -> None:
        """Carry out a step: the records, then indexes, queues, deadline, completion log and events that follow.

        Args:
            stored: The rollout.
            step: What becomes of it.
            now: The time of the step.
            reindex: The deadline may come earlier than noted; one that only moves later is looked up when it comes due.
        """
        if step.attempt is not None:
            self._set_attempt(stored, step.attempt)
        was = stored.record.status
        stored.state = step.rollout
        status = step.rollout.record.status
        if status != was:
            self.by_status[was].remove(stored.number)
            self.by_status[status].add(stored.number)
        self._requeue(stored, was, step, now)
        if reindex:
            self.index_deadline(stored)
        if step.cause is not None:
            self.log_event(stored, step.attempt, step.cause, now)
        if status != was and status in FINISHED:
            self._log_completion(stored, now)

    def begin_attempt(
        self,
        stored: StoredRollout,
        attempt_id: str,
        worker_id: str | None,
        lease_seconds: float | None,
        now: float,
        *,
        is_claim: bool,
    ) -> Attempt:
        """Start the next attempt of a rollout."""
        step = lifecycle.start_attempt(
            stored.state,
            now,
            attempt_id=attempt_id,
            sequence_id=len(stored.attempts) + 1,
            worker_id=worker_id,
            lease_seconds=lease_seconds,
            cause="claimed" if is_claim else "started",
        )
        stored.latest_id = attempt_id
        self.attempt_count += 1
        self.apply(stored, step, now)
        return stored.attempts[attempt_id].record

    def apply_sign_of_life(self, stored: StoredRollout, step: Step, now: float) -> None:
        """Carry out a step that began with a heartbeat: the noted deadline stays unless it may come earlier."""
        id = "" if step.attempt is None else step.attempt.record.attempt_id
        before = stored.attempts[id]
        came_earlier = before.grace_end is not None or (before.record.last_heartbeat_time or now) > now
        self.apply(stored, step, now, reindex=id == stored.latest_id and (came_earlier or step.cause is not None))

    def _set_attempt(self, stored: StoredRollout, attempt: AttemptState) -> None:
        stored.attempts[attempt.record.attempt_id] = attempt

    def _requeue(self, stored: StoredRollout, was: RolloutStatus, step: Step, now: float) -> None:
        record = step.rollout.record
        if was in QUEUED and (record.status not in QUEUED or step.to_head):
            self.queues.leave(record.queue, stored.id)
        if step.to_head:
            stored.queued_time = now
            self.queues.put_first(record.queue, stored.id)
        elif record.status in QUEUED and was not in QUEUED:
            stored.queued_time = now + step.delay_seconds
            self.queues.enter(record.queue, stored.id, stored.queued_time if step.delay_seconds > 0 else None)

    def index_deadline(self, stored: StoredRollout) -> None:
        """Keep the index of deadlines true."""
        self.deadlines.set(stored.id, lifecycle.deadline_of(stored.record, stored.latest))

    def log_event(self, stored: StoredRollout, attempt: AttemptState | None, cause: EventCause, now: float) -> None:
        """Note a transition."""
        self.event_count += 1
        self.events.append(
            constructed(
                RolloutEvent,
                {
                    "time": now,
                    "rollout_id": stored.id,
                    "attempt_id": None if attempt is None else attempt.record.attempt_id,
                    "status": stored.record.status,
                    "attempt_status": None if attempt is None else attempt.record.status,
                    "cause": cause,
                },
            )
        )

    def _log_completion(self, stored: StoredRollout, now: float) -> None:
        record = stored.record
        entry = Completion(
            cursor="",
            rollout_id=stored.id,
            status=record.status,
            mode=record.mode,
            group_id=record.group_id,
            start_time=record.start_time,
            end_time=now,
        )
        stored.completions.append(self.log.append(entry))
        for order in (self.finish_order, self._with_spans):
            order[stored.id] = None
            order.move_to_end(stored.id)
        self._on_finish(stored.id)

    def delete(self, stored: StoredRollout, now: float) -> None:
        """Remove a finished rollout with all that belongs to it but its spans' memory account."""
        for attempt in stored.attempts.values():
            worker = self.workers.get(attempt.record.worker_id or "")
            if worker is not None:
                self.workers[worker.worker_id] = lifecycle.worker_after_deletion(worker, attempt.record, now)
        record = stored.record
        self.log.remove(stored.completions, record.group_id)
        self.queues.forget(record.queue, stored.id)
        self.created.remove(stored.number)
        self.by_status[record.status].remove(stored.number)
        if record.group_id is not None:
            self.by_group[record.group_id].remove(stored.number)
            if not self.by_group[record.group_id]:
                del self.by_group[record.group_id]
        self.deadlines.discard(stored.id)
        self._with_spans.pop(stored.id, None)
        del self.finish_order[stored.id], self.rollouts[stored.id], self.by_number[stored.number]
        self.attempt_count -= len(stored.attempts)
        self._on_finish(stored.id)

    # -- workers -----------------------------------------------------------------------------------------------------

    def worker(self, worker_id: str) -> Worker:
        """A worker, made on first mention."""
        worker = self.workers.get(worker_id)
        if worker is None:
            worker = self.workers[worker_id] = Worker(worker_id=worker_id)
        return worker

    def update_worker_of(self, attempt: Attempt, now: float) -> None:
        """What an attempt makes of the worker that is written in it."""
        if attempt.worker_id:
            worker = lifecycle.worker_after_attempt(self.worker(attempt.worker_id), attempt, now)
            self.workers[attempt.worker_id] = worker

    # -- settling ----------------------------------------------------------------------------------------------------

    def settle_if_due(self, rollout_id: str, now: float) -> None:
        """Settle one rollout if its deadline has passed; unknown ones have none."""
        if self.deadlines.get(rollout_id) < now:
            self._settle(self.rollouts[rollout_id], now)

    def settle_due(self, now: float, limit: int, spared: Collection[str] = ()) -> list[Transition]:
        """Settle at most `limit` rollouts, earliest deadline first, but not those spared."""
        due = self.deadlines.before(now, limit, spared)
        return [end for id in due if (end := self._settle(self.rollouts[id], now)) is not None]

    def settle_all(self, now: float) -> None:
        """Settle all that is due, and move all delayed retries that are ready to their queues."""
        while self.deadlines.soonest() < now:
            self.settle_due(now, MANY)
        while self.queues.soonest() <= now:
            self.admit_ready(now, MANY)

    def admit_ready(self, now: float, limit: int) -> None:
        """Move at most `limit` delayed retries that are ready to the tails of their queues."""
        for id in self.queues.ready(now, limit):
            self.queues.admit(self.rollouts[id].record.queue, id)

    def soonest(self) -> float:
        """When something comes due next by itself; infinity if nothing will."""
        return min(self.deadlines.soonest(), self.queues.soonest())

    def _settle(self, stored: StoredRollout, now: float) -> Transition | None:
        latest = stored.latest
        if latest is None:  # an attempt-less rollout has no deadline
            self.deadlines.discard(stored.id)
            return None
        settled = lifecycle.settle(
            stored.state, latest, now, resumed_time=self.clock.resumed_time, grace_seconds=self._grace_seconds
        )
        self._set_attempt(stored, settled.attempt)
        if settled.step is None or settled.step.attempt is None:
            self.index_deadline(stored)
            return None
        self.apply(stored, settled.step, now)
        ended = settled.step.attempt.record
        self.update_worker_of(ended, now)
        return lifecycle.transition_of(stored.record, ended, settled.late_seconds)
