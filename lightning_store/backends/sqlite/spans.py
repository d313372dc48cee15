"""Spans, rewards and their eviction in the SQLite store."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from lightning_store import lifecycle
from lightning_store.backends.sqlite import codec
from lightning_store.backends.sqlite.attempts import AttemptOperations
from lightning_store.backends.sqlite.claims import LATEST, MAX_NUMBER
from lightning_store.backends.sqlite.codec import span_time_to, to_bytes
from lightning_store.backends.sqlite.filters import Conditions, Page
from lightning_store.backends.sqlite.state import ROW_BYTES, State
from lightning_store.backends.sqlite.stored import StoredRollout
from lightning_store.errors import InvalidRequestError, LightningStoreError, SpansEvictedError, StoreFullError
from lightning_store.jsonvalue import compressed
from lightning_store.memory_limits import MemoryLimits
from lightning_store.query import page_of
from lightning_store.records import FilterLogic, PaginatedResult, SortOrder
from lightning_store.requests import check_ids, check_pairs, check_spans
from lightning_store.rewards import reward_of
from lightning_store.spans import Span
from lightning_store.status import FINISHED

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
_FINISHED_LIST: Final = ", ".join(f"'{status}'" for status in sorted(FINISHED))


class Encoded(NamedTuple):
    """A span that is to be stored, its place in the call, and its payload as it is stored."""

    place: int
    span: Span
    data: bytes


@dataclass(frozen=True)
class Room:
    """How much room there is for spans."""

    limits: MemoryLimits
    capacity: int


class SpanOperations(AttemptOperations):
    """The operations of the contract on spans."""

    async def add_many_spans(self, spans: Sequence[Span], *, renumber: bool = False) -> list[Span]:
        """See the contract. All groups are one transaction."""
        check_spans(spans)
        groups: dict[tuple[str, str], list[Encoded]] = {}
        for place, span in enumerate(spans):
            data = compressed(self._payloads.span(span, place))
            groups.setdefault((span.rollout_id, span.attempt_id), []).append(Encoded(place, span, data))
        if not groups:
            return []
        room = self._span_room()

        def add(state: State) -> dict[int, Span]:
            spared = {rollout_id for rollout_id, _ in groups}
            stored: dict[int, Span] = {}
            first_error: LightningStoreError | None = None
            for (rollout_id, attempt_id), group in groups.items():
                try:
                    state.begin(*spared)
                    stored |= _add_group(state, rollout_id, attempt_id, group, room, renumber=renumber)
                except LightningStoreError as error:
                    first_error = first_error or error
            if first_error is not None:
                state.keep()
                raise first_error
            return stored

        stored = await self._write(add)
        self._report_duplicates([span for place, span in enumerate(spans) if place not in stored])
        return [stored[place] for place in sorted(stored)]

    async def get_many_span_sequence_ids(self, rollout_attempt_ids: Sequence[tuple[str, str]]) -> list[int]:
        """See the contract."""
        pairs = check_pairs(rollout_attempt_ids, "rollout_attempt_ids")

        def number(state: State) -> list[int]:
            state.note()
            state.keep()
            numbers = [_next_sequence_id(stored) for stored in [state.rollout(rollout_id) for rollout_id, _ in pairs]]
            for rollout_id, _ in pairs:
                state.save(state.rollout(rollout_id))
            return numbers

        return await self._write(number)

    async def query_spans(
        self,
        rollout_id: str,
        attempt_id: str | None = None,
        *,
        trace_id: str | None = None,
        trace_id_contains: str | None = None,
        span_id: str | None = None,
        span_id_contains: str | None = None,
        parent_id: str | None = None,
        parent_id_contains: str | None = None,
        name: str | None = None,
        name_contains: str | None = None,
        filter_logic: FilterLogic = "and",
        limit: int = -1,
        offset: int = 0,
        sort_by: str | None = "sequence_id",
        sort_order: SortOrder = "asc",
    ) -> PaginatedResult[Span]:
        """See the contract."""
        conditions = Conditions(filter_logic, encode=to_bytes)
        conditions.equals("s.trace_id", trace_id)
        conditions.contains("s.trace_id", trace_id_contains)
        conditions.equals("s.span_id", span_id)
        conditions.contains("s.span_id", span_id_contains)
        conditions.equals("s.parent_id", parent_id)
        conditions.contains("s.parent_id", parent_id_contains)
        conditions.equals("s.name", name)
        conditions.contains("s.name", name_contains)
        page = Page(Span, sort_by, sort_order, limit, offset)
        return await self._settled(
            lambda state: _span_page(state, rollout_id, attempt_id, conditions, page), [rollout_id]
        )

    async def query_many_spans(
        self, rollout_ids: Sequence[str], attempt_id: str | None = None
    ) -> Mapping[str, Sequence[Span]]:
        """See the contract."""
        ids = check_ids(rollout_ids, "rollout_ids")
        page = Page(Span, "sequence_id", "asc", -1, 0)
        return await self._settled(
            lambda state: {
                id: list(_span_page(state, id, attempt_id, Conditions(), page).items) for id in dict.fromkeys(ids)
            },
            ids,
        )

    async def rewards(self, rollout_ids: Sequence[str]) -> Mapping[str, float | None]:
        """See the contract."""
        ids = check_ids(rollout_ids, "rollout_ids")
        return await self._read(lambda state: {id: _reward(state, id) for id in dict.fromkeys(ids)})

    async def evict_spans(self) -> int:
        """See the contract. Room that this makes in the file is used again; the file does not shrink."""
        room = self._span_room()

        def evict(state: State) -> int:
            state.settle_before_reading([])
            return _evict(state, room, 0, "")

        return await self._write(evict)

    def _span_room(self) -> Room:
        capacity = self._capacity_bytes()
        return Room(self._thresholds.of(capacity), capacity)


# -- storing -----------------------------------------------------------------------------------------------------------


def _add_group(
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
        _make_room(state, room, sum(len(each.data) + ROW_BYTES for each in new), rollout_id)
    answers: dict[int, Span] = {}
    for each in new:
        span = each.span
        if renumber:
            span = span.model_copy(update={"sequence_id": _next_sequence_id(stored)})
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
        "INSERT INTO spans (rollout, attempt, sequence_id, span_id, trace_id, parent_id, name, start_time, end_time, data) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
    state.count_spans(stored, len(spans), sum(len(data) + ROW_BYTES for _, data in spans))


def _next_sequence_id(stored: StoredRollout) -> int:
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


def _reward(state: State, rollout_id: str) -> float | None:
    stored = state.find(rollout_id)
    if stored is None:
        return None
    row = state.connection.execute(
        "SELECT reward FROM attempts WHERE rollout = ? AND sequence_id = ?", (stored.number, stored.attempts)
    ).fetchone()
    return None if row is None or row[0] is None else float(row[0])


# -- reading -----------------------------------------------------------------------------------------------------------


def _span_page(
    state: State, rollout_id: str, attempt_id: str | None, conditions: Conditions, page: Page
) -> PaginatedResult[Span]:
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
        [total] = state.values(f"SELECT count(*) FROM spans s {where}", arguments)  # noqa: S608
    rows = state.connection.execute(
        f"SELECT a.attempt_id, s.sequence_id, s.data {_FROM_SPANS}{where}"  # noqa: S608
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


# -- eviction ----------------------------------------------------------------------------------------------------------


def _make_room(state: State, room: Room, size: int, except_id: str) -> None:
    """Evict for `size` more bytes, but not the spans of one rollout.

    Raises:
        StoreFullError: They do not fit below high water even so.
    """
    _evict(state, room, size, except_id)
    high_water = int(room.limits.high_water)
    used = state.span_bytes()
    if used + size > high_water:
        raise StoreFullError(
            f"spans take {used} of {room.capacity} bytes, {size} more do not fit below "
            f"high_water_memory_threshold ({high_water} bytes); nothing was written"
        )


def _evict(state: State, room: Room, size: int, except_id: str) -> int:
    """Evict if `size` more bytes cross the threshold; how many rollouts have lost their spans."""
    used = state.span_bytes() + size
    if used <= room.limits.eviction:
        return 0
    count = 0
    for stored in _evictable(state, except_id):
        if used <= room.limits.safe:
            break
        used -= stored.span_bytes
        state.connection.execute("DELETE FROM spans WHERE rollout = ?", (stored.number,))
        state.count_spans(stored, -stored.spans, -stored.span_bytes)
        stored.evicted = stored.attempts
        state.save(stored)
        count += 1
    return count


def _evictable(state: State, except_id: str) -> Iterator[StoredRollout]:
    """Finished rollouts with spans, the oldest finish first, as far as all consumers have passed them."""
    [passed] = state.values("SELECT min(number) FROM consumers")
    rows = state.connection.execute(
        "SELECT number, rollout_id FROM rollouts WHERE finish_number IS NOT NULL AND spans > 0 "
        f"AND status IN ({_FINISHED_LIST}) AND finish_number <= ? ORDER BY finish_number",  # noqa: S608
        (MAX_NUMBER if passed is None else passed,),
    )
    for number, id in rows.fetchall():
        if id != except_id:
            yield state.numbered(number)
