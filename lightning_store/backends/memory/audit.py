"""The audit of the memory store: its indexes, queues, counters and logs against the records themselves."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from lightning_store import lifecycle
from lightning_store.backends.memory.index import CreationIndex
from lightning_store.backends.memory.spans import SpanMemory
from lightning_store.backends.memory.state import MemoryState
from lightning_store.backends.memory.stored import StoredRollout
from lightning_store.findings import Findings
from lightning_store.records import AuditRule
from lightning_store.status import BUSY, FINISHED, IDLE, LIVE, QUEUED, STAMPS_END_TIME


class MemoryAudit:
    """One audit, in one step: nothing comes between its looks."""

    def __init__(self, state: MemoryState, span_memory: SpanMemory) -> None:
        self.findings: Final = Findings()
        self._state = state
        self._span_memory = span_memory
        self._rollouts = state.rollouts
        self._log = state.log.numbered()

    def run(self) -> Findings:
        """Look at everything."""
        for stored in self._rollouts.values():
            self._check_attempts(stored)
            self._check_deadline(stored)
            self._check_finish(stored)
            self._check_spans(stored)
        for check in (self._check_indexes, self._check_queues, self._check_rest, self._check_workers):
            check()
        return self.findings

    def _compare(self, rule: AuditRule, what: str, found: Iterable[Any], expected: Iterable[Any]) -> None:
        """Two collections must hold the same, each as often."""
        there, wanted = Counter(iter(found)), Counter(iter(expected))  # mappings would count as themselves
        for id in wanted - there:
            self.findings.add(rule, str(id), f"is missing from {what}")
        for id in there - wanted:
            self.findings.add(rule, str(id), f"lies in {what}")

    def _expect(self, rule: AuditRule, id: str, what: str, value: object, expected: object) -> None:
        if value != expected:
            self.findings.add(rule, id, f"has {what} {value}, expected {expected}")

    # -- one rollout -------------------------------------------------------------------------------------------------

    def _check_attempts(self, stored: StoredRollout) -> None:
        attempts = list(stored.attempts.values())
        kinds = [attempt.uncounted for attempt in attempts if attempt.uncounted]
        last = attempts[-1].record.attempt_id if attempts else None
        self._expect("attempts", stored.id, "the latest attempt", stored.latest_id, last)
        self._expect("attempts", stored.id, "uncounted attempts", stored.state.uncounted, len(kinds))
        self._expect("attempts", stored.id, "lost attempts", stored.state.losses, kinds.count("lost"))
        for number, (id, attempt) in enumerate(stored.attempts.items(), 1):
            record, name = attempt.record, f"{stored.id}:{id}"
            self._expect("attempts", name, "the id", record.attempt_id, id)
            self._expect("attempts", name, "the number", record.sequence_id, number)
            self._expect("attempts", name, "a cause", record.cause is not None, record.status not in LIVE)
            if record.status in STAMPS_END_TIME and record.end_time is None:
                self.findings.add("record", name, f"is {record.status} without an end")

    def _check_deadline(self, stored: StoredRollout) -> None:
        """Lazy deadlines lie before the true one, never behind it; without limits there is none."""
        latest = stored.attempts.get(stored.latest_id or "")
        noted, true = self._state.deadlines.get(stored.id), lifecycle.deadline_of(stored.record, latest)
        if noted > true or (math.isinf(true) and noted != true):
            self.findings.add("deadline", stored.id, f"has the deadline {noted}, in truth {true}")

    def _check_finish(self, stored: StoredRollout) -> None:
        status, is_finished = stored.record.status, stored.record.status in FINISHED
        entries = [self._log.get(number) for number in stored.completions]
        if any(entry is None or entry.rollout_id != stored.id for entry in entries):
            self.findings.add("completion", stored.id, "has finished before, which the completion log has no more")
        last = entries[-1] if entries else None
        if is_finished and (last is None or last.status != status):
            self.findings.add("completion", stored.id, f"is {status}, which the completion log does not have")
        self._expect("completion", stored.id, "an end", stored.record.end_time is not None, is_finished)

    def _check_spans(self, stored: StoredRollout) -> None:
        shelf = stored.shelf
        stored_ids = [(span.attempt_id, span.span_id) for span in shelf.spans]
        self._compare("spans", f"the span ids of {stored.id}", shelf.known, stored_ids)
        dropped = {id for id, attempt in stored.attempts.items() if attempt.record.sequence_id <= shelf.evicted}
        self._compare("spans", f"the evicted spans of {stored.id}", {s.attempt_id for s in shelf.spans} & dropped, ())
        unknown = {span.attempt_id for span in shelf.spans} - stored.attempts.keys()
        self._compare("spans", f"the spans of {stored.id}", unknown, ())
        if max((span.sequence_id for span in shelf.spans), default=0) > shelf.last_sequence_id:
            self.findings.add("spans", stored.id, f"counts to {shelf.last_sequence_id} and has a later span")

    # -- all of them -------------------------------------------------------------------------------------------------

    def _check_indexes(self) -> None:
        state, all_of_them = self._state, self._rollouts.values()
        self._check_index("the index of all", state.created, all_of_them)
        for status, index in state.by_status.items():
            mine = [stored for stored in all_of_them if stored.record.status == status]
            self._check_index(f"the index {status}", index, mine)
        groups: dict[str, list[StoredRollout]] = {group: [] for group in state.by_group}
        for stored in all_of_them:
            if stored.record.group_id is not None:
                groups.setdefault(stored.record.group_id, []).append(stored)
        for group, mine in groups.items():
            self._check_index(f"the group {group}", state.by_group.get(group, CreationIndex()), mine)
        numbers = {(stored.number, stored.id) for stored in all_of_them}
        self._compare("record", "the creation numbers", [(n, each.id) for n, each in state.by_number.items()], numbers)

    def _check_index(self, what: str, index: CreationIndex, members: Iterable[StoredRollout]) -> None:
        known = self._state.by_number
        found = [known[number].id if number in known else f"number {number}" for number in index]
        self._compare("status_index", what, found, [stored.id for stored in members])

    def _check_queues(self) -> None:
        delayed, queues = self._state.queues.delayed(), dict(self._state.queues.items())
        live, waiting = Counter[str](), Counter[str]()
        for stored in self._rollouts.values():
            name, is_queued = stored.record.queue, stored.record.status in QUEUED
            is_listed = name in queues and stored.id in queues[name].entries
            if (is_listed and is_queued) + (stored.id in delayed) != is_queued:
                self.findings.add("queue", stored.id, f"is {stored.record.status} and cannot be claimed exactly once")
            live[name] += is_queued and is_listed
            waiting[name] += stored.id in delayed
        for name, queue in queues.items():
            mine = [id for id in queue.entries if id in self._rollouts and self._rollouts[id].record.queue == name]
            self._compare("queue", f"the queue {name}", queue.entries, mine)
            self._expect("counter", name, "live entries", queue.live, live[name])
            self._expect("counter", name, "delayed retries", queue.delayed, waiting[name])
        self._compare("queue", "the delayed retries", delayed - self._rollouts.keys(), ())

    def _check_rest(self) -> None:
        """What belongs to nothing, and what is counted in all."""
        state, rollouts = self._state, self._rollouts.values()
        noted = [(number, stored.id) for stored in rollouts for number in stored.completions]
        self._compare("completion", "the log", [(n, entry.rollout_id) for n, entry in self._log.items()], noted)
        finished = [stored.id for stored in rollouts if stored.completions]
        self._compare("completion", "the order of finishes", state.finish_order, finished)
        self._compare("deadline", "the deadlines", set(state.deadlines) - self._rollouts.keys(), ())
        counts = (
            ("attempts", state.attempt_count, sum(len(stored.attempts) for stored in rollouts)),
            ("spans", self._span_memory.count, sum(len(stored.shelf.spans) for stored in rollouts)),
            ("bytes of spans", self._span_memory.used, sum(stored.shelf.size for stored in rollouts)),
        )
        for what, counted, true in counts:
            self._expect("counter", what, "the value", counted, true)
        latest = state.latest_resources_id
        if latest is not None and latest not in state.resources:
            self.findings.add("resources", latest, "is noted as the latest, and does not exist")

    def _check_workers(self) -> None:
        allowed = {BUSY: {2}, IDLE: {0}}
        for id, worker in self._state.workers.items():
            holds = (worker.current_rollout_id is not None) + (worker.current_attempt_id is not None)
            if holds not in allowed.get(worker.status, {0, 2}):
                self.findings.add("worker", id, f"is {worker.status} and holds {worker.current_rollout_id}")
