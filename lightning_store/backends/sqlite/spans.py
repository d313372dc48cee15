"""Spans, rewards and their eviction in the SQLite store."""

from collections.abc import Mapping, Sequence

from lightning_store.backends.sqlite.attempts import AttemptOperations
from lightning_store.backends.sqlite.codec import to_bytes
from lightning_store.backends.sqlite.eviction import Room, evict
from lightning_store.backends.sqlite.filters import Conditions, Page
from lightning_store.backends.sqlite.span_rows import Encoded, add_group, next_sequence_id, reward_in, span_page
from lightning_store.backends.sqlite.state import State
from lightning_store.errors import LightningStoreError
from lightning_store.jsonvalue import compressed
from lightning_store.records import FilterLogic, PaginatedResult, SortOrder
from lightning_store.requests import check_ids, check_pairs, check_spans
from lightning_store.spans import Span


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
                    stored |= add_group(state, rollout_id, attempt_id, group, room, renumber=renumber)
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
            numbers = [next_sequence_id(stored) for stored in [state.rollout(rollout_id) for rollout_id, _ in pairs]]
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
            lambda state: span_page(state, rollout_id, attempt_id, conditions, page), [rollout_id]
        )

    async def query_many_spans(
        self, rollout_ids: Sequence[str], attempt_id: str | None = None
    ) -> Mapping[str, Sequence[Span]]:
        """See the contract."""
        ids = check_ids(rollout_ids, "rollout_ids")
        page = Page(Span, "sequence_id", "asc", -1, 0)
        return await self._settled(
            lambda state: {
                id: list(span_page(state, id, attempt_id, Conditions(), page).items) for id in dict.fromkeys(ids)
            },
            ids,
        )

    async def rewards(self, rollout_ids: Sequence[str]) -> Mapping[str, float | None]:
        """See the contract."""
        ids = check_ids(rollout_ids, "rollout_ids")
        return await self._read(lambda state: {id: reward_in(state, id) for id in dict.fromkeys(ids)})

    async def evict_spans(self) -> int:
        """See the contract. Room that this makes in the file is used again; the file does not shrink."""
        room = self._span_room()

        def make_room(state: State) -> int:
            state.settle_before_reading([])
            return evict(state, room, 0, "")

        return await self._write(make_room)

    def _span_room(self) -> Room:
        capacity = self._capacity_bytes()
        return Room(self._thresholds.of(capacity), capacity)
