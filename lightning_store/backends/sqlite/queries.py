"""Queries of rollouts, queues and events of the SQLite store."""

# ruff: noqa: S608 - statements are made of constants of ours; values are arguments

from collections.abc import Sequence
from typing import Final

from lightning_store.backends.sqlite import codec
from lightning_store.backends.sqlite.claims import ClaimOperations
from lightning_store.backends.sqlite.codec import ATTEMPT_COLUMNS, ROLLOUT_COLUMNS
from lightning_store.backends.sqlite.filters import MAX_INTEGER, Conditions, Page, in_chunks, text_key, time_key
from lightning_store.backends.sqlite.queues import QUEUED_LIST
from lightning_store.backends.sqlite.state import State
from lightning_store.eventlog import EventPage, NumberedLog
from lightning_store.query import page_of
from lightning_store.records import (
    FilterLogic,
    PaginatedResult,
    QueueStats,
    Rollout,
    RolloutEvent,
    RolloutStatus,
    SortOrder,
    changed,
)
from lightning_store.requests import check_limit, is_name
from lightning_store.status import ROLLOUT_STATUSES

_SORT_KEYS: Final = {
    "rollout_id": "rollout_id",
    "start_time": "start_time",
    "end_time": time_key("end_time"),
    "mode": text_key("mode"),
    "resources_id": text_key("resources_id"),
    "status": "status",
    "queue": "queue",
    "group_id": text_key("group_id"),
}

_WIDTH: Final = len(ROLLOUT_COLUMNS)
_ATTEMPT_END: Final = _WIDTH + len(ATTEMPT_COLUMNS)
_SELECT_ANSWERS: Final = (
    f"SELECT {codec.columns(ROLLOUT_COLUMNS, 'r')}, {codec.columns(ATTEMPT_COLUMNS, 'a')}, t.input, t.metadata "
    "FROM rollouts r JOIN tasks t ON t.rollout = r.number "
    "LEFT JOIN attempts a ON a.rollout = r.number AND a.sequence_id = r.attempts WHERE r.number IN "
)

_SELECT_EVENTS: Final = "SELECT time, rollout_id, attempt_id, status, attempt_status, cause FROM events "


class RolloutQueries(ClaimOperations):
    """Reads of rollouts that change nothing but what is due."""

    async def get_rollout_by_id(self, rollout_id: str) -> Rollout | None:
        """See the contract."""
        return await self._settled(lambda state: answer_of(state, rollout_id), [rollout_id])

    async def query_rollouts(
        self,
        *,
        status_in: Sequence[RolloutStatus] | None = None,
        rollout_id_in: Sequence[str] | None = None,
        rollout_id_contains: str | None = None,
        filter_logic: FilterLogic = "and",
        sort_by: str | None = None,
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
        status: Sequence[RolloutStatus] | None = None,
        rollout_ids: Sequence[str] | None = None,
        group_id: str | None = None,
    ) -> PaginatedResult[Rollout]:
        """See the contract. Filters by status, id or group and the order of creation, start or id have an index."""
        statuses = status if status_in is None else status_in
        conditions = Conditions(filter_logic)
        conditions.is_in("status", statuses, "status")
        conditions.is_in("rollout_id", rollout_ids if rollout_id_in is None else rollout_id_in, "rollout_id")
        conditions.contains("rollout_id", rollout_id_contains)
        conditions.equals("group_id", group_id)
        page = Page(Rollout, sort_by, sort_order, limit, offset)
        counted = conditions.count == (statuses is not None)

        def look(state: State) -> PaginatedResult[Rollout]:
            if counted:
                return _page_by_status(state, ROLLOUT_STATUSES if statuses is None else statuses, conditions, page)
            where, arguments = conditions.where()
            [total] = state.values(f"SELECT count(*) FROM rollouts {where}", arguments)
            return _page(state, f"FROM rollouts {where}", arguments, page, total)

        return await self._settled(look)

    async def query_queues(self) -> list[QueueStats]:
        """See the contract."""

        def look(state: State) -> list[QueueStats]:
            rows = state.connection.execute("SELECT name, live, delayed FROM queues ORDER BY name").fetchall()
            return [
                QueueStats(queue=name, depth=live, delayed=delayed, oldest_seconds=_waited(state, name))
                for name, live, delayed in rows
            ]

        return await self._settled(look, [])

    async def query_events(self, *, rollout_id: str | None = None, limit: int = 100) -> list[RolloutEvent]:
        """See the contract."""
        check_limit(limit, "limit", -1)
        if rollout_id is not None and not is_name(rollout_id):
            return []

        def look(state: State) -> list[RolloutEvent]:
            rows = state.connection.execute(
                f"{_SELECT_EVENTS}WHERE ?1 IS NULL OR rollout_id = ?1 ORDER BY number DESC LIMIT ?2",
                (rollout_id, min(limit, MAX_INTEGER)),
            )
            return [codec.event_from(row) for row in rows][::-1]

        return await self._read(look)

    async def events_after(self, cursor: str | None, *, limit: int = 1000) -> EventPage:
        """See BaseStore."""
        check_limit(limit, "limit", 1)

        def look(state: State) -> EventPage:
            # The last transition is never dropped, so its number is how many there were.
            [(first, last)] = state.connection.execute(
                "SELECT (SELECT min(number) FROM events), (SELECT max(number) FROM events)"
            ).fetchall()

            def read(start: int) -> list[RolloutEvent]:
                rows = state.connection.execute(
                    f"{_SELECT_EVENTS}WHERE number > ? ORDER BY number LIMIT ?", (start, min(limit, MAX_INTEGER))
                )
                return [codec.event_from(row) for row in rows]

            return NumberedLog(0 if first is None else first - 1, last or 0).page(cursor, read)

        return await self._read(look)


def answer_of(state: State, rollout_id: str) -> Rollout | None:
    """A rollout with its latest attempt if there is one; None if it does not exist."""
    stored = state.find(rollout_id)
    if stored is None:
        return None
    latest = None if stored.latest is None else changed(stored.latest.record)
    return codec.answered(state.complete(stored), latest)


def answers_of(state: State, numbers: Sequence[int]) -> list[Rollout]:
    """Rollouts by their creation numbers, in this order."""
    found: dict[int, Rollout] = {}
    for chunk in in_chunks(numbers):
        for row in state.connection.execute(f"{_SELECT_ANSWERS}({', '.join('?' * len(chunk))})", chunk):
            rollout = codec.with_payloads(codec.rollout_from(row), *row[_ATTEMPT_END:])
            attempt = row[_WIDTH:_ATTEMPT_END]
            latest = None if attempt[0] is None else codec.attempt_from(rollout.rollout_id, attempt).record
            found[row[0]] = codec.answered(rollout, latest)
    return [found[number] for number in numbers]


def _page(state: State, source: str, arguments: tuple[object, ...], page: Page, total: int) -> PaginatedResult[Rollout]:
    numbers = state.values(
        f"SELECT number {source}{page.order(_SORT_KEYS, 'number')}LIMIT ? OFFSET ?",
        (*arguments, *page.bounds()),
    )
    return page_of(answers_of(state, numbers), limit=page.limit, offset=page.offset, total=total)


def _page_by_status(
    state: State, statuses: Sequence[str], conditions: Conditions, page: Page
) -> PaginatedResult[Rollout]:
    """A page of all rollouts, or of those in some statuses; how many there are is counted already."""
    counts = dict(state.connection.execute("SELECT status, count FROM status_counts").fetchall())
    wanted = [status for status in dict.fromkeys(statuses) if counts.get(status)]
    total = sum(counts[status] for status in wanted)
    if conditions.count == 0 or page.sort_by is not None:
        where, arguments = conditions.where()
        return _page(state, f"FROM rollouts {where}", arguments, page, total)
    # Each status by its index, merged: an IN would sort all matches to find the first.
    parts = " UNION ALL ".join("SELECT number FROM rollouts WHERE status = ?" for _ in wanted)
    if not wanted:
        return page_of([], limit=page.limit, offset=page.offset, total=0)
    numbers = state.values(f"{parts} ORDER BY number LIMIT ? OFFSET ?", (*wanted, *page.bounds()))
    return page_of(answers_of(state, numbers), limit=page.limit, offset=page.offset, total=total)


def _waited(state: State, queue: str) -> float | None:
    row = state.connection.execute(
        "SELECT queued_time FROM rollouts WHERE queue = ? AND queue_place IS NOT NULL "
        f"AND status IN ({QUEUED_LIST}) ORDER BY queue_place LIMIT 1",
        (queue,),
    ).fetchone()
    return None if row is None else max(0.0, state.now - row[0])
