"""Spans of OpenTelemetry, and objects that only look like one, become records that are JSON."""

import json
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from lightning_store.jsonvalue import dump_json, load_json
from lightning_store.spans import Span


@pytest.fixture
def finished() -> Any:
    """A tracer, and the spans that it has finished."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "agent"}, "https://schema"), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return SimpleNamespace(tracer=provider.get_tracer("lib", "1.2"), spans=exporter.get_finished_spans)


def convert(src: Any) -> Span:
    return Span.from_opentelemetry(src, "ro-1", "at-1", 7)


def test_ids_are_padded_hex_and_the_parent_is_named(finished):
    with finished.tracer.start_as_current_span("parent") as parent, finished.tracer.start_as_current_span("child"):
        pass
    child = convert(finished.spans()[0])
    context = parent.get_span_context()
    assert (child.rollout_id, child.attempt_id, child.sequence_id) == ("ro-1", "at-1", 7)
    assert child.trace_id == format(context.trace_id, "032x")
    assert child.parent_id == format(context.span_id, "016x")
    assert child.parent is not None
    assert child.parent.span_id == child.parent_id
    assert child.context is not None
    assert child.context.span_id == child.span_id != child.parent_id


def test_small_ids_keep_their_leading_zeros():
    span = convert(ReadableSpan("s", context=SpanContext(1, 2, is_remote=False)))
    assert (span.trace_id, span.span_id, span.parent_id) == ("0" * 31 + "1", "0" * 15 + "2", None)


def test_span_context_keeps_trace_state_and_remoteness():
    parent = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("k", "v")]))
    span = convert(ReadableSpan("s", parent=parent))
    assert span.parent is not None
    assert span.parent.model_dump() == {
        "trace_id": "0" * 31 + "1", "span_id": "0" * 15 + "2", "is_remote": True, "trace_state": {"k": "v"},
    }  # fmt: skip


def test_status_is_given_by_name():
    assert convert(ReadableSpan("s")).status.status_code == "UNSET"
    failed = convert(ReadableSpan("s", status=Status(StatusCode.ERROR, "broken"))).status
    assert (failed.status_code, failed.description) == ("ERROR", "broken")


@pytest.mark.parametrize(
    ("given_time", "expected"),
    [(1_700_000_000_500_000_000, 1_700_000_000.5), (1_700_000_000.5, 1_700_000_000.5), (0, None), (None, None),
     (float("nan"), None), ("soon", None)],
)  # fmt: skip
def test_large_times_are_nanoseconds_and_missing_ones_none(given_time, expected):
    span = convert(SimpleNamespace(start_time=given_time, end_time=given_time))
    assert (span.start_time, span.end_time) == (expected, expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((), []),
        (("a", "b"), ["a", "b"]),
        ((1, 2.5), [1.0, 2.5]),
        (2**70, 2**70),
        (True, True),
        (1, 1),
        (1.0, 1.0),
        ("ü \x00 \U0001f600", "ü \x00 \U0001f600"),
        (b"\xff\x00", "ff00"),
        (None, ""),
        (("a", None), '["a", null]'),
        (("a", 1), '["a", 1]'),
        ({"k": [1, None]}, '{"k": [1, null]}'),
        (StatusCode.OK, "StatusCode.OK"),
    ],
)
def test_attribute_values_become_what_the_record_can_hold(value, expected):
    attribute = convert(SimpleNamespace(attributes={"k": value})).attributes["k"]
    assert attribute == expected
    assert type(attribute) is type(expected)


def test_events_and_links_keep_attributes_and_time(finished):
    linked = SpanContext(3, 4, is_remote=True)
    with finished.tracer.start_as_current_span("s", links=[Link(linked, {"why": "x"}), Link(linked)]) as span:
        span.add_event("tick", {"n": (1, 2)}, timestamp=1_700_000_000_000_000_000)
    record = convert(finished.spans()[0])
    assert record.events[0].model_dump() == {"name": "tick", "attributes": {"n": [1, 2]}, "timestamp": 1_700_000_000.0}
    assert [link.attributes for link in record.links] == [{"why": "x"}, None]
    assert record.links[0].context.span_id == "0" * 15 + "4"


def test_resource_and_remaining_fields_are_kept(finished):
    with finished.tracer.start_as_current_span("s", kind=SpanKind.CLIENT):
        pass
    record = convert(finished.spans()[0])
    assert (record.resource.attributes, record.resource.schema_url) == ({"service.name": "agent"}, "https://schema")
    extra = record.model_extra or {}
    assert extra["kind"] == "SpanKind.CLIENT"
    assert "lib" in extra["instrumentation_scope"]


def test_live_span_leaves_the_machinery_of_the_sdk_behind(finished):
    with finished.tracer.start_as_current_span("live") as span:
        live = convert(span)
    ended = convert(finished.spans()[0])
    assert live.end_time is None
    assert (live.model_extra or {}).keys() == (ended.model_extra or {}).keys()


def test_object_that_is_no_span_is_taken():
    src = SimpleNamespace(_custom={1: {"deep": (1, b"\x01")}}, custom="public wins", lock=object(), sequence_id=99)
    record = convert(src)
    assert (record.name, record.trace_id, record.span_id) == ("", "0" * 32, "0" * 16)
    assert record.sequence_id == 7
    extra = record.model_extra or {}
    assert extra["custom"] == "public wins"
    assert extra["lock"].startswith("<object object")


def test_names_with_a_meaning_in_models_are_kept_as_extra_fields():
    names = {"model_config": 1, "copy": 2, "self": 3, "cls": 4, "model_fields": 5, "": 6}
    src = SimpleNamespace()
    vars(src).update(names)
    assert convert(src).model_extra == names


def test_mock_as_in_upstreams_tests_is_taken():
    context = Mock(trace_id=1, span_id=2, is_remote=False, trace_state={})
    src = Mock(get_span_context=Mock(return_value=context), parent=None, attributes={"a": 1}, events=[], links=[])
    src.name = "mocked"
    src.status = Mock(status_code=Mock(), description=None)
    src.status.status_code.name = "OK"
    src.resource = Mock(attributes={}, schema_url="")
    record = convert(src)
    assert (record.name, record.span_id, record.status.status_code) == ("mocked", "0" * 15 + "2", "OK")
    assert Span.model_validate(json.loads(json.dumps(record.model_dump()))) == record


def test_cycles_and_hostile_objects_end_as_text():
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

        @property
        def status(self) -> str:
            raise RuntimeError("no")

    src = Hostile()
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    vars(src).update(cycle=cycle, other=Hostile())
    record = convert(src)
    assert record.status.status_code == "UNSET"
    assert record.model_extra == {"cycle": {"self": str(cycle)}, "other": "<Hostile>"}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4), st.dictionaries(st.text(), JSON_VALUES, max_size=4))
def test_any_json_on_the_object_survives_as_bytes(attributes, extras):
    event = SimpleNamespace(attributes=attributes, timestamp=1, **{f"x{name}": value for name, value in extras.items()})
    src = SimpleNamespace(attributes=attributes, events=[event], resource=event, links=[event], context=event)
    vars(src).update({f"x{name}": value for name, value in extras.items()})
    record = convert(src)
    assert record.model_extra == {f"x{name}": value for name, value in extras.items()}
    assert Span.model_validate(load_json(dump_json(record.model_dump()))) == record
    assert Span.model_validate(record.model_dump()) == record, "parts are made without validation"
