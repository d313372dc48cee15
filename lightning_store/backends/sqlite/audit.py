"""The audit of the file: its counts, queues, deadlines and logs against the records themselves, as questions in SQL.

Without repair it reads one snapshot, so that work goes on meanwhile and still makes no finding; with repair it is one
transaction that writes, for which others wait.
"""

# ruff: noqa: S608 - statements are made of constants of ours; values are arguments

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lightning_store import lifecycle
from lightning_store.backends.sqlite.state import ROW_BYTES, State
from lightning_store.findings import Findings
from lightning_store.records import AuditRule
from lightning_store.status import BUSY, FINISHED, IDLE, LIVE, QUEUED, STAMPS_END_TIME

Suspects = Sequence[tuple[Any, ...]]
"""Of each: the id, what is wrong, and what `mend` needs."""


def _listed(statuses: frozenset[Any]) -> str:
    return ", ".join(f"'{status}'" for status in sorted(statuses))


_FINISHED, _QUEUED, _LIVE, _STAMPED = map(_listed, (FINISHED, QUEUED, LIVE, STAMPS_END_TIME))


def _each(statement: str) -> Callable[[State, Suspects], None]:
    """A mend by a statement whose arguments are those of the suspects."""

    def mend(state: State, suspects: Suspects) -> None:
        state.connection.executemany(statement, [suspect[2:] for suspect in suspects])

    return mend


def _put_in_queue(state: State, suspects: Suspects) -> None:
    for suspect in suspects:
        stored = state.numbered(suspect[2])
        stored.ready_time = stored.queue_place = None
        stored.queued_time = state.now
        state.queues.enter(stored, None)
        state.save(stored)
    state.queues.forget_counts()


def _complete(state: State, suspects: Suspects) -> None:
    for suspect in suspects:
        stored = state.numbered(suspect[2])
        state.log_completion(stored)
        state.save(stored)


def _deadlines(state: State) -> Suspects:
    """Lazy deadlines lie before the true one, never behind it; without limits there is none."""
    numbers = state.values(
        "SELECT r.number FROM rollouts r LEFT JOIN attempts a ON a.rollout = r.number AND a.sequence_id = r.attempts "
        f"WHERE r.deadline IS NOT NULL OR a.status IN ({_LIVE})"
    )
    found = []
    for number in numbers:
        stored = state.numbered(number)
        true = lifecycle.deadline_of(stored.record, stored.latest)
        noted = math.inf if stored.deadline is None else stored.deadline
        if noted > true or (math.isinf(true) and noted != true):
            found.append((stored.id, f"has the deadline {noted}, in truth {true}", number))
    return found


def _watch(state: State, suspects: Suspects) -> None:
    for suspect in suspects:
        stored = state.numbered(suspect[2])
        state.index_deadline(stored)
        state.save(stored)


def _integrity(state: State) -> Suspects:
    """What SQLite itself finds wrong with the file."""
    return [("file", text) for text in state.values("PRAGMA integrity_check(10)") if text != "ok"]


def _orphans(state: State) -> Suspects:
    rows = state.connection.execute("PRAGMA foreign_key_check").fetchall()
    return [(f"{table}:{row}", f"belongs to no {parent}") for table, row, parent, _ in rows]


def _delete_orphans(state: State, _suspects: Suspects) -> None:
    for table in ("tasks", "attempts", "completions", "spans"):
        state.connection.execute(f"DELETE FROM {table} WHERE rollout NOT IN (SELECT number FROM rollouts)")


@dataclass(frozen=True)
class Check:
    """One rule, or a part of it.

    Attributes:
        find: Finds what breaks it: a question whose columns are those of `Suspects`, or a function.
        mend: Mends what was found; None = what is left does not tell how it was.
    """

    rule: AuditRule
    find: str | Callable[[State], Suspects]
    mend: Callable[[State, Suspects], None] | None = None

    def suspects(self, state: State) -> Suspects:
        """What breaks the rule now."""
        state.flush()
        return state.connection.execute(self.find).fetchall() if isinstance(self.find, str) else self.find(state)


def _attempts_of(column: str, counted: str) -> Check:
    """A number in the row of a rollout that its attempts tell."""
    true = f"(SELECT {counted} FROM attempts a WHERE a.rollout = r.number)"
    return Check(
        "attempts",
        f"SELECT rollout_id, 'has {column} ' || {column} || ', expected ' || {true}, {true}, number "
        f"FROM rollouts r WHERE {column} <> {true}",
        _each(f"UPDATE rollouts SET {column} = ? WHERE number = ?"),
    )


def _total(column: str, counted: str) -> Check:
    """A number in `meta` that the records tell."""
    return Check(
        "counter",
        f"SELECT '{column}', 'has the value ' || {column} || ', expected ' || ({counted}), ({counted}) "
        f"FROM meta WHERE {column} <> ({counted})",
        _each(f"UPDATE meta SET {column} = ?"),
    )


def _in_queue(column: str, waits: str) -> Check:
    """A count of a queue."""
    true = f"(SELECT count(*) FROM rollouts WHERE queue = q.name AND status IN ({_QUEUED}) AND {waits})"
    return Check(
        "counter",
        f"SELECT name, 'has {column} ' || {column} || ', expected ' || {true}, {true}, name "
        f"FROM queues q WHERE {column} <> {true}",
        _each(f"UPDATE queues SET {column} = ? WHERE name = ?"),
    )


CHECKS: Final = (
    Check("record", _integrity),
    Check("orphan", _orphans, _delete_orphans),
    Check(
        "record",
        "SELECT rollout_id, 'has no task' FROM rollouts WHERE number NOT IN (SELECT rollout FROM tasks)",
    ),
    Check(
        "record",
        "SELECT r.rollout_id || ':' || a.attempt_id, 'is ' || a.status || ' without an end' FROM attempts a "
        f"JOIN rollouts r ON r.number = a.rollout WHERE a.status IN ({_STAMPED}) AND a.end_time IS NULL",
    ),
    Check(
        "attempts",
        f"""
        SELECT r.rollout_id || ':' || a.attempt_id,
        'is ' || a.status || ' and has the cause ' || ifnull(a.cause, 'none')
        FROM attempts a JOIN rollouts r ON r.number = a.rollout WHERE (a.cause IS NULL) <> (a.status IN ({_LIVE}))
        """,
    ),
    Check(
        "attempts",
        "SELECT r.rollout_id, 'has gaps in the numbers of its attempts' FROM rollouts r WHERE "
        "(SELECT count(*) FROM attempts a WHERE a.rollout = r.number) <> "
        "(SELECT ifnull(max(a.sequence_id), 0) FROM attempts a WHERE a.rollout = r.number)",
    ),
    _attempts_of("attempts", "ifnull(max(a.sequence_id), 0)"),
    _attempts_of("uncounted", "count(a.uncounted)"),
    _attempts_of("losses", "ifnull(sum(a.uncounted IS 'lost'), 0)"),
    Check(
        "queue",
        "SELECT rollout_id, 'is ' || status || ' and cannot be claimed exactly once', number FROM rollouts "
        f"WHERE status IN ({_QUEUED}) AND (queue_place IS NULL) = (ready_time IS NULL)",
        _put_in_queue,
    ),
    Check(
        "queue",
        "SELECT rollout_id, 'is ' || status || ' and waits for a delay', number FROM rollouts "
        f"WHERE status NOT IN ({_QUEUED}) AND ready_time IS NOT NULL",
        _each("UPDATE rollouts SET ready_time = NULL WHERE number = ?"),
    ),
    Check(
        "queue",
        "SELECT DISTINCT r.queue, 'is not listed', r.queue FROM rollouts r WHERE "
        "(r.queue_place IS NOT NULL OR r.ready_time IS NOT NULL) AND r.queue NOT IN (SELECT name FROM queues)",
        _each("INSERT INTO queues (name) VALUES (?)"),
    ),
    _in_queue("live", "queue_place IS NOT NULL"),
    _in_queue("delayed", "ready_time IS NOT NULL"),
    Check("deadline", _deadlines, _watch),
    Check(
        "completion",
        "SELECT 'the log', 'counts to ' || last_completion || ' and has a later entry' FROM meta "
        "WHERE last_completion < (SELECT ifnull(max(number), 0) FROM completions)",
        lambda state, _: state.count_completions(),
    ),
    Check(
        "completion",
        "SELECT r.rollout_id, 'is ' || r.status || ', which the completion log does not have', r.number "
        "FROM rollouts r LEFT JOIN completions c ON c.number = r.finish_number AND c.rollout = r.number "
        f"WHERE r.status IN ({_FINISHED}) AND c.status IS NOT r.status",
        _complete,
    ),
    Check(
        "completion",
        "SELECT r.rollout_id, 'does not know its last entry in the completion log', "
        "(SELECT max(c.number) FROM completions c WHERE c.rollout = r.number), r.number FROM rollouts r "
        "WHERE r.finish_number IS NOT (SELECT max(c.number) FROM completions c WHERE c.rollout = r.number)",
        _each("UPDATE rollouts SET finish_number = ? WHERE number = ?"),
    ),
    Check(
        "completion",
        f"""
        SELECT r.rollout_id, 'is ' || r.status || iif(r.end_time IS NULL, ' without an end', ' and has an end'),
        (SELECT c.end_time FROM completions c WHERE c.number = r.finish_number), r.status, r.number
        FROM rollouts r WHERE (r.end_time IS NOT NULL) <> (r.status IN ({_FINISHED}))
        """,
        _each(f"UPDATE rollouts SET end_time = CASE WHEN ?2 IN ({_FINISHED}) THEN ?1 END WHERE number = ?3"),
    ),
    Check(
        "spans",
        f"""
        SELECT r.rollout_id, 'counts ' || r.spans || ' spans of ' || r.span_bytes || ' bytes and has ' || t.spans
        || ' of ' || t.bytes, t.spans, t.bytes, r.number
        FROM rollouts r JOIN (
            SELECT o.number, count(s.number) AS spans, ifnull(sum(length(s.data) + {ROW_BYTES}), 0) AS bytes
            FROM rollouts o LEFT JOIN spans s ON s.rollout = o.number GROUP BY o.number
        ) t ON t.number = r.number WHERE r.spans <> t.spans OR r.span_bytes <> t.bytes
        """,
        _each("UPDATE rollouts SET spans = ?, span_bytes = ? WHERE number = ?"),
    ),
    Check(
        "spans",
        """
        SELECT DISTINCT r.rollout_id, 'has spans of an attempt that it does not have, or that was evicted'
        FROM spans s JOIN rollouts r ON r.number = s.rollout WHERE s.attempt > r.attempts OR s.attempt <= r.evicted
        """,
    ),
    Check(
        "spans",
        """
        SELECT r.rollout_id, 'counts to ' || r.last_sequence_id || ' and has a later span', max(s.sequence_id), r.number
        FROM spans s JOIN rollouts r ON r.number = s.rollout
        GROUP BY r.number HAVING max(s.sequence_id) > r.last_sequence_id
        """,
        _each("UPDATE rollouts SET last_sequence_id = ? WHERE number = ?"),
    ),
    Check(
        "worker",
        f"""
        SELECT worker_id, 'is ' || status || ' and holds ' || ifnull(current_rollout_id, 'no rollout') FROM workers
        WHERE (current_rollout_id IS NULL) <> (current_attempt_id IS NULL)
        OR (status = '{BUSY}' AND current_rollout_id IS NULL) OR (status = '{IDLE}' AND current_rollout_id IS NOT NULL)
        """,
    ),
    Check(
        "resources",
        "SELECT latest_resources_id, 'is noted as the latest, and does not exist' FROM meta "
        "WHERE latest_resources_id IS NOT NULL AND latest_resources_id NOT IN (SELECT resources_id FROM resources)",
    ),
    Check(
        "status_index",
        """
        SELECT t.status, 'is counted ' || ifnull(c.count, 0) || ' times, expected ' || t.count, t.status, t.count FROM (
            SELECT status, sum(n) AS count FROM (
                SELECT status, 1 AS n FROM rollouts UNION ALL SELECT status, 0 FROM status_counts
            ) GROUP BY status
        ) t LEFT JOIN status_counts c ON c.status = t.status WHERE ifnull(c.count, 0) <> t.count
        """,
        _each("INSERT OR REPLACE INTO status_counts (status, count) VALUES (?, ?)"),
    ),
    _total("attempts", "SELECT count(*) FROM attempts"),
    _total("spans", "SELECT count(*) FROM spans"),
    _total("span_bytes", "SELECT ifnull(sum(span_bytes), 0) FROM rollouts"),
)


def audit(state: State, *, repair: bool) -> Findings:
    """Look at everything; what is mended is looked at again."""
    findings = Findings()
    for check in CHECKS:
        found = check.suspects(state)
        left = found
        if repair and found and check.mend is not None:
            check.mend(state, found)
            left = check.suspects(state)
        still = {suspect[0] for suspect in left}
        for suspect in found:
            findings.add(check.rule, str(suspect[0]), str(suspect[1]), repaired=suspect[0] not in still)
    return findings
