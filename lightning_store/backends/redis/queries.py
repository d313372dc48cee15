"""Reading from Redis: rollouts, queues, events, workers, resources, and waiting for completions."""

import asyncio
import heapq
import math
from collections.abc import Collection, Sequence
from typing import Any, Final

from lightning_store import query
from lightning_store.backends.redis import codec
from lightning_store.backends.redis.core import CHUNK, RedisCore, chunks, names_only
from lightning_store.backends.redis.waiting import CompletionFeed, is_earlier, last_entry
from lightning_store.records import (
    CompletionPage,
    FilterLogic,
    PaginatedResult,
    QueueStats,
    Rollout,
    RolloutEvent,
    RolloutStatus,
    SortOrder,
)
from lightning_store.requests import check_ids, check_limit, check_page, check_timeout, is_free_id, parse_cursor
from lightning_store.status import ROLLOUT_STATUSES

_UNFINISHED: Final = 0
_INDEX_CHUNK: Final = 1000


class QueryOperations(RedisCore):
    """The operations of the contract that read rollouts, queues and the logs."""

    async def statistics(self) -> dict[str, Any]:
        """See the contract."""
        control = self._keys.control
        rollouts, resources, workers, counters, *by_status = await self._connections.commands(
            [
                ("ZCARD", control("rollouts")),
                ("ZCARD", control("resources")),
                ("ZCARD", control("workers")),
                ("HMGET", control("stats"), "attempts", "spans"),
                *(("ZCARD", control("status", status)) for status in ROLLOUT_STATUSES),
            ]
        )
        return {
            "name": type(self).__name__,
            "total_rollouts": rollouts,
            "total_attempts": int(counters[0] or 0),
            "total_spans": int(counters[1] or 0),
            "total_resources": resources,
            "total_workers": workers,
            "uptime": self._uptime(),
            "rollouts_by_status": dict(zip(ROLLOUT_STATUSES, by_status, strict=True)),
        }

    # -- rollouts ----------------------------------------------------------------------------------------------------

    async def get_rollout_by_id(self, rollout_id: str) -> Rollout | None:
        """See the contract."""
        found = await self._read_rollouts([rollout_id])
        return found[0] if found else None

    async def _read_rollouts(self, rollout_ids: Sequence[str]) -> list[Rollout]:
        """The rollouts that exist, in the order asked for."""
        replies = await self._rollout_replies(names_only(rollout_ids), "")
        return [codec.rollout(reply) for reply in replies if reply]

    async def _rollout_replies(self, rollout_ids: Sequence[str], which: str) -> list[Any]:
        calls = [
            self._call("read_rollouts", now=self._now(), which=which, rollout_ids=chunk)
            for chunk in chunks(rollout_ids)
        ]
        answers = await self._connections.run_many(calls) if calls else []
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return [reply for answer in answers for reply in answer]

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
        """See the contract.

        A page in order of creation by status, by group or of all rollouts is read from the indexes in one atomic step.
        Other queries read what the narrowest index offers, in chunks, and are no snapshot.
        """
        check_page(limit, offset)
        statuses = status if status_in is None else status_in
        ids = rollout_ids if rollout_id_in is None else rollout_id_in
        # Refuse what cannot be asked before anything is read.
        query.query_rollouts(
            (), status_in=statuses, rollout_id_in=ids, filter_logic=filter_logic, sort_by=sort_by, sort_order=sort_order
        )
        narrow = ids is None and rollout_id_contains is None and sort_by is None
        if narrow and 0 <= limit <= CHUNK and (statuses is None or group_id is None):
            return await self._indexed_page(statuses, group_id, limit, offset)
        await self._settle_all()
        alternatives = filter_logic == "or"
        if ids is not None and not alternatives:
            found = await self._in_creation_order(names_only(list(dict.fromkeys(ids))))
        elif alternatives:
            found = await self._filtered_ids(None, None, None)
        else:
            found = await self._filtered_ids(statuses, group_id, rollout_id_contains)
        return query.query_rollouts(
            await self._read_rollouts(found),
            status_in=statuses,
            rollout_id_in=ids,
            rollout_id_contains=rollout_id_contains,
            group_id=group_id,
            filter_logic=filter_logic,
            sort_by=sort_by,
            sort_order=sort_order,
            limit=limit,
            offset=offset,
        )

    async def _indexed_page(
        self, statuses: Sequence[str] | None, group_id: str | None, limit: int, offset: int
    ) -> PaginatedResult[Rollout]:
        indexes = _index_names(statuses, group_id)
        if not indexes:
            return query.page_of([], limit=limit, offset=offset, total=0)
        more, total, replies = 1, 0, []
        while more:
            more, total, replies = await self._run(
                "page_rollouts", now=self._now(), offset=offset, limit=limit, indexes=indexes
            )
        items = [codec.rollout(reply) for reply in replies if reply]
        return query.page_of(items, limit=limit, offset=offset, total=total)

    async def _filtered_ids(
        self, statuses: Sequence[str] | None, group_id: str | None, containing: str | None
    ) -> list[str]:
        ids = await self._indexed_ids(statuses, group_id)
        return ids if containing is None else [id for id in ids if containing in id]

    async def _indexed_ids(self, statuses: Sequence[str] | None, group_id: str | None) -> list[str]:
        """Ids that the indexes hold for a group, else for statuses, else all: in order of creation."""
        indexes = [self._keys.control(*name.split(":", 1)) for name in _index_names(statuses, group_id, either=True)]
        runs = [await self._index_entries(index) for index in indexes]
        return [rollout_id for _, rollout_id in heapq.merge(*runs)]

    async def _index_entries(self, index: str) -> list[tuple[int, str]]:
        """Creation numbers and ids of an index, read in chunks behind the last number, so that changes do no harm."""
        entries: list[tuple[int, str]] = []
        last = "-inf"
        while True:
            flat = await self._connections.command(
                "ZRANGEBYSCORE", index, last, "+inf", "WITHSCORES", "LIMIT", 0, _INDEX_CHUNK
            )
            entries += [(int(flat[i + 1]), codec.text(flat[i])) for i in range(0, len(flat), 2)]
            if len(flat) < 2 * _INDEX_CHUNK:
                return entries
            last = f"({entries[-1][0]}"

    async def _in_creation_order(self, rollout_ids: Sequence[str]) -> list[str]:
        index = self._keys.control("rollouts")
        scores: list[Any] = []
        for chunk in chunks(rollout_ids, _INDEX_CHUNK):
            scores += await self._connections.commands([("ZSCORE", index, id) for id in chunk])
        known = [(int(score), id) for score, id in zip(scores, rollout_ids, strict=True) if score is not None]
        return [id for _, id in sorted(known)]

    async def _settle_all(self) -> float | None:
        """Settle every deadline that is due; the seconds until the next one."""
        more = 1
        next_seconds: bytes = b""
        while more:
            more, next_seconds, _ = await self._run("expire_attempts", now=self._now(), limit=CHUNK)
        return float(next_seconds) if next_seconds else None

    # -- queues and events -------------------------------------------------------------------------------------------

    async def query_queues(self) -> list[QueueStats]:
        """See the contract."""
        replies = await self._run("read_queues", now=self._now())
        queues = [
            QueueStats(
                queue=codec.text(name),
                depth=int(depth),
                delayed=int(delayed),
                oldest_seconds=float(waited) if waited else None,
            )
            for name, depth, delayed, waited in replies
        ]
        return sorted(queues, key=lambda stats: stats.queue)

    async def query_events(self, *, rollout_id: str | None = None, limit: int = 100) -> list[RolloutEvent]:
        """See the contract."""
        check_limit(limit, "limit", -1)
        name = self._keys.control("events")
        found: list[RolloutEvent] = []
        before = "+"
        while limit == -1 or len(found) < limit:
            entries = await self._connections.command("XREVRANGE", name, before, "-", "COUNT", _INDEX_CHUNK)
            events = [codec.event(flat) for _, flat in entries]
            found += [event for event in events if rollout_id is None or event.rollout_id == rollout_id]
            if len(entries) < _INDEX_CHUNK:
                break
            before = "(" + codec.text(entries[-1][0])
        kept = found if limit == -1 else found[:limit]
        return kept[::-1]

    # -- waiting -----------------------------------------------------------------------------------------------------

    async def wait_for_rollouts(self, *, rollout_ids: Sequence[str], timeout: float | None = None) -> list[Rollout]:
        """See the contract."""
        asked = check_ids(rollout_ids, "rollout_ids")
        seconds = math.inf if timeout is None else check_timeout(timeout)
        found: dict[str, Rollout | None] = dict.fromkeys(asked)
        ids = names_only(list(found))
        if seconds > 0:
            await self._await_finished(ids, seconds, found)
        else:
            await self._read_finished(ids, found)
        answers = found.values() if len(found) == len(asked) else map(found.get, asked)
        return [rollout for rollout in answers if rollout is not None]

    async def _await_finished(self, ids: Sequence[str], seconds: float, found: dict[str, Rollout | None]) -> None:
        """Put those into `found` that are finished when all are, or when the time is over.

        Each is read as soon as it has finished, so that little is left to do after the last one. If any was changed or
        deleted since, which is rare, all are read again.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        amendments = await self._amendments()
        pending = await self._read_finished(ids, found)
        if not pending:
            return
        feed = self._feed()
        watcher = await feed.join()
        watcher.look_again()  # something may have finished before
        try:
            while pending and await watcher.wait(until - loop.time()):
                looks_at_all, watcher.recheck = watcher.recheck, False
                news = pending.copy() if looks_at_all else pending & watcher.finished
                watcher.finished.clear()
                unfinished = await self._read_finished(news, found)
                pending -= news - unfinished if looks_at_all else news
        finally:
            feed.leave(watcher)
        await self._read_finished(pending, found)
        if await self._amendments() != amendments:
            await self._read_finished(ids, found)

    async def _read_finished(self, ids: Collection[str], found: dict[str, Rollout | None]) -> set[str]:
        """Put those into `found` that are finished, None for the others; the ids of those that exist and are not."""
        replies = await self._rollout_replies(list(ids), "finished")
        pending: set[str] = set()
        for id, reply in zip(ids, replies, strict=True):
            found[id] = codec.rollout(reply, with_attempt=False) if reply else None
            if reply == _UNFINISHED:
                pending.add(id)
        return pending

    async def _amendments(self) -> bytes | None:
        """A number that changes when a finished rollout is changed, reopened or deleted."""
        number: bytes | None = await self._connections.command("HGET", self._keys.meta, "amended")
        return number

    def _feed(self) -> CompletionFeed:
        state = self._loops.get()
        if state.feed is None:
            state.feed = CompletionFeed(self._connections, self._keys, self._settle_all)
        return state.feed

    async def completions(
        self, after: str | None = None, *, limit: int = 1000, timeout: float = 0, group_id: str | None = None
    ) -> CompletionPage:
        """See the contract."""
        check_limit(limit, "limit", 1)
        seconds = check_timeout(timeout)
        cursor = await self._start_cursor(after, "after")
        page = await self._completion_page(cursor, limit, group_id)
        if page.items or not seconds:
            return page
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        feed = self._feed()
        watcher = await feed.join()
        try:
            while True:
                over = loop.time() >= until
                page = await self._completion_page(page.cursor, limit, group_id)
                if page.items or over:
                    return page
                await watcher.wait(until - loop.time())
        finally:
            feed.leave(watcher)

    async def _start_cursor(self, after: str | None, field: str) -> str:
        """Where to go on from; never behind the end of the log."""
        if after is None:
            return "0-0"
        if after != "latest":
            parse_cursor(after, field)
        last = await last_entry(self._connections, self._keys.control("completed"))
        return last if after == "latest" or is_earlier(last, after) else after

    async def _completion_page(self, cursor: str, limit: int, group_id: str | None) -> CompletionPage:
        """Up to `limit` completions behind the cursor; reads on until it has one of the group or the log ends."""
        name = self._keys.control("completed")
        while True:
            entries = await self._connections.command("XRANGE", name, f"({cursor}", "+", "COUNT", limit)
            found = [codec.completion(entry) for entry in entries]
            cursor = found[-1].cursor if found else cursor
            items = [each for each in found if group_id is None or each.group_id == group_id]
            if items or len(entries) < limit:
                return CompletionPage(items=items, cursor=cursor)


def _index_names(statuses: Sequence[str] | None, group_id: str | None, *, either: bool = False) -> list[str]:
    """Indexes whose rollouts meet the conditions; with `either` one of the conditions is enough."""
    if group_id is not None and (either or statuses is None):
        return [f"group:{group_id}"] if is_free_id(group_id) else []
    if statuses is not None:
        return [f"status:{status}" for status in dict.fromkeys(statuses) if status in ROLLOUT_STATUSES]
    return ["rollouts"]
