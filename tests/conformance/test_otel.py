"""Spans of OpenTelemetry: section 3.8."""

import json
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from lightning_store.errors import AttemptNotFoundError, RolloutNotFoundError
from lightning_store.spans import Span

BIG = 2**60 + 1


@pytest.fixture(scope="module")
def tracer():
    provider = TracerProvider(resource=Resource({"service.name": "agent", "host.cores": 2}, "https://schema/1"))
    return provider.get_tracer("tests.conformance", "1.2")


@pytest.fixture
def otel_span(tracer):
    """An ended span with everything that the SDK lets one have."""
    link = SpanContext(0xAB, 0xCD, is_remote=True, trace_flags=TraceFlags(1))
    with tracer.start_as_current_span("parent"):
        span = tracer.start_span(
            "tool é",
            kind=SpanKind.CLIENT,
            links=[Link(link, {"why": "follows", "none": ()})],
            start_time=1_700_000_000_500_000_000,
        )
    span.set_attributes(
        {"big": BIG, "float": 1.0, "one": 1, "yes": True, "empty": [], "texts": ["a", "ü"], "nul": "a\x00"}
    )
    span.add_event("thought", {"n": 1}, timestamp=1_700_000_000_750_000_000)
    span.add_event("bare")
    span.set_status(Status(StatusCode.ERROR, "gone wrong"))
    span.end(end_time=1_700_000_001_500_000_000)
    return span


async def stored_span(store, otel_span, **options):
    started = await store.start_rollout("task")
    answer = await store.add_otel_span(started.rollout_id, started.attempt.attempt_id, otel_span, **options)
    page = await store.query_spans(started.rollout_id)
    assert page.total == 1
    assert page[0] == answer
    return page[0]


async def test_span_of_the_sdk_comes_back_whole(store, otel_span):
    span = await stored_span(store, otel_span)

    assert type(span) is Span
    context = otel_span.get_span_context()
    assert (span.trace_id, span.span_id) == (format(context.trace_id, "032x"), format(context.span_id, "016x"))
    assert span.parent_id == format(otel_span.parent.span_id, "016x")
    assert (span.name, span.status.status_code, span.status.description) == ("tool é", "ERROR", "gone wrong")
    assert (span.start_time, span.end_time) == (1_700_000_000.5, 1_700_000_001.5)
    assert span.attributes == {
        "big": BIG, "float": 1.0, "one": 1, "yes": True, "empty": [], "texts": ["a", "ü"], "nul": "a\x00"
    }  # fmt: skip
    assert [type(span.attributes[key]) for key in ("big", "float", "one", "yes")] == [int, float, int, bool]
    assert [(event.name, event.attributes) for event in span.events] == [("thought", {"n": 1}), ("bare", {})]
    assert span.events[0].timestamp == 1_700_000_000.75
    link = span.links[0]
    assert (link.context.trace_id, link.context.span_id) == ("ab".zfill(32), "cd".zfill(16))
    assert (link.context.is_remote, link.attributes) == (True, {"why": "follows", "none": []})
    assert (span.context.span_id, span.parent.span_id) == (span.span_id, span.parent_id)
    assert span.resource.attributes["service.name"] == "agent"
    assert span.resource.attributes["host.cores"] == 2
    assert span.resource.schema_url == "https://schema/1"


async def test_everything_else_is_kept_as_extra_fields(store, otel_span):
    span = await stored_span(store, otel_span)

    assert "CLIENT" in str(span.model_extra["kind"])
    assert "tests.conformance" in json.dumps(span.model_extra["instrumentation_scope"])
    assert not [key for key in span.model_extra if key.startswith("_")]


async def test_root_span_without_anything_has_empty_parts(store, tracer):
    bare = tracer.start_span("bare")
    bare.end()

    span = await stored_span(store, bare)

    assert (span.parent_id, span.parent, span.events, span.links, span.attributes) == (None, None, [], [], {})
    assert (span.status.status_code, span.status.description) == ("UNSET", None)


async def test_span_without_a_number_takes_the_next_one(store, tracer):
    started = await store.start_rollout("task")
    pair = (started.rollout_id, started.attempt.attempt_id)
    await store.get_next_span_sequence_id(*pair)
    spans = [tracer.start_span(str(n)) for n in range(4)]

    numbers = [
        (await store.add_otel_span(*pair, spans[0])).sequence_id,
        (await store.add_otel_span(*pair, spans[1], 9)).sequence_id,
        (await store.add_otel_span(*pair, spans[2], sequence_id=0)).sequence_id,
        (await store.add_otel_span(*pair, spans[3])).sequence_id,
    ]

    assert numbers == [2, 9, 0, 10]


async def test_duplicate_is_none(store, otel_span):
    started = await store.start_rollout("task")
    pair = (started.rollout_id, started.attempt.attempt_id)
    assert await store.add_otel_span(*pair, otel_span) is not None

    assert await store.add_otel_span(*pair, otel_span) is None
    assert await store.add_otel_span(*pair, otel_span, 5) is None

    assert (await store.query_spans(started.rollout_id)).total == 1


async def test_rollout_then_attempt_must_exist(store, otel_span):
    started = await store.start_rollout("task")
    with pytest.raises(RolloutNotFoundError, match="Rollout ro-x not found"):
        await store.add_otel_span("ro-x", "at-x", otel_span)
    with pytest.raises(AttemptNotFoundError, match="Attempt at-x not found"):
        await store.add_otel_span(started.rollout_id, "at-x", otel_span)


async def test_it_is_a_sign_of_life(store, clock, otel_span):
    started = await store.start_rollout("task")
    clock.advance(1)

    await store.add_otel_span(started.rollout_id, started.attempt.attempt_id, otel_span)

    rollout = await store.get_rollout_by_id(started.rollout_id)
    assert (rollout.status, rollout.attempt.status) == ("running", "running")
    assert rollout.attempt.last_heartbeat_time == clock.now()


async def test_objects_that_only_look_like_spans_are_taken(store):
    class Strange:
        def __str__(self):
            return "strange thing"

    fake = SimpleNamespace(
        name="fake",
        context=SimpleNamespace(trace_id=0x1, span_id=0x2),
        parent=None,
        attributes={"a": 1},
        status=None,
        start_time=0,
        end_time=1.5,
        _private={"inner": Strange(), "numbers": (1, 2)},
        thing=Strange(),
    )

    span = await stored_span(store, fake)

    assert (span.trace_id, span.span_id) == ("1".zfill(32), "2".zfill(16))
    assert (span.start_time, span.end_time) == (None, 1.5)
    assert span.model_extra["thing"] == "strange thing"
    assert span.model_extra["private"] == {"inner": "strange thing", "numbers": [1, 2]}
