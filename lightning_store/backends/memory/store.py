"""Spans, rewards and resources of the memory store, and the store itself."""

import time
from collections.abc import Mapping, Sequence

from lightning_store import lifecycle
from lightning_store.backends.memory.attempts import AttemptOperations
from lightning_store.backends.memory.audit import MemoryAudit
from lightning_store.backends.memory.claims import LATEST
from lightning_store.backends.memory.copies import copy_record
from lightning_store.backends.memory.stored import StoredRollout
from lightning_store.errors import LightningStoreError, SpansEvictedError
from lightning_store.query import page_of, query_resources, query_spans
from lightning_store.records import (
    AuditReport,
    FilterLogic,
    NamedResources,
    PaginatedResult,
    ResourcesUpdate,
    SortOrder,
)
from lightning_store.requests import check_free_id, check_ids, check_pairs, check_resources, check_spans
from lightning_store.spans import Span


class InMemoryLightningStore(AttemptOperations):
    """The store in the memory of one process: the executable specification of the contract.

    Every call is one step without an await inside, hence atomic on an event loop; `LightningStoreThreaded` makes it
    safe to call from any thread.
    """

    # -- spans -------------------------------------------------------------------------------------------------------

    async def add_many_spans(self, spans: Sequence[Span], *, renumber: bool = False) -> list[Span]:
        """See the contract."""
        check_spans(spans)
        groups: dict[tuple[str, str], dict[int, tuple[Span, bytes]]] = {}
        for place, span in enumerate(spans):
            data = self._payloads.span(span, place)
            groups.setdefault((span.rollout_id, span.attempt_id), {})[place] = span, data
        spared = {rollout_id for rollout_id, _ in groups}
        stored: dict[int, Span] = {}
        first_error: LightningStoreError | None = None
        for (rollout_id, attempt_id), group in groups.items():
            try:
                stored |= self._add_group(rollout_id, attempt_id, group, spared, renumber=renumber)
            except LightningStoreError as error:
                first_error = first_error or error
        if first_error is not None:
            raise first_error
        self._report_duplicates([span for place, span in enumerate(spans) if place not in stored])
        return [stored[place] for place in sorted(stored)]

    def _add_group(
        self,
        rollout_id: str,
        attempt_id: str,
        group: dict[int, tuple[Span, bytes]],
        spared: set[str],
        *,
        renumber: bool,
    ) -> dict[int, Span]:
        """Store the spans of one attempt, given by their places in the call; returns what was stored by its place."""
        now = self._begin(*spared)
        state = self._state
        stored = state.rollout(rollout_id)
        is_kept = state.attempt(stored, attempt_id).record.sequence_id > stored.shelf.evicted
        memory = self._span_memory
        new = memory.new_spans(stored.shelf, group)
        if is_kept:
            memory.make_room(sum(new.values()), state.evictable(rollout_id))
        answers = {place: memory.take(stored.shelf, group[place][0], renumber=renumber) for place in new}
        if is_kept and new:
            self._observer.stored_spans(len(new), sum(new.values()))
            for place, size in new.items():
                memory.keep(stored.shelf, answers[place], group[place][1], size)
            state.note_spans(stored)
        if new:
            attempt = state.attempt(stored, attempt_id)
            step = lifecycle.add_span(stored.state, attempt, now, is_latest=attempt_id == stored.latest_id)
            state.apply_sign_of_life(stored, step, now)
            self._alarm.rearm()
        return answers

    async def get_many_span_sequence_ids(self, rollout_attempt_ids: Sequence[tuple[str, str]]) -> list[int]:
        """See the contract."""
        pairs = check_pairs(rollout_attempt_ids, "rollout_attempt_ids")
        self._time.note()
        shelves = [self._state.rollout(rollout_id).shelf for rollout_id, _ in pairs]
        return [shelf.next_sequence_id() for shelf in shelves]

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
        self._state.settle_if_due(rollout_id, self._time.note_read())
        return query_spans(
            self._spans_of(rollout_id, attempt_id),
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
        ids = check_ids(rollout_ids, "rollout_ids")
        now = self._time.note_read()
        for id in ids:
            self._state.settle_if_due(id, now)
        return {id: query_spans(self._spans_of(id, attempt_id)).items for id in ids}

    def _spans_of(self, rollout_id: str, attempt_id: str | None) -> list[Span]:
        """The spans of a rollout or of one of its attempts, in the order in which they were stored."""
        stored = self._state.rollouts.get(rollout_id)
        if stored is None:
            return []
        wanted = stored.latest_id if attempt_id == LATEST else attempt_id
        if self._are_evicted(stored, attempt_id, wanted):
            raise SpansEvictedError(f"The spans of rollout {rollout_id} were evicted for lack of memory")
        return [kept.span(rollout_id) for kept in stored.shelf.spans if attempt_id is None or kept.attempt_id == wanted]

    def _are_evicted(self, stored: StoredRollout, attempt_id: str | None, wanted: str | None) -> bool:
        if attempt_id is None:
            return stored.shelf.evicted > 0
        attempt = stored.attempts.get(wanted or "")
        return attempt is not None and attempt.record.sequence_id <= stored.shelf.evicted

    async def rewards(self, rollout_ids: Sequence[str]) -> Mapping[str, float | None]:
        """See the contract."""
        return {id: self._reward(self._state.rollouts.get(id)) for id in check_ids(rollout_ids, "rollout_ids")}

    def _reward(self, stored: StoredRollout | None) -> float | None:
        if stored is None or stored.latest_id is None or stored.latest_id not in stored.shelf.rewards:
            return None
        return stored.shelf.rewards[stored.latest_id].value

    # -- resources ---------------------------------------------------------------------------------------------------

    async def add_resources(self, resources: NamedResources) -> ResourcesUpdate:
        """See the contract."""
        copied = self._checked(resources)
        now = self._time.note()
        while (resources_id := self.ids.resources_id()) in self._state.resources:
            pass
        return self._publish(resources_id, copied, now)

    async def update_resources(self, resources_id: str, resources: NamedResources) -> ResourcesUpdate:
        """See the contract."""
        check_free_id(resources_id, "resources_id")
        copied = self._checked(resources)
        return self._publish(resources_id, copied, self._begin())

    def _checked(self, resources: NamedResources) -> NamedResources:
        copied = check_resources(resources)
        self._payloads.resources({name: value.model_dump() for name, value in copied.items()})
        return copied

    def _publish(self, resources_id: str, resources: NamedResources, now: float) -> ResourcesUpdate:
        before = self._state.resources.get(resources_id)
        update = ResourcesUpdate.model_construct(
            resources_id=resources_id,
            create_time=now if before is None else before.create_time,
            update_time=now,
            version=1 if before is None else before.version + 1,
            resources=resources,
        )
        self._state.resources[resources_id] = update
        self._state.latest_resources_id = resources_id
        return copy_record(update)

    async def get_resources_by_id(self, resources_id: str) -> ResourcesUpdate | None:
        """See the contract."""
        update = self._state.resources.get(resources_id)
        return None if update is None else copy_record(update)

    async def get_latest_resources(self) -> ResourcesUpdate | None:
        """See the contract."""
        latest = self._state.latest_resources_id
        return None if latest is None else copy_record(self._state.resources[latest])

    async def query_resources(
        self,
        *,
        resources_id: str | None = None,
        resources_id_contains: str | None = None,
        sort_by: str | None = None,
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> PaginatedResult[ResourcesUpdate]:
        """See the contract."""
        page = query_resources(
            self._state.resources.values(),
            resources_id=resources_id,
            resources_id_contains=resources_id_contains,
            sort_by=sort_by,
            sort_order=sort_order,
            limit=limit,
            offset=offset,
        )
        return page_of([copy_record(update) for update in page], limit=limit, offset=offset, total=page.total)

    # -- memory ------------------------------------------------------------------------------------------------------

    async def evict_spans(self) -> int:
        """See the contract."""
        self._time.note_read()
        return self._span_memory.evict(0, self._state.evictable(""))

    # -- audit -------------------------------------------------------------------------------------------------------

    async def audit(self, *, repair: bool = False) -> AuditReport:
        """See the contract. One step, in proportion to all that is stored.

        Only a fault of the store itself can damage what lies in its memory; `repair` mends nothing, to hide none.
        """
        began = time.monotonic()
        if repair:
            self._time.note()
        else:
            self._time.note_read()
        findings = MemoryAudit(self._state, self._span_memory).run()
        return findings.report(rollouts=len(self._state.rollouts), seconds=time.monotonic() - began)
