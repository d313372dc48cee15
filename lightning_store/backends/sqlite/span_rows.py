"""Spans inside of a transaction: storing them without duplicates, rewards, and pages of them."""

# ruff: noqa: S608 - statements are made of constants of ours; values are arguments

from typing import Final, NamedTuple

from lightning_store import lifecycle
from lightning_store.backends.sqlite import codec
from lightning_store.backends.sqlite.claims import LATEST, MAX_NUMBER
from lightning_store.backends.sqlite.codec import span_time_to, to_bytes
from lightning_store.backends.sqlite.eviction import Room, make_room
from lightning_store.backends.sqlite.filters import Conditions, Page
from lightning_store.backends.sqlite.state import ROW_BYTES, State
from lightning_store.backends.sqlite.stored import StoredRollout
from lightning_store.errors import InvalidRequestError, SpansEvictedError
from lightning_store.query import page_of
from lightning_store.records import PaginatedResult
from lightning_store.rewards import reward_of
from lightning_store.spans import Span

_SORT_KEYS: Final = {
    "rollout_id": "s.rollout",
    "attempt_id": "a.attempt_id",
    "sequence_id": "s.sequence_id",
    "trace_id": "s.trace_id",
    "span_id": "s.span_id",
    "parent_id": "ifnull(s.parent_id, x'')",
    "name": "s.name",
    "start_time": "s.start_time",
    "end_time": "s.end_time",
}
_FROM_SPANS: Final = "FROM spans s JOIN attempts a ON a.rollout = s.rollout AND a.sequence_id = s.attempt "


class Encoded(NamedTuple):
    """A span that is to be stored, its place in the call, and its payload as it is stored."""

    place: int
    span: Span
    data: bytes


# -- storing -----------------------------------------------------------------------------------------------------------


def add_group(
    state: State, rollout_id: str, attempt_id: str, group: list[Encoded], room: Room, *, renumber: bool
) -> dict[int, Span]:
    """Store the spans of one attempt; returns what was stored by its place in the call."""
    stored = state.rollout(rollout_id)
    attempt = state.attempt(stored, attempt_id)
    number = attempt.record.sequence_id
    is_kept = number > stored.evicted
    new = _new_spans(state, stored, number, group)
    if not new:
        return {}
    if is_kept:
        make_room(state, room, sum(len(each.data) + ROW_BYTES for each in new), rollout_id)
    answers: dict[int, Span] = {}
    for each in new:
        span = each.span
        if renumber:
            span = span.model_copy(update={"sequence_id": next_sequence_id(stored)})
        else:
            stored.last_sequence_id = max(stored.last_sequence_id, span.sequence_id)
        answers[each.place] = span
    _note_rewards(state, stored, number, list(answers.values()))
    if is_kept:
        _insert(state, stored, number, [(answers[each.place], each.data) for each in new])
    step = lifecycle.add_span(stored.state, attempt, state.now, is_latest=number == stored.attempts)
    state.apply_sign_of_life(stored, attempt, step)
    return answers


def _new_spans(state: State, stored: StoredRollout, attempt: int, group: list[Encoded]) -> list[Encoded]:
    """Those that are not stored yet, each span once."""
    first = {each.span.span_id: each for each in reversed(group)}
    if stored.spans:
        for span_id in list(first):
            found = state.connection.execute(
                "SELECT 1 FROM spans WHERE rollout = ? AND attempt = ? AND span_id = ?",
                (stored.number, attempt, to_bytes(span_id)),
            ).fetchone()
            if found is not None:
                del first[span_id]
    return sorted(first.values(), key=lambda each: each.place)


def _insert(state: State, stored: StoredRollout, attempt: int, spans: list[tuple[Span, bytes]]) -> None:
    state.connection.executemany(
        "INSERT INTO spans (rollout, attempt, sequence_id, span_id, trace_id, parent_id, name, start_time, end_time, "
        "data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                stored.number,
                attempt,
                span.sequence_id,
                to_bytes(span.span_id),
                to_bytes(span.trace_id),
                None if span.parent_id is None else to_bytes(span.parent_id),
                to_bytes(span.name),
                span_time_to(span.start_time),
                span_time_to(span.end_time),
                data,
            )
            for span, data in spans
        ],
    )
    size = sum(len(data) for _, data in spans)
    state.count_spans(stored, len(spans), size + len(spans) * ROW_BYTES)
    state.news.stored_spans += len(spans)
    state.news.stored_bytes += size


def next_sequence_id(stored: StoredRollout) -> int:
    """Hand out the next number of the spans of a rollout.

    Raises:
        InvalidRequestError: There is none left.
    """
    if stored.last_sequence_id == MAX_NUMBER:
        raise InvalidRequestError(f"sequence_id: rollout {stored.id} has used the last number, {MAX_NUMBER}")
    stored.last_sequence_id += 1
    return stored.last_sequence_id


def _note_rewards(state: State, stored: StoredRollout, attempt: int, spans: list[Span]) -> None:
    """Keep the last reward by number; of equal numbers, the one that came last."""
    found = [(span.sequence_id, value) for span in spans if (value := reward_of(span)) is not None]
    if not found:
        return
    last = max(number for number, _ in found)
    value = next(value for number, value in reversed(found) if number == last)
    state.connection.execute(
        "UPDATE attempts SET reward = ?, reward_sequence_id = ? WHERE rollout = ? AND sequence_id = ? "
        "AND (reward_sequence_id IS NULL OR reward_sequence_id <= ?)",
        (repr(value), last, stored.number, attempt, last),
    )


def reward_in(state: State, rollout_id: str) -> float | None:
    """The reward of a rollout; None if there is none."""
    stored = state.find(rollout_id)
    if stored is None:
        return None
    row = state.connection.execute(
        "SELECT reward FROM attempts WHERE rollout = ? AND sequence_id = ?", (stored.number, stored.attempts)
    ).fetchone()
    return None if row is None or row[0] is None else float(row[0])


# -- reading -----------------------------------------------------------------------------------------------------------


def span_page(
    state: State, rollout_id: str, attempt_id: str | None, conditions: Conditions, page: Page
) -> PaginatedResult[Span]:
    """A page of the spans of a rollout, or of one of its attempts.

    Raises:
        SpansEvictedError: They were dropped for lack of memory.
    """
    stored = state.find(rollout_id)
    number = None if stored is None or attempt_id is None else _attempt_number(state, stored, attempt_id)
    if stored is None or (attempt_id is not None and number is None):
        return page_of([], limit=page.limit, offset=page.offset, total=0)
    if stored.evicted > 0 if number is None else number <= stored.evicted:
        raise SpansEvictedError(f"The spans of rollout {rollout_id} were evicted for lack of memory")
    if number is None:
        where, arguments = conditions.where("s.rollout = ?", stored.number)
    else:
        where, arguments = conditions.where("s.rollout = ? AND s.attempt = ?", stored.number, number)
    if conditions.count == 0 and number is None:
        total = stored.spans
    else:
        [total] = state.values(f"SELECT count(*) FROM spans s {where}", arguments)
    rows = state.connection.execute(
        f"SELECT a.attempt_id, s.sequence_id, s.data {_FROM_SPANS}{where}"
        f"{page.order(_SORT_KEYS, 's.number')}LIMIT ? OFFSET ?",
        (*arguments, *page.bounds()),
    )
    spans = [codec.span_from(rollout_id, *row) for row in rows]
    return page_of(spans, limit=page.limit, offset=page.offset, total=total)


def _attempt_number(state: State, stored: StoredRollout, attempt_id: str) -> int | None:
    if attempt_id == LATEST:
        return stored.attempts or None
    attempt = state.find_attempt(stored, attempt_id)
    return None if attempt is None else attempt.record.sequence_id
