"""Queries of the SQLite store cost what their page costs, whatever else is stored; text may be any text."""

import pytest

from lightning_store import SQLiteLightningStore
from lightning_store.records import EnqueueRolloutRequest
from tests.support.factories import requests_for, span_of

FEW, MANY = 300, 3_000
STRANGE = ["a\x00b", "a\ud800b", "\udfff", "a%b_c", "äöü", "\U0001f600", "", "AB", "ab"]


@pytest.fixture
async def store(tmp_path):
    store = SQLiteLightningStore(tmp_path / "store.db", synchronous="normal")
    yield store
    await store.close()


class Effort:
    """Counts what SQLite does on the connection of the reading thread, in thousands of instructions."""

    def __init__(self, store):
        self._store = store
        self.count = 0

    def _tick(self):
        self.count += 1

    async def of(self, call):
        """How much a call takes; nothing else reads meanwhile."""
        await self._store._read(lambda state: state.connection.set_progress_handler(self._tick, 100))
        self.count = 0
        await call()
        return self.count


PAGES = {
    "first page": {},
    "status": {"status_in": ["queuing"]},
    "two statuses": {"status_in": ["preparing", "queuing"]},
    "rare status": {"status_in": ["preparing"]},
    "group": {"group_id": "g"},
    "ids": {"rollout_id_in": [f"own-{number}" for number in range(30)]},
    "latest start first": {"sort_by": "start_time", "sort_order": "desc"},
    "earliest start first": {"sort_by": "start_time"},
    "by id": {"sort_by": "rollout_id", "sort_order": "desc"},
}


async def test_pages_cost_the_same_among_few_and_many(store):
    effort = Effort(store)
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=1, group_id="g") for _ in range(30)])
    await store.enqueue_many_rollouts(
        [EnqueueRolloutRequest(input=1, rollout_id=f"own-{number}") for number in range(30)]
    )
    await store.dequeue_many_rollouts(limit=5)

    async def costs():
        return {
            name: await effort.of(lambda query=query: store.query_rollouts(limit=20, **query))
            for name, query in PAGES.items()
        }

    async def grow(count):
        for _ in range(count // 100):  # each call has a time of its own
            await store.enqueue_many_rollouts(requests_for(range(100)))

    await grow(FEW)
    few = await costs()
    await grow(MANY)
    many = await costs()

    assert {name: (few[name], cost) for name, cost in many.items() if cost > 2 * few[name] + 5} == {}


@pytest.mark.parametrize("operation", ["get_rollout_by_id", "query_spans", "query_attempts"])
async def test_reads_of_one_rollout_cost_the_same_among_many(store, operation):
    effort = Effort(store)
    started = await store.start_rollout("task")
    await store.add_many_spans([span_of(started) for _ in range(10)])
    few = await effort.of(lambda: getattr(store, operation)(started.rollout_id))
    for _ in range(10):
        other = await store.start_rollout("other")
        await store.add_many_spans([span_of(other) for _ in range(100)])
    await store.enqueue_many_rollouts(requests_for(range(1_000)))
    assert await effort.of(lambda: getattr(store, operation)(started.rollout_id)) <= 2 * few + 5


@pytest.mark.parametrize("text", STRANGE, ids=ascii)
async def test_spans_are_found_by_any_text(store, text):
    started = await store.start_rollout("task")
    spans = [span_of(started, name=name, trace_id=name, parent_id=name) for name in STRANGE]
    await store.add_many_spans(spans)
    for field in ("name", "trace_id", "parent_id"):
        found = await store.query_spans(started.rollout_id, **{field: text})
        assert [getattr(span, field) for span in found] == [text]
        part = await store.query_spans(started.rollout_id, **{f"{field}_contains": text})
        assert [span.name for span in part] == [name for name in STRANGE if text in name]


@pytest.mark.parametrize("text", ["\ud800", "a\x00", "%", "_", "'"], ids=ascii)
async def test_text_that_no_record_can_have_finds_nothing(store, text):
    started = await store.start_rollout("task", worker_id="w")
    await store.update_resources("rs", {})
    assert (await store.query_rollouts(rollout_id_contains=text)).total == 0
    assert (await store.query_rollouts(group_id=text)).total == 0
    assert (await store.query_rollouts(status_in=[text])).total == 0
    assert (await store.query_workers(worker_id_contains=text)).total == 0
    assert (await store.query_resources(resources_id=text)).total == 0
    assert (await store.query_spans(started.rollout_id, text)).total == 0


async def test_long_lists_of_ids_are_one_condition(store):
    created = await store.enqueue_many_rollouts(requests_for(range(20)))
    ids = [rollout.rollout_id for rollout in created] + [f"unknown-{number}" for number in range(40_000)]
    assert (await store.query_rollouts(rollout_id_in=ids)).total == 20
    assert (await store.query_rollouts(rollout_id_in=ids, status_in=["failed"], filter_logic="or")).total == 20


async def test_pages_far_beyond_the_end_are_empty(store):
    await store.enqueue_rollout(1)
    for number in (2**63, 2**70):
        assert (await store.query_rollouts(offset=number)).items == []
        assert (await store.query_rollouts(limit=number)).total == 1


async def test_cursor_that_the_log_will_never_reach_finds_nothing(store):
    page = await store.completions("99999999999999999999-0")
    assert (page.items, page.cursor) == ([], "99999999999999999999-0")


async def test_last_number_of_spans_is_the_last(store):
    started = await store.start_rollout("task")
    await store.add_span(span_of(started, sequence_id=2**63 - 1))
    with pytest.raises(ValueError, match="used the last number"):
        await store.get_next_span_sequence_id(started.rollout_id, "x")
    assert (await store.audit()).findings == []
