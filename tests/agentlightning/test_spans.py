"""Contract, section 3.5: spans and their numbers, over upstream's store and ours."""

import asyncio
import logging

import pytest
from agentlightning.types import Event, Link, OtelResource, PaginatedResult, Span, SpanContext, TraceStatus
from opentelemetry.sdk.trace import TracerProvider

from tests.agentlightning.support.making import ours_only, span_of


async def test_the_very_object_comes_back(store):
    started = await store.start_rollout(1)
    span = span_of(started)
    assert await store.add_span(span) is span
    first, second = span_of(started, "c" * 16), span_of(started, "d" * 16)
    stored = await store.add_many_spans([first, second])
    assert [id(item) for item in stored] == [id(first), id(second)]


async def test_duplicates_are_logged_and_left_out(store, caplog):
    started = await store.start_rollout(1)
    span = span_of(started)
    await store.add_span(span)
    before = await store.get_latest_attempt(started.rollout_id)
    with caplog.at_level(logging.ERROR):
        assert await store.add_span(span_of(started)) is None
    assert await store.get_latest_attempt(started.rollout_id) == before
    assert [record.levelname for record in caplog.records if "Duplicated span added" in record.message] == ["ERROR"]
    new = span_of(started, "c" * 16)
    assert [id(item) for item in await store.add_many_spans([span, new, span_of(started, "c" * 16)])] == [id(new)]
    assert len(await store.query_spans(started.rollout_id)) == 2


async def test_the_same_span_id_in_two_attempts(store):
    first = await store.start_rollout(1)
    second = await store.start_attempt(first.rollout_id)
    assert len(await store.add_many_spans([span_of(first), span_of(second)])) == 2
    assert len(await store.query_spans(first.rollout_id)) == 2
    assert [span.attempt_id for span in await store.query_spans(first.rollout_id, "latest")] == [
        second.attempt.attempt_id
    ]
    assert len(await store.query_spans(first.rollout_id, first.attempt.attempt_id)) == 1


async def test_unknown_rollout_and_attempt(store):
    started = await store.start_rollout(1)
    with pytest.raises(ValueError, match="Rollout ro-unknown not found"):
        await store.add_span(span_of(started, rollout_id="ro-unknown"))
    with pytest.raises(ValueError, match="Attempt at-unknown not found"):
        await store.add_span(span_of(started, attempt_id="at-unknown"))
    with pytest.raises(ValueError, match="Rollout ro-unknown not found"):
        await store.add_otel_span("ro-unknown", started.attempt.attempt_id, finished_span())
    assert list(await store.query_spans("ro-unknown")) == []
    assert list(await store.query_spans(started.rollout_id, "at-unknown")) == []


async def test_span_survives_whole(store):
    started = await store.start_rollout(1)
    context = SpanContext(trace_id="1", span_id="2", is_remote=True, trace_state={"k": "v"}, flags=1)
    span = span_of(
        started,
        sequence_id=7,
        parent_id="p",
        status=TraceStatus(status_code="ERROR", description="broke", cause="net"),
        attributes={
            "text": "é\x00\U0001f600", "": "empty key", "flag": True, "whole": 1, "half": 1.0, "big": 2**60, "list": [],
            "texts": ["a"], "numbers": [1, 2], "floats": [0.5], "flags": [True, False],
        },
        events=[Event(name="e", attributes={"a": 1}, timestamp=3.5, extra=[1])],
        links=[Link(context=context, attributes=None, extra={"a": None})],
        context=context,
        parent=context,
        resource=OtelResource(attributes={"service": "s"}, schema_url="u"),
        kind="CLIENT",
        nested={"a": [1, None, {"b": []}]},
    )  # fmt: skip
    await store.add_span(span)
    (stored,) = await store.query_spans(started.rollout_id)
    assert type(stored) is Span
    assert stored == span
    assert stored.model_dump() == span.model_dump()
    for name, value in span.attributes.items():
        assert type(stored.attributes[name]) is type(value), name


async def test_not_a_number_survives(store):
    started = await store.start_rollout(1)
    await store.add_span(span_of(started, attributes={"reward": float("nan"), "limit": float("-inf")}))
    (stored,) = await store.query_spans(started.rollout_id)
    assert stored.attributes["reward"] != stored.attributes["reward"]
    assert stored.attributes["limit"] == float("-inf")


async def test_query_filters_sorts_and_pages(store):
    started = await store.start_rollout(1)
    for number, name in enumerate(["plan", "call", "recall"]):
        span = span_of(started, f"{number}" * 16, sequence_id=3 - number, name=name, parent_id=None if number else "p")
        await store.add_span(span)
    read = store.query_spans
    page = await read(started.rollout_id)
    assert type(page) is PaginatedResult
    assert [span.name for span in page] == ["recall", "call", "plan"]
    assert [span.name for span in await read(started.rollout_id, sort_by="name", sort_order="desc", limit=2)] == [
        "recall", "plan"
    ]  # fmt: skip
    assert [span.name for span in await read(started.rollout_id, name_contains="call")] == ["recall", "call"]
    assert [span.name for span in await read(started.rollout_id, parent_id="p")] == ["plan"]
    assert [span.name for span in await read(started.rollout_id, parent_id_contains="")] == ["plan"]
    either = await read(started.rollout_id, name="call", span_id_contains="2", filter_logic="or")
    assert [span.name for span in either] == ["recall", "call"]
    assert len(await read(started.rollout_id, trace_id="none")) == 0
    assert len(await read(started.rollout_id, trace_id_contains="bb", span_id="0" * 16)) == 1


async def test_numbers_are_handed_out_once(store):
    started = await store.start_rollout(1)
    again = await store.start_attempt(started.rollout_id)
    first, second = started.attempt.attempt_id, again.attempt.attempt_id
    assert await store.get_next_span_sequence_id(started.rollout_id, first) == 1
    assert await store.get_next_span_sequence_id(started.rollout_id, second) == 2
    pairs = [(started.rollout_id, first), (started.rollout_id, "at-none"), (started.rollout_id, second)]
    assert await store.get_many_span_sequence_ids(pairs) == [3, 4, 5]
    await store.add_span(span_of(started, sequence_id=9))
    assert await store.get_next_span_sequence_id(started.rollout_id, first) == 10
    await store.add_span(span_of(started, "c" * 16, sequence_id=2))
    assert await store.get_next_span_sequence_id(started.rollout_id, first) == 11


def finished_span(name="work", **attributes):
    span = TracerProvider().get_tracer("tests").start_span(name, attributes=attributes)
    span.end()
    return span


async def test_opentelemetry_spans_are_converted_and_numbered(store):
    started = await store.start_rollout(1)
    where = started.rollout_id, started.attempt.attempt_id
    readable = finished_span(answer=42)
    stored = await store.add_otel_span(*where, readable)
    assert type(stored) is Span
    assert stored == Span.from_opentelemetry(readable, *where, 1)
    assert (await store.add_otel_span(*where, finished_span(), sequence_id=7)).sequence_id == 7
    assert (await store.add_otel_span(*where, finished_span())).sequence_id == 8
    assert await store.add_otel_span(*where, readable) is None
    assert [span.sequence_id for span in await store.query_spans(started.rollout_id)] == [1, 7, 8]


async def test_numbers_of_spans_that_end_at_once(store):
    started = await store.start_rollout(1)
    where = started.rollout_id, started.attempt.attempt_id
    stored = await asyncio.gather(*(store.add_otel_span(*where, finished_span()) for _ in range(20)))
    assert sorted(span.sequence_id for span in stored) == list(range(1, 21))


@ours_only
async def test_duplicate_uses_up_no_number(store):
    """Upstream takes the number before it knows, and so does its client."""
    started = await store.start_rollout(1)
    where = started.rollout_id, started.attempt.attempt_id
    readable = finished_span()
    for _ in range(3):
        await store.add_otel_span(*where, readable)
    assert (await store.add_otel_span(*where, finished_span())).sequence_id == 2


@ours_only
async def test_number_of_an_unknown_rollout_is_refused(store):
    """Upstream hands one out, and keeps a counter for ever."""
    with pytest.raises(ValueError, match="ro-unknown"):
        await store.get_next_span_sequence_id("ro-unknown", "at-unknown")
