"""Claims and waits of the SQLite store."""

# ruff: noqa: S608 - statements are made of constants of ours; values are arguments

import math
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from lightning_store import lifecycle
from lightning_store.backends.sqlite import codec
from lightning_store.backends.sqlite.codec import cursor_of
from lightning_store.backends.sqlite.core import SQLiteCore
from lightning_store.backends.sqlite.state import State
from lightning_store.backends.sqlite.stored import StoredRollout
from lightning_store.clock import IdSource
from lightning_store.contract import DEFAULT_QUEUES
from lightning_store.records import Attempt, AttemptedRollout, CompletionPage, Consumer, Rollout, changed
from lightning_store.requests import (
    ClaimRequest,
    check_free_id,
    check_ids,
    check_limit,
    check_name,
    check_timeout,
    claim_request,
    is_name,
    parse_cursor,
)
from lightning_store.status import FINISHED

LATEST: Final = "latest"

MAX_NUMBER: Final = (1 << 63) - 1
"""The largest number that the file can hold."""


class Claimed(NamedTuple):
    """What a claim has brought.

    Attributes:
        left: Others find work in the same queues.
    """

    rollouts: list[AttemptedRollout]
    left: bool


class ClaimOperations(SQLiteCore):
    """Dequeue, wait for rollouts, follow completions."""

    async def dequeue_many_rollouts(
        self,
        *,
        limit: int = 1,
        worker_id: str | None = None,
        queues: Sequence[str] = DEFAULT_QUEUES,
        timeout: float = 0,
        lease_seconds: float | None = None,
    ) -> list[AttemptedRollout]:
        """See the contract. A claim whose caller is gone is undone, or released if it was committed already."""
        request = claim_request(limit, worker_id, queues, timeout, lease_seconds)
        if request.limit <= 0:
            return []
        if request.timeout == 0:
            return (await self._claim(request)).rollouts
        return await self._wait_for_work(request)

    async def _wait_for_work(self, request: ClaimRequest) -> list[AttemptedRollout]:
        """Claim in the order in which callers began to wait: the place in the line is taken before the first look."""
        ticket = self._board.join(request.queues, request.timeout)
        left = True
        try:
            while True:
                claimed = await self._claim(request)
                if claimed.rollouts or ticket.is_over:
                    left = claimed.left
                    return claimed.rollouts
                self._board.rejoin(ticket)
                self._watch()
                await ticket.woken()
        finally:
            self._board.leave(ticket, left=left)

    async def _claim(self, request: ClaimRequest) -> Claimed:
        ids = self.ids
        return await self._write(lambda state: claim(state, request, ids), self._release_claimed)

    def _release_claimed(self, claimed: Claimed) -> None:
        """Hand back what was claimed for a caller that is gone."""

        def release(state: State) -> None:
            state.begin(*(rollout.rollout_id for rollout in claimed.rollouts))
            for rollout in reversed(claimed.rollouts):  # the first goes to the head last
                stored = state.find(rollout.rollout_id)
                if stored is not None:
                    release_attempt(state, stored, rollout.attempt.attempt_id)

        if claimed.rollouts:
            self._engine.submit(self._transaction(release))

    # -- waiting -----------------------------------------------------------------------------------------------------

    async def wait_for_rollouts(self, *, rollout_ids: Sequence[str], timeout: float | None = None) -> list[Rollout]:
        """See the contract."""
        ids = check_ids(rollout_ids, "rollout_ids")
        seconds = math.inf if timeout is None else check_timeout(timeout)
        names = [id for id in dict.fromkeys(ids) if is_name(id)]
        if seconds > 0 and names:
            await self._wait_for_finish(names, seconds)
        finished = await self._settled(lambda state: finished_among(state, names), names)
        # An id that was asked for twice has an answer of its own each time.
        return [finished[id].model_copy(deep=True) for id in ids if id in finished]

    async def _wait_for_finish(self, names: list[str], seconds: float) -> None:
        wait = self._board.expect(names, seconds)
        try:
            while not wait.is_over:
                unfinished = await self._settled(lambda state: unfinished_among(state, names), names)
                if not unfinished:
                    return
                if self._board.narrow(wait, unfinished):
                    continue
                self._watch()
                await wait.woken()
        finally:
            self._board.forget(wait)

    async def completions(
        self, after: str | None = None, *, limit: int = 1000, timeout: float = 0, group_id: str | None = None
    ) -> CompletionPage:
        """See the contract."""
        check_limit(limit, "limit", 1)
        seconds = check_timeout(timeout)
        if group_id is not None:
            check_free_id(group_id, "group_id")
        if after not in (None, LATEST):
            parse_cursor(after, "after")
        if seconds == 0:
            return await self._read(lambda state: completion_page(state, after, limit, group_id))
        wait = self._board.follow(seconds)
        cursor = after
        try:
            while True:
                page = await self._read(partial(completion_page, after=cursor, limit=limit, group_id=group_id))
                if page.items or wait.is_over:
                    return page
                cursor = page.cursor
                self._watch()
                await wait.woken()
        finally:
            self._board.unfollow(wait)

    async def acknowledge_completions(self, consumer: str, cursor: str | None = None) -> Consumer:
        """See the contract."""
        check_name(consumer, "consumer")
        if cursor not in (None, LATEST):
            parse_cursor(cursor, "cursor")
        return await self._write(lambda state: acknowledge(state, consumer, cursor))

    async def query_consumers(self) -> list[Consumer]:
        """See the contract."""
        return await self._read(
            lambda state: [
                _consumer(*row)
                for row in state.connection.execute("SELECT name, number, update_time FROM consumers ORDER BY name")
            ]
        )

    async def forget_consumer(self, consumer: str) -> bool:
        """See the contract."""
        if not is_name(consumer):
            return False
        return await self._write(
            lambda state: state.connection.execute("DELETE FROM consumers WHERE name = ?", (consumer,)).rowcount > 0
        )


def claim(state: State, request: ClaimRequest, ids: IdSource) -> Claimed:
    """Claim what a request asks for."""
    state.note()
    state.settle_all()
    claimed: list[AttemptedRollout] = []
    last: Attempt | None = None
    for name in request.queues:
        if len(claimed) == request.limit:
            break
        for number in state.queues.pop(name, request.limit - len(claimed)):
            stored = state.numbered(number)
            stored.queue_place = None
            attempt_id = fresh_attempt_id(state, stored, ids)
            last = state.begin_attempt(stored, attempt_id, request.worker_id, request.lease_seconds, is_claim=True)
            claimed.append(attempted(state, stored))
            if len(claimed) == request.limit:
                break
    if request.worker_id is not None:
        worker = lifecycle.worker_after_claim(state.worker(request.worker_id), last, state.now)
        state.put_worker(worker)
    return Claimed(claimed, any(state.queues.live(name) for name in request.queues))


def fresh_attempt_id(state: State, stored: StoredRollout, ids: IdSource) -> str:
    """An id that the rollout's attempts do not have yet."""
    while state.find_attempt(stored, attempt_id := ids.attempt_id()) is not None:
        pass
    return attempt_id


def attempted(state: State, stored: StoredRollout) -> AttemptedRollout:
    """A rollout that has an attempt, with the latest one, as an answer."""
    assert stored.latest is not None  # noqa: S101 - the caller has seen to it
    rollout = codec.answered(state.complete(stored), changed(stored.latest.record))
    assert isinstance(rollout, AttemptedRollout)  # noqa: S101 - it was given an attempt
    return rollout


def release_attempt(state: State, stored: StoredRollout, attempt_id: str) -> Attempt:
    """Hand an attempt back, if it is there to be handed back."""
    attempt = state.attempt(stored, attempt_id)
    is_latest = attempt.record.sequence_id == stored.attempts
    step = lifecycle.release(stored.state, attempt, state.now, is_latest=is_latest)
    if step is None or step.attempt is None:
        return attempt.record
    state.apply(stored, step)
    state.update_worker_of(step.attempt.record)
    return step.attempt.record


def unfinished_among(state: State, names: list[str]) -> list[str]:
    """Those that have not finished."""
    found = (state.find(name) for name in names)
    return [stored.id for stored in found if stored is not None and stored.record.status not in FINISHED]


def finished_among(state: State, names: list[str]) -> dict[str, Rollout]:
    """Those that have finished, by id."""
    found = (state.find(name) for name in names)
    return {
        stored.id: state.complete(stored) for stored in found if stored is not None and stored.record.status in FINISHED
    }


def number_of(state: State, cursor: str | None) -> int:
    """Number of the entry that a cursor, checked before, stands behind."""
    if cursor is None:
        return 0
    return state.last_completion if cursor == LATEST else parse_cursor(cursor, "cursor")[0]


def completion_page(state: State, after: str | None, limit: int, group_id: str | None) -> CompletionPage:
    """At most `limit` entries of the completion log behind a cursor, and where to go on."""
    number = number_of(state, after)
    group = "" if group_id is None else "AND c.group_id = ? "
    rows = state.connection.execute(
        "SELECT c.number, r.rollout_id, c.status, c.mode, c.group_id, r.start_time, c.end_time FROM completions c "
        f"CROSS JOIN rollouts r ON r.number = c.rollout WHERE c.number > ? {group}ORDER BY c.number LIMIT ?",
        (min(number, MAX_NUMBER), *(() if group_id is None else (group_id,)), min(limit, MAX_NUMBER)),
    )
    items = [codec.completion_from(row) for row in rows]
    if len(items) == limit:
        return CompletionPage(items=items, cursor=items[-1].cursor)
    return CompletionPage(items=items, cursor=cursor_of(max(number, state.last_completion)))


def acknowledge(state: State, name: str, cursor: str | None) -> Consumer:
    """Register a consumer, or move it forward."""
    number = min(number_of(state, cursor), state.last_completion)
    state.note()
    place = state.connection.execute("SELECT number, update_time FROM consumers WHERE name = ?", (name,)).fetchone()
    if place is not None and number <= place[0]:
        return _consumer(name, *place)
    state.connection.execute(
        "INSERT INTO consumers (name, number, update_time) VALUES (?, ?, ?) "
        "ON CONFLICT (name) DO UPDATE SET number = excluded.number, update_time = excluded.update_time",
        (name, number, state.now),
    )
    return _consumer(name, number, state.now)


def _consumer(name: str, number: int, time: float) -> Consumer:
    return Consumer(name=name, cursor=cursor_of(number), update_time=time)
