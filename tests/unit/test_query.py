"""Filtering, sorting and paging as pure functions."""

import math

import pytest

from lightning_store.errors import InvalidRequestError
from lightning_store.query import (
    check_query,
    query_attempts,
    query_resources,
    query_rollouts,
    query_spans,
    query_workers,
)
from lightning_store.records import Attempt, ResourcesUpdate, Rollout, RolloutConfig, Worker
from lightning_store.spans import Span
from tests.support.factories import make_span


def rollouts() -> list[Rollout]:
    return [
        Rollout(rollout_id="ro-b", input=1, start_time=3.0, end_time=9.0, status="failed", group_id="g"),
        Rollout(rollout_id="ro-a", input=2, start_time=2.0, mode="val", status="queuing"),
        Rollout(
            rollout_id="ro-c", input=3, start_time=2.0, end_time=8.0, mode="train", status="succeeded", group_id="g"
        ),
    ]


def ids(page) -> list[str]:
    return [record.rollout_id for record in page]


def test_no_filter_gives_all_in_the_order_given():
    assert ids(query_rollouts(rollouts())) == ["ro-b", "ro-a", "ro-c"]


@pytest.mark.parametrize("logic", ["and", "or"])
def test_without_any_condition_all_records_match_whatever_the_logic(logic):
    assert query_rollouts(rollouts(), filter_logic=logic).total == 3
    assert query_workers([Worker(worker_id="w")], filter_logic=logic).total == 1
    assert query_spans([make_span("r", "a")], filter_logic=logic).total == 1


def test_and_needs_all_conditions_and_or_needs_one():
    conditions = {"status_in": ["failed"], "rollout_id_contains": "c"}
    assert ids(query_rollouts(rollouts(), **conditions)) == []
    assert ids(query_rollouts(rollouts(), **conditions, filter_logic="or")) == ["ro-b", "ro-c"]


@pytest.mark.parametrize("logic", ["and", "or"])
def test_empty_list_matches_nothing(logic):
    assert ids(query_rollouts(rollouts(), status_in=[], filter_logic=logic)) == []


def test_new_names_of_filters_win_over_old_ones():
    assert ids(query_rollouts(rollouts(), status=["failed"])) == ["ro-b"]
    assert ids(query_rollouts(rollouts(), status=["failed"], status_in=["queuing"])) == ["ro-a"]
    assert ids(query_rollouts(rollouts(), rollout_ids=["ro-c"])) == ["ro-c"]
    assert ids(query_rollouts(rollouts(), rollout_ids=["ro-c"], rollout_id_in=[])) == []


def test_group_is_a_condition():
    assert ids(query_rollouts(rollouts(), group_id="g")) == ["ro-b", "ro-c"]


def test_contains_is_case_sensitive_and_empty_text_is_contained():
    assert ids(query_rollouts(rollouts(), rollout_id_contains="RO")) == []
    assert query_rollouts(rollouts(), rollout_id_contains="").total == 3


def test_missing_field_never_contains_anything():
    spans = [make_span("r", "a", parent_id=None), make_span("r", "a", parent_id="p")]
    assert query_spans(spans, parent_id_contains="").total == 1


def test_span_filters_are_exact_or_contain():
    spans = [make_span("r", "a", name="call", span_id="s1"), make_span("r", "a", name="calls", span_id="s2")]
    assert [span.span_id for span in query_spans(spans, name="call")] == ["s1"]
    assert [span.span_id for span in query_spans(spans, name_contains="call")] == ["s1", "s2"]
    assert [span.span_id for span in query_spans(spans, name="call", span_id="s2", filter_logic="or")] == ["s1", "s2"]


def test_missing_time_is_later_than_all_others():
    assert ids(query_rollouts(rollouts(), sort_by="end_time")) == ["ro-c", "ro-b", "ro-a"]
    assert ids(query_rollouts(rollouts(), sort_by="end_time", sort_order="desc")) == ["ro-a", "ro-b", "ro-c"]


def test_missing_text_sorts_as_empty():
    assert ids(query_rollouts(rollouts(), sort_by="mode")) == ["ro-b", "ro-c", "ro-a"]


def test_missing_number_sorts_as_zero():
    attempts = [
        Attempt(rollout_id="r", attempt_id=name, sequence_id=1, start_time=1.0, lease_seconds=lease)
        for name, lease in (("a", 2.0), ("b", None), ("c", -1.0))
    ]
    assert [attempt.attempt_id for attempt in query_attempts(attempts, sort_by="lease_seconds")] == ["c", "b", "a"]


def test_equal_keys_keep_their_order_in_both_directions():
    assert ids(query_rollouts(rollouts(), sort_by="start_time")) == ["ro-a", "ro-c", "ro-b"]
    assert ids(query_rollouts(rollouts(), sort_by="start_time", sort_order="desc")) == ["ro-b", "ro-a", "ro-c"]


def test_order_without_sort_field_ignores_the_direction():
    assert ids(query_rollouts(rollouts(), sort_order="desc")) == ["ro-b", "ro-a", "ro-c"]


def test_numbers_that_are_none_do_not_upset_the_order():
    times = [math.nan, 2.0, None, 1.0]
    spans = [make_span("r", "a", span_id=str(place), start_time=time) for place, time in enumerate(times)]
    assert [span.span_id for span in query_spans(spans, sort_by="start_time")] == ["3", "1", "2", "0"]


def test_text_sorts_by_code_point():
    workers = [Worker(worker_id=name) for name in ("ä", "b", "B", "a")]
    assert [worker.worker_id for worker in query_workers(workers, sort_by="worker_id")] == ["B", "a", "b", "ä"]


@pytest.mark.parametrize("field", ["attempt", "input", "config", "metadata", "no_such_field", ""])
def test_field_without_an_order_is_refused_with_the_fields_of_the_record(field):
    with pytest.raises(InvalidRequestError) as raised:
        query_rollouts(rollouts(), sort_by=field)
    assert str(raised.value) == f"Invalid sort_by: {field}, allowed fields are: {', '.join(Rollout.model_fields)}"


def test_fields_of_a_span_that_are_extras_are_refused():
    with pytest.raises(InvalidRequestError, match="Invalid sort_by: kind, allowed fields are: rollout_id, attempt_id"):
        query_spans([make_span("r", "a", kind="x")], sort_by="kind")


@pytest.mark.parametrize("kind", [Rollout, Attempt, Worker, ResourcesUpdate, Span])
def test_every_scalar_field_can_be_sorted_by(kind):
    queries = {
        Rollout: query_rollouts, Attempt: query_attempts, Worker: query_workers, ResourcesUpdate: query_resources,
        Span: query_spans,
    }  # fmt: skip
    unsortable = set()
    for field in kind.model_fields:
        try:
            queries[kind]([], sort_by=field)
        except InvalidRequestError:
            unsortable.add(field)
    assert unsortable <= {
        "input", "config", "metadata", "heartbeat_stats", "resources", "status", "attributes", "events", "links",
        "context", "parent", "resource",
    }  # fmt: skip
    assert ("status" in unsortable) == (kind is Span)


def test_pages_cut_after_sorting_and_count_all_matches():
    page = query_rollouts(rollouts(), sort_by="rollout_id", limit=1, offset=1)
    assert (ids(page), page.limit, page.offset, page.total) == (["ro-b"], 1, 1, 3)
    assert query_rollouts(rollouts(), limit=0).items == []
    assert query_rollouts(rollouts(), limit=0).total == 3
    assert ids(query_rollouts(rollouts(), offset=7)) == []
    assert ids(query_rollouts(rollouts(), limit=-1, offset=2)) == ["ro-c"]


@pytest.mark.parametrize("bad", [{"limit": -2}, {"offset": -1}, {"sort_order": "up"}, {"filter_logic": "not"},
                                 {"status_in": "queuing"}])  # fmt: skip
def test_bad_arguments_are_refused_with_and_without_an_index(bad):
    with pytest.raises(InvalidRequestError, match=next(iter(bad)).removesuffix("_in")):
        query_rollouts(rollouts(), **bad)
    with pytest.raises(InvalidRequestError, match=next(iter(bad)).removesuffix("_in")):
        check_query(**({"filter_logic": "and", "sort_order": "asc", "limit": -1, "offset": 0, "status_in": None} | bad))


def test_resources_filters_are_both_required():
    updates = [
        ResourcesUpdate(resources_id=name, create_time=1.0, update_time=1.0, version=1, resources={})
        for name in ("rs-a", "rs-b")
    ]
    found = query_resources(updates, resources_id="rs-a", resources_id_contains="b")
    assert (found.items, query_resources(updates, resources_id_contains="rs").total) == ([], 2)


def test_queries_return_the_very_records():
    records = rollouts()
    assert query_rollouts(records)[0] is records[0]
    assert records[0].config == RolloutConfig()
