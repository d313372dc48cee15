"""Removing rollouts from Redis: by id, or those that are too old or too many."""

import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lightning_store.backends.redis import codec
from lightning_store.backends.redis.core import CHUNK, chunks, names_only
from lightning_store.backends.redis.queries import QueryOperations
from lightning_store.backends.redis.steps import StepOperations
from lightning_store.records import RolloutStatus
from lightning_store.requests import check_ids, check_prune, parse_cursor
from lightning_store.status import FINISHED, ROLLOUT_STATUSES

_ENDS: Final = tuple(status for status in ROLLOUT_STATUSES if status in FINISHED)


@dataclass(frozen=True, order=True)
class _Finish:
    """The last finish of a rollout; they are ordered as the completion log is.

    Attributes:
        place: Of its entry in the completion log.
        entry: The id of that entry.
        start_time: When the rollout was created.
    """

    place: tuple[int, int]
    rollout_id: str = field(compare=False)
    entry: str = field(compare=False)
    start_time: float = field(compare=False)
    end_time: float = field(compare=False)


@dataclass(frozen=True)
class _Limits:
    """What is to be removed of those that are meant."""

    older_than_seconds: float | None
    keep_latest: int | None
    consumed: tuple[int, int] | None

    def is_meant(self, place: tuple[int, int]) -> bool:
        """Whether every consumer has passed an entry of the log."""
        return self.consumed is None or place <= self.consumed

    def is_old(self, end_time: float, now: float) -> bool:
        """Whether it finished too long ago."""
        return self.older_than_seconds is not None and now - end_time > self.older_than_seconds


class RemovalOperations(QueryOperations, StepOperations):
    """The operations of the contract that remove rollouts."""

    async def delete_rollouts(self, rollout_ids: Sequence[str]) -> list[str]:
        """See the contract."""
        wanted = names_only(list(dict.fromkeys(check_ids(rollout_ids, "rollout_ids"))))
        deleted: list[str] = []
        for chunk in chunks(wanted):
            deleted += await self._delete([(rollout_id, "") for rollout_id in chunk])
        return deleted

    async def _delete(self, items: Sequence[tuple[str, str]]) -> list[str]:
        """Delete finished rollouts; with a completion, only those whose last one it is."""
        if not items:
            return []
        if self._connections.is_cluster:
            reply = await self._to_the_end(self._delete_in_steps(items))
        else:
            reply = await self._run(
                "delete_rollouts",
                spans=[self._keys.spans(rollout_id) for rollout_id, _ in items],
                now=self._now(),
                token=self.ids.token(),
                items=[part for id, last in items for part in (id, self._keys.span_ids(id), last)],
            )
        return [codec.text(rollout_id) for rollout_id in reply]

    async def prune(
        self,
        *,
        older_than_seconds: float | None = None,
        keep_latest: int | None = None,
        status_in: Sequence[RolloutStatus] | None = None,
        consumed_cursor: str | None = None,
    ) -> int:
        """See the contract.

        The cost is in proportion to what is removed: the completion log is read from its beginning until nothing is due
        any more. With `consumed_cursor` and `keep_latest`, what lies behind the cursor is read too; with `status_in`,
        all rollouts of these statuses, unless there are no more than `keep_latest` of them.
        """
        check_prune(older_than_seconds, keep_latest, status_in, consumed_cursor)
        if older_than_seconds is None and keep_latest is None:
            keep_latest = 0
        consumed = None if consumed_cursor is None else parse_cursor(consumed_cursor, "consumed_cursor")
        limits = _Limits(older_than_seconds, keep_latest, consumed)
        if status_in is None or set(status_in) == FINISHED:
            return await self._prune_in_order(limits)
        return await self._prune_statuses(list(dict.fromkeys(status_in)), limits)

    # -- whatever the status -----------------------------------------------------------------------------------------

    async def _prune_in_order(self, limits: _Limits) -> int:
        """Remove from the beginning of the completion log on, and count anew after each chunk: others prune too."""
        removed, after = 0, "-"
        while True:
            now, entries, finished = await self._oldest_completions(after)
            excess = await self._excess(finished, limits)
            meant = [entry for entry in entries if limits.is_meant(parse_cursor(entry.cursor, "cursor"))]
            due = [
                (entry.rollout_id, entry.cursor)
                for position, entry in enumerate(meant)
                if position < excess or limits.is_old(entry.end_time, now)
            ]
            if not due:
                return removed
            # Entries of rollouts that were reopened since are passed over; the next round counts anew.
            removed += len(await self._delete(due))
            after = "(" + due[-1][1]

    async def _excess(self, finished: int, limits: _Limits) -> int:
        """How many of the finished rollouts that are meant are too many."""
        if limits.keep_latest is None or finished <= limits.keep_latest:
            return 0
        if limits.keep_latest == 0:
            return finished
        return max(0, finished - await self._count_behind(limits.consumed) - limits.keep_latest)

    async def _count_behind(self, consumed: tuple[int, int] | None) -> int:
        """How many finished rollouts have their last completion behind a place."""
        if consumed is None:
            return 0
        ids: dict[str, None] = {}
        after = "{}-{}".format(*consumed)
        while True:
            entries = await self._connections.command(
                "XRANGE", self._keys.control("completed"), f"({after}", "+", "COUNT", CHUNK
            )
            found = [codec.completion(entry) for entry in entries]
            ids.update(dict.fromkeys(entry.rollout_id for entry in found))
            if len(found) < CHUNK:
                return sum([len(await self._finishes(chunk)) for chunk in chunks(list(ids))])
            after = found[-1].cursor

    async def _oldest_completions(self, after: str) -> tuple[float, list[Any], int]:
        """The server's time, a chunk of the oldest completions behind a cursor, and how many rollouts are finished."""
        entries, *counts, time = await self._connections.commands(
            [
                ("XRANGE", self._keys.control("completed"), after, "+", "COUNT", CHUNK),
                *(("ZCARD", self._keys.control("status", status)) for status in _ENDS),
                ("TIME",),
            ]
        )
        return self._time_of(time), [codec.completion(entry) for entry in entries], sum(counts)

    def _time_of(self, time: Sequence[bytes]) -> float:
        return self._clock.now() if self._clock else int(time[0]) + int(time[1]) / 1e6

    # -- by status ---------------------------------------------------------------------------------------------------

    async def _prune_statuses(self, statuses: Sequence[RolloutStatus], limits: _Limits) -> int:
        """Walk along the indexes of statuses, in order of creation, and keep the latest finishes in mind."""
        indexes = [self._keys.control("status", status) for status in statuses]
        *counts, time = await self._connections.commands([*(("ZCARD", name) for name in indexes), ("TIME",)])
        now, removed = self._time_of(time), 0
        if limits.older_than_seconds is None and sum(counts) <= (limits.keep_latest or 0):
            return 0
        latest: list[_Finish] = []
        for index in indexes:
            async for finishes in self._finishes_in(index):
                due = _outlived([each for each in finishes if limits.is_meant(each.place)], latest, limits, now)
                removed += len(await self._delete([(each.rollout_id, each.entry) for each in due]))
                # Whatever was created later cannot have finished earlier.
                if limits.keep_latest is None and not all(limits.is_old(each.start_time, now) for each in finishes):
                    break
        return removed

    async def _finishes_in(self, index: str) -> AsyncIterator[list[_Finish]]:
        """The last finishes of the rollouts in an index of a status, in chunks, in order of creation."""
        after: bytes | str = "-inf"
        while True:
            flat = await self._connections.command(
                "ZRANGEBYSCORE", index, after, "+inf", "WITHSCORES", "LIMIT", 0, CHUNK
            )
            if not flat:
                return
            after = b"(" + flat[-1]
            yield await self._finishes([codec.text(id) for id in flat[::2]])

    async def _finishes(self, rollout_ids: Sequence[str]) -> list[_Finish]:
        """The last finishes of those rollouts that are finished."""
        replies = await self._run("read_finishes", rollout_ids=rollout_ids)
        return [_finish(id, *reply) for id, reply in zip(rollout_ids, replies, strict=True) if reply]


def _finish(rollout_id: str, entry: bytes, start: bytes, end: bytes) -> _Finish:
    cursor = codec.text(entry)
    return _Finish(parse_cursor(cursor, "cursor"), rollout_id, cursor, float(start), float(end))


def _outlived(finishes: Sequence[_Finish], latest: list[_Finish], limits: _Limits, now: float) -> list[_Finish]:
    """Those that are too old or too many; `latest` is a heap of the others, which goes on from chunk to chunk."""
    due = [each for each in finishes if limits.is_old(each.end_time, now)]
    if limits.keep_latest is not None:
        for each in finishes:
            if not limits.is_old(each.end_time, now):
                heapq.heappush(latest, each)
        due += [heapq.heappop(latest) for _ in range(len(latest) - limits.keep_latest)]
    return due
