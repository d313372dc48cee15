"""What one script does on a single server, and several steps on a Cluster, where spans lie in slots of their own.

Each step is a script that may be repeated. When the process dies in between, nothing was acknowledged; what counts is
then put right by the audit, and what was begun is done by the next call.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from lightning_store.backends.redis import codec
from lightning_store.backends.redis.core import RedisCore
from lightning_store.backends.redis.scripts import Argument, Call
from lightning_store.errors import RolloutNotFoundError, StoreUnavailableError


class SpanBatch(NamedTuple):
    """Spans of one attempt that one script may take.

    Attributes:
        numbers: Their sequence numbers as the caller has chosen them.
        items: As the scripts take them, see lua/shared/appending.lua.
    """

    rollout_id: str
    attempt_id: str
    numbers: Sequence[int]
    items: Sequence[Argument]


class StepOperations(RedisCore):
    """Storing and removing spans on a Cluster."""

    async def _store_in_steps(self, batches: Sequence[SpanBatch], renumber: bool, rollouts: str) -> list[Any]:
        """Store spans; per batch the numbers of its spans as text, b"" for a duplicate, or an error.

        Args:
            batches: The spans.
            renumber: Whether new ones get the next numbers of their rollout.
            rollouts: Comma-separated ids of all rollouts of the call.
        """
        tokens = [self.ids.token() for _ in batches]
        begin = [
            self._begin_call(batch, token, renumber, rollouts) for batch, token in zip(batches, tokens, strict=True)
        ]
        begun = await self._connections.run_many(begin)
        answers = list(begun)
        going = [at for at, answer in enumerate(begun) if not isinstance(answer, Exception)]
        append = [self._append_call(batches[at], tokens[at], begun[at], renumber) for at in going]
        appended = await self._connections.run_many(append)
        finish = [
            self._finish_call(batches[at], tokens[at], begun[at], answer, renumber)
            for at, answer in zip(going, appended, strict=True)
        ]
        finished = await self._connections.run_many(finish)
        for at, answer, end in zip(going, appended, finished, strict=True):
            if isinstance(answer, RolloutNotFoundError):
                answers[at] = end if isinstance(end, Exception) else _broken_off(batches[at].rollout_id)
            elif isinstance(answer, Exception) or isinstance(end, Exception):
                answers[at] = answer if isinstance(answer, Exception) else end
            else:
                answers[at] = answer[0]
        return answers

    def _begin_call(self, batch: SpanBatch, token: str, renumber: bool, rollouts: str) -> Call:
        return self._call(
            "begin_spans",
            now=self._now(),
            token=token,
            rollout_id=batch.rollout_id,
            attempt_id=batch.attempt_id,
            call=rollouts,
            wanted=len(batch.numbers) if renumber else 0,
            highest="" if renumber else str(max(batch.numbers)),
        )

    def _append_call(self, batch: SpanBatch, token: str, begun: Sequence[bytes], renumber: bool) -> Call:
        before, _, number, kept = begun
        return self._scripts["append_spans"].call(
            spans=self._keys.spans(batch.rollout_id),
            span_ids=self._keys.span_ids(batch.rollout_id),
            deleted=self._keys.deleted(batch.rollout_id),
            rewards=self._keys.rewards(batch.rollout_id),
            answer=self._keys.span_answer(batch.rollout_id, token),
            number=number,
            attempt_id=batch.attempt_id,
            after=before if renumber else "",
            kept=kept,
            items=batch.items,
        )

    def _finish_call(self, batch: SpanBatch, token: str, begun: Sequence[bytes], appended: Any, renumber: bool) -> Call:
        before, after, _, kept = begun
        stored, count, reward, reward_number = ([], 0, b"", b"0") if isinstance(appended, Exception) else appended
        used = str(max(int(number) for number in (before, *filter(None, stored))))
        return self._call(
            "finish_spans",
            now=self._now(),
            token=token,
            rollout_id=batch.rollout_id,
            attempt_id=batch.attempt_id,
            after=after,
            used=used if renumber else after,  # a number that the caller chose may be that of another's span too
            count_new=count,
            count_appended=count if kept == b"1" else 0,
            reward=reward,
            reward_number=reward_number,
        )

    async def _delete_in_steps(self, items: Sequence[tuple[str, str]]) -> list[bytes]:
        """Delete finished rollouts, their spans first: what a crash leaves is a rollout, which can be deleted again.

        Args:
            items: Ids, each with the completion that must be its last; "" = any.

        Returns:
            The ids of those that were deleted.
        """
        replies = await self._connections.run(
            self._call("read_deletable", items=[part for item in items for part in item])
        )
        going = [(*item, *reply) for item, reply in zip(items, replies, strict=True) if reply]
        removed = await self._connections.run_many(
            [self._delete_spans_call(rollout_id, number, attempts) for rollout_id, _, number, attempts in going]
        )
        for answer in removed:
            if isinstance(answer, Exception):
                raise answer
        deleted: list[bytes] = await self._run(
            "delete_rollouts",
            spans=[],
            now=self._now(),
            token=self.ids.token(),
            items=[part for rollout_id, last, *_ in going for part in (rollout_id, "", last)],
        )
        gone = set(map(codec.text, deleted))
        await self._let_in([rollout_id for rollout_id, *_ in going if rollout_id not in gone])
        return deleted

    async def _let_in(self, rollout_ids: Sequence[str]) -> None:
        """Let those take spans again that were reopened meanwhile; not those that another call has deleted."""
        there = await self._connections.commands([("EXISTS", self._keys.control("rollout", id)) for id in rollout_ids])
        reopened = [id for id, is_there in zip(rollout_ids, there, strict=True) if is_there]
        await self._connections.commands([("DEL", self._keys.deleted(id)) for id in reopened])

    def _delete_spans_call(self, rollout_id: str, number: bytes, attempt_ids: Sequence[bytes]) -> Call:
        return self._scripts["delete_spans"].call(
            spans=self._keys.spans(rollout_id),
            span_ids=self._keys.span_ids(rollout_id),
            rewards=self._keys.rewards(rollout_id),
            deleted=self._keys.deleted(rollout_id),
            number=number,
            attempt_ids=attempt_ids,
        )


def _broken_off(rollout_id: str) -> Exception:
    return StoreUnavailableError(
        f"Rollout {rollout_id} takes no spans: its deletion has begun, and ends it or is over within minutes"
    )
