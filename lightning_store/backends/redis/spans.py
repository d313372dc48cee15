"""Spans and rewards in Redis."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lightning_store import query
from lightning_store.backends.redis import codec
from lightning_store.backends.redis.attempts import check_known
from lightning_store.backends.redis.core import chunks, names_only
from lightning_store.backends.redis.memory import MemoryCare
from lightning_store.backends.redis.scripts import Argument, Call
from lightning_store.backends.redis.steps import SpanBatch, StepOperations
from lightning_store.errors import RolloutNotFoundError, SpansEvictedError
from lightning_store.payloads import PayloadLimits
from lightning_store.records import FilterLogic, PaginatedResult, SortOrder
from lightning_store.requests import check_ids, check_pairs, check_spans, is_name
from lightning_store.rewards import reward_of
from lightning_store.spans import Span

_CALL_SPANS: Final = 500
_CALL_BYTES: Final = 4_000_000
_READ_SPANS: Final = 1000
_NO_ATTEMPT: Final = "?"  # no attempt is called so


class SpanOperations(MemoryCare, StepOperations):
    """The operations of the contract on spans."""

    async def add_many_spans(self, spans: Sequence[Span], *, renumber: bool = False) -> list[Span]:
        """See the contract. A group of over 500 spans or 4 MB is stored in several atomic steps."""
        check_spans(spans)
        groups = _grouped(spans, self._payloads)
        if spans:
            await self._make_sure_of_room()
        batches = [batch for group in groups for batch in _batched(group)]
        unknown = [_unknown(batch[0][0]) for batch in batches]
        known = [batch for batch, bad in zip(batches, unknown, strict=True) if bad is None]
        rollouts = ",".join({batch[0][0].rollout_id: None for batch in known})
        answers = iter(await self._store([_span_batch(batch) for batch in known], renumber, rollouts) if known else [])
        stored: dict[int, Span] = {}
        size = 0
        failure: Exception | None = None
        for batch, bad in zip(batches, unknown, strict=True):
            answer = next(answers) if bad is None else bad
            if isinstance(answer, Exception):
                failure = failure or answer
                continue
            for (span, position, payload), number in zip(batch, answer, strict=True):
                if number:
                    size += len(payload)
                    stored[position] = span.model_copy(update={"sequence_id": int(number)}) if renumber else span
        self._observer.stored_spans(len(stored), size)
        if failure is not None:
            raise failure
        if len(stored) < len(spans):
            self._report_duplicates([s for b in batches for s, position, _ in b if position not in stored])
        return [stored[position] for position in sorted(stored)]

    async def _store(self, batches: Sequence[SpanBatch], renumber: bool, rollouts: str) -> list[Any]:
        """Per batch the numbers of its spans as text, b"" for a duplicate; or an error."""
        if self._connections.is_cluster:
            return await self._to_the_end(self._store_in_steps(batches, renumber, rollouts))
        return await self._connections.run_many([self._span_call(batch, renumber, rollouts) for batch in batches])

    def _span_call(self, batch: SpanBatch, renumber: bool, rollouts: str) -> Call:
        return self._call(
            "add_many_spans",
            spans=self._keys.spans(batch.rollout_id),
            span_ids=self._keys.span_ids(batch.rollout_id),
            now=self._now(),
            token=self.ids.token(),
            rollout_id=batch.rollout_id,
            attempt_id=batch.attempt_id,
            renumber="1" if renumber else "",
            call=rollouts,
            items=batch.items,
        )

    async def get_many_span_sequence_ids(self, rollout_attempt_ids: Sequence[tuple[str, str]]) -> list[int]:
        """See the contract."""
        pairs = check_pairs(rollout_attempt_ids, "rollout_attempt_ids")
        for rollout_id, _ in pairs:
            if not is_name(rollout_id):
                raise RolloutNotFoundError(f"Rollout {rollout_id} not found")
        if not pairs:
            return []
        numbers = await self._run(
            "get_many_span_sequence_ids",
            now=self._now(),
            token=self.ids.token(),
            rollout_ids=[rollout_id for rollout_id, _ in pairs],
        )
        return [int(number) for number in numbers]

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
        spans = (await self._spans_of(names_only([rollout_id]), attempt_id)).get(rollout_id, [])
        return query.query_spans(
            spans,
            trace_id=trace_id,
            trace_id_contains=trace_id_contains,
            span_id=span_id,
            span_id_contains=span_id_contains,
            parent_id=parent_id,
            parent_id_contains=parent_id_contains,
            name=name,
            name_contains=name_contains,
            filter_logic=filter_logic,
            limit=limit,
            offset=offset,
            sort_by=sort_by,
            sort_order=sort_order,
        )

    async def query_many_spans(
        self, rollout_ids: Sequence[str], attempt_id: str | None = None
    ) -> Mapping[str, Sequence[Span]]:
        """See the contract."""
        ids = list(dict.fromkeys(check_ids(rollout_ids, "rollout_ids")))
        found = await self._spans_of(names_only(ids), attempt_id)
        return {id: query.query_spans(found.get(id, [])).items for id in ids}

    async def _spans_of(self, rollout_ids: Sequence[str], attempt_id: str | None) -> dict[str, list[Span]]:
        """The spans of rollouts in the order in which they were stored, after settling the rollouts."""
        found: dict[str, list[Span]] = {}
        asked = "" if attempt_id is None else attempt_id if is_name(attempt_id) else _NO_ATTEMPT
        for chunk in chunks(rollout_ids):
            streams = await self._connections.commands(
                [("XRANGE", self._keys.spans(id), "-", "+", "COUNT", _READ_SPANS) for id in chunk]
            )
            entries = [first + await self._rest_of(id, first) for id, first in zip(chunk, streams, strict=True)]
            # Afterwards: they are marked before they are dropped, so what was dropped before it was read shows now.
            meant = await self._run("locate_spans", now=self._now(), attempt=asked, rollout_ids=chunk)
            for rollout_id, stored, (wanted, is_evicted) in zip(chunk, entries, meant, strict=True):
                if is_evicted:
                    raise SpansEvictedError(f"The spans of rollout {rollout_id} were evicted for lack of memory")
                spans = [codec.span(rollout_id, flat) for _, flat in stored]
                only = codec.text(wanted)
                found[rollout_id] = [span for span in spans if attempt_id is None or span.attempt_id == only]
        return found

    async def _rest_of(self, rollout_id: str, first: list[Any]) -> list[Any]:
        """What follows the first entries of a rollout's stream."""
        rest: list[Any] = []
        last = first
        while len(last) == _READ_SPANS:
            after = "(" + codec.text(last[-1][0])
            last = await self._connections.command(
                "XRANGE", self._keys.spans(rollout_id), after, "+", "COUNT", _READ_SPANS
            )
            rest += last
        return rest

    async def rewards(self, rollout_ids: Sequence[str]) -> Mapping[str, float | None]:
        """See the contract."""
        ids = list(dict.fromkeys(check_ids(rollout_ids, "rollout_ids")))
        found: dict[str, float | None] = dict.fromkeys(ids)
        for chunk in chunks(names_only(ids), _READ_SPANS):
            replies = await self._run("read_rewards", rollout_ids=chunk)
            found.update({id: float(reply) for id, reply in zip(chunk, replies, strict=True) if reply})
        return found


_Batch = Sequence[tuple[Span, int, bytes]]


def _grouped(spans: Sequence[Span], payloads: PayloadLimits) -> list[list[tuple[Span, int, bytes]]]:
    """Spans with their positions and payloads by rollout and attempt, in order of first appearance."""
    groups: defaultdict[tuple[str, str], list[tuple[Span, int, bytes]]] = defaultdict(list)
    for position, span in enumerate(spans):
        payload = codec.span_payload(span, payloads, position)
        groups[span.rollout_id, span.attempt_id].append((span, position, payload))
    return list(groups.values())


def _batched(group: _Batch) -> list[list[tuple[Span, int, bytes]]]:
    """Runs of spans that one script may take."""
    batches: list[list[tuple[Span, int, bytes]]] = [[]]
    size = 0
    for item in group:
        if batches[-1] and (len(batches[-1]) == _CALL_SPANS or size + len(item[2]) > _CALL_BYTES):
            batches.append([])
            size = 0
        batches[-1].append(item)
        size += len(item[2])
    return batches


def _span_batch(batch: _Batch) -> SpanBatch:
    items: list[Argument] = []
    for span, _, payload in batch:
        reward = reward_of(span)
        items += (
            codec.span_id_argument(span.span_id),
            str(span.sequence_id),
            "" if reward is None else repr(reward),
            payload,
        )
    first = batch[0][0]
    return SpanBatch(first.rollout_id, first.attempt_id, [span.sequence_id for span, *_ in batch], items)


def _unknown(span: Span) -> Exception | None:
    """Why the span's rollout or attempt cannot exist; None if it can."""
    try:
        check_known(span.rollout_id, span.attempt_id)
    except ValueError as error:
        return error
    return None
