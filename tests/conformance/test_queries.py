"""Filters, order and pages, one meaning for every kind of record: sections 1.7 and 4."""

import pytest

from lightning_store.errors import InvalidRequestError
from lightning_store.records import AttemptedRollout, EnqueueRolloutRequest, PaginatedResult, Rollout
from lightning_store.spans import SpanContext
from tests.support.factories import some_resources, span_of

# Ordered by code point. By UTF-16 units the last two would change places, by locale the first ones.
BY_CODE_POINT = ["", "10", "9", "B", "a", "é", "ﬀ", "😀"]


def ids(page):
    return [rollout.rollout_id for rollout in page]


@pytest.fixture
async def rollouts(store, clock):
    """Five rollouts: a1 queuing, a2 running, b1 succeeded, b2 cancelled, B3 preparing; a1 and b1 in group g."""
    for name, group in [("a1", "g"), ("a2", None), ("b1", "g"), ("b2", "h"), ("B3", None)]:
        await store.enqueue_rollout(name, rollout_id=name, group_id=group)
        clock.advance(1)
    for name, status in [("a2", "running"), ("b1", "succeeded"), ("b2", "cancelled")]:
        await store.update_rollout(name, status=status)
    await store.start_attempt("B3")
    return store


# -- filters of rollouts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["a1", "a2", "b1", "b2", "B3"]),
        ({"status_in": None, "rollout_id_in": None}, ["a1", "a2", "b1", "b2", "B3"]),
        ({"status_in": ["running", "queuing"]}, ["a1", "a2"]),
        ({"status_in": ["requeuing"]}, []),
        ({"status_in": []}, []),
        ({"rollout_id_in": ["b2", "a1", "unknown", "a1"]}, ["a1", "b2"]),
        ({"rollout_id_in": []}, []),
        ({"rollout_id_contains": "b"}, ["b1", "b2"]),
        ({"rollout_id_contains": "B"}, ["B3"]),
        ({"rollout_id_contains": ""}, ["a1", "a2", "b1", "b2", "B3"]),
        ({"rollout_id_contains": "*"}, []),
        ({"rollout_id_contains": "a1.*"}, []),
        ({"group_id": "g"}, ["a1", "b1"]),
        ({"group_id": "unknown"}, []),
        ({"status_in": ["queuing", "succeeded"], "rollout_id_contains": "b"}, ["b1"]),
        (
            {"status_in": ["queuing"], "rollout_id_in": ["a1", "a2"], "rollout_id_contains": "1", "group_id": "g"},
            ["a1"],
        ),
        ({"status_in": ["queuing"], "group_id": "h"}, []),
        ({"filter_logic": "or"}, ["a1", "a2", "b1", "b2", "B3"]),
        ({"filter_logic": "or", "status_in": ["running"], "rollout_id_contains": "b"}, ["a2", "b1", "b2"]),
        ({"filter_logic": "or", "status_in": [], "rollout_id_in": ["b2"]}, ["b2"]),
        ({"filter_logic": "or", "status_in": []}, []),
        ({"filter_logic": "or", "group_id": "g", "status_in": ["preparing"]}, ["a1", "b1", "B3"]),
        ({"filter_logic": "or", "rollout_id_in": ["a1"], "rollout_id_contains": ""}, ["a1", "a2", "b1", "b2", "B3"]),
        ({"status": ["running"]}, ["a2"]),
        ({"rollout_ids": ["a2", "b1"]}, ["a2", "b1"]),
        ({"status": ["running"], "status_in": ["queuing"]}, ["a1"]),
        ({"rollout_ids": ["a2"], "rollout_id_in": ["b1"]}, ["b1"]),
        ({"status": ["running"], "status_in": []}, []),
        ({"status": [], "rollout_ids": ["a2"], "filter_logic": "or"}, ["a2"]),
    ],
)
async def test_rollout_filters(rollouts, filters, expected):
    page = await rollouts.query_rollouts(**filters)
    assert (ids(page), page.total) == (expected, len(expected))


async def test_rollouts_with_and_without_attempts_are_told_apart(rollouts):
    page = await rollouts.query_rollouts()

    assert [type(item) for item in page] == [Rollout, Rollout, Rollout, Rollout, AttemptedRollout]
    assert page[-1] == await rollouts.get_rollout_by_id("B3")
    assert page[0] == await rollouts.get_rollout_by_id("a1")


# -- filters of workers and spans --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["w1", "w2", "W3"]),
        ({"status_in": ["busy", "idle"]}, ["w2", "W3"]),
        ({"status_in": []}, []),
        ({"worker_id_contains": "w"}, ["w1", "w2"]),
        ({"worker_id_contains": ""}, ["w1", "w2", "W3"]),
        ({"status_in": ["idle"], "worker_id_contains": "w"}, ["w2"]),
        ({"status_in": ["busy"], "worker_id_contains": "1", "filter_logic": "or"}, ["w1", "W3"]),
        ({"filter_logic": "or"}, ["w1", "w2", "W3"]),
    ],
)
async def test_worker_filters(store, filters, expected):
    await store.update_worker("w1")
    await store.dequeue_rollout("w2")
    await store.start_rollout("task", worker_id="W3")

    page = await store.query_workers(**filters)

    assert ([worker.worker_id for worker in page], page.total) == (expected, len(expected))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [1, 2, 3, 4]),
        ({"trace_id": "t1"}, [1, 2]),
        ({"trace_id_contains": "1"}, [1, 2]),
        ({"span_id": "s3"}, [3]),
        ({"span_id_contains": "S"}, [4]),
        ({"parent_id": "s1"}, [2]),
        ({"parent_id_contains": "s"}, [2, 3]),
        ({"parent_id_contains": ""}, [2, 3]),
        ({"name": "call"}, [1, 3]),
        ({"name": "cal"}, []),
        ({"name_contains": "cal"}, [1, 3]),
        ({"name_contains": ""}, [1, 2, 3, 4]),
        ({"name": "call", "trace_id": "t1"}, [1]),
        ({"name": "call", "trace_id": "t3"}, []),
        ({"name": "call", "parent_id": "s1", "filter_logic": "or"}, [1, 2, 3]),
        ({"span_id": "none", "name_contains": "to", "filter_logic": "or"}, [2]),
        ({"filter_logic": "or"}, [1, 2, 3, 4]),
    ],
)
async def test_span_filters(store, filters, expected):
    started, other = await store.start_rollout(1), await store.start_rollout(2)
    rows = [
        ("t1", "s1", None, "call"),
        ("t1", "s2", "s1", "tool"),
        ("t2", "s3", "s2", "call"),
        ("t3", "S4", None, "end"),
    ]
    for number, (trace_id, span_id, parent_id, name) in enumerate(rows, 1):
        fields = {"trace_id": trace_id, "span_id": span_id, "parent_id": parent_id, "name": name}
        await store.add_many_spans([span_of(r, sequence_id=number, **fields) for r in (started, other)])

    page = await store.query_spans(started.rollout_id, **filters)

    assert ([span.sequence_id for span in page], page.total) == (expected, len(expected))
    assert {span.rollout_id for span in page} <= {started.rollout_id}


# -- order -------------------------------------------------------------------------------------------------------------


async def test_without_sort_by_records_come_in_order_of_insertion(store):
    names = ["m", "z", "a"]
    for name in names:
        await store.enqueue_rollout(1, rollout_id=name)
        await store.update_worker(name)
        await store.update_resources(name, {})
    await store.update_rollout("z", status="running")

    for order in ("asc", "desc"):
        assert ids(await store.query_rollouts(sort_order=order)) == names
        assert [worker.worker_id for worker in await store.query_workers(sort_order=order)] == names
        assert [item.resources_id for item in await store.query_resources(sort_order=order)] == names


async def test_one_bulk_enqueue_keeps_its_order_however_ids_sort(store):
    created = await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=1, rollout_id=name) for name in "cab"])
    assert ids(created) == ids(await store.query_rollouts()) == ["c", "a", "b"]


async def test_text_sorts_by_code_point(store):
    for text in BY_CODE_POINT[::-1][:-1]:
        await store.update_resources(text, {})

    ascending = await store.query_resources(sort_by="resources_id")
    descending = await store.query_resources(sort_by="resources_id", sort_order="desc")

    assert [item.resources_id for item in ascending] == BY_CODE_POINT[1:]
    assert [item.resources_id for item in descending] == BY_CODE_POINT[1:][::-1]


async def test_span_text_sorts_by_code_point_and_missing_text_as_empty(store):
    started = await store.start_rollout("task")
    texts = ["a", None, "", "B", "😀", "ﬀ"]
    for number, text in enumerate(texts):
        await store.add_span(span_of(started, sequence_id=number, parent_id=text))

    page = await store.query_spans(started.rollout_id, sort_by="parent_id")

    assert [span.parent_id for span in page] == [None, "", "B", "a", "ﬀ", "😀"]
    descending = await store.query_spans(started.rollout_id, sort_by="parent_id", sort_order="desc")
    assert [span.parent_id for span in descending] == ["😀", "ﬀ", "a", "B", None, ""]


async def test_numbers_sort_by_value(store):
    started = await store.start_rollout("task")
    for _ in range(11):
        await store.start_attempt(started.rollout_id)

    page = await store.query_attempts(started.rollout_id, sort_order="desc")

    assert [attempt.sequence_id for attempt in page] == list(range(12, 0, -1))


async def test_missing_times_count_as_later_than_everything(rollouts):
    ascending = await rollouts.query_rollouts(sort_by="end_time")
    descending = await rollouts.query_rollouts(sort_by="end_time", sort_order="desc")

    assert ids(ascending) == ["b1", "b2", "a1", "a2", "B3"]
    assert ids(descending) == ["a1", "a2", "B3", "b1", "b2"]


async def test_missing_times_of_spans_count_as_later_than_everything(store):
    started = await store.start_rollout("task")
    for number, time in enumerate([2.0, None, 1.0]):
        await store.add_span(span_of(started, sequence_id=number, start_time=time))

    page = await store.query_spans(started.rollout_id, sort_by="start_time")
    assert [span.start_time for span in page] == [1.0, 2.0, None]
    page = await store.query_spans(started.rollout_id, sort_by="start_time", sort_order="desc")
    assert [span.start_time for span in page] == [None, 2.0, 1.0]


async def test_missing_numbers_count_as_zero(store):
    started = await store.start_rollout("task", lease_seconds=2)
    await store.start_attempt(started.rollout_id)
    await store.start_attempt(started.rollout_id, lease_seconds=1)

    page = await store.query_attempts(started.rollout_id, sort_by="lease_seconds")

    assert [attempt.lease_seconds for attempt in page] == [None, 1, 2]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_equal_keys_keep_the_order_of_insertion_in_both_directions(store, order):
    names = ["m", "z", "a", "k"]
    for name in names:
        await store.enqueue_rollout(1, rollout_id=name, mode="train")
        await store.update_worker(name)
        await store.update_resources(name, {})

    assert ids(await store.query_rollouts(sort_by="mode", sort_order=order)) == names
    assert ids(await store.query_rollouts(sort_by="start_time", sort_order=order)) == names
    assert [w.worker_id for w in await store.query_workers(sort_by="status", sort_order=order)] == names
    assert [r.resources_id for r in await store.query_resources(sort_by="version", sort_order=order)] == names


async def test_rollouts_sort_by_each_comparable_field(rollouts):
    fields = ["rollout_id", "start_time", "end_time", "mode", "resources_id", "status", "queue", "group_id"]
    for field in fields:
        assert (await rollouts.query_rollouts(sort_by=field)).total == 5
    assert ids(await rollouts.query_rollouts(sort_by="rollout_id")) == ["B3", "a1", "a2", "b1", "b2"]
    assert ids(await rollouts.query_rollouts(sort_by="status", sort_order="desc")) == ["b1", "a2", "a1", "B3", "b2"]
    assert ids(await rollouts.query_rollouts(sort_by="group_id")) == ["a2", "B3", "a1", "b1", "b2"]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        (
            "attempts",
            ["rollout_id", "attempt_id", "sequence_id", "start_time", "end_time", "status", "worker_id",
             "last_heartbeat_time", "cause", "lease_seconds", "resources_id", "resources_version"],
        ),
        ("spans", ["rollout_id", "attempt_id", "sequence_id", "trace_id", "span_id", "parent_id", "name", "start_time",
                   "end_time"]),
        ("resources", ["resources_id", "create_time", "update_time", "version"]),
        ("workers", ["worker_id", "status", "last_heartbeat_time", "last_dequeue_time", "last_busy_time",
                     "last_idle_time", "current_rollout_id", "current_attempt_id"]),
    ],
)  # fmt: skip
async def test_each_comparable_field_sorts(store, query, fields):
    run = await some_records(store)
    for field in fields:
        for order in ("asc", "desc"):
            assert (await run[query](sort_by=field, sort_order=order)).total == 2


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *[("rollouts", field) for field in ("attempt", "config", "input", "metadata", "nope", "", "model_fields")],
        *[("attempts", field) for field in ("metadata", "nope")],
        *[("spans", field) for field in ("attributes", "events", "links", "status", "context", "resource", "nope")],
        *[("resources", field) for field in ("resources", "nope")],
        *[("workers", field) for field in ("heartbeat_stats", "nope")],
    ],
)
@pytest.mark.parametrize("is_empty", [True, False])
async def test_unknown_or_incomparable_field_is_an_error(store, query, field, is_empty):
    run = queries(store, "ro-unknown") if is_empty else await some_records(store)

    with pytest.raises(InvalidRequestError, match="sort_by"):
        await run[query](sort_by=field)


@pytest.mark.parametrize("query", ["rollouts", "attempts", "spans", "resources", "workers"])
async def test_unknown_sort_order_or_filter_logic_is_an_error(store, query):
    run = await some_records(store)

    with pytest.raises(ValueError, match="sort_order"):
        await run[query](sort_by=None, sort_order="sideways")
    if query in {"rollouts", "spans", "workers"}:
        with pytest.raises(ValueError, match="filter_logic"):
            await run[query](filter_logic="xor")


# -- pages -------------------------------------------------------------------------------------------------------------


def queries(store, rollout_id):
    return {
        "rollouts": store.query_rollouts,
        "attempts": lambda **options: store.query_attempts(rollout_id, **options),
        "spans": lambda **options: store.query_spans(rollout_id, **options),
        "resources": store.query_resources,
        "workers": store.query_workers,
    }


async def some_records(store):
    """Two records of each kind."""
    started = await store.start_rollout(1, worker_id="w1")
    await store.enqueue_rollout(2)
    await store.start_attempt(started.rollout_id, "w2")
    context = SpanContext(trace_id="t", span_id="s", is_remote=False, trace_state={})
    await store.add_many_spans([span_of(started, sequence_id=n, context=context) for n in (1, 2)])
    for _ in range(2):
        await store.add_resources(some_resources())
    return queries(store, started.rollout_id)


async def five_records(store):
    """Five records of each kind."""
    started = await store.start_rollout(0, worker_id="w0")
    for number in range(1, 5):
        await store.enqueue_rollout(number)
        await store.start_attempt(started.rollout_id)
        await store.update_worker(f"w{number}")
    await store.add_many_spans([span_of(started, sequence_id=number) for number in range(1, 6)])
    for _ in range(5):
        await store.add_resources({})
    return queries(store, started.rollout_id)


@pytest.mark.parametrize("query", ["rollouts", "attempts", "spans", "resources", "workers"])
async def test_pages_of_every_query(store, query):
    run = (await five_records(store))[query]
    everything = (await run()).items

    async def page(**options):
        result = await run(**options)
        assert result.total == 5
        assert (result.limit, result.offset) == (options.get("limit", -1), options.get("offset", 0))
        return list(result.items)

    assert len(everything) == 5
    assert await page(limit=-1) == everything
    assert await page(limit=2) == everything[:2]
    assert await page(limit=2, offset=1) == everything[1:3]
    assert await page(limit=2, offset=4) == everything[4:]
    assert await page(offset=3) == everything[3:]
    assert await page(limit=100) == everything
    assert await page(limit=0) == []
    assert await page(limit=3, offset=5) == []
    assert await page(offset=100) == []


@pytest.mark.parametrize("query", ["rollouts", "attempts", "spans", "resources", "workers"])
@pytest.mark.parametrize(
    ("options", "field"), [({"limit": -2}, "limit"), ({"offset": -1}, "offset"), ({"limit": 1, "offset": -5}, "offset")]
)
@pytest.mark.parametrize("is_empty", [True, False])
async def test_limit_below_minus_one_and_negative_offset_are_errors(store, query, options, field, is_empty):
    run = queries(store, "ro-unknown") if is_empty else await some_records(store)

    with pytest.raises(InvalidRequestError, match=field):
        await run[query](**options)


async def test_filter_comes_before_sort_and_sort_before_page(rollouts):
    page = await rollouts.query_rollouts(
        rollout_id_contains="b", sort_by="start_time", sort_order="desc", limit=1, offset=1
    )
    assert (ids(page), page.total) == (["b1"], 2)

    page = await rollouts.query_rollouts(status_in=["queuing", "running", "succeeded"], limit=1, offset=1)
    assert (ids(page), page.total) == (["a2"], 3)

    page = await rollouts.query_rollouts(rollout_id_in=["B3", "b2", "a1"], limit=2, offset=1)
    assert (ids(page), page.total) == (["b2", "B3"], 3)


async def test_page_by_status_follows_changes_of_status(rollouts):
    await rollouts.update_rollout("a1", status="running")
    await rollouts.update_rollout("a2", status="queuing")
    await rollouts.update_rollout("B3", status="running")

    running = await rollouts.query_rollouts(status_in=["running"], limit=5)
    both = await rollouts.query_rollouts(status_in=["running", "queuing"])

    assert (ids(running), running.total) == (["a1", "B3"], 2)
    assert ids(both) == ["a1", "a2", "B3"]


async def test_page_is_a_sequence_but_no_list(rollouts):
    page = await rollouts.query_rollouts(limit=3)

    assert isinstance(page, PaginatedResult)
    assert len(page) == 3
    assert page[0].rollout_id == "a1"
    assert page[-1].rollout_id == "b1"
    assert ids(page[1:]) == ["a2", "b1"]
    assert [rollout.rollout_id for rollout in page] == ["a1", "a2", "b1"]
    assert bool(page)
    assert not await rollouts.query_rollouts(limit=0)
    assert page != page.items
    assert await rollouts.query_rollouts(limit=0) != []
    with pytest.raises(IndexError):
        page[3]


async def test_query_of_an_empty_store_is_an_empty_page(store):
    for query in queries(store, "ro-unknown").values():
        page = await query()
        assert (list(page), page.limit, page.offset, page.total) == ([], -1, 0, 0)
