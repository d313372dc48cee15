"""One transaction's view of the file, and the one way in which a step of the lifecycle changes it."""

# ruff: noqa: S608 - statements are made of constants of ours; values are arguments

import math
from collections.abc import Collection, Iterable
from typing import Final

from lightning_store import lifecycle
from lightning_store.backends.sqlite import codec
from lightning_store.backends.sqlite.codec import ATTEMPT_COLUMNS, WORKER_COLUMNS
from lightning_store.backends.sqlite.stored import StoredRollout
from lightning_store.backends.sqlite.view import View
from lightning_store.lifecycle import AttemptState, RolloutState, Step
from lightning_store.records import Attempt, EventCause, Rollout, RolloutStatus, Transition, Worker
from lightning_store.status import FINISHED, LIVE, QUEUED

FEW: Final = 10
"""How many due deadlines a call that is about something else settles in passing."""

MANY: Final = 200
"""How many a call settles at a time that settles all."""

ROW_BYTES: Final = 200
"""About what a span takes besides its payload: its row and its entries in two indexes."""

_INSERT_ATTEMPT: Final = (
    f"INSERT INTO attempts (rollout, {', '.join(ATTEMPT_COLUMNS)}) VALUES (?{', ?' * len(ATTEMPT_COLUMNS)})"
)
_PUT_WORKER: Final = (
    f"INSERT INTO workers ({', '.join(WORKER_COLUMNS)}) VALUES (?{', ?' * (len(WORKER_COLUMNS) - 1)}) "
    f"ON CONFLICT (worker_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in WORKER_COLUMNS[1:])}"
)


class State(View):
    """The rollouts, attempts and workers of one transaction."""

    def begin(self, *spared: str) -> None:
        """Begin a call that writes: note the time, and settle a few rollouts in passing, but not those spared.

        What was done until then stays, whatever becomes of the call.
        """
        self.note()
        self.settle_due(FEW, spared)
        self.keep()

    # -- changing ----------------------------------------------------------------------------------------------------

    def create(self, record: Rollout, digest: str | None, input: bytes, metadata: bytes | None) -> StoredRollout:
        """Add a rollout; one that is queued enters its queue."""
        stored = StoredRollout(
            number=0, digest=digest, state=RolloutState(record), attempts=0, latest=None, deadline=None,
            queued_time=self.now, queue_place=None, ready_time=None, finish_number=None, last_sequence_id=0, spans=0,
            span_bytes=0, evicted=0,
        )  # fmt: skip
        if record.status in QUEUED:
            self.queues.enter(stored, None)
        cursor = self.connection.execute(
            "INSERT INTO rollouts (rollout_id, digest, start_time, end_time, mode, resources_id, status, config, "
            "queue, group_id, queued_time, queue_place) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.rollout_id, digest, record.start_time, record.end_time, record.mode, record.resources_id,
                record.status, stored.config(), record.queue, record.group_id, self.now, stored.queue_place,
            ),
        )  # fmt: skip
        stored.number = int(cursor.lastrowid or 0)
        stored.written = stored.values()
        self.connection.execute(
            "INSERT INTO tasks (rollout, input, metadata) VALUES (?, ?, ?)", (stored.number, input, metadata)
        )
        self.remember(stored)
        self.status_counts[record.status] += 1
        return stored

    def save(self, stored: StoredRollout) -> None:
        """Write what differs in the row of a rollout."""
        changes = stored.differences()
        if changes:
            assignments = ", ".join(f"{name} = ?" for name in changes)
            self.connection.execute(
                f"UPDATE rollouts SET {assignments} WHERE number = ?",
                (*changes.values(), stored.number),
            )

    def apply(self, stored: StoredRollout, step: Step, *, reindex: bool = True) -> None:
        """Carry out a step: the records, then queue, deadline, completion log and events that follow.

        Args:
            stored: The rollout.
            step: What becomes of it.
            reindex: The deadline may come earlier than noted; one that only moves later is looked up when it comes due.
        """
        if step.attempt is not None:
            self._set_attempt(stored, step.attempt)
        was = stored.record.status
        stored.state = step.rollout
        status = step.rollout.record.status
        if status != was:
            self.status_counts[was] -= 1
            self.status_counts[status] += 1
        self._requeue(stored, was, step)
        if reindex:
            self.index_deadline(stored)
        if step.cause is not None:
            self.log_event(stored, step.attempt, step.cause)
        if status != was and status in FINISHED:
            self.log_completion(stored)
        self.save(stored)

    def begin_attempt(
        self,
        stored: StoredRollout,
        attempt_id: str,
        worker_id: str | None,
        lease_seconds: float | None,
        *,
        is_claim: bool,
    ) -> Attempt:
        """Start the next attempt of a rollout."""
        step = lifecycle.start_attempt(
            stored.state,
            self.now,
            attempt_id=attempt_id,
            sequence_id=stored.attempts + 1,
            worker_id=worker_id,
            lease_seconds=lease_seconds,
            cause="claimed" if is_claim else "started",
        )
        assert step.attempt is not None  # noqa: S101 - it was started
        stored.attempts += 1
        stored.latest = step.attempt
        self.totals["attempts"] += 1
        self.connection.execute(_INSERT_ATTEMPT, (stored.number, *codec.attempt_to(step.attempt)))
        self.apply(stored, step)
        return step.attempt.record

    def apply_sign_of_life(self, stored: StoredRollout, before: AttemptState, step: Step) -> None:
        """Carry out a step that began with a heartbeat: the noted deadline stays unless it may come earlier."""
        is_latest = before.record.sequence_id == stored.attempts
        came_earlier = before.grace_end is not None or (before.record.last_heartbeat_time or self.now) > self.now
        self.apply(stored, step, reindex=is_latest and (came_earlier or step.cause is not None))

    def _set_attempt(self, stored: StoredRollout, attempt: AttemptState) -> None:
        number = attempt.record.sequence_id
        before = stored.latest if number == stored.attempts else self.find_attempt(stored, attempt.record.attempt_id)
        if number == stored.attempts:
            stored.latest = attempt
        if before is None or before is attempt:
            return
        old, new = codec.attempt_to(before), codec.attempt_to(attempt)
        changes = {name: value for name, value, was in zip(ATTEMPT_COLUMNS, new, old, strict=True) if value != was}
        if changes:
            assignments = ", ".join(f"{name} = ?" for name in changes)
            self.connection.execute(
                f"UPDATE attempts SET {assignments} WHERE rollout = ? AND sequence_id = ?",
                (*changes.values(), stored.number, number),
            )

    def _requeue(self, stored: StoredRollout, was: RolloutStatus, step: Step) -> None:
        status = step.rollout.record.status
        if was in QUEUED and (status not in QUEUED or step.to_head):
            self.queues.leave(stored)
        if step.to_head:
            stored.queued_time = self.now
            self.queues.put_first(stored)
        elif status in QUEUED and was not in QUEUED:
            stored.queued_time = self.now + step.delay_seconds
            self.queues.enter(stored, stored.queued_time if step.delay_seconds > 0 else None)
            self.news.due = min(self.news.due, stored.queued_time)

    def index_deadline(self, stored: StoredRollout) -> None:
        """Keep the noted deadline true; the rollout's row is written by the caller."""
        deadline = lifecycle.deadline_of(stored.record, stored.latest)
        stored.deadline = None if math.isinf(deadline) else deadline
        self.news.due = min(self.news.due, deadline)

    def log_event(self, stored: StoredRollout, attempt: AttemptState | None, cause: EventCause) -> None:
        """Note a transition."""
        cursor = self.connection.execute(
            "INSERT INTO events (time, rollout_id, attempt_id, status, attempt_status, cause) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (
                self.now,
                stored.id,
                None if attempt is None else attempt.record.attempt_id,
                stored.record.status,
                None if attempt is None else attempt.record.status,
                cause,
            ),
        )
        oldest = int(cursor.lastrowid or 0) - self.rules.events_kept
        if oldest > 0:
            self.connection.execute("DELETE FROM events WHERE number <= ?", (oldest,))

    def log_completion(self, stored: StoredRollout) -> None:
        """Note a finish; the rollout's row is written by the caller."""
        self.last_completion += 1
        record = stored.record
        self.connection.execute(
            "INSERT INTO completions (number, rollout, status, mode, group_id, end_time) VALUES (?, ?, ?, ?, ?, ?)",
            (self.last_completion, stored.number, record.status, record.mode, record.group_id, self.now),
        )
        stored.finish_number = self.last_completion
        self.news.finished.add(stored.id)
        self.news.completed = True

    def count_completions(self) -> None:
        """Go on behind the last entry of the completion log."""
        [self.last_completion] = self.values("SELECT ifnull(max(number), 0) FROM completions")

    def count_spans(self, stored: StoredRollout, count: int, size: int) -> None:
        """Note that a rollout has so many more spans, of so many bytes; its row is written by the caller."""
        stored.spans += count
        stored.span_bytes += size
        self.totals["spans"] += count
        self.totals["span_bytes"] += size

    def delete(self, stored: StoredRollout) -> None:
        """Remove a finished rollout with all that belongs to it."""
        for attempt in self.attempts(stored):
            worker = self.find_worker(attempt.record.worker_id or "")
            if worker is not None and attempt.record.status in LIVE:
                self.put_worker(lifecycle.worker_after_deletion(worker, attempt.record, self.now))
        self.connection.execute("DELETE FROM rollouts WHERE number = ?", (stored.number,))
        self.status_counts[stored.record.status] -= 1
        self.totals["attempts"] -= stored.attempts
        self.count_spans(stored, -stored.spans, -stored.span_bytes)
        self.news.finished.add(stored.id)
        self.forget(stored)

    # -- workers -----------------------------------------------------------------------------------------------------

    def put_worker(self, worker: Worker) -> None:
        """Write a worker."""
        self.connection.execute(_PUT_WORKER, codec.worker_to(worker))

    def update_worker_of(self, attempt: Attempt) -> None:
        """What an attempt makes of the worker that is written in it."""
        if attempt.worker_id:
            self.put_worker(lifecycle.worker_after_attempt(self.worker(attempt.worker_id), attempt, self.now))

    # -- settling ----------------------------------------------------------------------------------------------------

    def needs_writing(self, ids: Collection[str] | None) -> bool:
        """Whether a read has to write first: its time, or because these rollouts (None = any) are due."""
        if self.is_note_due():
            return True
        if ids is None:
            return self.is_due()
        due = self.connection.execute("SELECT rollout_id FROM rollouts WHERE deadline < ?", (self.now,))
        wanted = frozenset(ids)
        return any(id in wanted for (id,) in due)

    def settle_before_reading(self, ids: Iterable[str] | None) -> None:
        """Note the time of a read, and settle these rollouts (None = all that is due) if they are due."""
        if self.is_note_due():
            self.note()
        if ids is None:
            self.settle_all()
            return
        for id in ids:
            stored = self.find(id)
            if stored is not None and stored.deadline is not None and stored.deadline < self.now:
                self._settle(stored)

    def settle_due(self, limit: int, spared: Collection[str] = ()) -> list[Transition]:
        """Settle at most `limit` rollouts, earliest deadline first, but not those spared."""
        rows = self.connection.execute(
            "SELECT number, rollout_id FROM rollouts WHERE deadline < ? ORDER BY deadline, rollout_id LIMIT ?",
            (self.now, limit + len(spared)),
        ).fetchall()
        due = [number for number, id in rows if id not in spared][:limit]
        return [end for number in due if (end := self._settle(self.numbered(number))) is not None]

    def settle_all(self) -> None:
        """Settle all that is due, and move all delayed retries that are ready to their queues."""
        while self.overdue():
            self.settle_due(MANY)
        while self.admit_ready(MANY) == MANY:
            pass

    def settle_noted(self) -> None:
        """Settle all that is due while somebody waits; no trace if nothing is."""
        if self.is_due():
            self.note()
            self.settle_all()

    def admit_ready(self, limit: int) -> int:
        """Move at most `limit` delayed retries that are ready to the tails of their queues; how many were moved."""
        rows = self.connection.execute(
            "SELECT number FROM rollouts WHERE ready_time <= ? ORDER BY ready_time, rollout_id LIMIT ?",
            (self.now, limit),
        ).fetchall()
        for (number,) in rows:
            stored = self.numbered(number)
            self.queues.admit(stored)
            self.save(stored)
        return len(rows)

    def overdue(self) -> bool:
        """Whether a deadline has passed."""
        return self._first("SELECT min(deadline) FROM rollouts WHERE deadline IS NOT NULL") < self.now

    def is_due(self) -> bool:
        """Whether a deadline has passed, or a delayed retry is ready."""
        return self.overdue() or self.next_ready() <= self.now

    def next_ready(self) -> float:
        """When the next delayed retry is ready; infinity if there is none."""
        return self._first("SELECT min(ready_time) FROM rollouts WHERE ready_time IS NOT NULL")

    def soonest(self) -> float:
        """When something comes due next by itself; infinity if nothing will."""
        deadline = self._first("SELECT min(deadline) FROM rollouts WHERE deadline IS NOT NULL")
        return min(deadline, self.next_ready())

    def _first(self, question: str) -> float:
        [time] = self.connection.execute(question).fetchone()
        return math.inf if time is None else float(time)

    def _settle(self, stored: StoredRollout) -> Transition | None:
        latest = stored.latest
        if latest is None:  # an attempt-less rollout has no deadline
            stored.deadline = None
            self.save(stored)
            return None
        settled = lifecycle.settle(
            stored.state, latest, self.now, resumed_time=self.resumed_time, grace_seconds=self.rules.grace_seconds
        )
        self._set_attempt(stored, settled.attempt)
        if settled.step is None or settled.step.attempt is None:
            self.index_deadline(stored)
            self.save(stored)
            return None
        self.apply(stored, settled.step)
        ended = settled.step.attempt.record
        self.update_worker_of(ended)
        return lifecycle.transition_of(stored.record, ended, settled.late_seconds)
